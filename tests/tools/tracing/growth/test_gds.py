"""The geodesic distance-based search, on the synthetic maps of benchmarks/geodistk.py and others."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from skimage.graph import MCP_Geometric

from benchmarks.geodistk import TIP, Case, all_cases, blob, cases, search, tube
from tools.tracing.growth.gds import Candidates, Search, find_candidates, search_batch, unit_directions

R2 = Search(r=2)
BY_NAME = {case.name: case for case in cases()}
TIPS = np.array([TIP])
SHAPE_3D = (16, 40, 40)
TIP_3D = np.array([[8.0, 20.0, 20.0]])


def assert_same(a: Candidates, b: Candidates) -> None:
    """Equal to the last bit."""
    for field in fields(Candidates):
        np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), err_msg=field.name)


@pytest.mark.parametrize("case", list(all_cases()), ids=lambda case: case.name)
def test_the_winner_is_the_right_node(case: Case):
    winner = search(case, R2).winners()
    assert len(winner) == 1
    np.testing.assert_allclose(winner.position[0], case.expected, atol=0.5)


@pytest.mark.parametrize("name", ["fork", "parallel", "crossing", "curved"])
def test_without_the_edge_the_brightest_node_wins_and_is_wrong(name: str):
    found = search(BY_NAME[name], R2, use_edge=False)
    assert np.all(np.diff(found.score) <= 0)
    assert np.isnan(found.geodesic).all()
    assert np.linalg.norm(found.position[0] - BY_NAME[name].expected) > 3


def test_edge_mean_is_low_for_a_candidate_across_a_gap():
    fork, parallel = (search(BY_NAME[name], R2).edge_mean for name in ("fork", "parallel"))
    assert len(fork) == 2 and fork.min() > 0.7
    assert len(parallel) == 2 and parallel[0] > 0.9 and parallel[1] < 0.8


@pytest.mark.parametrize("sigma", [1.2, 1.5, 2.0, 2.5])
@pytest.mark.parametrize("fraction", [(0.0, 0.0), (0.3, -0.4), (0.5, 0.5), (-0.25, 0.1)])
def test_a_gaussian_is_found_to_a_tenth_of_a_pixel(sigma, fraction):
    centre = np.array([28.0, 42.0]) + fraction
    found = find_candidates(blob(tuple(centre), 0.9, sigma)[None], TIPS, R2)
    assert len(found) == 1
    np.testing.assert_allclose(found.position[0], centre, atol=0.1)


def test_a_gaussian_in_a_volume_is_found_to_a_tenth_of_a_voxel():
    centre = np.array([9.4, 14.3, 24.6])
    found = find_candidates(blob(tuple(centre), 0.9, 1.5, SHAPE_3D)[None], TIP_3D, R2)
    np.testing.assert_allclose(found.position, [centre], atol=0.1)


def test_a_flat_topped_node_is_one_candidate_at_its_centre():
    centre = np.array([28.3, 41.8])
    distance = np.linalg.norm(np.moveaxis(np.indices((64, 64)), 0, -1) - centre, axis=-1)
    node = 1 / (1 + np.exp(8 * (distance - 2.35)))
    rim = np.unravel_index(np.where(distance < 2.2, distance, 0).argmax(), node.shape)
    node[rim] += 0.01  # The peak, far from the centre.
    found = find_candidates(node[None].astype(np.float32), TIPS, R2)
    assert len(found) == 1
    np.testing.assert_allclose(found.position[0], centre, atol=0.15)


def test_a_bright_neighbour_does_not_pull_the_centre_over():
    node = np.maximum(blob((32, 42), 0.6), blob((36, 42), 0.95))
    found = find_candidates(node[None], TIPS, R2)
    np.testing.assert_allclose(found.position, [[36, 42], [32, 42]], atol=0.3)


@pytest.mark.parametrize("value", [0.0, 0.015])
def test_an_empty_node_map_has_no_candidates(value: float):
    node = np.full((2, 64, 64), value, np.float32)
    found = search_batch(node, node, np.repeat(TIPS, 2, axis=0), R2)
    assert len(found) == 0 and len(found.winners()) == 0
    assert found.position.shape == (0, 2)
    assert len(search_batch(node[:0], node[:0], TIPS[:0], R2)) == 0


@pytest.mark.parametrize(
    "place, peak, found",
    [
        ((32, 45), 0.9, True),
        ((32, 33), 0.9, False),  # At the tip, its rim beyond r.
        ((32, 2), 0.9, False),  # In the border.
        ((32, 53), 0.9, False),  # 21 px away, more than 10·r.
        ((32, 50), 0.9, True),
        ((45, 32), 0.018, False),  # Below min_node.
    ],
)
def test_candidates_lie_off_the_tip_and_the_border_within_ten_radii(place, peak, found):
    node = blob(place, peak, sigma=0.7)[None]
    assert len(find_candidates(node, TIPS, R2)) == found


def test_border_and_floor_are_settings():
    tips = np.array([[32.0, 8.0]])
    border = blob((32, 2), 0.9, 0.7)
    assert len(find_candidates(border[None], tips, R2)) == 0
    assert len(find_candidates(border[None], tips, Search(r=2, border=(4, 0)))) == 1
    two = np.maximum(blob((20, 8), 0.9), blob((44, 8), 0.4))
    assert len(find_candidates(two[None], tips, R2)) == 1
    assert len(find_candidates(two[None], tips, Search(r=2, floor=0.3))) == 2


def test_each_direction_has_one_candidate():
    node = np.maximum(blob((32, 40), 0.6), blob((32, 48), 0.9))[None]
    found = find_candidates(node, TIPS, R2)
    np.testing.assert_allclose(found.position, [[32, 48]], atol=0.1)
    beside = np.maximum(blob((30, 40), 0.6), blob((34, 48), 0.9))[None]
    assert len(find_candidates(beside, TIPS, R2)) == 2


@pytest.mark.parametrize("ndim", [2, 3])
def test_directions_are_unit_vectors_and_spread(ndim):
    directions = unit_directions(50, ndim)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    nearest = np.sort(directions @ directions.T, axis=1)[:, -2]
    # In 2D the spacing is 7.2°; 50 points on a sphere have a spacing of about 28°.
    assert np.degrees(np.arccos(nearest)).min() > (7.1 if ndim == 2 else 20)


def test_ties_are_broken_by_distance_then_by_pixel():
    node = np.maximum.reduce([blob(p, 0.9) for p in [(32, 42), (22, 32), (42, 32), (32, 20)]])[None]
    edge = np.ones((1, 64, 64), np.float32)  # Costs nothing anywhere.
    found = search_batch(node, edge, TIPS, R2)
    assert found.geodesic.tolist() == [0, 0, 0, 0]
    np.testing.assert_allclose(found.position[-1], [32, 20], atol=0.1)
    assert_same(found, search_batch(node.copy(), edge, TIPS, R2))
    level = find_candidates(node, TIPS, R2)
    assert np.round(level.position).tolist() == [[22, 32], [32, 20], [32, 42], [42, 32]]


def test_a_result_does_not_depend_on_the_rest_of_the_batch():
    several = list(all_cases()) * 3
    node, edge = np.stack([c.node for c in several]), np.stack([c.edge for c in several])
    tips = np.array(TIP) + np.random.default_rng(0).uniform(-0.5, 0.5, (len(several), 2))
    together = search_batch(node, edge, tips, R2)
    assert np.all(np.diff(together.owner) >= 0)
    for b in range(len(several)):
        alone = search_batch(node[b : b + 1], edge[b : b + 1], tips[b : b + 1], R2)
        own = together.take(together.owner == b)
        assert_same(alone, Candidates(own.owner - b, own.position, own.score, own.geodesic, own.edge_mean))


@pytest.mark.parametrize("spacing", [None, (4.0, 1.0, 1.0)])
def test_the_nearest_node_of_a_volume_depends_on_the_spacing(spacing):
    up, along = (11.0, 20.0, 20.0), (8.0, 20.0, 25.0)
    node = np.maximum(blob(up, 0.8, 1.0, SHAPE_3D), blob(along, 0.8, 1.0, SHAPE_3D))[None]
    edge = np.maximum(tube([tuple(TIP_3D[0]), up], shape=SHAPE_3D), tube([tuple(TIP_3D[0]), along], shape=SHAPE_3D))[
        None
    ]
    found = search_batch(node, edge, TIP_3D, Search(r=2, border=(2, 4, 4), spacing=spacing))
    assert len(found) == 2
    np.testing.assert_allclose(found.position[0], up if spacing is None else along, atol=0.1)


def reference_peaks(node: np.ndarray, tip: np.ndarray, r: float, border=(4, 4)) -> list[tuple[int, ...]]:
    """Peaks by taking the brightest pixel and removing a disc while any is above half; for nodes smaller than r."""
    grid = np.moveaxis(np.indices(node.shape), 0, -1)
    left = np.zeros_like(node)
    inner = tuple(slice(width, -width) for width in border)
    left[inner] = node[inner]
    left[np.linalg.norm(grid - tip, axis=-1) <= r] = 0
    floor = max(0.5 * left.max(), 0.1)
    peaks = []
    while left.max() > floor:
        peak = np.unravel_index(left.argmax(), left.shape)
        peaks.append(peak)
        left[np.linalg.norm(grid - peak, axis=-1) <= r] = 0
    return [p for p in peaks if np.linalg.norm(np.array(p) - tip) <= 10 * r]


@pytest.mark.parametrize("seed", range(8))
def test_search_equals_the_reference(seed):
    rng = np.random.default_rng(seed)
    places = rng.permutation([(y, x) for y in range(12, 56, 8) for x in range(12, 56, 8)])[:8]
    node = np.maximum.reduce([blob(p, peak, 0.8) for p, peak in zip(places, rng.uniform(0.2, 0.95, 8), strict=True)])
    edge = rng.uniform(0, 1, (64, 64)).astype(np.float32)
    tip = np.array([32.3, 31.8])  # All nodes lie in different directions from here.
    found = search_batch(node[None], edge[None], tip[None], Search(r=2, num_vec=100_000))
    peaks = reference_peaks(node, tip, 2)
    cost = np.where(np.hypot(*(np.indices(edge.shape) - 32)) <= 22, np.exp(10 * (1 - edge.astype(float))) - 1, -1)
    far = MCP_Geometric(cost, fully_connected=False).find_costs([(32, 32)])[0]
    order = sorted(range(len(peaks)), key=lambda k: far[peaks[k]])
    assert np.round(found.position).tolist() == [list(peaks[k]) for k in order]
    np.testing.assert_allclose(found.geodesic, [far[peaks[k]] for k in order])
    np.testing.assert_allclose(found.score, [node[peaks[k]] for k in order])


@pytest.mark.parametrize("seed", range(4))
def test_search_equals_the_reference_in_a_volume_of_flat_voxels(seed):
    rng = np.random.default_rng(seed)
    spacing, border = (2.0, 1.0, 1.0), (2, 4, 4)
    grid = [(z, y, x) for z in (4, 8, 12) for y in range(6, 36, 7) for x in range(6, 36, 7)]
    places = rng.permutation(grid)[:10]
    peaks = rng.uniform(0.2, 0.95, 10)
    node = np.maximum.reduce([blob(p, peak, 0.8, SHAPE_3D) for p, peak in zip(places, peaks, strict=True)])
    edge = rng.uniform(0, 1, SHAPE_3D).astype(np.float32)
    tip = np.array([8.3, 19.8, 20.1])
    found = search_batch(node[None], edge[None], tip[None], Search(2, 100_000, border=border, spacing=spacing))
    units = np.linalg.norm((np.moveaxis(np.indices(SHAPE_3D), 0, -1) - np.round(tip)) * spacing, axis=-1)
    cost = np.where(units <= 22, np.exp(10 * (1 - edge.astype(float))) - 1, -1)
    far = MCP_Geometric(cost, fully_connected=False, sampling=spacing).find_costs([tuple(np.round(tip).astype(int))])[0]
    true = [p for p in reference_peaks(node, tip, 2, border) if np.linalg.norm((np.array(p) - tip) * spacing) <= 20]
    assert len(true) > 1
    order = sorted(true, key=lambda p: far[p])
    assert np.round(found.position).tolist() == [list(p) for p in order]
    np.testing.assert_allclose(found.geodesic, [far[p] for p in order])


@pytest.mark.parametrize("across", [(0, 1), (1, 0), (0.7, 0.7)])
@pytest.mark.parametrize("fainter", [1.0, 0.8])
def test_two_nodes_four_pixels_from_each_other_are_separated_with_the_slack_of_volumes(across, fainter):
    ours = np.array([8.0, 28.3, 20.2])
    other = ours + 4 * np.array([*across, 0]) / np.linalg.norm(across)
    node = np.maximum(blob(tuple(ours), 0.9 * fainter, 2.0, SHAPE_3D), blob(tuple(other), 0.9, 2.0, SHAPE_3D))[None]
    edge = tube([tuple(TIP_3D[0]), tuple(ours)], shape=SHAPE_3D)[None]
    found = search_batch(node, edge, TIP_3D, Search(2, 800, border=(2, 4, 4), slack=0.1))
    assert len(found) == 2
    np.testing.assert_allclose(found.position[0], ours, atol=0.6)


def test_the_length_of_a_step_is_measured_in_units():
    node = blob((14, 20, 20), 0.9, 0.8, (24, 40, 40))[None]
    tip = np.array([[6.0, 20.0, 20.0]])
    near, far = (Search(2, border=(2, 4, 4), spacing=(size, 1.0, 1.0)) for size in (2.4, 2.6))
    assert len(find_candidates(node, tip, near)) == 1 and len(find_candidates(node, tip, far)) == 0


def test_maps_and_tips_of_different_numbers_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        find_candidates(np.zeros((2, 64, 64), np.float32), TIPS, R2)
