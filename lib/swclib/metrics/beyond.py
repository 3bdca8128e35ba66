"""What the published metrics do not say: what is covered, to which side the test lies, which ends and forks are met."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from lib.swclib.forest import SwcForest
from lib.swclib.metrics.f1 import F1, share
from lib.swclib.nearest import EdgeSearch, cut_edges, distances


@dataclass(frozen=True)
class Coverage:
    """How much of one tree's length lies near the other tree.

    Attributes
    ----------
    near, total : float
        Lengths.
    offset : tuple of 3 floats, or None
        Mean of (place on this tree - nearest place on the other) over the near length, (z, y, x); None if nothing is
        near. Opposite shifts cancel: it shows a shift of the whole tree, such as half a pixel, and at about half its
        size, because a shift along an edge leaves no trace.
    """

    near: float
    total: float
    offset: tuple[float, float, float] | None

    @property
    def value(self) -> float | None:
        """Share of the length that is near; None for a tree without length."""
        return share(self.near, self.total) if self.total > 0 else None


def coverage(tree: SwcForest, other: SwcForest, *, threshold: float = 2.0) -> Coverage:
    """Return how much of ``tree`` lies nearer than ``threshold`` to an edge of ``other``.

    With the gold first this is coverage, with the test first its twin (how much of the test is on the gold). The edges
    are looked at in pieces no longer than half the threshold, each by its middle.
    """
    starts, ends = tree.xyz[tree.edges[:, 1]], tree.xyz[tree.edges[:, 0]]
    pieces = np.ceil(tree.edge_lengths / (threshold / 2)).astype(np.int64)
    edge, middles = cut_edges(starts, ends, pieces)
    weight = tree.edge_lengths[edge] / pieces[edge]
    hits = EdgeSearch.of(other).nearest(middles)
    hits = hits[hits.distance < threshold]
    near = float(weight[hits.point].sum())
    if near == 0.0:
        return Coverage(0.0, tree.length, None)
    shift = np.average(middles[hits.point] - hits.foot, axis=0, weights=weight[hits.point])
    return Coverage(near, tree.length, tuple(shift[::-1].tolist()))


def end_point_f1(gold: SwcForest, test: SwcForest, *, threshold: float = 4.0) -> F1:
    """Return how many end points (nodes with one edge) of the trees are found in each other.

    Pairs are one to one, nearer than ``threshold``, as many as possible and then as near as possible.
    """
    return _match_points(gold.xyz[gold.degree == 1], test.xyz[test.degree == 1], threshold)


def branch_point_f1(gold: SwcForest, test: SwcForest, *, threshold: float = 4.0) -> F1:
    """Return how many branch points (nodes with three or more edges) are found; pairs as in `end_point_f1`."""
    return _match_points(gold.xyz[gold.degree > 2], test.xyz[test.degree > 2], threshold)


def _match_points(gold: np.ndarray, test: np.ndarray, threshold: float) -> F1:
    matched = len(match_one_to_one(gold, test, threshold)[0])
    return F1(matched, len(gold), matched, len(test))


def match_one_to_one(a: np.ndarray, b: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of ``a`` (N, 3) and ``b`` (M, 3) that pair up: the most, then the nearest, below ``threshold``.

    Points far apart cannot compete, so each cluster of mutual candidates is solved by itself (Kuhn-Munkres).
    """
    if len(a) == 0 or len(b) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    near = cKDTree(a).sparse_distance_matrix(cKDTree(b), threshold, output_type="ndarray")
    near = near[near["v"] < threshold]
    graph = coo_matrix((np.ones(len(near)), (near["i"], near["j"] + len(a))), shape=(len(a) + len(b),) * 2)
    cluster = connected_components(graph, directed=False)[1]
    pairs = [_match_cluster(a, b, near[cluster[near["i"]] == k], threshold) for k in np.unique(cluster[near["i"]])]
    rows = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), np.int64)
    return rows[0], rows[1]


def _match_cluster(a: np.ndarray, b: np.ndarray, near: np.ndarray, threshold: float) -> np.ndarray:
    i, j = np.unique(near["i"]), np.unique(near["j"])
    cost = distances(a[i][:, None], b[j][None])
    # A pair out of reach costs more than all pairs within reach together, so that it is never worth one of them.
    cost = np.where(cost < threshold, cost, threshold * (len(i) + len(j)))
    row, column = linear_sum_assignment(cost)
    kept = cost[row, column] < threshold
    return np.stack([i[row[kept]], j[column[kept]]])
