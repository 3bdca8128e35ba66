"""The growing trace as a graph: nodes, edges, the tree of each node, and the edge nearest to a place."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Container
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components

from lib.swclib import EdgeIndex, Nearest, SwcForest

SNAP = 1.5
"""A join within this distance of a node on the edge, in work pixels, takes that node instead of adding one."""
ROUND_TRIP = 20.0
"""A join inside a tree closes a loop only if the path around the loop is longer than the join by this many work pixels.
When two fronts meet head-on and are joined, each meets the other again a few pixels beside that join: not a loop."""


@dataclass(frozen=True)
class Loop:
    """A join that was left out because it would close a loop, which an SWC cannot hold.

    Attributes
    ----------
    node
        The node to be joined.
    foot
        ``(ndim,)`` place on the edge that it met, in work pixels.
    """

    node: int
    foot: tuple[float, ...]


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
        Of the nodes, each ``(ndim,)`` in work pixels, ``(y, x)`` or ``(z, y, x)``.
    edges
        Pairs of nodes.
    loops
        Joins that were left out.
    """

    def __init__(self, ndim: int) -> None:
        self.ndim = ndim
        self.positions: list[np.ndarray] = []
        self.edges: list[tuple[int, int]] = []
        self.loops: list[Loop] = []
        self._tree: list[int] = []
        self._index = EdgeIndex(ndim)
        self._incident: dict[int, list[int]] = defaultdict(list)
        self._cuts: dict[int, list[tuple[float, int]]] = defaultdict(list)
        self._links: dict[int, list[int]] = defaultdict(list)

    @classmethod
    def from_forest(cls, forest: SwcForest, ndim: int) -> TraceGraph:
        """A graph with the nodes of ``forest`` and its edges, both in the same order."""
        graph = cls(ndim)
        positions = forest.positions(ndim)
        graph.positions = list(positions)
        graph.edges = [(above, child) for above, child in forest.edges.tolist()]
        graph._tree = forest.roots[forest.components].tolist()
        for edge, (a, b) in enumerate(graph.edges):
            graph._incident[a].append(edge)
            graph._incident[b].append(edge)
        starts, ends = positions[forest.edges[:, 0]], positions[forest.edges[:, 1]]
        graph._index.insert_many(starts, ends, range(len(graph.edges)))
        return graph

    # ---- growing ---------------------------------------------------------------------------------------------------

    def add_node(self, position: np.ndarray) -> int:
        """Add a node without edges at ``position`` ``(ndim,)`` and return its number."""
        self.positions.append(np.asarray(position, dtype=float))
        self._tree.append(len(self._tree))
        return len(self.positions) - 1

    def connect(self, a: int, b: int) -> bool:
        """Add an edge between two nodes. Return False, with nothing added, if they are in one tree already."""
        tree_a, tree_b = self.tree_of(a), self.tree_of(b)
        if tree_a == tree_b:
            return False
        self._tree[max(tree_a, tree_b)] = min(tree_a, tree_b)
        edge = len(self.edges)
        self.edges.append((a, b))
        self._incident[a].append(edge)
        self._incident[b].append(edge)
        self._index.insert(self.positions[a], self.positions[b], edge)
        return True

    def grow(self, node: int, position: np.ndarray) -> int:
        """Add a node at ``position`` with an edge from ``node`` and return its number."""
        new = self.add_node(position)
        self.connect(node, new)
        return new

    def join(self, node: int, near: Nearest) -> bool:
        """Join ``node`` to a place on an edge. Return False, with nothing joined, if both are in one tree.

        A join that would have closed a loop is added to ``loops``, once for each loop.
        """
        if self.tree_of(node) != self.tree_of(self.edges[near.payload][0]):
            return self.connect(node, self._node_at(near))
        straight = math.dist(self.positions[node], near.foot)
        if not self._is_linked(node, near, straight + ROUND_TRIP):
            self._add_loop(node, near)
        return False

    def _node_at(self, near: Nearest) -> int:
        """The node at a place on an edge: one of the edge within :data:`SNAP`, else a new one that cuts the edge."""
        place = self._closest(near)
        if math.dist(self.positions[place], near.foot) <= SNAP:
            return place
        foot = self.add_node(near.foot)
        self._tree[foot] = self.tree_of(place)
        self._cuts[near.payload].append((near.fraction, foot))
        self._incident[foot].append(near.payload)
        return foot

    def _add_loop(self, node: int, near: Nearest) -> None:
        """Record a loop and link its two sides, so that it is not recorded again."""
        place = self._closest(near)
        self.loops.append(Loop(node, tuple(near.foot)))
        self._links[node].append(place)
        self._links[place].append(node)

    # ---- queries ---------------------------------------------------------------------------------------------------

    def tree_of(self, node: int) -> int:
        """A number of the tree that ``node`` is in now, the same for all of its nodes."""
        while self._tree[node] != node:
            # Path halving keeps later searches short.
            self._tree[node] = self._tree[self._tree[node]]
            node = self._tree[node]
        return node

    def edges_at(self, *nodes: int) -> set[int]:
        """Edges that end at, or are cut by, any of ``nodes``."""
        return {edge for node in nodes for edge in self._incident.get(node, ())}

    def nearest(
        self, position: np.ndarray, radius: float, exclude: Container[int] | Callable[[int], bool] = ()
    ) -> Nearest | None:
        """The nearest edge strictly within ``radius`` work pixels of ``position``, those in ``exclude`` left out."""
        return self._index.nearest(position, radius, exclude)

    def directions(self, node: int) -> list[np.ndarray]:
        """Vectors ``(ndim,)`` from ``node`` along its edges and along the joins left out because of loops."""
        here = self.positions[node]
        others = [end for edge in self._incident.get(node, ()) for end in self.edges[edge] if end != node]
        return [self.positions[other] - here for other in others + self._links.get(node, [])]

    def segments(self, first: int = 0) -> np.ndarray:
        """``(M, 2, ndim)`` ends of the edges from number ``first``, in work pixels."""
        ends = [(self.positions[a], self.positions[b]) for a, b in self.edges[first:]]
        return np.array(ends, dtype=float).reshape(-1, 2, self.ndim)

    def _chain(self, edge: int) -> list[int]:
        """The nodes of an edge in their order: its start, those that cut it, its end."""
        start, end = self.edges[edge]
        return [start, *(node for _, node in sorted(self._cuts.get(edge, ()))), end]

    def _closest(self, near: Nearest) -> int:
        """The node of an edge that is closest to a place on it."""
        return min(self._chain(near.payload), key=lambda node: math.dist(self.positions[node], near.foot))

    def _is_linked(self, node: int, near: Nearest, longest: float) -> bool:
        """Whether a path of at most ``longest``, along edges and recorded loops, leads to a place on an edge."""
        goal = set(self._chain(near.payload))
        queue, seen = [(0.0, node)], set()
        while queue:
            walked, here = heappop(queue)
            if here in goal and walked + math.dist(self.positions[here], near.foot) <= longest:
                return True
            if here in seen:
                continue
            seen.add(here)
            for there in self._around(here):
                further = walked + math.dist(self.positions[here], self.positions[there])
                if further <= longest:
                    heappush(queue, (further, there))
        return False

    def _around(self, node: int) -> list[int]:
        """Nodes of the edges at ``node`` and across its recorded loops, all reached from it in a straight line."""
        on_edges = [other for edge in self._incident.get(node, ()) for other in self._chain(edge)]
        return on_edges + self._links.get(node, [])

    # ---- result ----------------------------------------------------------------------------------------------------

    def forest(self) -> SwcForest:
        """The trace as a forest in work pixels; the root of every tree is its first leaf, so an end and not a fork."""
        if not self.positions:
            return SwcForest.empty()
        pairs = [pair for edge in range(len(self.edges)) for pair in pairwise(self._chain(edge))]
        parent = parents_from_ends(np.array(pairs, dtype=int).reshape(-1, 2), len(self.positions))
        return SwcForest.from_positions(np.array(self.positions), parent)


def parents_from_ends(pairs: np.ndarray, count: int) -> np.ndarray:
    """Parents ``(count,)`` of the nodes of a forest, −1 for roots, from its undirected edges ``(M, 2)``.

    The root of a tree is its first leaf.
    """
    graph = adjacency(pairs, count)
    _, tree = connected_components(graph, directed=False)
    degree = np.bincount(pairs.ravel(), minlength=count)
    order = np.lexsort((np.arange(count), degree, tree))
    roots = order[np.flatnonzero(np.diff(tree[order], prepend=-1))]
    # One more node above all roots makes the forest one tree, so that one search finds all parents.
    top = count
    to_roots = np.stack([np.full(len(roots), top), roots], axis=1)
    _, before = breadth_first_order(adjacency(np.concatenate([pairs, to_roots]), count + 1), top, directed=False)
    parent = before[:count]
    return np.where(parent == top, -1, parent)


def adjacency(pairs: np.ndarray, count: int) -> csr_matrix:
    """Sparse ``(count, count)`` matrix with an entry for each of the edges ``(M, 2)``."""
    return csr_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
