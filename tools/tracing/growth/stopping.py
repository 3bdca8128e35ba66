"""Why a front stops: one named rule each. A new rule is one function and its line in a table.

A front stops in a step if it makes no new node. Two kinds of rules are asked, in the order of their tables:

- :data:`MAP_RULES` look at the map and at the path, for the candidate steps of all fronts at once. The rule that counts
  is the first that refuses the front's best candidate.
- :data:`TREE_RULES` look at what is traced already, for one step at a time, because the steps taken before it count.
  The rule that counts is the one that refuses the front's last candidate.

The JSON of a trace says how many fronts each rule has stopped, and how many had no candidate (:data:`NO_CANDIDATE`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import map_coordinates

from tools.tracing.growth.graph import TraceGraph
from tools.tracing.valley import best_around, crosses_valley, goes_straight

if TYPE_CHECKING:
    from tools.tracing.growth.tracer import TraceSettings

NO_CANDIDATE = "no_candidate"
"""Counted where the search has found no candidate at all."""
SEED_COVERED = "seed_covered"
"""Counted where an older front has passed by a seed in the very step in which the seed was to start."""


@dataclass(frozen=True)
class Steps:
    """``K`` candidate steps of some fronts.

    Attributes
    ----------
    path
        ``(K, W + 1, ndim)`` work positions: the tip, then the nodes walked before it, NaN where there are none.
    position
        ``(K, ndim)`` where the steps lead.
    edge_mean
        ``(K,)`` mean edge probability along each; NaN where it was not asked.
    centerline
        ``(*S,)`` probabilities.
    settings
        See :class:`~tools.tracing.growth.tracer.TraceSettings`.
    """

    path: np.ndarray
    position: np.ndarray
    edge_mean: np.ndarray
    centerline: np.ndarray
    settings: TraceSettings

    @cached_property
    def step(self) -> np.ndarray:
        """``(K, ndim)`` the steps in units."""
        return self.settings.search.in_units(self.position - self.path[:, 0])

    @cached_property
    def last(self) -> np.ndarray:
        """``(K, ndim)`` the steps before them in units; NaN at a seed."""
        return self.settings.search.in_units(self.path[:, 0] - self.path[:, 1])


# ---- rules of the map ----------------------------------------------------------------------------------------------


def outside(steps: Steps) -> np.ndarray:
    """The step leaves the image (docs/paper.md §5)."""
    pixel = np.floor(steps.position + 0.5).astype(np.int64)
    return ((pixel < 0) | (pixel >= steps.centerline.shape)).any(axis=1)


def off_centerline(steps: Steps) -> np.ndarray:
    """The centerline probability is below ``stop_threshold`` where the step ends (docs/paper.md §5).

    Where branches may run side by side the place itself counts, else the best of the pixels around it.
    """
    if steps.settings.side_by_side:
        probability = map_coordinates(steps.centerline, steps.position.T, order=1, mode="nearest")
    else:
        probability = best_around(steps.centerline, steps.position)
    return ~(probability >= steps.settings.stop_threshold)


def turns_back(steps: Steps) -> np.ndarray:
    """The step turns by more than 90 degrees (docs/paper.md §5). A seed may go anywhere."""
    return (steps.step * steps.last).sum(axis=1) < 0


def over_valley(steps: Steps) -> np.ndarray:
    """The step crosses a valley of the map: beyond it runs another branch. Ours, not the paper's.

    Straight ahead there may be a gap instead, which is crossed where the mean edge probability is at least
    ``gap_edge``. A seed has no direction to be straight ahead of.
    """
    straight = goes_straight(steps.step, steps.last) & ~(steps.edge_mean < steps.settings.gap_edge)
    return crosses_valley(steps.centerline, steps.path[:, 0], steps.position) & ~straight


MAP_RULES: Mapping[str, Callable[[Steps], np.ndarray]] = {
    "outside": outside,
    "off_centerline": off_centerline,
    "turns_back": turns_back,
    "over_valley": over_valley,
}
"""Each gives ``(K,)`` bool, True where it refuses the step."""


def first_refusal(steps: Steps) -> np.ndarray:
    """For each step the number of the first of :data:`MAP_RULES` that refuses it, −1 where none does: ``(K,)``."""
    refused = np.stack([rule(steps) for rule in MAP_RULES.values()], axis=1)
    return np.where(refused.any(axis=1), refused.argmax(axis=1), -1)


# ---- rules of the trees --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TreeStep:
    """One step from ``node`` of the trace to ``position`` ``(ndim,)``, in work positions."""

    graph: TraceGraph
    node: int
    position: np.ndarray
    centerline: np.ndarray
    settings: TraceSettings


def direction_taken(step: TreeStep) -> bool:
    """An edge leaves the node that way already: another front came from there and was joined here."""
    in_units = step.settings.search.in_units
    ahead = in_units(step.position - step.graph.positions[step.node])
    limit = math.cos(math.radians(step.settings.branch_angle)) * np.linalg.norm(ahead)
    others = map(in_units, step.graph.directions(step.node))
    return any(along @ ahead > limit * np.linalg.norm(along) for along in others)


def meets_branch(step: TreeStep) -> bool:
    """The step ends within ``meet`` of a traced edge (docs/paper.md §5) with no valley between. It may be joined."""
    near = step.graph.nearest(step.position, step.settings.meet, step.graph.edges_at(step.node))
    if near is None:
        return False
    return not crosses_valley(step.centerline, step.position[None], np.array([near.foot]))[0]


TREE_RULES: Mapping[str, Callable[[TreeStep], bool]] = {
    "direction_taken": direction_taken,
    "meets_branch": meets_branch,
}
"""Each says whether it refuses the step."""
JOINING_RULE = "meets_branch"
"""The rule whose steps are joined to the branch."""


def refused_by(step: TreeStep) -> str | None:
    """Name of the first of :data:`TREE_RULES` that refuses a step; None where none does."""
    return next((name for name, rule in TREE_RULES.items() if rule(step)), None)
