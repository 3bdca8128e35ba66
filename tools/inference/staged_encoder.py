"""Features of a volume computed tile by tile that equal those of the whole volume: there are no seams.

The encoder sees 110 pixels far, mostly through its coarse levels, which are small. Most of its work and memory goes
into the fine levels, which see only a short distance. So the network is split at level :data:`SPLIT`: the fine levels
on the way down run tile by tile, the coarse levels for the whole volume (or for large tiles with all that they can
see), and the fine levels on the way up tile by tile, when features are needed.

All of it stays on the device of the network.

Positions are in *canvas* pixels, which are the network's trunk pixels, or in *grains*: pixels of level ``SPLIT``,
:data:`GRAIN` canvas pixels wide.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lib.klib.windows import add_halo, box, tiles
from models.nenet import CHANNELS_LAST, LEVELS, STRIDE, NENet

SPLIT = 2
"""Level at which the network is split. An eighth of the work lies below it."""
GRAIN = 2**SPLIT
HALO = 20
"""Canvas pixels around a tile that its fine levels and the centerline head see, a multiple of :data:`GRAIN`; measured
in tests/tools/inference/test_staged_encoder.py."""
COARSE_HALO = 20
"""Grains around a coarse tile that the coarse levels see, a multiple of the strides below; measured there, too."""


class StagedEncoder:
    """The encoder over one volume.

    Parameters
    ----------
    net
        Ready for inference.
    read
        Returns the image ``(1, C, *S)`` between two canvas pixels ``begin``, ``end``, ``(ndim,)`` int each, in work
        pixels.
    canvas
        ``(ndim,)`` int, size of the canvas in pixels, multiples of the network's stride.
    tile
        Side in pixels of the tiles of the fine levels, a multiple of the stride.
    coarse_tile
        Side in grains of the tiles of the coarse levels, a multiple of ``STRIDE / GRAIN``.
    on_tile
        Called after each tile on the way down.
    """

    def __init__(
        self,
        net: NENet,
        read: Callable[[np.ndarray, np.ndarray], Tensor],
        canvas: np.ndarray,
        *,
        tile: int,
        coarse_tile: int,
        on_tile: Callable[[], object] = lambda: None,
    ) -> None:
        self._net, self._read, self._canvas = net, read, np.asarray(canvas)
        self._coarse = self._coarse_levels(self._way_down(tile, on_tile), coarse_tile)

    def _way_down(self, tile: int, on_tile: Callable[[], object]) -> Tensor:
        """``(1, C, *grains)`` features of level ``SPLIT`` on the way down."""
        shape, weight = (1, self._net.width * GRAIN, *(self._canvas // GRAIN).tolist()), next(self._net.parameters())
        layout = CHANNELS_LAST[self._net.ndim]
        whole = torch.empty(shape, memory_format=layout, dtype=weight.dtype, device=weight.device)
        for low, high in tiles(self._canvas.tolist(), tile, STRIDE):
            begin, end = add_halo(low, high, HALO, self._canvas)
            x, _ = self._net.descend(self._net.enter(self._read(begin, end)), 0, SPLIT)
            inner = box((low - begin) // GRAIN, (high - begin) // GRAIN)
            whole[(..., *box(low // GRAIN, high // GRAIN))] = x[(..., *inner)]
            on_tile()
        return whole

    def _coarse_levels(self, down: Tensor, tile: int) -> Tensor:
        """``(1, C, *grains)`` features of level ``SPLIT`` on the way up."""
        whole, grains = torch.empty_like(down), self._canvas // GRAIN
        for low, high in tiles(grains.tolist(), tile, STRIDE // GRAIN):
            begin, end = add_halo(low, high, COARSE_HALO, grains)
            x, skips = self._net.descend(down[(..., *box(begin, end))], SPLIT, LEVELS)
            x = self._net.ascend(x, skips)
            whole[(..., *box(low, high))] = x[(..., *box(low - begin, high - begin))]
        return whole

    def window(self, low: np.ndarray, high: np.ndarray) -> tuple[Tensor, tuple[slice, ...]]:
        """Features around a box of the canvas.

        Parameters
        ----------
        low, high
            ``(ndim,)`` int, first pixel and the one past the last, multiples of :data:`GRAIN`.

        Returns
        -------
        features
            ``(1, W, *S)`` of the box and a margin, as far as the heads see.
        inner
            Index of the box in ``S``. There the features equal those of the whole volume.
        """
        begin, end = add_halo(low, high, HALO, self._canvas)
        image = self._read(begin, end)
        coarse = self._coarse[(..., *box(begin // GRAIN, end // GRAIN))]
        x, skips = self._net.descend(self._net.enter(image), 0, SPLIT - 1)
        features = self._net.features(self._net.ascend(coarse, [*skips, x], SPLIT))
        return features, box(low - begin, high - begin)
