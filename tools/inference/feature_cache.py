"""Image features in tiles: the tiles used last stay in memory, the others are computed again when they are needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from lib.klib.windows import tiles
from models.nenet import STRIDE

DTYPE = np.float16
"""Half precision: twice as many features fit, and a probability changes by about 1e-3 at most."""

Compute = Callable[[np.ndarray, np.ndarray], np.ndarray]


class FeatureTiles:
    """Features of a canvas, of which the tiles used last stay in memory.

    Parameters
    ----------
    canvas
        ``(ndim,)`` int, size in pixels.
    side
        Largest side of a tile in pixels, as for :func:`~lib.klib.windows.tiles`.
    width
        Channels of the features.
    memory
        Most bytes to keep; one tile is always kept.
    compute
        Returns the features ``(*(high - low), W)`` of a box from pixel ``low`` to before ``high``.
    """

    def __init__(
        self, canvas: Sequence[int] | np.ndarray, side: int, width: int, memory: float, compute: Compute
    ) -> None:
        self._compute, self._memory = compute, memory
        self._boxes = {tuple(low): (low, high) for low, high in tiles(np.asarray(canvas).tolist(), side, STRIDE)}
        self._edges = [np.unique(axis) for axis in zip(*self._boxes, strict=True)]
        self._kept: OrderedDict[tuple[int, ...], np.ndarray] = OrderedDict()
        self._width, self._bytes = width, 0
        self.all_fit = float(np.prod(canvas, dtype=float)) * width * np.dtype(DTYPE).itemsize <= memory
        """Whether no tile is ever computed twice."""
        self.shape = tuple(int(max(high[a] - low[a] for low, high in self._boxes.values())) for a in range(len(canvas)))
        """Shape of the largest tile."""

    @property
    def boxes(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """First pixel and the one past the last of each tile, ``(ndim,)`` int each."""
        return list(self._boxes.values())

    def put(self, low: np.ndarray, features: np.ndarray) -> None:
        """Keep the features ``(*tile, W)`` of the tile that begins at ``low``; those used longest ago are dropped."""
        self._put(tuple(low.tolist()), features)

    def _put(self, name: tuple[int, ...], features: np.ndarray) -> None:
        kept = features.astype(DTYPE)
        while self._kept and self._bytes + kept.nbytes > self._memory:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        self._kept[name] = kept
        self._bytes += kept.nbytes

    def crops(self, corner: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Features ``(N, *shape, W)`` float32 of the boxes at ``corner`` ``(N, ndim)``; zero outside the canvas."""
        out = np.zeros((len(corner), *shape, self._width), dtype=np.float32)
        for name, rows in self._touched(corner, np.array(shape)).items():
            low, high = self._boxes[name]
            features = self._tile(name)
            for row in rows:
                begin, end = np.maximum(corner[row], low), np.minimum(corner[row] + shape, high)
                there = tuple(map(slice, begin - corner[row], end - corner[row]))
                out[(row, *there)] = features[tuple(map(slice, begin - low, end - low))]
        return out

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

    def _tile(self, name: tuple[int, ...]) -> np.ndarray:
        """The features of a tile, computed if they are not in memory."""
        if name not in self._kept:
            self._put(name, self._compute(*self._boxes[name]))
        self._kept.move_to_end(name)
        return self._kept[name]


def _span(edges: np.ndarray, begin: int, end: int) -> list[int]:
    """First pixels of the tiles of one axis between ``begin`` and ``end``; ``edges`` are those of all tiles."""
    first = max(int(np.searchsorted(edges, begin, side="right")) - 1, 0)
    return edges[first : max(int(np.searchsorted(edges, end)), first)].tolist()
