"""Nearest nodes and edges of a finished forest, for many points at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
from numba import njit
from scipy.spatial import KDTree

from lib.swclib.forest import SwcForest, enumerate_groups

MIN_LENGTH_SQUARED = 1e-7  # shorter edges have no direction: PyNeval 1.1.1 refuses them, we ignore them
MAX_TIED = 8  # equally near nodes that `nearest_nodes` compares
FIRST_CANDIDATES = 6  # pieces that `EdgeSearch.nearest` measures before it searches by radius


@dataclass(frozen=True)
class EdgeHits:
    """Pairs of a point and an edge near it.

    Attributes
    ----------
    point, edge
        int64 ``(K,)`` row of the point, row of the edge.
    distance
        float64 ``(K,)`` in the unit of the coordinates.
    foot
        float64 ``(K, 3)`` the place on the edge nearest to the point.
    """

    point: np.ndarray
    edge: np.ndarray
    distance: np.ndarray
    foot: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> EdgeHits:
        return EdgeHits(self.point[rows], self.edge[rows], self.distance[rows], self.foot[rows])


class EdgeSearch:
    """Exact search for the edges near many points.

    Each edge is cut into pieces no longer than the mean edge, which gives at most two pieces per edge on average. A k-d
    tree of their midpoints finds candidates, because an edge at distance d has a midpoint within d + half a piece; then
    the exact distances decide. Memory grows with the number of edges and of pairs found.

    Parameters
    ----------
    starts, ends
        ``(M, 3)`` ends of the edges.
    """

    def __init__(self, starts: np.ndarray, ends: np.ndarray) -> None:
        self._starts = np.ascontiguousarray(starts, dtype=np.float64)
        self._ends = np.ascontiguousarray(ends, dtype=np.float64)
        length = np.linalg.norm(ends - starts, axis=1)
        mean = length.mean() if len(length) else 0.0
        pieces = np.ceil(length / mean).astype(np.int64) if mean > 0 else np.zeros(len(length), np.int64)
        pieces[length**2 < MIN_LENGTH_SQUARED] = 0
        self._edge_of_piece, number = enumerate_groups(pieces)
        fraction = (number + 0.5) / pieces[self._edge_of_piece]
        midpoints = starts[self._edge_of_piece] + fraction[:, None] * (ends - starts)[self._edge_of_piece]
        self._half_piece = float(np.max(length / np.maximum(pieces, 1), initial=0.0)) / 2 * (1 + 1e-9)
        self._tree = KDTree(midpoints) if len(midpoints) else None

    @classmethod
    def of(cls, forest: SwcForest) -> EdgeSearch:
        """Index the edges of a forest: edge ``k`` is ``forest.edges[k]``, starting at the child."""
        return cls(forest.xyz[forest.edges[:, 1]], forest.xyz[forest.edges[:, 0]])

    def within(self, points: np.ndarray, radius: np.ndarray | float) -> EdgeHits:
        """Return all pairs of a point and an edge at most ``radius`` away, by point, then distance, then edge.

        Parameters
        ----------
        points
            ``(N, 3)``
        radius
            One number, or ``(N,)``.
        """
        points = np.ascontiguousarray(points, dtype=np.float64)
        radius = np.ascontiguousarray(np.broadcast_to(np.asarray(radius, dtype=np.float64), len(points)))
        point, edge = self._candidates(points, radius + self._half_piece)
        first, edges = _group_by_point(point, edge, len(points))
        return EdgeHits(*_hits_within(points, radius, self._starts, self._ends, first, edges))

    def nearest(self, points: np.ndarray) -> EdgeHits:
        """Return the nearest edge of each point ``(N, 3)``, the lower row on a tie; N pairs, none without edges."""
        if self._tree is None or len(points) == 0:
            return self._measure(points, np.zeros(0, np.int64), np.zeros(0, np.int64))
        k = min(FIRST_CANDIDATES, self._tree.n)
        to_midpoint, piece = (np.reshape(found, (-1, k)) for found in self._tree.query(points, k=k))
        edge = self._edge_of_piece[piece]
        hits = self._measure(points, np.repeat(np.arange(len(points)), k), edge.ravel())
        distance = hits.distance.reshape(edge.shape)
        best = distance.min(axis=1)
        first = np.where(distance == best[:, None], edge, len(self._starts)).argmin(axis=1)
        found = hits[np.arange(len(points)) * k + first]
        # Another edge may be nearer if its midpoint can lie beyond the last candidate.
        rest = np.flatnonzero((to_midpoint[:, -1] <= best + self._half_piece) & (k < self._tree.n))
        others = self.within(points[rest], best[rest])
        others = others[np.unique(others.point, return_index=True)[1]]
        found.edge[rest], found.distance[rest], found.foot[rest] = others.edge, others.distance, others.foot
        return found

    def _candidates(self, points: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of a point and an edge, once for each piece whose midpoint lies within the radius of the point."""
        if self._tree is None or len(points) == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        if (radius == radius[0]).all():
            near = KDTree(points).sparse_distance_matrix(self._tree, radius[0], output_type="ndarray")
            return near["i"], self._edge_of_piece[near["j"]]
        found = self._tree.query_ball_point(points, radius, return_sorted=False)
        count = np.fromiter(map(len, found), np.int64, len(found))
        piece = np.fromiter(chain.from_iterable(found), np.int64, count.sum())
        return np.repeat(np.arange(len(points)), count), self._edge_of_piece[piece]

    def _measure(self, points: np.ndarray, point: np.ndarray, edge: np.ndarray) -> EdgeHits:
        """Measure the given pairs, in their order."""
        points = np.ascontiguousarray(points, dtype=np.float64)
        return EdgeHits(point, edge, *_measure_pairs(points, self._starts, self._ends, point, edge))


