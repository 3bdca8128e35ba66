"""Clean-up of a finished trace: isolated noise, gaps, short spurs. Everything in work space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from lib.swclib import Nearest, SwcForest, subset
from tools.tracing.graph import TraceGraph, parents_from_ends

LONG_TREE = 50
"""Trees of more nodes than this are never isolated noise (docs/paper.md §5)."""
SHORT_TREE, SHORT_REACH, REACH = 4, 10.0, 25.0
"""A tree of fewer nodes than the first is noise if no other branch lies within the second of any of its ends, a longer
one if none lies within the third; in work pixels (docs/paper.md §5)."""


@dataclass(frozen=True)
class CleanUp:
    """What is cleaned, in this order, after seeds from which nothing grew.

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
    sure
        An isolated tree is kept all the same where its mean centerline chance is above this; 1 keeps none. The
        paper's rule alone would drop true vessels of 500 px (docs/paper.md §5: up to 50 nodes).
    """

    gap: float = 12.0
    gap_chance: float = 0.3
    spur: float = 20.0
    isolated: bool = True
    sure: float = 1.0


def clean(forest: SwcForest, centerline: np.ndarray, options: CleanUp) -> SwcForest:
    """Drop single nodes, close gaps, prune spurs, drop isolated noise. The roots of the result are ends.

    Parameters
    ----------
    forest
        Work positions, its roots at ends.
    centerline
        ``(*S,)`` chances.
    options
        See :class:`CleanUp`.
    """
    # First, because a lone node is no branch: it must neither be joined to one nor save one from being dropped.
    forest = drop_single_nodes(forest)
    if options.gap > 0:
        forest = close_gaps(forest, centerline, options.gap, options.gap_chance)
    forest = prune_spurs(forest, options.spur)
    return drop_isolated(forest, centerline, options.sure) if options.isolated else forest


def drop_single_nodes(forest: SwcForest) -> SwcForest:
    """Trees of one node are seeds from which nothing grew."""
    return subset(forest, forest.degree > 0)


def drop_isolated(forest: SwcForest, centerline: np.ndarray, sure: float = 1.0) -> SwcForest:
    """Drop short trees with no other branch near any end (docs/paper.md §5), unless the map is ``sure`` of them."""
    ndim = centerline.ndim
    size = np.bincount(forest.components, minlength=len(forest.roots))
    keep = (size > LONG_TREE) | ((size >= SHORT_TREE) & (mean_chances(forest, centerline) > sure))
    graph, positions = TraceGraph.of(forest, ndim), forest.positions(ndim)
    reach = np.where(size < SHORT_TREE, SHORT_REACH, REACH)
    for end in np.flatnonzero((forest.degree <= 1) & ~keep[forest.components]):
        tree = forest.components[end]
        # An edge at exactly the reach is near; the index takes only what is nearer than what it is given.
        within = np.nextafter(reach[tree], np.inf)
        keep[tree] |= _nearest_other(graph, forest, positions[end], tree, within) is not None
    return subset(forest, keep[forest.components])


def mean_chances(forest: SwcForest, centerline: np.ndarray) -> np.ndarray:
    """``(R,)`` mean chance at the nodes of each tree, in the order of the roots."""
    chance = map_coordinates(centerline, forest.positions(centerline.ndim).T, order=1, mode="nearest")
    return np.bincount(forest.components, chance) / np.bincount(forest.components)


def _nearest_other(
    graph: TraceGraph, forest: SwcForest, position: np.ndarray, tree: int, radius: float
) -> Nearest | None:
    """The nearest place within ``radius`` on an edge of any tree but ``tree``; ``graph`` is made of ``forest``."""
    children = forest.edges[:, 1]
    return graph.nearest(position, radius, lambda edge: forest.components[children[edge]] == tree)


def prune_spurs(forest: SwcForest, shortest: float) -> SwcForest:
    """Cut off end branches shorter than ``shortest`` (SWC units), from the shortest on.

    A branch is an end branch if it runs from a fork to a leaf. At a fork of two short ends only the shorter goes: the
    other then continues the stem. Trees without a fork are left alone. Where a root is cut off with its branch, an end
    becomes the root.
    """
    while True:
        ends = [b for b in forest.branches() if _is_spur(forest, b)]
        lengths = np.array([forest.root_distance[b[-1]] - forest.root_distance[b[0]] for b in ends])
        chosen = _shortest_of_each_fork(forest, ends, lengths, shortest)
        if not chosen:
            return forest
        keep = np.ones(len(forest), dtype=bool)
        for branch in chosen:
            keep[_without_fork(forest, branch)] = False
        forest = _rooted_at_ends(subset(forest, keep))


def _rooted_at_ends(forest: SwcForest) -> SwcForest:
    """The forest with ends as roots: a root inside a branch cuts it in two, here and in every count of branches."""
    if forest.degree[forest.roots].max(initial=0) <= 1:
        return forest
    parent = parents_from_ends(forest.edges, len(forest))
    return SwcForest.sorted(forest.ids, forest.types, forest.xyz, forest.radius, parent)


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
    """Join ends of trees to other trees nearby, the shortest gaps first, where the map supports it and no loop closes.

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
    graph, positions = TraceGraph.of(forest, centerline.ndim), forest.positions(centerline.ndim)
    gaps = []
    for end in np.flatnonzero(forest.degree == 1).tolist():
        near = _nearest_other(graph, forest, positions[end], forest.components[end], gap)
        if near is not None and _mean_along(centerline, positions[end], near.foot) >= chance:
            gaps.append((near.distance, end, near))
    for _, end, near in sorted(gaps, key=lambda found: found[:2]):
        graph.join(end, near)
    return graph.forest() if gaps else forest


def _mean_along(values: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """Mean of a map along a straight line, one sample a pixel."""
    count = max(2, int(np.ceil(np.linalg.norm(end - start))) + 1)
    places = np.linspace(start, end, count)
    return float(map_coordinates(values, places.T, order=1, mode="nearest").mean())
