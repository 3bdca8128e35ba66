"""The files written for a trace. A new output is one function here and its line in :data:`OUTPUTS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lib.files import atomic_folder, write_csv, write_json
from lib.klib.image_io import Image, stem, write_png, write_tiff
from tools.tracing.job import TraceJob
from tools.tracing.maps import as_bytes
from tools.tracing.suitability import doubt
from tools.tracing.tables import branch_rows, summary_row
from tools.tracing.trace import Trace


@dataclass(frozen=True)
class Traced:
    """An image file, its content, its trace, and the job that traced it."""

    path: Path
    image: Image
    trace: Trace
    job: TraceJob

    @property
    def origin(self) -> str:
        """What the trace was made of, for the heads of its files."""
        return f"trace of {self.path.name} with {self.job.weights.name}"

    @property
    def voxel(self) -> str:
        """Size of a voxel, and where it comes from; empty in 2D if it is unknown."""
        size, source = self.job.spacing_of(self.image.spacing)
        ndim, unit = self.job.spec.ndim, " um" if self.trace.space.voxel_size else ""
        if not size:
            return "size of a voxel unknown, taken as a cube; if it is none, give --spacing" if ndim == 3 else ""
        shown = f"{' x '.join(f'{each:g}' for each in size)}{unit} ({' '.join('zyx'[-ndim:])})"
        return f"{'pixels' if ndim == 2 else 'voxels'} of {shown}, from {source}"

    @cached_property
    def message(self) -> str:
        """Why the trace may be worse than it could be; empty if nothing speaks for that."""
        doubts = [doubt(self.trace, self.job.options.seed_threshold)]
        if not self.job.header.thresholds:
            doubts.append("the thresholds of these weights are not calibrated: run tools.calibrate")
        return "; ".join(filter(None, doubts))


def write_overlay(path: Path, traced: Traced) -> None:
    """Draw the trace on its image."""
    write_png(path, traced.job.spec.picture(traced.image.pixels, traced.trace.forest))


def write_centerline(path: Path, traced: Traced) -> None:
    """Write the centerline map in work pixels, 255 for a probability of 1."""
    write_tiff(path, as_bytes(traced.trace.centerline))


def write_trees(path: Path, traced: Traced) -> None:
    """Write the trees as SWC, with units, origin and source in its head."""
    traced.trace.write(path, comment=[traced.origin])


def write_each_tree(folder: Path, traced: Traced) -> None:
    """Write every tree as an SWC of its own; ``folder``, from an earlier run, is replaced."""
    with atomic_folder(folder) as made:
        traced.trace.write_each_tree(made, comment=[traced.origin])


def write_branches(path: Path, traced: Traced) -> None:
    """Write the table of branches."""
    write_csv(path, branch_rows(traced.trace))


def write_summary(path: Path, traced: Traced) -> None:
    """Write the row of the image."""
    write_csv(path, [summary_row(traced.trace, stem(traced.path))])


OUTPUTS: Mapping[str, tuple[str, Callable[[Path, Traced], None]]] = {
    "overlay": ("_overlay.png", write_overlay),
    "centerline": ("_centerline.tif", write_centerline),
    "branches": ("_branches.csv", write_branches),
    "summary": ("_summary.csv", write_summary),
    "swc": (".swc", write_trees),
}
"""Ending of the file name of each output, and the function that writes it, in this order. The report comes last."""


def output_path(folder: Path, name: str, output: str) -> Path:
    """The file of an ``output`` of the image ``name``."""
    return folder / f"{name}{OUTPUTS[output][0]}"


def write_report(path: Path, traced: Traced, seconds: float) -> None:
    """Write counts, stops, timings and options as JSON; ``seconds`` is the time since reading began."""
    write_json(path, report_of(traced, seconds))


def report_of(traced: Traced, seconds: float) -> dict[str, Any]:
    """Content of the JSON beside a trace."""
    trace = traced.trace
    return {
        "image": traced.path.name,
        "nodes": len(trace.forest),
        "trees": len(trace.forest.roots),
        f"length_{trace.unit}": round(trace.swc_forest.length, 1),
        "branch_points": len(trace.forest.branch_points),
        "counts": trace.counts,
        "stops": trace.stops,
        "seconds": {name: round(value, 3) for name, value in {**trace.seconds, "total": seconds}.items()},
        "loops_left_open": trace.loop_ends(),
        "spacing": traced.job.spacing_of(traced.image.spacing)[0],
        "field_of_view": round(trace.field_share, 4),
        "notes": [*traced.image.notes, *filter(None, [traced.voxel, traced.message])],
        "options": asdict(traced.job.options),
    }
