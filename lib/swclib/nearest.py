"""Nearest nodes and nearest edges of a finished tree, for many points at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
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
        self._starts, self._ends = starts, ends
        length = np.linalg.norm(ends - starts, axis=1)
        mean = length.mean() if len(length) else 0.0
        pieces = np.ceil(length / mean).astype(np.int64) if mean > 0 else np.zeros(len(length), np.int64)
        pieces[length**2 < SHORTEST_EDGE_SQUARED] = 0
        self._edge_of_middle, middles = cut_edges(starts, ends, pieces)
        self._half_piece = float(np.max(length / np.maximum(pieces, 1), initial=0.0)) / 2 * (1 + 1e-9)
        self._is_uncut = bool((pieces == 1).all())
        self._tree = cKDTree(middles) if len(middles) else None

    @classmethod
    def of(cls, forest: SwcForest) -> EdgeSearch:
        """Search the edges of a forest: edge ``k`` is ``forest.edges[k]``, starting at the child."""
        return cls(forest.xyz[forest.edges[:, 1]], forest.xyz[forest.edges[:, 0]])

    def within(self, points: np.ndarray, radius: np.ndarray | float) -> EdgeHits:
        """Return all pairs of a point (N, 3) and an edge at most ``radius`` (one, or shape (N,)) away.

        They come by point, then by distance, then by edge.
        """
        radius = np.broadcast_to(np.asarray(radius, dtype=np.float64), len(points))
        hits = self._measure(points, *self._propose(points, radius + self._half_piece))
        hits = hits[hits.distance <= radius[hits.point]]
        return hits[np.lexsort((hits.edge, hits.distance, hits.point))]

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
        """Pairs of a point and an edge whose piece has its middle within the radius of that point, each once."""
        if self._tree is None or len(points) == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        if (radius == radius[0]).all():
            near = cKDTree(points).sparse_distance_matrix(self._tree, radius[0], output_type="ndarray")
            point, middle = near["i"], near["j"]
        else:
            found = self._tree.query_ball_point(points, radius, return_sorted=False)
            count = np.fromiter(map(len, found), np.int64, len(found))
            middle = np.fromiter(chain.from_iterable(found), np.int64, count.sum())
            point = np.repeat(np.arange(len(points)), count)
        if self._is_uncut:
            return point, middle
        pair = np.unique(point * len(self._starts) + self._edge_of_middle[middle])
        return np.divmod(pair, len(self._starts))

    def _measure(self, points: np.ndarray, point: np.ndarray, edge: np.ndarray) -> EdgeHits:
        foot = feet(points[point], self._starts[edge], self._ends[edge])
        return EdgeHits(point, edge, distances(points[point], foot), foot)


def cut_edges(starts: np.ndarray, ends: np.ndarray, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the edge (K,) and the middle (K, ndim) of every piece when edge k is cut into ``pieces[k]`` equal ones."""
    edge = np.repeat(np.arange(len(pieces)), pieces)
    number = np.arange(len(edge)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    fraction = (number + 0.5) / pieces[edge]
    return edge, starts[edge] + fraction[:, None] * (ends - starts)[edge]


def feet(points: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the places on edges nearest to points, row by row; all shapes (K, 3).

    The projection ``k = (p - a)(b - a) / |b - a|²`` where it falls inside the box of the edge, else the nearer end.
    The order of operations is PyNeval's, so that comparisons with a threshold come out the same to the last bit.
    """
    along, back = ends - starts, starts - points
    up = -(back[:, 0] * along[:, 0] + back[:, 1] * along[:, 1] + back[:, 2] * along[:, 2])
    down = along[:, 0] ** 2 + along[:, 1] ** 2 + along[:, 2] ** 2
    foot = (up / np.where(down > 0, down, 1.0))[:, None] * along + starts
    is_inside = ((np.minimum(starts, ends) <= foot) & (foot <= np.maximum(starts, ends))).all(axis=1)
    is_start = distances(points, starts) < distances(points, ends)
    return np.where(is_inside[:, None], foot, np.where(is_start[:, None], starts, ends))


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
