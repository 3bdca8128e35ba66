"""Rotated and resized copies of training images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.tools.data.images import volume_image, zigzag_image
from tools.data.training_image import TrainingImage
from tools.data.warps import warped, with_warped_copies


@pytest.mark.parametrize("make", [zigzag_image, volume_image])
@pytest.mark.parametrize(("angle", "scale"), [(0.0, 1.0), (np.pi / 2, 1.0), (0.7, 1.0), (2.5, 1.3), (4.0, 0.8)])
def test_a_warped_tree_stays_on_its_tube(make: Callable[[], TrainingImage], angle: float, scale: float) -> None:
    image = make()
    moved = warped(image, angle=angle, scale=scale)
    ndim = len(image.shape)
    nodes = moved.tree.positions(ndim)
    assert np.all(nodes >= 0) and np.all(nodes <= np.array(moved.shape) - 1)
    on_tree = tuple(np.rint(moved.walks.nodes).astype(int).T)
    assert np.median(moved.pixels[on_tree][:, 0]) > 150
    # Lengths grow in the plane; slices stay slices.
    in_plane = image.tree.positions(ndim)[:, -2:], nodes[:, -2:]
    before, after = (np.linalg.norm(np.diff(positions, axis=0), axis=1) for positions in in_plane)
    np.testing.assert_allclose(after, scale * before)
    if ndim == 3:
        assert moved.shape[0] == image.shape[0]
        np.testing.assert_allclose(nodes[:, 0], image.tree.positions(3)[:, 0])


def test_identity_changes_nothing() -> None:
    image = volume_image()
    same = warped(image, angle=0.0, scale=1.0)
    np.testing.assert_array_equal(same.pixels, image.pixels)
    np.testing.assert_allclose(same.tree.xyz, image.tree.xyz)


def test_ignored_pixels_are_warped_with_the_image() -> None:
    image = volume_image(ignored=volume_image().pixels[..., 0] > 0)
    moved = warped(image, angle=0.5, scale=1.1)
    assert moved.ignored is not None
    bright = moved.pixels[..., 0] > 100
    assert (moved.ignored & bright).sum() > 0.9 * bright.sum() and moved.ignored.sum() < 1.5 * bright.sum()


def test_steps_keep_their_length_in_a_warped_image() -> None:
    walks = warped(volume_image(), angle=0.8, scale=1.2).walks
    along = (walks.nodes[walks.head] - walks.nodes[walks.tail]) * walks.spacing
    np.testing.assert_allclose(np.linalg.norm(along, axis=1), 3.0, rtol=0.1)


def test_copies_depend_on_the_random_seed() -> None:
    images = [zigzag_image(), volume_image()]
    first, same, other = (with_warped_copies(images, 2, 1.5, seed) for seed in (1, 1, 2))
    assert [image.name for image in first] == ["zigzag", "volume", "zigzag", "zigzag", "volume", "volume"]
    assert first[0] is images[0] and with_warped_copies(images, 0, 1.5, 1) == images
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, same, strict=True))
    assert any(a.shape != b.shape for a, b in zip(first, other, strict=True))
    ratio = np.array([image.tree.length / images[0].tree.length for image in first[2:4]])
    assert np.all((ratio >= 1 / 1.5) & (ratio <= 1.5))
