"""3D data: how single-channel volumes are prepared, and how their batches are augmented."""

from __future__ import annotations

import torch

from lib.klib.image_io import volume_files
from lib.klib.volume_io import volume_spacing
from models.RPNet_3D import IN_CHANNELS
from tools.data.augment import ColourJitter, to_unit, turn_patches
from tools.data.batches import Batch
from tools.data.prepare import PrepareSpec
from tools.readers import read_image_3d

COLOURS = ColourJitter(
    gain=0.3, gain_channel=0.0, contrast=0.2, gamma=1.3, noise=0.04, blur=0.8, haze=0.1, keep_black=False
)
"""For fluorescence volumes: their dark background glows, and on the square-root curve shot noise is uniform."""
PREPARE_3D = PrepareSpec(
    read=read_image_3d,
    channels=IN_CHANNELS,
    negative_share=1 / 5,
    ndim=3,
    spacing=volume_spacing,
    files=volume_files,
)
"""One negative for four positives (docs/paper.md §3)."""


def augment_3d(batch: Batch, generator: torch.Generator, *, turn: bool) -> Batch:
    """Convert a uint8 batch to float and augment it; ``turn`` flips and turns patches (tiles are drawn turned)."""
    batch = to_unit(batch)
    if turn:
        batch = turn_patches(batch, generator, axes=(0, 1, 2))
    return batch.with_image(COLOURS.apply(batch.image, generator))
