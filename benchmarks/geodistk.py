"""Do our own geodesic solver and GeodisTK pick the same next node?

    make geodistk

builds GeodisTK in an environment of its own (it needs NumPy < 2) and runs, there, ``python -m benchmarks.geodistk``:
both solvers on synthetic cases, clean and with noise. Exits with 1 if the picks differ or are not
the right node. The tests use the same cases.
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

SHAPE = (64, 64)
TIP = (32.0, 32.0)
"""All cases are 2D patches of the paper's size with the tip at the middle."""
NOISE = 0.05
"""Standard deviation of the noise added to both maps."""
SEEDS = 5
Path = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Case:
    """Two maps of a tip and where the trace should go on.

    Attributes
    ----------
    name
        What the case shows.
    node, edge
        ``(y, x)`` float32 probabilities.
    expected
        ``(y, x)`` position of the right next node.
    """

    name: str
    node: np.ndarray
    edge: np.ndarray
    expected: tuple[float, float]


def tube(path: Path, peak: float = 0.97, sigma: float = 1.2, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A soft tube along a polyline: ``peak · exp(−d² / 2σ²)``, ``shape`` float32; one point makes a blob."""
    points = np.atleast_2d(np.array(path, dtype=float))
    pixel = np.stack(np.indices(shape), axis=-1)
    squared = ((pixel - points[0]) ** 2).sum(axis=-1)
    for a, b in pairwise(points):
        fraction = np.clip(((pixel - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
        squared = np.minimum(squared, ((pixel - a - fraction[..., None] * (b - a)) ** 2).sum(axis=-1))
    return (peak * np.exp(-squared / (2 * sigma**2))).astype(np.float32)


def blob(center: tuple[float, ...], peak: float, sigma: float = 1.5, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A Gaussian node: float32 of ``shape``."""
    return tube([center], peak, sigma, shape)


def cases() -> list[Case]:
    """The synthetic cases. But for the first, the brightest node is never the right one."""
    arc = [(32 + 10 * np.sin(a), 42 - 10 * np.cos(a)) for a in np.linspace(0, 2.2, 12)]
    ours, other = (32.0, 42.3), (36.0, 42.0)
    near, far = (27.0, 41.0), (40.0, 44.0)
    across = (25.0, 37.0)
    end, beside = arc[-1], (24.0, 34.0)
    return [
        Case("straight", blob(ours, 0.8), tube([TIP, ours]), ours),
        Case("fork", _most(blob(near, 0.7), blob(far, 0.9)), _most(tube([TIP, near]), tube([TIP, far])), near),
        Case("parallel", _most(blob(ours, 0.6), blob(other, 0.95)), tube([TIP, ours]), ours),
        Case("crossing", _most(blob(ours, 0.6), blob(across, 0.95)), _most(tube([TIP, ours]), _faint(across)), ours),
        Case("curved", _most(blob(end, 0.6), blob(beside, 0.95)), tube(arc), end),
    ]


def _most(*maps: np.ndarray) -> np.ndarray:
    """The highest of the maps at every pixel."""
    return np.maximum.reduce(maps)


def _faint(place: tuple[float, float]) -> np.ndarray:
    """A crossing branch through ``place``, on which the edge map is unsure."""
    return tube([place, (45.0, place[1])], peak=0.4)


def noisy(case: Case, seed: int) -> Case:
    """The case with noise on both maps, clipped to probabilities."""
    rng = np.random.default_rng(seed)
    node, edge = (np.clip(m + rng.normal(0, NOISE, m.shape), 0, 1).astype(np.float32) for m in (case.node, case.edge))
    return replace(case, name=f"{case.name}, noise {seed}", node=node, edge=edge)


def all_cases() -> Iterator[Case]:
    """Every case clean, then with noise."""
    for case in cases():
        yield case
        yield from (noisy(case, seed) for seed in range(SEEDS))


def search(case: Case, settings: Search, *, use_edge: bool = True) -> Candidates:
    """Candidates of the one tip of a case."""
    return search_batch(case.node[None], case.edge[None], np.array([TIP]), settings, use_edge=use_edge)


def main() -> int:
    """Print the pick of both solvers for every case; 1 if two differ or one is wrong."""
    bad, seconds = 0, {"dijkstra": 0.0, "geodistk": 0.0}
    search(cases()[0], Search(r=2))  # compiles: not to be timed
    for case in all_cases():
        picks = {}
        for solver in seconds:
            begin = time.perf_counter()
            picks[solver] = search(case, Search(r=2, solver=solver)).winners()
            seconds[solver] += time.perf_counter() - begin
        ours, theirs = picks.values()
        same = np.array_equal(ours.position, theirs.position)
        right = len(ours) == 1 and np.linalg.norm(ours.position[0] - case.expected) < 1
        bad += not (same and right)
        verdict = "DIFFERENT" if not same else "same" if right else "same, WRONG NODE"
        print(f"{case.name:18} ours {_shown(ours)}   GeodisTK {_shown(theirs)}   {verdict}")
    print(f"{bad} different or wrong; seconds: {seconds['dijkstra']:.2f} ours, {seconds['geodistk']:.2f} GeodisTK")
    return int(bad > 0)


def _shown(pick: Candidates) -> str:
    if not len(pick):
        return "none"
    (y, x), distance = pick.position[0], pick.geodesic[0]
    return f"({y:5.2f}, {x:5.2f}) at {distance:9.3f}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"geodistk: {error}", file=sys.stderr)
        sys.exit(2)
