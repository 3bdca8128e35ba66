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
from tools.Losses import BETA, chance
from tools.sampling import TUBE_RADIUS
from tools.scenes import crop

HALO = 64
"""Work pixels seen around a tile and around the image; what an encoder sees of a border does not reach further."""


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
        Number of mirrored views over which the centerline map is averaged: 1 is the image alone.
    beta
        Weight of positive pixels that the network was trained with.
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
    ) -> None:
        if tile % STRIDE:
            raise ValueError(f"tile must be a multiple of {STRIDE}, got {tile}")
        layout = torch.channels_last if net.ndim == 2 else torch.channels_last_3d
        self.net = net.fold_norms().to(device=device, memory_format=layout)
        self.patch_shape, self.features = tuple(patch_shape), features
        self.device, self.tile, self.views, self.beta = device, tile, views, beta
        self.network_seconds = 0.0
        """Time spent in the network since the image was set."""
        self._layout = layout
        self._features = np.zeros(0)
        self._pixels = np.zeros(0)

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
        centerline = self._encode(pixels, keep=self.features == "tile")
        axes = range(pixels.ndim - 1)
        mirrored = [flips for count in axes for flips in itertools.combinations(axes, count + 1)][: self.views - 1]
        for flips in mirrored:
            centerline += np.flip(self._encode(np.flip(pixels, flips), keep=False), flips)
        return centerline / (1 + len(mirrored))

    def _encode(self, pixels: np.ndarray, *, keep: bool) -> np.ndarray:
        """Centerline chances ``(*S,)`` tile by tile; with ``keep`` the features stay, as ``(*S + 2·HALO, W)``."""
        shape = np.array(pixels.shape[:-1])
        # Features beyond the border are needed where a patch hangs over it: the canvas has a rim of a halo.
        canvas = tuple(shape + 2 * HALO)
        if keep:
            self._features = np.zeros((*canvas, self.net.width), dtype=np.float32)
        centerline = np.zeros(canvas, dtype=np.float32)
        for low, high in _tiles(canvas, self.tile):
            size = -(-(high - low + 2 * HALO) // STRIDE) * STRIDE
            image = self._tensor(crop(pixels, low - 2 * HALO, tuple(size)))
            started = time.perf_counter()
            features = self.net.encode(image)
            chances = chance(self.net.centerline(features), self.beta)
            inner = tuple(slice(HALO, HALO + n) for n in high - low)
            outer = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            centerline[outer] = chances[(0, 0, *inner)].float().cpu().numpy()
            if keep:
                self._features[outer] = features[(0, slice(None), *inner)].movedim(0, -1).float().cpu().numpy()
            self.network_seconds += time.perf_counter() - started
        return centerline[tuple(slice(HALO, -HALO) for _ in shape)].copy()

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
        source, rim = (self._features, HALO) if self.features == "tile" else (self._pixels, 0)
        crops = self._tensor(np.stack([crop(source, c + rim, self.patch_shape) for c in corner]))
        started = time.perf_counter()
        features = crops if self.features == "tile" else self.net.encode(crops)
        node, edge = (torch.sigmoid(m)[:, 0].float().cpu().numpy() for m in self.net.heads(features, walk))
        self.network_seconds += time.perf_counter() - started
        return node, edge, corner


def _tiles(shape: Sequence[int], side: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """First and past-the-last pixel of tiles of at most ``side`` pixels that cover ``shape``, as equal as can be."""
    edges = []
    for size in shape:
        count = -(-size // side)
        edges.append(np.linspace(0, size, count + 1).round().astype(int))
    for index in itertools.product(*(range(len(e) - 1) for e in edges)):
        low = np.array([e[i] for e, i in zip(edges, index, strict=True)])
        high = np.array([e[i + 1] for e, i in zip(edges, index, strict=True)])
        yield low, high
