"""The tracer: seeds, fronts, steps, forest.

Many tips are advanced together, one network call for all of them (DESIGN, "many tips at once"). A step accepts its
nodes in the order of the fronts' age, so a trace depends on the seed and on the number of fronts, but not on timing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.ndimage import maximum_filter
from skimage.morphology import skeletonize

from lib.swclib import Nearest, SwcForest
from tools.inference import Predictor
from tools.sampling import MAX_PAST
from tools.tracing.fronts import Fronts, stepped
from tools.tracing.gds import Candidates, Search, search_batch
from tools.tracing.graph import TraceGraph

PROBES = 5
"""Places looked at along a step that ends on a traced branch, to find where it first touches it."""


@dataclass(frozen=True)
class TraceSettings:
    """How an image is traced. Lengths are work pixels; the thresholds are chances in [0, 1].

    Attributes
    ----------
    search
        What a candidate node is.
    seed_threshold
        Seeds are taken where the centerline chance is at least this.
    stop_threshold
        A trace stops where the chance is below this.
    meet
        A node nearer than this to a traced edge has met it (paper: r in 2D, 1.5·r in 3D).
    seed_gap
        A seed nearer than this to a traced edge is skipped (paper: 2·r in 2D, r in 3D).
    branch_edge
        Besides the winner, candidates whose path has at least this mean edge probability start a new front.
    branch_angle
        ... and whose direction differs from the winner's by at least this many degrees.
    walked_nodes
        Nodes of the walked path that the network is shown. The paper keeps 15; those beyond 4 lie outside the patch.
    fronts
        Tips advanced together; 1 is the paper's procedure.
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
    meet: float = 3.0
    seed_gap: float = 4.0
    branch_edge: float = 0.6
    branch_angle: float = 45.0
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
        ``(*S,)`` float32 chances.
    loops
        Places where a join would have closed a loop: ``(L, 2, ndim)`` from node to edge.
    counts
        Seeds, steps, nodes, joins, loops.
    seconds
        Time by stage: ``encode``, ``network`` (inside steps), ``search`` (everything else).
    """

    forest: SwcForest
    centerline: np.ndarray
    loops: np.ndarray
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Tracer:
    """Traces images with one predictor and one group of settings."""

    def __init__(self, predictor: Predictor, settings: TraceSettings) -> None:
        self.predictor, self.settings = predictor, settings

    def trace(self, pixels: np.ndarray) -> TraceResult:
        """Trace a work image ``(*S, C)``, float32 in [0, 1]."""
        started = time.perf_counter()
        centerline = self.predictor.set_image(pixels)
        encoded = time.perf_counter()
        in_encoder = self.predictor.network_seconds
        growth = Growth(self.settings, centerline)
        while growth.top_up():
            fronts = growth.fronts
            node, edge, corner = self.predictor.predict(fronts.tips, fronts.walked())
            use_edge = self.settings.method == "gds"
            found = search_batch(node, edge, fronts.tips - corner, self.settings.search, use_edge=use_edge)
            growth.advance(found, corner)
        network = self.predictor.network_seconds - in_encoder
        total = time.perf_counter() - encoded
        return TraceResult(
            forest=growth.graph.forest(),
            centerline=centerline,
            loops=growth.loop_segments(),
            counts=growth.counts,
            seconds={"encode": encoded - started, "network": network, "search": total - network},
        )


class Growth:
    """One trace in progress.

    Parameters
    ----------
    settings
        See :class:`TraceSettings`.
    centerline
        ``(*S,)`` chances of the image.
    """

    def __init__(self, settings: TraceSettings, centerline: np.ndarray) -> None:
        self.settings = settings
        self.graph = TraceGraph(centerline.ndim)
        self.fronts = Fronts.none(centerline.ndim, settings.walked_nodes)
        self.counts = {"seeds": 0, "steps": 0, "nodes": 0, "joins": 0, "loops": 0}
        # A node a fraction of a pixel beside the ridge is still on it: the best of the pixels around counts.
        self._on_line = maximum_filter(centerline, 3)
        self._seeds = iter(_seed_order(centerline, settings.seed_threshold, settings.seed))
        self._next: list[tuple[int, np.ndarray]] = []

    # ---- seeds -----------------------------------------------------------------------------------------------------

    def top_up(self) -> bool:
        """Fill the fronts up from the seeds that are not traced yet; False when there is nothing left to do."""
        waiting: list[np.ndarray] = []
        while len(self.fronts) + len(waiting) < self.settings.fronts:
            position = next(self._seeds, None)
            if position is None:
                break
            if self._is_free(position, waiting):
                waiting.append(position)
        self._start(waiting)
        return len(self.fronts) > 0

    def _is_free(self, position: np.ndarray, waiting: list[np.ndarray]) -> bool:
        """Whether a seed is far enough from the trace and from the seeds that start with it."""
        gap = self.settings.seed_gap
        if any(np.linalg.norm(position - other) < gap for other in waiting):
            return False
        return self.graph.nearest(position, gap) is None

    def _start(self, positions: list[np.ndarray]) -> None:
        """Make fronts of seeds."""
        if not positions:
            return
        nodes = np.array([self.graph.add_node(position) for position in positions])
        path = np.full((len(nodes), *self.fronts.path.shape[1:]), np.nan)
        path[:, 0] = positions
        self.fronts = self.fronts + Fronts(nodes, path)
        self.counts["seeds"] += len(nodes)

    # ---- steps -----------------------------------------------------------------------------------------------------

    def advance(self, found: Candidates, corner: np.ndarray) -> None:
        """One step of every front: ``found`` are its candidates in its patch, which begins at ``corner``."""
        self._next = []
        position = found.position + corner[found.owner]
        first = np.searchsorted(found.owner, np.arange(len(self.fronts) + 1))
        for row in range(len(self.fronts)):
            own = np.arange(first[row], first[row + 1])
            self._step(row, position[own], found.edge_mean[own])
        self.counts["steps"] += len(self.fronts)
        nodes = np.array([node for node, _ in self._next], dtype=np.int64)
        paths = [path for _, path in self._next]
        empty = self.fronts.path[:0]
        self.fronts = Fronts(nodes, np.stack(paths) if paths else empty)

    def _step(self, row: int, positions: np.ndarray, edge_mean: np.ndarray) -> None:
        """Advance one front to its candidates ``(K, ndim)``, the best first."""
        path = self.fronts.path[row]
        allowed = [k for k in range(len(positions)) if self._allowed(path, positions[k])]
        if self.fronts.is_seed(row):
            chosen = self._separate(path[0], positions, allowed)
            self._follow_seed(row, positions[chosen])
            return
        others = [k for k in allowed[1:] if edge_mean[k] >= self.settings.branch_edge]
        for k in self._separate(path[0], positions, allowed[:1] + others):
            self._follow(int(self.fronts.node[row]), path, positions[k])

    def _allowed(self, path: np.ndarray, position: np.ndarray) -> bool:
        """Whether a step stays in the image and on a centerline, and does not turn back (FACTS §5)."""
        pixel = tuple(np.floor(position + 0.5).astype(int))
        if any(p < 0 or p >= size for p, size in zip(pixel, self._on_line.shape, strict=True)):
            return False
        if self._on_line[pixel] < self.settings.stop_threshold:
            return False
        last = path[0] - path[1]
        return bool(np.isnan(last[0])) or float(np.dot(position - path[0], last)) >= 0

    def _separate(self, tip: np.ndarray, positions: np.ndarray, rows: list[int]) -> list[int]:
        """Those of ``rows`` whose directions differ enough from the ones before them."""
        limit = np.cos(np.deg2rad(self.settings.branch_angle))
        chosen: list[int] = []
        directions: list[np.ndarray] = []
        for k in rows:
            step = positions[k] - tip
            direction = step / max(float(np.linalg.norm(step)), 1e-9)
            if all(float(direction @ other) <= limit for other in directions):
                chosen.append(k)
                directions.append(direction)
        return chosen

    def _follow_seed(self, row: int, positions: np.ndarray) -> None:
        """Start in every direction from a seed. What lies opposite is the path already walked."""
        seed, node = self.fronts.path[row, 0], int(self.fronts.node[row])
        for k, position in enumerate(positions):
            path = self.fronts.path[row].copy()
            behind = [p for j, p in enumerate(positions) if j != k and np.dot(p - seed, position - seed) < 0]
            if behind and len(path) > 2:
                path[1] = behind[0]
            self._follow(node, path, position)

    def _follow(self, node: int, path: np.ndarray, position: np.ndarray) -> None:
        """One step from ``node`` to ``position``: go on there, or end on the traced branch that it meets."""
        exclude = self.graph.edges_at(node)
        if self.graph.nearest(position, self.settings.meet, exclude) is not None:
            if self.settings.joins:
                self._join(node, path[0], position, exclude)
            return
        self._next.append((self.graph.grow(node, position), stepped(path, position)))
        self.counts["nodes"] += 1

    def _join(self, node: int, tip: np.ndarray, position: np.ndarray, exclude: set[int]) -> None:
        """Join ``node`` to the first traced branch that the way to ``position`` touches."""
        near = self._first_contact(tip, position, exclude)
        if near is not None:
            self.counts["joins" if self.graph.join(node, near) else "loops"] += 1

    def _first_contact(self, tip: np.ndarray, position: np.ndarray, exclude: set[int]) -> Nearest | None:
        """The edge first met on the way from ``tip`` to ``position``, at the place nearest to where it is met.

        Joining where the step ends would draw a short cut beside the branch: steps are long, branches thin.
        """
        for fraction in np.linspace(0, 1, PROBES + 1)[1:]:
            near = self.graph.nearest(tip + fraction * (position - tip), self.settings.meet, exclude)
            if near is not None:
                return near
        return None

    def loop_segments(self) -> np.ndarray:
        """``(L, 2, ndim)`` joins that were left out because they close a loop."""
        segments = [(self.graph.positions[loop.node], np.array(loop.foot)) for loop in self.graph.loops]
        return np.array(segments).reshape(-1, 2, self.graph.ndim)


def _seed_order(centerline: np.ndarray, threshold: float, seed: int) -> np.ndarray:
    """Pixels ``(N, ndim)`` of the skeleton of the map above ``threshold``, in random order (paper, "Tracing")."""
    pixels = np.argwhere(skeletonize(centerline >= threshold)).astype(float)
    return np.random.default_rng(seed).permutation(pixels)
