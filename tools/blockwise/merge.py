"""One forest from the traces of all cells: the shortest joins first, in a total order, where no loop closes.

A spanning forest of least cost is the same whatever the order in which the cells were finished. A loop that lies in
several cells is then cut at the least probable of its edges that meet a fork, where the tracer would have cut it, and
not always at a face.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from lib.swclib import SwcForest, prune_spurs, rooted_at_somata, subset
from lib.swclib.forest import adjacency
from tools.blockwise.cells import CellTrace
from tools.blockwise.seams import Seam
from tools.tracing.cleanup.pruning import LONG_TREE

ROUND_TRIP = 20.0
"""Units. A join that is left out closes a loop only if the path around it is longer than the join by this much; see
:data:`tools.tracing.growth.graph.ROUND_TRIP`."""


@dataclass(frozen=True)
class Merged:
    """The trace of a whole image, in units.

    Attributes
    ----------
    forest
        The trees; the root of every tree is an end, radii are in image pixels. Row ``id - 1`` of the arrays below is of
        the node with that id.
    probability
        ``(N,)`` centerline probability.
    ahead
        ``(N,)`` probability ahead of ends.
    is_doubtful
        bool ``(N,)`` whether its cell took the tree for noise that may go on elsewhere.
    step
        ``(N,)`` mean step of its cell, in units.
    joined
        Ids of the nodes at which joins end.
    loops
        int64 ``(L, 2)`` ids of nodes of which an edge would close a loop.
    """

    forest: SwcForest
    probability: np.ndarray
    ahead: np.ndarray
    is_doubtful: np.ndarray
    step: np.ndarray
    joined: np.ndarray
    loops: np.ndarray


def merge(numbers: Sequence[int], traces: Sequence[CellTrace], seams: Sequence[Seam], sizes: np.ndarray) -> Merged:
    """Join the traces of cells.

    Parameters
    ----------
    numbers, traces, seams
        Of each cell, in the order of the grid: its number, its trace, and how it meets its neighbours.
    sizes
        ``(ndim,)`` size of a work pixel in units.
    """
    plan = _Structure.of(numbers, traces, seams, sizes)

    def of_nodes(name: str, dtype: type = float) -> np.ndarray:
        return _stacked([getattr(trace, name) for trace in traces], (0,), dtype)[plan.is_kept]

    def of_cells(values: Sequence[float]) -> np.ndarray:
        return np.repeat(values, list(map(len, traces)))[plan.is_kept]

    positions, probability = _positions(traces, sizes)[plan.is_kept], of_nodes("probability")
    edges = np.concatenate([plan.edges, plan.joins])
    forest = SwcForest.from_edges(positions, edges)
    loops, cell = _true_loops(forest, plan.left_out + 1), of_cells(numbers)
    is_across = np.ptp(cell[loops - 1], axis=1) > 0
    if is_across.any():
        edges, cut = cut_at_forks(np.concatenate([edges, loops[is_across] - 1]), probability)
        forest = SwcForest.from_edges(positions, edges)
        loops = np.concatenate([loops[~is_across], cut + 1])
    rows = forest.ids - 1
    return Merged(
        forest=replace(forest, types=of_nodes("types", int)[rows], radius=of_nodes("radius")[rows]),
        probability=probability,
        ahead=of_nodes("ahead"),
        is_doubtful=of_nodes("is_doubtful", bool),
        step=of_cells([trace.step for trace in traces]),
        joined=np.flatnonzero(np.bincount(plan.joins.ravel())) + 1,
        loops=loops,
    )


@dataclass(frozen=True)
class _Structure:
    """Which nodes of all cells stay, bool ``(N,)``, and how they are connected: pairs of rows among those that stay.

    ``edges`` are those of the cells, ``joins`` lie between cells, and ``left_out`` are joins that would close a loop.
    """

    is_kept: np.ndarray
    edges: np.ndarray
    joins: np.ndarray
    left_out: np.ndarray

    @classmethod
    def of(
        cls, numbers: Sequence[int], traces: Sequence[CellTrace], seams: Sequence[Seam], sizes: np.ndarray
    ) -> _Structure:
        """From the arguments of :func:`merge`."""
        first = np.cumsum([0, *map(len, traces)])
        start = np.full(max(numbers, default=-1) + 2, -1)
        start[np.array(numbers, dtype=int)] = first[:-1]
        same = _stacked([seam.same for seam in seams], (0, 2), int)
        stands = np.where(same[:, 0] < 0, np.arange(len(same)), start[same[:, 0]] + same[:, 1])
        del same  # Of many cells, all arrays that need not stay are let go: what is left here sets the memory.
        while not np.array_equal(further := stands[stands], stands):
            stands = further
        is_kept = stands == np.arange(len(stands))
        joins = _records(traces, seams, first, start, stands, is_kept, _positions(traces, sizes))
        del stands
        edges = _stacked([trace.edges + at for trace, at in zip(traces, first, strict=False)], (0, 2), int)
        edges = edges[is_kept[edges].all(axis=1)]
        chosen = shortest_joins(edges, joins, len(is_kept))
        row = np.cumsum(is_kept) - 1
        return cls(is_kept, row[edges], row[joins[chosen]], row[joins[~chosen]])


def _positions(traces: Sequence[CellTrace], sizes: np.ndarray) -> np.ndarray:
    """Positions ``(N, ndim)`` of the nodes of all cells, in units."""
    return _stacked([trace.positions for trace in traces], (0, len(sizes))) * sizes


def _stacked(arrays: Sequence[np.ndarray], empty: tuple[int, ...], dtype: type = float) -> np.ndarray:
    """Arrays one after the other; ``empty`` is the shape of none."""
    return np.concatenate([np.zeros(empty, dtype), *arrays]).astype(dtype, copy=False)


def _records(
    traces: Sequence[CellTrace],
    seams: Sequence[Seam],
    first: np.ndarray,
    start: np.ndarray,
    stands: np.ndarray,
    is_kept: np.ndarray,
    positions: np.ndarray,
) -> np.ndarray:
    """All joins that are possible, rows ``(K, 2)``, in their total order: by length, then by place.

    Those of the seams, and those that a cell left out because they closed a loop there.
    """
    across = _stacked([seam.joins for seam in seams], (0, 4), int)
    pairs = stands[np.stack([start[across[:, at]] + across[:, at + 1] for at in (0, 2)], axis=1)]
    inner = _stacked([trace.loops + at for trace, at in zip(traces, first, strict=False)], (0, 2), int)
    pairs = np.concatenate([pairs, inner[is_kept[inner].all(axis=1)]])
    pairs = pairs[is_kept[pairs].all(axis=1) & (pairs[:, 0] != pairs[:, 1])]
    cost = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    places = [positions[pairs[:, end], axis] for end in (1, 0) for axis in reversed(range(positions.shape[1]))]
    order = np.lexsort((*places, cost.round(6)))
    return pairs[order]


def shortest_joins(edges: np.ndarray, joins: np.ndarray, count: int) -> np.ndarray:
    """Choose joins in their order, each unless it closes a loop with the edges and those before it (Kruskal 1956).

    Parameters
    ----------
    edges
        int64 ``(M, 2)`` edges of a forest of ``count`` nodes.
    joins
        int64 ``(K, 2)`` in their order.
    count
        Number of nodes.

    Returns
    -------
    ndarray
        bool ``(K,)``.
    """
    trees, tree = connected_components(adjacency(edges, count), directed=False)
    return spanning(tree[joins], trees)


def cut_at_forks(edges: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut each loop at the least probable of its edges that meet a fork.

    Parameters
    ----------
    edges
        int64 ``(M, 2)`` edges that close loops.
    probability
        ``(N,)`` of the nodes; that of an edge is the lower one of its ends.

    Returns
    -------
    tuple of ndarray
        The edges ``(M - L, 2)`` of a forest, and those ``(L, 2)`` that are cut.
    """
    degree = np.bincount(edges.ravel(), minlength=len(probability))
    at_fork = (degree[edges] > 2).any(axis=1)
    order = np.lexsort((-probability[edges].min(axis=1), at_fork))
    stays = np.zeros(len(edges), bool)
    stays[order] = spanning(edges[order], len(probability))
    return edges[stays], edges[~stays]


