"""The trace while it grows: nodes, edges, which tree each belongs to, and which edge is near a place."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Container
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components

from lib.swclib import EdgeIndex, Nearest, SwcForest

SNAP = 1.5
"""A join this near to a node of the edge, in work pixels, takes that node instead of a new one beside it."""
ROUND_TRIP = 20.0
"""A join inside a tree closes a loop only if the way round is longer than the join by this many work pixels: of two
fronts that met head-on, the one met meets the other in turn, a few pixels away from where they are joined already."""


@dataclass(frozen=True)
class Loop:
    """A join left out because it would close a loop, which an SWC cannot hold: a node and a place on an edge."""

    node: int
    foot: tuple[float, ...]


class TraceGraph:
    """A growing forest, undirected until :meth:`forest` gives it roots.

    Positions are work pixels, ``(y, x)`` or ``(z, y, x)``; nodes and edges are numbered from 0 in the order they came.
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
    def of(cls, forest: SwcForest, ndim: int) -> TraceGraph:
        """A graph to go on from: nodes as in ``forest``, edges in the order of ``forest.edges``."""
        graph = cls(ndim)
        positions = forest.positions(ndim)
        graph.positions = list(positions)
        graph.edges = [(above, child) for above, child in forest.edges.tolist()]
        graph._tree = forest.roots[forest.components].tolist()
        for edge, ends in enumerate(graph.edges):
            for node in ends:
                graph._incident[node].append(edge)
        starts, ends = positions[forest.edges[:, 0]], positions[forest.edges[:, 1]]
        graph._index.insert_many(starts, ends, range(len(graph.edges)))
        return graph

    # ---- growing ---------------------------------------------------------------------------------------------------

    def add_node(self, position: np.ndarray) -> int:
        """A node by itself."""
        self.positions.append(np.asarray(position, dtype=float))
        self._tree.append(len(self._tree))
        return len(self.positions) - 1

    def connect(self, a: int, b: int) -> bool:
        """Add the edge between two nodes; False, and nothing done, if they are in one tree already."""
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
        """A new node with an edge from ``node``."""
        new = self.add_node(position)
        self.connect(node, new)
        return new

    def join(self, node: int, near: Nearest) -> bool:
        """Join ``node`` to a place on an edge; False, and nothing joined, if that is in the same tree.

        What then would have closed a loop is noted in ``loops``, once for each loop.
        """
        if self.tree_of(node) != self.tree_of(self.edges[near.payload][0]):
            return self.connect(node, self._node_at(near))
        straight = math.dist(self.positions[node], near.foot)
        if not self._is_linked(node, near, straight + ROUND_TRIP):
            self._note_loop(node, near)
        return False

    def _node_at(self, near: Nearest) -> int:
        """The node at a place on an edge: one of the edge's own if it is near enough, or a new one that cuts it."""
        place = self._closest(near)
        if math.dist(self.positions[place], near.foot) <= SNAP:
            return place
        foot = self.add_node(near.foot)
        self._tree[foot] = self.tree_of(place)
        self._cuts[near.payload].append((near.fraction, foot))
        self._incident[foot].append(near.payload)
        return foot

    def _note_loop(self, node: int, near: Nearest) -> None:
        """Remember a loop, and that its two sides know of each other from now on."""
        place = self._closest(near)
        self.loops.append(Loop(node, tuple(near.foot)))
        self._links[node].append(place)
        self._links[place].append(node)

    # ---- asking ----------------------------------------------------------------------------------------------------

    def tree_of(self, node: int) -> int:
        """A number that two nodes share exactly if they are in one tree now."""
        while self._tree[node] != node:
            # Halving the path on the way keeps later searches short.
            self._tree[node] = self._tree[self._tree[node]]
            node = self._tree[node]
        return node

    def edges_at(self, *nodes: int) -> set[int]:
        """Edges that end at any of ``nodes``."""
        return {edge for node in nodes for edge in self._incident.get(node, ())}

    def nearest(
        self, position: np.ndarray, radius: float, exclude: Container[int] | Callable[[int], bool] = ()
    ) -> Nearest | None:
        """The nearest edge strictly within ``radius``; ``exclude`` tells edges to pass over."""
        return self._index.nearest(position, radius, exclude)

    def directions(self, node: int) -> list[np.ndarray]:
        """The edges at ``node`` as vectors away from it, those of joins that an SWC cannot hold included."""
        here = self.positions[node]
        others = [end for edge in self._incident.get(node, ()) for end in self.edges[edge] if end != node]
        return [self.positions[other] - here for other in others + self._links.get(node, [])]

    def segments(self, first: int = 0) -> np.ndarray:
        """``(M, 2, ndim)`` ends of the edges from number ``first`` on."""
        ends = [(self.positions[a], self.positions[b]) for a, b in self.edges[first:]]
        return np.array(ends, dtype=float).reshape(-1, 2, self.ndim)

    def _chain(self, edge: int) -> list[int]:
        """The nodes on an edge in their order: its start, those of joins that stand on it, its end."""
        start, end = self.edges[edge]
        return [start, *(node for _, node in sorted(self._cuts.get(edge, ()))), end]

    def _closest(self, near: Nearest) -> int:
        """The node on an edge that is closest to a place on it."""
        return min(self._chain(near.payload), key=lambda node: math.dist(self.positions[node], near.foot))

    def _is_linked(self, node: int, near: Nearest, longest: float) -> bool:
        """Whether a way of at most ``longest`` leads to a place on an edge, along edges and loops noted before."""
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
        """Nodes on the edges at ``node`` and on the other side of its loops; all lie on a straight way from it."""
        on_edges = [other for edge in self._incident.get(node, ()) for other in self._chain(edge)]
        return on_edges + self._links.get(node, [])

    # ---- result ----------------------------------------------------------------------------------------------------

    def forest(self) -> SwcForest:
        """The trace as a forest: every tree rooted at its first leaf, so that its root is an end and not a fork."""
        if not self.positions:
            return SwcForest.empty()
        pairs = [pair for edge in range(len(self.edges)) for pair in pairwise(self._chain(edge))]
        parent = parents_from_ends(np.array(pairs, dtype=int).reshape(-1, 2), len(self.positions))
        return SwcForest.from_positions(np.array(self.positions), parent)


def parents_from_ends(pairs: np.ndarray, count: int) -> np.ndarray:
    """Parents of ``count`` nodes, −1 for roots, from the undirected edges ``(M, 2)`` of a forest.

    The root of a tree is its first leaf.
    """
    graph = adjacency(pairs, count)
    _, tree = connected_components(graph, directed=False)
    degree = np.bincount(pairs.ravel(), minlength=count)
    order = np.lexsort((np.arange(count), degree, tree))
    roots = order[np.flatnonzero(np.diff(tree[order], prepend=-1))]
    # One further node above all roots turns the forest into one tree, walked once.
    top = count
    hung = np.stack([np.full(len(roots), top), roots], axis=1)
    _, before = breadth_first_order(adjacency(np.concatenate([pairs, hung]), count + 1), top, directed=False)
    parent = before[:count]
    return np.where(parent == top, -1, parent)


def adjacency(pairs: np.ndarray, count: int) -> csr_matrix:
    """Sparse ``(count, count)`` matrix with an entry for each of the edges ``(M, 2)``."""
    return coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count)).tocsr()
