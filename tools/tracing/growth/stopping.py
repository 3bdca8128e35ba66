"""The rules that stop a front, each with a name. A new rule is one function and one line in a table.

A front stops in a step in which it makes no node. Three things are checked in turn:

1. Without a candidate the front stops as :data:`NO_CANDIDATE`.
2. :data:`MAP_RULES` check the candidate steps of all fronts at once against the map and the walked path. If they refuse
   all candidates of a front, the first rule that refuses its best candidate is counted.
3. :data:`TREE_RULES` check the remaining steps against the trees, one by one, because each step changes the trees. If
   they refuse all of a front's steps, the rule that refuses the best one is counted. A seed that was covered
   meanwhile stops as :data:`SEED_COVERED`.

So every front that stops is counted once; the counts are in the JSON of a trace.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import mul

import numpy as np
from scipy.ndimage import map_coordinates

from lib.klib.windows import is_outside
from lib.swclib import Nearest
from tools.tracing.growth.graph import TraceGraph
from tools.tracing.growth.settings import TraceSettings
from tools.tracing.ridge import across, highest_around
from tools.tracing.valley import crosses_valley, goes_straight

NO_CANDIDATE = "no_candidate"
"""The search found no candidate. Its own limits are the paper's: a step longer than 10·r is none (docs/paper.md §5)."""
SEED_COVERED = "seed_covered"
"""An older front passed the seed in the same step; tracing from the seed would repeat its branch. Ours."""


@dataclass(frozen=True)
class Steps:
    """``K`` candidate steps, of any number of fronts. Rules see the map and the walked path; the image is not kept.

    Attributes
    ----------
    path
        ``(K, W + 1, ndim)`` positions in work pixels: the tip, then the nodes walked before it, NaN where absent.
    position
        ``(K, ndim)`` ends of the steps, in work pixels.
    edge_mean
        ``(K,)`` mean edge probability along each step; NaN if not measured.
    centerline
        ``(*S,)`` probabilities.
    settings
        See :class:`~tools.tracing.growth.settings.TraceSettings`.
    """

    path: np.ndarray
    position: np.ndarray
    edge_mean: np.ndarray
    centerline: np.ndarray
    settings: TraceSettings

    @cached_property
    def step(self) -> np.ndarray:
        """``(K, ndim)`` the steps, in units."""
        return self.settings.search.in_units(self.position - self.path[:, 0])

    @cached_property
    def last(self) -> np.ndarray:
        """``(K, ndim)`` the previous step of each front, in units; NaN at a seed, which a rule must let pass."""
        return self.settings.search.in_units(self.path[:, 0] - self.path[:, 1])

    @cached_property
    def from_seed(self) -> np.ndarray:
        """``(K,)`` bool, whether the front is a seed, which has not walked yet."""
        return np.isnan(self.path[:, 1, 0])


def outside(steps: Steps) -> np.ndarray:
    """The step leaves the image. Ours: the paper does not say what it does there."""
    return _beyond(steps.position, steps.centerline.shape)


