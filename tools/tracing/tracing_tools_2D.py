"""Tracing in 2D: RGB images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from configs.options import TraceRun
from lib.errors import UserError
from lib.klib.field import field_of_view
from lib.klib.image_io import find_image, read_mask, stem
from lib.klib.width import node_widths
from lib.swclib import SwcForest
from tools.readers import read_image_2d
from tools.tracing.job import Prepared, TraceJob, TraceSpec
from tools.tracing.settings import trace_settings

BORDER = (4, 4)
"""Pixels along the border of a patch that the search ignores (docs/paper.md §5)."""


def radii_2d(image: Prepared, _: np.ndarray, __: SwcForest, in_image: SwcForest) -> np.ndarray:
    """Radii ``(N,)`` in image pixels: half the width of the tube, see :mod:`lib.klib.width`."""
    return node_widths(image.image, in_image) / 2


def stored_mask(files: TraceRun, image: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The mask in ``--masks`` of an image of ``shape``; None without ``--masks``.

    Raises
    ------
    UserError
        If it is missing, cannot be read, or has another size.
    """
    if files.masks is None:
        return None
    path = find_image(files.masks, (stem(image),))
    if path is None:
        raise UserError(f"{files.masks}: holds no mask of the name {stem(image)}; add it, or leave out --masks")
    mask, _ = read_mask(path)
    if mask.shape != shape:
        sizes = (" x ".join(map(str, size)) for size in (mask.shape, shape))
        raise UserError("{}: the mask is {}, the image {}; give its own".format(path, *sizes))
    return mask


SPEC = TraceSpec(
    ndim=2,
    read=read_image_2d,
    settings=trace_settings,
    radii=radii_2d,
    find_field=field_of_view,
    stored_mask=stored_mask,
)


def build_trace_job_2d(run: TraceRun) -> TraceJob:
    """A job for images, see :class:`~tools.tracing.job.TraceJob`."""
    return TraceJob(run.weights, run, SPEC)
