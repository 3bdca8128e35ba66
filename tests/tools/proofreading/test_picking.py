"""What lies under the cursor, and the view from which a branch lies flat."""

from __future__ import annotations

import numpy as np
import pytest

from lib.swclib import SwcForest
from tests.tools.proofreading.scenes import line, make
from tools.proofreading.picking import flat_view, nearest_edge, nearest_node

FLAT = np.ones(2)
CROSS = SwcForest.from_positions([(0, 0, 0), (0, 0, 10), (8, 5, 5), (8, 9, 5)], [-1, 0, -1, 2])
"""Two edges of a volume, 8 slices apart, that cross in the view along z: ids 1 and 2, 3 and 4."""


def test_nearest_node_and_edge_in_a_plane():
    forest = line((5, 0), (5, 8))
    assert nearest_node(forest, np.array([6.0, 3.0]), FLAT) == ((2,), pytest.approx(np.sqrt(2)))
    assert nearest_edge(forest, np.array([7.0, 5.0]), FLAT) == ((2, 3), 2.0)
    assert nearest_edge(forest, np.array([7.0, 7.0]), FLAT) == ((3, 2), 2.0)
    assert nearest_node(SwcForest.empty(), np.zeros(2), FLAT) is None
    assert nearest_edge(SwcForest.empty(), np.zeros(2), FLAT) is None


def test_along_a_line_of_sight_depth_does_not_count():
    down, unit = np.array([1.0, 0, 0]), np.ones(3)
    assert nearest_edge(CROSS, np.array([-50.0, 0.5, 2]), unit, down) == ((1, 2), pytest.approx(0.5))
    assert nearest_edge(CROSS, np.array([-50.0, 8, 5.5]), unit, down) == ((4, 3), pytest.approx(0.5))
    assert nearest_node(CROSS, np.array([90.0, 5, 5]), unit, down) == ((3,), pytest.approx(0, abs=1e-9))


def test_a_slanted_line_of_sight_through_thick_slices():
    """Slices are 3 apart: the line from (0, 5, 5) at 45 degrees in space meets slice 8 at y = 5 + 24."""
    spacing, sight = np.array([3.0, 1, 1]), np.array([1 / 3, 1.0, 0])
    forest = SwcForest.from_positions([(8, 29, 5), (8, 35, 5)], [-1, 0])
    found = nearest_node(forest, np.array([0.0, 5, 5]), spacing, sight)
    assert found == ((1,), pytest.approx(0, abs=1e-9))


def test_flat_view():
    bend = np.array([(0, 0, 0), (0, 0, 10), (0, 8, 10)], float)
    normal, _ = flat_view(bend, np.ones(3))
    assert np.abs(normal) == pytest.approx([1, 0, 0])
    normal, along = flat_view(bend[:, [1, 0, 2]], np.array([2.0, 1, 1]))
    assert np.abs(normal) == pytest.approx([0, 1, 0]) and abs(normal @ along) < 1e-9
    straight, _ = flat_view(np.array([(0, 0, 0), (5, 0, 5), (10, 0, 10)], float), np.ones(3))
    assert np.abs(straight) == pytest.approx(np.sqrt([0.5, 0, 0.5]))
    upright, along = flat_view(np.array([(0, 0, 0), (9, 0, 0)], float), np.ones(3))
    assert abs(upright @ along) < 1e-9 and np.linalg.norm(upright) == pytest.approx(1)


def test_aim_takes_a_node_on_the_line_or_the_brightest_place(tmp_path):
    tubes = [[(6, 10, 5), (6, 10, 45)], [(14, 25, 5), (14, 25, 45)]]
    session = make(tmp_path, (20, 35, 50), tubes, [line((6, 10, 5), (6, 10, 45))])
    down = np.array([1.0, 0, 0])
    assert session.aim(np.array([-9.0, 11, 21]), down).tolist() == [6, 10, 21]
    assert session.aim(np.array([-9.0, 25, 21]), down) == pytest.approx([14, 25, 21], abs=0.6)
    with pytest.raises(Exception, match="beside the volume"):
        session.aim(np.array([0.0, 99, 21]), down)
