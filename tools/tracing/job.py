"""From image files to SWC files with one weight file. The 2D and 3D scripts call this."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from configs.options import TraceOptions
from lib.errors import UserError
from lib.files import make_folder, written
from lib.klib.image_io import image_files, stem, write_png, write_tiff
from lib.klib.spaces import CORNER, Spaces, SwcOrigin, check_holds_patch, normalised
from lib.swclib import SwcForest, is_own_swc, rescale, translate, write_swc
from models.checkpoint import WeightsHeader, load_weights
from models.nenet import STRIDE
from tools.devices import choose_device
from tools.inference import Predictor
from tools.tracing.finishing import finished
from tools.tracing.gds import Search
from tools.tracing.maps import ImageMaps, as_bytes, axis_of, map_paths, radii, surface_distance
from tools.tracing.postprocess import CleanUp
from tools.tracing.seeds import skeleton_pixels
from tools.tracing.tracer import Tracer, TraceResult, TraceSettings

Made = TypeVar("Made")
LARGEST_SHIFT = 1e6
"""Shifts above this are slips: no image is so large, and the decimals of an SWC would drown in it."""


@dataclass(frozen=True)
class WorkImage:
    """An image as it was read: ``pixels`` ``(*S, C)`` float32 in [0, 1], what was done to read it, size of a pixel."""

    pixels: np.ndarray
    notes: tuple[str, ...]
    spacing: tuple[float, ...] | None = None


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


@dataclass(frozen=True)
class TraceDoor:
    """What differs between tracing images and volumes.

    Attributes
    ----------
    ndim
        Dimension of the images.
    read
        Reads one image file, with the header of the weights.
    picture
        Draws a forest (pixel-centre image positions) on an image ``(*S, C)``: uint8 ``(y, x, 3)``.
    settings
        The tracer's part of complete options.
    predictor
        Further arguments of :class:`~tools.inference.Predictor`, of complete options.
    maps
        Gives the maps of an image that were made before, if the options name some, of a work shape.
    measured
        Whether the radius is measured: where tubes are brighter than what lies around them.
    advice
        What to do about an image smaller than a patch.
    units
        What the SWC counts in.
    """

    ndim: int
    read: Callable[[Path, WeightsHeader], WorkImage]
    picture: Callable[[np.ndarray, SwcForest], np.ndarray]
    settings: Callable[[TraceOptions], TraceSettings]
    predictor: Callable[[TraceOptions], dict[str, Any]] = lambda _: {}
    maps: Callable[[TraceOptions, Path, tuple[int, ...]], ImageMaps | None] = lambda *_: None
    measured: bool = False
    advice: str = "give a larger --scale or image"
    units: str = "image pixels; 0 is the {origin} of the first pixel"


class TraceJob:
    """One weight file and one group of settings, for any number of images.

    Parameters
    ----------
    options
        See :class:`~configs.options.TraceOptions`.
    door
        See :class:`TraceDoor`.

    Raises
    ------
    UserError
        If the weights cannot be used, or an option does not fit.
    """

    def __init__(self, options: TraceOptions, door: TraceDoor) -> None:
        device = choose_device(options.device, options.threads)
        net, header = load_weights(options.weights, ndim=door.ndim)
        self.options = with_defaults(options, header)
        self.header, self.door = header, door
        predictor = Predictor(
            net.mute_unseen(seen_in_training(header)),
            header.patch_size,
            features=self.options.features,
            device=device,
            tile=options.tile,
            views=self.options.views,
            beta=header.training.get("beta", 0.9),
            adapt=self.options.adapt,
            **door.predictor(self.options),
        )
        self.tracer = Tracer(predictor, door.settings(self.options))
        self.clean_up = clean_up(self.options)

    def read(self, image: Path) -> WorkImage:
        """Read one image file."""
        return self.door.read(image, self.header)

    def trace(
        self, pixels: np.ndarray, *, spacing: Sequence[float] | None = None, maps: ImageMaps | None = None
    ) -> tuple[SwcForest, TraceResult]:
        """Trace an image ``(*S, C)`` in [0, 1]; the forest is in pixel-centre image positions.

        Parameters
        ----------
        pixels
            The image.
        spacing
            Size of a pixel along each axis, in any unit; what the options say weighs more.
        maps
            Maps of this image made before.

        Raises
        ------
        UserError
            If the image is smaller than a patch at this scale.
        """
        spaces = self._spaces(pixels)
        sizes = self._sizes(spacing)
        work = spaces.resize(pixels)
        tracer = self.tracer if sizes is None else self.tracer.spaced(sizes)
        result = tracer.trace(work) if maps is None else tracer.trace(work, maps.centerline)
        started = time.perf_counter()
        refined = self.options.refine
        forest = finished(result.forest, result.centerline, self.clean_up, refined=refined, spacing=sizes)
        result.seconds["clean"] = time.perf_counter() - started
        if self.door.measured and len(forest):
            started = time.perf_counter()
            positions = forest.positions(self.door.ndim)
            if maps is None:
                axis = axis_of(positions[forest.edges], spaces.work_shape)
                maps = ImageMaps(result.centerline, surface_distance(work, axis, sizes))
            forest = replace(forest, radius=radii(maps.distance, positions, sizes))
            result.seconds["radius"] = time.perf_counter() - started
        return rescale(forest, 1 / spaces.scale, shift=spaces.to_image(np.zeros(len(spaces.work_shape)))), result

    def maps(self, pixels: np.ndarray, *, spacing: Sequence[float] | None = None) -> ImageMaps:
        """The maps of an image ``(*S, C)`` in [0, 1]; its tubes are those of the skeleton of the centerline map.

        Raises
        ------
        UserError
            As :meth:`trace`.
        """
        work = self._spaces(pixels).resize(pixels)
        centerline = self.tracer.predictor.set_image(work)
        axis = np.zeros(centerline.shape, dtype=bool)
        axis[tuple(skeleton_pixels(centerline, self.options.stop_threshold).T)] = True
        return ImageMaps(centerline, surface_distance(work, axis, self._sizes(spacing)))

    def _spaces(self, pixels: np.ndarray) -> Spaces:
        """Image and work space of an image, which must not be smaller than a patch."""
        spaces = Spaces.scaled(pixels.shape[:-1], self.options.scale)
        check_holds_patch(spaces.work_shape, self.header.patch_size, self.door.advice)
        return spaces

    def _sizes(self, spacing: Sequence[float] | None) -> tuple[float, ...] | None:
        """Size of a pixel in units of its finest axis; None where it is the same along all axes."""
        known = getattr(self.options, "spacing", None) or spacing or self.header.spacing
        sizes = normalised(known) if known else ()
        return sizes if set(sizes) - {1.0} else None

    def trace_file(self, image: Path) -> TracedFile:
        """Trace one file and write everything about it.

        Raises
        ------
        UserError
            If the image cannot be read or a result cannot be written.
        """
        started = time.perf_counter()
        work = self.read(image)
        with about(image):
            maps = self.door.maps(self.options, image, self._spaces(work.pixels).work_shape)
            forest, result = self.trace(work.pixels, spacing=work.spacing, maps=maps)
        message = "" if len(forest) else "nothing was found to trace: the SWC is empty"
        out = self.options.out / stem(image)
        write_png(out.with_name(f"{out.name}_overlay.png"), self.door.picture(work.pixels, forest))
        write_tiff(out.with_name(f"{out.name}_centerline.tif"), as_bytes(result.centerline))
        swc = out.with_name(f"{out.name}.swc")
        write_swc(swc, placed(forest, self.options.swc_origin, self.options.swc_shift), comment=self._comment(image))
        traced = TracedFile(image, swc, len(forest), len(forest.roots), time.perf_counter() - started, message)
        write_json(out.with_name(f"{out.name}.json"), self._report(traced, forest, result, work))
        return traced

    def map_file(self, image: Path) -> MappedFile:
        """Make the maps of one file and write them.

        Raises
        ------
        UserError
            If the image cannot be read or a map cannot be written.
        """
        started = time.perf_counter()
        work = self.read(image)
        with about(image):
            maps = self.maps(work.pixels, spacing=work.spacing)
        skl, dis = map_paths(self.options.out, image)
        write_tiff(skl, as_bytes(maps.centerline))
        write_tiff(dis, maps.distance)
        return MappedFile(image, (skl, dis), time.perf_counter() - started)

    def _comment(self, image: Path) -> list[str]:
        """Head of the SWC: units, origin, where it came from."""
        radius = "in pixels of a slice" if self.door.measured else "not measured"
        return [
            f"trace of {image.name} with {self.options.weights.name}",
            f"units: {self.door.units.format(origin=self.options.swc_origin)}; radius is {radius}",
        ]

    def _report(self, traced: TracedFile, forest: SwcForest, result: TraceResult, work: WorkImage) -> dict[str, Any]:
        """What stands in the JSON beside a trace: counts, timings, settings."""
        seconds = {name: round(value, 3) for name, value in (result.seconds | {"total": traced.seconds}).items()}
        return {
            "image": traced.image.name,
            "nodes": traced.nodes,
            "trees": traced.trees,
            "length_px": round(forest.length, 1),
            "branch_points": len(forest.branch_points),
            "counts": result.counts,
            "seconds": seconds,
            "loops_left_open": self._loops(result, work),
            "notes": [*work.notes, *([traced.message] if traced.message else [])],
            "options": asdict(self.options),
        }

    def _loops(self, result: TraceResult, work: WorkImage) -> list[dict[str, list[float]]]:
        """Joins left out because they close a loop, in the coordinates and the order (x, y, z) of the SWC."""
        spaces = Spaces.scaled(work.pixels.shape[:-1], self.options.scale)
        ends = spaces.to_image(result.loops).reshape(-1, result.centerline.ndim)
        nodes = SwcForest.from_positions(ends, np.full(len(ends), -1))
        written = placed(nodes, self.options.swc_origin, self.options.swc_shift).xyz
        return [{"from": start, "to": end} for start, end in np.round(written, 2).reshape(-1, 2, 3).tolist()]


@contextmanager
def about(image: Path) -> Iterator[None]:
    """Mistakes told inside are about this file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{image}: {error}") from None


