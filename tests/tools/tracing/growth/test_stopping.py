"""The rules that stop a front, on maps made by hand, and their counts in whole traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.tools.tracing.growth.cases import (
    FLAT,
    FORK,
    FORK_3D,
    PARALLEL,
    RING,
    SETTINGS,
    STRAIGHT,
    one_front,
    seeded,
    step,
    trace,
    walking,
)
from tests.tools.tracing.oracle import mapped
from tools.tracing.growth import stopping
from tools.tracing.growth.fronts import Fronts
from tools.tracing.growth.gds import Candidates
from tools.tracing.growth.stopping import up_to_the_border
from tools.tracing.growth.tracer import Growth


@pytest.fixture(autouse=True)
def only_the_rules_tested_here(monkeypatch):
    """Rules that are added later do not change what these cases show."""
    for table, names in (
        ("MAP_RULES", ("outside", "off_centerline", "turns_back", "over_valley")),
        ("TREE_RULES", ("direction_taken", "meets_branch", "overtakes")),
    ):
        monkeypatch.setattr(stopping, table, {name: getattr(stopping, table)[name] for name in names})


ALL = {*stopping.MAP_RULES, *stopping.TREE_RULES, stopping.NO_CANDIDATE, stopping.SEED_COVERED}


def stops(growth: Growth) -> dict[str, int]:
    """The rules that have stopped a front so far."""
    return {name: count for name, count in growth.stops.items() if count}


def stopped_by(growth: Growth, *positions, **options) -> dict[str, int]:
    """The stops of a growth after a step of its only front to ``positions``."""
    assert not stops(growth)
    fronts = len(step(growth, *positions, **options))
    assert fronts == 0 or not stops(growth)
    return stops(growth)


def with_branch(growth: Growth, column: float = 68.0) -> Growth:
    """The growth with another branch in one column, from row 10 to row 50."""
    node = growth.graph.add_node(np.array([10.0, column]))
    growth.graph.grow(node, np.array([50.0, column]))
    return growth


def with_edge(growth: Growth, end: tuple[float, float]) -> Growth:
    """The growth with an edge from its first front to ``end``, that of another front joined there."""
    growth.graph.grow(int(growth.fronts.node[0]), np.array(end))
    return growth


def flat_with(columns: slice, probability: float) -> np.ndarray:
    """The flat map with another probability in some columns."""
    centerline = FLAT.copy()
    centerline[:, columns] = probability
    return centerline


def two_lines(row: int) -> np.ndarray:
    """A map of two lines, in row 30 and in another one."""
    centerline = np.full((60, 100), 0.02, np.float32)
    centerline[[30, row]] = 0.9
    return centerline


# ---- each rule alone -------------------------------------------------------------------------------------------------


def test_no_candidate_stops_a_seed_and_a_walking_front():
    assert stopped_by(one_front()) == {"no_candidate": 1}
    assert stopped_by(walking()) == {"no_candidate": 1}


@pytest.mark.parametrize("position, stopped", [((-0.6, 50), True), ((-0.4, 50), False), ((-9, 51), True)])
def test_outside_stops_a_step_beyond_the_pixels_of_the_image(position, stopped):
    assert stopped_by(seeded((0.2, 50)), position) == ({"outside": 1} if stopped else {})


@pytest.mark.parametrize(("position", "end"), [((-0.6, 50), (0, 50)), ((-30, 70), (0, 60)), ((30, 149), (30, 99))])
def test_a_step_beyond_the_border_ends_there(position, end):
    np.testing.assert_allclose(step(one_front(), position), [end])


def test_a_step_from_the_outer_half_of_a_border_pixel_leaves_the_image():
    tip, position = np.array([[-0.4, 10.0]]), np.array([[-0.6, 28.0]])
    np.testing.assert_array_equal(up_to_the_border(tip, position, (20, 30)), position)


@pytest.mark.parametrize("shape", [(20, 30), (8, 20, 30)])
def test_steps_are_cut_at_the_border_on_their_line(shape):
    rng, size = np.random.default_rng(0), np.array(shape)
    tips = rng.uniform(0, size - 1, (200, len(shape)))
    position = tips + rng.normal(0, 8, tips.shape)
    cut = up_to_the_border(tips, position, shape)
    leaves = ((position <= -0.5) | (position >= size - 0.5)).any(axis=1)
    assert 20 < leaves.sum() < 180
    np.testing.assert_array_equal(cut[~leaves], position[~leaves])
    for tip, far, end in zip(tips[leaves], position[leaves], cut[leaves], strict=True):
        # A slow search along the step for the last place inside.
        ways = tip + np.linspace(0, 1, 20001)[:, None] * (far - tip)
        last = ways[((ways >= 0) & (ways <= size - 1)).all(axis=1)][-1]
        np.testing.assert_allclose(end, last if np.linalg.norm(last - tip) >= 1 else far, atol=5e-3)


def test_off_centerline_stops_a_step_below_the_threshold():
    centerline = flat_with(slice(58, None), 0.39)
    assert stopped_by(one_front(centerline), (30, 60)) == {"off_centerline": 1}
    assert stopped_by(one_front(centerline, stop_threshold=0.38), (30, 60)) == {}
    assert stopped_by(one_front(centerline), (30, 58)) == {}  # The highest of the pixels around the end counts.


def test_off_centerline_uses_the_end_itself_if_branches_run_side_by_side():
    centerline = np.full((60, 100), 0.05, np.float32)
    centerline[20:, 50] = 0.9
    for side_by_side, tips in ((False, 1), (True, 0)):
        # The line ends within the step, in whose direction nodes are not moved.
        assert len(step(one_front(centerline, side_by_side=side_by_side), (19.2, 50))) == tips


def test_turns_back_stops_a_step_of_more_than_a_right_angle():
    assert stopped_by(walking(), (33, 58)) == {"turns_back": 1}
    assert stopped_by(walking(), (40, 60)) == {}
    assert stopped_by(one_front(), (33, 48)) == {}


def test_turns_back_measures_angles_in_units():
    search = replace(SETTINGS.search, spacing=(3.0, 1.0))
    growth = one_front(search=search)
    step(growth, (32, 56))
    # In pixels the step by (-2, 5) after one by (2, 6) turns by less than a right angle.
    assert stopped_by(growth, (30, 61)) == {"turns_back": 1}


def test_over_valley_stops_a_step_to_a_neighbouring_line():
    assert stopped_by(one_front(two_lines(34)), (34, 57)) == {"over_valley": 1}
    assert stopped_by(one_front(two_lines(34)), (30, 57)) == {}


@pytest.mark.parametrize("edge_mean, stopped", [(0.6, False), (0.4, True), (np.nan, False)])
def test_over_valley_lets_a_step_cross_a_gap_straight_ahead_if_the_edge_supports_it(edge_mean, stopped):
    growth = walking(flat_with(slice(63, 67), 0.02))
    assert stopped_by(growth, (30, 70), edge_mean=[edge_mean]) == ({"over_valley": 1} if stopped else {})


def test_seed_covered_stops_a_seed_that_an_older_front_passes_in_the_same_step():
    growth = seeded((30, 50), (30, 56))
    assert len(growth.fronts) == 2
    found = Candidates(np.array([0, 1, 1]), np.array([[30, 60], [30, 66], [30, 46]], float), *np.ones((3, 3)))
    growth.advance(found, np.zeros((2, 2), int))
    assert growth.fronts.tips.tolist() == [[30, 60]] and len(growth.graph.edges) == 1
    assert stops(growth) == {"seed_covered": 1}


def test_direction_taken_stops_a_step_beside_an_edge_of_its_own_node():
    assert stopped_by(with_edge(walking(), (30, 68)), (35, 68)) == {"direction_taken": 1}
    assert stopped_by(with_edge(walking(), (30, 68)), (39, 66)) == {}


@pytest.mark.parametrize("joins", [True, False])
def test_meets_branch_stops_a_step_that_ends_at_a_traced_branch(joins):
    growth = with_branch(walking(joins=joins))
    assert stopped_by(growth, (34, 65.5)) == {"meets_branch": 1}
    assert growth.counts["joins"] == joins
    assert stopped_by(with_branch(walking()), (34, 64.5)) == {}


def test_meets_branch_does_not_stop_a_step_beside_a_branch_beyond_a_valley():
    for centerline, expected in ((two_lines(33), {}), (FLAT, {"meets_branch": 1})):
        growth = walking(centerline, meet=4.0)
        node = growth.graph.add_node(np.array([33.0, 66.0]))
        growth.graph.grow(node, np.array([33.0, 80.0]))
        assert stopped_by(growth, (30, 70)) == expected


def two_fronts(*lines: Sequence[tuple[float, float]], centerline: np.ndarray = FLAT, **settings) -> Growth:
    """A growth with two fronts, which have walked along the given places."""
    growth = Growth(replace(SETTINGS, **settings), mapped(centerline))
    nodes, path = [], np.full((2, SETTINGS.walked_nodes + 1, 2), np.nan)
    for row, line in enumerate(lines):
        nodes.append(growth.graph.add_node(line[0]))
        for place in line[1:]:
            nodes[-1] = growth.graph.grow(nodes[-1], place)
        path[row, : len(line)] = line[::-1]
    growth.fronts = Fronts(np.array(nodes), path, np.zeros(2, int))
    return growth


WALKED = [(30, 40), (30, 50), (30, 60)]
AHEAD = [(30, 44), (30, 54), (30, 64)]
"""A front on the same line, 4 px ahead."""


@pytest.mark.parametrize("cross", [True, False])
@pytest.mark.parametrize(
    ("other", "passed"),
    [
        (AHEAD, True),
        ([(32.5, 44), (32.5, 54), (32.5, 64)], True),
        ([(33.5, 44), (33.5, 54), (33.5, 64)], False),  # It is farther than 3 from the step.
        ([(41, 42), (37, 53), (31.5, 64.5)], False),  # It has come from too far aside.
        ([(37.4, 49), (32.5, 57.5), (27.6, 66)], False),  # It crosses at 30 degrees.
        ([(50, 64), (40, 64), (31, 64)], False),  # It comes from the side.
    ],
)
def test_overtakes_stops_a_step_past_the_tip_of_a_front_on_the_same_tube(other, passed, cross):
    growth = two_fronts(WALKED, other, cross=cross)
    ahead = growth.fronts.node[1]
    step(growth, (30, 70))
    assert stops(growth) == {"no_candidate": 1} | ({"overtakes": 1} if passed else {})
    assert (growth.graph.tree_of(ahead) == growth.graph.tree_of(0)) == passed


def test_overtakes_lets_a_front_pass_an_end_where_nobody_walks_on():
    growth = two_fronts(WALKED, AHEAD)
    growth.fronts = growth.fronts[:1]
    assert stopped_by(growth, (30, 70)) == {}


def test_overtakes_does_not_stop_a_step_beside_another_line():
    for centerline, expected in ((two_lines(32), {}), (FLAT, {"overtakes": 1})):
        growth = two_fronts(WALKED, [(32, 44), (32, 54), (32, 64)], centerline=centerline)
        step(growth, (30, 70))
        assert stops(growth) == {"no_candidate": 1} | expected


# ---- several rules and several candidates ----------------------------------------------------------------------------


def reverse(monkeypatch, table: str) -> None:
    """Reverse the order of a table of rules."""
    monkeypatch.setattr(stopping, table, dict(reversed(getattr(stopping, table).items())))


def test_the_order_of_the_map_rules_decides_which_is_counted(monkeypatch):
    def at_the_border() -> Growth:
        growth = seeded((0.2, 50))
        step(growth, (0.2, 60))
        return growth

    backwards_and_outside = (-30, 59)
    assert stopped_by(at_the_border(), backwards_and_outside) == {"outside": 1}
    reverse(monkeypatch, "MAP_RULES")
    assert stopped_by(at_the_border(), backwards_and_outside) == {"turns_back": 1}


def test_the_order_of_the_tree_rules_decides_which_is_counted_and_whether_the_step_is_joined(monkeypatch):
    first = with_branch(with_edge(walking(), (30, 66)), 69)
    assert stopped_by(first, (30, 68)) == {"direction_taken": 1} and first.counts["joins"] == 0
    reverse(monkeypatch, "TREE_RULES")
    second = with_branch(with_edge(walking(), (30, 66)), 69)
    assert stopped_by(second, (30, 68)) == {"meets_branch": 1} and second.counts["joins"] == 1


def test_map_rules_come_before_tree_rules():
    assert stopped_by(with_branch(walking(), 58), (30, 58)) == {"turns_back": 1}


def test_of_several_refused_candidates_the_best_decides():
    assert stopped_by(walking(flat_with(slice(64, None), 0.1)), (33, 58), (30, 70)) == {"turns_back": 1}
    growth = with_branch(with_edge(walking(), (40, 60)))
    assert stopped_by(growth, (30, 66), (38, 61), edge_mean=[0.9, 0.9]) == {"meets_branch": 1}


def test_one_accepted_candidate_is_enough_to_go_on():
    assert stopped_by(walking(), (33, 58), (30, 70)) == {}
    assert stopped_by(with_branch(walking()), (30, 66), (38, 61), edge_mean=[0.9, 0.9]) == {}


# ---- new rules and whole traces --------------------------------------------------------------------------------------


def test_a_new_map_rule_is_counted_under_its_name(monkeypatch):
    monkeypatch.setitem(stopping.MAP_RULES, "right_half", lambda steps: steps.position[:, 1] > 100)
    result = trace(STRAIGHT, (60, 200), replace(SETTINGS, joins=False))
    assert set(result.stops) == ALL | {"right_half"} and result.stops["right_half"] > 0
    ends = result.forest.positions(2)[result.forest.edges]
    assert len(ends) and (ends[..., 1].min(axis=1) <= 100).all()


def test_a_new_tree_rule_is_counted_under_its_name(monkeypatch):
    monkeypatch.setitem(stopping.TREE_RULES, "enough_nodes", lambda step: len(step.graph.positions) >= 6)
    result = trace(STRAIGHT, (60, 200), replace(SETTINGS, fronts=1))
    assert set(result.stops) == ALL | {"enough_nodes"} and result.stops["enough_nodes"] > 0
    assert result.counts["nodes"] == 5


@pytest.mark.parametrize("fronts", [1, 3, 64])
@pytest.mark.parametrize(
    "lines, shape",
    [
        (STRAIGHT, (60, 200)),
        (FORK, (120, 150)),
        (PARALLEL, (64, 200)),
        (RING, (120, 120)),
        (FORK_3D, (24, 64, 96)),
    ],
)
def test_every_front_that_ends_is_counted_once(monkeypatch, lines, shape, fronts):
    ended, advance = [], Growth.advance

    def advance_and_check(growth: Growth, found: Candidates, corner: np.ndarray) -> None:
        tips, waiting = growth.active().tips, len(growth.fronts) - len(corner)
        before = sum(growth.stops.values())
        advance(growth, found, corner)
        # The second place of a new path is the tip that it was made from.
        went_on = set(map(tuple, growth.fronts.path[: len(growth.fronts) - waiting, 1]))
        ended.append(sum(tuple(tip) not in went_on for tip in tips))
        assert sum(growth.stops.values()) - before == ended[-1]

    monkeypatch.setattr(Growth, "advance", advance_and_check)
    result = trace(lines, shape, replace(SETTINGS, fronts=fronts))
    assert set(result.stops) == ALL
    assert sum(result.stops.values()) == sum(ended) > 0
    # Every front, begun by a seed or a node, takes exactly one step.
    assert result.counts["steps"] == result.counts["seeds"] + result.counts["nodes"]
    assert 0 <= result.counts["joins"] <= result.counts["steps"]