def _beyond(positions: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Which positions ``(K, ndim)`` lie beyond an image, whose pixels reach half a pixel around their centres."""
    return is_outside(np.floor(positions + 0.5), np.zeros(len(shape)), np.array(shape) - 1)


def up_to_the_border(tips: np.ndarray, position: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Steps that leave the image, shortened to end at its border, where a tube may be cut; ours.

    Parameters
    ----------
    tips, position
        ``(K, ndim)`` where the steps begin, inside, and end.
    shape
        Of the image.

    Returns
    -------
    ndarray
        ``(K, ndim)``. A step of which less than a pixel would be left still leaves the image.
    """
    step = position - tips
    room = np.where(step > 0, np.array(shape) - 1 - tips, tips) / np.maximum(np.abs(step), 1e-9)
    short = step * np.clip(room.min(axis=1), 0, 1)[:, None]
    is_cut = _beyond(position, shape) & (np.linalg.norm(short, axis=1) >= 1)
    return np.where(is_cut[:, None], tips + short, position)


def off_centerline(steps: Steps) -> np.ndarray:
    """The centerline probability at the end of the step is below ``stop_threshold`` (docs/paper.md §5).

    Ours: unless branches may run side by side, the highest probability of the pixels around the end counts.
    """
    if steps.settings.side_by_side:
        probability = map_coordinates(steps.centerline, steps.position.T, order=1, mode="nearest")
    else:
        probability = highest_around(steps.centerline, steps.position)
    return ~(probability >= steps.settings.stop_threshold)


def turns_back(steps: Steps) -> np.ndarray:
    """The step turns by more than 90 degrees (docs/paper.md §5). A seed may go in any direction."""
    return (steps.step * steps.last).sum(axis=1) < 0


def over_valley(steps: Steps) -> np.ndarray:
    """The step crosses a valley of the map, so it leads to another branch. Ours (docs/paper.md §5).

    Straight ahead the valley may be a gap. A step may cross it if its mean edge probability is at least ``gap_edge`` or
    was not measured. A seed has no direction, so it may cross none.
    """
    straight = goes_straight(steps.step, steps.last) & ~(steps.edge_mean < steps.settings.gap_edge)
    return crosses_valley(steps.centerline, steps.path[:, 0], steps.position) & ~straight


MAP_RULES: dict[str, Callable[[Steps], np.ndarray]] = {
    "outside": outside,
    "off_centerline": off_centerline,
    "turns_back": turns_back,
    "over_valley": over_valley,
}
"""By name, in the order of precedence. Each gives ``(K,)`` bool, True where it refuses the step."""


@dataclass(frozen=True)
class TreeStep:
    """One step from ``node`` of the trace to ``position``, ``ndim`` work pixels; ``tips`` are the nodes of fronts."""

    graph: TraceGraph
    node: int
    position: Sequence[float]
    centerline: np.ndarray
    settings: TraceSettings
    tips: Container[int] = ()

    def away(self, place: Sequence[float]) -> list[float]:
        """The vector from the node to a place, in units."""
        tip = self.graph.positions[self.node]
        sizes = self.settings.search.spacing or (1.0,) * len(tip)
        return [(p - t) * size for p, t, size in zip(place, tip, sizes, strict=True)]


def direction_taken(step: TreeStep) -> bool:
    """An edge leaves the node within ``branch_angle`` of the step: another front was joined to it here. Ours."""
    ahead = step.away(step.position)
    limit = math.cos(math.radians(step.settings.branch_angle)) * math.hypot(*ahead)
    others = map(step.away, step.graph.leads_to(step.node))
    return any(sum(map(mul, along, ahead)) > limit * math.hypot(*along) for along in others)


def meets_branch(step: TreeStep) -> bool:
    """The step ends within ``meet`` of a traced edge (docs/paper.md §5). Ours: no valley lies between the two.

    The front may then be joined to the branch.
    """
    near = step.graph.nearest(step.position, step.settings.meet, step.graph.edges_at(step.node))
    if near is None:
        return False
    return not crosses_valley(step.centerline, np.array([step.position]), near.foot[None])[0]


def overtakes(step: TreeStep) -> bool:
    """The step passes the tip of another front that walks the same way along the same tube. Ours.

    Two fronts that come to a fork from its branches at the same time would pass each other at every step.
    """
    return passed_tip(step) is not None


def passed_tip(step: TreeStep) -> Nearest | None:
    """The tip of another front that a step passes, None if it passes none.

    The last step of that front lies beside this one and leads the same way, so that it does not cross.
    """
    graph, own, near = step.graph, step.graph.edges_at(step.node), step.settings.meet
    start, in_units = np.array(graph.positions[step.node]), step.settings.search.in_units
    way = np.array(step.position) - start
    length = float(np.linalg.norm(way))
    for place, tip, before in graph.ends_around(start + way / 2, length / 2 + near):
        if tip not in step.tips or place.edge in own:
            continue
        last = np.array([graph.positions[before], graph.positions[tip]]) - start
        along, beside = last[1] @ way / length, np.linalg.norm(across(last, way[None]), axis=1)
        same_way = goes_straight(in_units(way)[None], in_units(last[1:] - last[:1]))[0]
        if same_way and 0 < along < length and (beside < near).all():
            foot = start + along * way / length
            if not crosses_valley(step.centerline, foot[None], place.foot[None])[0]:
                return place
    return None


JOINING_RULE, OVERTAKING_RULE = "meets_branch", "overtakes"
"""Names of the rules after which the front is joined to a branch."""
TREE_RULES: dict[str, Callable[[TreeStep], bool]] = {
    "direction_taken": direction_taken,
    JOINING_RULE: meets_branch,
    OVERTAKING_RULE: overtakes,
}
"""By name, in the order of precedence. Each is True if it refuses the step."""


def no_stops() -> dict[str, int]:
    """A count of 0 for every reason to stop."""
    return dict.fromkeys((NO_CANDIDATE, *MAP_RULES, SEED_COVERED, *TREE_RULES), 0)


def first_refusal(steps: Steps) -> np.ndarray:
    """``(K,)`` for each step the number of the first of :data:`MAP_RULES` that refuses it, −1 if none does."""
    refused = np.stack([rule(steps) for rule in MAP_RULES.values()], axis=1)
    return np.where(refused.any(axis=1), refused.argmax(axis=1), -1)


def count_map_stops(stops: dict[str, int], fronts: int, owner: np.ndarray, refusal: np.ndarray) -> None:
    """Count the fronts without candidates and those of which :data:`MAP_RULES` refuse all candidates.

    Parameters
    ----------
    stops
        Fronts stopped by each rule, to be added to.
    fronts
        Number of fronts in this step.
    owner
        ``(K,)`` front of each candidate, ascending; the best candidate of each front comes first.
    refusal
        ``(K,)`` as from :func:`first_refusal`.
    """
    with_candidate, best = np.unique(owner, return_index=True)
    stops[NO_CANDIDATE] += fronts - len(with_candidate)
    names = list(MAP_RULES)
    for number in refusal[best[~np.isin(with_candidate, owner[refusal < 0])]].tolist():
        stops[names[number]] += 1


def refused_by(step: TreeStep) -> str | None:
    """Name of the first of :data:`TREE_RULES` that refuses a step, None if none does."""
    return next((name for name, rule in TREE_RULES.items() if rule(step)), None)
