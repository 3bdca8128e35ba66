"""Measures of branches on trees whose values are known."""

from __future__ import annotations

import numpy as np
import pytest

from lib.swclib import SwcForest, concatenate
from lib.swclib.branches import Branches, fractal_dimension

# A stem along x with a fork at 20: straight on to 50, and up at a right angle to a second fork with two ends.
POSITIONS = [[0, 0], [0, 10], [0, 20], [0, 35], [0, 50], [-12, 20], [-24, 20], [-24, 8], [-36, 20]]
PARENT = [-1, 0, 1, 2, 3, 2, 5, 6, 6]
RADIUS = [4.0, 4.0, 4.0, 2.0, 1.0, 1.5, 1.5, 0.5, 0.5]
TREE = SwcForest.from_positions(POSITIONS, PARENT, radius=RADIUS)


def by_end(branches: Branches) -> dict[int, int]:
    """Number of the branch that ends in each row."""
    return {int(rows[-1]): number for number, rows in enumerate(branches.rows)}


def test_orders_parents_and_trees():
    branches = Branches.of(concatenate([TREE, TREE]), look=10)
    number = by_end(branches)
    assert len(branches) == 10
    stem, on, up, left, top = (number[row] for row in (2, 4, 6, 7, 8))
    assert branches.parent[[stem, on, up, left, top]].tolist() == [-1, stem, stem, up, up]
    assert branches.from_root[[stem, on, up, left, top]].tolist() == [1, 2, 2, 3, 3]
    # Two ends make order 2; an end beside an order of 2 changes nothing.
    assert branches.strahler[[stem, on, up, left, top]].tolist() == [2, 1, 2, 1, 1]
    assert branches.tree.tolist() == [0] * 5 + [1] * 5


def test_lengths_chords_and_angles():
    branches = Branches.of(TREE, look=10)
    stem, on, up, left, top = (by_end(branches)[row] for row in (2, 4, 6, 7, 8))
    assert branches.length[[stem, on, up, left, top]].tolist() == [20, 30, 24, 12, 12]
    assert branches.tortuosity.tolist() == [1.0] * 5
    assert np.isnan(branches.angle[stem])
    assert branches.angle[[on, up, left, top]] == pytest.approx([0, 90, 90, 0])


def test_widths_leave_out_the_branch_point_of_the_stem():
    branches = Branches.of(TREE, look=10)
    on = by_end(branches)[4]
    assert branches.width[on].tolist() == [3.0, 3.0, 2.0, 4.0]
    assert branches.width[by_end(branches)[2]].tolist() == [8.0] * 4


def test_a_semicircle():
    angle = np.linspace(0, np.pi, 200)
    arc = SwcForest.from_positions(50 * np.stack([np.sin(angle), np.cos(angle)], axis=1), range(-1, 199))
    branches = Branches.of(arc, look=10)
    assert branches.tortuosity[0] == pytest.approx(np.pi / 2, rel=1e-3)
    assert branches.length[0] == pytest.approx(50 * np.pi, rel=1e-3)


def test_ends_in_one_place_have_no_tortuosity():
    ring = SwcForest.from_positions([[0, 0], [0, 5], [5, 5], [0, 0]], [-1, 0, 1, 2])
    assert np.isnan(Branches.of(ring, look=10).tortuosity[0])


def test_strahler_of_three_branches_at_a_point():
    forest = SwcForest.from_positions([[0, 0], [0, 5], [5, 5], [0, 9], [-5, 5]], [-1, 0, 1, 1, 1])
    assert sorted(Branches.of(forest, look=5).strahler.tolist()) == [1, 1, 1, 2]


def test_nothing_and_lone_nodes_have_no_branches():
    for forest in (SwcForest.empty(), SwcForest.from_positions([[1.0, 2.0]], [-1])):
        assert len(Branches.of(forest, look=10)) == 0 and Branches.of(forest, look=10).width.shape == (0, 4)


def lines(rows: np.ndarray, length: float) -> SwcForest:
    """Lines along x at each row."""
    ends = np.stack([np.repeat(rows, 2), np.tile([0.3, length], len(rows))], axis=1)
    return SwcForest.from_positions(ends, [at - 1 if at % 2 else -1 for at in range(2 * len(rows))])


def test_fractal_dimension_of_a_line_and_of_a_filled_square():
    assert fractal_dimension(lines(np.array([100.3]), 255.9), 1.0, 256) == pytest.approx(1, abs=0.05)
    assert fractal_dimension(lines(np.arange(0.3, 256), 255.9), 1.0, 256) == pytest.approx(2, abs=0.05)
    half = lines(np.arange(0.3, 256) / 2, 127.95)
    assert fractal_dimension(half, 0.5, 128) == pytest.approx(2, abs=0.05)
    assert fractal_dimension(SwcForest.empty(), 1.0, 256) is None and fractal_dimension(half, 1.0, 12) is None
