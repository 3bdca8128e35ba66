"""The operations of a proofreader: small records that change a table of nodes, and that a journal can hold.

Nodes are named by their ids, positions are those of the image: (y, x) or (z, y, x), pixel centres.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np

from lib.errors import UserError
from lib.swclib.forest import ROOT
from tools.proofreading.nodes import Links, added, make_root, root_of, row_of

Point = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A change of the trees, or an answer.

    Attributes
    ----------
    doubt
        Rank of the doubt that it answers; None if it answers none.
    """

    name: ClassVar[str]
    doubt: int | None = None

    def applied(self, nodes: np.ndarray) -> np.ndarray:
        """A changed copy of a table of nodes.

        Raises
        ------
        UserError
            If the operation is not possible there.
        """
        raise NotImplementedError

    def places(self) -> list[int]:
        """Ids of the nodes at which it happens."""
        raise NotImplementedError

    def as_json(self) -> dict[str, Any]:
        """The record as it stands in a journal."""
        return {"op": self.name, **{name: value for name, value in asdict(self).items() if value is not None}}


@dataclass(frozen=True)
class Accept(Operation):
    """The trace is right at a doubt."""

    name = "accept"

    def applied(self, nodes: np.ndarray) -> np.ndarray:
        """See :class:`Operation`."""
        return nodes

    def places(self) -> list[int]:
        """See :class:`Operation`."""
        return []


@dataclass(frozen=True)
class Cut(Operation):
    """Remove the edge between two nodes; a node that is left without edges goes too."""

    name = "cut"
    a: int
    b: int

    def applied(self, nodes: np.ndarray) -> np.ndarray:
        """See :class:`Operation`."""
        nodes = nodes.copy()
        rows = _edge(nodes, self.a, self.b)
        _separate(nodes, rows)
        _drop_lone(nodes, rows)
        return nodes

    def places(self) -> list[int]:
        """See :class:`Operation`."""
        return [self.a, self.b]


@dataclass(frozen=True)
class Join(Operation):
    """Add an edge between nodes of two trees. The root of the tree of ``a`` stays."""

    name = "join"
    a: int
    b: int

    def applied(self, nodes: np.ndarray) -> np.ndarray:
        """See :class:`Operation`."""
        nodes = nodes.copy()
        _connect(nodes, row_of(nodes, self.a), row_of(nodes, self.b))
        return nodes

    def places(self) -> list[int]:
        """See :class:`Operation`."""
        return [self.a, self.b]


@dataclass(frozen=True)
class Delete(Operation):
    """Remove the branch of the edge between two nodes, up to the next fork or end on both sides."""

    name = "delete"
    a: int
    b: int

    def applied(self, nodes: np.ndarray) -> np.ndarray:
        """See :class:`Operation`."""
        nodes = nodes.copy()
        rows = Links(nodes).branch(*_edge(nodes, self.a, self.b))
        _separate(nodes, rows)
        nodes["alive"][rows[1:-1]] = False
        _drop_lone(nodes, [rows[0], rows[-1]])
        return nodes

    def places(self) -> list[int]:
        """See :class:`Operation`."""
        return [self.a, self.b]


@dataclass(frozen=True)
class Draw(Operation):
    """Add a path from a node; it holds the path that was found, so that a journal needs no image.

    Attributes
    ----------
    tip
        Node at which the path begins; the new nodes take its type.
    path
        Positions of the new nodes.
    radius
        Of the new nodes, in the unit of the forest.
    end
        Node of another tree to which the path leads; None if it ends free.
    """

    name = "draw"
    tip: int
    path: tuple[Point, ...]
    radius: tuple[float, ...]
    end: int | None = None

    def applied(self, nodes: np.ndarray) -> np.ndarray:
        """See :class:`Operation`."""
        tip, first = row_of(nodes, self.tip), len(nodes)
        nodes = added(nodes, _xyz(self.path), self.radius, int(nodes["type"][tip]))
        last = len(nodes) - 1 if self.path else tip
        if self.path:
            nodes["parent"][first] = tip
        if self.end is not None:
            _connect(nodes, last, row_of(nodes, self.end))
        return nodes

    def places(self) -> list[int]:
        """See :class:`Operation`."""
        return [self.tip] if self.end is None else [self.tip, self.end]


@dataclass(frozen=True)
class Move(Operation):
    """Move a node."""

    name = "move"
    node: int
    position: Point

    def applied(self, nodes: np.ndarray) -> np.ndarray:
        """See :class:`Operation`."""
        nodes = nodes.copy()
        nodes["xyz"][row_of(nodes, self.node)] = _xyz((self.position,))[0]
        return nodes

    def places(self) -> list[int]:
        """See :class:`Operation`."""
        return [self.node]


OPERATIONS: dict[str, type[Operation]] = {kind.name: kind for kind in (Accept, Cut, Join, Delete, Draw, Move)}
"""Every operation by its name in a journal."""


def from_json(record: dict[str, Any]) -> Operation:
    """The operation of a line of a journal.

    Raises
    ------
    ValueError
        If it is none.
    """
    kind = OPERATIONS.get(str(record.get("op")))
    if kind is None:
        raise ValueError(f"no operation is called {record['op']!r}" if "op" in record else "it names no operation")
    values = {name: _tuples(value) for name, value in record.items() if name != "op"}
    unknown = values.keys() - {field.name for field in fields(kind)}
    try:
        if unknown:
            raise TypeError(f"unknown {', '.join(sorted(unknown))}")
        return kind(**values)
    except TypeError as error:
        raise ValueError(str(error)) from None


def _tuples(value: Any) -> Any:
    """Lists of JSON as tuples, also inside."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _xyz(positions: tuple[Point, ...]) -> np.ndarray:
    """``(K, 3)`` SWC columns of positions; in 2D z is 0."""
    xyz = np.zeros((len(positions), 3))
    if positions:
        xyz[:, : len(positions[0])] = np.array(positions, dtype=np.float64)[:, ::-1]
    return xyz


def _edge(nodes: np.ndarray, a: int, b: int) -> tuple[int, int]:
    """Rows of the ends of an edge."""
    rows = row_of(nodes, a), row_of(nodes, b)
    if nodes["parent"][rows[0]] != rows[1] and nodes["parent"][rows[1]] != rows[0]:
        raise UserError(f"nodes {a} and {b}: no edge between them; choose two neighbours")
    return rows


def _separate(nodes: np.ndarray, rows: list[int] | tuple[int, ...]) -> None:
    """Remove the edges between consecutive nodes, in place."""
    parent, chain = nodes["parent"], np.asarray(rows)
    for child, above in ((chain[1:], chain[:-1]), (chain[:-1], chain[1:])):
        parent[child[parent[child] == above]] = ROOT


def _drop_lone(nodes: np.ndarray, rows: list[int] | tuple[int, ...]) -> None:
    """Remove those of the nodes that have no edge left: a single node is no tube."""
    for row in rows:
        if nodes["parent"][row] == ROOT and not (nodes["alive"] & (nodes["parent"] == row)).any():
            nodes["alive"][row] = False


def _connect(nodes: np.ndarray, a: int, b: int) -> None:
    """Add an edge from row ``a`` to row ``b``, in place, which must be in another tree."""
    if root_of(nodes, a) == root_of(nodes, b):
        raise UserError("both ends are in one tree, and an SWC cannot hold a loop; cut the tree first")
    make_root(nodes, b)
    nodes["parent"][b] = a
