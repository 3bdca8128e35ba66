"""The edge index, compared with brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lib.swclib import EdgeIndex
from lib.swclib.edge_index import CELL


def distances_to_edges(point: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    along = ends - starts
    fraction = np.clip(((point - starts) * along).sum(1) / (along**2).sum(1), 0, 1)
    return np.linalg.norm(starts + fraction[:, None] * along - point, axis=1)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("length", [5, 40])  # Within a cell, and through several.
def test_nearest_equals_brute_force(ndim, length):
    rng = np.random.default_rng(ndim)
    starts = rng.uniform(0, 60, (300, ndim))
    ends = starts + rng.normal(0, length, (300, ndim))
    index = EdgeIndex(ndim)
    assert [index.insert(*edge) for edge in zip(starts, ends, strict=True)] == list(range(300))
    assert len(index) == 300
    # Places on the borders of cells as well.
    points = rng.uniform(-5, 65, (100, ndim))
    for point in [*points, *np.round(points / 16) * 16]:
        truth = distances_to_edges(point, starts, ends)
        near = index.nearest(point, 6.0)
        assert (near is None) == (truth.min() >= 6)
        if near is None:
            continue
        assert near.edge == truth.argmin()
        assert near.distance == pytest.approx(truth.min())
        edge = ends[near.edge] - starts[near.edge]
        np.testing.assert_allclose(near.foot, starts[near.edge] + near.fraction * edge)


def edge_near(index: EdgeIndex, point: list[float], radius: float, exclude: Any = ()) -> int | None:
    near = index.nearest(point, radius, exclude)
    return None if near is None else near.edge


def test_radius_is_exclusive_and_edges_can_be_excluded():
    index = EdgeIndex(2)
    index.insert([0, 0], [0, 10])
    index.insert([5, 0], [5, 10])
    assert edge_near(index, [2, 5], 2.0) is None
    assert edge_near(index, [2, 5], 2.001) == 0
    assert edge_near(index, [2, 5], 10.0, exclude={0}) == 1
    assert edge_near(index, [2, 5], 10.0, exclude=lambda edge: edge < 2) is None


def test_an_edge_through_the_corner_of_a_cell_is_found_from_every_side():
    index = EdgeIndex(2)
    index.insert([CELL - 8, CELL - 8], [CELL + 8, CELL + 8])
    for aside in ((0, 0), (1, -1), (-1, 1), (7, 7), (-7, -7)):
        assert edge_near(index, [CELL + aside[0], CELL + aside[1]], 1.5) == 0


def test_tie_edges_without_length_and_wrong_sizes():
    index = EdgeIndex(3)
    assert index.nearest([0, 0, 0], 5.0) is None
    for place in ([1, 0, 0], [-1, 0, 0], [0, 1, 0]):
        index.insert(place, place)
    near = index.nearest([0, 0, 0], 5.0)
    assert near is not None
    assert near.edge == 0 and near.fraction == 0 and near.foot.tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="3 coordinates"):
        index.insert([0, 0], [1, 1])
    with pytest.raises(ValueError, match="ndim"):
        EdgeIndex(4)
