"""From image files to files of traces and maps; the 2D and 3D scripts call this."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from configs.options import TraceFiles
from lib.errors import UserError, counted
from lib.files import make_folder
from lib.klib.image_io import image_files, stem, write_tiff
from lib.swclib import is_netracer_swc
from tools.progress import Progress, progress_bar, silent
from tools.tracing.job import TraceJob
from tools.tracing.maps import as_bytes, map_paths
from tools.tracing.outputs import OUTPUTS, Traced, output_path, write_report

Result = TypeVar("Result")


@dataclass(frozen=True)
class TracedFile:
    """Outcome of tracing one image file.

    Attributes
    ----------
    image, swc
        The file read and the file written; ``swc`` is None where it failed.
    nodes, trees
        Size of the trace.
    seconds
        Time from reading to writing.
    message
        Why there is no trace, or else notes on it.
    """

    image: Path
    swc: Path | None = None
    nodes: int = 0
    trees: int = 0
    seconds: float = 0.0
    message: str = ""

    @property
    def failed(self) -> bool:
        """Whether there is no trace."""
        return self.swc is None

    @property
    def line(self) -> str:
        """One line about the outcome."""
        if self.failed:
            return self.message
        return f"{self.swc}: {self.size}, {self.seconds:.1f} s{'; ' if self.message else ''}{self.message}"

    @property
    def size(self) -> str:
        """Number of nodes and trees, in words."""
        return f"{counted(self.nodes, 'node')} in {counted(self.trees, 'tree')}"


@dataclass(frozen=True)
class MappedFile:
    """Outcome of mapping one image file: the maps written, or none and why."""

    image: Path
    maps: tuple[Path, ...] = ()
    seconds: float = 0.0
    message: str = ""

    @property
    def failed(self) -> bool:
        """Whether there are no maps."""
        return not self.maps

    @property
    def line(self) -> str:
        """One line about the outcome."""
        return self.message if self.failed else f"{' and '.join(map(str, self.maps))}: {self.seconds:.1f} s"


def trace_file(job: TraceJob, image: Path, files: TraceFiles, progress: Progress = silent) -> TracedFile:
    """Trace one image file and write all :data:`~tools.tracing.outputs.OUTPUTS` and the report.

    Parameters
    ----------
    job
        Traces the image.
    image
        The image file.
    files
        Options of the run: where to write, and maps made before.
    progress
        Receives the stages: ``reading``, those of :meth:`~tools.tracing.job.TraceJob.trace`, and ``writing``.

    Raises
    ------
    UserError
        If the image cannot be read or a result cannot be written.
    """
    started = time.perf_counter()
    progress("reading", 0, 0)
    read = job.read(image)
    with _naming(image):
        stored = partial(job.spec.stored_maps, files, image)
        trace = job.trace(read.pixels, spacing=read.spacing, stored_maps=stored, progress=progress)
    progress("writing", 0, 0)
    traced = Traced(image, read, trace, job)
    for output, (_, write) in OUTPUTS.items():
        write(output_path(files.out, stem(image), output), traced)
    seconds = time.perf_counter() - started
    write_report(files.out / f"{stem(image)}.json", traced, seconds)
    swc = output_path(files.out, stem(image), "swc")
    message = "; ".join(filter(None, [traced.voxel, traced.message]))
    return TracedFile(image, swc, len(trace.forest), len(trace.forest.roots), seconds, message)


def map_file(job: TraceJob, image: Path, files: TraceFiles, progress: Progress = silent) -> MappedFile:
    """Make the maps of one image file and write them; see :func:`trace_file`."""
    started = time.perf_counter()
    progress("reading", 0, 0)
    read = job.read(image)
    with _naming(image):
        maps = job.make_maps(read.pixels, spacing=read.spacing, progress=progress)
    progress("writing", 0, 0)
    centerline, distance = map_paths(files.out, image)
    write_tiff(centerline, as_bytes(maps.centerline))
    write_tiff(distance, maps.distance)
    return MappedFile(image, (centerline, distance), time.perf_counter() - started)


def trace_files(job: TraceJob, files: TraceFiles) -> Iterator[TracedFile]:
    """Trace every image of ``--images`` as the outcomes are asked for; one that fails does not stop the others.

    Raises
    ------
    UserError
        If there is no image, two images have one stem, the output folder cannot be made, or an SWC that NETracer did
        not write would be replaced.
    """
    return _each_image(files, partial(trace_file, job), TracedFile, swc=OUTPUTS["swc"][0])


def map_files(job: TraceJob, files: TraceFiles) -> Iterator[MappedFile]:
    """Make the maps of every image of ``--images`` as :func:`trace_files` traces them.

    Raises
    ------
    UserError
        If there is no image, two images have one stem, or the output folder cannot be made.
    """
    return _each_image(files, partial(map_file, job), MappedFile)


def _each_image(
    files: TraceFiles,
    make: Callable[[Path, TraceFiles, Progress], Result],
    failed: Callable[..., Result],
    swc: str | None = None,
) -> Iterator[Result]:
    """The result of ``make``, or of ``failed``, for every image; SWCs with the suffix ``swc`` may be replaced."""
    images = image_files(files.images)
    stems = [stem(image) for image in images]
    if twice := next((image for image in images if stems.count(stem(image)) > 1), None):
        found = f"another image has the stem {stem(twice)}, both traces would have one name"
        raise UserError(f"{twice}: {found}; rename it")
    if swc is not None:
        _check_replaceable(files.out / f"{name}{swc}" for name in stems)
    _make_out(files.out, files.images)
    for number, image in enumerate(images, 1):
        name = image.name if len(images) == 1 else f"image {number} of {len(images)}, {image.name}"
        with progress_bar(name) as progress:
            try:
                result = make(image, files, progress)
            except UserError as error:
                result = failed(image, message=str(error))
        yield result


@contextmanager
def _naming(image: Path) -> Iterator[None]:
    """Put the name of the image before an error raised inside."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{image}: {error}") from None


def _check_replaceable(paths: Iterator[Path]) -> None:
    """Refuse to replace an SWC that NETracer did not write: it may be a gold tree."""
    for swc in paths:
        if swc.is_file() and not is_netracer_swc(swc):
            raise UserError(f"{swc}: was not written by NETracer and would be replaced; move it, or give another --out")


def _make_out(out: Path, images: Path) -> None:
    """Make the output folder; it must not be the folder of the images, where gold SWCs may lie."""
    make_folder(out)
    if out.samefile(images):
        raise UserError(f"{out}: is the folder of the images, traces could replace files there; give another --out")
