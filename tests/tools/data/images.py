"""Small training images for the tests of this folder."""

from __future__ import annotations

import numpy as np

from lib.swclib import SwcForest
from tools.data.sampling import SampleShape
from tools.data.training_image import TrainingImage

PATCH = (32, 32)


def zigzag_image() -> TrainingImage:
    """A crooked bright tube on a dark image, with its tree; the pixels equal the centerline."""
    tree = SwcForest.from_positions([(30, 10), (80, 80), (60, 130), (120, 190)], [-1, 0, 1, 2])
    blank = TrainingImage.build("zigzag", np.zeros((160, 200, 3), np.uint8), tree, SampleShape(margin=3))
    pixels = np.repeat(blank.centerline[..., None] * np.uint8(200), 3, axis=2)
    return TrainingImage.build("zigzag", pixels, tree, SampleShape(margin=3))


def volume_image(ignored: np.ndarray | None = None) -> TrainingImage:
    """A crooked bright tube in a volume whose slices are three times as thick as a pixel is wide."""
    tree = SwcForest.from_positions([(4, 10, 12), (8, 50, 40), (14, 60, 90), (20, 90, 110)], [-1, 0, 1, 2])
    shape = SampleShape(step=6.0, margin=2, jitter=1.0, substeps=2, spacing=(3.0, 1.0, 1.0))
    blank = TrainingImage.build("volume", np.zeros((24, 100, 120, 1), np.uint8), tree, shape)
    return TrainingImage.build("volume", blank.centerline[..., None] * np.uint8(200), tree, shape, ignored)
