"""PE (position error), ABL (average branch length) and JE (jump error).

Defined in the supplement of NETracer (Liu, Jiang, Zheng, ICCV 2025). The supplement and the published code count
differently; a third protocol separates jumps from the cut loops of the gold tree:

============  ===========================================  ==========================================================
protocol      PE                                           JE: a jump if the gold path is longer than ``alpha`` times
============  ===========================================  ==========================================================
paper         to the nearest gold node, below 2            the straight line between the matched gold nodes
experiment    to the nearest gold edge, below 5            the line from the test child to the parent's gold node, and
                                                           longer than 20
closed        as paper                                     as paper, on the gold with its loops closed (`Closures`)
============  ===========================================  ==========================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lib.swclib.forest import SwcForest
from lib.swclib.metrics.closures import Closures, closed_distance, find_closures
from lib.swclib.nearest import EdgeSearch, distances, nearest_nodes

Protocol = Literal["paper", "experiment", "closed"]
EDGE_LIMIT = 5.0  # experiment protocol: PE counts test nodes nearer to a gold edge than this
MIN_JUMP = 20.0  # experiment protocol: a shorter gold path is never a jump


@dataclass(frozen=True)
class PositionError:
    """PE: ``value`` is the mean distance of the matched test nodes, None if none is matched."""

    value: float | None
    matched: int
    total: int

    @property
    def matched_fraction(self) -> float | None:
        """Matched share of the test nodes; None for an empty test."""
        return self.matched / self.total if self.total else None


@dataclass(frozen=True)
class BranchLength:
    """ABL: total length and number of branches."""

    length: float
    branches: int

    @property
    def value(self) -> float | None:
        """Mean length of a branch; None for an empty test."""
        return self.length / self.branches if self.branches else None


@dataclass(frozen=True)
class JumpError:
    """JE: the test edges that jump.

    Attributes
    ----------
    nodes
        int64 ``(value,)`` rows of their child nodes.
    ids
        int64 ``(value,)`` ids of these nodes in the test file.
    candidates
        Number of test edges whose child is matched, the only ones that can be jumps.
    """

    nodes: np.ndarray
    ids: np.ndarray
    candidates: int

    @property
    def value(self) -> int:
        """Number of jumps."""
        return len(self.nodes)


def position_error(
    gold: SwcForest, test: SwcForest, *, protocol: Protocol = "paper", threshold: float = 2.0
) -> PositionError:
    """Return the mean distance of the matched test nodes to the gold.

    Parameters
    ----------
    gold, test
        Trees in the same coordinates.
    protocol
        How to measure, see this module's docstring.
    threshold
        A node is matched if it is nearer than this; ``experiment`` uses 5 instead.
    """
    if protocol == "experiment":
        distance, limit = EdgeSearch.of(gold).nearest(test.xyz).distance, EDGE_LIMIT
    else:
        distance, limit = nearest_nodes(gold, test.xyz)[1], threshold
    matched = distance[distance < limit]
    return PositionError(float(matched.mean()) if len(matched) else None, len(matched), len(test))


def average_branch_length(test: SwcForest) -> BranchLength:
    """Return the length and the number of branches: one per root and per node with more than one child."""
    return BranchLength(test.length, len(test.roots) + len(test.branch_points))


def jump_error(
    gold: SwcForest,
    test: SwcForest,
    *,
    protocol: Protocol = "paper",
    threshold: float = 2.0,
    alpha: float = 2.0,
    closures: Closures | None = None,
) -> JumpError:
    """Return the test edges whose ends are far from each other along the gold.

    Parameters
    ----------
    gold, test
        Trees in the same coordinates.
    protocol
        How to count, see this module's docstring.
    threshold
        Only edges whose child is nearer than this to a gold node are candidates; the parent may be anywhere.
    alpha
        An edge jumps if the path along the gold is longer than ``alpha`` times the straight line, or if there is no
        path.
    closures
        Closures of the gold for ``closed``; by default those of `find_closures`.
    """
    nearest, distance = nearest_nodes(gold, test.xyz)
    parent, child = test.edges[distance[test.edges[:, 1]] < threshold].T
    gold_parent, gold_child = nearest[parent], nearest[child]
    path = gold.path_distance(gold_child, gold_parent)
    start = test.xyz[child] if protocol == "experiment" else gold.xyz[gold_child]
    limit = alpha * distances(start, gold.xyz[gold_parent])
    is_jump = path > limit
    if protocol == "experiment":
        is_jump &= path > MIN_JUMP
    if protocol == "closed" and is_jump.any():
        found = np.flatnonzero(is_jump)
        closures = find_closures(gold) if closures is None else closures
        is_jump[found] = closed_distance(gold, closures, gold_child[found], gold_parent[found]) > limit[found]
    return JumpError(child[is_jump], test.ids[child[is_jump]], len(child))
