"""The field of view of fundus photographs, and images that have none."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data

from lib.klib.field import field_of_view


def photograph(shape: tuple[int, int] = (300, 320), radius: float = 140.0, frame: float = 0.03) -> np.ndarray:
    """A disc that is darker towards its rim, with vessels and noise, in a dark frame."""
    y, x = np.indices(shape) - (np.array(shape)[:, None, None] - 1) / 2
    distance = np.hypot(y, x)
    red = np.where(distance < radius, 0.7 - 0.35 * (distance / radius) ** 2, frame)
    red[(np.abs(y - 20) < 3) & (distance < radius)] = 0.2
    noise = np.random.default_rng(0).normal(0, 0.01, (*shape, 3))
    return np.clip(np.stack([red, 0.5 * red, 0.3 * red], axis=-1) + noise, 0, 1)


def is_inside(shape: tuple[int, int], radius: float) -> np.ndarray:
    y, x = np.indices(shape) - (np.array(shape)[:, None, None] - 1) / 2
    return np.hypot(y, x) < radius


@pytest.mark.parametrize(("shape", "radius"), [((300, 320), 140.0), ((260, 320), 150.0), ((1300, 1500), 600.0)])
def test_a_disc_is_found_also_where_the_image_cuts_it(shape, radius):
    found, true = field_of_view(photograph(shape, radius)), is_inside(shape, radius)
    assert found is not None and found.shape == shape
    assert (found & true).sum() / (found | true).sum() > 0.98


def test_a_real_photograph():
    field = field_of_view(data.retina()[..., :3] / 255)
    assert field is not None and field.mean() == pytest.approx(np.pi / 4, abs=0.03)


@pytest.mark.parametrize("image", [
    np.random.default_rng(0).random((100, 120, 3)),
    np.full((100, 120, 3), 0.6),
    np.zeros((100, 120, 3)),
    photograph(frame=0.3),
    np.tile(np.linspace(0, 1, 120)[:, None], (100, 1, 3)),
    np.pad(np.full((60, 30, 3), 0.6), ((30, 30), (5, 90), (0, 0))),
    data.astronaut() / 255,
])  # fmt: skip
def test_other_images_have_no_field(image):
    field = field_of_view(image)
    assert field is None or field.mean() < 0.3
