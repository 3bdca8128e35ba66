"""The kind of each tree, from a network that tells kinds of tube apart, and trees of two kinds separated.

Every place of a trace speaks for one kind or another. The kinds of all its nodes are chosen together: their sum of
log-probabilities, less a price for every change along the tree, is as large as it can be (a Markov random field on a
tree, whose maximum is found exactly from the leaves to the root and back).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet
from scipy.ndimage import map_coordinates

from lib.swclib import SwcForest, rewire
from lib.swclib.forest import KIND_TYPE
from tools.tracing.valley import STRAIGHT

EVIDENCE = 0.2
"""Log-probability per unit of length that a place adds: neighbouring pixels of the map say nearly the same, so those of
about five units count as one."""
SURE = 0.05
"""Least probability of a kind: a single place is never surer than this."""
CHANGE = 4.0
"""Price of a change, in natural units of log-probability: 20 units at a probability of 0.73 pay for one."""
ACROSS = 24.0
"""Units: two ends of one kind, cut off at the same crossing, are joined at most this far from each other."""
LOOK = 10.0
"""Units of a branch before such an end that give its direction."""


def with_kinds(
    forest: SwcForest, kinds: NDArray[np.floating], sizes: NDArray[np.floating] | float, *, separate: bool
) -> SwcForest:
    """Give every node its kind, as the type :data:`~lib.swclib.forest.KIND_TYPE` plus the kind.

    Parameters
    ----------
    forest
        A finished trace in units; its roots are ends.
    kinds
        ``(kinds, *S)`` probability of each kind at each pixel.
    sizes
        ``(ndim,)`` size of a pixel in units, or one for all axes.
    separate
        Whether trees are cut where the kind changes, and branches of one kind that a crossing had cut are joined.
        Otherwise each tree is of one kind, that of most of its length.

    Returns
    -------
    SwcForest
        Its roots are ends.
    """
    if not len(forest):
        return forest
    evidence = _evidence(forest, kinds, sizes)
    if not separate:
        tree = np.zeros((len(forest.roots), len(kinds)))
        np.add.at(tree, forest.components, evidence)
        return _typed(forest, tree.argmax(axis=1)[forest.components])
    kind = likeliest_kinds(forest, evidence)
    edges = forest.edges
    cut = kind[edges[:, 0]] != kind[edges[:, 1]]
    joined = _rejoined(forest, edges[~cut], edges[cut], kind)
    return rewire(_typed(forest, kind), np.concatenate([edges[~cut], joined]))


def _typed(forest: SwcForest, kind: NDArray[np.integer]) -> SwcForest:
    """The forest with kinds, counted from 0, as types."""
    return SwcForest(forest.ids, KIND_TYPE + 1 + kind, forest.xyz, forest.radius, forest.parent, forest.file_order)


def _evidence(
    forest: SwcForest, kinds: NDArray[np.floating], sizes: NDArray[np.floating] | float
) -> NDArray[np.floating]:
    """``(N, kinds)`` log-probability that each node adds: half of the edges around it belong to it."""
    places = (forest.positions(kinds.ndim - 1) / sizes).T
    probability = np.stack([map_coordinates(kind, places, order=1, mode="nearest") for kind in kinds], axis=1)
    length = np.bincount(forest.edges.ravel(), np.repeat(forest.edge_lengths / 2, 2), minlength=len(forest))
    return EVIDENCE * length[:, None] * np.log(np.clip(probability, SURE, 1 - SURE))


def likeliest_kinds(forest: SwcForest, evidence: NDArray[np.floating]) -> NDArray[np.integer]:
    """Kind of each node ``(N,)``, from 0, that together have the highest sum; :data:`CHANGE` is the price of a change.

    Parameters
    ----------
    forest
        Any forest.
    evidence
        ``(N, kinds)`` log-probability of each kind that a node adds.
    """
    score, parents = np.array(evidence, dtype=float), forest.parent.tolist()
    # Parents come before their children: from the last row to the first, every subtree is complete.
    for row in range(len(forest) - 1, -1, -1):
        if parents[row] >= 0:
            score[parents[row]] += np.maximum(score[row], score[row].max() - CHANGE)
    kind = score.argmax(axis=1)
    for row, parent in enumerate(parents):
        if parent >= 0 and score[row, kind[parent]] >= score[row].max() - CHANGE:
            kind[row] = kind[parent]
    return kind


def _rejoined(
    forest: SwcForest, kept: NDArray[np.integer], cut: NDArray[np.integer], kind: NDArray[np.integer]
) -> NDArray[np.integer]:
    """Edges ``(M, 2)`` between ends that were cut off at one crossing and continue each other, the straightest first.

    Two ends of one tree are never joined, as a loop would close.
    """
    neighbours: dict[int, list[int]] = {}
    for a, b in kept.tolist():
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    ends = [end for end in np.unique(cut).tolist() if len(neighbours.get(end, ())) == 1]
    inward = {end: _direction(end, neighbours, forest.xyz) for end in ends}
    found = []
    for index, one in enumerate(ends):
        for other in ends[index + 1 :]:
            between = forest.xyz[other] - forest.xyz[one]
            length = float(np.linalg.norm(between))
            if kind[one] != kind[other] or not 0 < length <= ACROSS:
                continue
            turn = min(float(-inward[one] @ between), float(inward[other] @ between)) / length
            if turn >= STRAIGHT:
                found.append((-turn, one, other))
    group = _groups(kept, len(forest))
    joined, taken = [], set()
    for _, one, other in sorted(found):
        if taken.isdisjoint((one, other)) and group.merge(one, other):
            joined.append((one, other))
            taken.update((one, other))
    return np.reshape(joined, (-1, 2)).astype(int)


def _groups(edges: NDArray[np.integer], count: int) -> DisjointSet:
    """The nodes in groups that edges connect."""
    group = DisjointSet(range(count))
    for a, b in edges.tolist():
        group.merge(a, b)
    return group


def _direction(end: int, neighbours: dict[int, list[int]], xyz: NDArray[np.floating]) -> NDArray[np.floating]:
    """Unit vector from an end into its branch, over :data:`LOOK` units or up to a fork."""
    before, here = end, neighbours[end][0]
    while len(neighbours[here]) == 2 and math.dist(xyz[end], xyz[here]) < LOOK:
        before, here = here, next(node for node in neighbours[here] if node != before)
    along = xyz[here] - xyz[end]
    return along / max(float(np.linalg.norm(along)), 1e-9)
