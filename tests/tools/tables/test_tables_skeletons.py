"""Skeletons of a map as forests: their position and what is cut and dropped, also with voxels that are not cubes."""

from __future__ import annotations

import numpy as np
import pytest

from lib.errors import UserError
from lib.swclib import SwcForest
from tools.tables.skeletons import (
    Rules,
    kimimaro_skeleton,
    skan_skeleton,
    skeleton,
    skeleton_forest,
    spanning_forest,
)
from tools.tables.sources import version
from tools.tracing.cleanup.centring import SPACING

RULES = Rules(threshold=0.5, spur=10.0, sure=0.9, step=10.0)
MAKES = [
    skeleton,
    pytest.param(skan_skeleton, marks=pytest.mark.skipif(version("skan") is None, reason="skan is not installed")),
    pytest.param(kimimaro_skeleton, marks=pytest.mark.skipif(version("kimimaro") is None, reason="not installed")),
]


def bar(shape=(60, 100), probability=0.8) -> np.ndarray:
    """A map of a bar, 5 px thick, in the middle of the first axes and from 10 to 90 along the last."""
    centerline = np.zeros(shape, np.float32)
    middle = tuple(slice(size // 2 - 2, size // 2 + 3) for size in shape[:-1])
    centerline[(*middle, slice(10, 90))] = probability
    return centerline


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("shape", [(60, 100), (20, 30, 100)])
def test_a_bar_becomes_its_middle_line(make, shape):
    # With a low `sure` the isolated bar is kept.
    forest = skeleton_forest(bar(shape), Rules(0.5, 10.0, 0.5, 10.0), make)
    positions = forest.positions(len(shape))
    assert len(forest.roots) == 1 and (forest.degree == 1).sum() == 2
    np.testing.assert_allclose(
        positions[:, :-1], np.broadcast_to(np.array(shape[:-1]) // 2, positions[:, :-1].shape), atol=2
    )
    # kimimaro's own paths lie one pixel beside the middle of a bar of five.
    tolerance = 1 if make is kimimaro_skeleton else 0.5
    assert np.abs(np.median(positions[:, :-1], axis=0) - np.array(shape[:-1]) // 2).max() <= tolerance
    assert positions[:, -1].min() <= 15 and positions[:, -1].max() >= 84


@pytest.mark.parametrize("make", MAKES)
def test_short_end_branches_are_cut_and_long_ones_kept(make):
    centerline = bar()
    centerline[32:39, 30:33] = 0.8
    centerline[33:55, 60:63] = 0.8
    forest = skeleton_forest(centerline, Rules(0.5, 10.0, 0.5, 10.0), make)
    assert (forest.degree == 1).sum() == 3 and forest.positions(2)[:, 0].max() > 48


@pytest.mark.parametrize("make", MAKES)
def test_spurs_are_measured_in_units_not_in_voxels(make):
    centerline = np.zeros((24, 30, 90), np.float32)
    centerline[8:11, 14:17, 5:85] = 0.8
    centerline[10:19, 14:17, 44:47] = 0.8
    rules = Rules(0.5, 20.0, 0.5, 10.0)
    assert (skeleton_forest(centerline, rules, make).degree == 1).sum() == 2
    forest = skeleton_forest(centerline, rules, make, (4.0, 1.0, 1.0))
    # The same branch is now 36 units long; positions are still in voxels.
    assert (forest.degree == 1).sum() == 3 and 15 <= forest.positions(3)[:, 0].max() <= 18.5


def test_isolated_trees_are_dropped_as_in_a_trace():
    centerline = bar((200, 100), 0.8)
    centerline[10:13, 20:42] = 0.8
    # Both are isolated, of 80 px (9 nodes of a trace) and 20 px (3 nodes), and their probability is not above `sure`.
    assert len(skeleton_forest(centerline, RULES, skeleton)) == 0
    # A tree of fewer than 4 nodes is dropped at any probability.
    assert len(skeleton_forest(centerline, Rules(0.5, 10.0, 0.5, 10.0), skeleton).roots) == 1
    centerline[108:111, 10:90] = 0.8
    forest = skeleton_forest(centerline, RULES, skeleton)
    assert len(forest.roots) == 2 and forest.positions(2)[:, 0].min() > 90


def test_nodes_are_spaced_as_in_a_trace():
    forest = skeleton_forest(bar(), Rules(0.5, 10.0, 0.5, 10.0), skeleton)
    np.testing.assert_allclose(forest.edge_lengths, SPACING, atol=0.3)


def test_an_empty_map_and_a_full_map():
    assert len(skeleton_forest(np.zeros((40, 40), np.float32), RULES, skeleton)) == 0
    with pytest.raises(UserError, match=r"above 0\.5 everywhere"):
        skeleton_forest(np.ones((40, 40), np.float32), RULES, skeleton)


def test_a_loop_is_cut_at_its_longest_edge_and_roots_are_ends():
    positions = np.array([[0, 0], [0, 10], [12, 10], [0, -5], [50, 50], [50, 60]], float)
    pairs = np.array([[1, 0], [1, 2], [0, 2], [0, 3], [3, 0], [4, 5]])
    forest = spanning_forest(positions, pairs)
    assert isinstance(forest, SwcForest) and len(forest) == 6
    assert forest.length == pytest.approx(10 + 12 + 5 + 10)
    assert (forest.degree[forest.roots] == 1).all() and len(forest.roots) == 2
