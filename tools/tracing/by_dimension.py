"""The classes and functions that trace images of each dimension."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from configs.options import TraceOptions, TraceOptions3D, TraceRun, TraceRun3D
from tools.tracing import tracing_tools_2D, tracing_tools_3D
from tools.tracing.job import TraceJob, TraceSpec


@dataclass(frozen=True)
class TraceDimension:
    """The classes and functions that trace images of one dimension.

    Attributes
    ----------
    spec
        Differences between the dimensions.
    options
        Type of the options.
    run
        Type of the options with the files.
    build
        From the options with the files to a job.
    """

    spec: TraceSpec
    options: type[TraceOptions]
    run: type[TraceRun] | type[TraceRun3D]
    build: Callable[[Any], TraceJob]


DIMENSIONS = {
    2: TraceDimension(tracing_tools_2D.SPEC, TraceOptions, TraceRun, tracing_tools_2D.build_trace_job_2d),
    3: TraceDimension(tracing_tools_3D.SPEC, TraceOptions3D, TraceRun3D, tracing_tools_3D.build_trace_job_3d),
}
"""By number of dimensions."""
