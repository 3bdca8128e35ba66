"""Overlays: lines, marks and colours of trees."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from lib.swclib import SwcForest, concatenate
from tools.pictures.overlay import TREE_COLOURS, overlay

GRAY = np.full((20, 31, 3), 0.5)


def line(*positions: tuple[float, ...]) -> SwcForest:
    return SwcForest.from_positions(np.array(positions, float), np.arange(len(positions)) - 1)


@pytest.mark.parametrize("forest", [line((6, 4), (6, 24)), line((9, 6, 4), (2, 6, 24))])
def test_line_lies_on_pixel_centres(forest: SwcForest) -> None:
    """The centre of row 6 lies 6.5 * 8 output pixels from the border, between output rows 51 and 52."""
    picture = overlay(GRAY, forest, zoom=8, marks=False)
    y, x = np.nonzero((picture != 102).any(axis=2))
    assert y.mean() == pytest.approx(51.5, abs=0.1)
    assert x.mean() == pytest.approx((4 + 24 + 1) / 2 * 8 - 0.5, abs=0.1)


def test_longest_tree_has_the_first_colour() -> None:
    forest = concatenate([line((15, 2), (15, 9)), line((5, 2), (5, 29))])
    picture = overlay(GRAY, forest, zoom=4, width=4, marks=False)
    assert picture[22, 60].tolist() == [0x56, 0xB4, 0xE9]
    assert picture[62, 20].tolist() == [0xF0, 0xE4, 0x42]


def test_confidence_gives_the_colours_of_branches() -> None:
    forest = concatenate([line((15, 2), (15, 9)), line((5, 2), (5, 29))])
    sure = np.where(forest.xyz[:, 1] == 5, 1.0, 0.0)
    picture = overlay(GRAY, forest, zoom=4, width=4, marks=False, confidence=sure)
    assert picture[22, 60].tolist() == [0x56, 0xB4, 0xE9]
    assert picture[62, 20].tolist() == [0xFF, 0x50, 0x50]


def test_neighbouring_trees_differ_in_colour() -> None:
    """Of 40 parallel lines each is less than 40 output pixels from one line on each side."""
    rows = np.arange(40) * 12 + 6
    length = np.random.default_rng(0).integers(20, 50, 40)
    forest = concatenate([line((y, 5), (y, 5 + x)) for y, x in zip(rows, length, strict=True)])
    picture = overlay(np.zeros((480, 60, 1)), forest, zoom=2, marks=False)
    colours = ["#{:02X}{:02X}{:02X}".format(*picture[2 * y, 30]) for y in rows]
    assert set(colours) == set(TREE_COLOURS)
    assert all(a != b for a, b in pairwise(colours))
    # Trees that only meet in a projection of a volume are neighbours too.
    crossing = concatenate([line((2, 9, 0), (2, 9, 30)), line((18, 0, 15), (18, 19, 15)), line((2, 2, 0), (2, 2, 9))])
    picture = overlay(np.zeros((20, 20, 31)), crossing, zoom=2, marks=False)
    assert len({tuple(picture[y, x]) for y, x in ((19, 10), (30, 31), (5, 10))}) == 3


def test_strokes_and_marks_grow_with_the_picture() -> None:
    thickness, marked = [], []
    for side in (500, 1200, 3000):
        image, forest = np.zeros((60, side, 1)), line((30, 40), (30, 160))
        plain, picture = (overlay(image, forest, zoom=1, marks=marks) for marks in (False, True))
        thickness.append((plain[:, 100].max(axis=1) / 255).sum())
        marked.append((plain != picture).any(axis=2).sum())
    assert thickness[1] == thickness[0] and thickness[2] / thickness[0] == pytest.approx(2.5, abs=0.1)
    assert marked[1] == marked[0] and marked[2] > 4 * marked[0]


def test_roots_and_branch_points_are_marked() -> None:
    positions = np.array([(10, 3), (10, 15), (4, 25), (16, 25)], float)
    forest = SwcForest.from_positions(positions, [-1, 0, 1, 1])
    changed = (overlay(GRAY, forest, zoom=4) != overlay(GRAY, forest, zoom=4, marks=False)).any(axis=2)
    assert changed[:, :30].any()
    assert changed[:, 55:70].any()
    assert not changed[:, 80:].any()
    assert overlay(GRAY, line((3, 3)), zoom=2).shape == (40, 62, 3)


def test_tree_lies_in_all_three_projections() -> None:
    volume = np.full((12, 20, 31, 1), 0.5)
    picture = overlay(volume, line((2, 6, 4), (2, 6, 24), (9, 6, 24)), zoom=4, marks=False)
    drawn = (picture != 102).any(axis=2)
    parts = {"xy": drawn[:80, :124], "zy": drawn[:80, 128:], "xz": drawn[84:, :124]}
    expected = {"xy": (6.5, 4.5, 24.5), "zy": (6.5, 2.5, 9.5), "xz": (2.5, 4.5, 24.5)}
    for name, (down, left, right) in expected.items():
        y, x = np.nonzero(parts[name])
        assert np.median(y) == pytest.approx(down * 4 - 0.5, abs=1), name
        assert (x.min() + 1.5, x.max() - 1.5) == pytest.approx((left * 4 - 0.5, right * 4 - 0.5), abs=1.1), name
