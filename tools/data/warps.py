"""Turned and resized copies of training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.ndimage import affine_transform

from tools.data.training_image import TrainingImage


def warped(training_image: TrainingImage, *, angle: float, scale: float) -> TrainingImage:
    """The training_image turned by ``angle`` (radians) and resized by ``scale``, both in the plane of the last two axes.

    The canvas grows or shrinks with it, so that nothing is cut off; what lay outside the image is black.
    """
    ndim = len(training_image.shape)
    forward = np.eye(ndim)
    forward[-2:, -2:] = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shape = np.ceil(np.abs(forward) @ training_image.shape).astype(int)
    middle, new_middle = (np.array(training_image.shape) - 1) / 2, (shape - 1) / 2
    backward = np.linalg.inv(forward)
    warp = {"matrix": backward, "offset": middle - backward @ new_middle, "output_shape": tuple(shape)}
    channels = [affine_transform(channel, **warp, order=1) for channel in np.moveaxis(training_image.pixels, -1, 0)]
    ignored = None if training_image.ignored is None else affine_transform(training_image.ignored, **warp, order=0)
    xyz = np.array(training_image.tree.xyz)
    xyz[:, ndim - 1 :: -1] = (training_image.tree.positions(ndim) - middle) @ forward.T + new_middle
    tree = replace(training_image.tree, xyz=xyz, radius=training_image.tree.radius * scale)
    return TrainingImage.build(
        training_image.name, np.stack(channels, axis=-1), tree, training_image.walks.shape, ignored
    )


def with_warped(
    training_images: Sequence[TrainingImage], copies: int, largest_scale: float, seed: int
) -> list[TrainingImage]:
    """The training_images and ``copies`` of each, turned by any angle and resized by 1 / ``largest_scale`` to ``largest_scale``.

    Drawn once, before training: interpolating a whole image costs more than cutting a tile out of it.
    """
    rng = np.random.default_rng(seed)
    more = []
    for training_image in training_images:
        for _ in range(copies):
            angle, power = rng.uniform(0, 2 * np.pi), rng.uniform(-1, 1)
            more.append(warped(training_image, angle=angle, scale=largest_scale**power))
    return [*training_images, *more]