@njit(cache=True)
def _foot(point, start, end, foot):  # pragma: no cover - compiled
    """Write the place on an edge nearest to a point into ``foot``, and return its distance.

    The place is the projection ``k = (p - a)(b - a) / |b - a|²`` if it is inside the box of the edge, else the nearer
    end. The order of operations is PyNeval's, so that comparisons with a threshold agree to the last bit.
    """
    up, down, to_start, to_end = 0.0, 0.0, 0.0, 0.0
    for axis in range(3):
        along, back, ahead = end[axis] - start[axis], start[axis] - point[axis], point[axis] - end[axis]
        up += back * along
        down += along * along
        to_start += back * back
        to_end += ahead * ahead
    is_inside = True
    for axis in range(3):
        foot[axis] = (-up / (down if down > 0 else 1.0)) * (end[axis] - start[axis]) + start[axis]
        low, high = min(start[axis], end[axis]), max(start[axis], end[axis])
        is_inside = is_inside and low <= foot[axis] <= high
    if not is_inside:
        foot[:] = start if np.sqrt(to_start) < np.sqrt(to_end) else end
    squared = 0.0
    for axis in range(3):
        squared += (point[axis] - foot[axis]) * (point[axis] - foot[axis])
    return np.sqrt(squared)


@njit(cache=True)
def _measure_pairs(points, starts, ends, point, edge):  # pragma: no cover - compiled
    """Distance ``(K,)`` and foot ``(K, 3)`` of each pair."""
    distance, foot = np.empty(len(point)), np.empty((len(point), 3))
    for row in range(len(point)):
        distance[row] = _foot(points[point[row]], starts[edge[row]], ends[edge[row]], foot[row])
    return distance, foot


@njit(cache=True)
def _group_by_point(point, edge, n):  # pragma: no cover - compiled
    """Counting sort: where the edges of each of ``n`` points begin, and the edges by point."""
    first = np.zeros(n + 1, np.int64)
    for row in range(len(point)):
        first[point[row] + 1] += 1
    first = np.cumsum(first)
    place, by_point = first[:-1].copy(), np.empty(len(point), np.int64)
    for row in range(len(point)):
        by_point[place[point[row]]] = edge[row]
        place[point[row]] += 1
    return first, by_point


@njit(cache=True)
def _hits_within(points, radius, starts, ends, first, edges):  # pragma: no cover - compiled
    """Point, edge, distance and foot of the pairs within the radius, without repeats, in the order of ``within``.

    The candidates of point ``i`` are ``edges[first[i]:first[i + 1]]``: few, hence the insertion sort.
    """
    n = len(edges)
    point, edge = np.empty(n, np.int64), np.empty(n, np.int64)
    distance, foot, here = np.empty(n), np.empty((n, 3)), np.empty(3)
    found = 0
    for i in range(len(points)):
        begin = found
        for candidate in edges[first[i] : first[i + 1]]:
            d = _foot(points[i], starts[candidate], ends[candidate], here)
            if d > radius[i]:
                continue
            row = found
            while row > begin and (distance[row - 1] > d or (distance[row - 1] == d and edge[row - 1] > candidate)):
                row -= 1
            # Another piece of the same edge has the same distance, so its hit is the one just before.
            if row > begin and edge[row - 1] == candidate:
                continue
            for later in range(found, row, -1):
                edge[later], distance[later], foot[later] = edge[later - 1], distance[later - 1], foot[later - 1]
            point[found], edge[row], distance[row], foot[row] = i, candidate, d, here
            found += 1
    return point[:found].copy(), edge[:found].copy(), distance[:found].copy(), foot[:found].copy()


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Euclidean distances between points ``(..., 3)``, row by row."""
    d = a - b
    return np.sqrt(d[..., 0] * d[..., 0] + d[..., 1] * d[..., 1] + d[..., 2] * d[..., 2])


def nearest_nodes(forest: SwcForest, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the node of a forest nearest to each point; of up to eight tied nodes the first in the file.

    Parameters
    ----------
    forest
        The nodes.
    points
        ``(N, 3)`` in SWC order (x, y, z).

    Returns
    -------
    row, distance
        int64 and float64 ``(N,)``; -1 and inf if the forest has no nodes.
    """
    if len(forest) == 0:
        return np.full(len(points), -1), np.full(len(points), np.inf)
    k = min(MAX_TIED, len(forest))
    near = np.reshape(KDTree(forest.xyz).query(points, k=k)[1], (-1, k))
    distance = distances(points[:, None], forest.xyz[near])
    best = distance.min(axis=1, initial=np.inf)
    place = np.where(distance == best[:, None], forest.file_order[near], len(forest))
    return near[np.arange(len(points)), place.argmin(axis=1)], best
