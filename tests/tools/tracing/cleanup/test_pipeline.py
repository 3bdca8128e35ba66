"""The clean-up of a grown trace: ends are extended, and joined to the branches that they reach."""

from __future__ import annotations

import numpy as np
import pytest

from lib.swclib import SwcForest, concatenate
from tools.tracing.cleanup.gaps import close_gaps, find_loops
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


SQUARE = [(20, 20), (20, 50), (20, 80), (50, 80), (80, 80), (80, 50), (80, 20), (50, 20)]


def on_square(*more: tuple[float, float]) -> np.ndarray:
    """A map of the square's four sides, and of a line from one place to another."""
    centerline = np.full((100, 100), 0.02, np.float32)
    for (y, x), (v, u) in zip(SQUARE, [*SQUARE[1:], SQUARE[0]], strict=True):
        centerline[min(y, v) : max(y, v) + 1, min(x, u) : max(x, u) + 1] = 0.9
    return centerline


@pytest.mark.parametrize(("gap", "found"), [(4, 0), (12, 1)])
def test_a_cut_square_is_one_loop(gap, found):
    forest = line(*SQUARE, (29, 20))
    loops = find_loops(forest, on_square(), gap, 0.3)
    assert loops.shape == (found, 2)
    if found:
        assert sorted(map(tuple, forest.positions(2)[loops[0]].tolist())) == [(20, 20), (29, 20)]


def test_a_loop_needs_the_support_of_the_map():
    centerline = on_square()
    centerline[21:29, 20] = 0.05
    assert not len(find_loops(line(*SQUARE, (29, 20)), centerline, 12, 0.3))


def test_what_the_tracer_recorded_is_found_once_and_where_the_trace_is_now():
    forest, recorded = line(*SQUARE, (29, 20)), np.array([[[31.0, 21.0], [21.0, 21.0]]])
    # Ends are too far from each other for a gap of 1; what was recorded counts, moved to the nodes there.
    loops = find_loops(forest, on_square(), 1, 0.3, recorded=recorded)
    assert forest.positions(2)[loops].tolist() == [[[29, 20], [20, 20]]]
    assert len(find_loops(forest, on_square(), 12, 0.3, recorded=recorded)) == 1
    # Its other side was removed by the clean-up.
    assert not len(find_loops(forest, on_square(), 1, 0.3, recorded=np.array([[[29.0, 20.0], [60.0, 50.0]]])))


def test_the_end_of_a_short_branch_is_no_loop_with_its_own_stem():
    """It lies within the gap of the stem, but the way along the tree is no longer than a bend."""
    forest = SwcForest.from_positions([(30, 20), (30, 50), (30, 80), (38, 56)], [-1, 0, 1, 1])
    centerline = np.full((60, 100), 0.9, np.float32)
    assert not len(find_loops(forest, centerline, 12, 0.3))


def test_two_trees_are_no_loop():
    centerline = np.full((60, 100), 0.9, np.float32)
    both = concatenate([line(*STEM), line((36, 50), (58, 50))])
    assert not len(find_loops(both, centerline, 12, 0.3, recorded=np.array([[[36.0, 50.0], [30.0, 50.0]]])))
