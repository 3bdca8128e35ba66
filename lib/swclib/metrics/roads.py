"""APLS and TOPO: how well a trace does as a network of roads, with its loops.

Symbols: ``N`` nodes, ``M`` edges, ``K`` places on a graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra, maximum_bipartite_matching
from scipy.spatial import KDTree

from lib.swclib.forest import SwcForest
from lib.swclib.metrics.closures import Closures, find_closures, length_matrix
from lib.swclib.metrics.f1 import F1, share
from lib.swclib.nearest import EdgeSearch, distances

SNAP = 4.0
"""APLS: a control point has a partner on the other graph if it is nearer than this (Van Etten et al. 2018: 4 m)."""
CONTROL = 50.0
"""APLS: largest distance of control points along a road (Van Etten et al. 2018: 50 m). TOPO: of starting places."""
REACH, INTERVAL = 300.0, 5.0
"""TOPO: how far one drives from a starting place, and the distance of holes and marbles (Biagioni and Eriksson 2012,
300 m and 5 m)."""
LOOP_GAP = 12.0
"""Widest gap over which an end of a trace that names no loops is joined to its own tree: ``--gap`` of the tracer."""
MATCH = 8.0
"""TOPO: largest distance of a marble from its hole. It differs between papers; He et al. 2020 take 8 m."""


@dataclass(frozen=True)
class Places:
    """Places on a graph: the edge ``(K,)`` of each, and the fraction ``(K,)`` of the way along it."""

    edge: np.ndarray
    fraction: np.ndarray


@dataclass(frozen=True)
class RoadGraph:
    """An undirected graph with straight edges, which may hold loops.

    Attributes
    ----------
    xyz
        float64 ``(N, 3)``.
    edges
        int64 ``(M, 2)``.
    """

    xyz: np.ndarray
    edges: np.ndarray

    @classmethod
    def of(cls, forest: SwcForest, loops: np.ndarray | None = None) -> RoadGraph:
        """A forest with the segments ``(L, 2, 3)`` that close its loops: both ends go to the nearest edges."""
        graph = cls(forest.xyz, forest.edges)
        if loops is None or not len(loops) or not len(forest.edges):
            return graph
        graph, nodes = graph.inserted(graph.nearest(np.reshape(loops, (-1, 3)), np.inf)[1])
        return cls(graph.xyz, np.concatenate([graph.edges, nodes.reshape(-1, 2)]))

    @cached_property
    def lengths(self) -> np.ndarray:
        """``(M,)`` length of every edge."""
        return distances(*self.xyz[self.edges].transpose(1, 0, 2))

    @cached_property
    def matrix(self) -> csr_array:
        """``(N, N)`` lengths of the edges; of several between two nodes the shortest."""
        return length_matrix(len(self.xyz), self.edges, self.lengths)

    def distances(self, nodes: np.ndarray, limit: float = np.inf) -> np.ndarray:
        """``(K, N)`` lengths of the shortest ways from some nodes to all; inf where there is none within ``limit``."""
        return dijkstra(self.matrix, directed=False, indices=nodes, limit=limit)

    def nearest(self, points: np.ndarray, radius: float) -> tuple[np.ndarray, Places]:
        """The nearest places to points ``(P, 3)``.

        Returns
        -------
        found, places
            Rows ``(K,)`` of the points that have an edge within ``radius``, and the places.
        """
        start, end = self.xyz[self.edges].transpose(1, 0, 2)
        search = EdgeSearch(start, end)
        hits = search.nearest(points) if np.isinf(radius) else search.within(points, radius)
        hits = hits[np.unique(hits.point, return_index=True)[1]]  # the first hit of a point is the nearest
        along = np.einsum("ij,ij->i", hits.foot - start[hits.edge], end[hits.edge] - start[hits.edge])
        squared = np.maximum(self.lengths[hits.edge] ** 2, np.finfo(np.float64).tiny)
        return hits.point, Places(hits.edge, np.clip(along / squared, 0, 1))

    def inserted(self, places: Places) -> tuple[RoadGraph, np.ndarray]:
        """The graph with a node at every place, and the nodes ``(K,)``; the ends of edges are nodes already."""
        nodes = self.edges[places.edge, (places.fraction > 0.5).astype(int)]
        inner = np.flatnonzero((places.fraction > 0) & (places.fraction < 1))
        order = inner[np.lexsort((places.fraction[inner], places.edge[inner]))]
        edge, fraction = places.edge[order], places.fraction[order, None]
        made = len(self.xyz) + np.arange(len(order))
        is_first, is_last = (np.ones(len(order), dtype=bool) for _ in range(2))
        is_first[1:] = is_last[:-1] = edge[1:] != edge[:-1]
        before = np.where(is_first, self.edges[edge, 0], made - 1)
        whole = np.ones(len(self.edges), dtype=bool)
        whole[edge] = False
        pieces = [self.edges[whole], np.stack([before, made], axis=1)]
        pieces.append(np.stack([made, self.edges[edge, 1]], axis=1)[is_last])
        start, end = self.xyz[self.edges[edge]].transpose(1, 0, 2)
        nodes[order] = made
        return RoadGraph(np.concatenate([self.xyz, start + fraction * (end - start)]), np.concatenate(pieces)), nodes

    def spaced(self, longest: float) -> tuple[RoadGraph, np.ndarray]:
        """The graph with nodes at most ``longest`` apart along every road, evenly, and those nodes and the junctions.

        A road runs between two junctions, which are nodes without exactly two edges; in a ring without one, from any
        node.
        """
        roads, junctions = self._roads()
        edge, fraction = [], []
        for edges, forward in roads:
            ends = np.cumsum(self.lengths[edges])
            count = max(1, int(np.ceil(ends[-1] / longest - 1e-9)))
            wanted = ends[-1] * np.arange(1, count) / count
            at = np.minimum(np.searchsorted(ends, wanted), len(edges) - 1)
            part = 1 - (ends[at] - wanted) / np.maximum(self.lengths[edges[at]], np.finfo(np.float64).tiny)
            edge.append(edges[at])
            fraction.append(np.where(forward[at], part, 1 - part))
        graph, nodes = self.inserted(Places(np.concatenate([*edge, np.zeros(0, int)]), np.concatenate([*fraction, []])))
        return graph, np.concatenate([junctions, nodes])

    def _roads(self) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
        """Edges of every road in their order, and whether each leads forward; and the junctions."""
        at: list[list[int]] = [[] for _ in self.xyz]
        for number, ends in enumerate(self.edges.tolist()):
            for node in ends:
                at[node].append(number)
        junctions = [node for node, edges in enumerate(at) if len(edges) not in (0, 2)]
        seen, roads, ends = np.zeros(len(self.edges), dtype=bool), [], set(junctions)
        # The nodes of rings come after the junctions: by then all other edges are seen.
        for node in (*junctions, *range(len(at))):
            for first in at[node]:
                if seen[first]:
                    continue
                if node not in ends:
                    ends.add(node)
                    junctions.append(node)
                road, here, edge = [], node, first
                while True:
                    seen[edge] = True
                    start, end = self.edges[edge].tolist()
                    road.append((edge, start == here))
                    here = end if start == here else start
                    following = [each for each in at[here] if not seen[each]]
                    if here in ends or not following:
                        break
                    edge = following[0]
                numbers, forward = zip(*road, strict=True)
                roads.append((np.array(numbers), np.array(forward)))
        return roads, np.array(junctions, dtype=np.int64)


def apls(gold: RoadGraph, test: RoadGraph, *, snap: float = SNAP, control: float = CONTROL) -> float | None:
    """Average path length similarity (Van Etten, Lindenbaum and Bacastow, SpaceNet, 2018), 0 to 1.

    Of every pair of control points of one graph that a way joins, of length L, the partners on the other graph are
    joined by a way of length L'; the pair costs min(1, |L − L'| / L), and 1 where a partner or the way is missing. One
    minus the mean cost, in both directions, and their harmonic mean.

    Parameters
    ----------
    gold, test
        Graphs in the same coordinates.
    snap
        Largest distance of a partner.
    control
        Largest distance of control points along a road.

    Returns
    -------
    float or None
        None if a graph has no way to compare.
    """
    both = [_kept_paths(one, other, snap, control) for one, other in ((gold, test), (test, gold))]
    if both[0] is None:
        return None
    if both[1] is None or not all(both):
        return 0.0
    return 2 / sum(1 / value for value in both if value)


def _kept_paths(one: RoadGraph, other: RoadGraph, snap: float, control: float) -> float | None:
    """One minus the mean cost of the ways of ``one`` on ``other``; None if it has no way."""
    if not len(one.edges):
        return None
    graph, nodes = one.spaced(control)
    lengths = graph.distances(nodes)[:, nodes]
    theirs = np.full_like(lengths, np.inf)
    if len(other.edges):
        found, places = other.nearest(graph.xyz[nodes], snap)
        snapped, partners = other.inserted(places)
        theirs[np.ix_(found, found)] = snapped.distances(partners)[:, partners] if len(found) else np.inf
    pairs = np.triu(np.isfinite(lengths) & (lengths > 0), 1)
    if not pairs.any():
        return None
    cost = np.minimum(1, abs(lengths[pairs] - theirs[pairs]) / lengths[pairs])
    return float(1 - cost.mean())


def topo(
    gold: RoadGraph, test: RoadGraph, *, reach: float = REACH, interval: float = INTERVAL, match: float = MATCH
) -> F1:
    """Agreement of what can be reached from many places (Biagioni and Eriksson, Transp. Res. Rec. 2291, 2012).

    From starting places :data:`CONTROL` apart on the gold one drives up to ``reach`` on both graphs. What is reached is
    marked every ``interval``: holes on the gold, marbles on the test. A marble falls into one hole at most ``match``
    away, as many as possible. Where the test has no road within ``match`` of a start, all its holes stay empty.

    Parameters
    ----------
    gold, test
        Graphs in the same coordinates.
    reach, interval, match
        In their unit.

    Returns
    -------
    F1
        Counts of holes and marbles, summed over the starting places.
    """
    if not len(gold.edges):
        return F1(0, 0, 0, 0)
    holes, hole_nodes = gold.spaced(interval)
    starts = _thinned(gold, holes, hole_nodes)
    reached = holes.distances(starts, reach)[:, hole_nodes] <= reach
    if not len(test.edges):
        return F1(0, int(reached.sum()), 0, 0)
    marbles, marble_nodes = test.spaced(interval)
    near, start_node = KDTree(marbles.xyz[marble_nodes]).query(holes.xyz[starts])
    theirs = marbles.distances(marble_nodes[start_node], reach)[:, marble_nodes] <= reach
    theirs[near > match] = False
    close = KDTree(holes.xyz[hole_nodes]).sparse_distance_matrix(
        KDTree(marbles.xyz[marble_nodes]), match, output_type="coo_matrix"
    )
    pairs = csr_array((np.ones(close.nnz), (close.row, close.col)), shape=close.shape)
    matched = sum(
        int((maximum_bipartite_matching(pairs[hole][:, marble], perm_type="column") >= 0).sum())
        for hole, marble in zip(reached, theirs, strict=True)
        if marble.any()
    )
    return F1(matched, int(reached.sum()), matched, int(theirs.sum()))


def _thinned(gold: RoadGraph, holes: RoadGraph, nodes: np.ndarray) -> np.ndarray:
    """Starting places: of the nodes of ``holes`` those nearest to places :data:`CONTROL` apart on the gold."""
    graph, wanted = gold.spaced(CONTROL)
    return np.unique(nodes[KDTree(holes.xyz[nodes]).query(graph.xyz[wanted])[1]])


def gold_graph(gold: SwcForest) -> RoadGraph:
    """A gold tree with its cut loops closed, as the protocol ``closed`` does (docs/metrics.md)."""
    return RoadGraph.of(gold, _segments(find_closures(gold)))


def trace_graph(trace: SwcForest, loops: np.ndarray | None = None) -> RoadGraph:
    """A trace with its open loops closed.

    Parameters
    ----------
    trace
        Its trees.
    loops
        Segments ``(L, 2, 3)`` that close them. None: an end within :data:`LOOP_GAP` of its own tree is joined to it;
        never to another tree, because that it did not find the way is the trace's mistake.
    """
    if loops is None:
        loops = _segments(find_closures(trace, radius=LOOP_GAP, between_trees=False))
    return RoadGraph.of(trace, loops)


def _segments(closures: Closures) -> np.ndarray:
    return np.stack([closures.start, closures.foot], axis=1)


def road_scores(gold: RoadGraph, test: RoadGraph) -> dict[str, float | None]:
    """Columns of a table: ``APLS`` and ``TOPO_F1`` with its precision and recall."""
    agreement = topo(gold, test)
    return {
        "APLS": apls(gold, test),
        "TOPO_F1": agreement.value,
        "TOPO_precision": share(agreement.matched_test, agreement.total_test),
        "TOPO_recall": share(agreement.matched_gold, agreement.total_gold),
    }
