"""Isolated trees and short spurs, removed from a trace."""

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
one if none lies within the third; in units (docs/paper.md §5)."""


def drop_single_nodes(forest: SwcForest) -> SwcForest:
    """Drop trees of one node: seeds from which nothing grew."""
    return subset(forest, forest.degree > 0)


def drop_isolated(
    forest: SwcForest, centerline: np.ndarray, sure: float = 1.0, spacing: Sequence[float] | None = None
) -> SwcForest:
    """Drop short trees that have no other branch near any end (docs/paper.md §5).

    Parameters
    ----------
    forest
        Positions in units.
    centerline
        ``(*S,)`` probabilities.
    sure
        A tree is kept if its mean probability is above this.
    spacing
        Size of a pixel along each axis in units; None means 1.
    """
    ndim = centerline.ndim
    size = np.bincount(forest.components, minlength=len(forest.roots))
    keep = (size > LONG_TREE) | ((size >= SHORT_TREE) & (mean_probabilities(forest, centerline, spacing) > sure))
    graph, positions = TraceGraph.from_forest(forest, ndim), forest.positions(ndim)
    # A branch at exactly the reach is near, but the index finds only what is nearer than its radius.
    reach = np.nextafter(np.where(size < SHORT_TREE, SHORT_REACH, REACH), np.inf)
    for end in np.flatnonzero((forest.degree <= 1) & ~keep[forest.components]):
        tree = int(forest.components[end])
        keep[tree] |= nearest_other_tree(graph, forest, positions[end], tree, float(reach[tree])) is not None
    return subset(forest, keep[forest.components])


def mean_probabilities(forest: SwcForest, centerline: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
    """``(R,)`` mean probability at the nodes of each tree, in the order of the roots."""
    probability = probabilities_at(forest.positions(centerline.ndim), centerline, spacing)
    return np.bincount(forest.components, probability) / np.bincount(forest.components)


def prune_spurs(forest: SwcForest, shortest: float) -> SwcForest:
    """Cut off end branches shorter than ``shortest`` units, the shortest first.

    An end branch runs from a fork to a leaf. Of two short ones at a fork only the shorter is cut, and the other
    continues the stem. Trees without a fork stay. If a root is cut off with its branch, an end becomes the root.
    """
    while True:
        spurs = [branch for branch in forest.branches() if _is_spur(forest, branch)]
        lengths = np.array([forest.root_distance[spur[-1]] - forest.root_distance[spur[0]] for spur in spurs])
        chosen = _shortest_of_each_fork(forest, spurs, lengths, shortest)
        if not chosen:
            return forest
        keep = np.ones(len(forest), dtype=bool)
        for spur in chosen:
            keep[spur[forest.degree[spur] <= 2]] = False
        forest = _rooted_at_ends(subset(forest, keep))


def _rooted_at_ends(forest: SwcForest) -> SwcForest:
    """The forest with ends as roots: a root inside a branch would split it in two in every count of branches."""
    if forest.degree[forest.roots].max(initial=0) <= 1:
        return forest
    parent = parents_from_ends(forest.edges, len(forest))
    return SwcForest.sorted(forest.ids, forest.types, forest.xyz, forest.radius, parent)


def _is_spur(forest: SwcForest, branch: np.ndarray) -> bool:
    """Whether a branch runs between a fork and an end; a root can be an end."""
    low, high = sorted((int(forest.degree[branch[0]]), int(forest.degree[branch[-1]])))
    return low == 1 and high > 2


def _shortest_of_each_fork(
    forest: SwcForest, spurs: list[np.ndarray], lengths: np.ndarray, shortest: float
) -> list[np.ndarray]:
    """Spurs to cut now: at most one at each fork."""
    chosen, forks = [], set()
    for index in np.argsort(lengths, kind="stable"):
        spur = spurs[index]
        fork = int(spur[0] if forest.degree[spur[0]] > 2 else spur[-1])
        if lengths[index] < shortest and fork not in forks:
            chosen.append(spur)
            forks.add(fork)
    return chosen
