"""One view of an image, the image itself or a mirrored copy, encoded tile by tile.

An image lies on a *canvas* of trunk pixels, each of which covers ``net.stem`` work pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lib.klib.windows import add_halo, box, crop, round_up, tiles
from models.contract import probability
from models.nenet import STRIDE, NENet
from tools.inference.encoded_image import CanvasFeatures
from tools.inference.feature_cache import FeatureTiles
from tools.inference.memory_plan import Plan
from tools.inference.staged_encoder import StagedEncoder

HALO = 64
"""Trunk pixels of context around a tile, a multiple of the network's stride. The encoder sees 110 pixels far; little of
it comes from beyond 64 (tests/tools/inference/test_predictor.py)."""


def canvas_size(shape: tuple[int, ...], net: NENet, rim: np.ndarray) -> np.ndarray:
    """``(ndim,)`` size in trunk pixels of the canvas of an image of ``shape`` with ``rim`` before and behind it."""
    return round_up(-(-np.array(shape) // net.stem) + 2 * rim, STRIDE)


def network_input(pixels: np.ndarray, net: NENet) -> Tensor:
    """Pixels ``(N, *S, C)`` as ``(N, C, *S)`` on the device and in the number format of a network."""
    weight = next(net.parameters())
    return torch.from_numpy(pixels).movedim(-1, 1).to(weight.device, weight.dtype)


class View:
    """A view of an image.

    Parameters
    ----------
    net
        Ready for inference.
    pixels
        ``(*S, C)`` float32 in [0, 1], in work pixels.
    rim
        ``(ndim,)`` trunk pixels of the canvas before and behind the image.
    plan
        How to encode it. The coarse levels of a volume (:mod:`tools.inference.staged_encoder`) are computed at once.
    tick
        Called whenever a tile is done, in a volume on the way down and on the way up.
    """

    def __init__(
        self, net: NENet, pixels: np.ndarray, rim: np.ndarray, plan: Plan, tick: Callable[[], object] = lambda: None
    ) -> None:
        self._net, self._pixels, self._rim, self._plan, self._tick = net, pixels, rim, plan, tick
        self._stem, self._size = np.array(net.stem), canvas_size(pixels.shape[:-1], net, rim)
        self._staged = None
        if plan.coarse_tile:
            self._staged = StagedEncoder(
                net, self._read, self._size, tile=plan.tile, coarse_tile=plan.coarse_tile, on_tile=tick
            )

    def _read(self, begin: np.ndarray, end: np.ndarray) -> Tensor:
        """The image between two canvas pixels, ``(1, C, *S)`` in work pixels."""
        corner = (begin - self._rim) * self._stem
        return network_input(crop(self._pixels, corner.tolist(), tuple((end - begin) * self._stem))[None], self._net)

    def _window(self, low: np.ndarray, high: np.ndarray) -> tuple[Tensor, tuple[slice, ...]]:
        """Features of a box of the canvas and a margin, and the index of the box in them."""
        if self._staged is not None:
            return self._staged.window(low, high)
        begin, end = add_halo(low, high, HALO, self._size)
        return self._net.encode(self._read(begin, end)), box(low - begin, high - begin)

    def features(self) -> CanvasFeatures | FeatureTiles:
        """An empty store of the features of this view; that of a volume computes them when they are needed."""
        if self._staged is None:
            return CanvasFeatures(self._size, self._rim, self._net)

        def compute(low: np.ndarray, high: np.ndarray) -> Tensor:
            found, inner = self._window(low, high)
            return found[(0, slice(None), *inner)]

        return FeatureTiles(self._size, self._plan.tile, self._net, self._plan.kept, compute)

    def encode(self, *, beta: float, dark: float, keep: CanvasFeatures | FeatureTiles | None = None) -> np.ndarray:
        """Encode all tiles.

        Parameters
        ----------
        beta
            Weight of positive pixels in training.
        dark
            A tile without a brighter pixel is not encoded: its probabilities are 0.
        keep
            Receives the features.

        Returns
        -------
        ndarray
            ``(1 + kinds, *S)`` float32: probability of each pixel to lie on a centerline, and of each kind of tube.
        """
        shape, first = self._size * self._stem, self._rim * self._stem
        maps = np.zeros((1 + self._net.kinds, *shape), dtype=np.float32)
        for low, high in tiles(self._size.tolist(), self._plan.tile, STRIDE):
            inside = box(np.maximum(low * self._stem - first, 0), np.maximum(high * self._stem - first, 0))
            if self._pixels[inside].max(initial=0.0) > dark:
                found, inner = self._window(low, high)
                start = np.array([part.start for part in inner]) * self._stem
                part = self._maps(found, beta)[(slice(None), *box(start, start + (high - low) * self._stem))]
                maps[(slice(None), *box(low * self._stem, high * self._stem))] = part.float().cpu().numpy()
                if keep is not None:
                    keep.put(low, found[(0, slice(None), *inner)])
            self._tick()
        return maps[(slice(None), *box(first, first + self._pixels.shape[:-1]))].copy()

    def _maps(self, features: Tensor, beta: float) -> Tensor:
        """Probabilities ``(1 + kinds, *S)`` from features ``(1, W, *T)``."""
        centerline, kind = probability(self._net.centerline(features), beta), self._net.kind(features)
        return (centerline if kind is None else torch.cat([centerline, kind.softmax(dim=1)], dim=1))[0]
