"""Gaps between branches, closed where the centerline map supports it."""

from __future__ import annotations

import numpy as np

from lib.swclib import SwcForest
from tools.tracing.cleanup.lookup import near_other_trees, probabilities_at
from tools.tracing.valley import AHEAD, crosses_valley, goes_straight

BACK = 12.0
"""Units of a branch before its end that give its direction. Its last units may bend towards a neighbour."""


def close_gaps(
    forest: SwcForest,
    centerline: np.ndarray,
    gap: float,
    probability: float,
    sizes: np.ndarray | float = 1.0,
    cone: float = AHEAD,
    *,
    ahead_only: bool = False,
) -> SwcForest:
    """Join ends of trees to other trees nearby, shortest gaps first, where the map supports it and no loop closes.

    Parameters
    ----------
    forest, centerline, sizes
        A trace in units, its map and pixel size, see :func:`~tools.tracing.cleanup.lookup.probabilities_at`.
    gap
        Longest gap in units.
    probability
        Least mean probability along the gap.
    cone
        Cosine of the angle to the branch within which a gap lies straight ahead. A gap that crosses a valley of the map
        is closed only there.
    ahead_only
        Whether every gap is closed only straight ahead.
    """
    positions, behind = forest.positions(centerline.ndim), _behind(forest)
    graph, near = near_other_trees(forest, np.array(list(behind)), gap, centerline.ndim)
    ends = [end for end in near if _mean_along(centerline, positions[end], near[end].foot, sizes) >= probability]
    start, before = positions[ends], positions[[behind[end] for end in ends]]
    foot = np.array([near[end].foot for end in ends]).reshape(start.shape)
    closed = goes_straight(foot - start, start - before, cone)
    if not ahead_only:
        closed |= ~crosses_valley(centerline, start / sizes, foot / sizes)
    joined = np.array(ends, dtype=int)[closed].tolist()
    for end in sorted(joined, key=lambda end: (near[end].distance, end)):
        graph.join(end, near[end])
    return graph.forest() if joined else forest


def _behind(forest: SwcForest) -> dict[int, int]:
    """For each end the node :data:`BACK` units before it, or the first node of its branch."""
    paths = (path for branch in forest.branches() for path in (branch, branch[::-1]))
    return {int(path[0]): forest.row_along(path, BACK) for path in paths if forest.degree[path[0]] == 1}


def _mean_along(centerline: np.ndarray, start: np.ndarray, end: np.ndarray, sizes: np.ndarray | float) -> float:
    """Mean probability along a straight line, with one sample per unit."""
    count = max(2, int(np.ceil(np.linalg.norm(end - start))) + 1)
    return float(probabilities_at(np.linspace(start, end, count), centerline, sizes).mean())
