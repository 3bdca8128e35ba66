"""The tracer: seeds, fronts, steps, forest.

Many tips are advanced together, one network call for all of them. A step accepts its nodes in the order of the fronts'
age, so a trace depends on the seed and on the number of fronts, and on nothing else.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from lib.swclib import Nearest, SwcForest
from models.contract import MAX_PAST
from tools.inference.predictor import Predictor
from tools.tracing.growth.fronts import Fronts, stepped
from tools.tracing.growth.gds import Candidates, Search, search_batch
from tools.tracing.growth.graph import TraceGraph
from tools.tracing.growth.seeds import Seeds
from tools.tracing.growth.stopping import (
    JOINING_RULE,
    MAP_RULES,
    NO_CANDIDATE,
    SEED_COVERED,
    TREE_RULES,
    Steps,
    TreeStep,
    first_refusal,
    refused_by,
)
from tools.tracing.ridge import on_ridge
from tools.tracing.valley import turns_over_valley

PROBES = 5
"""Places looked at along a step that ends on a traced branch, to find where it comes upon it."""
DRAWING = 0.5
"""A step still draws near to a branch if it comes this many work pixels closer from one of those places to the next."""


@dataclass(frozen=True)
class TraceSettings:
    """How an image is traced. Lengths are work pixels, those of steps units (:class:`Search`); thresholds are probabilities.

    Attributes
    ----------
    search
        What a candidate node is.
    seed_threshold
        Seeds are taken where the centerline probability is at least this.
    stop_threshold
        A trace stops where the probability is below this.
    side_by_side
        Whether branches may run a few pixels apart, as neurites do. Then nodes are led onto the ridge beside them, a
        trace stops by the probability at its own place (else by the best of the pixels around), and no join leads aside
        across a valley. Where they do not, all this costs breaks (docs/experiments.md).
    meet
        A node nearer than this to a traced edge has met it (paper: r in 2D, 1.5·r in 3D).
    seed_gap
        A seed nearer than this to a traced edge is skipped (paper: 2·r in 2D, r in 3D).
    seed_spacing
        Seeds nearer than this to each other, or to a trace under way, are not traced at the same time: a trace that
        has walked knows where it comes from, a seed does not.
    branch_edge
        Besides the winner, candidates whose path has at least this mean edge probability start a new front.
    branch_angle
        ... and whose direction differs from the winner's by at least this many degrees.
    gap_edge
        A step crosses a valley of the map, straight ahead, if its path has at least this mean edge probability. In two
        simulated blocks 0.5 takes 6 of 31 false merges, and a thousandth of the coverage.
    walked_nodes
        Nodes of the walked path that the network is shown. The paper keeps 15; those beyond 4 lie outside the patch.
    fronts
        Tips advanced together, at most; others wait. 1 is the paper's procedure: one tip until it stops.
    method
        ``gds``: the candidate nearest along the edge; ``brightest``: the one with the highest node probability.
    joins
        Whether a trace that meets another is joined to it.
    seed
        Seed of the order in which seeds are taken.
    """

    search: Search
    seed_threshold: float = 0.6
    stop_threshold: float = 0.4
    side_by_side: bool = False
    meet: float = 3.0
    seed_gap: float = 4.0
    seed_spacing: float = 40.0
    branch_edge: float = 0.6
    branch_angle: float = 45.0
    gap_edge: float = 0.5
    walked_nodes: int = MAX_PAST
    fronts: int = 64
    method: Literal["gds", "brightest"] = "gds"
    joins: bool = True
    seed: int = 0


@dataclass
class TraceResult:
    """A trace in work space.

    Attributes
    ----------
    forest
        In work pixels.
    centerline
        ``(*S,)`` float32 probabilities.
    loops
        Places where a join would have closed a loop: ``(L, 2, ndim)`` from node to edge.
    counts
        ``seeds`` taken, ``steps`` of fronts, ``nodes`` that steps made, ``joins``, ``loops`` left open.
    stops
        Fronts stopped by each rule of :mod:`tools.tracing.growth.stopping`.
    seconds
        Time by stage: ``encode`` (:meth:`~tools.inference.predictor.Predictor.set_image`), ``network`` (inside steps), ``search``
        (everything else from then on).
    """

    forest: SwcForest
    centerline: np.ndarray
    loops: np.ndarray
    counts: dict[str, int] = field(default_factory=dict)
    stops: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Tracer:
    """Traces images with one predictor and one group of settings."""

    def __init__(self, predictor: Predictor, settings: TraceSettings) -> None:
        self.predictor, self.settings = predictor, settings

    def spaced(self, spacing: tuple[float, ...]) -> Tracer:
        """The same for pixels of another size, in units of its finest axis."""
        return Tracer(self.predictor, replace(self.settings, search=replace(self.settings.search, spacing=spacing)))

    def trace(self, pixels: np.ndarray, centerline: np.ndarray | None = None) -> TraceResult:
        """Trace a work image ``(*S, C)``, float32 in [0, 1]; with ``centerline`` ``(*S,)`` on a map made before."""
        started = time.perf_counter()
        if centerline is None:
            centerline = self.predictor.set_image(pixels)
        else:
            self.predictor.set_image(pixels, mapped=True)
        encoded = time.perf_counter() - started
        result = self.grow(centerline)
        result.seconds["encode"] = encoded
        return result

    def grow(self, centerline: np.ndarray) -> TraceResult:
        """Trace the image that the predictor holds, whose map ``(*S,)`` is ``centerline``; may be called repeatedly."""
        started = time.perf_counter()
        in_encoder = self.predictor.network_seconds
        # Predictors of other makers have everything at hand.
        growth = Growth(self.settings, centerline, tile_shape=getattr(self.predictor, "tile_shape", None))
        while growth.top_up():
            fronts = growth.active()
            node, edge, corner = self.predictor.predict(fronts.tips, fronts.walked())
            use_edge = self.settings.method == "gds"
            found = search_batch(node, edge, fronts.tips - corner, self.settings.search, use_edge=use_edge)
            growth.advance(found, corner)
        forest = growth.graph.forest()
        network = self.predictor.network_seconds - in_encoder
        total = time.perf_counter() - started
        return TraceResult(
            forest=forest,
            centerline=centerline,
            loops=growth.loop_segments(),
            counts=growth.counts | {"loops": len(growth.graph.loops)},
            stops=growth.stops,
            seconds={"encode": 0.0, "network": network, "search": total - network},
        )


class Growth:
    """One trace in progress.

    Parameters
    ----------
    settings
        See :class:`TraceSettings`.
    centerline
        ``(*S,)`` probabilities of the image.
    tile_shape
        See :meth:`tools.tracing.growth.seeds.Seeds.on_map`.
    """

    def __init__(
        self, settings: TraceSettings, centerline: np.ndarray, *, tile_shape: tuple[int, ...] | None = None
    ) -> None:
        self.settings = settings
        self.graph = TraceGraph(centerline.ndim)
        self.fronts = Fronts.none(centerline.ndim, settings.walked_nodes)
        self.counts = {"seeds": 0, "steps": 0, "nodes": 0, "joins": 0}
        self.stops = dict.fromkeys((NO_CANDIDATE, *MAP_RULES, SEED_COVERED, *TREE_RULES), 0)
        self._centerline = centerline
        self._sizes = np.array(settings.search.spacing or (1.0,) * centerline.ndim)
        self._seeds = Seeds.on_map(
            centerline,
            settings.seed_threshold,
            settings.seed_gap,
            settings.seed,
            spacing=settings.seed_spacing,
            tile_shape=tile_shape,
        )
        self._next: list[tuple[int, np.ndarray]] = []

    # ---- seeds -----------------------------------------------------------------------------------------------------

    def top_up(self) -> bool:
        """Fill the fronts up from the seeds that are not traced yet; False when there is nothing left to do."""
        positions = self._seeds.take(self.settings.fronts - len(self.fronts), self.fronts.tips)
        if len(positions):
            self._start(positions)
        return len(self.fronts) > 0

    def _start(self, positions: np.ndarray) -> None:
        """Make fronts of seeds ``(K, ndim)``."""
        nodes = np.array([self.graph.add_node(position) for position in positions])
        path = np.full((len(nodes), *self.fronts.path.shape[1:]), np.nan)
        path[:, 0] = positions
        self.fronts = self.fronts + Fronts(nodes, path)
        self.counts["seeds"] += len(nodes)

    # ---- steps -----------------------------------------------------------------------------------------------------

    def active(self) -> Fronts:
        """The fronts whose turn it is: the oldest, so that a network call has at most ``settings.fronts`` of them."""
        return self.fronts[: self.settings.fronts]

    def advance(self, found: Candidates, corner: np.ndarray) -> None:
        """One step of every active front: ``found`` are its candidates in its patch, which begins at ``corner``."""
        active, waiting = self.active(), self.fronts[len(corner) :]
        position = found.position + corner[found.owner]
        if self.settings.side_by_side:
            position = on_ridge(self._centerline, position, position - active.tips[found.owner])
        steps = Steps(active.path[found.owner], position, found.edge_mean, self._centerline, self.settings)
        refusal = first_refusal(steps)
        kept = refusal < 0
        self._count_stops(len(active), found.owner, refusal)
        position, edge_mean = position[kept], found.edge_mean[kept]
        first = np.searchsorted(found.owner[kept], np.arange(len(active) + 1)).tolist()
        self._next, old_edges = [], len(self.graph.edges)
        for row, (begin, end) in enumerate(pairwise(first)):
            if begin < end:
                before = len(self._next)
                rule = self._step(int(active.node[row]), active.path[row], position[begin:end], edge_mean[begin:end])
                if rule is not None and len(self._next) == before:
                    self.stops[rule] += 1
        self._seeds.cover(self.graph.segments(old_edges))
        self.counts["steps"] += len(active)
        self.fronts = self._advanced() + waiting

    def _count_stops(self, fronts: int, owner: np.ndarray, refusal: np.ndarray) -> None:
        """Count the fronts that have no candidate, and those all of whose candidates ``(K,)`` are refused."""
        best, first = np.unique(owner, return_index=True)
        self.stops[NO_CANDIDATE] += fronts - len(best)
        stopped = np.isin(best, owner[refusal < 0], invert=True)
        for rule, count in zip(MAP_RULES, np.bincount(refusal[first[stopped]], minlength=len(MAP_RULES)), strict=True):
            self.stops[rule] += int(count)

    def _advanced(self) -> Fronts:
        """The fronts that this step made."""
        if not self._next:
            return self.fronts[:0]
        nodes, paths = zip(*self._next, strict=True)
        return Fronts(np.array(nodes, dtype=np.int64), np.stack(paths))

    def _step(self, node: int, path: np.ndarray, positions: np.ndarray, edge_mean: np.ndarray) -> str | None:
        """Advance the front at ``node`` to its candidates ``(K, ndim)``, the best first.

        Returns the rule that has refused the last one, None if none has.
        """
        if np.isnan(path[1, 0]):
            return self._follow_seed(node, path, positions[self._separate(path[0], positions)])
        good = edge_mean >= self.settings.branch_edge
        good[0] = True  # The winner; the others need evidence of their own.
        rule = None
        for position in positions[good][self._separate(path[0], positions[good])]:
            rule = self._follow(node, path, position)
        return rule

    def _separate(self, tip: np.ndarray, positions: np.ndarray) -> list[int]:
        """Rows of the candidates ``(K, ndim)`` whose directions differ enough from those of the ones kept before."""
        if len(positions) == 1:
            return [0]
        step = self.settings.search.in_units(positions - tip)
        direction = step / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9)
        limit = math.cos(math.radians(self.settings.branch_angle))
        chosen: list[int] = []
        for row, own in enumerate(direction):
            if all(float(own @ direction[other]) <= limit for other in chosen):
                chosen.append(row)
        return chosen

    def _follow_seed(self, node: int, path: np.ndarray, positions: np.ndarray) -> str | None:
        """Start in every direction from a seed; returns as :meth:`_step`.

        What lies opposite is the path already walked.
        """
        seed, rule = path[0], None
        # An older front may have passed here in this very step: its branch would be traced twice.
        if self.graph.nearest(seed, self.settings.seed_gap) is not None:
            return SEED_COVERED
        for position in positions:
            own = path.copy()
            behind = positions[(positions - seed) @ (position - seed) < 0]
            if len(behind) and len(own) > 2:
                own[1] = behind[0]
            rule = self._follow(node, own, position)
        return rule

    def _follow(self, node: int, path: np.ndarray, position: np.ndarray) -> str | None:
        """One step from ``node`` to ``position``: go on there, or end on the traced branch that it meets.

        Returns the rule that has stopped it, None where it went on.
        """
        rule = refused_by(TreeStep(self.graph, node, position, self._centerline, self.settings))
        if rule is None:
            self._next.append((self.graph.grow(node, position), stepped(path, position)))
            self.counts["nodes"] += 1
        elif rule == JOINING_RULE and self.settings.joins:
            self._join(node, path[:2], position, self.graph.edges_at(node))
        return rule

    def _join(self, node: int, path: np.ndarray, position: np.ndarray, exclude: set[int]) -> None:
        """Join ``node``, first of ``path`` ``(2, ndim)``, to the branch that the way to ``position`` meets first."""
        near = self._contact(path[0], position, exclude)
        if near is None:
            return
        foot = np.array([near.foot])
        if self.settings.side_by_side and turns_over_valley(self._centerline, path[:1], foot, path[1:], self._sizes)[0]:
            return
        if self.graph.join(node, near):
            self.counts["joins"] += 1

    def _contact(self, tip: np.ndarray, position: np.ndarray, exclude: set[int]) -> Nearest | None:
        """Where the way from ``tip`` to ``position`` comes upon a traced branch.

        Joining where the step ends would draw a short cut beside the branch: steps are long, branches thin. Joining
        where it first comes within ``meet`` would put the fork too early: the two may still be drawing together.
        """
        best = None
        for fraction in np.linspace(0, 1, PROBES + 1)[1:]:
            near = self.graph.nearest(tip + fraction * (position - tip), self.settings.meet, exclude)
            if best is not None and (near is None or near.distance > best.distance - DRAWING):
                return best
            best = near
        return best

    def loop_segments(self) -> np.ndarray:
        """``(L, 2, ndim)`` joins that were left out because they close a loop."""
        segments = [(self.graph.positions[loop.node], np.array(loop.foot)) for loop in self.graph.loops]
        return np.array(segments).reshape(-1, 2, self.graph.ndim)
