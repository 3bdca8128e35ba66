"""What traces images of which dimension."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from configs.options import TraceOptions, TraceOptions3D, TraceRun, TraceRun3D
from tools.tracing import tracing_tools_2D, tracing_tools_3D
from tools.tracing.job import TraceJob, TraceSpec


@dataclass(frozen=True)
class TraceDimension:
    """What traces images of one dimension.

    Attributes
    ----------
    spec
        See :class:`~tools.tracing.job.TraceSpec`.
    options
        Type of the options that say how to trace.
    run
        Type of those that also say where the files are.
    build
        Makes a job of a run.
    """

    spec: TraceSpec
    options: type[TraceOptions]
    run: type[TraceRun]
    build: Callable[..., TraceJob]


DIMENSIONS = {
    2: TraceDimension(tracing_tools_2D.SPEC, TraceOptions, TraceRun, tracing_tools_2D.build_trace_job_2d),
    3: TraceDimension(tracing_tools_3D.SPEC, TraceOptions3D, TraceRun3D, tracing_tools_3D.build_trace_job_3d),
}
"""By number of dimensions."""
