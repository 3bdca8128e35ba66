"""Geodesic distances compared with scikit-image's minimum-cost paths."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from skimage.graph import MCP_Geometric

from lib.errors import UserError
from tools.tracing.growth.geodesic import _doubled_grid, shortest_paths

SHAPES = [(9, 13), (5, 8, 9)]
SPACINGS = {2: [None, (2.0, 0.5)], 3: [None, (3.0, 1.0, 0.5)]}
CASES = [(shape, spacing) for shape in SHAPES for spacing in SPACINGS[len(shape)]]


def random_maps(shape, batch=4, seed=0):
    """Random edge maps and starts."""
    rng = np.random.default_rng(seed)
    starts = np.stack([rng.integers(0, size, batch) for size in shape], axis=1)
    return rng.uniform(0, 1, (batch, *shape)).astype(np.float32), starts


def geodesic_distances(edge, starts, **options):
    """Distances of all pixels from the starts of their maps."""
    pixels = np.indices(edge.shape).reshape(edge.ndim, -1).T
    return shortest_paths(edge, starts, pixels[:, 0], pixels[:, 1:], **options).distance.reshape(edge.shape)


def reference(edge, start, spacing, inside=True):
    """Distances of one map. MCP_Geometric uses the trapezoid rule (MCP does not); negative costs block."""
    cost = np.where(inside, np.exp(10 * (1 - edge.astype(float))) - 1, -1)
    paths = MCP_Geometric(cost, fully_connected=False, sampling=spacing)
    return paths.find_costs([tuple(start)])[0], paths


@pytest.mark.parametrize("shape, spacing", CASES)
def test_distances_equal_the_reference(shape, spacing):
    edge, starts = random_maps(shape)
    ours = geodesic_distances(edge, starts, spacing=spacing)
    for distance, one, start in zip(ours, edge, starts, strict=True):
        np.testing.assert_allclose(distance, reference(one, start, spacing)[0], rtol=1e-6)


@pytest.mark.parametrize("shape, spacing", CASES)
def test_no_pixel_beyond_the_reach_is_entered(shape, spacing):
    edge, starts = random_maps(shape)
    ours = geodesic_distances(edge, starts, reach=3.5, spacing=spacing)
    for distance, one, start in zip(ours, edge, starts, strict=True):
        lengths = (1,) * len(shape) if spacing is None else spacing
        offset = [(axis - s) * n for axis, s, n in zip(np.indices(shape), start, lengths, strict=True)]
        inside = sum(along**2 for along in offset) <= 3.5**2
        assert np.isinf(distance[~inside]).all()
        np.testing.assert_allclose(distance[inside], reference(one, start, spacing, inside)[0][inside], rtol=1e-6)


@pytest.mark.parametrize("shape, spacing", CASES)
def test_paths_to_targets_equal_the_reference(shape, spacing):
    edge, starts = random_maps(shape)
    owner = np.array([0, 0, 0, 2, 3])  # Map 1 has no target.
    targets = np.stack([np.random.default_rng(1).integers(0, size, 5) for size in shape], axis=1)
    targets[1] = targets[0]  # The same target twice.
    targets[3] = starts[2]  # The start itself.
    paths = shortest_paths(edge, starts, owner, targets, spacing=spacing)
    for k, b in enumerate(owner):
        costs, finder = reference(edge[b], starts[b], spacing)
        assert paths.distance[k] == pytest.approx(costs[tuple(targets[k])])
        along = [edge[b][pixel] for pixel in finder.traceback(tuple(targets[k]))]
        assert paths.edge_mean[k] == pytest.approx(np.mean(along), abs=1e-6)


def test_a_target_beyond_the_reach_has_no_path():
    edge = np.full((1, 5, 9), 0.5, np.float32)
    paths = shortest_paths(edge, np.array([[2, 1]]), np.zeros(2, int), np.array([[2, 7], [2, 2]]), reach=3)
    assert paths.distance.tolist() == [np.inf, pytest.approx(np.exp(5) - 1)]
    assert paths.edge_mean.tolist() == [0, pytest.approx(0.5)]


def test_an_edge_of_probability_one_costs_nothing_nor_does_one_above():
    edge = np.zeros((1, 3, 5), np.float32)
    edge[0, 1] = [1.0, 1.0, 1.0001, 1.0, 1.0]
    distance = geodesic_distances(edge, np.array([[1, 0]]))[0]
    assert distance[1].tolist() == [0, 0, 0, 0, 0]
    np.testing.assert_allclose(distance[0], (np.exp(10) - 1) / 2)


def test_starts_that_do_not_fit_their_maps_are_refused():
    edge = np.zeros((2, 4, 4), np.float32)
    with pytest.raises(ValueError, match="do not fit"):
        geodesic_distances(edge, np.zeros((1, 2), int))
    with pytest.raises(ValueError, match="outside"):
        geodesic_distances(edge, np.array([[0, 0], [4, 0]]))


def test_without_geodistk_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "GeodisTK", None)
    with pytest.raises(UserError, match="make geodistk"):
        geodesic_distances(np.zeros((1, 4, 4), np.float32), np.zeros((1, 2), int), solver="geodistk")


def difference_distances(grid, start):
    """Distances by GeodisTK's rule: all neighbours; a step costs the difference of the vectors times its length."""
    shape = grid.shape[:-1]
    index = np.arange(np.prod(shape)).reshape(shape)
    rows, columns, costs = [], [], []
    for offset in np.ndindex((3,) * len(shape)):
        step = np.array(offset) - 1
        here = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, shape, strict=True))
        there = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(step, shape, strict=True))
        rows.append(index[here].ravel())
        columns.append(index[there].ravel())
        costs.append((np.linalg.norm(grid[here] - grid[there], axis=-1) * np.linalg.norm(step)).ravel())
    # scipy reads a stored 0 as no edge, so free steps cost almost nothing.
    entries = (np.maximum(np.concatenate(costs), 1e-12), (np.concatenate(rows), np.concatenate(columns)))
    graph = coo_array(entries, shape=(index.size, index.size))
    return dijkstra(graph.tocsr(), indices=index[tuple(start)]).reshape(shape)


@pytest.mark.parametrize("shape, spacing", [((5, 6), (1.0, 1.0)), ((3, 4, 4), (3.0, 1.0, 0.5))])
def test_geodistks_rule_gives_our_distances_on_the_doubled_grid(shape, spacing):
    edge, starts = random_maps(shape, batch=3)
    ours = geodesic_distances(edge, starts, spacing=spacing)
    for distance, one, start in zip(ours, edge, starts, strict=True):
        grid = _doubled_grid(np.exp(10 * (1 - one.astype(float))) - 1, spacing).astype(np.float64)
        theirs = difference_distances(grid, 2 * start)[(slice(None, None, 2),) * len(shape)]
        np.testing.assert_allclose(theirs, distance, rtol=1e-5)


@pytest.mark.parametrize("shape, spacing", CASES)
def test_geodistk_gives_our_distances(shape, spacing):
    pytest.importorskip("GeodisTK")
    edge, starts = random_maps(shape)
    for reach in (np.inf, 3.5):
        ours = geodesic_distances(edge, starts, reach=reach, spacing=spacing)
        theirs = geodesic_distances(edge, starts, reach=reach, spacing=spacing, solver="geodistk")
        np.testing.assert_allclose(theirs, ours, rtol=1e-4)
