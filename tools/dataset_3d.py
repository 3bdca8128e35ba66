"""3D data: one channel on a square-root curve, one negative per four positives; flips, quarter turns in the plane."""

from __future__ import annotations

import numpy as np
import torch

from configs.options import PrepareOptions3D
from lib.klib.volume_io import volume_spacing
from models.RPNet_3D import IN_CHANNELS
from tools.data.augment import Colours, to_unit, turn_patches
from tools.data.batches import Batch
from tools.data.prepare import PrepareSpec
from tools.data.training_image import TrainingImage
from tools.data.unlabelled import unlabelled
from tools.readers import read_image_3d

COLOURS = Colours(gain=0.3, gain_channel=0.0, contrast=0.2, gamma=1.3, noise=0.04, blur=0.8, haze=0.1, keep_black=False)
"""Light of a fluorescence stack: its background is dark, but glows; on the square-root curve shot noise is everywhere
the same."""


def ignored_3d(training_image: TrainingImage, options: PrepareOptions3D) -> np.ndarray | None:
    """What a volume shows beyond its gold, if the options say that it does."""
    named = options.ignore_unlabelled
    return unlabelled(training_image) if training_image.name in named or named == ["all"] else None


PREPARE_3D = PrepareSpec(
    read=read_image_3d,
    channels=IN_CHANNELS,
    negative_share=1 / 5,
    ndim=3,
    spacing=volume_spacing,
    ignored=ignored_3d,
)


def augment_3d(batch: Batch, generator: torch.Generator, *, turn: bool) -> Batch:
    """uint8 batch to an augmented float one; ``turn`` is for stored patches (fresh tiles come turned)."""
    batch = to_unit(batch)
    if turn:
        batch = turn_patches(batch, generator, axes=(0, 1, 2))
    return batch.with_image(COLOURS.apply(batch.image, generator))
