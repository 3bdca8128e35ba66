"""From image files to files of traces and maps; the 2D and 3D scripts call this."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from configs.options import TraceFiles
from lib.errors import UserError, counted
from lib.files import make_folder
from lib.klib.image_io import stem, write_tiff
from lib.swclib import is_netracer_swc
from tools.progress import Progress, progress_bar, silent
from tools.tracing.growth.tracer import Growth, grow_together
from tools.tracing.job import TraceJob
from tools.tracing.maps import as_bytes, map_paths
from tools.tracing.outputs import Traced, check_colours, check_formats, write_each_tree, write_outputs, write_report
from tools.tracing.tables import TABLES, join_tables


@dataclass(frozen=True)
class TracedFile:
    """Outcome of tracing one image file.

    Attributes
    ----------
    image, written
        The file read, and those written of the formats asked for; none where it failed.
    nodes, trees
        Size of the trace.
    seconds
        Time from reading to writing.
    message
        Why there is no trace, or else notes on it.
    """

    image: Path
    written: tuple[Path, ...] = ()
    nodes: int = 0
    trees: int = 0
    seconds: float = 0.0
    message: str = ""

    @property
    def failed(self) -> bool:
        """Whether there is no trace."""
        return not self.written

    @property
    def swc(self) -> Path | None:
        """The SWC, else the first file written; None where it failed."""
        return next((path for path in self.written if path.suffix == ".swc"), next(iter(self.written), None))

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


class _Tracing:
    """One image file on its way from reading to writing."""

    def __init__(self, job: TraceJob, image: Path, files: TraceFiles, progress: Progress) -> None:
        self.image, self._job, self._files, self._progress = image, job, files, progress
        self._started = time.perf_counter()
        progress("reading", 0, 0)
        self._read = job.read(image, channel=files.channel, timepoint=files.timepoint)
        with _naming(image):
            stored = partial(job.spec.stored_maps, files, image)
            known = {"spacing": self._read.spacing, "has_unit": self._read.has_unit}
            mask = job.spec.stored_mask(files, image, self._read.pixels.shape[:-1])
            self._scale = job.ground_scale(image, self._read.pixels.shape[:-1])
            self._work = job.prepare(self._read.pixels, **known, stored_maps=stored, mask=mask, scale=self._scale)
            work = self._work
            known = {"centerline": work.centerline, "field": work.field_inside}
            self.growth = work.tracer.start(work.pixels, **known, progress=progress)

    def write(self) -> TracedFile:
        """Write the results of the growth, which is finished."""
        image, out = self.image, self._files.out
        trace = self._job.finish(self._work, self.growth.result(), self._progress)
        self._progress("writing", 0, 0)
        traced = Traced(image, self._read, trace, self._job, self._files.formats, self._files.overlay, self._scale)
        written = write_outputs(out, traced)
        if self._files.one_file_per_tree:
            write_each_tree(out / f"{stem(image)}_trees", traced)
        seconds = time.perf_counter() - self._started
        write_report(out / f"{stem(image)}.json", traced, seconds)
        message = "; ".join(traced.notes)
        return TracedFile(image, tuple(written), len(trace.forest), len(trace.forest.roots), seconds, message)


def trace_file(job: TraceJob, image: Path, files: TraceFiles, progress: Progress = silent) -> TracedFile:
    """Trace one image file and write the results, see :mod:`tools.tracing.outputs`.

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
    tracing = _Tracing(job, image, files, progress)
    next(grow_together(job.predictor, [tracing.growth]))
    return tracing.write()


def map_file(job: TraceJob, image: Path, files: TraceFiles, progress: Progress = silent) -> MappedFile:
    """Make the maps of one image file and write them; see :func:`trace_file`."""
    started = time.perf_counter()
    progress("reading", 0, 0)
    read = job.read(image, channel=files.channel, timepoint=files.timepoint)
    with _naming(image):
        scale = job.ground_scale(image, read.pixels.shape[:-1])
        maps = job.make_maps(read.pixels, spacing=read.spacing, scale=scale, progress=progress)
    progress("writing", 0, 0)
    centerline, distance = map_paths(files.out, image)
    write_tiff(centerline, as_bytes(maps.centerline))
    write_tiff(distance, maps.distance)
    return MappedFile(image, (centerline, distance), time.perf_counter() - started)


