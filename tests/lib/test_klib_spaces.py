"""Image, work and patch space, in particular their offset of half a pixel."""

from __future__ import annotations

import numpy as np
import pytest

from lib.klib.spaces import Spaces, patch_corner, relative_spacing


@pytest.mark.parametrize("shape", [(584, 565), (61, 512, 300)])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5, 2.0])
def test_round_trip(shape: tuple[int, ...], scale: float) -> None:
    spaces = Spaces.scaled(shape, scale)
    positions = np.random.default_rng(0).uniform(0, 50, (20, len(shape)))
    np.testing.assert_allclose(spaces.to_image(spaces.to_work(positions)), positions, atol=1e-9)


def test_corners_of_the_image_stay_corners() -> None:
    spaces = Spaces.scaled((10, 15), 1.5)
    assert spaces.work_shape == (15, 22)
    np.testing.assert_allclose(spaces.to_work(np.array([-0.5, -0.5])), [-0.5, -0.5])
    np.testing.assert_allclose(spaces.to_work(np.array([9.5, 14.5])), [14.5, 21.5])


def test_scale_2_puts_a_pixel_between_two_work_pixels() -> None:
    np.testing.assert_allclose(Spaces.scaled((8, 8), 2.0).to_work(np.array([3.0, 0.0])), [6.5, 0.5])


@pytest.mark.parametrize("scale", [0.5, 1.5, 2.0, 2.5])
def test_resize_agrees_with_positions(scale: float) -> None:
    spaces = Spaces.scaled((40, 50), scale)
    # The image holds each pixel's own position; resized, it must hold the image positions of the work pixels.
    grid = np.stack(np.meshgrid(np.arange(40.0), np.arange(50.0), indexing="ij"), axis=-1)
    resized = spaces.resize(grid)
    work = np.stack(np.meshgrid(*map(np.arange, spaces.work_shape), indexing="ij"), axis=-1)
    inner = (slice(8, -8),) * 2
    np.testing.assert_allclose(resized[inner], spaces.to_image(work)[inner], atol=1e-3)


def test_equal_size_keeps_pixels() -> None:
    pixels = np.random.default_rng(0).random((5, 6, 3), dtype=np.float32)
    assert np.array_equal(Spaces.scaled((5, 6), 1.0).resize(pixels), pixels)


@pytest.mark.parametrize(
    ("position", "corner"), [([32.0, 40.4], [0, 8]), ([31.6, 40.6], [0, 9]), ([3.0, 0.0], [-29, -32])]
)
def test_position_is_in_the_middle_pixel_of_its_patch(position: list[float], corner: list[int]) -> None:
    assert patch_corner(np.array([position]), (64, 64)).tolist() == [corner]


def test_spacing_relative_to_the_finest_axis() -> None:
    assert relative_spacing((1.0, 0.25, 0.5)) == (4.0, 1.0, 2.0)
    assert relative_spacing((3.0, 3.0)) == (1.0, 1.0)
    for wrong in [(1.0, 0.0), (1.0, -1.0), (1.0, float("nan"))]:
        with pytest.raises(ValueError, match="positive"):
            relative_spacing(wrong)