def spanning(edges: np.ndarray, count: int) -> np.ndarray:
    """Choose edges ``(M, 2)`` of ``count`` nodes in their order, each unless it closes a loop with those before it.

    Returns bool ``(M,)`` (Kruskal 1956).
    """
    pairs = np.sort(edges.reshape(-1, 2), axis=1)
    # Of edges between the same two nodes, the matrix can hold the first alone.
    _, first = np.unique(pairs, axis=0, return_index=True)
    first = first[pairs[first, 0] != pairs[first, 1]]
    weights = coo_matrix((first + 1.0, pairs[first].T), shape=(count, count)).tocsr()
    chosen = np.zeros(len(pairs), bool)
    chosen[minimum_spanning_tree(weights).data.astype(int) - 1] = True
    return chosen


def _true_loops(forest: SwcForest, joins: np.ndarray) -> np.ndarray:
    """Of joins ``(K, 2)`` of ids that were left out, those around which a path leads that is much longer."""
    if not len(joins):
        return joins.reshape(-1, 2)
    row = np.empty(len(forest) + 1, int)
    row[forest.ids] = np.arange(len(forest))
    ends = row[joins]
    around = forest.path_distance(ends[:, 0], ends[:, 1])
    straight = np.linalg.norm(forest.xyz[ends[:, 0]] - forest.xyz[ends[:, 1]], axis=1)
    return joins[np.isfinite(around) & (around > straight + ROUND_TRIP)].reshape(-1, 2)


def cleaned(merged: Merged, spur: float) -> SwcForest:
    """The forest of a merge, after the rules that need more than one cell; ids as there.

    Trees that every cell took for noise are dropped, if they are short as a whole, and spurs of less than ``spur``
    units that the joins made, and nodes without an edge.
    """
    forest, rows = merged.forest, merged.forest.ids - 1
    tree = forest.components
    steps = np.bincount(
        tree[forest.edges[:, 1]], forest.edge_lengths / merged.step[rows[forest.edges[:, 1]]], len(forest.roots)
    )
    sure = np.bincount(tree, ~merged.is_doubtful[rows], len(forest.roots)) > 0
    forest = subset(forest, (sure | (steps + 1 > LONG_TREE))[tree])
    forest = prune_spurs(forest, spur, forks=merged.joined)
    return rooted_at_somata(subset(forest, forest.degree > 0))
