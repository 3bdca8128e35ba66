"""A forest of SWC nodes as arrays, with the values derived from its structure.

Docstrings use ``N`` nodes, ``M`` edges, and *row* for the index of a node in the arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import ArrayLike
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components

from lib.errors import counted

ROOT = -1
"""Parent of a root, and the row of a node that does not exist."""
SOMA_TYPE = 1
"""SWC type of the body of a cell."""
KIND_TYPE = 10
"""SWC type of the nodes of a tube of unknown kind. That of a kind ``k``, such as arteries and veins, is this plus
``k``: types from 5 on are free to use."""


@dataclass(frozen=True, eq=False)
class SwcForest:
    """Trees as arrays; every parent has a lower row than its children. A forest without nodes is valid.

    The arrays are read-only views of those given, which must not change afterwards, because derived values are cached.

    Attributes
    ----------
    ids
        int64 ``(N,)`` ids in the file; `write_swc` renumbers them.
    types
        int64 ``(N,)`` SWC structure types.
    xyz
        float64 ``(N, 3)`` SWC columns x (image column), y (row), z (slice). Other modules use `positions`, which is in
        (z, y, x) order.
    radius
        float64 ``(N,)`` in the unit of the coordinates.
    parent
        int64 ``(N,)`` row of the parent, -1 for a root.
    file_order
        int64 ``(N,)`` place of each node in the input (default: its row). Only the metrics use it, to break ties.

    Raises
    ------
    ValueError
        If shapes disagree, a number is not finite, a radius is negative, or a parent does not precede its child
        (`SwcForest.sorted` accepts any order).
    """

    ids: np.ndarray
    types: np.ndarray
    xyz: np.ndarray
    radius: np.ndarray
    parent: np.ndarray
    file_order: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        n = len(self.ids)
        if len(self.file_order) == 0:
            object.__setattr__(self, "file_order", np.arange(n))
        for name in (column.name for column in fields(self)):
            dtype = np.float64 if name in ("xyz", "radius") else np.int64
            array = np.asarray(getattr(self, name), dtype=dtype).view()
            shape = (n, 3) if name == "xyz" else (n,)
            if array.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, not {array.shape}")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if not (np.isfinite(self.xyz).all() and np.isfinite(self.radius).all()):
            raise ValueError("coordinates and radii must be finite")
        if (self.radius < 0).any():
            raise ValueError("radii must not be negative")
        if (self.parent >= np.arange(n)).any() or (self.parent < ROOT).any():
            raise ValueError("every parent must be -1 or a row before its child; use SwcForest.sorted for any order")

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"SwcForest({counted(len(self), 'node')}, {counted(len(self.roots), 'tree')}, length {self.length:.1f})"

    # ---- constructors ----------------------------------------------------------------------------------------------

    @classmethod
    def empty(cls) -> SwcForest:
        """Return a forest without nodes."""
        return cls.from_positions(np.zeros((0, 3)), [])

    @classmethod
    def sorted(
        cls, ids: ArrayLike, types: ArrayLike, xyz: ArrayLike, radius: ArrayLike, parent: ArrayLike
    ) -> SwcForest:
        """Build a forest from nodes in any order; rows move only where a child precedes its parent.

        Parameters
        ----------
        ids, types, xyz, radius, parent
            As the attributes of the class.

        Returns
        -------
        SwcForest
            Its row ``i`` is row ``file_order[i]`` of the input.

        Raises
        ------
        ValueError
            As the class, and if the parents form a cycle.
        """
        old_parent = np.asarray(parent, dtype=np.int64)
        if ((old_parent < ROOT) | (old_parent >= len(old_parent))).any():
            raise ValueError("every parent must be -1 or a row")
        order = topological_order(old_parent)
        new_row = np.empty_like(order)
        new_row[order] = np.arange(len(order))
        sorted_parent = old_parent[order]
        return cls(
            np.asarray(ids)[order],
            np.asarray(types)[order],
            np.asarray(xyz, dtype=np.float64).reshape(-1, 3)[order],
            np.asarray(radius, dtype=np.float64)[order],
            np.where(sorted_parent < 0, ROOT, new_row[sorted_parent]),
            order,
        )

    @classmethod
    def from_positions(
        cls, positions: ArrayLike, parent: ArrayLike, radius: ArrayLike = 1.0, types: ArrayLike = 0
    ) -> SwcForest:
        """Build a forest from array positions.

        Parameters
        ----------
        positions
            ``(N, ndim)`` in (y, x) or (z, y, x) order; in 2D z is set to 0.
        parent
            ``(N,)`` row of the parent, -1 for a root, in any order; `sorted` describes how rows move.
        radius, types
            One value for all nodes, or ``(N,)``.

        Raises
        ------
        ValueError
            As `sorted`, and if ``ndim`` is neither 2 nor 3.
        """
        points = np.asarray(positions, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] not in (2, 3):
            raise ValueError(f"positions must have shape (N, 2) or (N, 3), not {points.shape}")
        n, ndim = points.shape
        xyz = np.zeros((n, 3))
        xyz[:, :ndim] = points[:, ::-1]
        return cls.sorted(np.arange(1, n + 1), np.broadcast_to(types, n), xyz, np.broadcast_to(radius, n), parent)

    @classmethod
    def from_edges(cls, positions: ArrayLike, edges: ArrayLike) -> SwcForest:
        """Build a forest from array positions ``(N, ndim)`` and undirected edges ``(M, 2)`` without loops.

        The root of a tree is its first leaf. Rows, other values and errors are those of `from_positions`.
        """
        return cls.from_positions(positions, parents_from_edges(edges, len(np.asarray(positions))))

    def positions(self, ndim: int) -> np.ndarray:
        """Return the node positions as a new array.

        Parameters
        ----------
        ndim
            2 or 3.

        Returns
        -------
        ndarray
            float64 ``(N, ndim)`` in (y, x) or (z, y, x) order.

        Raises
        ------
        ValueError
            If ``ndim`` is neither 2 nor 3.
        """
        if ndim not in (2, 3):
            raise ValueError(f"ndim must be 2 or 3, not {ndim}")
        return self.xyz[:, :ndim][:, ::-1].copy()

    # ---- structure -------------------------------------------------------------------------------------------------

    @cached_property
    def roots(self) -> np.ndarray:
        """``(R,)`` rows without a parent."""
        return np.flatnonzero(self.parent == ROOT)

    @cached_property
    def n_children(self) -> np.ndarray:
        """``(N,)`` number of children of every node."""
        return np.bincount(self.parent[self.parent >= 0], minlength=len(self))

    @cached_property
    def leaves(self) -> np.ndarray:
        """Rows without children, including roots without edges."""
        return np.flatnonzero(self.n_children == 0)

    @cached_property
    def branch_points(self) -> np.ndarray:
        """Rows with more than one child."""
        return np.flatnonzero(self.n_children > 1)

    @cached_property
    def degree(self) -> np.ndarray:
        """``(N,)`` number of edges at every node."""
        return self.n_children + (self.parent >= 0)

    @cached_property
    def edges(self) -> np.ndarray:
        """``(M, 2)`` edges as (parent, child) rows, in the order of the children."""
        child = np.flatnonzero(self.parent >= 0)
        return np.stack([self.parent[child], child], axis=1)

    @cached_property
    def edge_lengths(self) -> np.ndarray:
        """``(M,)`` Euclidean length of every edge, in the order of `edges`."""
        return np.linalg.norm(self.xyz[self.edges[:, 1]] - self.xyz[self.edges[:, 0]], axis=1)

    @cached_property
    def length(self) -> float:
        """Sum of all edge lengths."""
        return float(self.edge_lengths.sum())

    @cached_property
    def _lifts(self) -> list[np.ndarray]:
        """Maps ``(N,)`` to the row 1, 2, 4, ... steps towards the root, stopping there; the last gives the roots."""
        up = np.where(self.parent < 0, np.arange(len(self)), self.parent)
        lifts = [up]
        while not np.array_equal(twice := up[up], up):
            lifts.append(twice)
            up = twice
        return lifts

    def _sum_to_root(self, per_node: np.ndarray) -> np.ndarray:
        """Sum a value (0 at roots) from every node to its root, by pointer doubling."""
        total = per_node
        for up in self._lifts:
            total = total + total[up]
        return total

    @cached_property
    def depth(self) -> np.ndarray:
        """``(N,)`` number of edges to the root."""
        return self._sum_to_root((self.parent >= 0).astype(np.int64))

    @cached_property
    def root_distance(self) -> np.ndarray:
        """``(N,)`` length of the path to the root."""
        step = np.zeros(len(self))
        step[self.edges[:, 1]] = self.edge_lengths
        return self._sum_to_root(step)

    @cached_property
    def components(self) -> np.ndarray:
        """``(N,)`` index of each node's tree; trees are numbered from 0 in the order of their roots."""
        # Parents precede children, so the numbers that scipy gives in the order of the rows are those of the roots.
        return connected_components(adjacency(self.edges, len(self)), directed=False)[1]

    # ---- paths -----------------------------------------------------------------------------------------------------

    def common_ancestor(self, a: ArrayLike, b: ArrayLike) -> np.ndarray:
        """Return the lowest common ancestors of pairs of nodes, by binary lifting.

        Parameters
        ----------
        a, b
            Rows, broadcast to one shape.

        Returns
        -------
        ndarray
            int64 of that shape; -1 where the two are in different trees.
        """
        a, b = np.broadcast_arrays(np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64))
        deep, shallow = np.where(self.depth[a] >= self.depth[b], (a, b), (b, a))
        gap = self.depth[deep] - self.depth[shallow]
        for k, up in enumerate(self._lifts):
            deep = np.where(gap >> k & 1, up[deep], deep)
        for up in reversed(self._lifts):
            differ = up[deep] != up[shallow]
            deep, shallow = np.where(differ, up[deep], deep), np.where(differ, up[shallow], shallow)
        meet = np.where(deep == shallow, deep, self._lifts[0][deep])
        return np.where(self.components[a] == self.components[b], meet, ROOT)

    def path_distance(self, a: ArrayLike, b: ArrayLike) -> np.ndarray:
        """Return the lengths of the paths between nodes, given as for `common_ancestor`; inf between trees."""
        a, b = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)
        meet = self.common_ancestor(a, b)
        length = self.root_distance[a] + self.root_distance[b] - 2 * self.root_distance[meet]
        return np.where(meet == ROOT, np.inf, np.maximum(length, 0.0))

    def ancestor_within(self, rows: ArrayLike, distance: ArrayLike) -> np.ndarray:
        """Return the farthest ancestors of ``rows`` at most ``distance`` along the tree; both are broadcast."""
        rows, distance = np.broadcast_arrays(np.asarray(rows, dtype=np.int64), np.asarray(distance, dtype=np.float64))
        limit = self.root_distance[rows] - distance
        for up in reversed(self._lifts):
            rows = np.where(self.root_distance[up[rows]] >= limit, up[rows], rows)
        return rows

    def branches(self) -> list[np.ndarray]:
        """Split the forest at roots, branch points and leaves.

        Returns
        -------
        list of ndarray
            int64 rows from a root or branch point to the next branch point or leaf, both included. Every edge is in
            exactly one branch; a node without edges is in none.
        """
        starts_branch = ((self.n_children != 1) | (self.parent == ROOT))[self.parent]
        first = np.where(starts_branch, np.arange(len(self)), self.parent)
        while not np.array_equal(further := first[first], first):
            first = further
        child = self.edges[:, 1]
        # Parents precede children, so a stable sort by branch keeps the nodes of each branch in order.
        child = child[np.argsort(first[child], kind="stable")]
        cuts = np.flatnonzero(first[child] == child)
        parts = np.split(child, cuts[1:]) if len(child) else []
        return [np.concatenate([self.parent[part[:1]], part]) for part in parts]

    def branches_from_ends(self) -> list[np.ndarray]:
        """The rows of every branch that has an end, from there on; twice, in both directions, if it has two."""
        both_ways = (rows for branch in self.branches() for rows in (branch, branch[::-1]))
        return [rows for rows in both_ways if self.degree[rows[0]] == 1]

    def along(self, branch: np.ndarray) -> np.ndarray:
        """Return the distances ``(n,)`` along a branch, its ``n`` rows from either end, to its first row."""
        return np.abs(self.root_distance[branch] - self.root_distance[branch[0]])

    def row_along(self, branch: np.ndarray, distance: float) -> int:
        """Return the first row at least ``distance`` along a branch (its rows from either end), or the last row."""
        return int(branch[min(int(np.searchsorted(self.along(branch), distance)), len(branch) - 1)])


