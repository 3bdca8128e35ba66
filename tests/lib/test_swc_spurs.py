"""Short end branches, cut off trees made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lib.swclib import SwcForest, prune_spurs


def tree(positions, parent) -> SwcForest:
    """A tree from lists."""
    return SwcForest.from_positions(np.array(positions, float), parent)


def places(forest: SwcForest) -> list[list[float]]:
    """All positions in ascending order."""
    return sorted(forest.positions(2).tolist())


def test_short_side_branches_are_cut_and_long_ones_kept():
    stem = [[0, 10 * i] for i in range(11)]
    forest = tree([*stem, [6, 50], [12, 50], [-10, 30], [-20, 30]], [*range(-1, 10), 5, 11, 3, 13])
    assert len(prune_spurs(forest, 0)) == len(forest)
    cut = prune_spurs(forest, 20)
    assert places(cut) == sorted([*stem, [-10, 30], [-20, 30]])  # 12 px are cut; 20 px are not shorter than 20.
    assert places(prune_spurs(forest, 20.1)) == sorted(stem)


def test_of_two_short_ends_at_a_fork_the_longer_continues_the_stem():
    stem = [[0, 10 * i] for i in range(6)]
    forest = tree([*stem, [5, 55], [-6, 56]], [*range(-1, 5), 5, 5])
    assert places(prune_spurs(forest, 20)) == sorted([*stem, [-6, 56]])


def test_two_spurs_at_one_fork_of_a_stem_are_both_cut():
    stem = [[0, 10 * i] for i in range(11)]
    forest = tree([*stem, [5, 50], [-6, 50]], [*range(-1, 10), 5, 5])
    assert places(prune_spurs(forest, 20)) == sorted(stem)


def test_spurs_at_a_root_that_is_a_fork_are_cut():
    forest = tree([[0, 0], [0, 40], [0, -40], [5, 0]], [-1, 0, 0, 0])
    cut = prune_spurs(forest, 20)
    assert places(cut) == [[0, -40], [0, 0], [0, 40]]
    assert len(cut.roots) == 1 and cut.degree[cut.roots[0]] == 1


def test_where_a_spur_with_the_root_is_cut_an_end_becomes_the_root():
    forest = tree([[5, 50], [0, 50], [0, 90], [0, 10]], [-1, 0, 1, 1])
    cut = prune_spurs(forest, 20)
    assert places(cut) == [[0, 10], [0, 50], [0, 90]]
    assert cut.degree[cut.roots].tolist() == [1] and len(cut.branches()) == 1


def test_a_branch_is_measured_as_a_whole_after_a_root_inside_it_was_cut():
    # The root's spur leaves the middle of a side branch of 24 px, so each half is shorter than 20.
    stem = [[0, 10 * i] for i in range(11)]
    forest = tree([*stem, [12, 50], [24, 50], [12, 56]], [1, 2, 3, 4, 5, 11, 5, 6, 7, 8, 9, 13, 11, -1])
    cut = prune_spurs(forest, 20)
    assert places(cut) == sorted([*stem, [12, 50], [24, 50]])


def test_a_tree_without_a_fork_is_kept():
    forest = tree([[0, 0], [0, 3]], [-1, 0])
    assert len(prune_spurs(forest, 20)) == 2


def test_a_star_of_short_arms_keeps_its_two_longest():
    forest = tree([[0, 0], [0, 9], [0, -8], [7, 0], [-6, 0]], [-1, 0, 0, 0, 0])
    assert places(prune_spurs(forest, 20)) == [[0, -8], [0, 0], [0, 9]]


@pytest.mark.parametrize("radius, cut", [(2.0, False), (4.0, True)])
def test_a_spur_is_measured_by_the_radius_at_its_fork(radius, cut):
    stem = [[0, 10 * i] for i in range(11)]
    forest = SwcForest.from_positions([*stem, [6, 50]], [*range(-1, 10), 5], radius)
    assert (len(prune_spurs(forest, 1.0, per_radius=1.5)) == len(stem)) == cut
