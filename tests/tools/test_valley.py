"""Where a way crosses a valley of the map."""

from __future__ import annotations

import numpy as np
import pytest

from tools.tracing.valley import ahead, parted


@pytest.mark.parametrize("ndim", [2, 3])
def test_two_lines_are_parted_and_the_places_of_one_are_not(ndim):
    centerline = np.zeros((9,) * (ndim - 1) + (40,), np.float32)
    centerline[..., 2, :] = centerline[..., 6, :] = 0.8
    centerline[..., 2, 20:24] = 0.1
    at = np.full((4, ndim), 4.0)
    start, end = at.copy(), at.copy()
    start[:, -2:] = [[2, 5], [2, 5], [2, 18], [2.7, 5]]
    end[:, -2:] = [[6, 8], [2, 12], [2, 26], [1.4, 12]]
    # To the other line; along the same; over a gap in it; along it, with both ends beside its middle.
    assert parted(centerline, start, end).tolist() == [True, False, True, False]


def test_ahead_is_a_narrow_cone_and_a_seed_has_none():
    turn = np.deg2rad([0, 15, 25, 180])
    step = 5 * np.stack([np.sin(turn), np.cos(turn)], axis=1)
    last = np.tile([0.0, 3.0], (4, 1))
    assert ahead(step, last).tolist() == [True, True, False, False]
    assert not ahead(step, np.full((4, 2), np.nan)).any()


def test_the_border_of_the_map_is_no_valley():
    centerline = np.full((6, 6), 0.7, np.float32)
    assert not parted(centerline, np.array([[-0.5, 3.0]]), np.array([[5.5, 3.0]])).any()
