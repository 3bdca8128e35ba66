"""From a work image to maps: the centerline map of the whole image, and the node and edge maps of many tips.

In the manner of segment-anything a :class:`Predictor` has state: :meth:`Predictor.set_image` does all that depends on
the image alone, :meth:`Predictor.predict` is then cheap.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lib.klib.drawing import tubes
from lib.klib.spaces import patch_corner
from models.nenet import STRIDE, NENet
from tools.adapt import adapted
from tools.Losses import BETA, chance
from tools.sampling import TUBE_RADIUS
from tools.scenes import crop, crops

HALO = 64
"""Work pixels seen around a tile, a multiple of the network's stride. The encoder's reach is 110; how
little comes from beyond 64 is measured in tests/tools/test_inference.py."""


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
        Share of each image's own statistics in the batch norms, see :mod:`tools.adapt`; 0 leaves the network as it is.
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
    ) -> None:
        if tile % STRIDE:
            raise ValueError(f"tile must be a multiple of {STRIDE}, got {tile}")
        self._trained = net.eval().to(device) if adapt else None
        self.adapt = adapt
        self.patch_shape, self.features = tuple(patch_shape), features
        self.device, self.tile, self.views, self.beta = device, tile, views, beta
        self.network_seconds = 0.0
        """Time spent in the network since the image was set."""
        # Features beyond the border are needed where a patch hangs over it: the canvas has a rim of half a patch.
        self._rim = _up_to_stride(np.array(self.patch_shape) // 2)
        self._features = np.zeros(0)
        self._pixels = np.zeros(0)
        self.net = net if adapt else self._folded(net)

    def _folded(self, net: NENet) -> NENet:
        """The network ready for inference, on the device and in the memory layout that is fastest there."""
        layout = torch.channels_last if net.ndim == 2 else torch.channels_last_3d
        return net.fold_norms().to(device=self.device, memory_format=layout)

    @torch.inference_mode()
    def set_image(self, pixels: np.ndarray) -> np.ndarray:
        """Encode an image.

        Parameters
        ----------
        pixels
            ``(*S, C)`` float32 in [0, 1], in work pixels.

        Returns
        -------
        ndarray
            ``(*S,)`` float32, the chance of each pixel to lie on a centerline.
        """
        self.network_seconds = 0.0
        self._pixels = pixels
        if self._trained is not None:
            started = time.perf_counter()
            self.net = self._folded(adapted(self._trained, pixels, self.adapt))
            self.network_seconds += time.perf_counter() - started
        centerline = self._encode(pixels, keep=self.features == "tile")
        axes = range(pixels.ndim - 1)
        # All axes at once come first: already two views then cancel what the network draws to one side.
        every = [flips for count in reversed(axes) for flips in itertools.combinations(axes, count + 1)]
        mirrored = every[: self.views - 1]
        for flips in mirrored:
            centerline += np.flip(self._encode(np.flip(pixels, flips), keep=False), flips)
        return centerline / (1 + len(mirrored))

    def _encode(self, pixels: np.ndarray, *, keep: bool) -> np.ndarray:
        """Centerline chances ``(*S,)`` tile by tile; with ``keep`` the features stay, as ``(*canvas, W)``."""
        shape = np.array(pixels.shape[:-1])
        canvas = _up_to_stride(shape + 2 * self._rim)
        if keep:
            self._features = np.zeros((*canvas, self.net.width), dtype=np.float32)
        centerline = np.zeros(canvas, dtype=np.float32)
        for low, high in _tiles(canvas, self.tile):
            begin, end = np.maximum(low - HALO, 0), np.minimum(high + HALO, canvas)
            image = self._tensor(crop(pixels, begin - self._rim, tuple(end - begin)))
            inner, outer = _box(low - begin, high - begin), _box(low, high)
            started = time.perf_counter()
            features = self.net.encode(image)
            chances = chance(self.net.centerline(features), self.beta)
            centerline[outer] = chances[(0, 0, *inner)].float().cpu().numpy()
            if keep:
                self._features[outer] = features[(0, slice(None), *inner)].movedim(0, -1).float().cpu().numpy()
            self.network_seconds += time.perf_counter() - started
        return centerline[_box(self._rim, self._rim + shape)].copy()

    def _tensor(self, pixels: np.ndarray) -> Tensor:
        """``(*S, C)`` or ``(N, *S, C)`` to ``(N, C, *S)`` on the device, in the network's memory layout."""
        array = pixels if pixels.ndim == self.net.ndim + 2 else pixels[None]
        return torch.from_numpy(array).movedim(-1, 1).to(self.device)

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
        corner = patch_corner(tips, self.patch_shape)
        local = torch.from_numpy((walked - corner[:, None, None]).astype(np.float32))
        walk = tubes(local, TUBE_RADIUS, self.patch_shape)[:, None].float().to(self.device)
        source, rim = (self._features, self._rim) if self.features == "tile" else (self._pixels, 0)
        seen = self._tensor(crops(source, corner + rim, self.patch_shape))
        started = time.perf_counter()
        features = seen if self.features == "tile" else self.net.encode(seen)
        node, edge = (torch.sigmoid(m)[:, 0].float().cpu().numpy() for m in self.net.heads(features, walk))
        self.network_seconds += time.perf_counter() - started
        return node, edge, corner


def _up_to_stride(size: np.ndarray) -> np.ndarray:
    """Sizes rounded up to multiples of the network's stride."""
    return -(-size // STRIDE) * STRIDE


def _box(low: np.ndarray, high: np.ndarray) -> tuple[slice, ...]:
    """Index of the pixels from ``low`` to before ``high``."""
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def _tiles(shape: Sequence[int], side: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """First and past-the-last pixel of tiles of at most ``side`` pixels that cover ``shape``, as equal as can be.

    Both are multiples of the stride, as ``shape`` and ``side`` must be: the network halves an image four times and
    computes something else where a tile begins between two of its coarsest pixels.
    """
    edges = []
    for size in shape:
        count, units = -(-size // side), size // STRIDE
        edges.append(np.arange(count + 1) * units // count * STRIDE)
    for index in itertools.product(*(range(len(e) - 1) for e in edges)):
        low = np.array([e[i] for e, i in zip(edges, index, strict=True)])
        high = np.array([e[i + 1] for e, i in zip(edges, index, strict=True)])
        yield low, high
