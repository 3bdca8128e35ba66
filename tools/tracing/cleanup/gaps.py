"""Gaps between branches, closed where the centerline map supports it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from lib.swclib import Nearest, SwcForest
from tools.tracing.cleanup.lookup import near_other_trees, probabilities_at
from tools.tracing.growth.graph import TraceGraph
from tools.tracing.valley import AHEAD, crosses_valley, goes_straight

BACK = 12.0
"""Units of a branch before its end that give its direction. Its last units may bend towards a neighbour."""
LEAST_LOOP = 40.0
"""Units. A shorter way along the tree from an end to the place near it is a bend, not a loop."""
SAME_PLACE = 6.0
"""Units by which the clean-up may move a branch: a recorded loop farther from the finished trace has lost a side."""


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
    behind = nodes_behind_ends(forest)
    graph, near = near_other_trees(forest, np.array(list(behind)), gap, centerline.ndim)
    joined = _supported(forest, near, behind, centerline, probability, sizes, cone, ahead_only=ahead_only)
    for end in sorted(joined, key=lambda end: (near[end].distance, end)):
        graph.join(end, near[end])
    return graph.forest() if joined else forest


def find_loops(
    forest: SwcForest,
    centerline: np.ndarray,
    gap: float,
    probability: float,
    sizes: np.ndarray | float = 1.0,
    recorded: np.ndarray | None = None,
) -> np.ndarray:
    """Joins that would close a loop, which a forest cannot hold: pairs of nodes of a finished trace.

    An end is joined to its own tree by the rule of :func:`close_gaps`, where the way along the tree is longer than
    :data:`LEAST_LOOP`; so is what the tracer recorded, as far as the clean-up left both sides.

    Parameters
    ----------
    forest, centerline, gap, probability, sizes
        As in :func:`close_gaps`.
    recorded
        ``(L, 2, ndim)`` positions in units, see :class:`~tools.tracing.growth.graph.TraceGraph`.

    Returns
    -------
    ndarray
        int64 ``(K, 2)`` rows of the forest.
    """
    graph, behind, near = TraceGraph.from_forest(forest, centerline.ndim), nodes_behind_ends(forest), {}
    edge_tree, tree = forest.components[forest.edges[:, 1]], forest.components
    for end in behind:
        close = graph.edges_within(end, LEAST_LOOP)
        other = partial(_is_excluded, close, edge_tree, tree[end])
        if (place := graph.nearest(graph.positions[end], gap, other)) is not None:
            near[end] = place
    for end in _supported(forest, near, behind, centerline, probability, sizes, AHEAD):
        graph.join(end, near[end])
    for start, foot in np.zeros((0, 2, centerline.ndim)) if recorded is None else recorded:
        at, place = graph.nearest(start, SAME_PLACE), graph.nearest(foot, SAME_PLACE)
        if at is not None and place is not None and tree[forest.edges[at.edge, 1]] == edge_tree[place.edge]:
            graph.join(graph.closest(at), place)
    return np.array(graph.loop_nodes, dtype=np.int64).reshape(-1, 2)


def _is_excluded(close: set[int], edge_tree: np.ndarray, tree: int, edge: int) -> bool:
    """Whether an edge is near along the tree, or of another tree."""
    return edge in close or edge_tree[edge] != tree


def _supported(
    forest: SwcForest,
    near: Mapping[int, Nearest],
    behind: Mapping[int, int],
    centerline: np.ndarray,
    probability: float,
    sizes: np.ndarray | float,
    cone: float,
    *,
    ahead_only: bool = False,
) -> list[int]:
    """Ends whose way to the place near them the map supports; parameters as in :func:`close_gaps`."""
    positions = forest.positions(centerline.ndim)
    ends = [end for end in near if _mean_along(centerline, positions[end], near[end].foot, sizes) >= probability]
    start, before = positions[ends], positions[[behind[end] for end in ends]]
    foot = np.array([near[end].foot for end in ends]).reshape(start.shape)
    closed = goes_straight(foot - start, start - before, cone)
    if not ahead_only:
        closed |= ~crosses_valley(centerline, start / sizes, foot / sizes)
    return np.array(ends, dtype=int)[closed].tolist()


def nodes_behind_ends(forest: SwcForest) -> dict[int, int]:
    """For each end the node :data:`BACK` units before it, or the first node of its branch."""
    return {int(branch[0]): forest.row_along(branch, BACK) for branch in forest.branches_from_ends()}


def _mean_along(centerline: np.ndarray, start: np.ndarray, end: np.ndarray, sizes: np.ndarray | float) -> float:
    """Mean probability along a straight line, with one sample per unit."""
    count = max(2, int(np.ceil(np.linalg.norm(end - start))) + 1)
    return float(probabilities_at(np.linspace(start, end, count), centerline, sizes).mean())
