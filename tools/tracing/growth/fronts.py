"""The fronts of a trace, the tips that are advanced together, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.contract import MAX_PAST, extended


@dataclass(frozen=True)
class Fronts:
    """Active tips, the oldest first.

    Attributes
    ----------
    node
        ``(F,)`` int64, node of each tip in the trace.
    path
        ``(F, W + 1, ndim)`` float64 positions in work pixels: the tip, then the nodes walked before it, the latest
        first; NaN where the walk is shorter. A seed has walked no node.
    loose
        ``(F,)`` int64, number of places at the head of the path that are not in the trace: the front is on a traced
        branch, which it may cross. ``node`` is the last one before them.
    """

    node: np.ndarray
    path: np.ndarray
    loose: np.ndarray

    @classmethod
    def empty(cls, ndim: int, walked_nodes: int) -> Fronts:
        """No fronts, with room for ``walked_nodes`` nodes in each path."""
        none = np.zeros(0, dtype=np.int64)
        return cls(none, np.zeros((0, walked_nodes + 1, ndim)), none)

    def __len__(self) -> int:
        return len(self.node)

    def __getitem__(self, rows: slice) -> Fronts:
        return Fronts(self.node[rows], self.path[rows], self.loose[rows])

    def __add__(self, other: Fronts) -> Fronts:
        return Fronts(*(np.concatenate(both) for both in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def tips(self) -> np.ndarray:
        """``(F, ndim)`` positions in work pixels."""
        return self.path[:, 0]

    def walked(self) -> np.ndarray:
        """Segments of the walked paths as training draws them: ``(F, W, 2, ndim)``, latest first, NaN where absent.

        The path of a seed is a dot. The oldest segment is extended, as in training, so that the path leaves the patch.
        A path of more than :data:`~models.contract.MAX_PAST` segments leaves it anyway.
        """
        segments = np.stack([self.path[:, :-1], self.path[:, 1:]], axis=2)
        count = np.isfinite(segments).all(axis=(2, 3)).sum(axis=1)
        short = np.flatnonzero((count > 0) & (count <= MAX_PAST))
        last = count[short] - 1
        segments[short, last, 1] = extended(segments[short, last, 0], segments[short, last, 1])
        seeds = count == 0
        segments[seeds, 0] = self.path[seeds, :1]
        return segments


def stepped(path: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Paths ``(K, W + 1, ndim)`` after steps to ``position`` ``(K, ndim)``; their oldest nodes are dropped."""
    return np.concatenate([position[:, None], path[:, :-1]], axis=1)
