"""Views: size and brightness of the image below a drawing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lib.swclib import SwcForest
from tools.pictures.overlay import overlay


def background(image: np.ndarray, **options: Any) -> np.ndarray:
    return overlay(image, SwcForest.empty(), **options)


@pytest.mark.parametrize("zoom", [1, 2, 3, 7])
def test_image_is_dimmed_and_enlarged(zoom: int) -> None:
    image = np.random.default_rng(0).random((20, 31, 3))
    picture = background(image, zoom=zoom)
    assert picture.dtype == np.uint8
    assert picture.shape == (20 * zoom, 31 * zoom, 3)
    assert np.array_equal(picture, np.rint(0.8 * 255 * image).astype(np.uint8).repeat(zoom, 0).repeat(zoom, 1))


@pytest.mark.parametrize("length", [565, 584, 599, 601, 999])
def test_size_is_exact(length: int) -> None:
    assert background(np.zeros((3, length, 1))).shape == (6, 2 * length, 3)
    assert background(np.zeros((length, 3, 1))).shape == (2 * length, 6, 3)


def test_large_images_are_not_enlarged() -> None:
    assert background(np.zeros((4, 1300, 3))).shape == (4, 1300, 3)


def test_volume_is_shown_from_three_sides() -> None:
    """One bright voxel at (z, y, x) = (1, 4, 7) of 3 x 6 x 10 voxels."""
    volume = np.zeros((3, 6, 10, 1), np.float32)
    volume[1, 4, 7] = 1
    picture = background(volume, zoom=1)
    assert picture.shape == (6 + 4 + 3, 10 + 4 + 3, 3)
    bright = {tuple(place) for place in np.argwhere(picture[..., 0] == 204).tolist()}
    assert bright == {(4, 7), (4, 10 + 4 + 1), (6 + 4 + 1, 7)}
    assert np.array_equal(picture, background((255 * volume[..., 0]).astype(np.uint8), zoom=1))


@pytest.mark.parametrize("width", [1, 4])
def test_dark_volume_is_brightened(width: int) -> None:
    """A neurite of 0.12 on a background of 0.05 is clearly visible, even if it covers little of the projections."""
    volume = np.random.default_rng(0).normal(0.05, 0.004, (20, 90, 90)).clip(0, 1)
    volume[8:12, 40 : 40 + width, 10:80] = 0.12
    picture = background(volume, zoom=1)
    neurite, empty = picture[40, 10:80], picture[:30, :90]
    assert neurite.min() > 150
    assert np.percentile(empty, 99) < 80
    assert (background(np.full((4, 90, 90), 0.05), zoom=1)[:90, :90] == round(0.8 * 0.05 * 255)).all()


def test_spacing_enlarges_the_projections() -> None:
    assert background(np.zeros((5, 20, 30, 1)), zoom=1, spacing=(3, 1, 1)).shape == (20 + 4 + 15, 30 + 4 + 15, 3)
