"""Places moved to the middle of a line of the map."""

from __future__ import annotations

import numpy as np
import pytest

from tools.tracing.ridge import CLIMB, on_ridge, uphill


def two_lines(ndim: int) -> np.ndarray:
    """A map of lines along the last axis, in rows 6 and 10: 0.9 in these rows, 0.4 in the rows beside them."""
    centerline = np.full((9,) * (ndim - 2) + (20, 40), 0.05, np.float32)
    plane = centerline[(4,) * (ndim - 2)]
    plane[[5, 7, 9, 11]] = 0.4
    plane[[6, 10]] = 0.9
    return centerline


def at(ndim: int, *places: tuple[float, float]) -> np.ndarray:
    """Positions ``(N, ndim)`` in the plane of the lines."""
    positions = np.full((len(places), ndim), 4.0)
    positions[:, -2:] = places
    return positions


def test_seeds_are_moved_to_the_middle_of_their_line():
    centerline = np.zeros((20, 40), np.float32)
    centerline[9:12] = np.array([0.5, 0.9, 0.9])[:, None]
    seeds = uphill(np.array([[10, 20], [9, 20]]), centerline)
    np.testing.assert_allclose(seeds, [[10 + 0.4 / 2.3, 20]] * 2, atol=1e-6)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_node_between_two_lines_moves_to_the_nearer_one_and_not_along_it(ndim):
    places = at(ndim, (7.6, 20.3), (8.6, 20.3), (5.2, 11.0))
    moved = on_ridge(two_lines(ndim), places, at(ndim, (0, 1), (0, 1), (0, 1)) - at(ndim, (0, 0)))
    np.testing.assert_allclose(moved, at(ndim, (6, 20.3), (10, 20.3), (6, 11.0)), atol=0.02)


def test_a_node_moves_at_right_angles_to_its_direction_only():
    along = np.array([[1.0, 1.0]])
    moved = on_ridge(two_lines(2), np.array([[7.0, 20.0]]), along) - [[7.0, 20.0]]
    assert moved @ along[0] == pytest.approx(0, abs=1e-9) and moved[0, 0] < -0.3


def test_nodes_far_from_lines_and_on_level_ground_do_not_move():
    places = np.array([[14.0, 20.0], [0.0, 0.0]])
    along = np.array([[0.0, 1.0]] * 2)
    np.testing.assert_array_equal(on_ridge(np.zeros((20, 40), np.float32), places, along), places)
    level = on_ridge(np.full((20, 40), 0.7, np.float32), places[:1], along[:1])
    np.testing.assert_allclose(level, places[:1], atol=1e-6)


def test_a_climb_is_short_and_ends_in_the_map():
    slope = np.tile(np.linspace(0.1, 0.9, 20, dtype=np.float32)[:, None], (1, 9))
    assert np.abs(uphill(np.array([[5, 4]]), slope)[0, 0] - 5) <= CLIMB + 1
    assert (uphill(np.array([[25, -3]]), slope) <= [19.5, 8.5]).all()


def test_no_places_stay_no_places():
    assert on_ridge(np.zeros((9, 9, 9), np.float32), np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 3)
