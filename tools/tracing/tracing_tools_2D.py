"""Tracing in 2D: RGB images."""

from __future__ import annotations

from configs.options import TraceRun
from tools.pictures.overlay import overlay
from tools.readers import read_image_2d
from tools.tracing.job import TraceJob, TraceSpec
from tools.tracing.settings import trace_settings

BORDER = (4, 4)
"""Pixels along the border of a patch that the search ignores (docs/paper.md §5)."""

SPEC = TraceSpec(ndim=2, read=read_image_2d, picture=overlay, settings=trace_settings)


def build_trace_job_2d(run: TraceRun) -> TraceJob:
    """A job for images, see :class:`~tools.tracing.job.TraceJob`."""
    return TraceJob(run.weights, run, SPEC)
