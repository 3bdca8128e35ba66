"""What speaks for and against each branch, join and end of a trace: numbers from its trees and its nodes.

Nothing here looks at the image or the map, so that traces in cells, which have neither, get the same confidence: of
each node the probability is known, and of each end how surely the map goes on beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from lib.swclib import SwcForest
from lib.swclib.branches import Branches
from lib.swclib.forest import ROOT, SOMA_TYPE
from lib.vectors import cosine

Floats = NDArray[np.floating]
Rows = NDArray[np.integer]

WINDOW = 10.0
"""Units of a branch, on each side of a join or before an end, that speak for it: two steps of the tracer."""
SMOOTH = 5
"""Nodes over which probabilities are averaged before the weakest place of a branch is looked for."""
LOW = 0.1
"""Quantile of the probabilities of a branch that shows its weak parts."""
SMALL = 0.1
"""Units added to widths before the logarithm, so that a width of 0 has one."""
FAR = 40.0
"""Units. What lies farther from an end than this says nothing about it."""

BRANCH = ("mean_probability", "low_probability", "free_ends", "log_length", "log_tree", "log_radius")
"""What is known of a branch: probabilities along it, its free ends, its length, that of its tree, its radius."""
JOIN = ("probability", "probability_before", "least_probability", "turn", "arms", "radius_change", "log_behind")
"""What is known of a join: probabilities after and before it, the cosine of the turn, the number of branches that meet,
by how much the radius changes, the length of all that follows."""
INSIDE = ("least_probability", "mean_probability", "turn", "log_length")
"""What is known of the weakest place of a branch."""
FAINT = 0.02
"""Added to the probability ahead of an end before the logarithm: below it, there is nothing."""
END = ("probability", "fall", "log_radius", "log_distance", "log_length", "log_ahead")
"""What is known of an end: the probability before it and by how much it falls, the radius, the distance to another
branch, the length of its own, and the probability ahead."""


def _table(values: list, names: tuple[str, ...]) -> Floats:
    """Rows of numbers ``(K, F)``, also where there is none."""
    return np.array(values, dtype=float).reshape(-1, len(names))


class Evidence(NamedTuple):
    """What is known of the ``K`` items of one kind.

    Attributes
    ----------
    values
        ``(K, F)`` numbers that speak for or against them; NaN where an item does not exist.
    node
        ``(K,)`` rows of the nodes at which they lie.
    branch
        ``(K,)`` their branches.
    behind
        ``(K,)`` length, in the unit of the forest, that is wrong if the item is; NaN where only an image can tell.
    """

    values: Floats
    node: Rows
    branch: Rows
    behind: Floats


@dataclass(frozen=True)
class TraceEvidence:
    """The evidence of a trace of ``B`` branches and ``E`` ends.

    Attributes
    ----------
    branches
        Of each branch, at its middle node: is it real?
    joins
        Of each branch, at its first node: is it rightly joined to the branch that leads to it? NaN at roots.
    insides
        Of each branch, at its weakest place: does what lies on both sides belong together?
    ends
        Of each end: does the tube end there?
    """

    branches: Evidence
    joins: Evidence
    insides: Evidence
    ends: Evidence

    @classmethod
    def of(
        cls, forest: SwcForest, branches: Branches, probability: Floats, ahead: Floats, unit: float
    ) -> TraceEvidence:
        """Collect the evidence.

        Parameters
        ----------
        forest
            The trace.
        branches
            Its branches.
        probability
            ``(N,)`` centerline probability of the nodes.
        ahead
            ``(N,)`` of the ends: see :func:`~tools.confidence.ahead.probability_ahead`.
        unit
            Length of a work pixel of the finest axis, in the unit of the coordinates of the forest.
        """
        trace = _Measured(forest, branches, probability, ahead, unit)
        return cls(trace.branches(), trace.joins(), trace.insides(), trace.ends())


@dataclass(frozen=True)
class _Measured:
    """A trace and what is known of it; see :meth:`TraceEvidence.of`."""

    forest: SwcForest
    of: Branches
    probability: Floats
    ahead: Floats
    unit: float

    def _log(self, length: float) -> float:
        """A length as the logarithm of units, so that no long one outweighs everything else."""
        return float(np.log1p(length / self.unit))

    def _near(self, rows: Rows) -> Rows:
        """The first nodes of a branch, from either end."""
        return rows[self.forest.along(rows) <= WINDOW * self.unit]

    @cached_property
    def _below(self) -> Floats:
        """``(B,)`` length of each branch and of all that follow it."""
        below = self.of.length.copy()
        for number in range(len(self.of) - 1, -1, -1):
            if self.of.parent[number] != ROOT:
                below[self.of.parent[number]] += below[number]
        return below

    @cached_property
    def _tree(self) -> Floats:
        """``(B,)`` length of the tree of each branch."""
        lengths = np.bincount(self.of.tree, self.of.length, len(self.forest.roots))
        return lengths.astype(float)[self.of.tree]

    @cached_property
    def _index(self) -> KDTree:
        return KDTree(self.forest.xyz)

    def branches(self) -> Evidence:
        """The evidence for :data:`BRANCH`."""
        values = [self._branch(number, rows) for number, rows in enumerate(self.of.rows)]
        middle = [int(rows[len(rows) // 2]) for rows in self.of.rows]
        return self._of_branches(values, BRANCH, middle, self.of.length)

    def _of_branches(self, values: list, names: tuple[str, ...], nodes: list[int], behind: Floats) -> Evidence:
        """Evidence of an item in each branch."""
        return Evidence(_table(values, names), np.array(nodes, dtype=int), np.arange(len(self.of)), behind)

    def _branch(self, number: int, rows: Rows) -> tuple[float, ...]:
        values = self.probability[self._tube(rows)]
        lengths = self._log(self.of.length[number]), self._log(self._tree[number])
        return values.mean(), float(np.quantile(values, LOW)), self._free(rows), *lengths, self._log_width(rows)

    def _free(self, rows: Rows) -> int:
        """Number of free ends of a branch."""
        return sum(map(self._is_end, rows[[0, -1]].tolist()))

    def _tube(self, rows: Rows) -> Rows:
        """Some nodes without bodies of cells, whose radius and probability are not those of a tube."""
        of_tube = rows[self.forest.types[rows] != SOMA_TYPE]
        return of_tube if len(of_tube) else rows

    def _log_width(self, rows: Rows) -> float:
        """Logarithm of the mean radius of some nodes."""
        return float(np.log(self.forest.radius[self._tube(rows)].mean() / self.unit + SMALL))

    def joins(self) -> Evidence:
        """The evidence for :data:`JOIN`."""
        values = [self._join(number, int(parent)) for number, parent in enumerate(self.of.parent)]
        first = [int(rows[0]) for rows in self.of.rows]
        return self._of_branches(values, JOIN, first, np.minimum(self._below, self._tree - self._below))

    def _join(self, number: int, parent: int) -> tuple[float, ...]:
        if parent == ROOT:
            return (np.nan,) * len(JOIN)
        own, other = self._near(self.of.rows[number]), self._near(self.of.rows[parent][::-1])
        sides = self.probability[own], self.probability[other]
        turn = np.cos(np.radians(np.nan_to_num(self.of.angle[number])))
        widths = abs(self._log_width(own) - self._log_width(other))
        least, behind = min(float(side.min()) for side in sides), self._log(self._below[number])
        return sides[0].mean(), sides[1].mean(), least, turn, float(self.forest.degree[own[0]]), widths, behind

    def insides(self) -> Evidence:
        """The evidence for :data:`INSIDE`."""
        places = [self._weakest(rows) for rows in self.of.rows]
        values = [self._inside(rows, at) for rows, at in zip(self.of.rows, places, strict=True)]
        nodes = [int(rows[at]) for rows, at in zip(self.of.rows, places, strict=True)]
        begin = np.array([rows[0] for rows in self.of.rows], dtype=int)
        beyond = self._below - (self.forest.root_distance[nodes] - self.forest.root_distance[begin])
        return self._of_branches(values, INSIDE, nodes, np.minimum(beyond, self._tree - beyond))

    def _weakest(self, rows: Rows) -> int:
        """Where in a branch the probability is lowest, not near its ends if it is long enough."""
        along = self.forest.along(rows)
        inner = (along >= WINDOW * self.unit) & (along <= along[-1] - WINDOW * self.unit)
        return int(np.where(inner, self._smooth(rows), np.inf).argmin()) if inner.any() else len(rows) // 2

    def _smooth(self, rows: Rows) -> Floats:
        """Probabilities of a branch, averaged over :data:`SMOOTH` nodes."""
        padded = np.pad(self.probability[rows], SMOOTH // 2, mode="edge")
        return np.convolve(padded, np.full(SMOOTH, 1 / SMOOTH), "valid")

    def _inside(self, rows: Rows, at: int) -> tuple[float, ...]:
        length = self._log(self.forest.along(rows)[-1])
        return self._smooth(rows)[at], self.probability[rows].mean(), self._straight(rows, at), length

    def _straight(self, rows: Rows, at: int) -> float:
        """Cosine of the turn of a branch at a place."""
        way = self.forest.along(rows)
        sides = (np.abs(way - (way[at] + side * WINDOW * self.unit)).argmin() for side in (-1, 1))
        before, after = (self.forest.xyz[rows[side]] - self.forest.xyz[rows[at]] for side in sides)
        return cosine(-before, after)

    def ends(self) -> Evidence:
        """The evidence for :data:`END`."""
        is_end = [(number, at) for number, rows in enumerate(self.of.rows) for at in (0, -1) if self._is_end(rows[at])]
        ways = [self.of.rows[number][:: 1 if at == 0 else -1] for number, at in is_end]
        node = np.array([rows[0] for rows in ways], dtype=int)
        branch = np.array([number for number, _ in is_end], dtype=int)
        return Evidence(_table([self._end(rows) for rows in ways], END), node, branch, np.full(len(node), np.nan))

    def _is_end(self, row: int) -> bool:
        return bool(self.forest.degree[row] == 1 and self.forest.types[row] != SOMA_TYPE)

    def _end(self, rows: Rows) -> tuple[float, ...]:
        """Numbers about the first node of a way along a branch."""
        near = self._near(rows)
        values, length = self.probability[near], self._log(self.forest.along(rows)[-1])
        ahead = float(np.log(self.ahead[rows[0]] + FAINT))
        return values.mean(), values[0] - values.mean(), self._log_width(near), self._apart(rows), length, ahead

    def _apart(self, rows: Rows) -> float:
        """Logarithm of the distance from an end to the next node of another branch, at most :data:`FAR`."""
        near = np.array(self._index.query_ball_point(self.forest.xyz[rows[0]], FAR * self.unit), dtype=int)
        others = np.setdiff1d(near, rows)
        distance = np.linalg.norm(self.forest.xyz[others] - self.forest.xyz[rows[0]], axis=1)
        return self._log(distance.min(initial=FAR * self.unit))
