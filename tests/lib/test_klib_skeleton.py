"""Skeletons of small hand-drawn masks, and their trees."""

from __future__ import annotations

import numpy as np
import pytest

from lib.klib.skeleton import mask_to_forest


def drawing(*lines: str) -> np.ndarray:
    """Read a mask from lines of ``.`` and ``#``."""
    return np.array([[sign == "#" for sign in line] for line in lines])


def test_line_is_a_chain_of_its_pixels() -> None:
    forest, loops = mask_to_forest(drawing(".......", ".#####.", "......."))
    assert len(forest.roots) == 1
    assert forest.length == 4
    assert sorted(forest.positions(2).tolist()) == [[1, x] for x in range(1, 6)]
    assert np.array_equal(forest.radius, np.full(5, 0.5))
    assert loops == 0


def test_radius_is_half_the_width() -> None:
    mask = np.zeros((21, 60), bool)
    mask[8:13, 2:58] = True
    forest, _ = mask_to_forest(mask)
    middle = abs(forest.positions(2)[:, 1] - 30) < 15
    assert np.allclose(forest.positions(2)[middle, 0], 10)
    assert np.allclose(forest.radius[middle], 2.5)
    assert np.all(mask_to_forest(mask, radius=False)[0].radius == 1)


def test_junction_has_no_triangle() -> None:
    """The four pixels at a T touch each other; the tree joins them by faces and not by diagonals."""
    forest, loops = mask_to_forest(drawing(".....", "#####", "..#..", "..#..", "....."))
    assert len(forest) == 7
    assert loops == 0
    assert len(forest.branch_points) + (forest.degree[forest.roots] > 1).sum() == 1
    assert np.allclose(forest.edge_lengths, 1)


def test_loop_is_cut_once() -> None:
    forest, loops = mask_to_forest(drawing("......", ".####.", ".#..#.", ".#..#.", ".####.", "......"))
    assert loops == 1
    assert len(forest.roots) == 1
    assert len(forest.edges) == len(forest) - 1


def test_loops_are_counted_over_all_trees() -> None:
    ring = drawing(".....", ".###.", ".#.#.", ".###.", ".....")
    forest, loops = mask_to_forest(np.hstack([ring, ring, drawing(*["..#.."] * 5)]))
    assert loops == 2
    assert len(forest.roots) == 3


def test_tree_starts_at_its_thickest_end() -> None:
    mask = np.zeros((15, 40), bool)
    mask[7, 2:20] = True
    mask[4:11, 20:38] = True
    forest, _ = mask_to_forest(mask)
    assert forest.positions(2)[0, 1] > 30


def test_isolated_pixels_and_empty_masks_give_empty_forests() -> None:
    empty = [np.zeros(shape, bool) for shape in ((4, 5), (3, 4, 5), (0, 0))]
    for mask in (drawing("....", ".#..", "...."), *empty):
        forest, loops = mask_to_forest(mask)
        assert len(forest) == 0
        assert loops == 0


def test_volume_with_a_loop_and_a_line() -> None:
    mask = np.zeros((8, 10, 12), bool)
    mask[2, 1:8, 2] = mask[2, 1:8, 8] = mask[2, 1, 2:9] = mask[2, 7, 2:9] = True
    mask[5, 8, 1:11] = True
    forest, loops = mask_to_forest(mask)
    assert loops == 1
    assert len(forest.roots) == 2
    line = forest.positions(3)[:, 0] == 5
    assert sorted(forest.positions(3)[line].tolist()) == [[5, 8, x] for x in range(1, 11)]


def test_forest_of_a_mask_with_loops_stays_in_the_mask() -> None:
    rng = np.random.default_rng(3)
    mask = np.kron(rng.random((12, 12)) < 0.6, np.ones((4, 4), bool))
    forest, loops = mask_to_forest(mask)
    assert loops > 0
    assert (forest.edge_lengths < 1.5).all()
    assert mask[tuple(forest.positions(2).astype(int).T)].all()


def test_masks_without_a_skeleton_are_refused() -> None:
    with pytest.raises(ValueError, match="true everywhere"):
        mask_to_forest(np.ones((4, 4), bool))
    with pytest.raises(ValueError, match="2 or 3 axes"):
        mask_to_forest(np.ones(4, bool))
