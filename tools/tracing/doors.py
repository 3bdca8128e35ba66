"""What traces images of which dimension."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from configs.options import TraceOptions, TraceOptions3D
from tools.tracing.job import TraceJob
from tools.tracing.tracing_tools_2D import build_trace_job_2d
from tools.tracing.tracing_tools_3D import build_trace_job_3d


@dataclass(frozen=True)
class Door:
    """The options of a trace, and what makes a job of them."""

    options: type[TraceOptions]
    build: Callable[[TraceOptions], TraceJob]


DOORS = {2: Door(TraceOptions, build_trace_job_2d), 3: Door(TraceOptions3D, build_trace_job_3d)}
"""By number of dimensions."""
