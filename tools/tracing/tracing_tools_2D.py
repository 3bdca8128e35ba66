"""Tracing in 2D: RGB photographs, an overlay as picture."""

from __future__ import annotations

from pathlib import Path

from configs.options import TraceOptions
from lib.klib.image_io import read_image
from models.checkpoint import WeightsHeader
from models.RPNet_2D import IN_CHANNELS
from tools.tracing.gds import Search
from tools.tracing.job import TraceDoor, TraceJob, WorkImage, trace_settings
from tools.visualisation import overlay

BORDER = (Search.border, Search.border)
"""Pixels along the border of a patch that the search ignores (docs/paper.md §5)."""


def read_work_image_2d(path: Path, header: WeightsHeader | None = None) -> WorkImage:
    """Read an image as RGB, 8-bit values divided by 255 (docs/paper.md §3)."""
    image = read_image(path, channels=IN_CHANNELS)
    return WorkImage(image.pixels, image.notes)


DOOR = TraceDoor(ndim=2, read=read_work_image_2d, picture=overlay, settings=trace_settings)


def build_trace_job_2d(options: TraceOptions) -> TraceJob:
    """A job for images."""
    return TraceJob(options, DOOR)
