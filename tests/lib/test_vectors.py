"""Directions of vectors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lib.vectors import cosine, unit


@pytest.mark.parametrize("shape", [(3,), (5, 2), (4, 5, 3)])
def test_unit_vectors_have_the_same_direction_and_length_1(shape: tuple[int, ...]) -> None:
    vectors = np.random.default_rng(0).normal(size=shape)
    found = unit(vectors)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1)
    np.testing.assert_allclose(found * np.linalg.norm(vectors, axis=-1, keepdims=True), vectors)


def test_a_vector_of_length_0_has_no_direction_and_stays() -> None:
    assert unit(np.array([[0.0, 0.0], [0.0, -2.0]])).tolist() == [[0, 0], [0, -1]]
    assert cosine(np.zeros(2), np.array([1.0, 0.0])) == 1


def test_the_cosine_of_45_degrees() -> None:
    assert cosine(np.array([2.0, 0.0]), np.array([3.0, 3.0])) == pytest.approx(math.sqrt(0.5))
