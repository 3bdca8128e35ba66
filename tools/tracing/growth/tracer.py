"""The tracer grows trees from seeds, one step of all active fronts at a time.

All fronts of a step share one network call. Their steps are accepted in the order of the fronts' age, so a trace
depends on the random seed and the number of fronts only, and not on timing.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import mul
from typing import Protocol

import numpy as np

from lib.swclib import Nearest, SwcForest
from tools.progress import Progress, silent
from tools.tracing.growth.fronts import Fronts, stepped
from tools.tracing.growth.gds import Candidates, search_batch
from tools.tracing.growth.graph import TraceGraph
from tools.tracing.growth.seeds import Seeds
from tools.tracing.growth.settings import TraceSettings
from tools.tracing.growth.stopping import (
    JOINING_RULE,
    SEED_COVERED,
    Steps,
    TreeStep,
    count_map_stops,
    first_refusal,
    no_stops,
    over_valley,
    refused_by,
)
from tools.tracing.ridge import on_ridge

SAMPLES = np.linspace(0, 1, 6)[1:].tolist()
"""Places along a step that ends on a traced branch, at which the distance to the branch is measured."""
APPROACH = 0.5
"""A step still approaches a branch if it comes this many work pixels closer from one of those places to the next."""


class MapPredictor(Protocol):
    """What the tracer needs of a predictor, see :class:`~tools.inference.predictor.Predictor`."""

    @property
    def network_seconds(self) -> float:
        """Time spent in the network since the image was set."""
        ...

    @property
    def tile_shape(self) -> tuple[int, ...] | None:
        """Shape of the tiles in which seeds are best taken together; None if their order does not matter."""
        ...

    def set_image(self, pixels: np.ndarray, *, progress: Progress = silent) -> np.ndarray:
        """Take an image ``(*S, C)`` and return its centerline map ``(*S,)``."""
        ...

    def predict(self, tips: np.ndarray, walked: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
    """

    forest: SwcForest
    centerline: np.ndarray
    loops: np.ndarray
    counts: dict[str, int] = field(default_factory=dict)
    stops: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Tracer:
    """Traces images with one predictor and one group of settings."""

    def __init__(self, predictor: MapPredictor, settings: TraceSettings) -> None:
        self.predictor, self.settings = predictor, settings

    def with_spacing(self, spacing: tuple[float, ...]) -> Tracer:
        """The same tracer for pixels of another size ``(ndim,)``, in units of its finest axis."""
        return Tracer(self.predictor, replace(self.settings, search=replace(self.settings.search, spacing=spacing)))

    def trace(self, pixels: np.ndarray, *, progress: Progress = silent) -> TraceResult:
        """Trace an image.

        Parameters
        ----------
        pixels
            ``(*S, C)`` work image, float32 in [0, 1].
        progress
            Receives the stages ``encoding`` and ``tracing``.
        """
        started = time.perf_counter()
        centerline = self.predictor.set_image(pixels, progress=progress)
        encoded = time.perf_counter() - started
        result = self.grow(centerline, progress=progress)
        result.seconds["encode"] = encoded
        return result

    def grow(self, centerline: np.ndarray, *, progress: Progress = silent) -> TraceResult:
        """Trace the image that the predictor holds, with its map ``(*S,)``; may be called repeatedly."""
        started = time.perf_counter()
        before = self.predictor.network_seconds
        growth = Growth(self.settings, centerline, tile_shape=self.predictor.tile_shape)
        use_edge = self.settings.method == "gds"
        while growth.top_up():
            fronts = growth.active()
            node, edge, corner = self.predictor.predict(fronts.tips, fronts.walked())
            found = search_batch(node, edge, fronts.tips - corner, self.settings.search, use_edge=use_edge)
            growth.advance(found, corner)
            progress("tracing", *growth.seeds.done())
        forest = growth.graph.forest()
        network = self.predictor.network_seconds - before
        return TraceResult(
            forest=forest,
            centerline=centerline,
            loops=np.reshape(growth.graph.loops, (-1, 2, centerline.ndim)),
            counts=growth.counts | {"loops": len(growth.graph.loops)},
            stops=growth.stops,
            seconds={"encode": 0.0, "network": network, "search": time.perf_counter() - started - network},
        )


