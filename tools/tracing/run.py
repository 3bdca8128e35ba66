"""From image files to files of traces and maps; the 2D and 3D scripts call this."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from configs.options import TraceFiles
from lib.errors import UserError
from lib.files import make_folder
from lib.klib.image_io import image_files, stem, write_tiff
from lib.swclib import is_own_swc
from tools.tracing.job import TraceJob
from tools.tracing.maps import as_bytes, map_paths
from tools.tracing.outputs import OUTPUTS, Traced, output_path, write_report

Made = TypeVar("Made")


@dataclass(frozen=True)
class TracedFile:
    """What became of one image.

    Attributes
    ----------
    image, swc
        The file read and the file written; ``swc`` is None where it failed.
    nodes, trees
        Of the trace.
    seconds
        From reading to writing.
    message
        Why there is no trace, or what is odd about it; empty otherwise.
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
        """What to say about it."""
        if self.failed:
            return self.message
        made = f"{self.nodes} nodes in {self.trees} trees, {self.seconds:.1f} s"
        return f"{self.swc}: {made}{'; ' if self.message else ''}{self.message}"


@dataclass(frozen=True)
class MappedFile:
    """What became of one image: the maps written, none where it failed, and then why."""

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
        """What to say about it."""
        return self.message if self.failed else f"{' and '.join(map(str, self.maps))}: {self.seconds:.1f} s"


def trace_file(job: TraceJob, image: Path, files: TraceFiles) -> TracedFile:
    """Trace one image file and write everything about it.

    Raises
    ------
    UserError
        If the image cannot be read or a result cannot be written.
    """
    started = time.perf_counter()
    read = job.read(image)
    with about(image):
        trace = job.trace(read.pixels, spacing=read.spacing, maps=partial(job.spec.maps, files, image))
    traced = Traced(image, read, trace, job)
    for output, (_, write) in OUTPUTS.items():
        write(output_path(files.out, stem(image), output), traced)
    seconds = time.perf_counter() - started
    write_report(files.out / f"{stem(image)}.json", traced, seconds)
    swc = output_path(files.out, stem(image), "swc")
    return TracedFile(image, swc, len(trace.forest), len(trace.forest.roots), seconds, traced.message)


def map_file(job: TraceJob, image: Path, files: TraceFiles) -> MappedFile:
    """Make the maps of one image file and write them.

    Raises
    ------
    UserError
        If the image cannot be read or a map cannot be written.
    """
    started = time.perf_counter()
    read = job.read(image)
    with about(image):
        maps = job.maps(read.pixels, spacing=read.spacing)
    centerline, distance = map_paths(files.out, image)
    write_tiff(centerline, as_bytes(maps.centerline))
    write_tiff(distance, maps.distance)
    return MappedFile(image, (centerline, distance), time.perf_counter() - started)


def trace_files(job: TraceJob, files: TraceFiles) -> list[TracedFile]:
    """Trace every image of ``--images``; one that fails is reported in its place and does not stop the others.

    Raises
    ------
    UserError
        If there is no image, two of them would be written under one name, the output folder cannot be made, or an SWC
        that is no trace would be replaced there.
    """

    def failed(image: Path, message: str) -> TracedFile:
        return TracedFile(image, message=message)

    return _each_image(files, lambda image: trace_file(job, image, files), failed, written=(OUTPUTS["swc"][0],))


def map_files(job: TraceJob, files: TraceFiles) -> list[MappedFile]:
    """Make the maps of every image of ``--images``; one that fails is reported in its place.

    Raises
    ------
    UserError
        As :func:`trace_files`.
    """

    def failed(image: Path, message: str) -> MappedFile:
        return MappedFile(image, message=message)

    return _each_image(files, lambda image: map_file(job, image, files), failed)


def _each_image(
    files: TraceFiles, make: Callable[[Path], Made], failed: Callable[[Path, str], Made], written: Sequence[str] = ()
) -> list[Made]:
    """What ``make`` or, where it cannot, ``failed`` gives for every image; files with suffixes ``written`` are ours."""
    images = image_files(files.images)
    stems = [stem(image) for image in images]
    if twice := next((image for image in images if stems.count(stem(image)) > 1), None):
        found = f"another image has the stem {stem(twice)}, both traces would have one name"
        raise UserError(f"{twice}: {found}; rename it")
    _check_replaceable(files.out, [f"{name}{suffix}" for name in stems for suffix in written])
    _make_out(files.out, files.images)
    results = []
    for image in tqdm(images, unit="image", disable=len(images) == 1):
        try:
            results.append(make(image))
        except UserError as error:
            results.append(failed(image, str(error)))
    return results


@contextmanager
def about(image: Path) -> Iterator[None]:
    """Mistakes reported inside are about this file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{image}: {error}") from None


def _check_replaceable(out: Path, names: Sequence[str]) -> None:
    """Traces of an earlier run may be replaced; another SWC of that name may be a gold tree."""
    for swc in (out / name for name in names):
        if swc.is_file() and not is_own_swc(swc):
            raise UserError(f"{swc}: was not written by NETracer and would be replaced; move it, or give another --out")


def _make_out(out: Path, images: Path) -> None:
    """Make the output folder; it must not be the folder that is read, where gold SWCs may lie."""
    make_folder(out)
    if out.samefile(images):
        raise UserError(f"{out}: is the folder of the images, traces could replace files there; give another --out")
