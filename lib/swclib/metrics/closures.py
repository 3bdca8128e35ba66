"""Closures: segments that close the loops that a gold tree had to cut, because SWC cannot store a loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import dijkstra

from lib.swclib.forest import SwcForest
from lib.swclib.nearest import EdgeSearch, distances

CLOSE_RADIUS = 6.0
"""Widest gap of a cut loop, in the unit of the coordinates (docs/metrics.md, protocol ``closed``)."""
CLOSE_LENGTH = 20.0
"""Shortest path around a loop, in the unit of the coordinates (docs/metrics.md, protocol ``closed``)."""


@dataclass(frozen=True)
class Closures:
    """Segments from ends of a tree to the nearest edge.

    Attributes
    ----------
    end
        int64 ``(C,)`` rows of the ends.
    edge
        int64 ``(C,)`` the row in ``forest.edges`` that each end is joined to.
    start, foot
        float64 ``(C, 3)`` the segments in SWC order (x, y, z), from the end to the place on the edge.
    """

    end: np.ndarray
    edge: np.ndarray
    start: np.ndarray
    foot: np.ndarray

    @property
    def length(self) -> np.ndarray:
        """``(C,)`` length of every segment."""
        return distances(self.start, self.foot)


def find_closures(
    forest: SwcForest, *, radius: float = CLOSE_RADIUS, min_loop: float = CLOSE_LENGTH, between_trees: bool = True
) -> Closures:
    """Join every end (leaf, or root with one child) to the nearest edge that closes a loop.

    Parameters
    ----------
    forest
        The tree with cut loops.
    radius
        Largest distance from the end to the edge.
    min_loop
        The path along the tree from the end to the place on the edge must be longer than this.
    between_trees
        Whether an end may also be joined to another tree.
    """
    ends = np.flatnonzero(forest.degree == 1)
    hits = EdgeSearch.of(forest).within(forest.xyz[ends], radius)
    end, edges = ends[hits.point], forest.edges[hits.edge]
    paths = (forest.path_distance(end, node) + distances(forest.xyz[node], hits.foot) for node in edges.T)
    path = np.minimum(*paths)
    hits = hits[(path > min_loop) & (between_trees | np.isfinite(path))]
    hits = hits[np.unique(hits.point, return_index=True)[1]]  # the first hit of a point is the nearest
    end = ends[hits.point]
    return Closures(end, hits.edge, forest.xyz[end], hits.foot)


def closed_distance(forest: SwcForest, closures: Closures, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the shortest path between pairs of rows ``(K,)`` that may use the closures; inf where there is none.

    Runs Dijkstra's algorithm from every ``a``, so it suits only a few pairs.
    """
    edges = forest.edges[closures.edge]
    detour = closures.length[:, None] + distances(forest.xyz[edges], closures.foot[:, None])
    rows = np.concatenate([forest.edges, np.stack([np.repeat(closures.end, 2), edges.ravel()], axis=1)])
    graph = length_matrix(len(forest), rows, np.concatenate([forest.edge_lengths, detour.ravel()]))
    sources, place = np.unique(a, return_inverse=True)
    return dijkstra(graph, directed=False, indices=sources)[place, b]


def length_matrix(count: int, edges: np.ndarray, lengths: np.ndarray) -> csr_array:
    """Sparse matrix ``(N, N)`` of undirected edges ``(M, 2)`` between ``count`` nodes, for the searches of scipy.

    Of several edges between two nodes the shortest counts.
    """
    low, high = edges.min(axis=1), edges.max(axis=1)
    # A sparse matrix sums duplicate entries, but the shortest is needed; an explicit zero would mean "no edge".
    order = np.lexsort((lengths, high, low))
    first = order[np.unique(low[order] * count + high[order], return_index=True)[1]]
    weights = np.maximum(lengths[first], np.finfo(np.float64).tiny)
    return coo_array((weights, (low[first], high[first])), shape=(count, count)).tocsr()
