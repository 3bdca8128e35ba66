"""Nearest nodes and nearest edges of a finished tree, for many points at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
from numba import njit
from scipy.spatial import cKDTree

from lib.swclib.forest import SwcForest

SHORTEST_EDGE_SQUARED = 1e-7  # shorter edges have no direction: PyNeval 1.1.1 refuses them, here they are passed over
TIED_AT_MOST = 8
PROPOSED = 6  # middles that `EdgeSearch.nearest` looks at first


@dataclass(frozen=True)
class EdgeHits:
    """Pairs of a point and an edge near it.

    Attributes
    ----------
    point, edge : int64, shape (K,)
        Row of the point; number of the edge in the order it was given.
    distance : float64, shape (K,)
    foot : float64, shape (K, 3)
        The place on the edge that is nearest to the point.
    """

    point: np.ndarray
    edge: np.ndarray
    distance: np.ndarray
    foot: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> EdgeHits:
        return EdgeHits(self.point[rows], self.edge[rows], self.distance[rows], self.foot[rows])


class EdgeSearch:
    """Exact search for the edges near many points.

    Each edge is cut into pieces no longer than the mean edge, so there are at most twice as many pieces as edges. A k-d
    tree over the middles of the pieces proposes, the exact distance to the edge decides: an edge at distance d has the
    middle of a piece within d + piece / 2. Memory grows with the number of edges and of pairs found.

    Parameters
    ----------
    starts, ends : float64, shape (M, 3)
    """

    def __init__(self, starts: np.ndarray, ends: np.ndarray) -> None:
        self._starts = np.ascontiguousarray(starts, dtype=np.float64)
        self._ends = np.ascontiguousarray(ends, dtype=np.float64)
        length = np.linalg.norm(ends - starts, axis=1)
        mean = length.mean() if len(length) else 0.0
        pieces = np.ceil(length / mean).astype(np.int64) if mean > 0 else np.zeros(len(length), np.int64)
        pieces[length**2 < SHORTEST_EDGE_SQUARED] = 0
        self._edge_of_middle, middles = cut_edges(starts, ends, pieces)
        self._half_piece = float(np.max(length / np.maximum(pieces, 1), initial=0.0)) / 2 * (1 + 1e-9)
        self._tree = cKDTree(middles) if len(middles) else None

    @classmethod
    def of(cls, forest: SwcForest) -> EdgeSearch:
        """Search the edges of a forest: edge ``k`` is ``forest.edges[k]``, starting at the child."""
        return cls(forest.xyz[forest.edges[:, 1]], forest.xyz[forest.edges[:, 0]])

    def within(self, points: np.ndarray, radius: np.ndarray | float) -> EdgeHits:
        """Return all pairs of a point (N, 3) and an edge at most ``radius`` (one, or shape (N,)) away.

        They come by point, then by distance, then by edge.
        """
        points = np.ascontiguousarray(points, dtype=np.float64)
        radius = np.ascontiguousarray(np.broadcast_to(np.asarray(radius, dtype=np.float64), len(points)))
        point, edge = self._propose(points, radius + self._half_piece)
        return EdgeHits(*_hits(points, radius, self._starts, self._ends, *_grouped(point, edge, len(points))))

    def nearest(self, points: np.ndarray) -> EdgeHits:
        """Return the nearest edge of every point (N, 3), a tie to the lower edge number; K is N, or 0 without edges."""
        if self._tree is None or len(points) == 0:
            return self._measure(points, np.zeros(0, np.int64), np.zeros(0, np.int64))
        k = min(PROPOSED, self._tree.n)
        to_middle, middle = self._tree.query(points, k=np.arange(1, k + 1))
        edge = self._edge_of_middle[middle]
        hits = self._measure(points, np.repeat(np.arange(len(points)), k), edge.ravel())
        distance = hits.distance.reshape(edge.shape)
        best = distance.min(axis=1)
        first = np.where(distance == best[:, None], edge, len(self._starts)).argmin(axis=1)
        found = hits[np.arange(len(points)) * k + first]
        # An edge that was not proposed may be as near, if its middle may lie beyond the last one.
        rest = (
            np.flatnonzero(to_middle[:, -1] <= best + self._half_piece) if k < self._tree.n else np.zeros(0, np.int64)
        )
        others = self.within(points[rest], best[rest])
        others = others[np.unique(others.point, return_index=True)[1]]
        found.edge[rest], found.distance[rest], found.foot[rest] = others.edge, others.distance, others.foot
        return found

    def _propose(self, points: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of a point and an edge with a piece that has its middle within the radius of that point.

        A pair comes once for every such piece.
        """
        if self._tree is None or len(points) == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        if (radius == radius[0]).all():
            near = cKDTree(points).sparse_distance_matrix(self._tree, radius[0], output_type="ndarray")
            return near["i"], self._edge_of_middle[near["j"]]
        found = self._tree.query_ball_point(points, radius, return_sorted=False)
        count = np.fromiter(map(len, found), np.int64, len(found))
        middle = np.fromiter(chain.from_iterable(found), np.int64, count.sum())
        return np.repeat(np.arange(len(points)), count), self._edge_of_middle[middle]

    def _measure(self, points: np.ndarray, point: np.ndarray, edge: np.ndarray) -> EdgeHits:
        """Distance and foot of given pairs, in their order."""
        points = np.ascontiguousarray(points, dtype=np.float64)
        return EdgeHits(point, edge, *_measured(points, self._starts, self._ends, point, edge))


