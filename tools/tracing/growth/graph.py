"""The growing trace as a graph: nodes, edges, the tree of each node, and the edge nearest to a place."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from heapq import heappop, heappush
from itertools import pairwise

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from lib.swclib import EdgeIndex, Nearest, SwcForest

SNAP = 1.5
"""A join within this distance of a node on the edge, in work pixels, takes that node instead of adding one."""
ROUND_TRIP = 20.0
"""A join inside a tree closes a loop only if the path around the loop is longer than the join by this many work pixels.
When two fronts meet head-on and are joined, each meets the other again a few pixels beside that join: not a loop."""


class TraceGraph:
    """A growing forest, undirected until :meth:`forest` gives it roots.

    Nodes and edges are numbered from 0 in the order in which they were added.

    Parameters
    ----------
    ndim
        2 or 3.

    Attributes
    ----------
    positions
        Of the nodes, each ``ndim`` work pixels, ``(y, x)`` or ``(z, y, x)``. Tuples, as arithmetic with a few numbers
        is faster without arrays.
    edges
        Pairs of nodes.
    loops
        Joins that were left out because they would have closed a loop, which an SWC cannot hold: the place of the node,
        and the place on the edge that it met, each ``ndim`` work pixels.
    loop_nodes
        The same as pairs of nodes: the node, and the one of that edge that is closest to the place.
    """

    def __init__(self, ndim: int) -> None:
        self.ndim = ndim
        self.positions: list[tuple[float, ...]] = []
        self.edges: list[tuple[int, int]] = []
        self.loops: list[tuple[tuple[float, ...], tuple[float, ...]]] = []
        self._trees = DisjointSet()
        self._index = EdgeIndex(ndim)
        self._incident: dict[int, list[int]] = defaultdict(list)
        self._cuts: dict[int, list[tuple[float, int]]] = defaultdict(list)
        self._links: dict[int, list[int]] = defaultdict(list)
        self.loop_nodes: list[tuple[int, int]] = []

    @classmethod
    def from_forest(cls, forest: SwcForest, ndim: int) -> TraceGraph:
        """A graph with the nodes of ``forest`` and its edges, both in the same order."""
        graph = cls(ndim)
        for position in forest.positions(ndim):
            graph.add_node(position)
        for above, child in forest.edges.tolist():
            graph.connect(above, child)
        return graph

    # ---- growing ---------------------------------------------------------------------------------------------------

    def add_node(self, position: Iterable[float]) -> int:
        """Add a node without edges at ``position`` ``(ndim,)`` and return its number."""
        self.positions.append(tuple(map(float, position)))
        node = len(self.positions) - 1
        self._trees.add(node)
        return node

    def connect(self, a: int, b: int) -> bool:
        """Add an edge between two nodes. Return False, with nothing added, if they are in one tree already."""
        if not self._trees.merge(a, b):
            return False
        edge = self._index.insert(self.positions[a], self.positions[b])
        for node in (a, b):
            self._incident[node].append(edge)
        self.edges.append((a, b))
        return True

    def grow(self, node: int, position: Iterable[float]) -> int:
        """Add a node at ``position`` with an edge from ``node`` and return its number."""
        new = self.add_node(position)
        self.connect(node, new)
        return new

    def join(self, node: int, near: Nearest) -> bool:
        """Join ``node`` to a place on an edge. Return False, with nothing joined, if both are in one tree.

        A join that would have closed a loop is added to ``loops``, once for each loop.
        """
        if self.tree_of(node) != self.tree_of(self.edges[near.edge][0]):
            return self.connect(node, self._node_at(near))
        straight = math.dist(self.positions[node], near.foot)
        if not self._is_linked(node, near, straight + ROUND_TRIP):
            self.loops.append((self.positions[node], tuple(near.foot.tolist())))
            # Linked, so that the loop is not recorded again from its other side.
            place = self.closest(near)
            self.loop_nodes.append((node, place))
            self._links[node].append(place)
            self._links[place].append(node)
        return False

    def _node_at(self, near: Nearest) -> int:
        """The node at a place on an edge: one of the edge within :data:`SNAP`, else a new one that cuts the edge."""
        place = self.closest(near)
        if math.dist(self.positions[place], near.foot) <= SNAP:
            return place
        foot = self.add_node(near.foot)
        self._trees.merge(foot, place)
        self._cuts[near.edge].append((near.fraction, foot))
        self._incident[foot].append(near.edge)
        return foot

    # ---- queries ---------------------------------------------------------------------------------------------------

    def tree_of(self, node: int) -> int:
        """A number of the tree that ``node`` is in now, the same for all of its nodes."""
        return self._trees[node]

    def edges_at(self, node: int) -> set[int]:
        """Edges that end at, or are cut by, a node."""
        return set(self._incident[node])

    def nearest(
        self, position: Iterable[float], radius: float, exclude: Container[int] | Callable[[int], bool] = ()
    ) -> Nearest | None:
        """The nearest edge strictly within ``radius`` work pixels of ``position``, those in ``exclude`` left out."""
        return self._index.nearest(position, radius, exclude)

    def ends_around(self, position: Iterable[float], radius: float) -> Iterator[tuple[Nearest, int, int]]:
        """Ends of branches within ``radius`` work pixels of ``position``: place, node, and other node of its edge."""
        for edge in sorted(self._index.around(position, radius)):
            for fraction, (end, other) in ((0.0, self.edges[edge]), (1.0, self.edges[edge][::-1])):
                distance = math.dist(self.positions[end], position)
                if distance < radius and len(self._incident[end]) == 1 and end not in self._links:
                    yield Nearest(distance, edge, np.array(self.positions[end]), fraction), end, other

    def leads_to(self, node: int) -> list[tuple[float, ...]]:
        """Positions that the edges of ``node`` and the joins left out there because of loops lead to."""
        others = [end for edge in self._incident[node] for end in self.edges[edge] if end != node]
        return [self.positions[other] for other in others + self._links.get(node, [])]

    def segments(self, first: int = 0) -> np.ndarray:
        """``(M, 2, ndim)`` ends of the edges from number ``first``, in work pixels."""
        ends = [(self.positions[a], self.positions[b]) for a, b in self.edges[first:]]
        return np.array(ends, dtype=float).reshape(-1, 2, self.ndim)

    def _chain(self, edge: int) -> list[int]:
        """The nodes of an edge in their order: its start, those that cut it, its end."""
        start, end = self.edges[edge]
        return [start, *(node for _, node in sorted(self._cuts[edge])), end]

    def closest(self, near: Nearest) -> int:
        """The node of an edge that is closest to a place on it."""
        return min(self._chain(near.edge), key=lambda node: math.dist(self.positions[node], near.foot))

    def _is_linked(self, node: int, near: Nearest, longest: float) -> bool:
        """Whether a path of at most ``longest``, along edges and recorded loops, leads to a place on an edge."""
        goal = set(self._chain(near.edge))
        return any(
            here in goal and walked + math.dist(self.positions[here], near.foot) <= longest
            for walked, here in self._reached(node, longest)
        )

    def _reached(self, node: int, longest: float) -> Iterator[tuple[float, int]]:
        """Distance and node, the nearest first, of all within ``longest`` of a node along edges and recorded loops."""
        queue, seen = [(0.0, node)], set()
        while queue:
            walked, here = heappop(queue)
            if here in seen:
                continue
            seen.add(here)
            yield walked, here
            for there in self._around(here):
                further = walked + math.dist(self.positions[here], self.positions[there])
                if further <= longest:
                    heappush(queue, (further, there))

    def _around(self, node: int) -> list[int]:
        """Nodes of the edges at ``node`` and across its recorded loops, all reached from it in a straight line."""
        on_edges = [other for edge in self._incident[node] for other in self._chain(edge)]
        return on_edges + self._links[node]

    def edges_around(self, near: Nearest, longest: float) -> set[int]:
        """Edges of which a node is at most ``longest``, along edges and recorded loops, from a place on an edge."""
        return {near.edge} | self.edges_within(self.closest(near), longest)

    def edges_within(self, node: int, longest: float) -> set[int]:
        """Edges of which a node is at most ``longest``, along edges and recorded loops, from ``node``."""
        return set().union(*(self.edges_at(reached) for _, reached in self._reached(node, longest)))

    # ---- result ----------------------------------------------------------------------------------------------------

    def forest(self) -> SwcForest:
        """The trace as a forest in work pixels; the root of every tree is its first leaf, so an end and not a fork."""
        pairs = [pair for edge in range(len(self.edges)) for pair in pairwise(self._chain(edge))]
        return SwcForest.from_edges(np.reshape(self.positions, (-1, self.ndim)), pairs)
