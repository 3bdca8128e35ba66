"""2D data: how RGB images are prepared, and how their batches are augmented."""

from __future__ import annotations

import torch

from models.RPNet_2D import IN_CHANNELS
from tools.data.augment import ColourJitter, to_unit, turn_patches
from tools.data.batches import Batch
from tools.data.prepare import PrepareSpec
from tools.readers import read_image_2d

COLOURS = ColourJitter()
PREPARE_2D = PrepareSpec(read=read_image_2d, channels=IN_CHANNELS, negative_share=1 / 3, ndim=2)
"""One negative for two positives (docs/paper.md §3)."""


def augment_2d(batch: Batch, generator: torch.Generator, *, turn: bool) -> Batch:
    """Convert a uint8 batch to float and augment it; ``turn`` flips and turns patches (tiles are drawn turned).

    Light changes the photograph alone: local contrast is what it leaves as it is.
    """
    batch = to_unit(batch)
    if turn:
        batch = turn_patches(batch, generator, axes=(0, 1))
    return batch.with_image(COLOURS.apply(batch.image, generator, lit=IN_CHANNELS))
