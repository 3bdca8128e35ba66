"""Where the traces of neighbouring cells meet: what both have, and how the rest is joined.

Of two cells, the one that comes first in the grid keeps what both have traced. A node of the later cell that lies on a
trace of an earlier one is *covered*: it is dropped, and its edges to nodes that are kept become joins. Each cell needs
only its own trace and those of its neighbours, so cells can be worked on in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from lib.swclib.forest import adjacency, enumerate_groups
from lib.vectors import unit
from tools.blockwise.cells import OVERLAP, CellTrace

COVERED = 2.0
"""Units. A node this near to a parallel trace of an earlier cell is the same place: both were moved onto the ridge of
nearly the same map, and tubes nearer than this are one in it."""
PARALLEL = 0.7
"""Least cosine between two such directions: at a crossing a tube lies near another, too."""
REACH = 6.0
"""Units from a kept node to the place where it is joined: a step between nodes, and what may lie between two traces."""
FAR = 8.0
"""Units from an end made by a cut, which nothing covers, to a trace that goes on ahead of it."""
BESIDE = 3.0
"""Most of these units that lie across the tube: tubes 4 units apart are two."""
MOST = 8
"""Places of other traces that are looked at around a node."""


@dataclass(frozen=True)
class Seam:
    """How the trace of a cell meets those of its neighbours.

    Attributes
    ----------
    same
        int64 ``(N, 2)`` of each covered node, the cell and the row of the node that stands for it; -1 where it is kept.
    joins
        int64 ``(K, 4)``: number of a cell and row of a node in it, twice.
    """

    same: np.ndarray
    joins: np.ndarray


@dataclass(frozen=True)
class _Places:
    """Places ``(P, ndim)`` in units along the edges of some traces, at most a unit apart, with what they lie on.

    The direction of the edge, the number of its cell, its nodes ``(P, 2)`` and their places, and its tree: cell and
    component.
    """

    at: np.ndarray
    direction: np.ndarray
    cell: np.ndarray
    edge: np.ndarray
    ends: np.ndarray
    tree: np.ndarray

    @classmethod
    def of(cls, traces: Mapping[int, CellTrace], low: np.ndarray, high: np.ndarray, sizes: np.ndarray) -> _Places:
        """Those between two corners in units."""
        parts = [_along(number, trace, low, high, sizes) for number, trace in traces.items()]
        ndim = len(low)
        none = (
            np.zeros((0, ndim)),
            np.zeros((0, ndim)),
            np.zeros(0, int),
            np.zeros((0, 2), int),
            np.zeros((0, 2, ndim)),
            np.zeros((0, 2), int),
        )
        return cls(*(np.concatenate(column) for column in zip(none, *parts, strict=True)))


def _along(
    number: int, trace: CellTrace, low: np.ndarray, high: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The columns of :class:`_Places` of one trace."""
    positions = trace.positions * sizes
    _, component = connected_components(adjacency(trace.edges, len(trace)), directed=False)
    ends = positions[trace.edges]
    near = ((ends.max(axis=1) >= low) & (ends.min(axis=1) <= high)).all(axis=1)
    edges, ends = trace.edges[near], ends[near]
    along = ends[:, 1] - ends[:, 0]
    length = np.linalg.norm(along, axis=1)
    pieces = np.maximum(np.ceil(length).astype(int), 1) + 1
    edge, step = enumerate_groups(pieces)
    share = (step / np.maximum(pieces[edge] - 1, 1))[:, None]
    at = ends[edge, 0] + share * along[edge]
    direction = unit(along)[edge]
    tree = component[edges[edge, 0]] if len(edges) else np.zeros(0, int)
    labels = np.full(len(at), number)
    return at, direction, labels, edges[edge], ends[edge], np.stack([labels, tree], axis=1).reshape(-1, 2)


def find_seam(
    number: int,
    trace: CellTrace,
    box: tuple[np.ndarray, np.ndarray],
    neighbours: Mapping[int, CellTrace],
    sizes: np.ndarray,
) -> Seam:
    """Find how a cell meets its neighbours.

    Parameters
    ----------
    number, trace, box
        Number of the cell in the grid, its trace and its corners in work pixels.
    neighbours
        Traces of the cells around it, by their numbers.
    sizes
        ``(ndim,)`` size of a work pixel in units.
    """
    low, high = ((corner * sizes + sign * (OVERLAP + FAR)) for corner, sign in zip(box, (-1, 1), strict=True))
    earlier = {each: other for each, other in neighbours.items() if each < number and len(other)}
    places = _Places.of(earlier, low, high, sizes)
    positions = trace.positions * sizes
    match = _matches(positions, trace.edges, places, COVERED)
    covered = match >= 0
    edge_joins = _edge_joins(number, trace, positions, match, places)
    loose = np.flatnonzero(trace.is_cut & ~covered)
    end_joins = _end_joins(number, trace, positions, loose, places)
    same = np.full((len(trace), 2), -1)
    nodes = np.flatnonzero(covered)
    same[nodes] = _joined(number, nodes, positions, match[nodes], places)[:, 2:]
    return Seam(same, np.concatenate([edge_joins, end_joins, _bridges(trace, match, same, places)]))


