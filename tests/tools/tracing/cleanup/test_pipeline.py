"""The clean-up of a grown trace: ends are extended, and joined to the branches that they reach."""

from __future__ import annotations

import numpy as np
import pytest

from lib.swclib import SwcForest, concatenate
from tools.tracing.cleanup.gaps import close_gaps
from tools.tracing.cleanup.pipeline import JOIN_CONE, LONGEST_EXTENSION, CleanupSettings, clean_up

KEPT = CleanupSettings(gap=12, gap_probability=0.3, spur=0, isolated=False)
STEM = [(30, x) for x in range(10, 91, 10)]


def line(*places: tuple[float, float]) -> SwcForest:
    """A path of (y, x) positions."""
    return SwcForest.from_positions(np.array(places, float), np.arange(-1, len(places) - 1))


def tee(faint: float, slope: float = 0.0) -> tuple[np.ndarray, SwcForest]:
    """A stem along row 30, a branch up to it from below that is ``faint`` where they meet, and their traces."""
    centerline = np.full((100, 100), 0.02, np.float32)
    centerline[30, 10:91] = 0.9
    for y in range(31, 90):
        centerline[y, round(50 + slope * (y - 31))] = faint if y < 33 else 0.9
    branch = line(*((y, 50 + slope * (y - 31)) for y in (80, 70, 60, 52)))
    return centerline, concatenate([line(*STEM), branch])


@pytest.mark.parametrize("slope", [0.0, 0.4])
def test_an_end_is_extended_to_the_stem_and_joined_where_the_map_is_faint(slope):
    centerline, forest = tee(0.35, slope)
    done = clean_up(forest, centerline, KEPT)
    assert len(done.roots) == 1 and (done.degree > 2).sum() == 1
    fork = done.positions(2)[done.degree > 2][0]
    assert np.linalg.norm(fork - [30, 50]) < 3


def test_an_end_is_extended_by_the_longest_extension_at_most():
    centerline, _ = tee(0.9)
    far = line((89, 50), (80, 50), (30 + LONGEST_EXTENSION + 8, 50))
    done = clean_up(
        concatenate([line(*STEM), far]), centerline, CleanupSettings(gap=4, gap_probability=0.3, spur=0, isolated=False)
    )
    assert len(done.roots) == 2
    assert done.positions(2)[:, 0][done.components == 1].min() == pytest.approx(38, abs=1.5)


def test_parallel_branches_stay_separate():
    centerline = np.full((60, 100), 0.02, np.float32)
    centerline[30, 10:91] = centerline[34, 40:91] = 0.9
    forest = concatenate([line(*STEM), line(*((34, x) for x in range(40, 91, 10)))])
    assert len(clean_up(forest, centerline, KEPT).roots) == 2


def test_a_parallel_end_is_not_joined_even_without_a_valley_between():
    centerline = np.full((60, 100), 0.02, np.float32)
    centerline[29:35, 10:91] = 0.9
    beside = concatenate([line(*STEM), line(*((33, x) for x in range(45, 86, 10)))])
    assert len(close_gaps(beside, centerline, 4, 0.3).roots) == 1
    assert len(close_gaps(beside, centerline, 4, 0.3, cone=JOIN_CONE, ahead_only=True).roots) == 2


def test_the_last_bend_of_an_end_does_not_give_its_direction():
    """The branch is parallel to the stem, and only its last 4 px turn towards it."""
    centerline = np.full((60, 100), 0.5, np.float32)
    hooked = concatenate([line(*STEM), line((35, 85), (35, 75), (35, 65), (35, 55), (33, 53))])
    assert len(close_gaps(hooked, centerline, 4, 0.3, cone=JOIN_CONE, ahead_only=True).roots) == 2


def test_without_gap_closing_or_centring_nothing_is_joined():
    centerline, forest = tee(0.35)
    assert (
        len(clean_up(forest, centerline, CleanupSettings(gap=0, gap_probability=0.3, spur=0, isolated=False)).roots)
        == 2
    )
    as_it_was = clean_up(forest, centerline, CleanupSettings(gap=0, spur=0, isolated=False, centre=False))
    np.testing.assert_array_equal(as_it_was.xyz, forest.xyz)


def test_lengths_are_in_units_of_the_spacing():
    centerline, forest = tee(0.35)
    assert len(clean_up(forest, centerline, KEPT, spacing=(1.0, 2.0)).roots) == 1
    # 22 pixels of 2 units each are too far.
    assert len(clean_up(forest, centerline, KEPT, spacing=(2.0, 1.0)).roots) == 2
