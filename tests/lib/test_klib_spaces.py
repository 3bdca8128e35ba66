"""Image, work and patch space, in particular their offset of half a pixel."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.transform import resize

from lib.klib.spaces import Spaces, patch_corner, relative_spacing
from lib.klib.windows import box


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


@pytest.mark.parametrize("shape", [(61, 84), (18, 23, 27)])
@pytest.mark.parametrize("scale", [0.5, 0.7, 1.25, 2.0])
def test_resize_is_that_of_scikit_image(shape: tuple[int, ...], scale: float) -> None:
    spaces = Spaces.scaled(shape, scale)
    pixels = np.random.default_rng(1).random((*shape, 2), dtype=np.float32)
    expected = resize(pixels, (*spaces.work_shape, 2), order=1, mode="edge", anti_aliasing=scale < 1)
    np.testing.assert_allclose(spaces.resize(pixels), expected, atol=1e-6)


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


def boxes(shape: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Windows of work pixels: the whole, both of its corners, single pixels, and others anywhere."""
    size, rng = np.array(shape), np.random.default_rng(0)
    lows = rng.integers(0, size, (12, len(shape)))
    highs = rng.integers(lows + 1, size + 1)
    zero, third = np.zeros_like(size), np.maximum(size // 3, 1)
    fixed = [(zero, size), (zero, third), (size - third, size), (zero, zero + 1), (size - 1, size)]
    return fixed + list(zip(lows, highs, strict=True))


@pytest.mark.parametrize("shape", [(61, 84), (18, 23, 27)])
@pytest.mark.parametrize("scale", [0.5, 0.7, 1.0, 1.25, 2.0])
def test_a_window_is_resized_to_what_the_whole_has_there(shape: tuple[int, ...], scale: float) -> None:
    spaces = Spaces.scaled(shape, scale)
    pixels = np.random.default_rng(1).random((*shape, 3 if len(shape) == 2 else 1), dtype=np.float32)
    whole = spaces.resize(pixels)
    for low, high in boxes(spaces.work_shape):
        window = spaces.window(low, high)
        part = pixels[box(np.array(window.image_low), np.array(window.image_high))]
        assert part.shape[:-1] == window.image_shape and window.work_low == tuple(low)
        resized = window.resize(part)
        assert resized.shape == (*(high - low), pixels.shape[-1]) and resized.dtype == np.float32
        np.testing.assert_allclose(resized, whole[box(low, high)], atol=1e-6)


@pytest.mark.parametrize("shape", [(61, 84), (18, 23, 27)])
@pytest.mark.parametrize("scale", [0.5, 0.7, 1.0, 1.25, 2.0])
def test_positions_in_a_window_are_those_of_the_whole(shape: tuple[int, ...], scale: float) -> None:
    spaces = Spaces.scaled(shape, scale)
    for low, high in boxes(spaces.work_shape):
        window = spaces.window(low, high)
        positions = np.random.default_rng(2).uniform(-1, window.image_shape, (20, len(shape)))
        np.testing.assert_allclose(window.to_image(window.to_work(positions)), positions, atol=1e-9)
        in_whole = spaces.to_work(positions + window.image_low)
        np.testing.assert_allclose(window.to_work(positions) + low, in_whole, atol=1e-9)
        np.testing.assert_allclose(window.scale, spaces.scale)
        # All its work pixels lie in its image pixels, or beyond the border of the whole.
        corners = window.to_image(np.stack([np.zeros(len(shape)), high - low - 1.0]))
        assert ((corners[0] >= 0) | (np.array(window.image_low) == 0)).all()
        assert ((corners[1] <= np.array(window.image_shape) - 1) | (np.array(window.image_high) == shape)).all()


def test_a_window_reads_little_more_than_it_needs() -> None:
    window = Spaces.scaled((1000, 1000), 0.5).window(np.array([200, 0]), np.array([264, 64]))
    assert max(window.image_shape) <= 2 * 64 + 8 and window.image_low[1] == 0


def test_a_window_of_one_pixel_planes() -> None:
    spaces = Spaces.scaled((1, 30, 30), 0.5)
    pixels = np.random.default_rng(3).random((1, 30, 30, 1), dtype=np.float32)
    window = spaces.window(np.array([0, 4, 4]), np.array([1, 9, 9]))
    part = pixels[box(np.array(window.image_low), np.array(window.image_high))]
    np.testing.assert_allclose(window.resize(part), spaces.resize(pixels)[:, 4:9, 4:9], atol=1e-6)