def _half_edges(edges: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes ``(2M,)``, each once for every edge, and the directions ``(2M, ndim)`` of these edges."""
    node = edges.T.ravel()
    along = unit(positions[edges[:, 1]] - positions[edges[:, 0]])
    return node, np.concatenate([along, along])


def _matches(positions: np.ndarray, edges: np.ndarray, places: _Places, reach: float) -> np.ndarray:
    """Row of the nearest parallel place within ``reach`` of each node ``(N,)``; -1 where there is none."""
    found = np.full(len(positions), -1)
    if not len(places.at) or not len(edges):
        return found
    node, direction = _half_edges(edges, positions)
    distance, row = _nearest(places, positions[node], reach)
    parallel = np.abs(np.einsum("nd,nkd->nk", direction, places.direction[np.minimum(row, len(places.at) - 1)]))
    distance = np.where(parallel >= PARALLEL, distance, np.inf)
    best = distance.argmin(axis=1)
    rows = np.arange(len(node))
    order = np.lexsort((row[rows, best], distance[rows, best]))[::-1]  # The nearest comes last and stays.
    order = order[np.isfinite(distance[rows, best][order])]
    found[node[order]] = row[order, best[order]]
    return found


def _nearest(places: _Places, positions: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances and rows ``(N, k)`` of the places within ``reach``, the nearest first; inf where there are fewer."""
    distance, row = KDTree(places.at).query(positions, k=min(MOST, len(places.at)), distance_upper_bound=reach)
    return distance.reshape(len(positions), -1), row.reshape(len(positions), -1)


def _edge_joins(number: int, trace: CellTrace, positions: np.ndarray, match: np.ndarray, places: _Places) -> np.ndarray:
    """Joins in place of the edges between a node that is kept and one that is covered."""
    halves = np.concatenate([trace.edges, trace.edges[:, ::-1]])
    kept, gone = halves[(match[halves[:, 0]] < 0) & (match[halves[:, 1]] >= 0)].T
    target = match[gone]
    if len(kept):
        # The trace that covers the one node may go on to a place nearer to the other.
        distance, row = _nearest(places, positions[kept], REACH)
        same = (places.tree[np.minimum(row, len(places.at) - 1)] == places.tree[target][:, None]).all(axis=2)
        distance = np.where(same, distance, np.inf)
        best = distance.argmin(axis=1)
        rows = np.arange(len(kept))
        target = np.where(np.isfinite(distance[rows, best]), row[rows, best], target)
    return _joined(number, kept, positions, target, places)


def _bridges(trace: CellTrace, match: np.ndarray, same: np.ndarray, places: _Places) -> np.ndarray:
    """Joins of two trees of earlier cells that are one tree here: their fork lies beyond what they keep."""
    edges = trace.edges[(match[trace.edges] >= 0).all(axis=1)]
    trees = places.tree[match[edges]].reshape(-1, 2, 2)
    return same[edges[(trees[:, 0] != trees[:, 1]).any(axis=1)]].reshape(-1, 4)


def _end_joins(number: int, trace: CellTrace, positions: np.ndarray, ends: np.ndarray, places: _Places) -> np.ndarray:
    """Joins of ends made by the cut that nothing covers."""
    of_ends = trace.edges[np.isin(trace.edges, ends).any(axis=1)]
    match = _matches(positions, of_ends, places, FAR)[ends]
    ends, match = ends[match >= 0], match[match >= 0]
    gap = places.at[match] - positions[ends]
    ahead = np.einsum("nd,nd->n", gap, places.direction[match])
    near = np.linalg.norm(gap - ahead[:, None] * places.direction[match], axis=1) <= BESIDE
    return _joined(number, ends[near], positions, match[near], places)


def _joined(number: int, nodes: np.ndarray, positions: np.ndarray, target: np.ndarray, places: _Places) -> np.ndarray:
    """Joins ``(K, 4)`` from nodes to those of the two ends of the edges of the ``target`` places nearest to them."""
    nearest = np.linalg.norm(places.ends[target] - positions[nodes][:, None], axis=2).argmin(axis=1)
    to = places.edge[target, nearest]
    return np.stack([np.full(len(nodes), number), nodes, places.cell[target], to], axis=1)
