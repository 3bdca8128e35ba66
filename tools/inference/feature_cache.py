"""Image features in tiles: the tiles used last stay in memory, the others are computed again when they are needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

from lib.klib.windows import tiles
from models.nenet import STRIDE, NENet

HALF = {torch.float32: torch.float16, torch.bfloat16: torch.bfloat16}
"""Number format of the features of a network: half the memory, and a probability changes by about 1e-3 at most."""

Compute = Callable[[np.ndarray, np.ndarray], Tensor]


class FeatureTiles:
    """Features of a canvas on the device of the network, of which the tiles used last stay in memory.

    Parameters
    ----------
    canvas
        ``(ndim,)`` int, size in trunk pixels.
    side
        Largest side of a tile in trunk pixels, as for :func:`~lib.klib.windows.tiles`.
    net
        The network: its width, number format and device.
    memory
        Most bytes to keep; one tile is always kept.
    compute
        Returns the features ``(W, *(high - low))`` of a box from pixel ``low`` to before ``high``.
    """

    def __init__(
        self, canvas: Sequence[int] | np.ndarray, side: int, net: NENet, memory: float, compute: Compute
    ) -> None:
        weight = next(net.parameters())
        self._compute, self._memory, self._width = compute, memory, net.width
        self._dtype, self._device = HALF[weight.dtype], weight.device
        self._boxes = {tuple(low): (low, high) for low, high in tiles(np.asarray(canvas).tolist(), side, STRIDE)}
        self._edges = [np.unique(axis) for axis in zip(*self._boxes, strict=True)]
        self._kept: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()
        self._bytes = 0
        self.all_fit = float(np.prod(canvas, dtype=float)) * net.width * self._dtype.itemsize <= memory
        """Whether no tile is ever computed twice."""
        self.shape = tuple(int(max(high[a] - low[a] for low, high in self._boxes.values())) for a in range(len(canvas)))
        """Shape of the largest tile."""

    def put(self, low: np.ndarray, features: Tensor) -> None:
        """Keep the features ``(W, *tile)`` of the tile that begins at ``low``; those used longest ago are dropped."""
        self._put(tuple(low.tolist()), features)

    def _put(self, name: tuple[int, ...], features: Tensor) -> None:
        kept = torch.empty((*features.shape[1:], self._width), dtype=self._dtype, device=self._device)
        kept.copy_(features.movedim(0, -1))
        while self._kept and self._bytes + kept.nbytes > self._memory:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        self._kept[name] = kept
        self._bytes += kept.nbytes

    def crops(self, corner: np.ndarray, shape: Sequence[int]) -> Tensor:
        """See :data:`~tools.inference.encoded_image.Crops`; features are zero outside the canvas."""
        out = torch.zeros((len(corner), *shape, self._width), dtype=self._dtype, device=self._device)
        for name, rows in self._touched(corner, np.array(shape)).items():
            low, high = self._boxes[name]
            features = self._tile(name)
            for row in rows:
                begin, end = np.maximum(corner[row], low), np.minimum(corner[row] + shape, high)
                there = tuple(map(slice, begin - corner[row], end - corner[row]))
                out[(row, *there)] = features[tuple(map(slice, begin - low, end - low))]
        return out.movedim(-1, 1)

    def _touched(self, corner: np.ndarray, shape: np.ndarray) -> dict[tuple[int, ...], list[int]]:
        """Rows of the boxes that overlap each tile, in the order of the tiles: a batch then fetches each tile once."""
        touched: dict[tuple[int, ...], list[int]] = {}
        for row, begin in enumerate(corner):
            spans = [_span(edges, a, a + n) for edges, a, n in zip(self._edges, begin, shape, strict=True)]
            for name in product(*spans):
                low, high = self._boxes[name]
                if (np.minimum(begin + shape, high) > np.maximum(begin, low)).all():
                    touched.setdefault(name, []).append(row)
        return dict(sorted(touched.items()))

    def _tile(self, name: tuple[int, ...]) -> Tensor:
        """The features ``(*tile, W)`` of a tile, computed if they are not in memory."""
        if name not in self._kept:
            self._put(name, self._compute(*self._boxes[name]))
        self._kept.move_to_end(name)
        return self._kept[name]


def _span(edges: np.ndarray, begin: int, end: int) -> list[int]:
    """First pixels of the tiles of one axis between ``begin`` and ``end``; ``edges`` are those of all tiles."""
    first = max(int(np.searchsorted(edges, begin, side="right")) - 1, 0)
    return edges[first : max(int(np.searchsorted(edges, end)), first)].tolist()