def enumerate_groups(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for consecutive groups of the given sizes, each member's group and its number within it, from 0."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    return group, np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def topological_order(parent: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the rows with parents before children, keeping the given order where possible.

    A node keeps its place; ancestors that follow it move to just before it.

    Raises
    ------
    ValueError
        If the parents form a cycle.
    """
    parent = np.asarray(parent, dtype=np.int64)
    rows = np.arange(len(parent))
    if (parent < rows).all():
        return rows
    order = _parents_first(parent)
    if len(order) < len(parent):
        raise ValueError(f"the parents of row {find_cycle(parent)} form a cycle")
    return order


@njit(cache=True, nogil=True)
def _parents_first(parent: np.ndarray) -> np.ndarray:
    """The order of :func:`topological_order`; shorter than ``parent`` if there is a cycle."""
    order = np.empty(len(parent), np.int64)
    walk = np.full(len(parent), -1)  # in which of the walks below a row was reached
    end = 0
    for first in range(len(parent)):
        row, begin = first, end
        while row >= 0 and walk[row] < 0:
            walk[row] = first
            order[end] = row
            end += 1
            row = parent[row]
        if end > begin and row >= 0 and walk[row] == first:
            return order[:begin]
        order[begin:end] = order[begin:end][::-1].copy()
    return order


def parents_from_edges(edges: ArrayLike, count: int) -> np.ndarray:
    """Return the parents of ``count`` nodes with undirected edges ``(M, 2)``; the root of a tree is its first leaf."""
    edges = np.asarray(edges, dtype=np.int64).reshape(-1, 2)
    _, tree = connected_components(adjacency(edges, count), directed=False)
    order = np.lexsort((np.bincount(edges.ravel(), minlength=count), tree))
    roots = order[np.flatnonzero(np.diff(tree[order], prepend=-1))]
    # One more node above all roots makes the forest one tree, so that one search finds all parents.
    to_roots = np.stack([np.full(len(roots), count), roots], axis=1)
    joined = adjacency(np.concatenate([edges, to_roots]), count + 1)
    _, before = breadth_first_order(joined, count, directed=False)
    return np.where(before[:count] == count, ROOT, before[:count])


def adjacency(edges: np.ndarray, count: int) -> csr_matrix:
    """Return a sparse ``(count, count)`` matrix with an entry for each of the edges ``(M, 2)``."""
    return csr_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))


def find_cycle(parent: np.ndarray) -> int:
    """Return the first row on a cycle of parents, -1 if there is none."""
    n = len(parent)
    up = np.append(np.where(parent < 0, n, parent), n)  # row n stands above all roots
    for _ in range(n.bit_length()):
        up = up[up]
    on_cycle = up[up != n]  # after n steps or more only cycles remain
    return int(on_cycle.min()) if len(on_cycle) else ROOT
