"""Rotated and resized copies of training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.ndimage import affine_transform

from tools.data.training_image import TrainingImage


def warped(training_image: TrainingImage, *, angle: float, scale: float) -> TrainingImage:
    """Rotate and resize a training image in the plane of its last two axes.

    Parameters
    ----------
    training_image
        The image; slices of a volume stay slices.
    angle
        In radians.
    scale
        Factor by which lengths in the plane grow.

    Returns
    -------
    TrainingImage
        On a canvas that holds the whole warped image; pixels outside the image are black.
    """
    ndim = len(training_image.shape)
    forward = np.eye(ndim)
    forward[-2:, -2:] = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shape = np.ceil(np.abs(forward) @ training_image.shape).astype(int)
    middle, new_middle = (np.array(training_image.shape) - 1) / 2, (shape - 1) / 2
    backward = np.linalg.inv(forward)
    offset = middle - backward @ new_middle

    def resampled(array: np.ndarray, order: int) -> np.ndarray:
        """Warp an array ``(*S,)`` by splines of an ``order``."""
        # scipy has no stubs: pyright takes the type of a default for that of the parameter.
        return affine_transform(array, backward, offset, tuple(shape), order=order)  # pyright: ignore[reportArgumentType]

    pixels = np.stack([resampled(channel, 1) for channel in np.moveaxis(training_image.pixels, -1, 0)], axis=-1)
    ignored = None if training_image.ignored is None else resampled(training_image.ignored, 0)
    xyz = np.array(training_image.tree.xyz)
    xyz[:, ndim - 1 :: -1] = (training_image.tree.positions(ndim) - middle) @ forward.T + new_middle
    tree = replace(training_image.tree, xyz=xyz, radius=training_image.tree.radius * scale)
    name, source = training_image.name, training_image.source
    return TrainingImage.build(name, pixels, tree, training_image.walks.shape, ignored, source)


def with_warped_copies(
    training_images: Sequence[TrainingImage], copies: int, largest_scale: float, seed: int
) -> list[TrainingImage]:
    """Add warped copies, made once before training: warping an image takes longer than cropping a tile.

    Parameters
    ----------
    training_images
        The images, which come first in the result.
    copies
        Copies of each image. Each is rotated by any angle and resized by a factor between ``1 / largest_scale`` and
        ``largest_scale``.
    largest_scale
        At least 1.
    seed
        Random seed.
    """
    rng = np.random.default_rng(seed)
    more = []
    for image in training_images:
        for _ in range(copies):
            angle, power = rng.uniform(0, 2 * np.pi), rng.uniform(-1, 1)
            more.append(warped(image, angle=angle, scale=largest_scale**power))
    return [*training_images, *more]
