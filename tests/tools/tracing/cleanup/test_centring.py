"""Centred traces of tubes whose centerline is known."""

from __future__ import annotations

import numpy as np
import pytest

from lib.swclib import SwcForest
from tools.tracing.cleanup.centring import SPACING, TOUCH, centre_trace, centred


def tube_map(shape: tuple[int, ...], distance: np.ndarray) -> np.ndarray:
    """A centerline map as a network draws it: a ridge of width σ = 1.5 px."""
    return np.exp(-0.5 * (distance / 1.5) ** 2).astype(np.float32).reshape(shape)


def line_map(ndim: int, row: float, last: float) -> np.ndarray:
    """A line along x at ``row`` in all other axes, from the border to x = ``last``."""
    grid = np.indices((40,) * (ndim - 1) + (120,)).astype(float)
    across = np.sqrt(((grid[:-1] - row) ** 2).sum(axis=0))
    return tube_map(grid.shape[1:], across) * (grid[-1] <= last)


def arc(degrees: np.ndarray) -> tuple[np.ndarray, SwcForest]:
    """The map of a ring of radius 30 about (60, 60), and a trace with nodes at some ``degrees`` of it."""
    grid = np.indices((120, 120)).astype(float)
    ring = tube_map((120, 120), np.hypot(grid[0] - 60, grid[1] - 60) - 30)
    angle = np.deg2rad(degrees)
    return ring, chain(np.stack([60 + 30 * np.sin(angle), 60 + 30 * np.cos(angle)], axis=1))


def chain(positions) -> SwcForest:
    """A tree without forks."""
    positions = np.array(positions, float)
    return SwcForest.from_positions(positions, np.arange(-1, len(positions) - 1))


@pytest.mark.parametrize("ndim", [2, 3])
def test_nodes_are_moved_onto_the_line(ndim):
    zigzag = [[*[20 + (-1) ** k] * (ndim - 1), 20.0 + 10 * k] for k in range(8)]
    done = centre_trace(chain(zigzag), line_map(ndim, 20.3, 119), threshold=2.0, longest=0)
    inner = done.positions(ndim)[done.degree == 2]
    off = np.abs(inner[:, :-1] - 20.3).max(axis=1)
    by_the_ends = np.isin(inner[:, -1], [inner[:, -1].min(), inner[:, -1].max()])
    assert off[~by_the_ends].max() < 0.2 and off.max() < 0.5  # Leaves do not move, and bend the path beside them.
    assert np.diff(np.sort(inner[:, -1])).max() < 1.5 * SPACING


def test_ends_are_extended_to_the_end_of_the_map():
    done = centre_trace(chain([[20, x] for x in range(40, 81, 10)]), line_map(2, 20, 86), threshold=0.5, longest=10)
    x = np.sort(done.positions(2)[done.degree == 1][:, 1])
    assert x[1] == pytest.approx(86, abs=1.1)  # The map ends here,
    assert x[0] == pytest.approx(30, abs=0.5)  # and the longest extension here.
    assert len(done.roots) == 1


def test_ends_are_extended_along_a_bend():
    ring, part = arc(np.arange(0, 61, 10))
    done = centre_trace(part, ring, threshold=0.5, longest=20)
    assert done.length == pytest.approx(part.length + 40, rel=0.04)
    middles = done.positions(2)[done.edges].mean(axis=1)
    assert np.abs(np.hypot(*(middles - 60).T) - 30).max() < 0.7


@pytest.mark.parametrize(("light", "extended"), [(0.9, True), (0.36, False)])
def test_an_end_is_extended_around_a_bend_but_not_across_a_valley(light, extended):
    """From (20, 70) the line turns down by 45 degrees; where it is faint there, what follows is another line."""
    rows, columns = np.indices((60, 120)).astype(float)
    flat = np.abs(rows - 20) + 99 * (columns > 70)
    steep = np.abs((rows - 20) - (columns - 70)) / np.sqrt(2) + 99 * (columns <= 70)
    bright = np.where((columns > 70) & (columns < 76), light, 0.9)
    centerline = (bright * np.exp(-0.5 * (np.minimum(flat, steep) / 1.5) ** 2)).astype(np.float32)
    done = centre_trace(chain([[20, x] for x in range(20, 71, 10)]), centerline, threshold=0.15, longest=20)
    assert (done.positions(2)[:, 0].max() > 26) == extended


def test_an_extended_end_stops_at_another_branch():
    ring = line_map(2, 20, 119)
    forest = SwcForest.from_positions([[20, 30], [20, 50], [20, 58], [20, 80]], [-1, 0, -1, 2])
    done = centre_trace(forest, ring, threshold=0.5, longest=30)
    tips = np.sort(done.positions(2)[done.degree == 1][:, 1])
    assert tips[1] <= 58 and tips[2] >= 50
    assert len(done.roots) == 2


@pytest.mark.parametrize("distance", [4, 7, 10, 18, 25])
def test_two_ends_that_face_each_other_do_not_pass(distance):
    forest = SwcForest.from_positions([[20, 30], [20, 50], [20, 50 + distance], [20, 80 + distance]], [-1, 0, -1, 2])
    done = centre_trace(forest, line_map(2, 20, 119), threshold=0.5, longest=10)
    left, right = (done.positions(2)[done.components == tree] for tree in range(2))
    if left[0, 1] > right[0, 1]:
        left, right = right, left
    gap = right[:, 1].min() - left[:, 1].max()
    assert gap >= 1
    assert gap <= max(TOUCH + 1, distance - 20 + 1)  # They meet where the gap is short enough.


def test_an_arc_replaces_its_chords():
    ring, chords = arc(np.arange(0, 181, 30))
    done = centre_trace(chords, ring, threshold=2.0, longest=0)
    radius = np.hypot(*(done.positions(2)[done.degree == 2] - 60).T)
    assert np.abs(radius - 30).max() < 0.5
    assert abs(done.length - np.pi * 30) < abs(chords.length - np.pi * 30)


def test_forks_and_trees_are_kept():
    fork = SwcForest.from_positions([[60, 20], [60, 60], [30, 90], [90, 90]], [-1, 0, 1, 1])
    done = centre_trace(fork, np.zeros((120, 120), np.float32), threshold=0.5, longest=10)
    assert len(done.branch_points) == 1 and len(done.leaves) == 2 and len(done.roots) == 1
    assert done.length == pytest.approx(fork.length)


def test_empty_traces_and_single_nodes_are_kept():
    assert len(centre_trace(SwcForest.empty(), np.zeros((9, 9)), threshold=0.5, longest=5)) == 0
    assert len(centre_trace(chain([[4, 4]]), np.zeros((9, 9)), threshold=0.5, longest=5)) == 1


def test_centring_moves_only_across_the_tangent():
    moved = centred(np.array([[21.0, 50.4]]), np.array([[0.0, 1.0]]), line_map(2, 20, 119))
    assert moved[0, 1] == pytest.approx(50.4)
    assert moved[0, 0] == pytest.approx(20, abs=0.3)
