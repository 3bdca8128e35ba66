"""The trace while it grows: nodes, edges, which tree each belongs to, and which edge is near a place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components

from lib.swclib import EdgeIndex, Nearest, SwcForest

SNAP = 1.5
"""A join this near to an end of an edge, in work pixels, takes the end itself instead of a new node beside it."""


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

    def add_node(self, position: np.ndarray) -> int:
        """A node by itself."""
        self.positions.append(np.asarray(position, dtype=float))
        self._tree.append(len(self._tree))
        return len(self.positions) - 1

    def tree_of(self, node: int) -> int:
        """A number that two nodes share exactly if they are in one tree now."""
        while self._tree[node] != node:
            # Halving the path on the way keeps later searches short.
            self._tree[node] = self._tree[self._tree[node]]
            node = self._tree[node]
        return node

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
        """Join ``node`` to a place on an edge; where that would close a loop, note it in ``loops`` and return False."""
        start, end = self.edges[near.payload]
        if self.tree_of(node) == self.tree_of(start):
            self.loops.append(Loop(node, tuple(near.foot)))
            return False
        for place in (start, end):
            if np.linalg.norm(self.positions[place] - near.foot) <= SNAP:
                return self.connect(node, place)
        foot = self.add_node(near.foot)
        self._tree[foot] = self.tree_of(start)
        self._cuts[near.payload].append((near.fraction, foot))
        self._incident[foot].append(near.payload)
        return self.connect(node, foot)

    def edges_at(self, *nodes: int) -> set[int]:
        """Edges that end at any of ``nodes``."""
        return {edge for node in nodes for edge in self._incident[node]}

    def nearest(self, position: np.ndarray, radius: float, exclude: Container[int] = ()) -> Nearest | None:
        """The nearest edge strictly within ``radius``; ``exclude`` holds edges to pass over."""
        return self._index.nearest(position, radius, exclude)

    def forest(self) -> SwcForest:
        """The trace as a forest: every tree rooted at its first leaf, so that its root is an end and not a fork."""
        count = len(self.positions)
        if not count:
            return SwcForest.empty()
        parts = [pair for edge in range(len(self.edges)) for pair in self._parts(edge)]
        pairs = np.array(parts, dtype=int).reshape(-1, 2)
        ones = np.ones(len(pairs))
        graph = coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count)).tocsr()
        _, tree = connected_components(graph, directed=False)
        degree = np.bincount(pairs.ravel(), minlength=count)
        order = np.lexsort((np.arange(count), degree, tree))
        roots = order[np.flatnonzero(np.diff(tree[order], prepend=-1))]
        return SwcForest.from_positions(np.array(self.positions), _parents(graph, roots, count))

    def _parts(self, edge: int) -> list[tuple[int, int]]:
        """An edge as pairs of nodes, cut where joins stand on it."""
        start, end = self.edges[edge]
        chain = [start, *(node for _, node in sorted(self._cuts.get(edge, ()))), end]
        return list(pairwise(chain))


def _parents(graph, roots: np.ndarray, count: int) -> np.ndarray:
    """Parent of every node ``(count,)``, −1 for roots, from an undirected forest and a root for each of its trees."""
    # One further node above all roots turns the forest into one tree, walked once.
    top = count
    edges = graph.tocoo()
    row = np.concatenate([edges.row, np.full(len(roots), top)])
    column = np.concatenate([edges.col, roots])
    whole = coo_matrix((np.ones(len(row)), (row, column)), shape=(count + 1, count + 1)).tocsr()
    _, before = breadth_first_order(whole, top, directed=False)
    parent = before[:count]
    return np.where(parent == top, -1, parent)
