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
from lib.swclib.nearest import EdgeHits, EdgeSearch, distances
from lib.swclib.transform import subdivide


@dataclass(frozen=True)
class Coverage:
    """How much of one tree's length lies near the other tree.

    Attributes
    ----------
    near, total : float
        Lengths.
    offset : tuple of 3 floats, or None
        Mean of (place on this tree - nearest place on the other) over the near length, (z, y, x); None if nothing is
        near. Opposite offsets cancel. A shift of the whole tree shows at about half its size, because a shift along an
        edge leaves no trace.
    shift : tuple of 3 floats, or None
        The shift of the whole tree that explains the offsets best: only what stands across the edges is compared, so it
        shows at its full size. 0 along an axis in which nothing runs across.
    """

    near: float
    total: float
    offset: tuple[float, float, float] | None
    shift: tuple[float, float, float] | None

    @property
    def value(self) -> float | None:
        """Share of the length that is near; None for a tree without length."""
        return share(self.near, self.total) if self.total > 0 else None


def coverage(tree: SwcForest, other: SwcForest, *, threshold: float = 2.0) -> Coverage:
    """Return how much of ``tree`` lies nearer than ``threshold`` to an edge of ``other``.

    With the gold first this is coverage, with the test first its twin (how much of the test is on the gold). The edges
    are looked at in pieces no longer than half the threshold, each by its middle.
    """
    pieces, hits = _nearest_to_pieces(tree, other, threshold)
    weight = pieces.edge_lengths[hits.point]
    near = float(weight.sum())
    if near == 0.0:
        return Coverage(0.0, tree.length, None, None)
    offset = _middles(pieces)[hits.point] - hits.foot
    shift = _common_shift(offset, other.xyz[other.edges[hits.edge]], weight)
    mean = np.average(offset, axis=0, weights=weight)
    return Coverage(near, tree.length, tuple(mean[::-1].tolist()), tuple(shift[::-1].tolist()))


def _common_shift(offset: np.ndarray, edges: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Least squares for the shift d of which each ``offset`` (K, 3) shows the part across its edge (K, 2, 3).

    With t the direction of the edge and P = I - t tᵀ what is seen is P d: d solves (Σ w P) d = Σ w P offset.
    """
    along = edges[:, 1] - edges[:, 0]
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    seen = offset - along * (along * offset).sum(axis=1, keepdims=True)
    across = weight.sum() * np.eye(3) - np.einsum("k,ki,kj", weight, along, along)
    return np.linalg.pinv(across / weight.sum(), rcond=1e-3) @ np.average(seen, axis=0, weights=weight)


def near_pieces(tree: SwcForest, other: SwcForest, *, threshold: float = 2.0) -> tuple[SwcForest, np.ndarray]:
    """Return ``tree`` in the pieces that `coverage` looks at, and which of its edges are near: bool of shape (M,)."""
    pieces, hits = _nearest_to_pieces(tree, other, threshold)
    is_near = np.zeros(len(pieces.edges), dtype=bool)
    is_near[hits.point] = True
    return pieces, is_near


def _nearest_to_pieces(tree: SwcForest, other: SwcForest, threshold: float) -> tuple[SwcForest, EdgeHits]:
    """Cut a tree into pieces and find for each the nearest place of the other tree, if it is near."""
    pieces = subdivide(tree, threshold / 2)
    hits = EdgeSearch.of(other).nearest(_middles(pieces))
    return pieces, hits[hits.distance < threshold]


def _middles(forest: SwcForest) -> np.ndarray:
    return forest.xyz[forest.edges].mean(axis=1)


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
