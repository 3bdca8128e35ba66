"""From a work image to probability maps: the centerline map of the image, and the node and edge maps around tips.

:meth:`Predictor.encode` computes all that depends on an image alone, and each :meth:`Predictor.predict` is then cheap,
as in Segment Anything. Tips of several images can be predicted together, which fills a GPU.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lib.devices import device_memory
from lib.klib.drawing import tubes
from lib.klib.spaces import patch_corner
from lib.klib.windows import box, crops, round_up, tiles
from models.contract import BETA, TUBE_RADIUS
from models.nenet import STRIDE, NENet
from tools.inference.arithmetic import Precision, chosen_arithmetic
from tools.inference.encoded_image import CanvasFeatures, EncodedImage, Tips
from tools.inference.feature_cache import FeatureTiles
from tools.inference.memory_plan import Plan
from tools.inference.norm_adaptation import adapted
from tools.inference.view import View, canvas_size, network_input
from tools.progress import Progress, silent

TILE = {torch.float32: 512, torch.bfloat16: 720}
"""Side in trunk pixels of the tiles of an image by number format; both take the same memory. A DRIVE image at stem 2
fits into one of 720, without a halo."""
BATCH_BYTES = 16e6
"""Bytes of features in one batch of patches of a volume."""


class Predictor:
    """A network and how to run it.

    Parameters
    ----------
    net
        Its batch norms are folded, so it can no longer be trained.
    patch_shape
        Patch of a tracing step in work pixels, a multiple of ``net.stem``.
    features
        ``tile``: encode the image once, and predict on crops of its features. ``patch``: run the whole network on every
        patch, as the paper does.
    device
        Where to compute.
    precision
        ``fp32``, ``bf16``, or ``auto`` for the faster one, see :mod:`tools.inference.arithmetic`.
    tile
        Side in trunk pixels of the tiles in which an image is encoded; bounds the memory. 0 takes :data:`TILE`, in
        volumes the largest for which there is memory.
    views
        Mirrored views averaged for the centerline map, at most ``2 ** ndim``: 1 is the image alone, 2 adds the one
        mirrored along all axes.
    beta
        Weight of positive pixels in training (docs/paper.md §4).
    adapt
        Share of each image's own statistics in the batch norms, see :mod:`tools.inference.norm_adaptation`; 0 leaves
        the network as it is.
    memory
        Bytes of main memory that tracing a volume may take, see :class:`~tools.inference.memory_plan.Plan`; on a GPU
        features take what is free there. With it, they are exact (:mod:`tools.inference.staged_encoder`), computed when
        they are needed, and zero beyond the border. Without it, as in 2D, all features are kept, and beyond the border
        they are those of black pixels.
    dark
        A tile without a brighter pixel holds no centerline and is not encoded; below 0 all tiles are.
    """

    def __init__(
        self,
        net: NENet,
        patch_shape: Sequence[int],
        *,
        features: Literal["tile", "patch"] = "tile",
        device: str = "cpu",
        precision: Precision = "fp32",
        tile: int = 0,
        views: int = 1,
        beta: float = BETA,
        adapt: float = 0.0,
        memory: float | None = None,
        dark: float = -1.0,
    ) -> None:
        if tile % STRIDE:
            raise ValueError(f"tile must be a multiple of {STRIDE}, got {tile}")
        self.memory, self.dark, self._stem = memory, dark, np.array(net.stem)
        if np.any(np.array(patch_shape) % self._stem):
            raise ValueError(f"patch_shape must be a multiple of {net.stem}, got {tuple(patch_shape)}")
        self.arithmetic = chosen_arithmetic(precision, net.ndim, device)
        self._trained = net.eval().to(device) if adapt else None
        self.adapt = adapt
        self.patch_shape, self.features = tuple(patch_shape), features
        self.tile = tile or (TILE[self.arithmetic.dtype] if memory is None else 0)
        self.device, self.views, self.beta = device, views, beta
        self.network_seconds = 0.0
        """Seconds spent in the network so far."""
        # A patch beyond the border needs features there: the canvas has a rim of half a patch.
        half = round_up(round_up(np.array(self.patch_shape) // 2, self._stem) // self._stem, STRIDE)
        self._rim = np.zeros_like(half) if memory else half
        self.net = self._folded(copy.deepcopy(net) if adapt else net)

    def _folded(self, net: NENet) -> NENet:
        """The network ready for inference, on the device, in the chosen precision and memory layout."""
        return self.arithmetic.apply(net.fold_norms().to(self.device))

    @torch.inference_mode()
    def encode(
        self, pixels: np.ndarray, *, centerline: np.ndarray | None = None, views: int = 0, progress: Progress = silent
    ) -> EncodedImage:
        """Encode an image.

        Parameters
        ----------
        pixels
            ``(*S, C)`` float32 in [0, 1], in work pixels.
        centerline
            ``(*S,)`` the centerline map, if it is known; then only features are computed.
        views
            Mirrored views to average; 0: as many as the predictor is to.
        progress
            Receives the tiles that are done, over all views.

        Raises
        ------
        UserError
            If there is too little memory for a volume.
        """
        progress("encoding", 0, 0)
        with self._counted():
            net = self.net
            if self._trained is not None:
                net = self._folded(adapted(self._trained, pixels, self.adapt, self.arithmetic))
            size = canvas_size(pixels.shape[:-1], net, self._rim)
            plan = self._plan(size)
            flipped = _views(pixels.ndim - 1)[: views or self.views if centerline is None else 1]
            # A volume's tiles are encoded twice, on the way down and on the way up.
            rounds = len(flipped) * (2 if plan.coarse_tile else 1)
            tick = _ticks(progress, rounds * len(list(tiles(size.tolist(), plan.tile, STRIDE))))
            view = View(net, pixels, self._rim, plan, tick)
            features = view.features() if self.features == "tile" else None
            mapped, kinds = centerline, None
            if mapped is None:
                maps = view.encode(beta=self.beta, dark=self.dark, keep=features)
                for flips in flipped[1:]:
                    mirrored = View(net, np.flip(pixels, flips), self._rim, plan, tick)
                    maps += np.flip(mirrored.encode(beta=self.beta, dark=self.dark), tuple(axis + 1 for axis in flips))
                maps /= len(flipped)
                mapped = maps[0]
                kinds = maps[1:] if net.kinds else None
            elif isinstance(features, CanvasFeatures):
                view.encode(beta=self.beta, dark=self.dark, keep=features)
        image = replace(_without_features(pixels, mapped, net), kinds=kinds)
        return image if features is None else self._with_features(image, features)

    def check_memory(self, shape: np.ndarray) -> None:
        """Refuse a volume of ``shape`` ``(ndim,)`` that does not fit into memory.

        Raises
        ------
        UserError
            If it does not.
        """
        self._plan(canvas_size(tuple(shape.tolist()), self.net, self._rim))

    def _plan(self, canvas: np.ndarray) -> Plan:
        """How to encode an image on a canvas of this size ``(ndim,)``."""
        if self.memory is None:
            return Plan(self.tile, 0, math.inf)
        free, stem = device_memory(self.device), self.net.stem
        return Plan.of(self.memory, canvas, self.net.width, stem=stem, tile=self.tile, device_memory=free)

    def _with_features(self, image: EncodedImage, features: CanvasFeatures | FeatureTiles) -> EncodedImage:
        """The image with features that were computed once for all patches."""
        image = replace(image, crops=features.crops)
        if isinstance(features, CanvasFeatures) or features.all_fit:
            return image
        return replace(image, tile_shape=tuple((self._stem * features.shape).tolist()))

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Add the time spent inside to :attr:`network_seconds`."""
        started = time.perf_counter()
        yield
        self.network_seconds += time.perf_counter() - started

    @torch.inference_mode()
    def predict(self, *batch: Tips) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Node and edge maps of ``N`` tips, those of each image in turn.

        Returns
        -------
        node, edge
            ``(N, *patch_shape)`` float32 probabilities.
        corner
            ``(N, ndim)`` int64 work pixel of the first pixel of each patch.
        """
        owner = np.repeat(np.arange(len(batch)), [len(tips.positions) for tips in batch])
        # Patches begin where trunk pixels do. As in training, their tips are in the middle, also at the border.
        centre = np.concatenate([tips.positions for tips in batch])
        corner = patch_corner(centre, self.patch_shape) // self._stem * self._stem
        local = np.concatenate([tips.walked for tips in batch]) - corner[:, None, None]
        walk = tubes(torch.from_numpy(local.astype(np.float32)), TUBE_RADIUS, self.patch_shape)[:, None]
        images = [tips.image for tips in batch]
        maps = [self._maps(images, owner[rows], corner[rows], walk[rows]) for rows in self._batches(len(owner))]
        node, edge = (np.concatenate(column) for column in zip(*maps, strict=True))
        return node, edge, corner

    def _batches(self, count: int) -> list[slice]:
        """Rows of tips that go through the network together: few in volumes, whose maps are large."""
        size = math.prod(self.patch_shape) // math.prod(self.net.stem) * self.net.width * 4
        together = count if self.memory is None else max(1, int(BATCH_BYTES / size))
        return [slice(first, first + together) for first in range(0, max(count, 1), max(together, 1))]

    def _maps(
        self, images: Sequence[EncodedImage], owner: np.ndarray, corner: np.ndarray, walk: Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        """Node and edge maps ``(N, *patch_shape)`` of patches at ``corner`` in the images ``owner`` ``(N,)``.

        Walked paths are ``(N, 1, *patch_shape)`` bool. All images share the heads: only what lies before them is
        adapted to an image.
        """
        with self._counted():
            first, shape, dtype = corner // self._stem, np.array(self.patch_shape) // self._stem, self.arithmetic.dtype
            crops = [images[k].crops(first[owner == k], shape.tolist()).to(dtype) for k in np.unique(owner)]
            features = torch.cat(crops) if len(crops) > 1 else crops[0]
            logits = self.net.heads(features, walk.to(self.device).to(dtype))
            # One copy for both, because each makes the CPU wait for a GPU.
            maps = torch.sigmoid(torch.cat(logits, dim=1)).float().cpu().numpy()
        return maps[:, 0], maps[:, 1]


def as_patches(image: EncodedImage) -> EncodedImage:
    """An image of which every patch is encoded by itself, as with ``features="patch"``."""
    return _without_features(image.pixels, image.centerline, image.net)


def _without_features(pixels: np.ndarray, centerline: np.ndarray, net: NENet) -> EncodedImage:
    return EncodedImage(pixels, centerline, net, partial(_encode_patches, net, pixels))


def _encode_patches(net: NENet, pixels: np.ndarray, corner: np.ndarray, shape: Sequence[int]) -> Tensor:
    """Features ``(N, W, *shape)`` of patches at the trunk pixels ``corner``, each encoded by itself.

    A patch whose size the network cannot halve often enough is encoded with a little of what lies around it.
    """
    size, stem = round_up(np.array(shape), STRIDE), np.array(net.stem)
    rim = (size - shape) // 2
    patches = crops(pixels, (corner - rim) * stem, (size * stem).tolist())
    return net.encode(network_input(patches, net))[(..., *box(rim, rim + shape))]


def _views(ndim: int) -> list[tuple[int, ...]]:
    """The axes that each view mirrors.

    All axes at once come first: two views then already cancel a bias of the network to one side.
    """
    axes = range(ndim)
    return [(), *(flips for count in reversed(axes) for flips in itertools.combinations(axes, count + 1))]


def _ticks(progress: Progress, total: int) -> Callable[[], None]:
    """A function that reports one more of ``total`` parts as done whenever it is called."""
    done = itertools.count(1)
    return lambda: progress("encoding", next(done), total)
