"""Features of a volume tile by tile, and yet those of the whole: seams are not made small, they do not arise.

Most of what the encoder sees of its surroundings, 110 pixels, it sees through its coarse levels, which hold little;
most of its work and memory goes into the fine ones, whose own reach is short. So the network is cut at level
:data:`SPLIT`: the way down to there is computed tile by tile, everything below for the whole volume (or for large
tiles with all that they can see), and the way up again tile by tile, where and when features are asked for.

Legend: *canvas* pixels, and *grains*: pixels of level ``SPLIT``, :data:`GRAIN` canvas pixels wide.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lib.klib.windows import box, tiles, with_halo
from models.nenet import LEVELS, STRIDE, NENet

SPLIT = 2
"""Level at which the network is cut. Below it lies an eighth of the work."""
GRAIN = 2**SPLIT
HALO = 20
"""Canvas pixels around a tile within which lies all that its fine levels see, the centerline head included: measured
in tests/tools/test_staging.py. A multiple of :data:`GRAIN`."""
COARSE_HALO = 20
"""Grains around a coarse tile within which lies all that the coarse levels see; a multiple of the strides below."""


class StagedEncoder:
    """The encoder over one volume.

    Parameters
    ----------
    net
        Ready for inference.
    read
        Gives the image ``(1, C, *(end - begin))`` between two canvas pixels ``begin``, ``end``, ``(ndim,)`` int each.
    canvas
        ``(ndim,)`` int, size of the canvas in pixels, multiples of the network's stride.
    tile
        Side in pixels of the tiles on the way down, a multiple of the stride.
    coarse_tile
        Side in grains of the tiles of the coarse levels, a multiple of ``STRIDE / GRAIN``.
    """

    def __init__(
        self,
        net: NENet,
        read: Callable[[np.ndarray, np.ndarray], Tensor],
        canvas: np.ndarray,
        *,
        tile: int,
        coarse_tile: int,
    ) -> None:
        self._net, self._read, self._canvas = net, read, np.asarray(canvas)
        top = self._way_down(tile)
        self._coarse = self._coarse_levels(top, coarse_tile)

    def _way_down(self, tile: int) -> Tensor:
        """``(1, C, *grains)`` features of level ``SPLIT`` on the way down, tile by tile, in main memory."""
        whole = self._whole(self._net.width * GRAIN)
        for low, high in tiles(self._canvas, tile, STRIDE):
            begin, end = with_halo(low, high, HALO, self._canvas)
            image = self._read(begin, end)
            x, _ = self._net.descend(self._net.first(image), 0, SPLIT)
            inner = box((low - begin) // GRAIN, (high - begin) // GRAIN)
            whole[(..., *box(low // GRAIN, high // GRAIN))] = x[(..., *inner)].cpu()
        return whole

    def _coarse_levels(self, top: Tensor, tile: int) -> Tensor:
        """``(1, C, *grains)`` features of level ``SPLIT`` on the way up."""
        whole, grains = torch.empty_like(top), self._canvas // GRAIN
        device = next(self._net.parameters()).device
        for low, high in tiles(grains, tile, STRIDE // GRAIN):
            begin, end = with_halo(low, high, COARSE_HALO, grains)
            x, skips = self._net.descend(top[(..., *box(begin, end))].to(device), SPLIT, LEVELS)
            x = self._net.ascend(x, skips)
            whole[(..., *box(low, high))] = x[(..., *box(low - begin, high - begin))].cpu()
        return whole

    def _whole(self, channels: int) -> Tensor:
        """Room for a map of all grains, in the memory layout of the network."""
        layout = torch.channels_last if len(self._canvas) == 2 else torch.channels_last_3d
        return torch.empty((1, channels, *(self._canvas // GRAIN).tolist()), memory_format=layout)

    def window(self, low: np.ndarray, high: np.ndarray) -> tuple[Tensor, tuple[slice, ...]]:
        """Features around a box of the canvas.

        Parameters
        ----------
        low, high
            ``(ndim,)`` int, first and past-the-last pixel, multiples of :data:`GRAIN`.

        Returns
        -------
        features
            ``(1, W, *S)`` of the box and a margin, as far as the heads see.
        inner
            Index of the box in ``S``: there, all is as if the whole volume had been encoded at once.
        """
        begin, end = with_halo(low, high, HALO, self._canvas)
        image = self._read(begin, end)
        coarse = self._coarse[(..., *box(begin // GRAIN, end // GRAIN))].to(image.device)
        x, skips = self._net.descend(self._net.first(image), 0, SPLIT - 1)
        features = self._net.features(self._net.ascend(coarse, [*skips, x], SPLIT))
        return features, box(low - begin, high - begin)
