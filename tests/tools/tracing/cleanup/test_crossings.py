"""Split crossings: which meetings of branches are crossings, and which trees result."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from lib.swclib import SwcForest, concatenate, translate
from tools.tracing.cleanup.crossings import join_across, split_crossings
from tools.tracing.cleanup.pipeline import CleanupSettings, clean_up

LENGTH = 30


def ray(turn: float, start: np.ndarray) -> np.ndarray:
    """Positions (x, y, 0) every 2 units on a ray from ``start``, without ``start``."""
    angle = math.radians(turn)
    return start + np.arange(2, LENGTH + 1, 2)[:, None] * [math.cos(angle), math.sin(angle), 0]


def meeting(*arms: tuple[float, float], slope: float = 0.0) -> SwcForest:
    """One tree of branches of 30 units; each arm is its direction in degrees and where it leaves the x axis."""
    feet = sorted({foot for _, foot in arms})
    xyz = [np.array([foot, 0.0, 0.0]) for foot in feet]
    edges = [(k, k + 1) for k in range(len(feet) - 1)]
    for turn, foot in arms:
        above = feet.index(foot)
        for place in ray(turn, xyz[above]):
            edges.append((above, len(xyz)))
            above = len(xyz)
            xyz.append(place)
    places = np.array(xyz)
    places[:, 2] = slope * places[:, 1]
    return SwcForest.from_edges(places[:, ::-1], edges)


def sides(forest: SwcForest) -> list[set[int]]:
    """Directions of the ends of each tree, in degrees."""
    ends = np.flatnonzero(forest.degree == 1)
    x, y = forest.xyz[ends, 0], forest.xyz[ends, 1]
    angle = np.degrees(np.arctan2(y, x)).round(-1).astype(int) % 360
    trees = (angle[forest.components[ends] == tree] for tree in np.unique(forest.components))
    return sorted((set(tree.tolist()) for tree in trees), key=min)


def test_two_straight_branches_with_one_fork_become_two_trees():
    split = split_crossings(meeting((0, 0), (90, 0), (180, 0), (270, 0)))
    assert sides(split) == [{0, 180}, {90, 270}]
    assert split.degree.max() == 2 and len(split.branches()) == 2


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_two_forks_within_a_step_are_one_crossing(slope):
    """The other branch was joined a few units away from where it was met on the other side."""
    joined = meeting((0, 6), (90, 0), (180, 0), (270, 6), slope=slope)
    assert (joined.degree > 2).sum() == 2
    split = split_crossings(joined)
    assert len(split.roots) == 2 and split.degree.max() == 2
    assert split.length == pytest.approx(joined.length, rel=0.1)
    assert set(split.ids) == set(joined.ids) - {1, 2}, "the two forks are dropped, everything else stays"


def test_forks_farther_from_each_other_are_kept():
    joined = meeting((0, 14), (90, 0), (180, 0), (270, 14))
    assert split_crossings(joined) is joined


@pytest.mark.parametrize(
    "arms",
    [
        pytest.param([(0, 0), (100, 0), (180, 0)], id="a fork"),
        pytest.param([(0, 0), (120, 0), (240, 0)], id="a fork of three alike"),
        pytest.param([(0, 4), (90, 0), (180, 0), (80, 4)], id="two side branches on one side"),
        pytest.param([(0, 0), (10, 0), (-10, 0), (180, 0)], id="a tuft"),
        pytest.param([(0, 0), (72, 0), (144, 0), (216, 0), (288, 0)], id="five branches"),
    ],
)
def test_other_meetings_are_kept(arms):
    joined = meeting(*arms)
    assert split_crossings(joined) is joined


def test_branches_may_turn_by_60_degrees_at_a_crossing():
    assert len(split_crossings(meeting((0, 0), (90, 0), (130, 0), (270, 0))).roots) == 2
    assert len(split_crossings(meeting((0, 0), (90, 0), (115, 0), (270, 0))).roots) == 1


def bend(*corners: tuple[float, float]) -> list[np.ndarray]:
    """Positions (x, y, 0) at most 2 units apart along a line through corners, without the first."""
    parts = []
    for start, end in itertools.pairwise(np.array([(x, y, 0.0) for x, y in corners])):
        count = max(1, int(np.linalg.norm(end - start) // 2))
        parts.append(start + np.arange(1, count + 1)[:, None] / count * (end - start))
    return [*np.concatenate(parts)]


def line(*corners: tuple[float, float]) -> SwcForest:
    """A tree without forks through corners."""
    places = np.array([(*corners[0], 0.0), *bend(*corners)])
    return SwcForest.from_positions(places[:, ::-1], np.arange(len(places)) - 1)


def fork(*corners: tuple[float, float]) -> SwcForest:
    """A stem of 60 units along x, and a branch from its middle, the first of the corners, through the others."""
    (x, y), stem = corners[0], [np.array([corners[0][0] + along, corners[0][1], 0.0]) for along in range(-30, 31, 2)]
    places = np.array([*stem, *bend(*corners)])
    middle, count = len(stem) // 2, len(stem)
    edges = [(k, k + 1) for k in range(count - 1)] + [(middle, count)]
    edges += [(k, k + 1) for k in range(count, len(places) - 1)]
    assert tuple(places[middle, :2]) == (x, y)
    return SwcForest.from_edges(places[:, ::-1], edges)


def test_an_end_that_faces_a_fork_across_the_branch_is_the_fourth_arm():
    """A front stopped 8 units before the other tube; the one from the other side was joined to that."""
    joined = concatenate([meeting((0, 0), (90, 0), (180, 0)), line((0, -8), (0, -38))])
    assert split_crossings(joined) is joined and split_crossings(joined, 6.0) is joined
    assert sides(split_crossings(joined, 12.0)) == [{0, 180}, {90, 270}]


@pytest.mark.parametrize(
    "end",
    [
        pytest.param([(-8, -8), (-38, -8)], id="along the stem"),
        pytest.param([(-9, -4), (-9, -34)], id="beside the fork"),
        pytest.param([(4, 8), (4, 38)], id="on the side of the branch"),
    ],
)
def test_other_ends_beside_a_fork_are_kept(end):
    joined = concatenate([meeting((0, 0), (90, 0), (180, 0)), line(*end)])
    assert split_crossings(joined, 12.0) is joined


def test_an_end_behind_the_branch_closes_no_loop():
    """A branch that turns back and faces its own fork."""
    joined = fork((0, 0), (0, 40), (50, 40), (50, -40), (0, -40), (0, -8))
    assert split_crossings(joined, 12.0) is joined


def test_an_end_behind_the_stem_may_be_joined():
    joined = fork((0, 0), (0, 40))
    tail = [(30, 0), (50, 0), (50, -40), (0, -40), (0, -8)]
    places, edges = [*joined.xyz], joined.edges.tolist()
    above = int(np.flatnonzero((joined.xyz == (30, 0, 0)).all(axis=1))[0])
    for place in bend(*tail):
        edges.append((above, len(places)))
        above = len(places)
        places.append(place)
    split = split_crossings(SwcForest.from_edges(np.array(places)[:, ::-1], edges), 12.0)
    assert len(split.roots) == 1 and (split.degree > 2).sum() == 0


def test_two_branches_that_face_the_fork_of_each_other_close_no_loop():
    one = fork((0, 0), (0, 40), (100, 40), (100, 8))
    other = fork((100, 0), (100, -40), (0, -40), (0, -8))
    split = split_crossings(concatenate([one, other]), 12.0)
    assert len(split.roots) == 3 and (split.degree > 2).sum() == 0


CROSSED = line((-30, 0), (30, 0))
"""A tree along x."""


@pytest.mark.parametrize(
    "above, below, joined",
    [
        pytest.param([(0, 6), (0, 36)], [(0, -6), (0, -36)], True, id="straight across"),
        pytest.param([(0, 6), (0, 36)], [(8, -8), (29, -29)], True, id="a bend of 45 degrees"),
        pytest.param([(0, 6), (0, 36)], [(0, -6), (-30, -7)], False, id="one turns off"),
        pytest.param([(0, 6), (0, 36)], [(0, -6), (28, -36)], True, id="one turns by 43 degrees"),
        pytest.param([(0, 6), (0, 36)], [(0, -6), (32, -36)], False, id="one turns by 47 degrees"),
        pytest.param([(-9, 4), (-9, 34)], [(9, -4), (9, -34)], False, id="beside each other"),
        pytest.param([(0, 13), (0, 43)], [(0, -13), (0, -43)], False, id="too far"),
        pytest.param([(40, 6), (40, 36)], [(40, -6), (40, -36)], False, id="nothing between"),
    ],
)
def test_ends_are_joined_across_another_tree(above, below, joined: bool):
    trees = concatenate([CROSSED, line(*above), line(*below)])
    assert len(join_across(trees).roots) == 3 - joined


def test_the_straightest_ends_are_joined_once():
    trees = [CROSSED, line((0, 6), (0, 36)), line((0, -6), (0, -36)), line((6, -6), (27, -27))]
    assert sides(join_across(concatenate(trees))) == [{0, 180}, {90, 270}, {320}]
    bent = concatenate([CROSSED, line((0, 6), (0, 36), (60, 36), (60, -36), (0, -36), (0, -6))])
    assert join_across(bent) is bent, "both ends are of one tree"


def test_ends_of_two_types_stay_apart():
    one, other = line((0, 6), (0, 36)), line((0, -6), (0, -36))
    trees = concatenate([CROSSED, one, replace(other, types=other.types + 1)])
    assert join_across(trees) is trees


def test_ends_that_are_taken_are_left_alone():
    trees = concatenate([CROSSED, line((0, 6), (0, 36)), line((0, -6), (0, -36))])
    end = int(np.flatnonzero((trees.xyz == (0, 6, 0)).all(axis=1))[0])
    assert join_across(trees, [end]) is trees
    joined = concatenate([meeting((0, 0), (90, 0), (180, 0)), line((0, -8), (0, -38))])
    end = int(np.flatnonzero((joined.xyz == (0, -8, 0)).all(axis=1))[0])
    assert split_crossings(joined, 12.0, [end]) is joined


@pytest.mark.parametrize("tip", [(1.5, 1.0), (1.0, 2.0), (2.0, 2.0)])
def test_a_stub_is_no_end_that_faces_its_own_fork(tip):
    joined = fork((0, 0), tip)
    assert split_crossings(joined, 12.0) is joined


@pytest.mark.parametrize("kinds", [None, np.stack([np.full((80, 80), 0.8), np.full((80, 80), 0.2)])])
@pytest.mark.parametrize("gap, split, trees", [(4.0, True, 2), (0.0, True, 3), (4.0, False, 3)])
def test_clean_up_joins_across_only_where_it_may_join(gap: float, split: bool, trees: int, kinds):
    forest = translate(concatenate([CROSSED, line((0, 6), (0, 36)), line((0, -6), (0, -36))]), (40, 40))
    options = CleanupSettings(gap=gap, spur=0, isolated=False, centre=False, split_crossings=split)
    assert len(clean_up(forest, np.full((80, 80), 0.9, np.float32), options, kinds=kinds).roots) == trees


def test_several_crossings_and_a_tree_without_any():
    cross = meeting((0, 0), (90, 0), (180, 0), (270, 0))
    fork = meeting((0, 0), (100, 0), (180, 0))
    split = split_crossings(concatenate([cross, translate(cross, (100, 0)), translate(fork, (200, 0))]))
    assert len(split.roots) == 5 and (split.degree > 2).sum() == 1
    assert np.all(split.degree[split.roots] == 1)


def test_clean_up_splits_crossings_only_if_asked():
    """In a volume whose slices are twice as thick as its pixels, with a crossing in the xz plane."""
    spacing = (2.0, 1.0, 1.0)
    centerline = np.full((30, 20, 60), 0.02, np.float32)
    centerline[15, 10, 5:55] = 0.9
    for step in range(-12, 13):
        centerline[15 + step, 10, [30 + step, 30 + step + (step > 0)]] = 0.9
    along = [(15, 10, x) for x in range(6, 55, 4)]
    across = [(15 + step, 10, 30 + step) for step in (-12, -8, -4, 4, 8, 12)]
    joined = np.array(along + across, float)
    edges = [(k, k + 1) for k in range(12)] + [(13, 14), (14, 15), (15, 6), (6, 16), (16, 17), (17, 18)]
    forest = SwcForest.from_edges(joined, edges)
    for split, trees in ((False, 1), (True, 2)):
        options = CleanupSettings(gap=4, gap_probability=0.3, spur=0, isolated=False, split_crossings=split)
        assert len(clean_up(forest, centerline, options, spacing=spacing).roots) == trees


def test_empty_trace_has_no_crossings():
    assert len(split_crossings(SwcForest.empty())) == 0
