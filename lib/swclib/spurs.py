"""Branches of a forest by their ends, and short end branches cut off."""

from __future__ import annotations

import numpy as np

from lib.swclib.forest import SwcForest
from lib.swclib.transform import rewire, subset


def spans(forest: SwcForest) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """The branches of a forest, their end nodes ``(B, 2)`` and their lengths ``(B,)``."""
    branches = forest.branches()
    ends = np.array([branch[[0, -1]] for branch in branches], dtype=int).reshape(-1, 2)
    return branches, ends, np.diff(forest.root_distance[ends], axis=1)[:, 0]


def prune_spurs(
    forest: SwcForest, shortest: float, *, per_radius: float = 0.0, forks: np.ndarray | None = None
) -> SwcForest:
    """Cut off end branches that are too short, the shortest first.

    An end branch runs from a fork to a leaf. Of two short ones at a fork only the shorter is cut, and the other
    continues the stem. Trees without a fork stay. If a root is cut off with its branch, an end becomes the root.

    Parameters
    ----------
    forest
        Any forest.
    shortest, per_radius
        A branch stays if it is at least ``shortest`` plus ``per_radius`` times the radius at its fork long, in the unit
        of the coordinates.
    forks
        Ids of the nodes at which branches are cut off; None: at all.
    """
    while spurs := _shortest_of_each_fork(forest, shortest, per_radius, forks):
        keep = np.ones(len(forest), dtype=bool)
        for spur in spurs:
            keep[spur[forest.degree[spur] <= 2]] = False
        forest = subset(forest, keep)
        # A root inside a branch would split it in two in every count of branches.
        if (forest.degree[forest.roots] > 1).any():
            forest = rewire(forest, forest.edges)
    return forest


def _shortest_of_each_fork(
    forest: SwcForest, shortest: float, per_radius: float, forks: np.ndarray | None
) -> list[np.ndarray]:
    """Spurs to cut now: at most one at each fork. A spur runs between a fork and an end; a root can be an end."""
    branches, ends, length = spans(forest)
    degree = forest.degree[ends]
    fork = ends[np.arange(len(ends)), degree.argmax(axis=1)]
    is_short = length < shortest + per_radius * forest.radius[fork]
    is_spur = (degree.min(axis=1) == 1) & (degree.max(axis=1) > 2) & is_short
    if forks is not None:
        is_spur &= np.isin(forest.ids[fork], forks)
    spurs = np.flatnonzero(is_spur)[np.argsort(length[is_spur], kind="stable")]
    return [branches[row] for row in spurs[np.unique(fork[spurs], return_index=True)[1]]]
