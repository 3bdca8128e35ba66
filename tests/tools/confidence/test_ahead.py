"""What lies ahead of the ends of known tubes."""

from __future__ import annotations

import numpy as np
import pytest

from lib.swclib import SwcForest, concatenate
from tools.confidence.ahead import DISTANCES, probability_ahead

ONE = np.ones(2)


def tube(centerline: np.ndarray, start, end, value: float = 0.8) -> None:
    """Draw a straight tube, three pixels wide, into a map."""
    for share in np.linspace(0, 1, 400):
        at = np.rint(np.array(start) + share * np.subtract(end, start)).astype(int)
        centerline[tuple(slice(max(each - 1, 0), each + 2) for each in at)] = value


def line(start, end) -> SwcForest:
    """A straight line with a node every unit."""
    count = int(np.linalg.norm(np.subtract(end, start))) + 1
    return SwcForest.from_positions(np.linspace(start, end, count), np.arange(-1, count - 1))


def test_the_end_before_a_tube_that_goes_on_is_told_from_one_where_it_ends():
    centerline = np.zeros((60, 140))
    tube(centerline, (30, 30), (30, 130))
    ahead = probability_ahead(line((30, 30), (30, 80)), centerline, ONE)
    assert ahead[-1] == pytest.approx(0.8) and ahead[0] == 0 and not ahead[1:-1].any()


@pytest.mark.parametrize(("turn", "seen"), [(30, True), (75, False)])
def test_one_looks_ahead_and_not_to_the_side(turn, seen):
    centerline = np.zeros((100, 140))
    away = 45 * np.array([np.sin(np.radians(turn)), np.cos(np.radians(turn))])
    tube(centerline, (50, 80), np.array([50, 80]) + away)
    ahead = probability_ahead(line((50, 30), (50, 80)), centerline, ONE)
    assert (ahead[-1] > 0.7) == seen and (ahead[-1] < 0.1) == (not seen)


def test_what_is_traced_does_not_count():
    centerline = np.zeros((60, 140))
    tube(centerline, (30, 30), (30, 70))
    tube(centerline, (10, 90), (50, 90))
    alone = probability_ahead(line((30, 30), (30, 70)), centerline, ONE)
    both = probability_ahead(concatenate([line((30, 30), (30, 70)), line((10, 90), (50, 90))]), centerline, ONE)
    assert alone[40] > 0 and both[40] == 0


def test_a_faint_tube_counts_as_far_as_it_leads():
    centerline = np.zeros((60, 140))
    tube(centerline, (30, 80), (30, 90), 0.2)
    near = (DISTANCES <= 11).mean()
    assert probability_ahead(line((30, 30), (30, 80)), centerline, ONE)[-1] == pytest.approx(0.2 * near, abs=0.02)


@pytest.mark.parametrize("along", [(0, 0, 1), (0, 1, 0), (0, 0, -1), (0, 1, 1)])
def test_volumes_whose_voxels_are_no_cubes(along):
    """Units are pixels of a slice, slices lie three of them apart."""
    sizes, middle = np.array([3.0, 1, 1]), np.array([16, 60, 60])
    direction = np.array(along) / np.linalg.norm(along)
    centerline = np.zeros((32, 120, 120))
    tube(centerline, middle, middle + 45 * direction)
    ahead = probability_ahead(line((middle - 20 * direction) * sizes, middle * sizes), centerline, sizes)
    assert ahead[-1] > 0.6 and ahead[0] == 0


def test_a_tube_across_slices_is_followed_in_units():
    sizes, centerline = np.array([3.0, 1, 1]), np.zeros((40, 60, 60))
    tube(centerline, (14, 30, 30), (26, 30, 30))
    ahead = probability_ahead(line((12, 30, 30), (42, 30, 30)), centerline, sizes)
    assert ahead[-1] == pytest.approx(0.8, abs=0.05) and ahead[0] == 0


def test_no_end_no_work():
    assert probability_ahead(SwcForest.empty(), np.zeros((9, 9)), ONE).shape == (0,)
