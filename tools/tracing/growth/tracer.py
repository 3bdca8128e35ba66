"""The tracer grows trees from seeds, one step of all active fronts at a time.

All fronts of a step share one network call, those of several images too. Their steps are accepted in the order of the
fronts' age, so a trace depends on the random seed and the number of fronts only, and not on timing.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import mul
from typing import Protocol

import numpy as np

from lib.swclib import SwcForest
from lib.vectors import unit
from tools.inference.encoded_image import EncodedImage, Tips
from tools.progress import Progress, silent
from tools.tracing.growth.fronts import Fronts, stepped
from tools.tracing.growth.gds import Candidates, search_batch
from tools.tracing.growth.graph import TraceGraph
from tools.tracing.growth.meetings import Meetings, StepTaken
from tools.tracing.growth.seeds import Seeds
from tools.tracing.growth.settings import TraceSettings
from tools.tracing.growth.stopping import (
    JOINING_RULE,
    OVERTAKING_RULE,
    SEED_COVERED,
    Steps,
    TreeStep,
    count_map_stops,
    first_refusal,
    no_stops,
    refused_by,
    up_to_the_border,
)
from tools.tracing.ridge import on_ridge


class MapPredictor(Protocol):
    """What the tracer needs of a predictor, see :class:`~tools.inference.predictor.Predictor`."""

    @property
    def network_seconds(self) -> float:
        """Time spent in the network so far."""
        ...

    def encode(
        self, pixels: np.ndarray, *, centerline: np.ndarray | None = None, progress: Progress = silent
    ) -> EncodedImage:
        """Take an image ``(*S, C)``, of which the centerline map may be known."""
        ...

    def predict(self, *batch: Tips) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Node maps and edge maps of the tips, and the corners of their patches."""
        ...


@dataclass
class TraceResult:
    """A trace in work pixels.

    Attributes
    ----------
    forest
        The trees.
    centerline
        ``(*S,)`` float32 probabilities.
    loops
        ``(L, 2, ndim)`` joins left out because they would have closed a loop: the node and the place on the edge.
    counts
        ``seeds`` taken, ``steps`` of fronts, ``nodes`` made by steps, ``joins``, ``loops`` left open.
    stops
        Fronts stopped by each rule of :mod:`tools.tracing.growth.stopping`.
    seconds
        Time by stage: ``encode`` (setting the image), ``network`` (predictions) and ``search`` (the rest).
    kinds
        ``(kinds, *S)`` probabilities of the kinds of tube, if the network tells them apart.
    """

    forest: SwcForest
    centerline: np.ndarray
    loops: np.ndarray
    counts: dict[str, int] = field(default_factory=dict)
    stops: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    kinds: np.ndarray | None = None


class Tracer:
    """Traces images with one predictor and one group of settings."""

    def __init__(self, predictor: MapPredictor, settings: TraceSettings) -> None:
        self.predictor, self.settings = predictor, settings

    def with_spacing(self, spacing: tuple[float, ...]) -> Tracer:
        """The same tracer for pixels of another size ``(ndim,)``, in units of its finest axis."""
        return Tracer(self.predictor, replace(self.settings, search=replace(self.settings.search, spacing=spacing)))

    def at(self, origin: tuple[int, ...]) -> Tracer:
        """The same tracer for a window that begins at the work pixel ``origin`` of a larger image."""
        return Tracer(self.predictor, replace(self.settings, origin=origin))

    def start(
        self,
        pixels: np.ndarray,
        *,
        centerline: np.ndarray | None = None,
        field: np.ndarray | None = None,
        progress: Progress = silent,
    ) -> Growth:
        """Begin to trace an image.

        Parameters
        ----------
        pixels
            ``(*S, C)`` work image, float32 in [0, 1].
        centerline
            ``(*S,)`` its centerline map, if it is known.
        field
            ``(*S,)`` bool, where to trace; None is everywhere. Elsewhere the map becomes 0.
        progress
            Receives the stages ``encoding`` and ``tracing``.
        """
        started = time.perf_counter()
        image = self.predictor.encode(pixels, centerline=centerline, progress=progress)
        if field is not None:
            image = replace(image, centerline=image.centerline * field)
        growth = Growth(self.settings, image, progress=progress)
        growth.seconds["encode"] = time.perf_counter() - started
        return growth

    def trace(
        self,
        pixels: np.ndarray,
        *,
        centerline: np.ndarray | None = None,
        field: np.ndarray | None = None,
        progress: Progress = silent,
    ) -> TraceResult:
        """Trace one image; see :meth:`start`."""
        return self._to_the_end(self.start(pixels, centerline=centerline, field=field, progress=progress))

    def grow(self, image: EncodedImage) -> TraceResult:
        """Trace an encoded image; may be called repeatedly."""
        return self._to_the_end(Growth(self.settings, image))

    def _to_the_end(self, growth: Growth) -> TraceResult:
        return next(grow_together(self.predictor, [growth])).result()


