"""PE, ABL and JE: where the test lies, how long it runs unbroken, where it jumps.

From the supplement of NETracer (Liu, Jiang, Zheng, ICCV 2025). Two ways to count are in use, and a third tells jumps
from the gold's own cuts:

============  ===========================================  ==========================================================
protocol      PE                                           JE: a jump if the gold way is longer than ``alpha`` times
============  ===========================================  ==========================================================
paper         to the nearest gold node, below 2            the straight line between the matched gold nodes
experiment    to the nearest gold edge, below 5            the line from the test child to the parent's gold node, and
                                                           longer than 20
closed        as paper                                     as paper, on the gold with its cut loops closed (`closures`)
============  ===========================================  ==========================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from lib.swclib.forest import SwcForest
from lib.swclib.nearest import EdgeSearch, distances, nearest_nodes

Protocol = Literal["paper", "experiment", "closed"]
EDGE_LIMIT = 5.0  # experiment protocol: how far PE looks for an edge
LEAST_JUMP = 20.0  # experiment protocol: shorter gold ways are never a jump
CLOSE_RADIUS = 6.0  # closed protocol: how far a cut loop gapes (docs/metrics.md)
CLOSE_LENGTH = 20.0  # closed protocol: how long the way round must be to be a loop


@dataclass(frozen=True)
class PositionError:
    """PE. ``value`` is the mean distance of the matched test nodes, None if none is matched."""

    value: float | None
    matched: int
    total: int

    @property
    def matched_fraction(self) -> float | None:
        """Share of the test nodes that enter the mean; None for an empty test."""
        return self.matched / self.total if self.total else None


@dataclass(frozen=True)
class BranchLength:
    """ABL. ``value`` is ``length / branches``, None for an empty test."""

    length: float
    branches: int

    @property
    def value(self) -> float | None:
        """Mean length of a branch."""
        return self.length / self.branches if self.branches else None


@dataclass(frozen=True)
class JumpError:
    """JE.

    Attributes
    ----------
    nodes : int64, shape (value,)
        Rows of the test nodes at the lower ends of the jumps.
    ids : int64, shape (value,)
        Their ids in the test file.
    asked : int
        Number of test edges whose child is matched: those that could be jumps.
    """

    nodes: np.ndarray
    ids: np.ndarray
    asked: int

    @property
    def value(self) -> int:
        """Number of jumps."""
        return len(self.nodes)


@dataclass(frozen=True)
class Closures:
    """Segments that close the loops a gold tree had to cut.

    Attributes
    ----------
    end : int64, shape (C,)
        Rows of the gold ends that are joined.
    edge : int64, shape (C,)
        The edge of ``gold.edges`` that each is joined to.
    start, foot : float64, shape (C, 3)
        The segments in SWC order (x, y, z), from the end to the place on the edge.
    """

    end: np.ndarray
    edge: np.ndarray
    start: np.ndarray
    foot: np.ndarray

    @property
    def length(self) -> np.ndarray:
        """Length of every segment, shape (C,)."""
        return distances(self.start, self.foot)


def position_error(
    gold: SwcForest, test: SwcForest, *, protocol: Protocol = "paper", threshold: float = 2.0
) -> PositionError:
    """Return the mean distance of test nodes to the gold.

    Parameters
    ----------
    gold, test
        Trees in the same coordinates.
    protocol
        See the head of this module.
    threshold
        A node enters the mean if it is nearer than this (``experiment``: than 5).
    """
    if protocol == "experiment":
        distance, limit = EdgeSearch.of(gold).nearest(test.xyz).distance, EDGE_LIMIT
    else:
        distance, limit = nearest_nodes(gold, test.xyz)[1], threshold
    matched = distance[distance < limit]
    return PositionError(float(matched.mean()) if len(matched) else None, len(matched), len(test))


def average_branch_length(test: SwcForest) -> BranchLength:
    """Return the total length over the number of branches: roots and nodes with more than one child."""
    return BranchLength(test.length, len(test.roots) + len(test.branch_points))


def jump_error(
    gold: SwcForest,
    test: SwcForest,
    *,
    protocol: Protocol = "paper",
    threshold: float = 2.0,
    alpha: float = 2.0,
    closing: Closures | None = None,
) -> JumpError:
    """Return the test edges whose ends lie far apart along the gold.

    Parameters
    ----------
    gold, test
        Trees in the same coordinates.
    protocol
        See the head of this module.
    threshold
        Only test nodes nearer than this to a gold node are asked; their parents may lie anywhere.
    alpha
        A jump if the way along the gold is longer than ``alpha`` times the straight line, or there is no way.
    closing
        For ``closed``: the closures (default: those of `closures`).
    """
    nearest, distance = nearest_nodes(gold, test.xyz)
    parent, child = test.edges.T
    asked = distance[child] < threshold
    parent, child = parent[asked], child[asked]
    way = gold.path_distance(nearest[child], nearest[parent])
    if protocol == "experiment":
        straight = distances(test.xyz[child], gold.xyz[nearest[parent]])
        is_jump = (way > alpha * straight) & (way > LEAST_JUMP)
    else:
        straight = distances(gold.xyz[nearest[child]], gold.xyz[nearest[parent]])
        is_jump = way > alpha * straight
    if protocol == "closed" and is_jump.any():
        found = np.flatnonzero(is_jump)
        closing = closures(gold) if closing is None else closing
        round_way = closed_distance(gold, closing, nearest[child[found]], nearest[parent[found]])
        is_jump[found] = round_way > alpha * straight[found]
    return JumpError(child[is_jump], test.ids[child[is_jump]], len(child))


def closures(
    gold: SwcForest, *, radius: float = CLOSE_RADIUS, least_way: float = CLOSE_LENGTH, across: bool = True
) -> Closures:
    """Find the loops that a gold tree had to cut.

    Every end (leaf, or root with one child) is joined to the nearest edge at most ``radius`` away whose nearest place
    is more than ``least_way`` away along the tree, or if ``across`` on another tree.
    """
    ends = np.flatnonzero(gold.degree == 1)
    hits = EdgeSearch.of(gold).within(gold.xyz[ends], radius)
    end, edge = ends[hits.point], gold.edges[hits.edge]
    way = np.minimum(*(gold.path_distance(end, node) + distances(gold.xyz[node], hits.foot) for node in edge.T))
    hits = hits[(way > least_way) & (across | np.isfinite(way))]
    hits = hits[np.unique(hits.point, return_index=True)[1]]  # the first of a point is the nearest
    return Closures(ends[hits.point], hits.edge, gold.xyz[ends[hits.point]], hits.foot)


def closed_distance(gold: SwcForest, closing: Closures, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the shortest ways between pairs of rows (K,) when the closures may be used; inf where there is none.

    Dijkstra from every ``a``: meant for the few edges that look like jumps.
    """
    ends_of_edge = gold.edges[closing.edge]
    detour = closing.length[:, None] + distances(gold.xyz[ends_of_edge], closing.foot[:, None])
    rows = np.concatenate([gold.edges[:, 0], np.repeat(closing.end, 2)])
    columns = np.concatenate([gold.edges[:, 1], ends_of_edge.ravel()])
    lengths = np.concatenate([gold.edge_lengths, detour.ravel()])
    # A sparse matrix adds up entries given twice; the shortest of them is meant. Zero would read as "no edge".
    order = np.lexsort((lengths, np.maximum(rows, columns), np.minimum(rows, columns)))
    low, high = np.minimum(rows, columns)[order], np.maximum(rows, columns)[order]
    first = np.unique(low * len(gold) + high, return_index=True)[1]
    weights = np.maximum(lengths[order][first], np.finfo(np.float64).tiny)
    graph = coo_matrix((weights, (low[first], high[first])), shape=(len(gold), len(gold))).tocsr()
    sources, place = np.unique(a, return_inverse=True)
    return dijkstra(graph, directed=False, indices=sources)[place, b]
