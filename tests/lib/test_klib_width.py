"""Widths of drawn tubes, in images with several of them and in hard cases one at a time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

from lib.klib.width import SPACING, node_widths, tube_widths
from lib.swclib import SwcForest

WIDTHS = (1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
FINER = 6
"""Drawn pixels along a pixel of the image."""
ANGLE = np.radians(10)


def allowed(width: float) -> float:
    """Half a pixel, or a tenth of the widths above 5 pixels."""
    return max(0.5, 0.1 * width)


def tubes(*, blur: float, noise: float, dark: bool = True, stripe: float = 0.0) -> tuple[np.ndarray, list[np.ndarray]]:
    """An image with parallel tubes of all widths, and a path along each, a fifth of a pixel inexact."""
    shape, contrast, rng = (230, 150), -0.2 if dark else 0.2, np.random.default_rng(0)
    y, x = ((np.indices([size * FINER for size in shape]) + 0.5) / FINER - 0.5).astype(np.float32)
    drawn, lines, top = np.zeros(y.shape, np.float32), [], 10.0
    for width in WIDTHS:
        across = np.abs((y - top) * np.cos(ANGLE) - (x - 20) * np.sin(ANGLE))
        drawn = np.maximum(drawn, across <= width / 2)
        if width >= 8:
            drawn -= stripe * (across <= width / 6)
        along = np.arange(0.0, 115, SPACING)
        lines.append(np.stack([top + along * np.sin(ANGLE), 20 + along * np.cos(ANGLE)], axis=1))
        top += max(12.0, 1.6 * width + 12)
    small = drawn.reshape(shape[0], FINER, shape[1], FINER).mean(axis=(1, 3))
    image = 0.5 + contrast * gaussian_filter(small, blur) + 0.0005 * np.arange(shape[1]) + rng.normal(0, noise, shape)
    return np.repeat(image[..., None], 3, axis=-1), [line + rng.normal(0, 0.2, line.shape) for line in lines]


@pytest.mark.parametrize(("blur", "noise"), [(0.5, 0.01), (0.8, 0.02), (1.0, 0.015)])
@pytest.mark.parametrize("dark", [True, False], ids=["dark", "bright"])
def test_widths_of_one_and_a_half_to_twenty_pixels(blur, noise, dark):
    image, lines = tubes(blur=blur, noise=noise, dark=dark)
    for width, found in zip(WIDTHS, tube_widths(image, lines), strict=True):
        # A tube that is narrower than twice the blur cannot be told from a fainter, wider one.
        if width >= 2 * blur:
            share = 90 if width > 2 * blur + 1 else 50
            assert np.percentile(np.abs(found[3:-3] - width), share) <= allowed(width), width


def test_a_bright_stripe_along_the_middle_of_dark_tubes():
    image, lines = tubes(blur=0.5, noise=0.01, stripe=0.4)
    for width, found in zip(WIDTHS, tube_widths(image, lines), strict=True):
        assert np.median(np.abs(found - width)) <= allowed(width), width


def test_the_clearest_channel_is_used():
    image, lines = tubes(blur=0.8, noise=0.02)
    image[..., [0, 2]] = np.random.default_rng(1).normal(0.5, 0.2, (*image.shape[:2], 2))
    for width, found in zip(WIDTHS, tube_widths(image, lines), strict=True):
        assert abs(np.median(found) - width) <= allowed(width), width


def test_a_saturated_channel_is_not_the_clearest():
    image, lines = tubes(blur=0.8, noise=0.02)
    image[..., 0] = 1.0
    image[:20, :, 0] -= 0.003 * np.random.default_rng(0).random(image[:20].shape[:2])
    for width, found in zip(WIDTHS, tube_widths(image, lines), strict=True):
        assert abs(np.median(found) - width) <= allowed(width), width


def test_a_traced_neighbour_beside_a_tube_does_not_widen_it():
    image = np.full((60, 120, 1), 0.5, np.float32)
    image[28:32] = image[36:40] = 0.3  # two tubes, 4 pixels wide and 4 apart
    image = gaussian_filter(image, (0.6, 0.6, 0))
    x = np.arange(10.0, 110, SPACING)
    lines = [np.stack([np.full_like(x, y), x], axis=1) for y in (29.5, 37.5)]
    for found in tube_widths(image, lines):
        np.testing.assert_allclose(found, 4.0, atol=0.4)


@pytest.mark.parametrize("enlarged", [1, 2, 3])
def test_faint_lines_within_a_tube_are_not_taken_for_it(enlarged):
    x = np.arange(10.0, 110, SPACING)
    across = np.abs(np.arange(80.0) - 40)[:, None]
    image = np.where(across <= 6, 0.6, 0.3) - 0.03 * (across <= 1) + 0 * np.arange(120)
    image = zoom(gaussian_filter(image, 0.6), enlarged, order=1, grid_mode=True, mode="nearest")[..., None]
    line = (np.stack([np.full_like(x, 40.0), x], axis=1) + 0.5) * enlarged - 0.5
    (found,) = tube_widths(image, [line])
    np.testing.assert_allclose(np.median(found), 13.0 * enlarged, rtol=0.1)


def test_a_cone_gets_wider():
    y, x = np.mgrid[:60, :200].astype(float)
    half = 2 + 3 * x / 200
    image = gaussian_filter(np.where(np.abs(y - 30) <= half, 0.3, 0.6), 0.7)[..., None]
    line = np.stack([np.full(90, 30.0), np.arange(10, 190, SPACING)], axis=1)
    (found,) = tube_widths(image, [line])
    np.testing.assert_allclose(found[5:-5], 4 + 6 * line[5:-5, 1] / 200, atol=0.9)


def test_nodes_of_a_forest_have_the_width_of_their_branch():
    image = np.full((80, 120, 3), 0.6, np.float32)
    image[37:43] = 0.3  # a stem 6 pixels wide, and a side branch of 3 that leaves it
    image[:40, 59:62] = 0.3
    image = gaussian_filter(image, (0.6, 0.6, 0))
    stem = [[39.5, x] for x in range(10, 111, 5)]
    side = [[y, 60.0] for y in range(35, 4, -5)]
    parent = [*range(-1, len(stem) - 1), 10, *range(len(stem), len(stem) + len(side) - 1)]
    widths = node_widths(image, SwcForest.from_positions([*stem, *side, [70.0, 110.0]], [*parent, -1]))
    np.testing.assert_allclose(widths[[3, 5, 15]], 6.0, atol=0.5)
    np.testing.assert_allclose(widths[len(stem) + 2 : -2], 3.0, atol=0.5)
    assert abs(widths[10] - 6) < 1.5 and widths[-1] == 0
    assert len(node_widths(image, SwcForest.empty())) == 0
