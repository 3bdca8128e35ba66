"""The kind of each tree, from a network that tells kinds of tube apart, and trees of two kinds separated.

Every place of a trace speaks for one kind or another. The kinds of all its nodes are chosen together: their sum of
log-probabilities, less a price for every change along the tree, is as large as it can be (a Markov random field on a
tree, whose maximum is found exactly from the leaves to the root and back).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial import KDTree

from lib.swclib import SwcForest, rewire, spans, subset
from lib.swclib.forest import KIND_TYPE

EVIDENCE = 0.2
"""Log-probability per unit of length that a place adds: neighbouring pixels of the map say nearly the same, so those of
about five units count as one."""
SURE = 0.05
"""Least probability of a kind: a single place is never surer than this."""
CHANGE = 10.0
"""Price of a change inside a branch, in natural units of log-probability: 50 units at a probability of 0.73 pay for
one. A branch that goes on over another is one tube, whatever the map says of the place where both lie."""
CHANGE_AT_FORK = 2.0
"""The same at a fork, where two tubes may have been joined (docs/experiments.md)."""
AT_FORK = 6.0
"""Units around a fork in which a change costs :data:`CHANGE_AT_FORK`."""
STUB = 10.0
"""Units: what a cut leaves of a branch at a fork is dropped if it is shorter than this, a step of the trace."""


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
        Whether trees are cut where the kind changes. Otherwise each tree is of one kind, that of most of its length.

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
    apart = rewire(_typed(forest, kind), edges[~cut])
    return _without_stubs(apart, np.isin(apart.file_order, edges[cut]))


def _typed(forest: SwcForest, kind: NDArray[np.integer]) -> SwcForest:
    """The forest with kinds, counted from 0, as types."""
    return replace(forest, types=KIND_TYPE + 1 + kind)


def _evidence(
    forest: SwcForest, kinds: NDArray[np.floating], sizes: NDArray[np.floating] | float
) -> NDArray[np.floating]:
    """``(N, kinds)`` log-probability that each node adds: half of the edges around it belong to it."""
    places = (forest.positions(kinds.ndim - 1) / sizes).T
    probability = np.stack([map_coordinates(kind, places, order=1, mode="nearest") for kind in kinds], axis=1)
    length = np.bincount(forest.edges.ravel(), np.repeat(forest.edge_lengths / 2, 2), minlength=len(forest))
    return EVIDENCE * length[:, None] * np.log(np.clip(probability, SURE, 1 - SURE))


def likeliest_kinds(forest: SwcForest, evidence: NDArray[np.floating]) -> NDArray[np.integer]:
    """Kind of each node ``(N,)``, from 0: those whose evidence, less the prices of all changes, has the highest sum.

    Parameters
    ----------
    forest
        Any forest, in units.
    evidence
        ``(N, kinds)`` log-probability of each kind that a node adds.
    """
    score, parents, prices = np.array(evidence, dtype=float), forest.parent.tolist(), prices_of_change(forest)
    # Parents come before their children: from the last row to the first, every subtree is complete.
    for row in range(len(forest) - 1, -1, -1):
        if parents[row] >= 0:
            score[parents[row]] += np.maximum(score[row], score[row].max() - prices[row])
    kind = score.argmax(axis=1)
    for row, parent in enumerate(parents):
        if parent >= 0 and score[row, kind[parent]] >= score[row].max() - prices[row]:
            kind[row] = kind[parent]
    return kind


def prices_of_change(forest: SwcForest) -> NDArray[np.floating]:
    """``(N,)`` price of a change of kind between each node and its parent.

    It is low if one of the two lies within :data:`AT_FORK` of a fork of their tree.
    """
    near, tree = np.zeros(len(forest), dtype=bool), forest.components
    forks = np.flatnonzero(forest.degree > 2)
    for fork, around in zip(forks, KDTree(forest.xyz).query_ball_point(forest.xyz[forks], AT_FORK), strict=True):
        rows = np.array(around)
        near[rows[tree[rows] == tree[fork]]] = True
    return np.where(near | near[forest.parent], CHANGE_AT_FORK, CHANGE)


def _without_stubs(forest: SwcForest, was_cut: NDArray[np.bool_]) -> SwcForest:
    """The forest without end branches below :data:`STUB` that a cut has left: the kind near a crossing is doubtful."""
    keep = np.ones(len(forest), dtype=bool)
    for branch, ends, length in zip(*spans(forest), strict=True):
        tip, fork = ends[np.argsort(forest.degree[ends])]
        if length < STUB and was_cut[tip] and forest.degree[tip] == 1 and forest.degree[fork] > 2:
            keep[branch[branch != fork]] = False
    kept = subset(forest, keep)
    return rewire(kept, kept.edges)
