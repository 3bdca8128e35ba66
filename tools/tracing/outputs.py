"""The files written for a trace. A new format is one file in :mod:`lib.formats`, or one line in :data:`OUTPUTS`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from configs.options import OverlayColours
from lib.errors import UserError, known_names
from lib.files import atomic_folder, write_csv, write_json
from lib.formats import FORMATS, Format
from lib.formats.georeference import GeoReference
from lib.formats.graph import BranchGraph
from lib.formats.page import write_page
from lib.klib.image_io import Image, stem, write_png, write_tiff
from lib.swclib import rescale, spans
from tools.pictures.overlay import overlay
from tools.tracing.job import TraceJob
from tools.tracing.maps import as_bytes
from tools.tracing.review import COLUMNS, review_rows
from tools.tracing.scale import mismatch
from tools.tracing.suitability import why_unsuited
from tools.tracing.tables import Row, branch_columns, branch_rows, summary_row
from tools.tracing.trace import Trace


@dataclass(frozen=True)
class Traced:
    """An image file, its content, its trace, the job that traced it, and what to write.

    ``colours`` are those of the overlay, ``ground_scale`` is the scale where it comes from the size of a pixel on the
    ground. Of an image that was traced in cells, the content is a smaller picture, with
    so many pixels to a pixel of the image, ``picture_scale``, along each axis.
    """

    path: Path
    image: Image
    trace: Trace
    job: TraceJob
    formats: Sequence[str] = ()
    colours: OverlayColours = "trees"
    ground_scale: float | None = None
    picture_scale: Sequence[float] | float = 1.0

    @property
    def on_earth(self) -> bool:
        """Whether a format is asked for that places images on the earth."""
        return self.job.spec.ndim == 2 and any(FORMATS[name].is_map for name in self.formats if name in FORMATS)

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

    @property
    def scale(self) -> str:
        """The scale, where it was not given."""
        if self.ground_scale:
            return f"scale {self.ground_scale:.2g}, from the size of a pixel on the ground"
        measured = self.job.options.scale == "auto"
        return f"scale {self.trace.spaces.scale[-1]:.2g}, from the width of the tubes" if measured else ""

    @cached_property
    def place(self) -> GeoReference | None:
        """Where the image lies on the earth; None if its file does not say, or no format asks."""
        return GeoReference.of_image(self.path) if self.on_earth else None

    @cached_property
    def branches(self) -> list[Row]:
        """The table of branches."""
        return branch_rows(self.trace)

    @cached_property
    def graph(self) -> BranchGraph:
        """What the formats write."""
        trace, ndim = self.trace, self.job.spec.ndim
        forest = trace.in_image(trace.swc_forest)
        forest = replace(forest, radius=forest.radius / trace.pixel_sizes[-1])
        places = forest.positions(ndim)
        # The SWC has fewer rows: doubled nodes are left out.
        _, loops = KDTree(places).query(trace.forest.positions(ndim)[trace.loops]) if len(places) else (0, trace.loops)
        return BranchGraph(
            stem(self.path),
            self.origin,
            forest,
            spans(trace.swc_forest)[0],
            self.branches,
            np.asarray(loops, dtype=np.int64).reshape(-1, 2),
            trace.swc_probability,
            ndim,
            trace.space.voxel_size,
            self.place,
        )

    @cached_property
    def review(self) -> list[Row]:
        """The table of places to review."""
        return review_rows(self.trace)

    @property
    def review_in_image(self) -> list[Row]:
        """The same, positions in pixels of the image, 0 at the centre of the first."""
        places = self.graph.forest.xyz
        axes = "xyz"[: self.job.spec.ndim]
        return [{**row, **dict(zip(axes, places[row["node"] - 1].tolist(), strict=False))} for row in self.review]

    @property
    def notes(self) -> list[str]:
        """All that is to be said of the image and its trace: conversions, scale, size of a voxel, warnings."""
        return [*self.image.notes, *filter(None, [self.scale, self.voxel, self.message])]

    @cached_property
    def message(self) -> str:
        """Why the trace may be worse than it could be; empty if nothing speaks for that."""
        is_known = self.ground_scale or self.trace.centerline is None  # a trace in cells keeps no map
        found = "" if is_known else mismatch(self.job, self.trace, self.image.pixels, self.image.spacing)
        messages = [found or why_unsuited(self.trace, self.job.options.seed_threshold)]
        if self.on_earth and not self.place:
            messages.append("the image has no coordinate reference system: maps and graphs of it are in pixels")
        if not self.job.header.thresholds:
            messages.append("the thresholds of these weights are not calibrated: run tools.calibrate")
        return "; ".join(filter(None, messages))


def write_overlay(path: Path, traced: Traced) -> None:
    """Draw the trace on its image."""
    trace, scale = traced.trace, np.array(traced.picture_scale)
    small = rescale(trace.in_image(trace.swc_forest), scale.tolist(), shift=(0.5 * scale - 0.5).tolist())
    confidence = traced.graph.confidence if traced.colours == "confidence" else None
    write_png(path, overlay(traced.image.pixels, small, confidence=confidence))


def write_centerline(path: Path, traced: Traced) -> None:
    """Write the centerline map in work pixels, 255 for a probability of 1."""
    assert traced.trace.centerline is not None  # a trace in cells has no pictures
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
    write_csv(path, traced.branches, branch_columns(traced.trace))


def write_review(path: Path, traced: Traced) -> None:
    """Write the table of places to review."""
    write_csv(path, traced.review, [name for name in COLUMNS if name != "z" or traced.job.spec.ndim == 3])


def write_summary(path: Path, traced: Traced) -> None:
    """Write the row of the image."""
    write_csv(path, [summary_row(traced.trace, stem(traced.path))])


def write_format(path: Path, traced: Traced, *, format: Format) -> None:
    """Write a file, or folder, of :mod:`lib.formats`."""
    format.write(path, traced.graph)


def write_html(path: Path, traced: Traced) -> None:
    """Write the page to look at."""
    write_page(path, traced.image.pixels, traced.graph, traced.review_in_image, traced.picture_scale)


Write = Callable[[Path, Traced], None]
PICTURES: Mapping[str, Write] = {"_overlay.png": write_overlay, "_centerline.tif": write_centerline}
"""Ending of the name of each file that is always written, and the function that writes it."""
OUTPUTS: Mapping[str, Mapping[str, Write]] = {
    "csv": {"_branches.csv": write_branches, "_summary.csv": write_summary, "_review.csv": write_review},
    "swc": {".swc": write_trees},
    "html": {".html": write_html},
    **{name: {format.ending: partial(write_format, format=format)} for name, format in FORMATS.items()},
}
"""The same for each name in ``--formats``."""


def check_colours(colours: OverlayColours, job: TraceJob) -> None:
    """Refuse colours that the weights cannot give, before the tracing starts.

    Raises
    ------
    UserError
        If they have no confidence.
    """
    if colours == "confidence" and job.confidence_model is None:
        raise UserError(f"--overlay confidence: {job.weights.name} does not give it; run tools.calibrate on it")


def check_formats(names: Sequence[str], ndim: int) -> None:
    """Refuse formats that cannot be written, before the tracing starts.

    Raises
    ------
    UserError
        If a format is unknown, cannot hold images of ``ndim`` dimensions, or needs a package that is not installed.
    """
    for name in names:
        if name not in OUTPUTS:
            raise UserError(f"--formats {name}: unknown; {known_names(name, OUTPUTS)}")
        if (format := FORMATS.get(name)) is None:
            continue
        if ndim not in format.dimensions:
            raise UserError(f"--formats {name}: holds maps of images, not volumes; leave it out")
        for package in format.needed(ndim):
            if importlib.util.find_spec(package) is None:
                advice = f"run `pip install -e '.[{format.extra}]'` in the folder of NETracer"
                raise UserError(f"--formats {name}: needs the package {package}, which is not installed; {advice}")


def write_outputs(folder: Path, traced: Traced) -> list[Path]:
    """Write the pictures and the formats of a trace; return the files of the formats, in their order.

    Raises
    ------
    UserError
        If a file cannot be written.
    """
    for ending, write in PICTURES.items():
        write(folder / f"{stem(traced.path)}{ending}", traced)
    return write_formats(folder, traced)


def write_formats(folder: Path, traced: Traced) -> list[Path]:
    """Write the formats of a trace; see :func:`write_outputs`."""
    name, written = stem(traced.path), []
    for format in dict.fromkeys(traced.formats):
        for ending, write in OUTPUTS[format].items():
            write(folder / f"{name}{ending}", traced)
            written.append(folder / f"{name}{ending}")
    return written


def write_report(path: Path, traced: Traced, seconds: float) -> None:
    """Write counts, stops, timings and options as JSON; ``seconds`` is the time since reading began."""
    write_json(path, report_of(traced, seconds))


def report_of(traced: Traced, seconds: float) -> dict[str, Any]:
    """Content of the JSON beside a trace."""
    trace, (size, _) = traced.trace, traced.job.spacing_of(traced.image.spacing)
    return {
        "image": traced.path.name,
        "nodes": len(trace.forest),
        "trees": len(trace.forest.roots),
        f"length_{trace.unit}": round(trace.swc_forest.length, 1),
        "branch_points": len(trace.forest.branch_points),
        "somata": trace.somata(),
        "counts": trace.counts,
        "stops": trace.stops,
        "seconds": {name: round(value, 3) for name, value in {**trace.seconds, "total": seconds}.items()},
        "loops_left_open": trace.loop_ends(),
        # Without a unit only the ratios of the sizes count.
        **({f"voxel_size{'_um' if trace.space.voxel_size else '_ratio'}": size} if size else {}),
        "field_of_view": round(trace.field_share, 4),
        "notes": traced.notes,
        "precision": traced.job.predictor.arithmetic.precision,
        "options": asdict(traced.job.options) | ({"scale": traced.ground_scale} if traced.ground_scale else {}),
    }
