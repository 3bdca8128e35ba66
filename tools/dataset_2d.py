"""2D data: RGB images, one negative per two positives; augmented by all symmetries of the square and by colours."""

from __future__ import annotations

from pathlib import Path

import torch

from configs.options import PrepareOptions
from lib.klib.image_io import Image, read_image
from models.RPNet_2D import IN_CHANNELS
from tools.augment import Colours, to_unit, turn_patches
from tools.preparing import PrepareDoor
from tools.scenes import Batch

COLOURS = Colours()


def read_image_2d(path: Path, options: PrepareOptions) -> Image:
    """Read an image as RGB."""
    return read_image(path, channels=IN_CHANNELS)


PREPARE_2D = PrepareDoor(read=read_image_2d, channels=IN_CHANNELS, negative_share=1 / 3, ndim=2)


def augment_2d(batch: Batch, generator: torch.Generator, *, turn: bool) -> Batch:
    """uint8 batch to an augmented float one; ``turn`` is for stored patches (fresh tiles come turned)."""
    batch = to_unit(batch)
    if turn:
        batch = turn_patches(batch, generator, axes=(0, 1))
    return batch.with_image(COLOURS.apply(batch.image, generator))
