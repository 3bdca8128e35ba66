"""Kinds of trees, and trees of two kinds separated, on trees and maps made by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lib.swclib import SwcForest, concatenate
from lib.swclib.forest import KIND_TYPE
from tools.tracing.cleanup.crossings import join_across
from tools.tracing.cleanup.kinds import CHANGE, CHANGE_AT_FORK, likeliest_kinds, prices_of_change, with_kinds

SHAPE = (120, 160)
ARTERY, VEIN = KIND_TYPE + 1, KIND_TYPE + 2


def kind_map(*, probability: float = 0.9) -> np.ndarray:
    """Kind 1 within 3 px of y = 50, kind 2 elsewhere; at the crossing with x = 80 both are equally likely."""
    one = np.full(SHAPE, 1 - probability)
    one[47:54] = probability
    one[47:54, 77:84] = 0.5
    return np.stack([one, 1 - one])


def path(*places: tuple[float, float]) -> SwcForest:
    """A tree without forks through places (y, x), a node every 2 px."""
    corners = np.array(places, float)
    parts = [
        start + np.linspace(0, 1, 2 + int(np.linalg.norm(end - start) // 2), endpoint=False)[:, None] * (end - start)
        for start, end in itertools.pairwise(corners)
    ]
    positions = np.concatenate([*parts, corners[-1:]])
    return SwcForest.from_positions(positions, np.arange(-1, len(positions) - 1))


def star() -> SwcForest:
    """Four branches from one fork at (50, 80): two along y = 50, two along x = 80."""
    arms = [path((50, 80), end) for end in ((50, 20), (50, 140), (10, 80), (100, 80))]
    positions, parent, count = [np.array([[50.0, 80]])], [-1], 1
    for arm in arms:
        own = arm.positions(2)[1:]
        positions.append(own)
        parent += [0, *range(count, count + len(own) - 1)]
        count += len(own)
    return SwcForest.from_positions(np.concatenate(positions), parent)


def test_a_crossing_joined_by_a_fork_becomes_two_trees_that_go_straight_on() -> None:
    forest = join_across(with_kinds(star(), kind_map(), 1.0, separate=True))
    assert len(forest.roots) == 2 and len(forest.branch_points) == 0
    assert sorted(forest.types[forest.roots]) == [ARTERY, VEIN]
    for tree in range(2):
        places = forest.positions(2)[forest.components == tree]
        assert min(np.ptp(places[:, 0]), np.ptp(places[:, 1])) == 0
    assert forest.length == pytest.approx(star().length)


def test_without_separation_a_tree_has_the_kind_of_most_of_its_length() -> None:
    forest = with_kinds(star(), kind_map(), 1.0, separate=False)
    assert len(forest.roots) == 1 and set(forest.types) == {ARTERY}


def test_a_trace_that_turns_off_is_cut() -> None:
    forest = with_kinds(path((50, 20), (50, 80), (110, 80)), kind_map(), 1.0, separate=True)
    assert sorted(forest.types[forest.roots]) == [ARTERY, VEIN]


def test_a_short_doubtful_piece_is_no_tree_of_its_own() -> None:
    kinds = kind_map()
    kinds[:, 47:54, 100:106] = kinds[::-1, 47:54, 100:106]
    forest = with_kinds(path((50, 20), (50, 140)), kinds, 1.0, separate=True)
    assert len(forest.roots) == 1 and set(forest.types) == {ARTERY}


@pytest.mark.parametrize("other, joined", [(VEIN, True), (None, False)])
def test_ends_are_joined_across_another_tree_only(other, joined: bool) -> None:
    trees = [path((50, 20), (50, 74)), path((50, 86), (50, 140))] + [path((10, 80), (100, 80))] * (other is not None)
    forest = join_across(with_kinds(concatenate(trees), kind_map(), 1.0, separate=True))
    assert (len(forest.roots) == len(trees) - 1) == joined


def test_ends_beside_each_other_are_not_joined_across_a_tree() -> None:
    trees = [path((50, 20), (50, 76)), path((68, 84), (68, 140)), path((10, 80), (100, 80))]
    kinds = np.stack([np.full(SHAPE, 0.9), np.full(SHAPE, 0.1)])
    kinds[:, :, 77:84] = kinds[::-1, :, 77:84]
    assert len(join_across(with_kinds(concatenate(trees), kinds, 1.0, separate=True)).roots) == 3


def test_the_kinds_are_the_best_of_all() -> None:
    """Every assignment of 3 kinds to the 6 nodes of random trees, tried in turn."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        parent = np.array([-1, *(rng.integers(0, row) for row in range(1, 6))])
        forest = SwcForest.from_positions(20 * rng.random((6, 2)), parent)
        evidence, prices = rng.normal(scale=CHANGE, size=(6, 3)), prices_of_change(forest)

        def total(kind, forest=forest, evidence=evidence, prices=prices) -> float:
            kind = np.array(kind)
            changes = kind[forest.edges[:, 0]] != kind[forest.edges[:, 1]]
            return evidence[np.arange(6), kind].sum() - prices[forest.edges[changes, 1]].sum()

        best = max(map(total, itertools.product(range(3), repeat=6)))
        assert total(likeliest_kinds(forest, evidence)) == pytest.approx(best)


def test_a_change_is_cheap_at_forks_alone() -> None:
    """Of the same tree, whichever of the two nodes is the parent; another tree passes the fork 3 px away."""
    beside = path((20, 83), (90, 83))
    forest = concatenate([star(), beside])
    near = np.linalg.norm(forest.positions(2) - (50, 80), axis=1) <= 6
    near[len(star()) :] = False
    parent, child = forest.edges.T
    cheap = prices_of_change(forest)[child] == CHANGE_AT_FORK
    assert (cheap == (near[parent] | near[child])).all() and cheap.sum() == 16
    assert set(prices_of_change(beside)) == {CHANGE}


def test_a_branch_that_goes_on_over_another_stays_one_tube() -> None:
    """Where the map takes a piece of 40 px for the other kind; a fork in its place makes a tree of its own of it."""
    kinds = kind_map(probability=0.7)
    kinds[:, 47:54, 100:] = kinds[::-1, 47:54, 100:]
    trees = concatenate([path((50, 20), (50, 140)), path((10, 100), (100, 100))])
    assert len(with_kinds(trees, kinds, 1.0, separate=True).roots) == 2
    fork = concatenate([path((50, 20), (50, 140))])
    side = path((50, 100), (100, 100)).positions(2)[1:]
    at = int(np.argmin(np.abs(fork.positions(2)[:, 1] - 100)))
    parent = [*fork.parent, at, *range(len(fork), len(fork) + len(side) - 1)]
    forked = SwcForest.from_positions(np.concatenate([fork.positions(2), side]), parent)
    assert len(with_kinds(forked, kinds, 1.0, separate=True).roots) == 2


def test_volumes_are_measured_in_units() -> None:
    kinds = np.full((2, 10, 40, 40), 0.5)
    kinds[0, 5] = 0.9
    kinds[1] = 1 - kinds[0]
    forest = SwcForest.from_positions([[15.0, 5, x] for x in range(30)], np.arange(-1, 29))
    assert set(with_kinds(forest, kinds, np.array([3.0, 1, 1]), separate=True).types) == {ARTERY}


def test_an_empty_trace_stays_empty() -> None:
    assert len(with_kinds(SwcForest.empty(), kind_map(), 1.0, separate=True)) == 0
