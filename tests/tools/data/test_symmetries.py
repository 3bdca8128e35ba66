"""Flips and quarter turns of tiles."""

from __future__ import annotations

import numpy as np
import pytest

from tools.data.symmetries import Symmetry


def all_symmetries(ndim: int) -> list[Symmetry]:
    flips = np.stack(np.meshgrid(*[[False, True]] * ndim), axis=-1).reshape(-1, ndim).tolist()
    return [Symmetry(tuple(flip), transpose) for flip in flips for transpose in (False, True)]


@pytest.mark.parametrize("shape", [(9, 9), (5, 9, 9)])
def test_pixels_and_positions_move_alike(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for symmetry in all_symmetries(len(shape)):
        pixel = rng.integers(0, shape)
        image = np.zeros(shape)
        image[tuple(pixel)] = 1
        (moved,) = np.argwhere(symmetry.pixels(image))
        np.testing.assert_array_equal(symmetry.positions(pixel.astype(float), shape), moved)
        seen.add(symmetry.pixels(np.arange(np.prod(shape)).reshape(shape)).tobytes())
    assert len(seen) == 2 ** (len(shape) + 1)


def test_every_symmetry_is_drawn() -> None:
    rng = np.random.default_rng(0)
    assert len({Symmetry.draw(rng, 2) for _ in range(100)}) == 8
