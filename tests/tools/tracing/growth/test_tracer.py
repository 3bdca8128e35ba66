"""Whole traces of known trees, with maps that an oracle draws, and single steps of the tracer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lib.swclib import SwcForest, rescale
from tests.tools.tracing.growth.cases import (
    ABOVE_3D,
    BORDERS,
    CROSSING,
    CROSSING_3D,
    FORK,
    FORK_3D,
    PARALLEL,
    PARALLEL_3D,
    PASSING_3D,
    RING,
    SETTINGS,
    STEEP_3D,
    STRAIGHT,
    STRAIGHT_3D,
    crossing_at,
    one_front,
    step,
    trace,
    walking,
)
from tests.tools.tracing.oracle import OraclePredictor, mapped
from tools.inference.encoded_image import EncodedImage, Tips
from tools.progress import Progress, silent
from tools.tracing.cleanup.pipeline import CleanupSettings, clean_up
from tools.tracing.growth.stopping import JOINING_RULE
from tools.tracing.growth.tracer import Tracer, TraceResult, grow_together

TOLERANCE = 0.3
"""Largest distance of a node from its line, in pixels."""
COARSE_Z = (3.0, 1.0, 1.0)
"""Slices three times as far from each other as pixels."""


def grown(result: TraceResult) -> SwcForest:
    """The trace without seeds from which nothing grew, and without the stubs of 2 or 3 px that forks may have."""
    return clean_up(result.forest, result.centerline, CleanupSettings(gap=0, spur=5, isolated=False, centre=False))


def topology(forest: SwcForest) -> tuple[int, int, int]:
    """Numbers of trees, forks and ends."""
    return len(forest.roots), int((forest.degree > 2).sum()), int((forest.degree == 1).sum())


def distances(forest: SwcForest, lines, ndim: int) -> np.ndarray:
    """``(N,)`` distance of every node from the true lines, in pixels."""
    points = OraclePredictor(lines, (8,) * ndim, (8,) * ndim).points
    return np.linalg.norm(forest.positions(ndim)[:, None] - points, axis=2).min(axis=1)


def true_length(lines) -> float:
    """Length of all lines."""
    return float(sum(np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in lines))


CASES = {
    "straight": (STRAIGHT, (60, 200), (1, 0, 2)),
    "fork": (FORK, (120, 150), (1, 1, 3)),
    "borders": (BORDERS, (60, 100), (1, 0, 2)),
    "straight 3D": (STRAIGHT_3D, (24, 64, 96), (1, 0, 2)),
    "fork 3D": (FORK_3D, (24, 64, 96), (1, 1, 3)),
}


@pytest.mark.parametrize("fronts", [1, 3, 64])
@pytest.mark.parametrize("name", CASES)
def test_known_trees_are_traced_with_any_number_of_fronts(name, fronts):
    lines, shape, expected = CASES[name]
    forest = grown(trace(lines, shape, replace(SETTINGS, fronts=fronts)))
    assert topology(forest) == expected
    assert (forest.degree[forest.roots] == 1).all()
    # A trace may miss an end by less than a step, and straight edges shorten forks a little.
    assert true_length(lines) - 12 * expected[2] / 2 <= forest.length <= 1.02 * true_length(lines)
    off = distances(forest, lines, len(shape))
    # A node may be off its line only at a fork, which lies inside a step.
    assert (off > TOLERANCE).sum() <= 3 * expected[1] and off.max() <= 1.5


def test_nodes_of_a_straight_tube_lie_within_a_third_of_a_pixel():
    forest = grown(trace(STRAIGHT, (60, 200)))
    off = distances(forest, STRAIGHT, 2)
    assert off.max() <= TOLERANCE


@pytest.mark.parametrize("fronts", [1, 64])
def test_the_edge_separates_parallel_tubes_and_brightness_does_not(fronts):
    on_line = {}
    for method in ("gds", "brightest"):
        settings = replace(SETTINGS, fronts=fronts, method=method, joins=False)
        forest = grown(trace(PARALLEL, (64, 200), settings, bright_neighbours=True, floor=0.5))
        rows = forest.positions(2)[forest.edges][..., 0]
        on_line[method] = np.abs(np.diff(rows, axis=1)) < 1
    assert on_line["gds"].all()
    assert on_line["brightest"].mean() < 0.5


@pytest.mark.parametrize("fronts", [1, 64])
def test_two_parallel_tubes_are_both_traced(fronts):
    forest = grown(trace(PARALLEL, (64, 200), replace(SETTINGS, fronts=fronts)))
    assert topology(forest) == (2, 0, 4)
    assert forest.length == pytest.approx(360, abs=24)
    rows = forest.positions(2)[:, 0]
    for tree in range(2):
        assert np.ptp(rows[forest.components == tree]) < 1


@pytest.mark.parametrize("lines", [PARALLEL_3D, ABOVE_3D])
def test_the_edge_separates_parallel_tubes_of_a_volume(lines):
    jumps = {}
    for method in ("gds", "brightest"):
        settings = replace(SETTINGS, method=method, joins=False, fronts=1)
        forest = grown(trace(lines, (24, 64, 96), settings, bright_neighbours=True, floor=0.5))
        positions = forest.positions(3)
        side = np.argmin([distance_to(positions, line) for line in lines], axis=0)
        jumps[method] = int((side[forest.edges[:, 0]] != side[forest.edges[:, 1]]).sum())
    assert jumps["gds"] == 0 < jumps["brightest"]


@pytest.mark.parametrize("joins", [True, False])
@pytest.mark.parametrize(("lines", "shape"), [(PARALLEL, (64, 200)), (PARALLEL_3D, (24, 64, 96))])
def test_no_step_turns_aside_across_a_valley(lines, shape, joins):
    settings = replace(SETTINGS, method="brightest", joins=joins)
    forest = grown(trace(lines, shape, settings, bright_neighbours=True))
    side = np.argmin([distance_to(forest.positions(len(shape)), line) for line in lines], axis=0)
    assert len(forest.edges) == 0 or (side[forest.edges[:, 0]] == side[forest.edges[:, 1]]).all()


@pytest.mark.parametrize("lines", [PARALLEL_3D, ABOVE_3D])
def test_two_parallel_tubes_of_a_volume_are_both_traced(lines):
    forest = grown(trace(lines, (24, 64, 96)))
    assert topology(forest) == (2, 0, 4)
    assert forest.length == pytest.approx(true_length(lines), abs=24)


def test_a_crossing_in_a_volume_is_traced_once():
    forest = grown(trace(CROSSING_3D, (24, 64, 96)))
    assert forest.length == pytest.approx(true_length(CROSSING_3D), rel=0.15)
    assert distances(forest, CROSSING_3D, 3).max() < 1.5


def test_tubes_that_pass_at_different_depths_stay_two_trees():
    forest = grown(trace(PASSING_3D, (24, 64, 96)))
    assert topology(forest) == (2, 0, 4)


@pytest.mark.parametrize("lines", [STEEP_3D, STRAIGHT_3D])
def test_steps_between_distant_slices_are_measured_in_units(lines):
    result = trace(lines, (40, 64, 96), spacing=COARSE_Z)
    forest = clean_up(
        result.forest,
        result.centerline,
        CleanupSettings(gap=0, spur=5, isolated=False, centre=False),
        spacing=COARSE_Z,
    )
    assert topology(forest) == (1, 0, 2)
    units = rescale(forest, COARSE_Z)
    truth = rescale(SwcForest.from_positions(np.array(lines[0]), [-1, 0]), COARSE_Z)
    assert truth.length - 24 <= units.length <= 1.03 * truth.length
    steps = np.linalg.norm(np.diff(units.positions(3)[units.edges], axis=1)[:, 0], axis=1)
    # Edges at joins have any length up to the longest step.
    assert (np.abs(steps - 10) < 1).any() and steps.max() <= 20
    assert distances(forest, lines, 3).max() < 1


def distance_to(positions: np.ndarray, line) -> np.ndarray:
    """``(N,)`` distance of positions ``(N, ndim)`` from one straight line, in pixels."""
    start, end = np.array(line)
    along = (end - start) / np.linalg.norm(end - start)
    off = positions - start
    return np.linalg.norm(off - (off @ along)[:, None] * along, axis=1)


@pytest.mark.parametrize("fronts", [1, 64])
def test_a_crossing_is_traced_once(fronts):
    forest = grown(trace(CROSSING, (130, 140), replace(SETTINGS, fronts=fronts)))
    assert forest.length == pytest.approx(true_length(CROSSING), rel=0.12)
    assert distances(forest, CROSSING, 2).max() < 1.5
    assert len(forest.roots) <= 3


@pytest.mark.parametrize("fronts", [1, 2, 64])
@pytest.mark.parametrize("seed", range(3))
def test_a_ring_is_one_tree_with_one_reported_loop(fronts, seed):
    result = trace(RING, (120, 120), replace(SETTINGS, fronts=fronts, random_seed=seed))
    forest = grown(result)
    assert topology(forest) == (1, 0, 2)
    assert result.counts["loops"] == 1 and result.loops.shape == (1, 2, 2)
    assert np.linalg.norm(result.loops[0, 0] - result.loops[0, 1]) < 20
    gap = np.linalg.norm(np.diff(forest.positions(2)[forest.degree == 1], axis=0))
    assert forest.length + gap == pytest.approx(true_length(RING), rel=0.03)


@pytest.mark.parametrize("seed", range(4))
def test_fronts_that_meet_are_joined_and_no_loop_is_reported(seed):
    result = trace(STRAIGHT, (60, 200), replace(SETTINGS, random_seed=seed))
    assert result.counts["seeds"] > 2 and result.counts["joins"] > 0
    assert result.counts["loops"] == 0
    assert topology(grown(result)) == (1, 0, 2)


def test_without_joins_the_pieces_stay_separate_trees():
    result = trace(STRAIGHT, (60, 200), replace(SETTINGS, joins=False))
    assert len(grown(result).roots) > 1
    assert result.counts["joins"] == 0


def test_a_gap_in_the_map_is_crossed_if_there_are_nodes_beyond_it():
    forest = grown(trace(STRAIGHT, (60, 200), hidden=[(30.3, 100.0)]))
    pieces = len(forest.roots)
    assert pieces <= 2
    assert forest.length == pytest.approx(175, abs=12 + 14 * (pieces - 1))


def test_a_gap_longer_than_a_step_leaves_two_trees():
    hidden = [(30.3, x) for x in np.arange(80, 121, 4.0)]
    forest = grown(trace(STRAIGHT, (60, 200), hidden=hidden))
    assert topology(forest) == (2, 0, 4)
    assert not np.any(np.abs(forest.positions(2)[:, 1] - 100) < 24)


def test_an_empty_map_gives_an_empty_forest():
    result = Tracer(_Blank(), SETTINGS).trace(np.zeros((70, 80, 3), np.float32))
    assert len(result.forest) == 0
    assert result.loops.shape == (0, 2, 2)
    assert result.counts["nodes"] == result.counts["seeds"] == 0


class _Blank:
    """A predictor of empty maps, whose steps must not be computed."""

    network_seconds = 0.0

    def encode(
        self, pixels: np.ndarray, *, centerline: np.ndarray | None = None, progress: Progress = silent
    ) -> EncodedImage:
        return mapped(np.zeros(pixels.shape[:-1], np.float32))

    def predict(self, *batch: Tips) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        raise AssertionError("a map without seeds needs no step")


def test_the_trace_depends_on_the_random_seed_alone():
    first, again, other = (trace(FORK, (120, 150), replace(SETTINGS, random_seed=s)).forest for s in (5, 5, 6))
    np.testing.assert_array_equal(first.xyz, again.xyz)
    np.testing.assert_array_equal(first.parent, again.parent)
    assert len(first) != len(other) or not np.array_equal(first.xyz, other.xyz)


@pytest.mark.parametrize("together", [1, 2, 5])
def test_images_traced_together_have_the_traces_of_each(together):
    cases = [(FORK, (120, 150)), (STRAIGHT, (60, 200)), (RING, (120, 120)), (PARALLEL, (60, 200))]
    oracles = [OraclePredictor(lines, shape, (64, 64)) for lines, shape in cases]
    alone = [Tracer(oracle, SETTINGS).trace(np.zeros((*oracle.shape, 1), np.float32)) for oracle in oracles]
    several = _Several(oracles)
    tracer = Tracer(several, SETTINGS)
    growths = [tracer.start(np.zeros((*oracle.shape, 1), np.float32)) for oracle in oracles]
    finished = list(grow_together(several, iter(growths), together))
    assert sorted(map(growths.index, finished)) == [0, 1, 2, 3] and several.most_images == min(together, 4)
    for growth, result in zip(growths, alone, strict=True):
        np.testing.assert_array_equal(growth.result().forest.xyz, result.forest.xyz)
        np.testing.assert_array_equal(growth.result().forest.parent, result.forest.parent)
        assert growth.result().counts == result.counts


class _Several:
    """A predictor of several images, which are encoded in their order."""

    network_seconds = 0.0

    def __init__(self, oracles: list[OraclePredictor]) -> None:
        self.oracles, self.images, self.most_images = oracles, [], 0

    def encode(
        self, pixels: np.ndarray, *, centerline: np.ndarray | None = None, progress: Progress = silent
    ) -> EncodedImage:
        self.images.append(self.oracles[len(self.images)].encode(pixels))
        return self.images[-1]

    def predict(self, *batch: Tips) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.most_images = max(self.most_images, len(batch))
        found = [self.oracles[self.images.index(tips.image)].predict(tips) for tips in batch]
        node, edge, corner = (np.concatenate(column) for column in zip(*found, strict=True))
        return node, edge, corner


def test_times_are_given_by_stage():
    result = trace(STRAIGHT, (60, 200))
    assert set(result.seconds) == {"encode", "network", "search"}
    assert result.seconds["network"] == 0 and result.seconds["search"] > 0


# ---- single steps ----------------------------------------------------------------------------------------------------


def test_a_seed_starts_in_all_directions_with_the_opposite_node_as_its_past():
    growth = one_front()
    tips = step(growth, (30, 60), (30, 40), (22, 52))
    assert tips.tolist() == [[30, 60], [30, 40], [22, 52]]
    assert growth.fronts.path[0, :3].tolist() == [[30, 60], [30, 50], [30, 40]]
    assert growth.fronts.path[1, :3].tolist() == [[30, 40], [30, 50], [30, 60]]


def test_a_step_beside_a_line_is_moved_onto_it_and_one_between_two_lines_onto_the_nearer():
    centerline = np.full((60, 100), 0.05, np.float32)
    for row in (30, 34):
        centerline[row - 1 : row + 2] = np.maximum(centerline[row - 1 : row + 2], [[0.5], [0.9], [0.5]])
    growth = one_front(centerline, side_by_side=True)
    assert step(growth, (31.6, 60)) == pytest.approx(np.array([[30, 60]]), abs=0.3)
    assert step(one_front(centerline), (31.6, 60)).tolist() == [[31.6, 60]]
    # On the neighbour's side of the valley: the step would cross it.
    assert len(step(one_front(centerline, side_by_side=True), (32.6, 60))) == 0


def test_no_join_turns_aside_across_a_valley():
    centerline = np.full((60, 100), 0.02, np.float32)
    centerline[30, :60] = centerline[33, 40:] = 0.9
    for between, joins in ((0.02, 0), (0.9, 1)):
        centerline[31:33, 58:62] = between
        growth = one_front(centerline, meet=4.0, side_by_side=True)
        other = growth.graph.add_node(np.array([33.0, 57.0]))
        growth.graph.grow(other, np.array([33.0, 75.0]))
        growth._meetings.join(int(growth.fronts.node[0]), growth.fronts.path[0], [30.0, 59.0])
        assert growth.counts["joins"] == joins


def test_a_second_branch_needs_an_edge_and_another_direction():
    assert len(step(walking(), (30, 70), (37, 67), edge_mean=[0.9, 0.9])) == 2
    assert len(step(walking(), (30, 70), (37, 67), edge_mean=[0.9, 0.5])) == 1
    assert len(step(walking(), (30, 70), (32, 71), edge_mean=[0.9, 0.9])) == 1
    assert len(step(walking(), (30, 70), edge_mean=[0.1])) == 1  # The best candidate needs no edge.
    assert len(step(walking(), (30, 70), (37, 67), edge_mean=[np.nan, np.nan])) == 1


def test_the_oldest_fronts_go_first_and_the_others_wait():
    growth = one_front(fronts=1)
    assert len(step(growth, (30, 60), (30, 40))) == 2
    assert growth.active().tips.tolist() == [[30, 60]]
    assert not len(growth.seeds.take(0))
    step(growth, (30, 70))
    assert growth.active().tips.tolist() == [[30, 70]]  # One front is followed until it stops.
    step(growth)
    assert growth.active().tips.tolist() == [[30, 40]]


def test_a_join_lies_where_the_step_meets_the_branch():
    growth = walking()
    for a, b in [((10.0, 68.0), (20.0, 68.0)), ((20.0, 68.0), (50.0, 68.0))]:
        growth.graph.connect(growth.graph.add_node(np.array(a)), growth.graph.add_node(np.array(b)))
    growth.graph.connect(3, 4)
    step(growth, (34, 68))
    assert growth.counts["joins"] == 1
    foot = growth.graph.positions[growth.graph.edges[-1][1]]
    assert foot[1] == 68 and 33 <= foot[0] <= 34


# ---- crossing a traced branch --------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [90, 60, 30, 20])
def test_a_front_goes_on_beyond_a_branch_that_it_crosses(angle: int) -> None:
    lines = crossing_at(angle)
    for random_seed in range(3):
        settings = replace(SETTINGS, cross=True, fronts=1, random_seed=random_seed)
        forest = grown(trace(lines, (160, 160), settings))
        assert topology(forest) == (2, 0, 4)
        assert forest.length == pytest.approx(240, abs=12)
        for tree in range(2):
            places = forest.positions(2)[forest.components == tree]
            assert min(distances_from(places, line).max() for line in lines) < 3


@pytest.mark.parametrize("angle", [90, 60, 30, 20])
@pytest.mark.parametrize("fronts", [8, 64])
def test_fronts_that_come_to_a_crossing_together_go_on(angle: int, fronts: int) -> None:
    for random_seed in range(6):
        settings = replace(SETTINGS, cross=True, fronts=fronts, random_seed=random_seed)
        assert topology(grown(trace(crossing_at(angle), (160, 160), settings))) == (2, 0, 4)


@pytest.mark.parametrize("column, joined", [(64, True), (69, True), (75, True), (82, False)])
def test_the_other_half_of_a_line_is_joined_beyond_a_branch_that_crosses(column: float, joined: bool) -> None:
    growth = walking(cross=True)
    branch = [growth.graph.add_node((y, 66.0)) for y in (10.0, 50.0)]
    other_half = [growth.graph.add_node((31.0, x)) for x in (column + 30.0, column)]
    growth.graph.connect(*branch)
    growth.graph.connect(*other_half)
    step(growth, (30, 68))
    assert (growth.graph.tree_of(other_half[0]) == growth.graph.tree_of(0)) == joined
    assert growth.graph.tree_of(branch[0]) != growth.graph.tree_of(0)
    assert len(growth.fronts) == (not joined) and growth.counts["joins"] == joined


def test_a_front_on_a_branch_stops_when_the_other_half_was_joined_to_it() -> None:
    growth = walking(cross=True)
    growth.graph.connect(*(growth.graph.add_node((y, 68.0)) for y in (10.0, 50.0)))
    step(growth, (30, 69))
    tip = int(growth.fronts.node[0])
    growth.graph.grow(tip, (30.0, 80.0))
    assert len(step(growth, (30, 79))) == 0 and growth.stops[JOINING_RULE] == 1
    assert growth.graph.leads_to(tip) == [(30.0, 50.0), (30.0, 80.0)]


def distances_from(places: np.ndarray, line) -> np.ndarray:
    """``(N,)`` distance of places from a straight line."""
    start, end = map(np.array, line)
    along = (end - start) / np.linalg.norm(end - start)
    offset = places - start
    return np.abs(offset[:, 0] * along[1] - offset[:, 1] * along[0])


@pytest.mark.parametrize("lines, shape, wanted", [(FORK, (120, 150), (1, 1, 3)), (PARALLEL, (70, 200), (2, 0, 4)),
                                                  (STRAIGHT, (60, 200), (1, 0, 2))])  # fmt: skip
@pytest.mark.parametrize("fronts", [1, 64])
def test_where_nothing_goes_on_a_front_is_joined(lines, shape, wanted, fronts: int) -> None:
    assert topology(grown(trace(lines, shape, replace(SETTINGS, cross=True, fronts=fronts)))) == wanted


def test_a_front_that_found_nothing_beyond_a_branch_is_counted_once() -> None:
    growth = walking(cross=True)
    branch = [growth.graph.add_node((y, 68.0)) for y in (10.0, 50.0)]
    growth.graph.connect(*branch)
    assert len(step(growth, (30, 69))) == 1 and growth.fronts.loose.tolist() == [1]
    assert len(step(growth)) == 0
    assert sum(growth.stops.values()) == 1 and growth.counts["joins"] == 1
    assert growth.graph.tree_of(branch[0]) == growth.graph.tree_of(0)


def test_a_front_beyond_a_branch_is_a_tree_of_its_own() -> None:
    growth = walking(cross=True)
    branch = [growth.graph.add_node((y, 68.0)) for y in (10.0, 50.0)]
    growth.graph.connect(*branch)
    step(growth, (30, 69))
    assert step(growth, (30, 79)).tolist() == [[30, 79]]
    assert growth.fronts.loose.tolist() == [0] and growth.counts["joins"] == 0
    assert growth.graph.tree_of(branch[0]) != growth.graph.tree_of(0)
    assert [30, 69] in np.round(growth.graph.positions).tolist()


def test_a_front_does_not_turn_into_the_branch_that_it_meets() -> None:
    growth = walking(cross=True)
    growth.graph.connect(*(growth.graph.add_node((y, 68.0)) for y in (10.0, 50.0)))
    step(growth, (30, 69))
    assert len(step(growth, (40, 70))) == 0 and growth.counts["joins"] == 1
