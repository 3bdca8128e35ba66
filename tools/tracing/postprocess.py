"""Clean-up of a finished trace: isolated noise, gaps, short spurs. Everything in work space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from lib.swclib import EdgeIndex, SwcForest, subset
from tools.tracing.graph import TraceGraph

LONG_TREE = 50
"""Trees of more nodes than this are never isolated noise (FACTS §5)."""
SHORT_TREE, SHORT_REACH, REACH = 4, 10.0, 25.0
"""A tree of fewer nodes than the first is noise if nothing else lies within the second of an end, others within the
third; in pixels (FACTS §5)."""


@dataclass(frozen=True)
class CleanUp:
    """What is cleaned, in this order.

    Attributes
    ----------
    gap
        An end at most this far from another tree (work pixels) is joined to it, where the map supports it.
    gap_chance
        Mean centerline chance along a joined gap, at least.
    spur
        Side branches shorter than this (work pixels) are cut off, see :func:`prune_spurs`; 0 keeps them.
    isolated
        Whether isolated short trees are dropped.
    """

    gap: float = 12.0
    gap_chance: float = 0.3
    spur: float = 20.0
    isolated: bool = True


def clean(forest: SwcForest, centerline: np.ndarray, options: CleanUp) -> SwcForest:
    """Close gaps, prune spurs, drop isolated noise and single nodes."""
    if options.gap > 0:
        forest = close_gaps(forest, centerline, options.gap, options.gap_chance)
    forest = prune_spurs(forest, options.spur)
    if options.isolated:
        forest = drop_isolated(forest, centerline.ndim)
    return drop_single_nodes(forest)


def drop_single_nodes(forest: SwcForest) -> SwcForest:
    """Trees of one node are seeds from which nothing grew."""
    return subset(forest, forest.degree > 0)


def drop_isolated(forest: SwcForest, ndim: int) -> SwcForest:
    """Drop short trees with nothing near their ends (FACTS §5)."""
    size = np.bincount(forest.components, minlength=len(forest.roots))
    keep = size > LONG_TREE
    positions = forest.positions(ndim)
    ends = np.flatnonzero(forest.degree <= 1)
    # The nearest node of another tree: with at most `size` nodes in one's own, it is among the next `size + 1`.
    small = ends[~keep[forest.components[ends]]]
    if not len(small):
        return forest
    index = cKDTree(positions)
    reach = np.where(size < SHORT_TREE, SHORT_REACH, REACH)[forest.components]
    for node in small:
        near = index.query_ball_point(positions[node], reach[node])
        keep[forest.components[node]] |= bool(np.any(forest.components[near] != forest.components[node]))
    return subset(forest, keep[forest.components])


def prune_spurs(forest: SwcForest, shortest: float) -> SwcForest:
    """Cut off end branches shorter than ``shortest`` (SWC units), from the shortest on.

    A branch is an end branch if it runs from a fork to a leaf. At a fork of two short ends only the shorter goes: the
    other then continues the stem. Trees without a fork are left alone.
    """
    while True:
        ends = [b for b in forest.branches() if _is_spur(forest, b)]
        lengths = np.array([forest.root_distance[b].max() - forest.root_distance[b].min() for b in ends])
        chosen = _shortest_of_each_fork(forest, ends, lengths, shortest)
        if not chosen:
            return forest
        keep = np.ones(len(forest), dtype=bool)
        for branch in chosen:
            keep[_without_fork(forest, branch)] = False
        forest = subset(forest, keep)


def _is_spur(forest: SwcForest, branch: np.ndarray) -> bool:
    """Whether a branch runs between a fork and an end, the root being an end too."""
    degrees = sorted((int(forest.degree[branch[0]]), int(forest.degree[branch[-1]])))
    return degrees[0] == 1 and degrees[1] > 2


def _without_fork(forest: SwcForest, branch: np.ndarray) -> np.ndarray:
    """The nodes of a spur that belong to it alone."""
    return branch[forest.degree[branch] <= 2]


def _shortest_of_each_fork(
    forest: SwcForest, ends: list[np.ndarray], lengths: np.ndarray, shortest: float
) -> list[np.ndarray]:
    """Spurs to cut now: at most one at each fork."""
    chosen, forks = [], set()
    for index in np.argsort(lengths, kind="stable"):
        branch = ends[index]
        fork = int(branch[0] if forest.degree[branch[0]] > 2 else branch[-1])
        if lengths[index] < shortest and fork not in forks:
            chosen.append(branch)
            forks.add(fork)
    return chosen


def close_gaps(forest: SwcForest, centerline: np.ndarray, gap: float, chance: float) -> SwcForest:
    """Join ends of trees to other trees nearby, the shortest gaps first, where the map supports it.

    Parameters
    ----------
    forest
        Work positions.
    centerline
        ``(*S,)`` chances.
    gap
        Longest gap in work pixels.
    chance
        Mean chance along the gap, at least.
    """
    ndim = centerline.ndim
    positions = forest.positions(ndim)
    index = EdgeIndex(ndim)
    index.insert_many(positions[forest.edges[:, 0]], positions[forest.edges[:, 1]], forest.edges[:, 1])
    gaps = []
    for end in np.flatnonzero(forest.degree <= 1):
        tree = forest.components[end]
        near = index.nearest(positions[end], gap, lambda child, tree=tree: forest.components[child] == tree)
        if near is not None and _mean_along(centerline, positions[end], near.foot) >= chance:
            above, child = forest.parent[near.payload], near.payload
            gaps.append((near.distance, int(end), int(child if near.fraction > 0.5 else above)))
    return _with_edges(forest, [(a, b) for _, a, b in sorted(gaps)])


def _mean_along(values: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """Mean of a map along a straight line, one sample a pixel."""
    count = max(2, int(np.ceil(np.linalg.norm(end - start))) + 1)
    places = np.linspace(start, end, count)
    return float(map_coordinates(values, places.T, order=1, mode="nearest").mean())


def _with_edges(forest: SwcForest, pairs: list[tuple[int, int]]) -> SwcForest:
    """The forest with further edges, each left out if it would close a loop."""
    if not pairs:
        return forest
    graph = TraceGraph(3)
    for position in forest.positions(3):
        graph.add_node(position)
    for a, b in [*map(tuple, forest.edges.tolist()), *pairs]:
        graph.connect(a, b)
    return graph.forest()
