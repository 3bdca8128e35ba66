"""What is true of the branches, joins and ends of a trace, according to a gold tree.

A gold tree cannot hold loops, so those that it cuts are closed (docs/metrics.md, protocol ``closed``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from lib.swclib import SwcForest, resample
from lib.swclib.branches import Branches
from lib.swclib.forest import ROOT, adjacency
from lib.swclib.metrics.closures import CLOSE_RADIUS
from lib.swclib.metrics.continuity import are_connected
from lib.swclib.nearest import EdgeSearch

Floats = NDArray[np.floating]
Rows = NDArray[np.integer]

NEAR = 2.0
"""Image pixels. A branch is real where gold lies nearer than this (docs/metrics.md, SSD)."""
REACH = {2: 8.0, 3: 4.0}
"""Units, by dimension, within which two trees run together: half of a wide tube. Neurites may lie 4 voxels apart."""
BESIDE = 2.0
"""Of the reach: how far from a join the two places lie that have to belong together, each out of reach of the other,
and how much gold beyond an end makes it wrong."""
CUT = 1.5
"""Median edges of the gold that the cut of a loop may take out; where these are short, :data:`CLOSE_RADIUS` holds."""


@dataclass(frozen=True)
class Truth:
    """Arrays as long as those of :class:`~tools.confidence.evidence.TraceEvidence`: 1 true, 0 false, NaN unknown.

    A join is unknown where one of its sides is not in the gold: then that branch is false, not the join.

    Attributes
    ----------
    branches, joins, insides, ends
        The truth of each item.
    missed
        Mean length of gold that goes on beyond a false end, in units; NaN without one.
    """

    branches: Floats
    joins: Floats
    insides: Floats
    ends: Floats
    missed: float

    @classmethod
    def of(
        cls,
        gold: SwcForest,
        trace: SwcForest,
        branches: Branches,
        weakest: Rows,
        ends: Rows,
        *,
        pixel: float,
        ndim: int,
    ) -> Truth:
        """Compare a trace with a gold tree, both in units.

        Parameters
        ----------
        gold, trace
            Trees.
        branches
            Branches of the trace.
        weakest, ends
            Rows of the weakest place of each branch, and of the ends.
        pixel
            Size of an image pixel in units.
        ndim
            2 or 3.
        """
        reach = REACH[ndim]
        sides = [
            _beside_joins(trace, branches, BESIDE * reach),
            _beside_places(trace, branches, weakest, BESIDE * reach),
        ]
        pairs = np.concatenate(sides)
        connected = are_connected(gold, trace, *pairs.T, reach=reach, close_radius=_cut(gold, pixel))
        joins, insides = np.split(connected, 2)
        joins[branches.parent == ROOT] = np.nan
        missed = Missed.of(gold, trace, ends, reach)
        ended = np.where(_is_near(trace.xyz[ends], gold, reach), missed.of_end < 0, np.nan)
        return cls(_real(gold, trace, branches, NEAR * pixel), joins, insides, ended, missed.mean_length)


def _cut(gold: SwcForest, pixel: float) -> float:
    """Widest gap that the cut of a loop leaves: a cut takes out an edge, and edges differ."""
    edge = float(np.median(gold.edge_lengths)) if len(gold.edges) else 0.0
    return max(CLOSE_RADIUS * pixel, CUT * edge)


def _real(gold: SwcForest, trace: SwcForest, branches: Branches, near: float) -> Floats:
    """Whether most of the length of each branch lies near the gold."""
    is_near = _is_near(trace.xyz, gold, near).astype(float)
    shares = np.zeros(len(branches))
    for number, rows in enumerate(branches.rows):
        steps = np.diff(trace.root_distance[rows])
        shares[number] = (is_near[rows[1:]] + is_near[rows[:-1]]) @ steps / 2 / max(steps.sum(), 1e-9)
    return (shares > 0.5).astype(float)


def _is_near(xyz: Floats, forest: SwcForest, near: float) -> NDArray[np.bool_]:
    """Which places ``(K, 3)`` lie nearer to a forest than this."""
    found = np.zeros(len(xyz), bool)
    found[EdgeSearch.of(forest).within(xyz, near).point] = True
    return found


def _beside_joins(trace: SwcForest, branches: Branches, beside: float) -> Rows:
    """Nodes ``(B, 2)`` on both sides of the join of each branch with the one that leads to it; at roots any."""
    pairs = [
        (trace.row_along(rows, beside), trace.row_along(branches.rows[above][::-1], beside))
        for rows, above in zip(branches.rows, branches.parent.tolist(), strict=True)
    ]
    return np.array(pairs, dtype=int).reshape(-1, 2)


def _beside_places(trace: SwcForest, branches: Branches, places: Rows, beside: float) -> Rows:
    """Nodes ``(B, 2)`` on both sides of a place within each branch."""
    pairs = []
    for rows, place in zip(branches.rows, places, strict=True):
        way = trace.root_distance[rows] - trace.root_distance[place]
        pairs.append([rows[np.abs(way - side).argmin()] for side in (-beside, beside)])
    return np.array(pairs, dtype=int).reshape(-1, 2)


@dataclass(frozen=True)
class Missed:
    """What of the gold a trace lacks, as far as it begins near an end of the trace.

    Attributes
    ----------
    gold
        The gold tree with a node each unit.
    piece
        int64 ``(N,)`` number of the connected piece of missed gold in which each of its nodes lies, -1 in none.
    of_end
        int64 ``(E,)`` the piece that goes on from each end, -1 where none does.
    """

    gold: SwcForest
    piece: Rows
    of_end: Rows

    @classmethod
    def of(cls, gold: SwcForest, trace: SwcForest, ends: Rows, reach: float) -> Missed:
        """Find it; ``ends`` ``(E,)`` are rows of the trace, ``reach`` is that of the two trees, in units."""
        fine = resample(gold, 1.0)
        missed = ~_is_near(fine.xyz, trace, reach)
        edges = fine.edges[missed[fine.edges].all(axis=1)]
        _, piece = connected_components(adjacency(edges, len(fine)), directed=False)
        is_long = missed & (np.bincount(piece)[piece] >= BESIDE * reach)
        piece = np.where(is_long, piece, -1)
        if not is_long.any():
            return cls(fine, piece, np.full(len(ends), -1))
        distance, nearest = (np.asarray(each) for each in KDTree(fine.xyz[is_long]).query(trace.xyz[ends]))
        goes_on = _is_near(trace.xyz[ends], gold, reach) & (distance < BESIDE * reach)
        return cls(fine, piece, np.where(goes_on, piece[is_long][nearest], -1))

    @property
    def mean_length(self) -> float:
        """Mean length of the pieces that go on from ends, in units; NaN if there is none."""
        lengths = np.bincount(self.piece[self.piece >= 0], minlength=1)[self.of_end[self.of_end >= 0]]
        return float(lengths.mean()) if len(lengths) else np.nan
