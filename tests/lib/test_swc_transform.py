"""Resampled, moved, rerooted, cut and joined forests."""

from __future__ import annotations

import numpy as np
import pytest

from lib.swclib import SwcForest, concatenate, reroot, resample, rescale, subset, translate

LINE = SwcForest.from_positions([[0, 0], [0, 1], [0, 10]], [-1, 0, 1], radius=[1, 1, 2])
FORK = SwcForest.from_positions(
    [[0, 0], [0, 10], [0, 20], [0, 30], [4, 10], [50, 0], [50, 5], [70, 70]], parent=[-1, 0, 1, 2, 1, -1, 5, -1]
)


def test_resample_a_line():
    forest = resample(LINE, 2.5)
    assert forest.positions(2).tolist() == [[0, 0], [0, 2.5], [0, 5], [0, 7.5], [0, 10]]
    np.testing.assert_allclose(forest.radius, [1, 1 + 1.5 / 9, 1 + 4 / 9, 1 + 6.5 / 9, 2])
    assert forest.parent.tolist() == [-1, 0, 1, 2, 3]
    assert len(resample(LINE, 100.0)) == 2  # at least one edge per branch


def test_resample_keeps_ends_and_branch_points():
    forest = resample(FORK, 3.0)
    kept = {tuple(point) for point in forest.positions(2).tolist()}
    assert {(0, 0), (0, 10), (0, 30), (4, 10), (50, 0), (50, 5), (70, 70)} <= kept
    assert len(forest.roots) == 3 and len(forest.branch_points) == 1 and len(forest.leaves) == 4
    assert forest.length == pytest.approx(FORK.length)
    assert len(forest.edges) == 3 + 7 + 1 + 2  # branch lengths 10, 20, 4 and 5, each divided by 3 and rounded


def test_resample_an_empty_forest_and_coincident_nodes():
    assert len(resample(SwcForest.empty(), 1.0)) == 0
    coincident = SwcForest.from_positions([[1, 1], [1, 1]], [-1, 0])
    assert resample(coincident, 1.0).positions(2).tolist() == [[1, 1], [1, 1]]
    with pytest.raises(ValueError, match="step"):
        resample(LINE, 0.0)


def test_rescale_and_translate():
    forest = SwcForest.from_positions([[1, 2, 3]], [-1], radius=1)
    assert rescale(forest, 2.0, shift=0.5).positions(3).tolist() == [[2.5, 4.5, 6.5]]
    stretched = rescale(forest, (4, 2, 1), shift=(0, 0, 1))
    assert stretched.positions(3).tolist() == [[4, 4, 4]] and stretched.radius[0] == pytest.approx(2)
    flat = rescale(forest, (2, 2))
    assert flat.positions(3).tolist() == [[1, 4, 6]] and flat.radius[0] == pytest.approx(2)
    assert translate(forest, (10, 20)).positions(3).tolist() == [[1, 12, 23]]
    with pytest.raises(ValueError, match="positive"):
        rescale(forest, 0.0)
    with pytest.raises(ValueError, match="per axis"):
        translate(forest, (1, 2, 3, 4))


def test_reroot():
    forest = reroot(FORK, 4)
    old_row = forest.file_order
    assert old_row[forest.parent[forest.file_order.argsort()[[1, 0, 2]]]].tolist() == [4, 1, 1]
    assert len(forest.roots) == 3 and forest.length == FORK.length
    assert reroot(FORK, 0).parent.tolist() == FORK.parent.tolist()


def test_subset_makes_orphans_roots():
    forest = subset(FORK, np.arange(8) != 1)
    assert forest.parent.tolist() == [-1, -1, 1, -1, -1, 4, -1]
    assert forest.ids.tolist() == [1, 3, 4, 5, 6, 7, 8]
    with pytest.raises(ValueError, match="bool"):
        subset(FORK, [0, 1])


def test_concatenate():
    forest = concatenate([LINE, SwcForest.empty(), LINE])
    assert forest.parent.tolist() == [-1, 0, 1, -1, 3, 4] and forest.ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert len(concatenate([])) == 0
