"""Local contrast: light, colour and frames of photographs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from lib.klib import contrast
from lib.klib.contrast import channels_seen, local_contrast, with_local_contrast, without_local_contrast
from lib.klib.spaces import Spaces
from lib.klib.windows import box
from tests.lib.test_klib_field import is_inside, photograph

SIGMA = 20.0


def retina(frame: float = 0.03) -> np.ndarray:
    return photograph(frame=frame).astype(np.float32)


def smooth(array: np.ndarray) -> np.ndarray:
    return gaussian_filter(array, (SIGMA, SIGMA, 0), mode="constant", truncate=6.0)


def test_fast_means_are_those_of_every_pixel():
    pixels, inside = retina(), is_inside((300, 320), 140.0 - contrast.RIM)[..., None]
    weight = smooth(inside.astype(float)) + 1e-6
    difference = pixels - smooth(pixels * inside) / weight
    deviation = np.sqrt(smooth(difference**2 * inside) / weight) + contrast.FLOOR
    slow = np.clip(difference / deviation / contrast.LEVELS + 0.5, 1 / 255, 1) * inside
    found = local_contrast(pixels, SIGMA)
    both = is_inside((300, 320), 132.0)
    assert np.abs(found - slow)[both].max() < 0.02 and found.dtype == np.float32


def test_light_and_colour_of_a_photograph_do_not_matter():
    pixels = retina(frame=0.0)
    across = np.linspace(0.7, 1.0, 320, dtype=np.float32)[:, None]
    other = pixels * across * np.array([1.0, 0.9, 0.8], np.float32)
    plain, lit = local_contrast(pixels, SIGMA), local_contrast(other, SIGMA)
    disc = is_inside((300, 320), 130.0)
    assert np.abs(plain - lit)[disc].mean() < 0.01 < np.abs(pixels - other)[disc].mean() / 5
    vessel, beside = plain[170, 60:260].mean(), plain[150, 60:260].mean()
    assert vessel < 0.3 and beside == pytest.approx(0.53, abs=0.05)


@pytest.mark.parametrize("frame", [0.0, 0.03])
def test_the_frame_is_left_out(frame):
    found, disc = local_contrast(retina(frame), SIGMA), is_inside((300, 320), 140.0)
    assert not found[~disc].any() and found[is_inside((300, 320), 133.0)].min() >= np.float32(1 / 255)
    along = found[170, [25, 30, 160, 290, 295]].mean(axis=1)  # The vessel, up to the rim.
    assert along.max() < 0.35


def test_dark_places_inside_are_no_frame():
    pixels = np.full((120, 200, 3), 0.5, np.float32)
    pixels[40:64, 10:190] = 0.01
    assert local_contrast(pixels, SIGMA).min() >= np.float32(1 / 255)
    pixels[40:90, 10:190] = 0.01
    assert not local_contrast(pixels, SIGMA)[58:72, 40:160].any()


def test_dark_places_at_the_border_are_no_frame_but_a_narrow_strip_along_it_is():
    pixels = np.full((120, 200, 3), 0.5, np.float32)
    pixels[:10, 90:110] = 0.01  # A shadow.
    assert local_contrast(pixels, SIGMA).min() >= np.float32(1 / 255)
    pixels[:3] = 0.01
    assert not local_contrast(pixels, SIGMA)[:3].any()


def test_a_window_has_the_values_of_the_whole_two_deviations_from_its_border():
    whole = Spaces.scaled((300, 320), 1.0)
    low, high, halo = np.array([90, 100]), np.array([170, 180]), int(2 * SIGMA)
    window = whole.window(low - halo, high + halo)
    part = retina()[box(np.array(window.image_low), np.array(window.image_high))]
    inner = local_contrast(window.resize(part), SIGMA)[halo:-halo, halo:-halo]
    assert np.abs(inner - local_contrast(retina(), SIGMA)[box(low, high)]).max() < 0.03


def test_networks_see_it_beside_the_photograph():
    pixels = retina()
    both = with_local_contrast(pixels, SIGMA)
    np.testing.assert_array_equal(both[..., :3], pixels)
    np.testing.assert_array_equal(both[..., 3:], local_contrast(pixels, SIGMA))
    assert both.dtype == np.float32 and both.shape[-1] == channels_seen(3, SIGMA) == 6
    np.testing.assert_array_equal(without_local_contrast(both), pixels)


def test_without_a_window_there_is_the_photograph_alone():
    pixels = retina()
    assert with_local_contrast(pixels, 0.0) is pixels
    np.testing.assert_array_equal(without_local_contrast(pixels), pixels)
    assert channels_seen(3, 0.0) == 3
