"""Check that our own geodesic solver and GeodisTK choose the same next node.

    make geodistk

builds GeodisTK in a separate environment (it needs NumPy < 2) and runs ``python -m benchmarks.geodistk`` there: both
solvers on synthetic cases, clean and with noise. The exit code is 1 if a choice differs or is wrong. The tests use the
same cases.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from lib.errors import UserError
from tools.tracing.growth.gds import Candidates, Search, search_batch
from tools.tracing.growth.geodesic import Solver

SHAPE = (64, 64)
TIP = (32.0, 32.0)
"""All cases are 2D patches of the paper's size (docs/paper.md §3) with the tip in the middle."""
NOISE = 0.05
"""Standard deviation of the noise added to both maps."""
SEEDS = 5
"""Number of noisy copies of each case."""
Positions = Sequence[tuple[float, ...]]


@dataclass(frozen=True)
class Case:
    """Two maps of a tip and the node where the trace should continue.

    Attributes
    ----------
    name
        Short description.
    node, edge
        :data:`SHAPE` float32 probabilities.
    expected
        ``(y, x)`` position of the correct next node.
    """

    name: str
    node: np.ndarray
    edge: np.ndarray
    expected: tuple[float, float]


def tube(path: Positions, peak: float = 0.97, sigma: float = 1.2, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A tube along a polyline with a Gaussian profile, float32 of ``shape``; a single point gives a blob."""
    points = np.atleast_2d(np.array(path, dtype=float))
    pixel = np.stack([*np.indices(shape)], axis=-1)
    squared = ((pixel - points[0]) ** 2).sum(axis=-1)
    for a, b in pairwise(points):
        fraction = np.clip(((pixel - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
        squared = np.minimum(squared, ((pixel - a - fraction[..., None] * (b - a)) ** 2).sum(axis=-1))
    return (peak * np.exp(-squared / (2 * sigma**2))).astype(np.float32)


def blob(center: tuple[float, ...], peak: float, sigma: float = 1.5, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A Gaussian node, float32 of ``shape``."""
    return tube([center], peak, sigma, shape)


def cases() -> list[Case]:
    """The synthetic cases; only in the first is the brightest node the correct one."""
    arc = [(32 + 10 * np.sin(a), 42 - 10 * np.cos(a)) for a in np.linspace(0, 2.2, 12)]
    ours, other = (32.0, 42.3), (36.0, 42.0)
    near, far = (27.0, 41.0), (40.0, 44.0)
    across = (25.0, 37.0)
    end, beside = arc[-1], (24.0, 34.0)
    return [
        Case("straight", blob(ours, 0.8), tube([TIP, ours]), ours),
        Case("fork", _union(blob(near, 0.7), blob(far, 0.9)), _union(tube([TIP, near]), tube([TIP, far])), near),
        Case("parallel", _union(blob(ours, 0.6), blob(other, 0.95)), tube([TIP, ours]), ours),
        Case(
            "crossing", _union(blob(ours, 0.6), blob(across, 0.95)), _union(tube([TIP, ours]), _crossing(across)), ours
        ),
        Case("curved", _union(blob(end, 0.6), blob(beside, 0.95)), tube(arc), end),
    ]


def _union(*maps: np.ndarray) -> np.ndarray:
    """Maximum of the maps at every pixel."""
    return np.maximum.reduce(maps)


def _crossing(position: tuple[float, float]) -> np.ndarray:
    """Edge map of a crossing branch through ``position``, of low probability."""
    return tube([position, (45.0, position[1])], peak=0.4)


def noisy(case: Case, seed: int) -> Case:
    """The case with noise on both maps, which stay within [0, 1]."""
    rng = np.random.default_rng(seed)
    node, edge = (np.clip(m + rng.normal(0, NOISE, m.shape), 0, 1).astype(np.float32) for m in (case.node, case.edge))
    return replace(case, name=f"{case.name}, noise {seed}", node=node, edge=edge)


def all_cases() -> Iterator[Case]:
    """Every case without noise, then with noise."""
    for case in cases():
        yield case
        yield from (noisy(case, seed) for seed in range(SEEDS))


def search(case: Case, settings: Search, *, use_edge: bool = True) -> Candidates:
    """Candidates of the tip of a case."""
    return search_batch(case.node[None], case.edge[None], np.array([TIP]), settings, use_edge=use_edge)


def main() -> int:
    """Print what both solvers choose in every case; return 1 if a choice differs or is wrong."""
    bad = 0
    seconds: dict[Solver, float] = {"dijkstra": 0.0, "geodistk": 0.0}
    search(cases()[0], Search(r=2))  # Compilation is not timed.
    for case in all_cases():
        choices = []
        for solver in seconds:
            begin = time.perf_counter()
            choices.append(search(case, Search(r=2, solver=solver)).winners())
            seconds[solver] += time.perf_counter() - begin
        ours, theirs = choices
        same = np.array_equal(ours.position, theirs.position)
        correct = len(ours) == 1 and np.linalg.norm(ours.position[0] - case.expected) < 1
        bad += not (same and correct)
        verdict = "DIFFERENT" if not same else "same" if correct else "same, WRONG NODE"
        print(f"{case.name:18} ours {_shown(ours)}   GeodisTK {_shown(theirs)}   {verdict}")
    print(f"{bad} different or wrong; seconds: {seconds['dijkstra']:.2f} ours, {seconds['geodistk']:.2f} GeodisTK")
    return int(bad > 0)


def _shown(choice: Candidates) -> str:
    if not len(choice):
        return "none"
    (y, x), distance = choice.position[0], choice.geodesic[0]
    return f"({y:5.2f}, {x:5.2f}) at {distance:9.3f}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"geodistk: {error}", file=sys.stderr)
        sys.exit(2)