def trace_files(job: TraceJob, files: TraceFiles) -> Iterator[TracedFile]:
    """Trace every image of ``--images``, ``job.together`` at a time; one that fails does not stop the others.

    The outcomes come as the images are finished.

    Raises
    ------
    UserError
        If there is no image, two images have one stem, the output folder cannot be made, or an SWC that NETracer did
        not write would be replaced.
    """
    check_formats(files.formats, job.spec.ndim)
    check_colours(files.overlay, job)
    images = _images(job, files, swc=".swc" if "swc" in files.formats else None)
    live: dict[Growth, tuple[_Tracing, ExitStack]] = {}
    failed: list[TracedFile] = []

    # Functions, because the variables of a loop would keep an image in memory while the next one is read.
    def begin(name: str, image: Path) -> Growth | None:
        with ExitStack() as bar:
            try:
                tracing = _Tracing(job, image, files, bar.enter_context(progress_bar(name)))
            except UserError as error:
                failed.append(TracedFile(image, message=str(error)))
                return None
            live[tracing.growth] = tracing, bar.pop_all()
            return tracing.growth

    def finish(growth: Growth) -> TracedFile:
        tracing, bar = live.pop(growth)
        with bar:
            try:
                return tracing.write()
            except UserError as error:
                return TracedFile(tracing.image, message=str(error))

    growths, traced = filter(None, (begin(name, image) for name, image in images)), set[Path]()
    for done in map(finish, grow_together(job.predictor, growths, job.together)):
        traced |= set() if done.failed else {done.image}
        yield from (*failed, done)
        failed.clear()
    yield from failed
    if len(images) > 1 and "csv" in files.formats:
        for table in TABLES:
            join_tables(files.out, [stem(image) for _, image in images if image in traced], table)


def map_files(job: TraceJob, files: TraceFiles) -> Iterator[MappedFile]:
    """Make the maps of every image of ``--images`` as the outcomes are asked for, as :func:`trace_files` traces them.

    Raises
    ------
    UserError
        If there is no image, two images have one stem, or the output folder cannot be made.
    """
    for name, image in _images(job, files):
        with progress_bar(name) as progress:
            try:
                result = map_file(job, image, files, progress)
            except UserError as error:
                result = MappedFile(image, message=str(error))
        yield result


def _images(job: TraceJob, files: TraceFiles, swc: str | None = None) -> list[tuple[str, Path]]:
    """Name and path of every image, after the output folder was made; SWCs with the suffix ``swc`` may be replaced."""
    if not files.images.exists():
        raise UserError(f"{files.images}: no such file or folder; check the path")
    images = job.spec.files(files.images)
    stems = [stem(image) for image in images]
    if twice := next((image for image in images if stems.count(stem(image)) > 1), None):
        found = f"another image has the stem {stem(twice)}, both traces would have one name"
        raise UserError(f"{twice}: {found}; rename it")
    if swc is not None:
        check_replaceable(files.out / f"{name}{swc}" for name in stems)
    _make_out(files.out, files.images)
    if len(images) == 1:
        return [(images[0].name, images[0])]
    return [(f"image {number} of {len(images)}, {image.name}", image) for number, image in enumerate(images, 1)]


@contextmanager
def _naming(image: Path) -> Iterator[None]:
    """Put the name of the image before an error raised inside."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{image}: {error}") from None


def check_replaceable(paths: Iterable[Path]) -> None:
    """Refuse to replace an SWC that NETracer did not write: it may be a gold tree.

    Raises
    ------
    UserError
        If one of ``paths`` is such a file.
    """
    for swc in paths:
        if swc.is_file() and not is_netracer_swc(swc):
            raise UserError(f"{swc}: was not written by NETracer and would be replaced; move it, or give another --out")


def _make_out(out: Path, images: Path) -> None:
    """Make the output folder; it must not be the folder of the images, where gold SWCs may lie."""
    make_folder(out)
    if out.samefile(images):
        raise UserError(f"{out}: is the folder of the images, traces could replace files there; give another --out")
