"""What the benchmarks count, on trees made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.parallel_neurites import coverage, jumps
from lib.swclib import SwcForest, concatenate


def line(*positions) -> SwcForest:
    """A tree of (z, y, x) positions in a row."""
    return SwcForest.from_positions(np.array(positions, float), np.arange(-1, len(positions) - 1))


GOLD = concatenate([line((5, 10, 0), (5, 10, 80)), line((5, 14, 0), (5, 14, 80))])
OTHER = line((5, 10, 0), (5, 10, 38), (5, 14, 42), (5, 14, 80))


@pytest.mark.parametrize("trace, expected", [
    (GOLD, 0),
    (line((5, 10.8, 0), (5, 10.8, 80)), 0),
    (OTHER, 1),
    (concatenate([OTHER, line((5, 14, 0), (5, 14, 38))]), 1),
    (line((5, 10, 0), (5, 10, 75), (5, 14, 80)), 0),  # It only touches the other at its end.
    (SwcForest.empty(), 0),
])  # fmt: skip
def test_a_jump_is_a_tree_that_follows_both(trace, expected):
    assert jumps(GOLD, trace) == expected


def test_coverage_is_a_share_of_the_length():
    assert coverage(GOLD, GOLD) == 1 and coverage(GOLD, SwcForest.empty()) == 0
    assert coverage(GOLD, line((5, 10, 0), (5, 10, 80))) == pytest.approx(0.5)
