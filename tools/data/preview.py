"""A contact sheet of the samples in a prepared folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.klib.contrast import without_local_contrast
from tools.data.patch_stacks import STACK_FILES, ImageStacks, draw_samples
from tools.data.prepared import TRAINING_FOLDER, PreparedDataset
from tools.data.sampling import Kind
from tools.pictures.contact_sheet import contact_sheet
from tools.pictures.overlay import overlay

_ROWS = {Kind.WALK: 8, Kind.SEED: 2, Kind.NEGATIVE: 2}
"""Samples on the sheet."""
_IMAGES, _DRAWN = 6, 48
"""Images that they may come from, and samples drawn from each to choose from: a seed is one in fifteen."""


def preview(prepared: PreparedDataset, folder: Path) -> np.ndarray:
    """Contact sheet of random samples with their maps, RGB ``(rows, columns, 3)``, from all images alike.

    The samples are those stored in ``folder``, or fresh ones of online training if none are stored.
    """
    rng = np.random.default_rng([prepared.seed, 1])
    filled = [name for name, count in zip(prepared.images, prepared.n_samples, strict=True) if count]
    names = rng.permutation(filled or prepared.images)[:_IMAGES]
    maps, kinds = zip(*(_some_samples(prepared, folder, str(name), rng) for name in names), strict=True)
    rows, kind = rows_shown(kinds), np.concatenate(kinds)
    shown = {name: np.concatenate([part[name] for part in maps])[rows] for name in STACK_FILES}
    shown["image"] = without_local_contrast(shown["image"])
    return contact_sheet(shown, [Kind(kind[row]).name.lower() for row in rows])


def preview_kinds(prepared: PreparedDataset, folder: Path) -> np.ndarray:
    """The image with most places at which tubes cross, with its trees in the colours of their kinds, RGB."""
    images = prepared.training_images(folder, prepared.images)
    image = max(images, key=lambda each: int(each.walks.near_crossing.sum()))
    return overlay(without_local_contrast(image.pixels), image.tree)


def rows_shown(kinds: Sequence[np.ndarray]) -> np.ndarray:
    """Choose the samples to show, by their number over all images: the first of every image, then the second, ...

    Parameters
    ----------
    kinds
        ``(N,)`` :class:`~tools.data.sampling.Kind` of the samples of each image.
    """
    kind, place = np.concatenate(kinds), np.concatenate([_places(each) for each in kinds])
    order = np.argsort(place, kind="stable")
    return np.concatenate([order[kind[order] == shown][:count] for shown, count in _ROWS.items()])


def _places(kind: np.ndarray) -> np.ndarray:
    """Place of each sample among those of its kind."""
    equal = kind[:, None] == kind
    return np.tril(equal, -1).sum(axis=1)


def _some_samples(
    prepared: PreparedDataset, folder: Path, name: str, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Maps and kinds of a few samples of one image."""
    if not any(prepared.n_samples):
        (training_image,) = prepared.training_images(folder, [name])
        drawn = draw_samples(training_image, rng, _DRAWN, prepared.patch_size)
        return drawn.maps, drawn.states.kind
    stacks = ImageStacks.open(folder / TRAINING_FOLDER / name)
    rows = np.sort(rng.permutation(len(stacks))[:_DRAWN])
    return {map_name: stack[rows] for map_name, stack in stacks.maps.items()}, stacks.kind[rows]