def seen_in_training(header: WeightsHeader) -> Sequence[int]:
    """Size of the images that the network saw while it was trained."""
    return header.training.get("tile_size" if header.features == "tile" else "patch_size", header.patch_size)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file; it appears under its name only when complete.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    with written(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n")


def with_defaults(options: TraceOptions, header: WeightsHeader) -> TraceOptions:
    """Options with what was not given taken from the weight file."""
    of_weights = {
        "scale": header.scale,
        "swc_origin": header.swc_origin,
        "r": header.r,
        "swc_shift": header.thresholds.get("swc_shift", 0.0),
        "features": header.features,
        "views": int(header.thresholds.get("views", 1)),
        "adapt": header.thresholds.get("adapt", 0.0),
        "seed_threshold": header.thresholds.get("seed", TraceSettings.seed_threshold),
        "stop_threshold": header.thresholds.get("stop", TraceSettings.stop_threshold),
        "spur": header.thresholds.get("spur", CleanUp.spur),
        "gap": header.thresholds.get("gap", CleanUp.gap),
        "sure": header.thresholds.get("sure", CleanUp.sure),
        "crossings": "apart" if header.thresholds.get("apart", CleanUp.apart) else "joined",
        "dark": header.thresholds.get("dark", 0.0),
    }
    missing = {name: value for name, value in of_weights.items() if getattr(options, name, value) is None}
    options = replace(options, **missing)
    _check(options, header.ndim)
    return options


def _check(options: TraceOptions, ndim: int) -> None:
    """Refuse values that mean nothing, before an image is read."""
    _check_chances(options)
    _check_lengths(options)
    for name in ("fronts", "num_vec"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: must be at least 1")
    if not 1 <= options.views <= 2**ndim:
        raise UserError(f"--views {options.views}: give 1 to {2**ndim}, an image has no more mirrored views")
    if options.seed < 0:
        raise UserError(f"--seed {options.seed}: give 0 or more")
    if options.tile < STRIDE * (ndim == 2) or options.tile % STRIDE:
        raise UserError(f"--tile {options.tile}: give a multiple of {STRIDE}")
    if options.geodesic == "geodistk" and importlib.util.find_spec("GeodisTK") is None:
        raise UserError("--geodesic geodistk: the package GeodisTK is not installed; run `make geodistk`")


def _check_chances(options: TraceOptions) -> None:
    """Refuse what is no chance; written so that NaN is refused, too."""
    for name in ("seed_threshold", "stop_threshold"):
        if not 0 < getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: give a chance between 0 and 1")
    for name in ("sure", "adapt"):
        if not 0 <= getattr(options, name) <= 1:
            raise UserError(f"--{name} {getattr(options, name)}: give a share from 0 to 1")


def _check_lengths(options: TraceOptions) -> None:
    """Refuse lengths that cannot be; written so that NaN is refused, too."""
    for name in ("scale", "r"):
        if not 0 < getattr(options, name) < math.inf:
            raise UserError(f"--{name} {getattr(options, name)}: must be positive")
    for name in ("spur", "gap"):
        if not 0 <= getattr(options, name) < math.inf:
            raise UserError(f"--{name} {getattr(options, name)}: give 0 (none) or a length in work pixels")
    if not abs(options.swc_shift) <= LARGEST_SHIFT:
        raise UserError(f"--swc_shift {options.swc_shift}: give image pixels, at most {LARGEST_SHIFT:g}")


def trace_settings(options: TraceOptions) -> TraceSettings:
    """The tracer's part of complete options."""
    return TraceSettings(
        search=Search(r=options.r, num_vec=options.num_vec, solver=options.geodesic),
        seed_threshold=options.seed_threshold,
        stop_threshold=options.stop_threshold,
        fronts=options.fronts,
        method=options.method,
        joins=options.joins,
        seed=options.seed,
    )


def clean_up(options: TraceOptions) -> CleanUp:
    """What complete options clean up."""
    return CleanUp(
        gap=options.gap,
        gap_chance=options.stop_threshold,
        spur=options.spur,
        sure=options.sure,
        apart=options.crossings == "apart",
    )


def placed(forest: SwcForest, origin: SwcOrigin, shift: float = 0.0) -> SwcForest:
    """Pixel-centre positions as they are written, in image pixels; only x and y have corners and are shifted."""
    moved = shift + (CORNER if origin == "corner" else 0.0)
    return translate(forest, (moved, moved))


def trace_files(job: TraceJob) -> list[TracedFile]:
    """Trace every image of ``--images``; one that fails is reported in its place and does not stop the others.

    Raises
    ------
    UserError
        If there is no image, two of them would be written under one name, the output folder cannot be made, or an SWC
        that is no trace would be replaced there.
    """

    def failed(image: Path, message: str) -> TracedFile:
        return TracedFile(image, message=message)

    return _each_image(job, job.trace_file, failed, written=(".swc",))


def map_files(job: TraceJob) -> list[MappedFile]:
    """Make the maps of every image of ``--images``; one that fails is reported in its place.

    Raises
    ------
    UserError
        As :func:`trace_files`.
    """

    def failed(image: Path, message: str) -> MappedFile:
        return MappedFile(image, message=message)

    return _each_image(job, job.map_file, failed)


def _each_image(
    job: TraceJob, make: Callable[[Path], Made], failed: Callable[[Path, str], Made], written: Sequence[str] = ()
) -> list[Made]:
    """What ``make`` or, where it cannot, ``failed`` gives for every image; files with suffixes ``written`` are ours."""
    images = image_files(job.options.images)
    stems = [stem(image) for image in images]
    if twice := next((image for image in images if stems.count(stem(image)) > 1), None):
        found = f"another image has the stem {stem(twice)}, both traces would have one name"
        raise UserError(f"{twice}: {found}; rename it")
    _check_replaceable(job.options.out, [f"{name}{suffix}" for name in stems for suffix in written])
    _make_out(job.options.out, job.options.images)
    results = []
    for image in tqdm(images, unit="image", disable=len(images) == 1):
        try:
            results.append(make(image))
        except UserError as error:
            results.append(failed(image, str(error)))
    return results


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
