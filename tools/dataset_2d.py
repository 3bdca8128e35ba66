"""2D data: RGB images, one negative per two positives; augmented by all symmetries of the square and by colours."""

from __future__ import annotations

import torch

from models.RPNet_2D import IN_CHANNELS
from tools.data.augment import Colours, to_unit, turn_patches
from tools.data.batches import Batch
from tools.data.prepare import PrepareSpec
from tools.readers import read_image_2d

COLOURS = Colours()


PREPARE_2D = PrepareSpec(read=read_image_2d, channels=IN_CHANNELS, negative_share=1 / 3, ndim=2)


def augment_2d(batch: Batch, generator: torch.Generator, *, turn: bool) -> Batch:
    """uint8 batch to an augmented float one; ``turn`` is for stored patches (fresh tiles come turned)."""
    batch = to_unit(batch)
    if turn:
        batch = turn_patches(batch, generator, axes=(0, 1))
    return batch.with_image(COLOURS.apply(batch.image, generator))
