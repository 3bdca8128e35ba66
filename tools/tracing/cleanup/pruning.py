"""Clean-up of a finished trace: isolated noise, gaps, short spurs. Everything in work space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lib.swclib import SwcForest, subset
from tools.tracing.cleanup.lookup import nearest_other_tree, probabilities_at
from tools.tracing.growth.graph import TraceGraph, parents_from_ends

LONG_TREE = 50
"""Trees of more nodes than this are never isolated noise (docs/paper.md §5)."""
SHORT_TREE, SHORT_REACH, REACH = 4, 10.0, 25.0
"""A tree of fewer nodes than the first is noise if no other branch lies within the second of any of its ends, a longer
one if none lies within the third; in work pixels (docs/paper.md §5)."""


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
    keep = (size > LONG_TREE) | ((size >= SHORT_TREE) & (mean_probabilities(forest, centerline, spacing) > sure))
    graph, positions = TraceGraph.of(forest, ndim), forest.positions(ndim)
    reach = np.where(size < SHORT_TREE, SHORT_REACH, REACH)
    for end in np.flatnonzero((forest.degree <= 1) & ~keep[forest.components]):
        tree = forest.components[end]
        # An edge at exactly the reach is near; the index takes only what is nearer than what it is given.
        within = np.nextafter(reach[tree], np.inf)
        keep[tree] |= nearest_other_tree(graph, forest, positions[end], tree, within) is not None
    return subset(forest, keep[forest.components])


def mean_probabilities(forest: SwcForest, centerline: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
    """``(R,)`` mean probability at the nodes of each tree, in the order of the roots."""
    probability = probabilities_at(forest.positions(centerline.ndim), centerline, spacing)
    return np.bincount(forest.components, probability) / np.bincount(forest.components)


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
