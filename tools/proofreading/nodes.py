"""The table of nodes that an editor changes: rows never move, so that a change can be undone by writing rows back.

A *row* is the index of a node in the table, *id* the number by which operations name it. A removed node keeps its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lib.errors import UserError
from lib.swclib import SwcForest
from lib.swclib.forest import ROOT, adjacency

NODE = np.dtype([
    ("id", np.int64),
    ("type", np.int64),
    ("xyz", np.float64, 3),
    ("radius", np.float64),
    ("parent", np.int64),
    ("alive", np.bool_),
])  # fmt: skip
"""Columns as in `SwcForest`; ``parent`` is a row of the table, and ``alive`` is false for a removed node."""


def table_of(forest: SwcForest) -> np.ndarray:
    """Table ``(N,)`` of the nodes of a forest, row by row."""
    nodes = np.zeros(len(forest), NODE)
    nodes["id"], nodes["type"], nodes["xyz"] = forest.ids, forest.types, forest.xyz
    nodes["radius"], nodes["parent"], nodes["alive"] = forest.radius, forest.parent, True
    return nodes


def forest_of(nodes: np.ndarray) -> SwcForest:
    """The forest of the nodes that are alive, in the order of the rows where parents allow it."""
    alive = nodes["alive"]
    place = np.append(np.cumsum(alive) - 1, ROOT)  # the last entry is that of "no parent", -1
    left = nodes[alive]
    return SwcForest.sorted(left["id"], left["type"], left["xyz"], left["radius"], place[left["parent"]])


def row_of(nodes: np.ndarray, node: int) -> int:
    """Row of the node with an id.

    Raises
    ------
    UserError
        If there is none, or it was removed.
    """
    found = np.flatnonzero((nodes["id"] == node) & nodes["alive"])
    if len(found) == 0:
        raise UserError(f"node {node}: not in the trace (any more); choose another")
    return int(found[0])


def root_of(nodes: np.ndarray, row: int) -> int:
    """Row of the root of a node's tree."""
    parent = nodes["parent"].tolist()
    while parent[row] != ROOT:
        row = parent[row]
    return row


def make_root(nodes: np.ndarray, row: int) -> None:
    """Make a node the root of its tree, in place: the edges between it and the old root are reversed."""
    parent = nodes["parent"]
    above, here = ROOT, row
    while here != ROOT:
        parent[here], above, here = above, here, int(parent[here])


class Links:
    """Neighbours of every node of a table, whatever the direction of the edges."""

    def __init__(self, nodes: np.ndarray) -> None:
        child = np.flatnonzero(nodes["alive"] & (nodes["parent"] != ROOT))
        graph = adjacency(np.stack([nodes["parent"][child], child], axis=1), len(nodes))
        graph = (graph + graph.T).tocsr()
        self._first, self._ends = graph.indptr, graph.indices

    @cached_property
    def degree(self) -> np.ndarray:
        """``(N,)`` number of edges at every node."""
        return np.diff(self._first)

    def of(self, row: int) -> list[int]:
        """Rows of the neighbours of a node."""
        return self._ends[self._first[row] : self._first[row + 1]].tolist()

    def walk(self, came: int, here: int) -> list[int]:
        """Rows from ``here`` on, away from its neighbour ``came``, up to the next fork or end."""
        rows = [here]
        while len(around := self.of(here)) == 2:
            came, here = here, around[0] if around[1] == came else around[1]
            rows.append(here)
        return rows

    def branch(self, a: int, b: int) -> list[int]:
        """Rows of the branch of the edge between two nodes, from one fork or end to the other."""
        return [*self.walk(b, a)[::-1], *self.walk(a, b)]


@dataclass(frozen=True)
class Change:
    """What an operation changed, so that it can be undone and done again.

    Attributes
    ----------
    rows
        ``(K,)`` changed rows, ascending; those that are new come last.
    before
        ``(J,)`` nodes at the first ``J`` of them, which were there before.
    after
        ``(K,)`` nodes at all of them, afterwards.
    """

    rows: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @classmethod
    def between(cls, before: np.ndarray, after: np.ndarray) -> Change:
        """The change from one table to another that has the same rows and perhaps more."""
        kept = after[: len(before)]
        differs = np.zeros(len(before), dtype=bool)
        for name in ("xyz", "radius", "parent", "alive"):
            differs |= (kept[name] != before[name]).reshape(len(before), -1).any(axis=1)
        rows = np.concatenate([np.flatnonzero(differs), np.arange(len(before), len(after))])
        return cls(rows, before[differs], after[rows])

    def done(self, nodes: np.ndarray) -> np.ndarray:
        """The table after the change."""
        new = len(self.rows) - len(self.before)
        nodes = np.concatenate([nodes, np.zeros(new, NODE)])
        nodes[self.rows] = self.after
        return nodes

    def undone(self, nodes: np.ndarray) -> np.ndarray:
        """The table before the change."""
        new = len(self.rows) - len(self.before)
        nodes = nodes[: len(nodes) - new].copy()
        nodes[self.rows[: len(self.before)]] = self.before
        return nodes


def added(nodes: np.ndarray, xyz: np.ndarray, radius: Sequence[float] | np.ndarray, swc_type: int) -> np.ndarray:
    """The table with ``K`` more nodes at the end, each the parent of the next; the first is a root."""
    new = np.zeros(len(xyz), NODE)
    new["id"] = nodes["id"].max(initial=0) + 1 + np.arange(len(xyz))
    new["type"], new["xyz"], new["radius"], new["alive"] = swc_type, xyz, radius, True
    new["parent"] = np.arange(len(xyz)) + len(nodes) - 1
    new["parent"][:1] = ROOT
    return np.concatenate([nodes, new])