def grow_together(predictor: MapPredictor, growths: Iterable[Growth], together: int = 1) -> Iterator[Growth]:
    """Trace several images at a time: their fronts share one network call.

    Parameters
    ----------
    predictor
        Predicts for all of them.
    growths
        Taken when there is room.
    together
        Images at a time. The trace of each is the same for any number, up to rounding in the network.

    Yields
    ------
    Growth
        Those that are finished, in the order in which they finish.
    """
    waiting, live = iter(growths), list[Growth]()
    while True:
        live += itertools.islice(waiting, together - len(live))
        if not live:
            return
        started = time.perf_counter()
        going = [growth for growth in live if growth.top_up()]
        if going:
            _step_together(predictor, going, started)
        yield from (growth for growth in live if growth not in going)
        live = going


def _step_together(predictor: MapPredictor, growths: Sequence[Growth], started: float) -> None:
    """Advance all growths by one step; the time since ``started`` is shared by the number of fronts."""
    before, batch = predictor.network_seconds, [growth.tips() for growth in growths]
    counts = [len(tips.positions) for tips in batch]
    parts = (np.split(found, np.cumsum(counts)[:-1]) for found in predictor.predict(*batch))
    for growth, node, edge, corner in zip(growths, *parts, strict=True):
        growth.step(node, edge, corner)
    network = predictor.network_seconds - before
    spent = {"network": network, "search": time.perf_counter() - started - network}
    for growth, count in zip(growths, counts, strict=True):
        for stage, seconds in spent.items():
            growth.seconds[stage] += seconds * count / sum(counts)


