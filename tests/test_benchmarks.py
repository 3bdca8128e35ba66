"""Jumps and coverage in the benchmark of parallel neurites, on small trees."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.parallel_neurites import coverage, jumps
from lib.swclib import SwcForest, concatenate


def line(*positions: tuple[float, float, float]) -> SwcForest:
    """A path through (z, y, x) positions."""
    return SwcForest.from_positions(np.array(positions, float), np.arange(-1, len(positions) - 1))


GOLD = concatenate([line((5, 10, 0), (5, 10, 80)), line((5, 14, 0), (5, 14, 80))])
JUMPING = line((5, 10, 0), (5, 10, 38), (5, 14, 42), (5, 14, 80))


@pytest.mark.parametrize("trace, expected", [
    (GOLD, 0),
    (line((5, 10.8, 0), (5, 10.8, 80)), 0),
    (JUMPING, 1),
    (concatenate([JUMPING, line((5, 14, 0), (5, 14, 38))]), 1),
    (line((5, 10, 0), (5, 10, 75), (5, 14, 80)), 0),  # Only the end touches the other neurite.
    (SwcForest.empty(), 0),
])  # fmt: skip
def test_a_jump_is_a_tree_that_follows_both_neurites(trace, expected):
    assert jumps(GOLD, trace) == expected


def test_coverage_is_a_share_of_the_gold_length():
    assert coverage(GOLD, GOLD) == 1 and coverage(GOLD, SwcForest.empty()) == 0
    assert coverage(GOLD, line((5, 10, 0), (5, 10, 80))) == pytest.approx(0.5)
