"""Tracing in 2D: RGB images."""

from __future__ import annotations

import numpy as np

from configs.options import TraceRun
from lib.klib.width import node_widths
from lib.swclib import SwcForest
from tools.pictures.overlay import overlay
from tools.readers import read_image_2d
from tools.tracing.job import Prepared, TraceJob, TraceSpec
from tools.tracing.settings import trace_settings

BORDER = (4, 4)
"""Pixels along the border of a patch that the search ignores (docs/paper.md §5)."""


def radii_2d(image: Prepared, _: np.ndarray, __: SwcForest, in_image: SwcForest) -> np.ndarray:
    """Radii ``(N,)`` in image pixels: half the width of the tube, see :mod:`lib.klib.width`."""
    return node_widths(image.image, in_image) / 2


SPEC = TraceSpec(ndim=2, read=read_image_2d, picture=overlay, settings=trace_settings, radii=radii_2d)


def build_trace_job_2d(run: TraceRun) -> TraceJob:
    """A job for images, see :class:`~tools.tracing.job.TraceJob`."""
    return TraceJob(run.weights, run, SPEC)
