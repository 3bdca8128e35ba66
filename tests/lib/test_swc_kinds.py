"""Changes of kind and crossings passed, counted on a crossing drawn by hand: tubes along y = 50 and x = 80."""

from __future__ import annotations

import numpy as np
import pytest

from lib.klib.drawing import draw_edges
from lib.klib.kinds import kinds_to_forest
from lib.swclib import SwcForest, concatenate
from lib.swclib.metrics.kinds import find_passes, kind_score

BOTH = 3
ACROSS, DOWN = np.array([[[50.0, 20], [50, 140]]]), np.array([[[10.0, 80], [95, 80]]])


def crossing(shape=(100, 160)) -> np.ndarray:
    """Label image of two tubes that cross."""
    one, two = (draw_edges(line, 2.5, shape) for line in (ACROSS, DOWN))
    labels = one + 2 * two.astype(np.uint8)
    labels[one & two] = BOTH
    return labels


LABELS = crossing()
GOLD = kinds_to_forest(LABELS, BOTH)


def path(*places) -> SwcForest:
    """A tree without forks through places (y, x)."""
    return SwcForest.from_positions(np.array(places, float), np.arange(-1, len(places) - 1))


def counts(test: SwcForest) -> dict[str, float | int | None]:
    """The columns of a trace."""
    return kind_score(GOLD, test, LABELS, BOTH).row()


def test_a_crossing_is_passed_once_by_each_tube():
    passes = find_passes(GOLD)
    assert len(passes) == 2 and np.allclose(passes.at[:, :2], [80, 50], atol=2)
    assert np.allclose(passes.length, 20, atol=6)


def test_the_gold_tree_itself_changes_nowhere():
    assert counts(GOLD) == {"kind_changes": 0, "kind_purity": 1.0, "crossings_straight": 1.0, "crossings_held": 1.0}


def test_straight_traces_are_right():
    both = concatenate([path((50, 20), (50, 140)), path((10, 80), (95, 80))])
    assert counts(both) == counts(GOLD)


def test_a_fork_at_the_crossing_is_two_changes():
    """One tree of four branches, two of each kind."""
    forked = SwcForest.from_positions([[50.0, 80], [50, 20], [50, 140], [10, 80], [95, 80]], [-1, 0, 0, 0, 0])
    found = counts(forked)
    assert found["kind_changes"] == 2 and found["crossings_straight"] == 0 and found["crossings_held"] == 1
    assert found["kind_purity"] == pytest.approx(120 / 205, abs=0.02)


def test_a_trace_that_turns_off_is_one_change():
    turned = path((50, 20), (50, 80), (95, 80))
    found = kind_score(GOLD, turned, LABELS, BOTH)
    assert found.changes == 1 and np.allclose(found.places[0, :2], [80, 52], atol=3)
    assert (found.held, found.straight, found.passes) == (0, 0, 2)


def test_a_gap_at_the_crossing_is_not_passed():
    gap = concatenate([path((50, 20), (50, 74)), path((50, 86), (50, 140)), path((10, 80), (95, 80))])
    assert counts(gap) == {"kind_changes": 0, "kind_purity": 1.0, "crossings_straight": 0.5, "crossings_held": 1.0}


def test_a_short_piece_of_another_kind_is_no_change():
    assert counts(path((50, 20), (50, 80), (57, 80)))["kind_changes"] == 0
    assert counts(path((50, 20), (50, 80), (62, 80)))["kind_changes"] == 1


def test_far_from_every_tube_the_kind_is_unknown():
    found = kind_score(GOLD, path((30, 20), (30, 60)), LABELS, BOTH)
    assert found.purity is None and found.row()["crossings_held"] == 0 and found.row()["crossings_straight"] is None


def test_tubes_that_touch_do_not_cross():
    one, two = (draw_edges(np.array([[[y, 20], [y, 140]]], float), 2.0, LABELS.shape) for y in (50, 54))
    gold = kinds_to_forest(one + 2 * (two & ~one).astype(np.uint8), BOTH)
    assert len(gold.roots) == 2 and len(find_passes(gold)) == 0


def test_volumes_are_scored_too():
    shape = (20, 60, 60)
    lines = np.array([[[8.0, 30, 5], [8, 30, 55]]]), np.array([[[8.0, 5, 30], [8, 55, 30]]])
    one, two = (draw_edges(line, 2.0, shape) for line in lines)
    labels = one + 2 * (two & ~one).astype(np.uint8)
    gold = kinds_to_forest(labels, BOTH)
    assert kind_score(gold, gold, labels, BOTH).row()["crossings_straight"] == 1
    forked = SwcForest.from_positions(
        [[8.0, 30, 30], [8, 30, 5], [8, 30, 55], [8, 5, 30], [8, 55, 30]], [-1, 0, 0, 0, 0]
    )
    assert kind_score(gold, forked, labels, BOTH).changes == 2


@pytest.mark.parametrize("forests", [(GOLD, SwcForest.empty()), (SwcForest.empty(), GOLD)])
def test_empty_trees_have_no_changes(forests):
    assert kind_score(*forests, LABELS, BOTH).changes == 0
