"""Steps that cross a valley of the map, and those that do not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from tools.tracing.valley import _probability, crosses_valley, goes_straight


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_valley_lies_between_two_lines_and_in_a_gap_but_not_along_one_line(ndim):
    centerline = np.zeros((9,) * (ndim - 1) + (40,), np.float32)
    centerline[..., 2, :] = centerline[..., 6, :] = 0.8
    centerline[..., 2, 20:24] = 0.1
    at = np.full((4, ndim), 4.0)
    start, end = at.copy(), at.copy()
    start[:, -2:] = [[2, 5], [2, 5], [2, 18], [2.7, 5]]
    end[:, -2:] = [[6, 8], [2, 12], [2, 26], [1.4, 12]]
    # To the other line; along one line; over a gap in it; along it, with both ends beside its middle.
    assert crosses_valley(centerline, start, end).tolist() == [True, False, True, False]


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_bend_is_no_valley_but_a_saddle_is(ndim):
    flat = np.zeros((20, 20), np.float32)
    angle = np.linspace(0, np.pi, 200)
    bend = np.stack([6 + 4 * np.sin(angle), 10 + 4 * np.cos(angle)], axis=1).round().astype(int)
    flat[tuple(bend.T)] = 0.8
    flat[2:7, [6, 14]] = 0.8
    for probability, crosses in ((0.8, False), (0.5, True)):
        flat[10, 9:12] = probability
        centerline = np.tile(flat, (5,) * (ndim - 2) + (1, 1))
        ends = np.full((2, ndim), 2.0)
        ends[:, -2:] = [[8, 6.5], [8, 13.5]]
        assert crosses_valley(centerline, ends[:1], ends[1:])[0] == crosses


def test_only_a_short_path_around_a_valley_counts():
    centerline = np.zeros((40, 20), np.float32)
    centerline[5:30, [8, 12]] = 0.8
    centerline[30, 8:13] = 0.8
    near, far = np.array([[28.0, 8.0], [28.0, 12.0]]), np.array([[15.0, 8.0], [15.0, 12.0]])
    assert not crosses_valley(centerline, near[:1], near[1:])[0]
    assert crosses_valley(centerline, far[:1], far[1:])[0]


def test_straight_ahead_is_a_narrow_cone_that_a_seed_does_not_have():
    turn = np.deg2rad([0, 15, 25, 180])
    step = 5 * np.stack([np.sin(turn), np.cos(turn)], axis=1)
    last = np.tile([0.0, 3.0], (4, 1))
    assert goes_straight(step, last).tolist() == [True, True, False, False]
    assert not goes_straight(step, np.full((4, 2), np.nan)).any()


def test_the_border_of_the_map_is_not_a_valley():
    centerline = np.full((6, 6), 0.7, np.float32)
    assert not crosses_valley(centerline, np.array([[-0.5, 3.0]]), np.array([[5.5, 3.0]])).any()


@pytest.mark.parametrize("shape", [(1, 9, 12), (5, 9, 12)])
def test_the_map_between_pixels_is_that_of_scipy_to_the_last_bit(shape):
    rng = np.random.default_rng(0)
    volume, places = rng.random(shape, np.float32), rng.uniform(-1, shape, (200, 3))
    places[:, 0] = np.where(shape[0] == 1, 0, places[:, 0])
    expected = map_coordinates(volume, places.T, order=1, mode="nearest")
    np.testing.assert_array_equal([_probability(volume, place) for place in places], expected)
