"""Fronts that meet a traced branch: joined to it, to the other half of their own line, or led across."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lib.swclib import Nearest
from lib.vectors import cosine
from tools.tracing.growth.graph import TraceGraph
from tools.tracing.growth.settings import TraceSettings
from tools.tracing.growth.stopping import JOINING_RULE, Steps, TreeStep, direction_taken, over_valley, passed_tip
from tools.tracing.valley import STRAIGHT, goes_straight

SAMPLES = np.linspace(0, 1, 6)[1:].tolist()
"""Places along a step that ends on a traced branch, at which the distance to the branch is measured."""
APPROACH = 0.5
"""A step still approaches a branch if it comes this many work pixels closer from one of those places to the next."""
CLEAR = 0.3
"""A step that leads across a branch ends at least this share of its length from it: branches that cross at 20 degrees
part by 0.34 of it."""
MOST_LOOSE = 2
"""Steps in which a front may be on a branch that it crosses: branches that cross at 20 degrees are near each other for
16 work pixels."""
SAME = 1.5
"""Two places are on one branch if a path of at most this many of the longest steps leads along it between them."""
FACING = math.cos(math.radians(30))
"""Cosine: an end faces a step if the way to it, and its branch, lie within this angle of the direction of the step."""


class StepTaken(NamedTuple):
    """A step taken: the last node in the trace, the row of the step, and ``loose`` as in :class:`Fronts`."""

    node: int
    row: int
    loose: int = 0


@dataclass(frozen=True)
class Meetings:
    """What becomes of fronts that meet a traced branch.

    Attributes
    ----------
    graph
        The trace, to be added to.
    centerline, settings
        Of the growth.
    counts, stops
        ``joins`` and ``nodes``, and fronts stopped by each rule, to be added to.
    """

    graph: TraceGraph
    centerline: np.ndarray
    settings: TraceSettings
    counts: dict[str, int]
    stops: dict[str, int]

    def join(self, node: int, path: np.ndarray, position: Sequence[float]) -> None:
        """Join ``node``, at the tip of ``path``, to the branch that a step to ``position`` meets."""
        near = self._met_first(self.graph.positions[node], position, self.graph.edges_at(node))
        if near is not None and not self._is_aside(path, near):
            self._connect(node, near)

    def join_passed(self, step: TreeStep) -> None:
        """Join a front to the tip of the other front that its step passes."""
        near = passed_tip(step)
        if near is not None:
            self._connect(step.node, near)

    def join_other_half(self, node: int, path: np.ndarray, position: Sequence[float]) -> bool:
        """Join a front to the other half of its own line, if that lies ahead, whatever crosses between.

        Parameters
        ----------
        node
            The last node of the front in the trace, at the tip of ``path``.
        path
            ``(W + 1, ndim)``
        position
            Where the front would go.

        Returns
        -------
        bool
            Whether it lies ahead.
        """
        near = facing_end(self._tree_step(node, position))
        if near is None or self._is_aside(path, near):
            return False
        self._connect(node, near)
        return True

    def cross(self, node: int, path: np.ndarray, loose: int, steps: Steps, rows: list[int]) -> list[StepTaken]:
        """Go on from a traced branch, straight to its other side; where that is not possible, join the branch.

        Parameters
        ----------
        node
            The last node before the branch.
        path
            ``(W + 1, ndim)`` path of the front, of which the first ``loose`` places are not in the trace.
        loose
            Their number.
        steps, rows
            The steps allowed from there, the best first.
        """
        straight = [row for row in rows if goes_straight(steps.step[[row]], steps.last[[row]], STRAIGHT)[0]]
        ahead = (steps.position[straight[0]] if straight else path[0]).tolist()
        was_joined = direction_taken(self._tree_step(node, path[0].tolist()))
        if not was_joined and not self.join_other_half(node, path[loose:], ahead):
            if straight:
                row, crossed = straight[0], self._crossed(node, path, loose)
                clear = max(self.settings.meet, CLEAR * math.dist(ahead, path[0]))
                if self.graph.nearest(ahead, clear, lambda edge: edge not in crossed) is None:
                    return self._go_beyond(node, path[:loose], ahead, clear, row)
                if loose < MOST_LOOSE:
                    return [StepTaken(node, row, loose + 1)]
            self.join(node, path[loose:], path[loose - 1].tolist())
        self.stops[JOINING_RULE] += bool(rows)  # Fronts without a step were counted before.
        return []

    def _crossed(self, node: int, path: np.ndarray, loose: int) -> set[int]:
        """Edges, around that place, of the branch that a front met at the first of its ``loose`` places."""
        own = self.graph.edges_at(node)
        met = self.graph.nearest(path[loose - 1], self.settings.meet, own)
        return set() if met is None else self.graph.edges_around(met, SAME * self.settings.search.longest) - own

    def _go_beyond(
        self, node: int, places: np.ndarray, position: Sequence[float], clear: float, row: int
    ) -> list[StepTaken]:
        """Take the ``places`` on a branch, the last one first, and the ``position`` beyond it, into the trace.

        If a branch was traced there from its other side, or one more branch is in the way, the front is joined to it.
        """
        near = self.graph.nearest(position, clear, self.graph.edges_at(node))
        for place in reversed(places.tolist()):
            node = self.graph.grow(node, place)
        self.counts["nodes"] += len(places)
        if near is None:
            return [StepTaken(self.graph.grow(node, position), row)]
        self._connect(node, near)
        self.stops[JOINING_RULE] += 1
        return []

    def _connect(self, node: int, near: Nearest) -> None:
        self.counts["joins"] += self.settings.joins and self.graph.join(node, near)

    def _tree_step(self, node: int, position: Sequence[float]) -> TreeStep:
        return TreeStep(self.graph, node, position, self.centerline, self.settings)

    def _is_aside(self, path: np.ndarray, near: Nearest) -> bool:
        """Whether a join from the tip of ``path`` would turn aside across a valley of the map."""
        join = Steps(path[None], near.foot[None], np.array([np.nan]), self.centerline, self.settings)
        return self.settings.side_by_side and bool(over_valley(join)[0])

    def _met_first(self, tip: Sequence[float], position: Sequence[float], exclude: set[int]) -> Nearest | None:
        """The place on a traced branch that a step from ``tip`` to ``position`` meets.

        A join at the end of the step would be a short cut beside the branch, as steps are long and branches thin. A
        join where the step comes within ``meet`` would be too early, as the two may still approach each other.
        """
        best = None
        for fraction in SAMPLES:
            place = [t + fraction * (p - t) for t, p in zip(tip, position, strict=True)]
            near = self.graph.nearest(place, self.settings.meet, exclude)
            if best is not None and (near is None or near.distance > best.distance - APPROACH):
                return best
            best = near
        return best


def facing_end(step: TreeStep) -> Nearest | None:
    """The end of another branch that lies ahead and points back: the other half of the line, for two fronts that meet.

    The step may have passed it, and another branch may lie in between. Of several the best aligned is taken.
    """
    ahead, graph = np.array(step.away(step.position)), step.graph
    radius = math.dist(graph.positions[step.node], step.position) + step.settings.meet
    own, best, facing = graph.edges_at(step.node), FACING, None
    for near, _, other in graph.ends_around(step.position, radius):
        gap = np.array(step.away(near.foot.tolist()))
        back = np.array(step.away(graph.positions[other])) - gap
        aligned = min(cosine(gap, ahead), cosine(back, ahead))
        if near.edge not in own and aligned >= best:
            best, facing = aligned, near
    return facing