class Growth:
    """A trace in progress.

    Parameters
    ----------
    settings
        See :class:`~tools.tracing.growth.settings.TraceSettings`.
    image
        The encoded work image.
    progress
        Receives the number of seeds done.
    """

    def __init__(self, settings: TraceSettings, image: EncodedImage, *, progress: Progress = silent) -> None:
        started = time.perf_counter()
        self.settings, self.image, self._progress = settings, image, progress
        self._centerline = image.centerline
        self.graph = TraceGraph(self._centerline.ndim)
        self.fronts = Fronts.empty(self._centerline.ndim, settings.walked_nodes)
        self.counts = {"seeds": 0, "steps": 0, "nodes": 0, "joins": 0}
        self.stops = no_stops()
        self._meetings = Meetings(self.graph, self._centerline, settings, self.counts, self.stops)
        self.seeds = Seeds.on_map(self._centerline, settings, tile_shape=image.tile_shape)
        self.seconds = {"encode": 0.0, "network": 0.0, "search": time.perf_counter() - started}
        """By stage, see :attr:`TraceResult.seconds`."""

    def result(self) -> TraceResult:
        """The trace so far."""
        return TraceResult(
            forest=self.graph.forest(),
            centerline=self._centerline,
            loops=np.reshape(self.graph.loops, (-1, 2, self._centerline.ndim)),
            counts=self.counts | {"loops": len(self.graph.loops)},
            stops=self.stops,
            seconds=self.seconds,
            kinds=self.image.kinds,
        )

    def top_up(self) -> bool:
        """Start fronts from free seeds while there is room; False if no front is left."""
        positions = self.seeds.take(self.settings.fronts - len(self.fronts), self.fronts.tips)
        if len(positions):
            nodes = np.array([self.graph.add_node(position) for position in positions])
            path = np.full((len(nodes), *self.fronts.path.shape[1:]), np.nan)
            path[:, 0] = positions
            self.fronts = self.fronts + Fronts(nodes, path, np.zeros_like(nodes))
            self.counts["seeds"] += len(nodes)
        return len(self.fronts) > 0

    def active(self) -> Fronts:
        """The fronts of the next step: the oldest ones, at most ``settings.fronts``. Forks may have made more."""
        return self.fronts[: self.settings.fronts]

    def tips(self) -> Tips:
        """The active fronts as the predictor takes them."""
        fronts = self.active()
        return Tips(self.image, fronts.tips, fronts.walked())

    def step(self, node: np.ndarray, edge: np.ndarray, corner: np.ndarray) -> None:
        """Advance every active front by one step, with the maps ``(F, *P)`` of their patches at ``corner``."""
        tips, use_edge = self.active().tips - corner, self.settings.method == "gds"
        self.advance(search_batch(node, edge, tips, self.settings.search, use_edge=use_edge), corner)
        self._progress("tracing", *self.seeds.done())

    def advance(self, found: Candidates, corner: np.ndarray) -> None:
        """Advance every active front by one step.

        Parameters
        ----------
        found
            Candidates of the active fronts, at positions in their patches.
        corner
            ``(F, ndim)`` corners of the patches, in work pixels.
        """
        active, waiting = self.active(), self.fronts[len(corner) :]
        tips = active.tips[found.owner]
        position = up_to_the_border(tips, found.position + corner[found.owner], self._centerline.shape)
        if self.settings.side_by_side:
            position = on_ridge(self._centerline, position, position - tips)
        steps = Steps(active.path[found.owner], position, found.edge_mean, self._centerline, self.settings)
        refusal = first_refusal(steps)
        count_map_stops(self.stops, len(active), found.owner, refusal)
        made, old_edges = list[StepTaken](), len(self.graph.edges)
        live = set(self.fronts.node.tolist())
        branches = self._branches(steps, found.owner, np.flatnonzero(refusal < 0))
        for front in sorted({*branches, *np.flatnonzero(active.loose).tolist()}):
            node, rows = int(active.node[front]), branches[front]
            if active.loose[front]:
                taken = self._meetings.cross(node, active.path[front], int(active.loose[front]), steps, rows)
            else:
                taken = self._step(node, steps, rows, live)
            live.update(step.node for step in taken)
            made += taken
        self.seeds.cover(self.graph.segments(old_edges))
        self.counts["steps"] += len(active)
        self.counts["nodes"] += sum(step.loose == 0 for step in made)
        nodes, rows, loose = np.array(made, dtype=np.int64).reshape(-1, 3).T
        self.fronts = Fronts(nodes, stepped(steps.path[rows], position[rows]), loose) + waiting

    def _branches(self, steps: Steps, owner: np.ndarray, allowed: np.ndarray) -> dict[int, list[int]]:
        """Of the allowed rows of steps those that each front may take, the best first.

        They are ``branch_angle`` apart. All but the best need evidence for a branch, except at a seed. Where branches
        may cross, a seed goes to two opposite sides only: it may lie on a crossing.
        """
        best = np.diff(owner[allowed], prepend=-1) != 0
        allowed = allowed[best | steps.from_seed[allowed] | (steps.edge_mean[allowed] >= self.settings.branch_edge)]
        direction = unit(steps.step[allowed]).tolist()
        limit = math.cos(math.radians(self.settings.branch_angle))
        kept: dict[int, list[int]] = defaultdict(list)
        taken: dict[int, list[list[float]]] = defaultdict(list)
        for row, front, own in zip(allowed.tolist(), owner[allowed].tolist(), direction, strict=True):
            turn = -limit if self.settings.cross and steps.from_seed[row] else limit
            if all(sum(map(mul, own, other)) <= turn for other in taken[front]):
                kept[front].append(row)
                taken[front].append(own)
        return kept

    def _step(self, node: int, steps: Steps, rows: list[int], tips: Container[int]) -> list[StepTaken]:
        """Take the steps ``rows`` from the front at ``node``, the best first; ``tips`` are the nodes of all fronts."""
        if steps.from_seed[rows[0]]:
            if self.graph.nearest(self.graph.positions[node], self.settings.seed_gap) is not None:
                self.stops[SEED_COVERED] += 1
                return []
            _look_back(steps, rows)
        made, rules = list[StepTaken](), []
        for row in rows:
            position = steps.position[row].tolist()
            step = TreeStep(self.graph, node, position, self._centerline, self.settings, tips)
            rules.append(refused_by(step))
            if rules[-1] is None:
                made.append(StepTaken(self.graph.grow(node, position), row))
            elif rules[-1] == JOINING_RULE and self.settings.cross:
                if not self._meetings.join_other_half(node, steps.path[row], position):
                    made.append(StepTaken(node, row, loose=1))
            elif rules[-1] == JOINING_RULE:
                self._meetings.join(node, steps.path[row], position)
            elif rules[-1] == OVERTAKING_RULE:
                self._meetings.join_passed(step)
        if not made:
            self.stops[rules[0]] += 1
        return made


def _look_back(steps: Steps, rows: list[int]) -> None:
    """In the paths of a seed's steps ``rows``, the best step to the other side counts as walked."""
    if steps.path.shape[1] < 3:
        return
    along = steps.position[rows] - steps.path[rows, 0]
    for row, ahead in zip(rows, along, strict=True):
        behind = np.flatnonzero(along @ ahead < 0)
        if len(behind):
            steps.path[row, 1] = steps.position[rows[behind[0]]]
