"""Label images with two kinds of tube, drawn by hand: where they cross, each goes straight on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lib.klib.drawing import draw_edges
from lib.klib.kinds import kinds_to_forest
from lib.swclib import SwcForest, subset
from lib.swclib.forest import KIND_TYPE
from lib.swclib.nearest import EdgeSearch

BOTH = 3
SHAPE = (120, 160)


def line(angle: float, *, through=(60, 80), reach: float = 50.0, radius: float = 3.0, shape=SHAPE) -> np.ndarray:
    """Mask of a straight tube through a place, in degrees from the x axis."""
    along = reach * np.array([math.sin(math.radians(angle)), math.cos(math.radians(angle))])
    along = np.concatenate([np.zeros(len(shape) - 2), along])
    return draw_edges(np.array([[np.array(through) - along, np.array(through) + along]]), radius, shape)


def labelled(one: np.ndarray, other: np.ndarray, where_both: int) -> np.ndarray:
    """Label image of two masks, with ``where_both`` in the pixels of both."""
    labels = one + 2 * other.astype(np.uint8)
    labels[one & other] = where_both
    return labels


def of_kind(forest: SwcForest, kind: int) -> SwcForest:
    """The trees of a kind."""
    return subset(forest, forest.types == KIND_TYPE + kind)


def farthest(forest: SwcForest, points: np.ndarray) -> float:
    """Largest distance of points ``(N, 2)``, (y, x), from a forest."""
    xyz = np.concatenate([points[:, ::-1], np.zeros((len(points), 1))], axis=1)
    return float(EdgeSearch.of(forest).nearest(xyz).distance.max())


@pytest.mark.parametrize("where_both", [BOTH, 1, 2])
@pytest.mark.parametrize("angle", [90, 60, 30, 20])
@pytest.mark.parametrize("radius", [1.0, 3.0, 5.0])
def test_two_tubes_that_cross_become_two_trees(angle, where_both, radius):
    forest = kinds_to_forest(labelled(line(0, radius=radius), line(angle, radius=radius), where_both), BOTH)
    assert len(forest.roots) == 2 and len(forest.branch_points) == 0
    for kind, direction in ((1, 0), (2, angle)):
        tree = of_kind(forest, kind)
        t = np.linspace(-45, 45, 91)[:, None]
        straight = np.array([60, 80]) + t * [math.sin(math.radians(direction)), math.cos(math.radians(direction))]
        assert farthest(tree, straight) < max(1.5, 0.85 * radius)
        assert tree.length == pytest.approx(102, abs=9)  # steps between pixels make a skeleton up to 8 % longer


def test_a_touching_pair_stays_two_trees():
    labels = labelled(line(0, through=(56, 80)), line(0, through=(62, 80)), BOTH)
    forest = kinds_to_forest(labels, BOTH)
    assert sorted(forest.types[forest.roots]) == [KIND_TYPE + 1, KIND_TYPE + 2]
    assert len(of_kind(forest, 1)) and np.allclose(of_kind(forest, 1).positions(2)[5:-5, 0], 56, atol=1)


def test_a_fork_of_one_kind_stays_a_fork():
    labels = labelled(line(0) | line(90, through=(85, 80), reach=25), np.zeros(SHAPE, bool), BOTH)
    forest = kinds_to_forest(labels, BOTH)
    assert len(forest.roots) == 1 and len(forest.branch_points) == 1


def test_a_tube_that_ends_on_another_kind_is_not_bridged():
    forest = kinds_to_forest(labelled(line(0), line(90, through=(90, 80), reach=28), 1), BOTH)
    assert len(forest.roots) == 2
    assert of_kind(forest, 2).positions(2)[:, 0].min() > 60


def test_tubes_do_not_turn_aside_at_a_crossing():
    """A tube of kind 1 ends on one side of the other, and another begins 20 px farther along it."""
    one = line(90, through=(90, 60), reach=28) | line(90, through=(30, 100), reach=28)
    forest = kinds_to_forest(labelled(one, line(0), BOTH), BOTH)
    assert sorted(forest.types[forest.roots]) == [KIND_TYPE + 1, KIND_TYPE + 1, KIND_TYPE + 2]


def test_a_tube_of_unknown_kind_has_a_tree_of_its_own():
    labels = labelled(line(0), line(90), BOTH)
    labels[line(0, through=(90, 80), reach=30, radius=2)] = BOTH
    forest = kinds_to_forest(labels, BOTH)
    unknown = of_kind(forest, 0)
    assert unknown.length == pytest.approx(60, abs=15)
    assert len(of_kind(forest, 1).roots) == 1 and len(of_kind(forest, 2).roots) == 1


def test_a_loop_through_a_crossing_is_cut():
    """A ring of kind 1, crossed by a line of kind 2 on both sides."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    ring = np.abs(np.hypot(y - 60, x - 80) - 35) <= 2.5
    forest = kinds_to_forest(labelled(ring, line(90, reach=55), BOTH), BOTH)
    assert len(of_kind(forest, 1).roots) == 1 and len(of_kind(forest, 2).roots) == 1
    angles = np.linspace(0, 2 * np.pi, 200)
    assert farthest(of_kind(forest, 1), np.array([60, 80]) + 35 * np.stack([np.sin(angles), np.cos(angles)], 1)) < 3


def test_volumes_have_kinds_too():
    shape = (20, 60, 60)
    one = line(0, through=(10, 30, 30), reach=25, radius=2, shape=shape)
    other = line(90, through=(10, 30, 30), reach=25, radius=2, shape=shape)
    forest = kinds_to_forest(labelled(one, other, 1), BOTH)
    assert sorted(forest.types[forest.roots]) == [KIND_TYPE + 1, KIND_TYPE + 2]


def test_an_image_without_tubes_has_no_tree():
    assert len(kinds_to_forest(np.zeros(SHAPE, np.uint8), BOTH)) == 0
