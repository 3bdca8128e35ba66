"""From image files to SWC files with one weight file. The 2D and 3D scripts call this."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from configs.options import TraceOptions
from lib.errors import UserError
from lib.files import written
from lib.klib.image_io import image_files, write_png, write_tiff
from lib.klib.spaces import CORNER, Spaces, SwcOrigin
from lib.swclib import SwcForest, is_own_swc, rescale, translate, write_swc
from models.checkpoint import WeightsHeader, load_weights
from models.nenet import STRIDE
from tools.devices import choose_device
from tools.inference import Predictor
from tools.tracing.gds import Search
from tools.tracing.postprocess import CleanUp, clean
from tools.tracing.refine import refine
from tools.tracing.tracer import Tracer, TraceResult, TraceSettings

LARGEST_SHIFT = 1e6
"""Shifts above this are slips: no image is so large, and the decimals of an SWC would drown in it."""


@dataclass(frozen=True)
class WorkImage:
    """An image as it was read: ``pixels`` ``(*S, C)`` float32 in [0, 1], and what was done to read it."""

    pixels: np.ndarray
    notes: tuple[str, ...]


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


class TraceJob:
    """One weight file and one group of settings, for any number of images.

    Parameters
    ----------
    options
        See :class:`~configs.options.TraceOptions`.
    ndim
        Dimension of the images.
    read
        Reads one image file.
    picture
        Draws a forest (pixel-centre image positions) on an image ``(*S, C)``: uint8 ``(y, x, 3)``.

    Raises
    ------
    UserError
        If the weights cannot be used, or an option does not fit.
    """

    def __init__(
        self,
        options: TraceOptions,
        *,
        ndim: int,
        read: Callable[[Path], WorkImage],
        picture: Callable[[np.ndarray, SwcForest], np.ndarray],
    ) -> None:
        device = choose_device(options.device, options.threads)
        net, header = load_weights(options.weights, ndim=ndim)
        self.options = with_defaults(options, header)
        self.header, self.read, self.picture = header, read, picture
        predictor = Predictor(
            net,
            header.patch_size,
            features=self.options.features,
            device=device,
            tile=options.tile,
            views=self.options.views,
            beta=header.training.get("beta", 0.9),
            adapt=self.options.adapt,
        )
        self.tracer = Tracer(predictor, trace_settings(self.options))
        self.clean_up = CleanUp(
            gap=self.options.gap,
            gap_chance=self.options.stop_threshold,
            spur=self.options.spur,
            sure=self.options.sure,
        )

    def trace(self, pixels: np.ndarray) -> tuple[SwcForest, TraceResult]:
        """Trace an image ``(*S, C)`` in [0, 1]; the forest is in pixel-centre image positions.

        Raises
        ------
        UserError
            If the image is smaller than a patch at this scale.
        """
        spaces = Spaces.scaled(pixels.shape[:-1], self.options.scale)
        if np.any(np.array(spaces.work_shape) < self.header.patch_size):
            size, patch = (" x ".join(map(str, shape)) for shape in (spaces.work_shape, self.header.patch_size))
            raise UserError(f"{size} work pixels, smaller than a patch of {patch}; give a larger --scale or image")
        result = self.tracer.trace(spaces.resize(pixels))
        started = time.perf_counter()
        forest = clean(result.forest, result.centerline, self.clean_up)
        if self.options.refine:
            threshold = self.options.stop_threshold
            forest = refine(forest, result.centerline, threshold=threshold, longest=self.header.step)
        result.seconds["clean"] = time.perf_counter() - started
        return rescale(forest, 1 / spaces.scale, shift=spaces.to_image(np.zeros(len(spaces.work_shape)))), result

    def trace_file(self, image: Path) -> TracedFile:
        """Trace one file and write everything about it.

        Raises
        ------
        UserError
            If the image cannot be read or a result cannot be written.
        """
        started = time.perf_counter()
        work = self.read(image)
        try:
            forest, result = self.trace(work.pixels)
        except UserError as error:
            raise UserError(f"{image}: {error}") from None
        message = "" if len(forest) else "nothing was found to trace: the SWC is empty"
        out = self.options.out / image.stem
        write_png(out.with_name(f"{out.name}_overlay.png"), self.picture(work.pixels, forest))
        write_tiff(out.with_name(f"{out.name}_centerline.tif"), np.rint(result.centerline * 255).astype(np.uint8))
        swc = out.with_name(f"{out.name}.swc")
        write_swc(swc, placed(forest, self.options.swc_origin, self.options.swc_shift), comment=self._comment(image))
        traced = TracedFile(image, swc, len(forest), len(forest.roots), time.perf_counter() - started, message)
        write_json(out.with_name(f"{out.name}.json"), self._report(traced, forest, result, work))
        return traced

    def _comment(self, image: Path) -> list[str]:
        """Head of the SWC: units, origin, where it came from."""
        return [
            f"trace of {image.name} with {self.options.weights.name}",
            f"units: image pixels; 0 is the {self.options.swc_origin} of the first pixel; radius is not measured",
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
    }
    missing = {name: value for name, value in of_weights.items() if getattr(options, name) is None}
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
    if options.tile < STRIDE or options.tile % STRIDE:
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
    images = image_files(job.options.images)
    stems = [image.stem for image in images]
    if twice := next((image for image in images if stems.count(image.stem) > 1), None):
        raise UserError(f"{twice}: another image has the stem {twice.stem}, both traces would have one name; rename it")
    _check_replaceable(job.options.out, stems)
    _make_out(job.options.out, job.options.images)
    traced = []
    for image in tqdm(images, unit="image", disable=len(images) == 1):
        try:
            traced.append(job.trace_file(image))
        except UserError as error:
            traced.append(TracedFile(image, message=str(error)))
    return traced


def _check_replaceable(out: Path, stems: Sequence[str]) -> None:
    """Traces of an earlier run may be replaced; another SWC of that name may be a gold tree."""
    for swc in (out / f"{stem}.swc" for stem in stems):
        if swc.is_file() and not is_own_swc(swc):
            raise UserError(f"{swc}: was not written by NETracer and would be replaced; move it, or give another --out")


def _make_out(out: Path, images: Path) -> None:
    """Make the output folder; it must not be the folder that is read, where gold SWCs may lie."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made ({error.strerror}); give another --out") from None
    if out.samefile(images):
        raise UserError(f"{out}: is the folder of the images, traces could replace files there; give another --out")
