"""Clean-up of a finished trace: isolated noise, gaps, short spurs. Everything in work space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from lib.swclib import Nearest, SwcForest, rescale, subset
from tools.tracing.graph import TraceGraph, parents_from_ends
from tools.tracing.valley import AHEAD, ahead, parted

LONG_TREE = 50
"""Trees of more nodes than this are never isolated noise (docs/paper.md §5)."""
SHORT_TREE, SHORT_REACH, REACH = 4, 10.0, 25.0
"""A tree of fewer nodes than the first is noise if no other branch lies within the second of any of its ends, a longer
one if none lies within the third; in work pixels (docs/paper.md §5)."""
BACK = 12.0
"""Units of a branch before its end that say where it points: its last ones may bend towards a neighbour. (With 8 one
more pair of simulated neurites jumps than with 12 or 16.)"""


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
    apart
        Whether crossings are taken apart in the end, see :func:`~tools.tracing.crossings.uncrossed`.
    """

    gap: float = 12.0
    gap_chance: float = 0.3
    spur: float = 20.0
    isolated: bool = True
    sure: float = 1.0
    apart: bool = False


def clean(
    forest: SwcForest, centerline: np.ndarray, options: CleanUp, spacing: Sequence[float] | None = None
) -> SwcForest:
    """Drop single nodes, close gaps, prune spurs, drop isolated noise. The roots of the result are ends.

    Parameters
    ----------
    forest
        Work positions, its roots at ends.
    centerline
        ``(*S,)`` chances.
    options
        See :class:`CleanUp`.
    spacing
        Size of a pixel along each axis, in which lengths are counted; None means 1.
    """
    forest = forest if spacing is None else rescale(forest, spacing)
    # First, because a lone node is no branch: it must neither be joined to one nor save one from being dropped.
    forest = drop_single_nodes(forest)
    if options.gap > 0:
        forest = close_gaps(forest, centerline, options.gap, options.gap_chance, spacing)
    forest = prune_spurs(forest, options.spur)
    if options.isolated:
        forest = drop_isolated(forest, centerline, options.sure, spacing)
    return forest if spacing is None else rescale(forest, 1 / np.array(spacing))


def drop_single_nodes(forest: SwcForest) -> SwcForest:
    """Trees of one node are seeds from which nothing grew."""
    return subset(forest, forest.degree > 0)


def drop_isolated(
    forest: SwcForest, centerline: np.ndarray, sure: float = 1.0, spacing: Sequence[float] | None = None
) -> SwcForest:
    """Drop short trees with no other branch near any end (docs/paper.md §5), unless the map is ``sure`` of them.

    Positions and lengths are counted in ``spacing``, as in :func:`close_gaps`.
    """
    ndim = centerline.ndim
    size = np.bincount(forest.components, minlength=len(forest.roots))
    keep = (size > LONG_TREE) | ((size >= SHORT_TREE) & (mean_chances(forest, centerline, spacing) > sure))
    graph, positions = TraceGraph.of(forest, ndim), forest.positions(ndim)
    reach = np.where(size < SHORT_TREE, SHORT_REACH, REACH)
    for end in np.flatnonzero((forest.degree <= 1) & ~keep[forest.components]):
        tree = forest.components[end]
        # An edge at exactly the reach is near; the index takes only what is nearer than what it is given.
        within = np.nextafter(reach[tree], np.inf)
        keep[tree] |= _nearest_other(graph, forest, positions[end], tree, within) is not None
    return subset(forest, keep[forest.components])


def mean_chances(forest: SwcForest, centerline: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
    """``(R,)`` mean chance at the nodes of each tree, in the order of the roots."""
    chance = _chances_at(forest.positions(centerline.ndim), centerline, spacing)
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


def _chances_at(positions: np.ndarray, centerline: np.ndarray, spacing: Sequence[float] | None) -> np.ndarray:
    """``(N,)`` chances at positions ``(N, ndim)`` counted in ``spacing``."""
    pixels = positions if spacing is None else positions / np.array(spacing)
    return map_coordinates(centerline, pixels.T, order=1, mode="nearest")


def close_gaps(
    forest: SwcForest,
    centerline: np.ndarray,
    gap: float,
    chance: float,
    spacing: Sequence[float] | None = None,
    cone: float = AHEAD,
    aside: bool = True,
) -> SwcForest:
    """Join ends of trees to other trees nearby, the shortest gaps first, where the map supports it and no loop closes.

    Parameters
    ----------
    forest
        Work positions, times ``spacing``.
    centerline
        ``(*S,)`` chances.
    gap
        Longest gap in units of ``spacing``.
    chance
        Mean chance along the gap, at least.
    spacing
        Size of a pixel along each axis; None means 1.
    cone
        A gap that is a valley of the map is closed only straight ahead: within the angle of this cosine.
    aside
        Whether a gap that is no valley may lead aside all the same.
    """
    graph, positions = TraceGraph.of(forest, centerline.ndim), forest.positions(centerline.ndim)
    sizes = np.ones(centerline.ndim) if spacing is None else np.array(spacing)
    behind = _behind(forest)
    gaps = []
    for end in np.flatnonzero(forest.degree == 1).tolist():
        near = _nearest_other(graph, forest, positions[end], forest.components[end], gap)
        if near is None or _mean_along(centerline, positions[end], near.foot, spacing) < chance:
            continue
        places = (positions[[end]], np.array([near.foot]), positions[[behind[end]]])
        straight = ahead(places[1] - places[0], places[0] - places[2], cone)[0]
        if straight or (aside and not parted(centerline, places[0] / sizes, places[1] / sizes)[0]):
            gaps.append((near.distance, end, near))
    for _, end, near in sorted(gaps, key=lambda found: found[:2]):
        graph.join(end, near)
    return graph.forest() if gaps else forest


def _behind(forest: SwcForest) -> dict[int, int]:
    """For each end the node :data:`BACK` units before it, or the first of its branch."""
    ways = (way for branch in forest.branches() for way in (branch, branch[::-1]))
    return {int(way[0]): forest.row_along(way, BACK) for way in ways if forest.degree[way[0]] == 1}


def _mean_along(centerline: np.ndarray, start: np.ndarray, end: np.ndarray, spacing: Sequence[float] | None) -> float:
    """Mean chance along a straight line, one sample a pixel of the finest axis."""
    count = max(2, int(np.ceil(np.linalg.norm(end - start))) + 1)
    return float(_chances_at(np.linspace(start, end, count), centerline, spacing).mean())
