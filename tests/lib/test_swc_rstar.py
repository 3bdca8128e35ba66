"""The order of search is that of the package rtree, box by box."""

from __future__ import annotations

import numpy as np
import pytest
from rtree import index

from lib.swclib.rstar import search_order


def order_of_rtree(low: np.ndarray, high: np.ndarray) -> list[int]:
    tree = index.Index(properties=index.Property(dimension=low.shape[1]))
    for number, box in enumerate(np.hstack([low, high]).tolist()):
        tree.insert(number, box)
    found = list(tree.intersection([*(low.min(axis=0) - 1), *(high.max(axis=0) + 1)]))
    return np.argsort(found).tolist()


def walks(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes along wandering lines on a quarter-pixel grid in a plane, where many lie equally well; one radius."""
    rng = np.random.default_rng(seed)
    places = np.round(np.cumsum(rng.normal(0, 2, (n + 1, 3)), axis=0) * 4) / 4 * [1, 1, 0]
    return np.minimum(places[1:], places[:-1]) - 1, np.maximum(places[1:], places[:-1]) + 1


@pytest.mark.parametrize("n", [1, 2, 100, 101, 180, 400, 2500])
@pytest.mark.parametrize("ndim", [2, 3])
def test_scattered_boxes(n: int, ndim: int) -> None:
    rng = np.random.default_rng(n)
    low = rng.uniform(0, 500, (n, ndim))
    high = low + rng.uniform(0, 10, (n, ndim))
    assert search_order(low, high).tolist() == order_of_rtree(low, high)


@pytest.mark.parametrize(("n", "seed"), [(300, 0), (1000, 1), (3000, 2), (9000, 3)])
def test_boxes_along_a_tree(n: int, seed: int) -> None:
    low, high = walks(n, seed)
    assert search_order(low, high).tolist() == order_of_rtree(low, high)


def test_flat_boxes() -> None:
    """Without a radius all volumes are 0, and everything is a tie."""
    low, high = walks(800, 4)
    assert search_order(low + 1, high - 1).tolist() == order_of_rtree(low + 1, high - 1)


def test_nothing() -> None:
    assert search_order(np.zeros((0, 3)), np.zeros((0, 3))).tolist() == []
