"""A forest of SWC nodes as arrays, and what follows from its shape.

Symbols used below: ``N`` nodes, ``M`` edges, ``row`` the index of a node in the arrays. ``up`` is a map row -> row
towards the root in which a root points to itself, so that following it too far does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

ROOT = -1


@dataclass(frozen=True, eq=False)
class SwcForest:
    """Trees as arrays; every parent stands in a row before its children. Zero nodes are a valid (empty) trace.

    Attributes
    ----------
    ids : int64, shape (N,)
        The ids of the file; `write_swc` numbers anew.
    types : int64, shape (N,)
        SWC structure types.
    xyz : float64, shape (N, 3)
        SWC columns x (image column), y (row), z (slice). Elsewhere use `positions`, in (z, y, x) order.
    radius : float64, shape (N,)
    parent : int64, shape (N,)
        Row of the parent, -1 for a root.
    file_order : int64, shape (N,), optional
        Place of the node in the file it came from (default: its row). Only ties in the metrics look at it.

    Raises
    ------
    ValueError
        If shapes disagree, a number is not finite, a radius is negative, or a parent does not stand before its child
        (`SwcForest.sorted` takes any order). The arrays are read-only, because the derived values are cached.
    """

    ids: np.ndarray
    types: np.ndarray
    xyz: np.ndarray
    radius: np.ndarray
    parent: np.ndarray
    file_order: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.ids)
        file_order = np.arange(n) if self.file_order is None else self.file_order
        self._freeze("ids", self.ids, np.int64, (n,))
        self._freeze("types", self.types, np.int64, (n,))
        self._freeze("xyz", self.xyz, np.float64, (n, 3))
        self._freeze("radius", self.radius, np.float64, (n,))
        self._freeze("parent", self.parent, np.int64, (n,))
        self._freeze("file_order", file_order, np.int64, (n,))
        if not (np.isfinite(self.xyz).all() and np.isfinite(self.radius).all()):
            raise ValueError("coordinates and radii must be finite")
        if (self.radius < 0).any():
            raise ValueError("radii must not be negative")
        if (self.parent >= np.arange(n)).any() or (self.parent < ROOT).any():
            raise ValueError("every parent must be -1 or a row before its child; use SwcForest.sorted for any order")

    def _freeze(self, name: str, values: npt.ArrayLike, dtype: type, shape: tuple[int, ...]) -> None:
        array = np.asarray(values, dtype=dtype).view()
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, not {array.shape}")
        array.flags.writeable = False
        object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"SwcForest({len(self)} nodes, {len(self.roots)} trees, length {self.length:.1f})"

    # ---- making one ------------------------------------------------------------------------------------------------

    @classmethod
    def empty(cls) -> SwcForest:
        """Return the forest without nodes."""
        none = np.zeros(0)
        return cls(none, none, np.zeros((0, 3)), none, none)

    @classmethod
    def sorted(
        cls,
        ids: npt.ArrayLike,
        types: npt.ArrayLike,
        xyz: npt.ArrayLike,
        radius: npt.ArrayLike,
        parent: npt.ArrayLike,
    ) -> SwcForest:
        """Build a forest from nodes in any order; rows are moved only where a child stands before its parent.

        Parameters are those of the class. Row ``i`` of the result comes from row ``file_order[i]`` of the input.

        Raises
        ------
        ValueError
            As the class, and if the parents run in a circle.
        """
        old_parent = np.asarray(parent, dtype=np.int64)
        order = topological_order(old_parent)
        new_row = np.empty_like(order)
        new_row[order] = np.arange(len(order))
        above = old_parent[order]
        return cls(
            np.asarray(ids)[order],
            np.asarray(types)[order],
            np.asarray(xyz, dtype=np.float64).reshape(-1, 3)[order],
            np.asarray(radius, dtype=np.float64)[order],
            np.where(above < 0, ROOT, new_row[above]),
            order,
        )

    @classmethod
    def from_positions(
        cls,
        positions: npt.ArrayLike,
        parent: npt.ArrayLike,
        radius: npt.ArrayLike = 1.0,
        types: npt.ArrayLike = 0,
    ) -> SwcForest:
        """Build a forest from array positions.

        Parameters
        ----------
        positions : float, shape (N, ndim)
            In (y, x) or (z, y, x) order; in 2D z becomes 0.
        parent : int, shape (N,)
            Row of the parent, -1 for a root, in any order; see `sorted` for how rows move.
        radius, types
            One value for all nodes, or shape (N,).
        """
        points = np.asarray(positions, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] not in (2, 3):
            raise ValueError(f"positions must have shape (N, 2) or (N, 3), not {points.shape}")
        n, ndim = points.shape
        xyz = np.zeros((n, 3))
        xyz[:, :ndim] = points[:, ::-1]
        return cls.sorted(np.arange(1, n + 1), np.broadcast_to(types, n), xyz, np.broadcast_to(radius, n), parent)

    def positions(self, ndim: int) -> np.ndarray:
        """Return the nodes as float64 of shape (N, ndim), in (y, x) or (z, y, x) order; a new array."""
        if ndim not in (2, 3):
            raise ValueError(f"ndim must be 2 or 3, not {ndim}")
        return self.xyz[:, :ndim][:, ::-1].copy()

    # ---- shape -----------------------------------------------------------------------------------------------------

    @cached_property
    def roots(self) -> np.ndarray:
        """Rows without a parent, shape (R,)."""
        return np.flatnonzero(self.parent == ROOT)

    @cached_property
    def n_children(self) -> np.ndarray:
        """Number of children of every node, shape (N,)."""
        return np.bincount(self.parent[self.parent >= 0], minlength=len(self))

    @cached_property
    def leaves(self) -> np.ndarray:
        """Rows without children; a root alone is both root and leaf."""
        return np.flatnonzero(self.n_children == 0)

    @cached_property
    def branch_points(self) -> np.ndarray:
        """Rows with more than one child."""
        return np.flatnonzero(self.n_children > 1)

    @cached_property
    def degree(self) -> np.ndarray:
        """Number of edges at every node, shape (N,)."""
        return self.n_children + (self.parent >= 0)

    @cached_property
    def edges(self) -> np.ndarray:
        """Edges as (parent, child) rows, shape (M, 2), in the order of the children."""
        child = np.flatnonzero(self.parent >= 0)
        return np.stack([self.parent[child], child], axis=1)

    @cached_property
    def edge_lengths(self) -> np.ndarray:
        """Euclidean length of every edge, shape (M,), in the order of `edges`."""
        ends = self.xyz[self.edges]
        return np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)

    @cached_property
    def length(self) -> float:
        """Sum of all edge lengths."""
        return float(self.edge_lengths.sum())

    @cached_property
    def _lifts(self) -> list[np.ndarray]:
        """Maps row -> the row 1, 2, 4, ... steps towards the root; the last one leads every node to its root."""
        up = np.where(self.parent < 0, np.arange(len(self)), self.parent)
        lifts = [up]
        while not np.array_equal(twice := up[up], up):
            lifts.append(twice)
            up = twice
        return lifts

    def _sum_to_root(self, per_node: np.ndarray) -> np.ndarray:
        """Sum a value (0 at roots) over every node's way to its root, by doubling the way."""
        total = per_node
        for up in self._lifts:
            total = total + total[up]
        return total

    @cached_property
    def depth(self) -> np.ndarray:
        """Number of edges to the root, shape (N,)."""
        return self._sum_to_root((self.parent >= 0).astype(np.int64))

    @cached_property
    def root_distance(self) -> np.ndarray:
        """Length of the way to the root, shape (N,)."""
        step = np.zeros(len(self))
        step[self.edges[:, 1]] = self.edge_lengths
        return self._sum_to_root(step)

    @cached_property
    def components(self) -> np.ndarray:
        """Number of each node's tree, shape (N,); trees are numbered from 0 in the order of their roots."""
        return np.searchsorted(self.roots, self._lifts[-1])

    # ---- ways ------------------------------------------------------------------------------------------------------

    def common_ancestor(self, a: npt.ArrayLike, b: npt.ArrayLike) -> np.ndarray:
        """Return the lowest common ancestors of pairs of rows ``a`` and ``b``, -1 where they share no tree.

        Binary lifting: bring both to the same depth, then climb in halving steps while the ancestors differ.
        """
        a, b = np.broadcast_arrays(np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64))
        deep, shallow = np.where(self.depth[a] >= self.depth[b], (a, b), (b, a))
        gap = self.depth[deep] - self.depth[shallow]
        for k, up in enumerate(self._lifts):
            deep = np.where(gap >> k & 1, up[deep], deep)
        for up in reversed(self._lifts):
            apart = up[deep] != up[shallow]
            deep, shallow = np.where(apart, up[deep], deep), np.where(apart, up[shallow], shallow)
        meet = np.where(deep == shallow, deep, self._lifts[0][deep])
        return np.where(self.components[a] == self.components[b], meet, ROOT)

    def path_distance(self, a: npt.ArrayLike, b: npt.ArrayLike) -> np.ndarray:
        """Return the length of the way along the tree between pairs of rows.

        Parameters
        ----------
        a, b : int, broadcast to one shape
            Rows.

        Returns
        -------
        float64 of that shape, in the units of the coordinates (`rescale` first for another spacing); inf where the two
        lie in different trees. 100 000 pairs take about 50 ms, whatever the depth of the trees.
        """
        a, b = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)
        meet = self.common_ancestor(a, b)
        way = self.root_distance[a] + self.root_distance[b] - 2 * self.root_distance[meet]
        return np.where(meet == ROOT, np.inf, np.maximum(way, 0.0))

    def ancestor_within(self, rows: npt.ArrayLike, way: npt.ArrayLike) -> np.ndarray:
        """Return the farthest ancestors at most ``way`` along the tree from ``rows``; the two are broadcast."""
        rows, way = np.broadcast_arrays(np.asarray(rows, dtype=np.int64), np.asarray(way, dtype=np.float64))
        least = self.root_distance[rows] - way
        for up in reversed(self._lifts):
            rows = np.where(self.root_distance[up[rows]] >= least, up[rows], rows)
        return rows

    def branches(self) -> list[np.ndarray]:
        """Cut the forest at roots, branch points and leaves.

        Returns
        -------
        list of int64 arrays: rows from a root or branch point to the next branch point or leaf, both included. Every
        edge is in exactly one; a node without edges is in none.
        """
        is_cut = (self.n_children != 1) | (self.parent == ROOT)
        return self._chains(is_cut[self.parent])

    def row_along(self, way: np.ndarray, length: float) -> int:
        """Return the first row at least ``length`` along a way (rows of a branch, from either end), or its last."""
        walked = np.abs(self.root_distance[way] - self.root_distance[way[0]])
        return int(way[min(int(np.searchsorted(walked, length)), len(way) - 1)])

    def _chains(self, starts: np.ndarray) -> list[np.ndarray]:
        """Group the edges into chains; ``starts`` (N,) marks the child rows whose edge is the first of its chain."""
        first = np.where(starts, np.arange(len(self)), self.parent)
        while not np.array_equal(further := first[first], first):
            first = further
        child = self.edges[:, 1]
        # Parents stand before children, so a stable sort by chain leaves every chain in walking order.
        child = child[np.argsort(first[child], kind="stable")]
        is_head = first[child] == child
        cuts = np.flatnonzero(is_head)
        chains = np.split(child, cuts[1:]) if len(child) else []
        return [np.concatenate([self.parent[chain[:1]], chain]) for chain in chains]


def topological_order(parent: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the rows, parents before children, as near to the given order as that allows.

    A node keeps its place; ancestors that stand after it are pulled before it.

    Raises
    ------
    ValueError
        If the parents run in a circle.
    """
    parent = np.asarray(parent, dtype=np.int64)
    rows = np.arange(len(parent))
    if (parent < rows).all():
        return rows
    if (row := find_cycle(parent)) != ROOT:
        raise ValueError(f"the parents of row {row} run in a circle")
    above, placed, order = parent.tolist(), [False] * len(parent), []
    for row in range(len(parent)):
        waiting = []
        while row >= 0 and not placed[row]:
            placed[row] = True
            waiting.append(row)
            row = above[row]
        order.extend(reversed(waiting))
    return np.array(order, dtype=np.int64)


def find_cycle(parent: np.ndarray) -> int:
    """Return the first row that lies on a circle of parents, -1 if there is none."""
    n = len(parent)
    up = np.append(np.where(parent < 0, n, parent), n)  # row n: above all roots
    for _ in range(n.bit_length()):
        up = up[up]
    on_cycle = up[up != n]  # after n or more steps only circles are left
    return int(on_cycle.min()) if len(on_cycle) else ROOT
