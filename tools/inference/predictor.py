"""From a work image to probability maps: the centerline map of the image, and the node and edge maps around tips.

A :class:`Predictor` has state, as that of Segment Anything has: :meth:`Predictor.set_image` computes all that depends
on the image alone, and each :meth:`Predictor.predict` is then cheap.

The image is encoded on a *canvas* of trunk pixels, each of which covers ``net.stem`` work pixels.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lib.klib.drawing import tubes
from lib.klib.spaces import patch_corner
from lib.klib.windows import add_halo, box, crop, crops, round_up, tiles
from models.contract import BETA, TUBE_RADIUS, crop_features, probability
from models.nenet import STRIDE, NENet
from tools.inference.arithmetic import Precision, chosen_arithmetic
from tools.inference.feature_cache import FeatureTiles
from tools.inference.memory_plan import Plan
from tools.inference.norm_adaptation import adapted
from tools.inference.staged_encoder import StagedEncoder
from tools.progress import Progress, silent

HALO = 64
"""Trunk pixels of context around a tile, a multiple of the network's stride. The encoder sees 110 pixels far; little of
it comes from beyond 64 (tests/tools/inference/test_predictor.py)."""
TILE = {torch.float32: 512, torch.bfloat16: 720}
"""Side in trunk pixels of the tiles of an image by number format; both take the same memory. A DRIVE image at stem 2
fits into one of 720, without a halo."""
BATCH_BYTES = 16e6
"""Bytes of features in one batch of patches of a volume."""


class Predictor:
    """A network with an image.

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
        Bytes that tracing a volume may take, see :class:`~tools.inference.memory_plan.Plan`. With it, features are
        exact (:mod:`tools.inference.staged_encoder`), computed when they are needed, and patches are moved into the
        image. Without it, as in 2D, all features are kept, and patches may extend beyond the border.
    overhang
        Pixels along each axis by which patches may still extend beyond the border: the search ignores these.
    dark
        A tile without a brighter pixel holds no centerline and is not encoded.
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
        overhang: Sequence[int] = (0, 0, 0),
        dark: float = 0.0,
    ) -> None:
        if tile % STRIDE:
            raise ValueError(f"tile must be a multiple of {STRIDE}, got {tile}")
        self.memory, self.dark, self._stem = memory, dark, np.array(net.stem)
        if np.any(np.array(patch_shape) % self._stem):
            raise ValueError(f"patch_shape must be a multiple of {net.stem}, got {tuple(patch_shape)}")
        self.overhang = np.array(overhang)[-net.ndim :] // self._stem * self._stem
        self.arithmetic = chosen_arithmetic(precision, net.ndim, device)
        self._trained = net.eval().to(device) if adapt else None
        self.adapt = adapt
        self.patch_shape, self.features = tuple(patch_shape), features
        self.tile = tile or (TILE[self.arithmetic.dtype] if memory is None else 0)
        self.device, self.views, self.beta = device, views, beta
        self.network_seconds = 0.0
        """Seconds spent in the network since the image was set."""
        # A patch beyond the border needs features there: the canvas has a rim of half a patch.
        half = round_up(round_up(np.array(self.patch_shape) // 2, self._stem) // self._stem, STRIDE)
        self._rim = np.zeros_like(half) if memory else half
        self._features = torch.zeros(0)
        self._pixels = np.zeros(0)
        self._tiles: FeatureTiles | None = None
        self.net = net if adapt else self._folded(net)

    def _folded(self, net: NENet) -> NENet:
        """The network ready for inference, on the device, in the chosen precision and memory layout."""
        return self.arithmetic.apply(net.fold_norms().to(self.device))

    @torch.inference_mode()
    def set_image(self, pixels: np.ndarray, *, progress: Progress = silent) -> np.ndarray:
        """Encode an image.

        Parameters
        ----------
        pixels
            ``(*S, C)`` float32 in [0, 1], in work pixels.
        progress
            Receives the tiles that are done, over all views.

        Returns
        -------
        ndarray
            ``(*S,)`` float32 probability of each pixel to lie on a centerline.
        """
        progress("encoding", 0, 0)
        self._hold(pixels)
        centerline = self._encode(pixels, 0, progress)
        axes = range(pixels.ndim - 1)
        # All axes at once come first: two views then already cancel a bias of the network to one side.
        mirrored = [flips for count in reversed(axes) for flips in itertools.combinations(axes, count + 1)]
        for view, flips in enumerate(mirrored[: self.views - 1], 1):
            centerline += np.flip(self._encode(np.flip(pixels, flips), view, progress), flips)
        return centerline / self.views

    @torch.inference_mode()
    def set_mapped_image(self, pixels: np.ndarray) -> None:
        """Take an image ``(*S, C)`` as in :meth:`set_image` whose centerline map is known: only features are needed."""
        self._hold(pixels)
        if self.features == "patch":
            return
        if self.memory is None:
            self._encode(pixels, 0, silent)
        else:
            self._tiles = self._stage(pixels, self._canvas(pixels), self.memory)[1]

    def _hold(self, pixels: np.ndarray) -> None:
        """Forget the image before and adapt the network to this one."""
        self.network_seconds = 0.0
        self._pixels, self._tiles = pixels, None
        if self._trained is not None:
            with self._counted():
                self.net = self._folded(adapted(self._trained, pixels, self.adapt))

    @property
    def tile_shape(self) -> tuple[int, ...] | None:
        """Shape in work pixels of the tiles of an image whose features do not all fit into memory.

        Tips in one tile are then best advanced together. None where the order does not matter.
        """
        if self._tiles is None or self._tiles.all_fit:
            return None
        return tuple((self._stem * self._tiles.shape).tolist())

    def _canvas(self, pixels: np.ndarray) -> np.ndarray:
        """``(ndim,)`` size in trunk pixels of the canvas of an image ``(*S, C)``."""
        shape = np.array(pixels.shape[:-1])
        return round_up(round_up(shape, self._stem) // self._stem + 2 * self._rim, STRIDE)

    def _encode(self, pixels: np.ndarray, view: int, progress: Progress) -> np.ndarray:
        """Centerline probabilities ``(*S,)`` of a view; the features of the first view are kept."""
        canvas, first = self._canvas(pixels), self._rim * self._stem
        centerline = np.zeros(canvas * self._stem, dtype=np.float32)
        keep = view == 0 and self.features == "tile"
        if self.memory is None:
            self._encode_tiles(pixels, centerline, view, keep, progress)
        else:
            self._encode_in_stages(pixels, centerline, self.memory, view, keep, progress)
        return centerline[box(first, first + pixels.shape[:-1])].copy()

    def _encode_tiles(
        self, pixels: np.ndarray, centerline: np.ndarray, view: int, keep: bool, progress: Progress
    ) -> None:
        """Fill the map of the canvas, in work pixels, tile by tile; with ``keep`` all features stay."""
        canvas = np.array(centerline.shape) // self._stem
        if keep:
            self._features = torch.zeros(
                (*canvas.tolist(), self.net.width), dtype=self.arithmetic.dtype, device=self.device
            )
        boxes = list(tiles(canvas.tolist(), self.tile, STRIDE))
        for done, (low, high) in enumerate(boxes, view * len(boxes) + 1):
            begin, end = add_halo(low, high, HALO, canvas)
            image = self._read(pixels, begin, end)
            inner = box(low - begin, high - begin)
            with self._counted():
                features = self.net.encode(image)
                self._put(centerline, features, low, high, low - begin)
                if keep:
                    self._features[box(low, high)] = features[(0, slice(None), *inner)].movedim(0, -1)
            progress("encoding", done, self.views * len(boxes))

    def _encode_in_stages(
        self, pixels: np.ndarray, centerline: np.ndarray, memory: float, view: int, keep: bool, progress: Progress
    ) -> None:
        """Fill the map of the canvas, in work pixels; with ``keep`` as many features stay as fit into memory."""
        encoder, stored = self._stage(pixels, self._canvas(pixels), memory, view, progress)
        if keep:
            self._tiles = stored
        for done, (low, high) in enumerate(stored.boxes, (2 * view + 1) * len(stored.boxes) + 1):
            if pixels[box(low * self._stem, high * self._stem)].max(initial=0.0) > self.dark:
                with self._counted():
                    features, inner = encoder.window(low, high)
                    self._put(centerline, features, low, high, np.array([part.start for part in inner]))
                    if keep:
                        stored.put(low, _channels_last(features[(..., *inner)]))
            progress("encoding", done, 2 * self.views * len(stored.boxes))

    def _stage(
        self, pixels: np.ndarray, canvas: np.ndarray, memory: float, view: int = 0, progress: Progress = silent
    ) -> tuple[StagedEncoder, FeatureTiles]:
        """Compute the coarse levels of the whole volume; the tiles then give features when they are needed."""
        plan = Plan.of(memory, canvas, self.net.width, stem=self.net.stem, tile=self.tile)

        def compute(low: np.ndarray, high: np.ndarray) -> np.ndarray:
            with self._counted():
                features, inner = encoder.window(low, high)
                return _channels_last(features[(..., *inner)])

        stored = FeatureTiles(canvas, plan.tile, self.net.width, plan.kept, compute)
        # Each tile is encoded twice, on the way down and on the way up.
        first, total = 2 * view * len(stored.boxes), 2 * self.views * len(stored.boxes)
        with self._counted():
            encoder = StagedEncoder(
                self.net,
                lambda begin, end: self._read(pixels, begin, end),
                canvas,
                tile=plan.tile,
                coarse_tile=plan.coarse_tile,
                on_tile=lambda done: progress("encoding", first + done, total),
            )
        return encoder, stored

    def _put(
        self, centerline: np.ndarray, features: Tensor, low: np.ndarray, high: np.ndarray, inner: np.ndarray
    ) -> None:
        """Write the probabilities of a box of the canvas, which begins at ``inner`` in ``features``, to the map."""
        found = probability(self.net.centerline(features), self.beta)[0, 0].float().cpu().numpy()
        stem = self._stem
        centerline[box(low * stem, high * stem)] = found[box(inner * stem, (inner + high - low) * stem)]

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Add the time spent inside to :attr:`network_seconds`."""
        started = time.perf_counter()
        yield
        self.network_seconds += time.perf_counter() - started

    def _tensor(self, pixels: np.ndarray) -> Tensor:
        """``(N, *S, C)`` as ``(N, C, *S)`` on the device, in the precision of the network."""
        return torch.from_numpy(pixels).movedim(-1, 1).to(self.device, self.arithmetic.dtype)

    def _read(self, pixels: np.ndarray, begin: np.ndarray, end: np.ndarray) -> Tensor:
        """The image between two canvas pixels, ``(1, C, *S)`` in work pixels."""
        corner = (begin - self._rim) * self._stem
        return self._tensor(crop(pixels, corner.tolist(), tuple((end - begin) * self._stem))[None])

    @torch.inference_mode()
    def predict(self, tips: np.ndarray, walked: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Node and edge maps of many tips.

        Parameters
        ----------
        tips
            ``(N, ndim)`` work positions.
        walked
            ``(N, W, 2, ndim)`` segments of the walked paths in work positions; absent ones are NaN.

        Returns
        -------
        node, edge
            ``(N, *patch_shape)`` float32 probabilities.
        corner
            ``(N, ndim)`` int64 work pixel of the first pixel of each patch.
        """
        corner = self._corners(tips)
        local = torch.from_numpy((walked - corner[:, None, None]).astype(np.float32))
        walk = tubes(local, TUBE_RADIUS, self.patch_shape)[:, None].float()
        maps = [self._maps(corner[rows], walk[rows]) for rows in self._batches(len(tips))]
        node, edge = (np.concatenate(column) for column in zip(*maps, strict=True))
        return node, edge, corner

    def _corners(self, tips: np.ndarray) -> np.ndarray:
        """``(N, ndim)`` first pixels of the patches of ``tips``, where trunk pixels begin.

        In a flat volume nearly all patches would extend beyond the border. They are moved inside, as in training
        (:mod:`tools.data.batches`).
        """
        corner = patch_corner(tips, self.patch_shape)
        if self._tiles is None:
            return corner // self._stem * self._stem
        last = np.maximum(self._pixels.shape[:-1] - np.array(self.patch_shape) + self.overhang, -self.overhang)
        return np.clip(corner, -self.overhang, last) // self._stem * self._stem

    def _batches(self, count: int) -> list[slice]:
        """Rows of tips that go through the network together: few in volumes, whose maps are large."""
        size = math.prod(self.patch_shape) // math.prod(self.net.stem) * self.net.width * 4
        together = count if self.memory is None else max(1, int(BATCH_BYTES / size))
        return [slice(first, first + together) for first in range(0, max(count, 1), max(together, 1))]

    def _maps(self, corner: np.ndarray, walk: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Node and edge maps ``(N, *patch_shape)`` of the patches at ``corner`` with walked paths ``(N, 1, ...)``."""
        with self._counted():
            inputs, walk = self._inputs(corner), walk.to(self.device, self.arithmetic.dtype)
            features = inputs if self.features == "tile" else self.net.encode(inputs)
            # One copy for both, because each makes the CPU wait for a GPU.
            maps = torch.sigmoid(torch.cat(self.net.heads(features, walk), dim=1)).float().cpu().numpy()
        return maps[:, 0], maps[:, 1]

    def _inputs(self, corner: np.ndarray) -> Tensor:
        """Features ``(N, W, *T)`` of the patches at ``corner``, or their pixels ``(N, C, *patch_shape)``."""
        if self.features == "patch":
            return self._tensor(crops(self._pixels, corner, self.patch_shape))
        corner, shape = corner // self._stem, (np.array(self.patch_shape) // self._stem).tolist()
        if self._tiles is not None:
            return self._tensor(self._tiles.crops(corner, shape))
        owner = torch.zeros(len(corner), dtype=torch.int64)
        return crop_features(self._features[None].movedim(-1, 1), owner, torch.from_numpy(corner + self._rim), shape)


def _channels_last(features: Tensor) -> np.ndarray:
    """Features ``(1, W, *S)`` as ``(*S, W)``."""
    return features[0].movedim(0, -1).float().cpu().numpy()
