"""Gaps between branches, closed where the map supports it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lib.swclib import SwcForest
from tools.tracing.cleanup.lookup import nearest_other_tree, probabilities_at
from tools.tracing.growth.graph import TraceGraph
from tools.tracing.valley import AHEAD, crosses_valley, goes_straight

BACK = 12.0
"""Units of a branch before its end that say where it points: its last ones may bend towards a neighbour. (With 8 one
more pair of simulated neurites jumps than with 12 or 16.)"""


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
    """Join ends of trees to other trees nearby, the shortest gaps first, where the map supports it and no loop closes.

    Parameters
    ----------
    forest
        Work positions, times ``spacing``.
    centerline
        ``(*S,)`` probabilities.
    gap
        Longest gap in units of ``spacing``.
    probability
        Mean probability along the gap, at least.
    spacing
        Size of a pixel along each axis; None means 1.
    cone
        A gap that is a valley of the map is closed only straight ahead: within the angle of this cosine.
    ahead_only
        Whether a gap that is no valley, too, is closed only straight ahead.
    """
    graph, positions = TraceGraph.of(forest, centerline.ndim), forest.positions(centerline.ndim)
    sizes = np.ones(centerline.ndim) if spacing is None else np.array(spacing)
    behind = _behind(forest)
    gaps = []
    for end in np.flatnonzero(forest.degree == 1).tolist():
        near = nearest_other_tree(graph, forest, positions[end], forest.components[end], gap)
        if near is None or _mean_along(centerline, positions[end], near.foot, spacing) < probability:
            continue
        places = (positions[[end]], np.array([near.foot]), positions[[behind[end]]])
        straight = goes_straight(places[1] - places[0], places[0] - places[2], cone)[0]
        if straight or (not ahead_only and not crosses_valley(centerline, places[0] / sizes, places[1] / sizes)[0]):
            gaps.append((near.distance, end, near))
    for _, end, near in sorted(gaps, key=lambda found: found[:2]):
        graph.join(end, near)
    return graph.forest() if gaps else forest


def _behind(forest: SwcForest) -> dict[int, int]:
    """For each end the node :data:`BACK` units before it, or the first of its branch."""
    ways = (way for branch in forest.branches() for way in (branch, branch[::-1]))
    return {int(way[0]): forest.row_along(way, BACK) for way in ways if forest.degree[way[0]] == 1}


def _mean_along(centerline: np.ndarray, start: np.ndarray, end: np.ndarray, spacing: Sequence[float] | None) -> float:
    """Mean probability along a straight line, one sample a pixel of the finest axis."""
    count = max(2, int(np.ceil(np.linalg.norm(end - start))) + 1)
    return float(probabilities_at(np.linspace(start, end, count), centerline, spacing).mean())
