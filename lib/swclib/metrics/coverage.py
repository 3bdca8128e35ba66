"""Coverage, offset, end points and branch points: what the published metrics do not measure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from lib.swclib.forest import SwcForest
from lib.swclib.metrics.f1 import F1, share
from lib.swclib.nearest import EdgeHits, EdgeSearch, distances
from lib.swclib.transform import subdivide
from lib.vectors import unit


@dataclass(frozen=True)
class Coverage:
    """Length of one tree that lies near the other tree.

    Attributes
    ----------
    near, total
        Length that is near, and length of the tree.
    offset
        Mean of (place on this tree - nearest place on the other) over the near length, (z, y, x); None if nothing is
        near. Opposite offsets cancel. Because a shift along an edge cannot be seen, a shift of the whole tree gives
        about half its size.
    shift
        The shift of the whole tree that best explains the offsets, (z, y, x), from their parts perpendicular to the
        edges; it has full size. 0 along an axis that no edge crosses.
    """

    near: float
    total: float
    offset: tuple[float, float, float] | None
    shift: tuple[float, float, float] | None

    @property
    def value(self) -> float | None:
        """Near share of the length; None for a tree without length."""
        return share(self.near, self.total) if self.total > 0 else None


def coverage(tree: SwcForest, other: SwcForest, *, threshold: float = 2.0) -> Coverage:
    """Measure the length of ``tree`` that is nearer than ``threshold`` to an edge of ``other``.

    Edges are cut into pieces of at most half the threshold; each piece is judged by its midpoint.

    Parameters
    ----------
    tree, other
        The gold and the test for coverage, the reverse for the share of the test on the gold.
    threshold
        In the unit of the coordinates.
    """
    pieces, hits = _nearest_to_pieces(tree, other, threshold)
    weight = pieces.edge_lengths[hits.point]
    near = float(weight.sum())
    if near == 0.0:
        return Coverage(0.0, tree.length, None, None)
    offset = _midpoints(pieces)[hits.point] - hits.foot
    shift = _common_shift(offset, other.xyz[other.edges[hits.edge]], weight)
    mean = np.average(offset, axis=0, weights=weight)
    return Coverage(near, tree.length, tuple(mean[::-1].tolist()), tuple(shift[::-1].tolist()))


def _common_shift(offset: np.ndarray, edges: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Least-squares shift d, given the part of each ``offset`` ``(K, 3)`` perpendicular to its edge ``(K, 2, 3)``.

    With the edge direction t and P = I - t tᵀ, an offset shows P d, so d solves (Σ w P) d = Σ w P offset.
    """
    along = unit(edges[:, 1] - edges[:, 0])
    visible = offset - along * (along * offset).sum(axis=1, keepdims=True)
    projections = weight.sum() * np.eye(3) - np.einsum("k,ki,kj", weight, along, along)
    return np.linalg.pinv(projections / weight.sum(), rcond=1e-3) @ np.average(visible, axis=0, weights=weight)


def near_pieces(tree: SwcForest, other: SwcForest, *, threshold: float = 2.0) -> tuple[SwcForest, np.ndarray]:
    """Return the pieces of ``tree`` that `coverage` judges, and whether each edge is near, bool ``(M,)``."""
    pieces, hits = _nearest_to_pieces(tree, other, threshold)
    is_near = np.zeros(len(pieces.edges), dtype=bool)
    is_near[hits.point] = True
    return pieces, is_near


def _nearest_to_pieces(tree: SwcForest, other: SwcForest, threshold: float) -> tuple[SwcForest, EdgeHits]:
    """Cut a tree into pieces and find the nearest place of the other tree for each near piece."""
    pieces = subdivide(tree, threshold / 2)
    hits = EdgeSearch.of(other).nearest(_midpoints(pieces))
    return pieces, hits[hits.distance < threshold]


def _midpoints(forest: SwcForest) -> np.ndarray:
    return forest.xyz[forest.edges].mean(axis=1)


def end_point_f1(gold: SwcForest, test: SwcForest, *, threshold: float = 4.0) -> F1:
    """Return the F1 of the end points (nodes with one edge), paired by `match_one_to_one`."""
    return _match_points(gold.xyz[gold.degree == 1], test.xyz[test.degree == 1], threshold)


def branch_point_f1(gold: SwcForest, test: SwcForest, *, threshold: float = 4.0) -> F1:
    """Return the F1 of the branch points (nodes with three or more edges), paired by `match_one_to_one`."""
    return _match_points(gold.xyz[gold.degree > 2], test.xyz[test.degree > 2], threshold)


def _match_points(gold: np.ndarray, test: np.ndarray, threshold: float) -> F1:
    matched = len(match_one_to_one(gold, test, threshold)[0])
    return F1(matched, len(gold), matched, len(test))


def match_one_to_one(a: np.ndarray, b: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Pair points one to one: as many pairs as possible, then the smallest total distance.

    Points far from each other cannot compete, so each cluster of candidates is solved separately (Kuhn-Munkres).

    Parameters
    ----------
    a, b
        ``(N, 3)`` and ``(M, 3)`` points.
    threshold
        Pairs are nearer than this.

    Returns
    -------
    rows_a, rows_b
        int64 ``(K,)`` rows of the pairs.
    """
    if len(a) == 0 or len(b) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    near = KDTree(a).sparse_distance_matrix(KDTree(b), threshold, output_type="ndarray")
    near = near[near["v"] < threshold]
    graph = coo_matrix((np.ones(len(near)), (near["i"], near["j"] + len(a))), shape=(len(a) + len(b),) * 2)
    cluster = connected_components(graph, directed=False)[1]
    pairs = [_match_cluster(a, b, near[cluster[near["i"]] == k], threshold) for k in np.unique(cluster[near["i"]])]
    rows = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), np.int64)
    return rows[0], rows[1]


def _match_cluster(a: np.ndarray, b: np.ndarray, near: np.ndarray, threshold: float) -> np.ndarray:
    i, j = np.unique(near["i"]), np.unique(near["j"])
    cost = distances(a[i][:, None], b[j][None])
    # A pair beyond the threshold costs more than all other pairs together, so it never replaces one of them.
    cost = np.where(cost < threshold, cost, threshold * (len(i) + len(j)))
    row, column = linear_sum_assignment(cost)
    kept = cost[row, column] < threshold
    return np.stack([i[row[kept]], j[column[kept]]])
