"""The patch stacks of a 2D dataset as training batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.RPNet_2D import IN_CHANNELS
from tools.preparing import PreparedDataset
from tools.stacks import StackBatches


def build_stack_batches_2d(
    folder: Path, names: Sequence[str], batch_size: int, seed: int, *, patch_size: Sequence[int]
) -> StackBatches:
    """Batches from the stacks of some images of a folder written by ``prepare_datasets_2D.py``.

    Parameters
    ----------
    folder
        The prepared folder, with ``dataset.json`` in it.
    names
        Images to take.
    batch_size
        Samples in a batch, over all processes.
    seed
        Seed of the run; it sets the order of every epoch.
    patch_size
        Patch that the network is trained with, in pixels, y x.

    Raises
    ------
    UserError
        If the folder was not prepared, an image is not in it, or stacks are missing, broken or of another patch size.
    """
    prepared = PreparedDataset.load(folder)
    return prepared.stacks(
        folder, names, batch_size=batch_size, seed=seed, patch_shape=tuple(patch_size), channels=IN_CHANNELS
    )
