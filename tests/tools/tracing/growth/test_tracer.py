"""The tracer where the answer is known: an oracle draws the maps from a true tree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.morphology import skeletonize

from configs.options import TraceOptions3D
from lib.swclib import SwcForest, rescale
from tests.tools.tracing.oracle import OraclePredictor
from tools.tracing.cleanup.pipeline import CleanupSettings, clean_up
from tools.tracing.growth.gds import Candidates, Search
from tools.tracing.growth.seeds import Seeds, skeleton_pixels
from tools.tracing.growth.tracer import Growth, Tracer, TraceResult, TraceSettings
from tools.tracing.tracing_tools_3D import BORDER, MEET, SLACK

SETTINGS = TraceSettings(Search(r=2))
TOLERANCE = 0.3

STRAIGHT = [[(30.3, 12.0), (30.3, 187.0)]]
FORK = [[(60.4, 10.0), (60.4, 80.0)], [(60.4, 80.0), (20.0, 140.0)], [(60.4, 80.0), (100.0, 140.0)]]
PARALLEL = [[(30.0, 10.0), (30.0, 190.0)], [(34.0, 10.0), (34.0, 190.0)]]
CROSSING = [[(60.0, 10.0), (60.0, 130.0)], [(10.0, 70.0), (120.0, 70.0)]]
BORDERS = [[(30.0, 0.0), (30.0, 99.0)]]
ANGLES = np.linspace(0, 2 * np.pi, 61)
RING = [np.stack([60 + 45 * np.sin(ANGLES), 60 + 45 * np.cos(ANGLES)], axis=1).tolist()]
STRAIGHT_3D = [[(12.3, 14.0, 8.0), (12.3, 50.0, 84.0)]]
FORK_3D = [
    [(12.0, 30.0, 6.0), (12.0, 30.0, 46.0)],
    [(12.0, 30.0, 46.0), (6.0, 10.0, 76.0)],
    [(12.0, 30.0, 46.0), (18.0, 50.0, 76.0)],
]


PARALLEL_3D = [[(8.0, 30.0, 6.0), (14.0, 30.0, 90.0)], [(8.0, 34.0, 6.0), (14.0, 34.0, 90.0)]]
ABOVE_3D = [[(8.0, 30.0, 6.0), (8.0, 30.0, 90.0)], [(12.0, 30.0, 6.0), (12.0, 30.0, 90.0)]]
CROSSING_3D = [[(12.0, 32.0, 6.0), (12.0, 32.0, 90.0)], [(12.0, 6.0, 48.0), (12.0, 58.0, 48.0)]]
PASSING_3D = [[(8.0, 32.0, 6.0), (8.0, 32.0, 90.0)], [(14.0, 6.0, 48.0), (14.0, 58.0, 48.0)]]
STEEP_3D = [[(3.0, 30.0, 20.0), (36.0, 32.0, 44.0)]]
COARSE_Z = (3.0, 1.0, 1.0)
"""Slices three times as far apart as pixels."""


def trace(lines, shape, settings: TraceSettings = SETTINGS, **options) -> TraceResult:
    """Trace the image of an oracle; volumes as the job for volumes does."""
    patch = (64, 64) if len(shape) == 2 else (16, 48, 48)
    if len(shape) == 3:
        search = replace(settings.search, border=BORDER, slack=SLACK, num_vec=TraceOptions3D.num_vec)
        search = replace(search, spacing=options.get("spacing"))
        near = MEET * search.r
        settings = replace(settings, search=search, side_by_side=True, meet=near, seed_gap=near)
    oracle = OraclePredictor(lines, shape, patch, **options)
    result = Tracer(oracle, settings).trace(np.zeros((*shape, 1), np.float32))
    assert oracle.largest_batch <= settings.fronts
    return result


def grown(result: TraceResult) -> SwcForest:
    """The trace without seeds from which nothing grew, and without the stubs of 2 or 3 px that may stand at a fork."""
    return clean_up(result.forest, result.centerline, CleanupSettings(gap=0, spur=5, isolated=False, centre=False))


def shape_of(forest: SwcForest) -> tuple[int, int, int]:
    """Trees, forks and ends."""
    return len(forest.roots), int((forest.degree > 2).sum()), int((forest.degree == 1).sum())


def distances(forest: SwcForest, lines, ndim: int) -> np.ndarray:
    """Distance of every node to the true lines."""
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
def test_known_trees_come_back_whatever_the_number_of_fronts(name, fronts):
    lines, shape, expected = CASES[name]
    forest = grown(trace(lines, shape, replace(SETTINGS, fronts=fronts)))
    assert shape_of(forest) == expected
    assert (forest.degree[forest.roots] == 1).all()
    # Ends may be missed by less than a step, forks are cut a little short by straight edges.
    assert true_length(lines) - 12 * expected[2] / 2 <= forest.length <= 1.02 * true_length(lines)
    off = distances(forest, lines, len(shape))
    # Only at a fork, which lies inside a step, may a node be off.
    assert (off > TOLERANCE).sum() <= 3 * expected[1] and off.max() <= 1.5


def test_every_node_of_a_straight_tube_is_within_a_third_of_a_pixel():
    forest = grown(trace(STRAIGHT, (60, 200)))
    off = distances(forest, STRAIGHT, 2)
    assert off.max() <= TOLERANCE


@pytest.mark.parametrize("fronts", [1, 64])
def test_parallel_tubes_are_kept_apart_by_the_edge_and_not_by_brightness(fronts):
    on_line = {}
    for method in ("gds", "brightest"):
        settings = replace(SETTINGS, fronts=fronts, method=method, joins=False)
        forest = grown(trace(PARALLEL, (64, 200), settings, bright_neighbours=True, floor=0.5))
        rows = forest.positions(2)[forest.edges][..., 0]
        on_line[method] = np.abs(np.diff(rows, axis=1)) < 1
    assert on_line["gds"].all()
    assert on_line["brightest"].mean() < 0.5


@pytest.mark.parametrize("fronts", [1, 64])
def test_both_of_two_parallel_tubes_are_traced(fronts):
    forest = grown(trace(PARALLEL, (64, 200), replace(SETTINGS, fronts=fronts)))
    assert shape_of(forest) == (2, 0, 4)
    assert forest.length == pytest.approx(360, abs=24)
    rows = forest.positions(2)[:, 0]
    for tree in range(2):
        assert np.ptp(rows[forest.components == tree]) < 1


@pytest.mark.parametrize("lines", [PARALLEL_3D, ABOVE_3D])
def test_parallel_tubes_of_a_volume_are_kept_apart_by_the_edge(lines):
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
def test_no_step_turns_aside_across_a_valley_of_the_map(lines, shape, joins):
    settings = replace(SETTINGS, method="brightest", joins=joins)
    forest = grown(trace(lines, shape, settings, bright_neighbours=True))
    side = np.argmin([distance_to(forest.positions(len(shape)), line) for line in lines], axis=0)
    assert len(forest.edges) == 0 or (side[forest.edges[:, 0]] == side[forest.edges[:, 1]]).all()


@pytest.mark.parametrize("lines", [PARALLEL_3D, ABOVE_3D])
def test_both_of_two_parallel_tubes_of_a_volume_are_traced(lines):
    forest = grown(trace(lines, (24, 64, 96)))
    assert shape_of(forest) == (2, 0, 4)
    assert forest.length == pytest.approx(true_length(lines), abs=24)


def test_a_crossing_in_a_volume_is_traced_once():
    forest = grown(trace(CROSSING_3D, (24, 64, 96)))
    assert forest.length == pytest.approx(true_length(CROSSING_3D), rel=0.15)
    assert distances(forest, CROSSING_3D, 3).max() < 1.5


def test_tubes_that_pass_each_other_in_depth_stay_two_trees():
    forest = grown(trace(PASSING_3D, (24, 64, 96)))
    assert shape_of(forest) == (2, 0, 4)


@pytest.mark.parametrize("lines", [STEEP_3D, STRAIGHT_3D])
def test_where_slices_lie_far_apart_steps_are_counted_in_true_lengths(lines):
    result = trace(lines, (40, 64, 96), spacing=COARSE_Z)
    forest = clean_up(
        result.forest,
        result.centerline,
        CleanupSettings(gap=0, spur=5, isolated=False, centre=False),
        spacing=COARSE_Z,
    )
    assert shape_of(forest) == (1, 0, 2)
    units = rescale(forest, COARSE_Z)
    truth = rescale(SwcForest.from_positions(np.array(lines[0]), [-1, 0]), COARSE_Z)
    assert truth.length - 24 <= units.length <= 1.03 * truth.length
    steps = np.linalg.norm(np.diff(units.positions(3)[units.edges], axis=1)[:, 0], axis=1)
    # Pieces at joins are of any length up to the longest step.
    assert (np.abs(steps - 10) < 1).any() and steps.max() <= 20
    assert distances(forest, lines, 3).max() < 1


def distance_to(positions: np.ndarray, line) -> np.ndarray:
    """Distance of positions ``(N, 3)`` to one straight line."""
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
def test_a_ring_is_one_tree_left_open_at_one_reported_place(fronts, seed):
    result = trace(RING, (120, 120), replace(SETTINGS, fronts=fronts, seed=seed))
    forest = grown(result)
    assert shape_of(forest) == (1, 0, 2)
    assert result.counts["loops"] == 1 and result.loops.shape == (1, 2, 2)
    assert np.linalg.norm(result.loops[0, 0] - result.loops[0, 1]) < 20
    gap = np.linalg.norm(np.diff(forest.positions(2)[forest.degree == 1], axis=0))
    assert forest.length + gap == pytest.approx(true_length(RING), rel=0.03)


@pytest.mark.parametrize("seed", range(4))
def test_fronts_that_meet_are_joined_and_no_loop_is_reported(seed):
    result = trace(STRAIGHT, (60, 200), replace(SETTINGS, seed=seed))
    assert result.counts["seeds"] > 2 and result.counts["joins"] > 0
    assert result.counts["loops"] == 0
    assert shape_of(grown(result)) == (1, 0, 2)


def test_without_joins_the_pieces_stay_apart():
    result = trace(STRAIGHT, (60, 200), replace(SETTINGS, joins=False))
    assert len(grown(result).roots) > 1
    assert result.counts["joins"] == 0


def test_a_gap_in_the_map_is_crossed_where_nodes_lie_beyond_it():
    forest = grown(trace(STRAIGHT, (60, 200), hidden=[(30.3, 100.0)]))
    pieces = len(forest.roots)
    assert pieces <= 2
    assert forest.length == pytest.approx(175, abs=12 + 14 * (pieces - 1))


def test_a_gap_longer_than_the_reach_of_the_map_leaves_two_trees():
    hidden = [(30.3, x) for x in np.arange(80, 121, 4.0)]
    forest = grown(trace(STRAIGHT, (60, 200), hidden=hidden))
    assert shape_of(forest) == (2, 0, 4)
    assert not np.any(np.abs(forest.positions(2)[:, 1] - 100) < 24)


def test_nothing_to_trace_is_an_empty_forest():
    result = Tracer(_Blank(), SETTINGS).trace(np.zeros((70, 80, 3), np.float32))
    assert len(result.forest) == 0
    assert result.loops.shape == (0, 2, 2)
    assert result.counts["nodes"] == result.counts["seeds"] == 0


class _Blank:
    """Sees nothing, and may not be asked for steps."""

    network_seconds = 0.0

    def set_image(self, pixels: np.ndarray) -> np.ndarray:
        return np.zeros(pixels.shape[:-1], np.float32)


def test_the_same_seed_gives_the_same_trace_and_another_seed_another():
    first, again, other = (trace(FORK, (120, 150), replace(SETTINGS, seed=s)).forest for s in (5, 5, 6))
    np.testing.assert_array_equal(first.xyz, again.xyz)
    np.testing.assert_array_equal(first.parent, again.parent)
    assert len(first) != len(other) or not np.array_equal(first.xyz, other.xyz)


def test_times_add_up():
    result = trace(STRAIGHT, (60, 200))
    assert set(result.seconds) == {"encode", "network", "search"}
    assert result.seconds["network"] == 0 and result.seconds["search"] > 0


# ---- rules of one step -----------------------------------------------------------------------------------------------

FLAT = np.full((60, 100), 0.9, np.float32)


def candidates(*positions, edge_mean=None) -> Candidates:
    """Candidates of the first front, the best first."""
    count = len(positions)
    mean = np.full(count, 0.9) if edge_mean is None else np.array(edge_mean)
    places = np.array(positions, float).reshape(-1, 2)
    return Candidates(np.zeros(count, int), places, np.ones(count), np.zeros(count), mean)


def one_front(centerline: np.ndarray = FLAT, **settings) -> Growth:
    """A growth with one seed at (30, 50)."""
    growth = Growth(replace(SETTINGS, **settings), centerline)
    growth._seeds = Seeds(np.array([[30.0, 50.0]]), 4.0)
    assert growth.top_up()
    return growth


def step(growth: Growth, *positions, **options) -> np.ndarray:
    """Advance all fronts, the first of them to ``positions``; where the fronts are then."""
    growth.advance(candidates(*positions, **options), np.zeros((len(growth.active()), 2), int))
    return growth.fronts.tips


def walking() -> Growth:
    """A growth with one front that walked from (30, 50) to (30, 60)."""
    growth = one_front()
    step(growth, (30, 60))
    return growth


def test_a_seed_goes_every_way_and_knows_what_lies_behind():
    growth = one_front()
    tips = step(growth, (30, 60), (30, 40), (22, 52))
    assert tips.tolist() == [[30, 60], [30, 40], [22, 52]]
    assert growth.fronts.path[0, :3].tolist() == [[30, 60], [30, 50], [30, 40]]
    assert growth.fronts.path[1, :3].tolist() == [[30, 40], [30, 50], [30, 60]]


def test_a_step_back_is_refused_and_one_at_a_right_angle_is_not():
    assert len(step(walking(), (33, 58))) == 0
    assert len(step(walking(), (40, 60))) == 1


def test_a_step_out_of_the_image_or_off_the_line_is_refused():
    growth = one_front()
    assert len(step(growth, (-0.6, 50))) == 0
    centerline = FLAT.copy()
    centerline[:, 58:] = 0.1
    assert len(step(one_front(centerline), (30, 60))) == 0
    assert len(step(one_front(centerline), (30, 57))) == 1


def test_a_line_a_pixel_aside_holds_a_step_only_if_the_pixels_around_it_are_asked():
    centerline = np.full((60, 100), 0.05, np.float32)
    centerline[20:, 50] = 0.9
    for beside, tips in ((False, 1), (True, 0)):
        growth = one_front(centerline, side_by_side=beside)
        # Along the step, where a node is not led, the line ends in between.
        assert len(step(growth, (19.2, 50))) == tips


def test_a_gap_is_crossed_straight_on_where_an_edge_leads():
    centerline = FLAT.copy()
    centerline[:, 63:67] = 0.02
    for edge, tips in ((0.6, 1), (0.4, 0), (np.nan, 1)):
        growth = one_front(centerline)
        step(growth, (30, 60))
        assert len(step(growth, (30, 70), edge_mean=[edge])) == tips


def test_a_step_beside_the_line_is_led_onto_it_and_one_between_two_onto_the_nearer():
    centerline = np.full((60, 100), 0.05, np.float32)
    for row in (30, 34):
        centerline[row - 1 : row + 2] = np.maximum(centerline[row - 1 : row + 2], [[0.5], [0.9], [0.5]])
    led = one_front(centerline, side_by_side=True)
    assert step(led, (31.6, 60)) == pytest.approx(np.array([[30, 60]]), abs=0.3)
    assert step(one_front(centerline), (31.6, 60)).tolist() == [[31.6, 60]]
    # The neighbour's side of the valley: that way leads across it.
    assert len(step(one_front(centerline, side_by_side=True), (32.6, 60))) == 0


def test_no_join_leads_aside_across_a_valley():
    centerline = np.full((60, 100), 0.02, np.float32)
    centerline[30, :60] = centerline[33, 40:] = 0.9
    for reached, joins in ((0.02, 0), (0.9, 1)):
        centerline[31:33, 58:62] = reached
        growth = one_front(centerline, meet=4.0, side_by_side=True)
        other = growth.graph.add_node(np.array([33.0, 57.0]))
        growth.graph.grow(other, np.array([33.0, 75.0]))
        growth._join(int(growth.fronts.node[0]), growth.fronts.path[0, :2], np.array([30.0, 59.0]), set())
        assert growth.counts["joins"] == joins


def test_a_second_branch_needs_an_edge_and_another_direction():
    assert len(step(walking(), (30, 70), (37, 67), edge_mean=[0.9, 0.9])) == 2
    assert len(step(walking(), (30, 70), (37, 67), edge_mean=[0.9, 0.5])) == 1
    assert len(step(walking(), (30, 70), (32, 71), edge_mean=[0.9, 0.9])) == 1
    assert len(step(walking(), (30, 70), edge_mean=[0.1])) == 1  # The winner needs none.
    assert len(step(walking(), (30, 70), (37, 67), edge_mean=[np.nan, np.nan])) == 1


def test_fronts_beyond_the_batch_wait_and_the_oldest_goes_first():
    growth = one_front(fronts=1)
    assert len(step(growth, (30, 60), (30, 40))) == 2
    assert growth.active().tips.tolist() == [[30, 60]]
    assert not len(growth._seeds.take(0))
    step(growth, (30, 70))
    assert growth.active().tips.tolist() == [[30, 70]]  # One tip until it stops.
    step(growth)
    assert growth.active().tips.tolist() == [[30, 40]]


def test_a_seed_that_an_older_front_passes_in_the_same_step_is_given_up():
    growth = Growth(SETTINGS, FLAT)
    growth._seeds = Seeds(np.array([[30.0, 50.0], [30.0, 56.0]]), 4.0)
    assert growth.top_up() and len(growth.fronts) == 2
    found = Candidates(np.array([0, 1, 1]), np.array([[30, 60], [30, 66], [30, 46]], float), *np.ones((3, 3)))
    growth.advance(found, np.zeros((2, 2), int))
    assert growth.fronts.tips.tolist() == [[30, 60]]
    assert len(growth.graph.edges) == 1


def test_a_join_stands_where_the_step_comes_upon_the_branch():
    growth = walking()
    for a, b in [((10.0, 68.0), (20.0, 68.0)), ((20.0, 68.0), (50.0, 68.0))]:
        growth.graph.connect(growth.graph.add_node(np.array(a)), growth.graph.add_node(np.array(b)))
    growth.graph.connect(3, 4)
    step(growth, (34, 68))
    assert growth.counts["joins"] == 1
    foot = growth.graph.positions[growth.graph.edges[-1][1]]
    assert foot[1] == 68 and 33 <= foot[0] <= 34


# ---- seeds -----------------------------------------------------------------------------------------------------------


def test_seeds_lie_on_the_skeleton_in_an_order_of_the_seed():
    centerline = np.zeros((40, 60), np.float32)
    centerline[19:22, 5:55] = 0.9
    first, again, other = (Seeds.on_map(centerline, 0.5, 0.0, s).take(99) for s in (0, 0, 1))
    np.testing.assert_allclose(first[:, 0], 20, atol=0.1)
    assert len(first) > 40
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_seeds_near_the_trace_are_dropped_and_those_near_each_other_wait():
    seeds = Seeds(np.array([[0.0, 0], [0, 3], [0, 4], [10, 5], [13.9, 5], [14, 5], [10, 14]]), 4.0, spacing=4.0)
    seeds.cover(np.array([[[10.0, 0], [10, 10.0]]]))
    assert seeds.take(9).tolist() == [[0, 0], [0, 4], [14, 5], [10, 14]]
    assert seeds.take(9, np.array([[0.0, 0]])).shape == (0, 2)
    assert seeds.take(9).tolist() == [[0, 3]]
    assert seeds.take(9).shape == (0, 2)


@pytest.mark.parametrize("shape", [(40, 60), (16, 24, 30)])
def test_the_skeleton_does_not_depend_on_the_empty_space_around(shape):
    rng = np.random.default_rng(0)
    inside = tuple(slice(5, -4) for _ in shape)
    centerline = np.zeros(shape, np.float32)
    centerline[inside] = gaussian_filter(rng.random(centerline[inside].shape), 1.5)
    pixels = skeleton_pixels(centerline, float(np.median(centerline[inside])))
    whole = np.argwhere(skeletonize(centerline >= np.median(centerline[inside])))
    np.testing.assert_array_equal(pixels, whole)
    np.testing.assert_array_equal(skeleton_pixels(np.pad(centerline, 3), 0.5) - 3, skeleton_pixels(centerline, 0.5))


def test_seeds_of_one_box_come_together():
    centerline = np.zeros((16, 64, 64), np.float32)
    centerline[8, 10:60:8] = 0.9
    near = Seeds.on_map(centerline, 0.5, 0.0, 0, tile_shape=(16, 32, 32)).take(999)
    box = (near // (16, 32, 32)) @ (4, 2, 1)
    assert len(near) > 100 and (np.diff(box) >= 0).all() and len(set(box.tolist())) == 4
    far = Seeds.on_map(centerline, 0.5, 0.0, 0).take(999)
    assert sorted(map(tuple, near)) == sorted(map(tuple, far))


def test_no_seeds():
    seeds = Seeds.on_map(np.zeros((4, 5, 6), np.float32), 0.5, 4.0, 0)
    seeds.cover(np.zeros((1, 2, 3)))
    assert seeds.take(3).shape == (0, 3)
