"""Metrics compared with values computed by hand."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from rtree import index as rtree_index

from lib.swclib import SwcForest, concatenate, read_swc, reroot, rescale, translate
from lib.swclib.metrics import (
    average_branch_length,
    branch_point_f1,
    coverage,
    end_point_f1,
    find_closures,
    jump_error,
    length_f1,
    near_pieces,
    position_error,
    score,
    ssd_f1,
)
from lib.swclib.metrics import length as length_module
from lib.swclib.metrics.spaces import space_warnings
from lib.swclib.nearest import EdgeSearch, nearest_nodes

EMPTY = SwcForest.empty()


def line(*points: tuple[float, float], radius: float = 1.0) -> SwcForest:
    """A path through (y, x) points."""
    return SwcForest.from_positions(points, np.arange(-1, len(points) - 1), radius)


def u_turn(arm: float, gap: float = 3.0) -> SwcForest:
    """Two arms along x, joined at x = arm with spacing ``gap``; the path between the open ends is 2 arm + gap."""
    return line((0, 0), (0, arm), (gap, arm), (gap, 0))


def random_tree(n: int, seed: int) -> SwcForest:
    """A random walk with forks and two roots."""
    rng = np.random.default_rng(seed)
    parent = np.array([-1, -1, *(i - 1 if rng.random() < 0.9 else rng.integers(0, i) for i in range(2, n))])
    positions = np.zeros((n, 2))
    positions[1] = 20.1
    for i in range(2, n):
        positions[i] = positions[parent[i]] + np.round(rng.normal(0, 3, 2) * 4) / 4
    return SwcForest.from_positions(positions, parent, radius=rng.uniform(0.5, 1.5, n))


# ---- SSD-F1 ---------------------------------------------------------------------------------------------------------


def test_ssd_counts_nodes_near_the_other_tree():
    gold, test = line((0, 0), (0, 10)), line((0, 0), (0, 4))  # nodes at 0 2 4 6 8 10, and at 0 2 4
    result = ssd_f1(gold, test)
    assert (result.matched_gold, result.total_gold) == (3, 6)  # 6 is exactly 2 away: missed
    assert (result.precision, result.recall, result.value) == (1, 0.5, pytest.approx(2 / 3))


@pytest.mark.parametrize(("shift", "value"), [(1.99, 1.0), (2.0, 0.0), (2.01, 0.0)])
def test_ssd_at_the_threshold(shift, value):
    gold = line((0, 0), (0, 10))
    assert ssd_f1(gold, translate(gold, (shift, 0))).value == value


def test_ssd_cuts_edges_into_equal_pieces():
    assert ssd_f1(line((0, 0), (0, 7)), EMPTY).total_gold == 4  # floor(7 / 2) = 3 pieces
    assert ssd_f1(line((0, 0), (0, 1)), EMPTY).total_gold == 2


# ---- L-F1 -----------------------------------------------------------------------------------------------------------


def test_length_recall_when_half_a_line_is_missing():
    gold, test = line((0, 0), (0, 5), (0, 10)), line((0, 0), (0, 5))
    result = length_f1(gold, test)
    assert (result.recall, result.precision, result.total_gold) == (0.5, 1, 10)


@pytest.mark.parametrize(("near_in", "radius", "shift", "value"), [
    ("radii", 1.0, 2.0, 1.0),
    ("radii", 1.0, 2.01, 0.0),
    ("radii", 0.5, 1.0, 1.0),
    ("radii", 0.5, 1.01, 0.0),
    ("pixels", 0.5, 2.0, 1.0),
    ("pixels", 0.5, 2.01, 0.0),
])  # fmt: skip
def test_length_at_the_threshold(near_in, radius, shift, value):
    gold = line((0, 0), (0, 10), radius=radius)
    assert length_f1(gold, translate(gold, (shift, 0)), near_in=near_in).value == value


@pytest.mark.parametrize(("tolerance", "value"), [(0.2, 0), (0.25, 0), (0.26, 1)])
def test_length_refuses_a_detour_beyond_the_tolerance(tolerance, value):
    gold, test = line((0, 0), (0, 8)), line((0, 0), (3, 4), (0, 8))  # 8 against 5 + 5
    assert length_f1(gold, test, tolerance=tolerance).recall == value


def test_length_uses_a_path_once():
    gold = SwcForest.from_positions([[0, 0], [0, 10], [1, 0], [1, 10]], [-1, 0, -1, 2])
    result = length_f1(gold, line((0.5, 0), (0.5, 10)))
    assert (result.recall, result.precision) == (0.5, 1)


def test_length_does_not_cross_a_gap():
    test = SwcForest.from_positions([[0, 0], [0, 4], [0, 6], [0, 10]], [-1, 0, -1, 2])
    assert length_f1(line((0, 0), (0, 10)), test).value == 0


def test_length_matches_a_path_through_a_fork():
    # The gold edge runs from one arm of the test's Y to the other, through its fork.
    test = SwcForest.from_positions([[-5, 5], [0, 5], [0, 0], [0, 10]], [-1, 0, 1, 1])
    result = length_f1(line((0, 1), (0, 9)), test)
    assert (result.matched_test, result.recall, result.total_test) == (8, 1, 15)


def parallel_lines(*rows: float) -> SwcForest:
    """One tree per row y, each a single edge from x = 0 to x = 10."""
    return concatenate([line((y, 0), (y, 10)) for y in rows])


@pytest.mark.parametrize(("rows", "recall"), [((-1, 1), 1.0), ((1, -1), 0.5)])
def test_length_tie_goes_to_the_edge_that_the_rtree_reports_first(monkeypatch, rows, recall):
    # The gold edge at y = 0 comes first and is equally near both test edges. If it takes the one at y = -1, none is
    # left for the gold edge at y = -2.5.
    gold, test = parallel_lines(-2.5, 0), parallel_lines(*rows)
    assert length_f1(gold, test).recall == recall
    rank = length_module._rtree_rank
    monkeypatch.setattr(length_module, "_rtree_rank", lambda low, high: -rank(low, high))
    assert length_f1(gold, test).recall == 1.5 - recall


def test_every_rtree_search_reports_hits_by_rank():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 100, (300, 3))
    rank = length_module._rtree_rank(low, low + 5)
    tree = rtree_index.Index(properties=rtree_index.Property(dimension=3))
    for number, box in enumerate(np.hstack([low, low + 5]).tolist()):
        tree.insert(number, box)
    found = [list(tree.intersection([*place, *(place + 40)])) for place in rng.uniform(0, 60, (50, 3))]
    assert all((np.diff(rank[numbers]) > 0).all() for numbers in found)
    assert any(numbers != sorted(numbers) for numbers in found)  # so it is not the order of insertion


# ---- PE, ABL --------------------------------------------------------------------------------------------------------


def test_position_error_counts_only_nodes_below_the_threshold():
    gold = line((0, 0), (0, 10))
    test = line((1, 0), (2, 10), (0, 5))  # at distance 1, at exactly 2, and 5 from a node but on the edge
    paper = position_error(gold, test)
    assert (paper.value, paper.matched, paper.total) == (1, 1, 3)
    assert paper.matched_fraction == pytest.approx(1 / 3)
    edge = position_error(gold, test, protocol="experiment")
    assert (edge.value, edge.matched) == (1, 3)
    far = position_error(gold, line((5, 0), (4.5, 0)), protocol="experiment")
    assert (far.value, far.matched) == (4.5, 1)


def test_position_error_without_a_match_is_none():
    error = position_error(line((0, 0), (0, 10)), line((50, 0), (50, 10)))
    assert (error.value, error.matched_fraction) == (None, 0)


def test_average_branch_length():
    fork = SwcForest.from_positions([[0, 0], [0, 10], [0, 20], [4, 10], [9, 9]], [-1, 0, 1, 1, -1])
    assert average_branch_length(fork).value == 24 / 3  # two roots and one fork


# ---- JE -------------------------------------------------------------------------------------------------------------


def test_an_edge_between_two_arms_jumps():
    test = line((0, 0), (3, 0))
    for protocol in ("paper", "experiment"):
        result = jump_error(u_turn(30), test, protocol=protocol)
        assert (result.value, result.ids.tolist(), result.nodes.tolist(), result.candidates) == (1, [2], [1], 1)
    # A gold path of 13 is too short to be a jump in the experiment protocol.
    assert jump_error(u_turn(5), test).value == 1
    assert jump_error(u_turn(5), test, protocol="experiment").value == 0


def test_jump_ratio_is_strict():
    gold = line((0, 0), (0, 2.25), (3, 2.25), (3, 0))  # path 7.5, straight line 3
    assert jump_error(gold, line((0, 0), (3, 0)), alpha=2.5).value == 0
    assert jump_error(gold, line((0, 0), (3, 0)), alpha=2.49).value == 1


def test_jump_between_trees_and_unmatched_children():
    gold = SwcForest.from_positions([[0, 0], [0, 5], [9, 0], [9, 5]], [-1, 0, -1, 2])
    assert jump_error(gold, line((0, 5), (9, 5))).value == 1
    assert jump_error(gold, line((0, 5), (11, 5))).value == 0  # the child is exactly 2 from the gold: no candidate
    assert jump_error(gold, line((30, 5), (9, 5))).value == 0  # the parent may be anywhere; its nearest node is (9, 5)


def test_ties_go_to_the_node_first_in_the_file(tmp_path):
    # Both gold ends are 1.5 from the test child (1.5, 0). The first in the file wins, wherever it is in the tree.
    nodes = {1: "1 0 0 0 0 1 -1", 2: "2 0 30 0 0 1 1", 3: "3 0 30 3 0 1 2", 4: "4 0 0 3 0 1 3"}
    test = line((0, 0), (1.5, 0))
    for order, jumps in (((1, 2, 3, 4), 0), ((4, 3, 2, 1), 1)):
        path = tmp_path / "gold.swc"
        path.write_text("\n".join(nodes[k] for k in order))
        assert jump_error(read_swc(path), test).value == jumps


def test_closed_loops_are_no_jumps():
    circle = [(10 * np.sin(a), 10 * np.cos(a)) for a in np.linspace(0, 2 * np.pi, 25)[:-1]]  # cut after the last node
    gold, test = line(*circle), line(circle[-1], circle[0])
    assert jump_error(gold, test).value == 1
    assert jump_error(gold, test, protocol="closed").value == 0
    closures = find_closures(gold)
    assert closures.end.tolist() == [0, 23]
    assert closures.length == pytest.approx(2 * 10 * np.sin(np.pi / 24))
    assert jump_error(gold, test, protocol="closed", closures=find_closures(gold, radius=1.0)).value == 1


def test_closures_need_a_long_loop():
    assert len(find_closures(u_turn(8)).end) == 0  # 2 × 8 + 3 = 19 along the tree
    assert len(find_closures(u_turn(9)).end) == 2
    assert len(find_closures(u_turn(30, gap=6.1)).end) == 0
    assert len(find_closures(line((0, 0), (0, 100))).end) == 0
    assert len(find_closures(EMPTY).end) == 0


# ---- coverage, ends and forks ---------------------------------------------------------------------------------------


def test_coverage_in_both_directions():
    gold, test = line((0, 0), (0, 100)), line((0.5, -1), (0.5, 49))
    found = coverage(gold, test)
    assert found.value == pytest.approx(0.51, abs=0.005)  # 49, and sqrt(4 - 0.25) beyond the end
    on_gold = coverage(test, gold)
    assert on_gold.value == 1
    assert on_gold.offset == pytest.approx((0, 0.5, -0.01), abs=0.001)
    assert coverage(gold, translate(gold, (2, 0))).value == 0
    assert coverage(gold, EMPTY).value == 0 and coverage(EMPTY, gold).value is None


def test_shift_has_its_full_size_and_offset_half():
    cross = SwcForest.from_positions([[0, 0], [0, 60], [-30, 30], [30, 30]], [-1, 0, -1, 2])
    found = coverage(translate(cross, (0.4, -0.6)), cross)
    assert found.shift == pytest.approx((0, 0.4, -0.6), abs=0.02)
    assert found.offset == pytest.approx((0, 0.2, -0.3), abs=0.02)
    along = coverage(translate(line((0, 0), (0, 60)), (0.4, -0.6)), line((0, 0), (0, 60)))
    assert along.shift is not None
    assert along.shift[:2] == pytest.approx((0, 0.4)) and abs(along.shift[2]) < 0.02  # the edge does not cross x


def test_near_pieces():
    pieces, is_near = near_pieces(line((0, 0), (0, 10)), line((0, 0), (0, 4)))
    assert pieces.edge_lengths.tolist() == [1.0] * 10 and pieces.length == 10
    assert is_near.tolist() == [True] * 6 + [False] * 4  # midpoints up to 5.5; the one at 6.5 is 2.5 away


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        ((1, 1, 1), None),
        ((2, 2, 2), "scaled by 2 "),
        ((3, 1, 1), "scaled by 3, 1, 1 (z, y, x)"),
        ((1, 0.4, 0.4), "1, 0.4"),
    ],
)
def test_a_scaled_test_is_reported(scale, words):
    places = np.cumsum(np.random.default_rng(3).normal(0, 6, (80, 3)), axis=0)
    gold = SwcForest.from_positions(places, np.arange(-1, 79))
    test = rescale(gold, scale)
    found = space_warnings(gold, test, score(gold, test))
    assert found == [] if words is None else len(found) == 1 and words in found[0]


def test_nearest_edge_is_not_among_the_first_candidates():
    """A long edge among many short ones is near although its midpoint is far."""
    short = np.stack([np.linspace(0, 3, 31), np.full(31, 1.0), np.zeros(31)], axis=1)
    starts = np.concatenate([short[:-1], [[-50, 0.5, 0]]])
    ends = np.concatenate([short[1:], [[60, 0.5, 0]]])
    search = EdgeSearch(starts, ends)
    found = search.nearest(np.array([[1.55, 0.6, 0.0], [40.0, 0.6, 0.0], [1.55, 0.9, 0.0]]))
    assert found.edge.tolist() == [30, 30, 15] and found.distance == pytest.approx([0.1, 0.1, 0.1])


def test_end_and_branch_points():
    gold = SwcForest.from_positions([[0, 0], [0, 10], [0, 20], [10, 10]], [-1, 0, 1, 1])
    test = line((0, 1), (0, 23.9), radius=1)
    assert end_point_f1(gold, test).recall == pytest.approx(2 / 3) and end_point_f1(gold, test).precision == 1
    assert end_point_f1(gold, translate(test, (0, 0.1))).precision == 0.5  # one end is exactly 4 away
    assert branch_point_f1(gold, test).recall == 0 and branch_point_f1(gold, gold).value == 1


def test_ends_pair_up_one_to_one():
    # Pairing the nearest first would give (0, 2)-(0, 3) and leave the other two more than 4 from each other.
    gold, test = line((0, 0), (0, 2)), line((0, 3), (0, 5.5))
    assert end_point_f1(gold, test).matched_gold == 2


# ---- score ----------------------------------------------------------------------------------------------------------


def test_perfect_score_does_not_depend_on_the_root():
    gold = random_tree(100, 3)
    row = score(gold, gold, protocol="closed").row()
    for name in ("SSD_F1", "L_F1", "coverage", "on_gold", "ends_F1", "PE_matched_fraction"):
        assert row[name] == 1
    assert (row["PE"], row["JE"]) == (0, 0)
    assert score(gold, reroot(gold, 40)).row()["JE"] == 0


def test_empty_trace():
    row = score(line((0, 0), (0, 10)), EMPTY).row()
    assert [row[name] for name in ("SSD_F1", "L_F1", "coverage", "PE", "ABL", "JE", "on_gold")] == [0] * 3 + [None] * 4
    assert score(EMPTY, EMPTY).row()["SSD_F1"] == 0


def test_spacing_and_three_dimensions():
    gold = SwcForest.from_positions([[0, 0, 0], [0, 0, 10]], [-1, 0])
    test = translate(gold, (1, 0, 0))
    assert score(gold, test).row()["SSD_F1"] == 1
    assert score(gold, test, spacing=(3, 1, 1)).row()["SSD_F1"] == 0
    assert score(gold, test, spacing=0.5).row()["PE"] == 0.5
    assert score(gold, test).row()["offset_z"] == 1


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="protocol"):
        score(EMPTY, EMPTY, protocol=cast(Any, "none"))
    with pytest.raises(ValueError, match="threshold"):
        score(EMPTY, EMPTY, threshold=0)


def test_edge_search_equals_brute_force():
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 50, (200, 3))
    ends = starts + rng.normal(0, 4, (200, 3)) * rng.choice([0.0, 1.0, 5.0], (200, 1), p=[0.1, 0.6, 0.3])
    has_length = np.linalg.norm(ends - starts, axis=1) > 0
    points = rng.uniform(-10, 60, (100, 3))
    fraction = np.linspace(0, 1, 2001)[:, None, None]
    sampled = starts + fraction * (ends - starts)
    truth = np.array([np.linalg.norm(sampled - point, axis=2).min(axis=0) for point in points])
    truth[:, ~has_length] = np.inf
    search = EdgeSearch(starts, ends)
    nearest = search.nearest(points)
    np.testing.assert_allclose(nearest.distance, truth.min(axis=1), atol=0.01)
    found = search.within(points, 5.0)
    assert abs(len(found.point) - (truth <= 5.0).sum()) <= 2  # the samples are accurate to 0.01
    assert (np.diff(found.point) >= 0).all()


def test_nearest_nodes_of_an_empty_forest():
    row, distance = nearest_nodes(EMPTY, np.zeros((2, 3)))
    assert row.tolist() == [-1, -1] and np.isinf(distance).all()
    assert len(EdgeSearch.of(EMPTY).nearest(np.zeros((2, 3))).point) == 0
