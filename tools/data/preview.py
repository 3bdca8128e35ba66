"""A contact sheet of the samples in a prepared folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tools.data.patch_stacks import STACK_FILES, ImageStacks, draw_samples
from tools.data.prepared import TRAINING_FOLDER, PreparedDataset
from tools.data.sampling import Kind
from tools.pictures.contact_sheet import contact_sheet

_ROWS, _IMAGES = 12, 6
"""Samples on the sheet, and images they may come from."""


def preview(prepared: PreparedDataset, folder: Path) -> np.ndarray:
    """Contact sheet of random samples with their maps, RGB ``(rows, columns, 3)``.

    The samples are those stored in ``folder``, or fresh ones of online training if none are stored.
    """
    rng = np.random.default_rng([prepared.seed, 1])
    filled = [name for name, count in zip(prepared.images, prepared.n_samples, strict=True) if count]
    names = rng.permutation(filled or prepared.images)[:_IMAGES]
    maps, kinds = zip(*(_some_samples(prepared, folder, str(name), rng) for name in names), strict=True)
    return contact_sheet(
        {name: np.concatenate([part[name] for part in maps]) for name in STACK_FILES},
        [Kind(kind).name.lower() for kind in np.concatenate(kinds)],
        count=_ROWS,
        rng=rng,
    )


def _some_samples(
    prepared: PreparedDataset, folder: Path, name: str, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Maps and kinds of a few samples of one image."""
    if not any(prepared.n_samples):
        (training_image,) = prepared.training_images(folder, [name])
        drawn = draw_samples(training_image, rng, _ROWS, prepared.patch_size)
        return drawn.maps, drawn.states.kind
    stacks = ImageStacks.open(folder / TRAINING_FOLDER / name)
    rows = np.sort(rng.permutation(len(stacks))[: 2 * _ROWS])
    return {map_name: stack[rows] for map_name, stack in stacks.maps.items()}, stacks.kind[rows]
