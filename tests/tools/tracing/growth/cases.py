"""Trees for the oracle, and traces and single steps on maps made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from configs.options import TraceOptions3D
from tests.tools.tracing.oracle import OraclePredictor, mapped
from tools.tracing.growth.gds import Candidates, Search
from tools.tracing.growth.seeds import Seeds
from tools.tracing.growth.settings import TraceSettings
from tools.tracing.growth.tracer import Growth, Tracer, TraceResult
from tools.tracing.tracing_tools_3D import BORDER, MEET, SLACK

SETTINGS = TraceSettings(Search(r=2))

STRAIGHT = [[(30.3, 12.0), (30.3, 187.0)]]
FORK = [[(60.4, 10.0), (60.4, 80.0)], [(60.4, 80.0), (20.0, 140.0)], [(60.4, 80.0), (100.0, 140.0)]]
PARALLEL = [[(30.0, 10.0), (30.0, 190.0)], [(34.0, 10.0), (34.0, 190.0)]]
CROSSING = [[(60.0, 10.0), (60.0, 130.0)], [(10.0, 70.0), (120.0, 70.0)]]


def crossing_at(angle: float) -> list[list[tuple[float, float]]]:
    """A line along x and one at an angle in degrees, through nearly the same place, without a common point."""
    along = 60 * np.array([np.sin(np.radians(angle)), np.cos(np.radians(angle))])
    middle = np.array([80.41, 80.33])
    return [[(80.13, 20.0), (80.13, 140.0)], [tuple(middle - along), tuple(middle + along)]]


BORDERS = [[(30.0, 0.0), (30.0, 99.0)]]
ANGLES = np.linspace(0, 2 * np.pi, 61)
RING = [np.stack([60 + 45 * np.sin(ANGLES), 60 + 45 * np.cos(ANGLES)], axis=1).tolist()]
STRAIGHT_3D = [[(12.3, 14.0, 8.0), (12.3, 50.0, 84.0)]]
FORK_3D = [
    [(12.0, 30.0, 6.0), (12.0, 30.0, 46.0)],
    [(12.0, 30.0, 46.0), (6.0, 10.0, 76.0)],
    [(12.0, 30.0, 46.0), (18.0, 50.0, 76.0)],
]
PARALLEL_3D = [[(8.0, 30.0, 6.0), (14.0, 30.0, 90.0)], [(8.0, 34.0, 6.0), (14.0, 34.0, 90.0)]]
ABOVE_3D = [[(8.0, 30.0, 6.0), (8.0, 30.0, 90.0)], [(12.0, 30.0, 6.0), (12.0, 30.0, 90.0)]]
CROSSING_3D = [[(12.0, 32.0, 6.0), (12.0, 32.0, 90.0)], [(12.0, 6.0, 48.0), (12.0, 58.0, 48.0)]]
PASSING_3D = [[(8.0, 32.0, 6.0), (8.0, 32.0, 90.0)], [(14.0, 6.0, 48.0), (14.0, 58.0, 48.0)]]
STEEP_3D = [[(3.0, 30.0, 20.0), (36.0, 32.0, 44.0)]]

FLAT = np.full((60, 100), 0.9, np.float32)
"""A map without structure."""


def trace(lines, shape, settings: TraceSettings = SETTINGS, **options) -> TraceResult:
    """Trace the image of an oracle, volumes with the settings of the job for volumes."""
    patch = (64, 64) if len(shape) == 2 else (16, 48, 48)
    if len(shape) == 3:
        search = replace(settings.search, border=BORDER, slack=SLACK, num_vec=TraceOptions3D.num_vec)
        search = replace(search, spacing=options.get("spacing"))
        near = MEET * search.r
        settings = replace(settings, search=search, side_by_side=True, meet=near, seed_gap=near)
    oracle = OraclePredictor(lines, shape, patch, **options)
    result = Tracer(oracle, settings).trace(np.zeros((*shape, 1), np.float32))
    assert oracle.largest_batch <= settings.fronts
    return result


def candidates(*positions, edge_mean=None) -> Candidates:
    """Candidates of the first front, the best first."""
    count = len(positions)
    mean = np.full(count, 0.9) if edge_mean is None else np.array(edge_mean)
    places = np.array(positions, float).reshape(-1, 2)
    return Candidates(np.zeros(count, int), places, np.ones(count), np.zeros(count), mean)


def seeded(*seeds, centerline: np.ndarray = FLAT, **settings) -> Growth:
    """A growth with the given seeds, started."""
    growth = Growth(replace(SETTINGS, **settings), mapped(centerline))
    growth.seeds = Seeds(np.array(seeds, float), 4.0)
    assert growth.top_up()
    return growth


def one_front(centerline: np.ndarray = FLAT, **settings) -> Growth:
    """A growth with one seed, at (30, 50)."""
    return seeded((30, 50), centerline=centerline, **settings)


def step(growth: Growth, *positions, **options) -> np.ndarray:
    """Advance all fronts, the first of them to ``positions``; the tips after the step."""
    growth.advance(candidates(*positions, **options), np.zeros((len(growth.active()), 2), int))
    return growth.fronts.tips


def walking(centerline: np.ndarray = FLAT, **settings) -> Growth:
    """A growth with one front, walked from (30, 50) to (30, 60)."""
    growth = one_front(centerline, **settings)
    assert len(step(growth, (30, 60))) == 1
    return growth
