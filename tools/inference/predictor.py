"""From a work image to maps: the centerline map of the whole image, and the node and edge maps of many tips.

In the manner of segment-anything a :class:`Predictor` has state: :meth:`Predictor.set_image` does all that depends on
the image alone, :meth:`Predictor.predict` is then cheap.
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
from lib.klib.windows import box, crop, crops, tiles, up_to, with_halo
from models.contract import BETA, TUBE_RADIUS, probability
from models.nenet import STRIDE, NENet
from models.onednn import through_onednn
from tools.inference.feature_cache import FeatureTiles
from tools.inference.memory_plan import Plan
from tools.inference.norm_adaptation import adapted
from tools.inference.staged_encoder import StagedEncoder

HALO = 64
"""Work pixels seen around a tile, a multiple of the network's stride. The encoder's reach is 110; how
little comes from beyond 64 is measured in tests/tools/test_inference.py."""
TOGETHER = 16e6
"""Bytes of features that go through the heads together in volumes."""


class Predictor:
    """A network with an image.

    Parameters
    ----------
    net
        In ``eval`` mode; its batch norms are folded, so it cannot be trained any more.
    patch_shape
        Patch of a tracing step in work pixels.
    features
        ``tile``: encode the image once, predict on crops of its features. ``patch``: run the whole network on every
        patch, as the paper does.
    device
        Where to compute.
    tile
        Side of the tiles, in work pixels, in which an image is encoded; bounds the memory.
    views
        Number of mirrored views over which the centerline map is averaged: 1 is the image alone, 2 adds the one
        mirrored along every axis, at most ``2 ** ndim``.
    beta
        Weight of positive pixels that the network was trained with.
    adapt
        Share of each image's own statistics in the batch norms, see :mod:`tools.inference.norm_adaptation`; 0 leaves the network as it is.
    memory
        Bytes that tracing a volume may take, see :class:`~tools.inference.memory_plan.Plan`. With it the features are computed
        exactly (:mod:`tools.inference.staged_encoder`) where and when they are asked for, and patches are moved into the image; without
        it, in 2D, all features are kept, and patches may hang over the border.
    overhang
        Pixels by which patches then still may hang over the border, along each axis: what the search does not look at.
    dark
        A tile in which no pixel is brighter than this holds no centerline, and the network is not asked.
    """

    def __init__(
        self,
        net: NENet,
        patch_shape: Sequence[int],
        *,
        features: Literal["tile", "patch"] = "tile",
        device: str = "cpu",
        tile: int = 512,
        views: int = 1,
        beta: float = BETA,
        adapt: float = 0.0,
        memory: float | None = None,
        overhang: Sequence[int] = (0, 0, 0),
        dark: float = 0.0,
    ) -> None:
        if tile % STRIDE:
            raise ValueError(f"tile must be a multiple of {STRIDE}, got {tile}")
        self.memory, self.overhang, self.dark = memory, np.array(overhang), dark
        self._trained = net.eval().to(device) if adapt else None
        self.adapt = adapt
        self.patch_shape, self.features = tuple(patch_shape), features
        self.device, self.tile, self.views, self.beta = device, tile, views, beta
        self.network_seconds = 0.0
        """Time spent in the network since the image was set."""
        # Features beyond the border are needed where a patch hangs over it: the canvas has a rim of half a patch.
        half = up_to(np.array(self.patch_shape) // 2, STRIDE)
        self._rim = np.zeros_like(half) if memory else half
        self._features = np.zeros(0)
        self._pixels = np.zeros(0)
        self._tiles: FeatureTiles | None = None
        self.net = net if adapt else self._folded(net)

    def _folded(self, net: NENet) -> NENet:
        """The network ready for inference, on the device and in the memory layout that is fastest there."""
        layout = torch.channels_last if net.ndim == 2 else torch.channels_last_3d
        folded = net.fold_norms().to(device=self.device, memory_format=layout)
        return through_onednn(folded) if net.ndim == 3 and self.device == "cpu" else folded

    @torch.inference_mode()
    def set_image(self, pixels: np.ndarray, *, mapped: bool = False) -> np.ndarray | None:
        """Encode an image.

        Parameters
        ----------
        pixels
            ``(*S, C)`` float32 in [0, 1], in work pixels.
        mapped
            Whether the map is known already: then only features are computed, those of a volume when asked for.

        Returns
        -------
        ndarray
            ``(*S,)`` float32, the probability of each pixel to lie on a centerline; None with ``mapped``.
        """
        self.network_seconds = 0.0
        self._pixels, self._tiles = pixels, None
        if self._trained is not None:
            with self._counted():
                self.net = self._folded(adapted(self._trained, pixels, self.adapt))
        if mapped and (self.features == "patch" or self.memory is not None):
            if self.features == "tile":
                self._stage(pixels, up_to(np.array(pixels.shape[:-1]), STRIDE), keep=True)
            return None
        centerline = self._encode(pixels, keep=self.features == "tile")
        axes = range(pixels.ndim - 1)
        # All axes at once come first: already two views then cancel what the network draws to one side.
        every = [flips for count in reversed(axes) for flips in itertools.combinations(axes, count + 1)]
        mirrored = every[: self.views - 1]
        for flips in mirrored:
            centerline += np.flip(self._encode(np.flip(pixels, flips), keep=False), flips)
        return centerline / (1 + len(mirrored))

    @property
    def tile_shape(self) -> tuple[int, ...] | None:
        """Shape of the tiles of an image whose features are not all at hand: what lies in one tile is best done
        together. None where the order does not matter."""
        return None if self._tiles is None or self._tiles.all_fit else self._tiles.shape

    def _encode(self, pixels: np.ndarray, *, keep: bool) -> np.ndarray:
        """Centerline probabilities ``(*S,)`` tile by tile; with ``keep`` the features can be asked for afterwards."""
        shape = np.array(pixels.shape[:-1])
        canvas = up_to(shape + 2 * self._rim, STRIDE)
        centerline = np.zeros(canvas, dtype=np.float32)
        if self.memory is None:
            self._encode_plainly(pixels, centerline, keep=keep)
        else:
            self._encode_in_stages(pixels, centerline, keep=keep)
        return centerline[box(self._rim, self._rim + shape)].copy()

    def _encode_plainly(self, pixels: np.ndarray, centerline: np.ndarray, *, keep: bool) -> None:
        """Fill ``centerline`` ``(*canvas,)``; with ``keep`` the features stay, as ``(*canvas, W)``."""
        canvas = np.array(centerline.shape)
        if keep:
            self._features = np.zeros((*canvas, self.net.width), dtype=np.float32)
        for low, high in tiles(canvas, self.tile, STRIDE):
            begin, end = with_halo(low, high, HALO, canvas)
            image = self._read(pixels, begin, end)
            inner, outer = box(low - begin, high - begin), box(low, high)
            with self._counted():
                features = self.net.encode(image)
                centerline[outer] = self._probabilities(features)[inner]
                if keep:
                    self._features[outer] = _channels_last(features[(..., *inner)])

    def _encode_in_stages(self, pixels: np.ndarray, centerline: np.ndarray, *, keep: bool) -> None:
        """Fill ``centerline`` ``(*canvas,)``; with ``keep`` the features of as many tiles stay as memory allows."""
        encoder, plan = self._stage(pixels, np.array(centerline.shape), keep=keep)
        for low, high in tiles(centerline.shape, plan.tile, STRIDE):
            if pixels[box(low, high)].max(initial=0.0) <= self.dark:
                continue
            with self._counted():
                features, inner = encoder.window(low, high)
                centerline[box(low, high)] = self._probabilities(features)[inner]
                if keep:
                    self._tiles.put(low, _channels_last(features[(..., *inner)]))

    def _stage(self, pixels: np.ndarray, canvas: np.ndarray, *, keep: bool) -> tuple[StagedEncoder, Plan]:
        """Compute what the whole volume is needed for; with ``keep`` features can then be asked for."""
        plan = Plan.of(self.memory, canvas, self.net.width, tile=self.tile)
        with self._counted():
            encoder = StagedEncoder(
                self.net,
                lambda begin, end: self._read(pixels, begin, end),
                canvas,
                tile=plan.tile,
                coarse_tile=plan.coarse_tile,
            )

        def compute(low: np.ndarray, high: np.ndarray) -> np.ndarray:
            with self._counted():
                features, inner = encoder.window(low, high)
                return _channels_last(features[(..., *inner)])

        if keep:
            self._tiles = FeatureTiles(canvas, plan.tile, self.net.width, plan.kept, compute)
        return encoder, plan

    def _probabilities(self, features: Tensor) -> np.ndarray:
        """Centerline probabilities ``(*S,)`` of features ``(1, W, *S)``."""
        return probability(self.net.centerline(features), self.beta)[0, 0].float().cpu().numpy()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Time spent inside is the network's."""
        started = time.perf_counter()
        yield
        self.network_seconds += time.perf_counter() - started

    def _tensor(self, pixels: np.ndarray) -> Tensor:
        """``(*S, C)`` or ``(N, *S, C)`` to ``(N, C, *S)`` on the device, in the network's memory layout."""
        array = pixels if pixels.ndim == self.net.ndim + 2 else pixels[None]
        return torch.from_numpy(array).movedim(-1, 1).to(self.device)

    def _read(self, pixels: np.ndarray, begin: np.ndarray, end: np.ndarray) -> Tensor:
        """The image between two canvas pixels, ``(1, C, *(end - begin))``."""
        return self._tensor(crop(pixels, begin - self._rim, tuple(end - begin)))

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
        maps = [self._maps(corner[rows], walk[rows]) for rows in self._portions(len(tips))]
        node, edge = (np.concatenate(column) for column in zip(*maps, strict=True))
        return node, edge, corner

    def _corners(self, tips: np.ndarray) -> np.ndarray:
        """``(N, ndim)`` first pixels of the patches of ``tips``.

        A patch that stays inside is what training has shown (:mod:`tools.data.batches`): in a flat volume few would not
        hang over.
        """
        corner = patch_corner(tips, self.patch_shape)
        if self._tiles is None:
            return corner
        over = self.overhang[-corner.shape[1] :]
        return np.clip(corner, -over, np.maximum(self._pixels.shape[:-1] - np.array(self.patch_shape) + over, -over))

    def _portions(self, count: int) -> list[slice]:
        """Tips whose patches go through the network together: in volumes few, their maps are large."""
        size = math.prod(self.patch_shape) * self.net.width * 4
        together = count if self.memory is None else max(1, int(TOGETHER / size))
        return [slice(first, first + together) for first in range(0, max(count, 1), max(together, 1))]

    def _maps(self, corner: np.ndarray, walk: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Node and edge maps ``(N, *patch_shape)`` of the patches at ``corner`` with walked paths ``(N, 1, ...)``."""
        seen, walk = self._tensor(self._seen(corner)), walk.to(self.device)
        with self._counted():
            features = seen if self.features == "tile" else self.net.encode(seen)
            node, edge = (torch.sigmoid(m)[:, 0].float().cpu().numpy() for m in self.net.heads(features, walk))
        return node, edge

    def _seen(self, corner: np.ndarray) -> np.ndarray:
        """What the network sees in the patches at ``corner``: features ``(N, *patch_shape, W)``, or the image."""
        if self.features == "patch":
            return crops(self._pixels, corner, self.patch_shape)
        if self._tiles is not None:
            return self._tiles.crops(corner, self.patch_shape)
        return crops(self._features, corner + self._rim, self.patch_shape)


def _channels_last(features: Tensor) -> np.ndarray:
    """Features ``(1, W, *S)`` as ``(*S, W)``."""
    return features[0].movedim(0, -1).float().cpu().numpy()
