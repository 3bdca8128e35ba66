"""Augmentation on the device, 2D: all eight symmetries of the square, and colours of a camera."""

from __future__ import annotations

import torch

from tools.augment import Colours, to_unit, turn_patches
from tools.scenes import Batch

COLOURS = Colours()


def augment_2d(batch: Batch, generator: torch.Generator, *, turn: bool) -> Batch:
    """uint8 batch to an augmented float one; ``turn`` is for stored patches (fresh tiles come turned)."""
    batch = to_unit(batch)
    if turn:
        batch = turn_patches(batch, generator, axes=(0, 1))
    return batch.with_image(COLOURS.apply(batch.image, generator))
