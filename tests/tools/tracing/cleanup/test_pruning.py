"""Rules of the clean-up, each tested on trees made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lib.swclib import SwcForest, concatenate
from tools.tracing.cleanup.gaps import close_gaps
from tools.tracing.cleanup.pipeline import CleanupSettings, clean_up
from tools.tracing.cleanup.pruning import LONG_TREE, drop_isolated, drop_single_nodes

BRIGHT = np.full((200, 700), 0.9, np.float32)


def row(y: float, x: float, count: int, step: float = 10.0) -> SwcForest:
    """A straight tree of ``count`` nodes from (y, x) to the right."""
    positions = np.stack([np.full(count, y), x + step * np.arange(count)], axis=1)
    return SwcForest.from_positions(positions, np.arange(-1, count - 1))


def tree(positions, parent) -> SwcForest:
    """A tree from lists."""
    return SwcForest.from_positions(np.array(positions, float), parent)


def places(forest: SwcForest) -> list[list[float]]:
    """All positions in ascending order."""
    return sorted(forest.positions(2).tolist())


# ---- isolated: below 4 nodes 10 px, else 25 px, above 50 nodes always kept ------------------------------------------


@pytest.mark.parametrize("count, distance, kept", [(3, 10.0, True), (3, 10.01, False), (3, 20, False), (4, 25.0, True),
                                                   (4, 25.01, False), (50, 25.01, False), (51, 99, True)])  # fmt: skip
def test_short_trees_without_a_branch_near_an_end_are_dropped(count, distance, kept):
    long = row(50, 0, LONG_TREE + 1)
    other = row(50 + distance, 5, count)
    assert len(drop_isolated(concatenate([long, other]), BRIGHT).roots) == 1 + kept


def test_one_end_near_an_edge_of_a_branch_saves_a_tree():
    long = row(50, 0, LONG_TREE + 1)
    near = tree([[59, 15], [80, 15], [100, 15]], [-1, 0, 1])
    assert len(drop_isolated(concatenate([long, near]), BRIGHT).roots) == 2
    beside = tree([[80, 15], [59, 15], [80, 25]], [-1, 0, 1])  # Its middle is near, its ends are not.
    assert len(drop_isolated(concatenate([long, beside]), BRIGHT).roots) == 1


def test_a_tree_is_not_near_itself():
    bent = tree([[0, 0], [0, 8], [8, 8]], [-1, 0, 1])
    assert len(drop_isolated(bent, BRIGHT)) == 0


def test_an_isolated_tree_with_high_probabilities_is_kept():
    long, lone, speck = row(50, 0, LONG_TREE + 1), row(150, 5, 10), row(190, 300, 3)
    half_sure = np.full(BRIGHT.shape, 0.3)
    half_sure[150, :100] = 0.7
    half_sure[190] = 0.9
    forest = concatenate([long, lone, speck])
    assert len(drop_isolated(forest, half_sure, sure=0.69).roots) == 2  # Too few nodes are noise, however bright.
    assert len(drop_isolated(forest, half_sure, sure=0.71).roots) == 1


def test_isolated_trees_are_dropped_in_volumes():
    flat = SwcForest.from_positions([[0, 0, 0], [0, 0, 10], [30, 0, 0], [30, 0, 10]], [-1, 0, -1, 2])
    assert len(drop_isolated(flat, np.zeros((40, 40, 40)))) == 0


# ---- gaps ------------------------------------------------------------------------------------------------------------


def test_an_end_is_joined_to_the_nearest_position():
    forest = concatenate([row(50, 0, 6, 20.0), row(60, 30, 1), tree([[58, 30], [80, 30]], [-1, 0])])
    joined = close_gaps(forest, BRIGHT, 12, 0.3)
    assert [50, 30] in places(joined)
    assert joined.length == pytest.approx(forest.length + 8)
    assert len(joined.roots) == 2  # The single node is no end.


@pytest.mark.parametrize("distance, joined", [(11.9, True), (12.0, False)])
def test_only_gaps_shorter_than_the_limit_are_closed(distance, joined):
    forest = concatenate([row(50, 0, 6), row(50, 50 + distance, 6)])
    assert len(close_gaps(forest, BRIGHT, 12, 0.3).roots) == 2 - joined


@pytest.mark.parametrize("probability, joined", [(0.5, True), (0.1, False)])
def test_gaps_across_background_stay_open(probability, joined):
    centerline = BRIGHT.copy()
    centerline[:, 52:58] = probability
    forest = concatenate([row(50, 0, 6), row(50, 60, 6)])
    assert len(close_gaps(forest, centerline, 12, 0.55).roots) == 2 - joined


def test_a_valley_is_crossed_straight_ahead_only():
    centerline = np.full((120, 200), 0.1, np.float32)
    centerline[49:52], centerline[53:56], centerline[49:52, 52:58] = 0.9, 0.9, 0.1
    ahead = concatenate([row(50, 0, 6), row(50, 60, 6)])
    beside = concatenate([row(50, 0, 6), row(54, 20, 12)])
    assert len(close_gaps(ahead, centerline, 12, 0.2).roots) == 1
    assert len(close_gaps(beside, centerline, 12, 0.2).roots) == 2


def test_the_shortest_gap_is_closed_first_and_no_loop_is_made():
    # Two half rings: 4 px apart at one side, 8 at the other.
    upper = tree([[50, 50], [30, 60], [30, 80], [50, 90]], [-1, 0, 1, 2])
    lower = tree([[54, 50], [75, 60], [75, 80], [58, 90]], [-1, 0, 1, 2])
    joined = close_gaps(concatenate([upper, lower]), BRIGHT, 12, 0.3)
    assert len(joined.roots) == 1 and len(joined.edges) == 7
    assert joined.length == pytest.approx(upper.length + lower.length + 4)
    ends = joined.positions(2)[joined.degree == 1].tolist()
    assert sorted(ends) == [[50, 90], [58, 90]]


def test_gaps_are_closed_in_volumes():
    volume = np.full((20, 30, 60), 0.9, np.float32)
    forest = SwcForest.from_positions([[5, 10, 0], [5, 10, 20], [9, 10, 25], [9, 10, 45]], [-1, 0, -1, 2])
    joined = close_gaps(forest, volume, 12, 0.3)
    assert len(joined.roots) == 1 and joined.length == pytest.approx(forest.length + np.hypot(4, 5))


# ---- all together ----------------------------------------------------------------------------------------------------


def test_single_nodes_are_dropped_first_and_save_no_tree():
    noise = tree([[150, 300], [150, 308]], [-1, 0])
    forest = concatenate([row(50, 0, LONG_TREE + 1), noise, row(150, 312, 1)])
    assert len(drop_single_nodes(forest).roots) == 2
    assert len(clean_up(forest, BRIGHT, CleanupSettings(centre=False)).roots) == 1


def test_each_rule_can_be_turned_off():
    forest = concatenate([row(50, 0, 6), row(50, 60, 6), tree([[54, 20], [58, 20]], [-1, 0])])
    assert len(clean_up(forest, BRIGHT, CleanupSettings(gap=0, spur=0, isolated=False, centre=False)).roots) == 3
    assert (
        len(clean_up(forest, BRIGHT, CleanupSettings(gap=0, spur=0, centre=False)).roots) == 3
    )  # All lie within 25 px of another.
    assert (
        len(clean_up(forest, BRIGHT, CleanupSettings(spur=0, centre=False)).roots) == 0
    )  # Joined to one tree, it is isolated.
    whole = clean_up(forest, BRIGHT, CleanupSettings(isolated=False, centre=False))
    assert len(whole.roots) == 1 and (whole.degree <= 2).all()


def test_an_empty_trace_stays_empty():
    assert len(clean_up(SwcForest.empty(), BRIGHT, CleanupSettings(centre=False))) == 0
