"""The edge index, compared with brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lib.swclib import EdgeIndex


def distances_to_edges(point: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    along = ends - starts
    fraction = np.clip(((point - starts) * along).sum(1) / (along**2).sum(1), 0, 1)
    return np.linalg.norm(starts + fraction[:, None] * along - point, axis=1)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("bulk", [False, True])
def test_nearest_equals_brute_force(ndim, bulk):
    rng = np.random.default_rng(ndim)
    starts = rng.uniform(0, 60, (300, ndim))
    ends = starts + rng.normal(0, 5, (300, ndim))
    index = EdgeIndex(ndim)
    if bulk:
        assert index.insert_many(starts, ends, range(1000, 1300)).tolist() == list(range(300))
    else:
        assert [index.insert(*edge, 1000 + i) for i, edge in enumerate(zip(starts, ends, strict=True))][-1] == 299
    assert len(index) == 300
    for point in rng.uniform(-5, 65, (100, ndim)):
        truth = distances_to_edges(point, starts, ends)
        near = index.nearest(point, 6.0)
        assert (near is None) == (truth.min() >= 6)
        if near is None:
            continue
        assert near.edge == truth.argmin() and near.payload == 1000 + near.edge
        assert near.distance == pytest.approx(truth.min())
        edge = ends[near.edge] - starts[near.edge]
        np.testing.assert_allclose(near.foot, starts[near.edge] + near.fraction * edge)


def payload_near(index: EdgeIndex, point: list[float], radius: float, exclude: Any = ()) -> int | None:
    near = index.nearest(point, radius, exclude)
    return None if near is None else near.payload


def test_radius_is_exclusive_and_payloads_can_be_excluded():
    index = EdgeIndex(2)
    index.insert([0, 0], [0, 10], payload=7)
    index.insert([5, 0], [5, 10], payload=8)
    assert payload_near(index, [2, 5], 2.0) is None
    assert payload_near(index, [2, 5], 2.001) == 7
    assert payload_near(index, [2, 5], 10.0, exclude={7}) == 8
    assert payload_near(index, [2, 5], 10.0, exclude=lambda payload: payload < 9) is None


def test_tie_edges_without_length_and_wrong_sizes():
    index = EdgeIndex(3)
    assert index.nearest([0, 0, 0], 5.0) is None
    index.insert_many([[1, 0, 0], [-1, 0, 0]], [[1, 0, 0], [-1, 0, 0]], [1, 2])  # edges without length
    index.insert_many([[0, 1, 0]], [[0, 1, 0]], [3])
    near = index.nearest([0, 0, 0], 5.0)
    assert near is not None
    assert near.payload == 1 and near.fraction == 0 and near.foot.tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="3 coordinates"):
        index.insert([0, 0], [1, 1], 4)
    with pytest.raises(ValueError, match="ndim"):
        EdgeIndex(4)
