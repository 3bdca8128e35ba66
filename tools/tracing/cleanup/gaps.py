"""Gaps between branches, closed where the centerline map supports it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lib.swclib import SwcForest
from tools.tracing.cleanup.lookup import nearest_other_tree, pixel_sizes, probabilities_at
from tools.tracing.growth.graph import TraceGraph
from tools.tracing.valley import AHEAD, crosses_valley, goes_straight

BACK = 12.0
"""Units of a branch before its end that give its direction. Its last units may bend towards a neighbour."""


def close_gaps(
    forest: SwcForest,
    centerline: np.ndarray,
    gap: float,
    probability: float,
    spacing: Sequence[float] | None = None,
    cone: float = AHEAD,
    *,
    ahead_only: bool = False,
) -> SwcForest:
    """Join ends of trees to other trees nearby, shortest gaps first, where the map supports it and no loop closes.

    Parameters
    ----------
    forest
        Positions in units.
    centerline
        ``(*S,)`` probabilities.
    gap
        Longest gap in units.
    probability
        Least mean probability along the gap.
    spacing
        Size of a pixel along each axis in units; None means 1.
    cone
        Cosine of the angle to the branch within which a gap lies straight ahead. A gap that crosses a valley of the map
        is closed only there.
    ahead_only
        Whether every gap is closed only straight ahead.
    """
    graph, positions = TraceGraph.from_forest(forest, centerline.ndim), forest.positions(centerline.ndim)
    sizes = pixel_sizes(spacing, centerline.ndim)
    behind = _behind(forest)
    gaps = []
    for end in np.flatnonzero(forest.degree == 1).tolist():
        near = nearest_other_tree(graph, forest, positions[end], int(forest.components[end]), gap)
        if near is None or _mean_along(centerline, positions[end], near.foot, spacing) < probability:
            continue
        start, foot, before = positions[[end]], np.array([near.foot]), positions[[behind[end]]]
        straight = goes_straight(foot - start, start - before, cone)[0]
        if straight or (not ahead_only and not crosses_valley(centerline, start / sizes, foot / sizes)[0]):
            gaps.append((near.distance, end, near))
    for _, end, near in sorted(gaps, key=lambda found: found[:2]):
        graph.join(end, near)
    return graph.forest() if gaps else forest


def _behind(forest: SwcForest) -> dict[int, int]:
    """For each end the node :data:`BACK` units before it, or the first node of its branch."""
    paths = (path for branch in forest.branches() for path in (branch, branch[::-1]))
    return {int(path[0]): forest.row_along(path, BACK) for path in paths if forest.degree[path[0]] == 1}


def _mean_along(
    centerline: np.ndarray, start: np.ndarray, end: np.ndarray | Sequence[float], spacing: Sequence[float] | None
) -> float:
    """Mean probability along a straight line, with one sample per unit."""
    count = max(2, int(np.ceil(np.linalg.norm(end - start))) + 1)
    return float(probabilities_at(np.linspace(start, end, count), centerline, spacing).mean())