def cut_edges(starts: np.ndarray, ends: np.ndarray, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the edge (K,) and the middle (K, ndim) of every piece when edge k is cut into ``pieces[k]`` equal ones."""
    edge = np.repeat(np.arange(len(pieces)), pieces)
    number = np.arange(len(edge)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    fraction = (number + 0.5) / pieces[edge]
    return edge, starts[edge] + fraction[:, None] * (ends - starts)[edge]


@njit(cache=True)
def _foot(point, start, end, foot):  # pragma: no cover - compiled
    """Write the place on an edge that is nearest to a point to ``foot``, and return its distance.

    The projection ``k = (p - a)(b - a) / |b - a|²`` where it falls inside the box of the edge, else the nearer end.
    The order of operations is PyNeval's, so that comparisons with a threshold come out the same to the last bit.
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
def _measured(points, starts, ends, point, edge):  # pragma: no cover - compiled
    """Distance and foot of each pair."""
    distance, foot = np.empty(len(point)), np.empty((len(point), 3))
    for row in range(len(point)):
        distance[row] = _foot(points[point[row]], starts[edge[row]], ends[edge[row]], foot[row])
    return distance, foot


@njit(cache=True)
def _grouped(point, edge, n):  # pragma: no cover - compiled
    """Return where the edges of each of ``n`` points begin, and the edges by point: a counting sort."""
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
def _hits(points, radius, starts, ends, first, edges):  # pragma: no cover - compiled
    """Return point, edge, distance and foot of the pairs within the radius, each once, in the order of ``within``.

    ``edges[first[i]:first[i + 1]]`` are those proposed for point ``i``; a few, so they are sorted by insertion.
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
            # Another piece of the same edge: its distance is the same, so it lies just before.
            if row > begin and edge[row - 1] == candidate:
                continue
            for later in range(found, row, -1):
                edge[later], distance[later], foot[later] = edge[later - 1], distance[later - 1], foot[later - 1]
            point[found], edge[row], distance[row], foot[row] = i, candidate, d, here
            found += 1
    return point[:found].copy(), edge[:found].copy(), distance[:found].copy(), foot[:found].copy()


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Euclidean distances, row by row, of points (..., 3)."""
    d = a - b
    return np.sqrt(d[..., 0] * d[..., 0] + d[..., 1] * d[..., 1] + d[..., 2] * d[..., 2])


def nearest_nodes(forest: SwcForest, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the row of the nearest node for every point (N, 3), and its distance.

    A tie goes to the node that comes first in the file. (More than eight nodes at one distance are not told apart.)
    Without nodes: row -1, distance inf.
    """
    if len(forest) == 0:
        return np.full(len(points), -1), np.full(len(points), np.inf)
    k = np.arange(1, min(TIED_AT_MOST, len(forest)) + 1)
    near = cKDTree(forest.xyz).query(points, k=k)[1]
    distance = distances(points[:, None], forest.xyz[near])
    best = distance.min(axis=1, initial=np.inf)
    place = np.where(distance == best[:, None], forest.file_order[near], len(forest))
    return near[np.arange(len(points)), place.argmin(axis=1)], best