class Growth:
    """A trace in progress.

    Parameters
    ----------
    settings
        See :class:`~tools.tracing.growth.settings.TraceSettings`.
    centerline
        ``(*S,)`` probabilities of the work image.
    tile_shape
        See :meth:`tools.tracing.growth.seeds.Seeds.on_map`.
    """

    def __init__(
        self, settings: TraceSettings, centerline: np.ndarray, *, tile_shape: tuple[int, ...] | None = None
    ) -> None:
        self.settings = settings
        self.graph = TraceGraph(centerline.ndim)
        self.fronts = Fronts.empty(centerline.ndim, settings.walked_nodes)
        self.counts = {"seeds": 0, "steps": 0, "nodes": 0, "joins": 0}
        self.stops = no_stops()
        self._centerline = centerline
        self.seeds = Seeds.on_map(centerline, settings, tile_shape=tile_shape)

    def top_up(self) -> bool:
        """Start fronts from free seeds while there is room; False if no front is left."""
        positions = self.seeds.take(self.settings.fronts - len(self.fronts), self.fronts.tips)
        if len(positions):
            nodes = np.array([self.graph.add_node(position) for position in positions])
            path = np.full((len(nodes), *self.fronts.path.shape[1:]), np.nan)
            path[:, 0] = positions
            self.fronts = self.fronts + Fronts(nodes, path)
            self.counts["seeds"] += len(nodes)
        return len(self.fronts) > 0

    def active(self) -> Fronts:
        """The fronts of the next step: the oldest ones, at most ``settings.fronts``. Forks may have made more."""
        return self.fronts[: self.settings.fronts]

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
        position = found.position + corner[found.owner]
        if self.settings.side_by_side:
            position = on_ridge(self._centerline, position, position - active.tips[found.owner])
        steps = Steps(active.path[found.owner], position, found.edge_mean, self._centerline, self.settings)
        refusal = first_refusal(steps)
        count_map_stops(self.stops, len(active), found.owner, refusal)
        made, old_edges = [], len(self.graph.edges)
        for front, rows in self._branches(steps, found.owner, np.flatnonzero(refusal < 0)).items():
            made += self._step(int(active.node[front]), steps, rows)
        self.seeds.cover(self.graph.segments(old_edges))
        self.counts["steps"] += len(active)
        self.counts["nodes"] += len(made)
        nodes, rows = np.array(made, dtype=np.int64).reshape(-1, 2).T
        self.fronts = Fronts(nodes, stepped(steps.path[rows], position[rows])) + waiting

    def _branches(self, steps: Steps, owner: np.ndarray, allowed: np.ndarray) -> dict[int, list[int]]:
        """Of the allowed rows of steps those that each front may take, the best first.

        They are ``branch_angle`` apart. All but the best need evidence for a branch, except at a seed.
        """
        best = np.diff(owner[allowed], prepend=-1) != 0
        allowed = allowed[best | steps.from_seed[allowed] | (steps.edge_mean[allowed] >= self.settings.branch_edge)]
        step = steps.step[allowed]
        direction = (step / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9)).tolist()
        limit = math.cos(math.radians(self.settings.branch_angle))
        kept: dict[int, list[int]] = defaultdict(list)
        taken: dict[int, list[list[float]]] = defaultdict(list)
        for row, front, own in zip(allowed.tolist(), owner[allowed].tolist(), direction, strict=True):
            if all(sum(map(mul, own, other)) <= limit for other in taken[front]):
                kept[front].append(row)
                taken[front].append(own)
        return kept

    def _step(self, node: int, steps: Steps, rows: list[int]) -> list[tuple[int, int]]:
        """Take the steps ``rows`` from the front at ``node``, the best first; the nodes made, each with its row."""
        if steps.from_seed[rows[0]]:
            if self.graph.nearest(self.graph.positions[node], self.settings.seed_gap) is not None:
                self.stops[SEED_COVERED] += 1
                return []
            _look_back(steps, rows)
        made, rules = [], []
        for row in rows:
            position = steps.position[row].tolist()
            rules.append(refused_by(TreeStep(self.graph, node, position, self._centerline, self.settings)))
            if rules[-1] is None:
                made.append((self.graph.grow(node, position), row))
            elif rules[-1] == JOINING_RULE and self.settings.joins:
                self._join(node, steps.path[row], position)
        if not made:
            self.stops[rules[0]] += 1
        return made

    def _join(self, node: int, path: np.ndarray, position: Sequence[float]) -> None:
        """Join ``node``, at the tip of ``path``, to the branch that a step to ``position`` meets."""
        near = self._meeting(self.graph.positions[node], position, self.graph.edges_at(node))
        if near is None:
            return
        join = Steps(path[None], near.foot[None], np.array([np.nan]), self._centerline, self.settings)
        if not (self.settings.side_by_side and over_valley(join)[0]) and self.graph.join(node, near):
            self.counts["joins"] += 1

    def _meeting(self, tip: Sequence[float], position: Sequence[float], exclude: set[int]) -> Nearest | None:
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


def _look_back(steps: Steps, rows: list[int]) -> None:
    """In the paths of a seed's steps ``rows``, the best step to the other side counts as walked."""
    if steps.path.shape[1] < 3:
        return
    along = steps.position[rows] - steps.path[rows, 0]
    for row, ahead in zip(rows, along, strict=True):
        behind = np.flatnonzero(along @ ahead < 0)
        if len(behind):
            steps.path[row, 1] = steps.position[rows[behind[0]]]
