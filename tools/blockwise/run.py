"""From a large image to its trace: a cell at a time, on the processes of this machine or of a cluster.

The files of the cells say what is done, not the scheduler: a run that was stopped, however that happened, does the
cells that are missing, and its result has the same bytes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from configs.checks import at_least, check_limits
from configs.options import TraceOptions
from lib import VERSION
from lib.errors import UserError, counted
from lib.files import make_folder, write_json
from lib.klib.decoded import ReadOptions
from lib.klib.image_io import stem
from lib.klib.lazy import open_image, shape_of
from lib.klib.ome_zarr import is_address, is_zarr
from lib.klib.spaces import Spaces, check_holds_patch
from lib.klib.windows import box, round_up, spread
from lib.parallel import cores
from lib.swclib import read_swc
from models.checkpoint import load_weights, read_header, save_weights, weight_file
from models.nenet import STRIDE
from tools.blockwise.grid import Cell, Grid, parsed_region
from tools.blockwise.plan import WEIGHTS, Plan, mask_in
from tools.blockwise.results import RUN, write_results
from tools.inference.memory_plan import GIGA, HELD, PROGRAM
from tools.inference.norm_adaptation import TILE, adapted
from tools.progress import progress_bar, tell
from tools.tracing.by_dimension import DIMENSIONS
from tools.tracing.job import TraceJob
from tools.tracing.outputs import check_colours, check_formats
from tools.tracing.run import TracedFile, check_replaceable
from tools.tracing.scale import ground_scale

if TYPE_CHECKING:
    from tools.blockwise.cluster import CellOutcome

SIDE = {2: 2048, 3: 256}
"""Side of a cell in work pixels, by dimension."""
HALO = {2: 64, 3: 48}
"""Work pixels around a cell that are traced with it: further than any rule of the clean-up looks, but for somata above
36 voxels in radius, and as far as most of what the network sees (docs/scale.md)."""
MOST_PIXELS = 40e6
"""Work pixels of an image from which on it is traced in cells: as one piece it would take about 4 GB."""
TRIED = 1024
"""Tiles of which those that adapt the batch norms are taken; with 64, a mosaic of retinas was traced another way than
in one piece (docs/experiments.md)."""
MOST_COARSE = 2**26
"""Pixels of a coarse level that is read at once and not cell by cell, which takes a request each."""
CELLS = "cells"
"""Folder of the finished cells, in that of the run."""
FREE = (
    "weights",
    "images",
    "out",
    "formats",
    "overlay",
    "one_file_per_tree",
    "workers",
    "scheduler",
    "device",
    "together",
)
"""Options that may change between the starts of a run: what is traced does not depend on them."""


def wants_cells(run: Any, ndim: int) -> bool:
    """Whether an image is traced in cells: if that is asked for, or it is larger than memory.

    Raises
    ------
    UserError
        If the image cannot be opened, or the folder of a run in cells is given for one piece.
    """
    if _wants_cells(run, ndim):
        return True
    if side := _stored(run.out / RUN).get("settings", {}).get("cell"):
        raise UserError(f"{run.out}: holds a run in cells of {side}; give --cell {side} as well, or another --out")
    return False


def _wants_cells(run: Any, ndim: int) -> bool:
    if run.cell or run.region or run.mask or run.scheduler or is_address(run.images):
        return True
    in_levels = is_zarr(run.images)
    if not (in_levels or run.images.is_file()):
        return False
    try:
        shape = shape_of(run.images, ndim, ReadOptions(channel=tuple(run.channel), timepoint=run.timepoint))
    except UserError:
        return False  # the way for single images says what is wrong, and reads more formats
    header = read_header(weight_file(run.weights))
    scale = ground_scale(run.scale, header, run.images, shape) or run.scale or header.scale
    if scale == "auto" or not (math.isfinite(scale) and scale > 0):
        return False
    work = Spaces.scaled(shape, scale).work_shape
    if max(work) <= SIDE[ndim]:
        return False  # a single cell
    return in_levels or math.prod(work) > (MOST_PIXELS if ndim == 2 else (run.memory * GIGA - PROGRAM) / HELD)


def report_cells(run: Any, ndim: int) -> int:
    """Trace an image in cells and report it: a line for the trace on stdout, one for each failed cell on stderr.

    Returns
    -------
    int
        Exit code: 2 if a cell failed.

    Raises
    ------
    UserError
        If the image, the options or the folder cannot be used, or nothing can be written.
    """
    traced, failures = trace_in_cells(run, ndim)
    sys.stdout.write(f"{traced.line}\n")
    for line in failures:
        sys.stderr.write(f"error: {line}\n")
    if failures:
        sys.stderr.write(f"{counted(len(failures), 'cell')} failed, the rest is traced; start again to try them anew\n")
    return 2 if failures else 0


def trace_in_cells(run: Any, ndim: int, *, group: int = 1) -> tuple[TracedFile, list[str]]:
    """Trace an image in cells; see :func:`report_cells`.

    Parameters
    ----------
    run
        Options with the files.
    ndim
        2 or 3.
    group
        Cells in a task of the scheduler; the result does not depend on it.

    Returns
    -------
    traced, failures
        The outcome, and a line for each failed cell.
    """
    check_formats(run.formats, ndim)
    if importlib.util.find_spec("distributed") is None:
        advice = "run `pip install -e '.[big]'` in the folder of NETracer"
        raise UserError(f"tracing in cells needs the package distributed, which is not installed; {advice}")
    from tools.blockwise.cluster import connected, run_cells, run_seams  # slow to import

    started = time.perf_counter()
    with _going_on(), progress_bar(run.images.name) as progress:
        progress("reading", 0, 0)
        work = CellRun(run, ndim)
        cells = work.cells()
        missing = [cell for cell in cells if not work.plan.file_of(cell).exists()]
        failures: list[CellOutcome] = []
        with connected(run.scheduler, work.workers) as client:
            tell(f"{counted(len(missing), 'cell')} to trace of {len(work.grid)}; {client.dashboard_link}")
            progress("tracing cells", len(cells) - len(missing), len(cells))
            for done, outcome in enumerate(run_cells(client, work.plan, missing, group), len(cells) - len(missing) + 1):
                if outcome.stops_all:
                    raise UserError(outcome.reason)
                failures += [outcome] if outcome.reason else []
                progress("tracing cells", done, len(cells))
            finished = [cell for cell in cells if work.plan.file_of(cell).exists()]
            if failures and not finished:
                first = f"the first at {work.plan.place_of(failures[0].cell)}: {failures[0].reason}"
                raise UserError(f"all {counted(len(failures), 'cell')} failed, {first}")
            progress("joining cells", 0, 0)
            seams = run_seams(client, work.plan, finished)
        traced = write_results(work, finished, seams, failures, started)
    places = [f"cell at {work.plan.place_of(each.cell)}: {each.reason}" for each in failures]
    return traced, places


@contextmanager
def _going_on() -> Iterator[None]:
    """Say at Ctrl-C that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        tell("stopped; the same command goes on with the cells that are missing")
        raise


class CellRun:
    """An image to trace in cells, and the folder of its run.

    Parameters
    ----------
    run
        Options with the files.
    ndim
        2 or 3.

    Raises
    ------
    UserError
        If they cannot be used, or the folder holds a run of another image or of other settings.
    """

    def __init__(self, run: Any, ndim: int) -> None:
        _check_options(run, ndim)
        self.run, self.ndim = run, ndim
        make_folder(run.out)
        if "swc" in run.formats:
            check_replaceable([run.out / f"{stem(run.images)}.swc"])
        before = _stored(run.out / RUN)
        self.job = _build_job(run, ndim, before)
        precision = self.job.predictor.arithmetic.precision
        how = replace(self.job.levels, channel=tuple(run.channel), timepoint=run.timepoint)
        self.image = open_image(run.images, ndim, how)
        check_colours(run.overlay, self.job)
        self.ground_scale = self.job.ground_scale(run.images, self.image.shape)
        scale = self.ground_scale or self.job.options.scale
        if scale == "auto":
            raise UserError("--scale auto: an image traced in cells is never read as a whole; give a number")
        spaces = Spaces.scaled(self.image.shape, scale)
        self.grid = self._grid(spaces)
        options = replace(cast(TraceOptions, self.job.options), scale=scale, precision=precision, adapt=0.0)
        region, mask = _region(run, self.image.shape), _mask(run, ndim)
        # Taken once: a part of the image that cannot be read today may be tomorrow.
        top, self.notes = before.get("top") or self.image.top(how)
        settings, parts = self._settings(options, top), self.image.fingerprints()
        _check_same(run.out, before, settings, parts)
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        folder = (run.out / CELLS).resolve()
        self.plan = Plan(folder, _absolute(self.image.source), how, options, spaces, self.grid, top, mask, region, key)
        make_folder(folder)
        if not (folder / WEIGHTS).exists():
            self._write_weights(folder / WEIGHTS)
        self.stored = {"settings": settings, "precision": precision, "top": (top, self.notes), "parts": parts}
        write_json(run.out / RUN, {**before, **self.stored})

    @property
    def workers(self) -> int:
        """Processes to start."""
        on_gpu = self.job.predictor.device == "cuda"
        return self.run.workers or (torch.cuda.device_count() if on_gpu else cores())

    def _grid(self, spaces: Spaces) -> Grid:
        """The cells, which must fit into memory with what is around them."""
        size = self.job.header.patch_size
        check_holds_patch(spaces.work_shape, size, self.job.spec.advice)
        unit = int(np.max(STRIDE * np.array(self.job.predictor.net.stem)))
        # So far away, surroundings hardly count.
        sides = self.run.cell or SIDE[self.ndim], max(HALO[self.ndim], 2 * self.job.header.local_contrast)
        side, halo = (int(round_up(np.array(pixels), unit)) for pixels in sides)
        self.job.predictor.check_memory(np.minimum(side + 2 * halo, spaces.work_shape))
        return Grid(spaces.work_shape, side, halo, tuple(size))

    def _settings(self, options: TraceOptions, top: float) -> dict[str, Any]:
        """All that the trace depends on."""
        chosen = {name: value for name, value in asdict(options).items() if name not in FREE}
        image = {
            "image": Path(self.image.source).name,
            "shape": self.image.shape,
            "type": str(self.image.dtype),
            "top": top,
        }
        weights = hashlib.sha256(self.job.weights.read_bytes()).hexdigest()
        cells = {"cell": self.grid.side, "halo": self.grid.halo, "adapt": self.job.options.adapt}
        return json.loads(json.dumps({**chosen, **image, "weights": weights, **cells, "version": VERSION}, default=str))

    def _write_weights(self, path: Path) -> None:
        """Copy the weights; batch norms are adapted to the image once, from tiles all over it."""
        net, header = load_weights(self.job.weights, ndim=self.ndim)
        if share := self.job.options.adapt:
            net = adapted(net.to(self.job.predictor.device), self._tiles(), share, self.job.predictor.arithmetic)
        save_weights(path, net, replace(header, thresholds={**header.thresholds, "adapt": 0.0}))

    def _tiles(self) -> np.ndarray:
        """Tiles evenly spread over the image, side by side ``(*S, C)``: :func:`adapted` takes those that are lit.

        If they cover the image, it takes those that it would take of the whole.
        """
        shape, side = np.array(self.grid.shape), np.minimum(TILE[self.ndim], self.grid.shape)
        counts = np.minimum(-(-shape // side), math.ceil(TRIED ** (1 / self.ndim)))
        tiles = list[np.ndarray]()
        for low in spread(shape, side, counts):
            with suppress(UserError):  # what cannot be read fails its own cells
                tiles.append(self._work_pixels(low, side))
        if not tiles:
            raise UserError(f"{self.image.source}: no part of it that was tried can be read; check the file")
        return np.concatenate(tiles, axis=-2)

    def _work_pixels(self, low: np.ndarray, size: np.ndarray) -> np.ndarray:
        """A window of work pixels ``(*size, C)`` as the network takes it."""
        window = self.plan.spaces.window(low, low + size)
        return self.job.work_pixels(self.plan.pixels(self.image, window), window)

    def cells(self) -> list[Cell]:
        """Cells to trace: in the region, not masked, not dark."""
        chosen = list(self.grid)
        if self.plan.region is not None:
            low, high = (self.plan.spaces.to_work(np.array(corner) - 0.5) + 0.5 for corner in self.plan.region)
            chosen = self.grid.overlapping(np.floor(low).astype(int), np.ceil(high).astype(int))
        if self.plan.mask is not None:
            mask = open_image(self.plan.mask, self.ndim)
            boxes = {cell: self.plan.spaces.window(*self.grid.box(cell)) for cell in chosen}
            chosen = [cell for cell in chosen if mask_in(mask, self.plan.spaces, boxes[cell]).any()]
        if len(self.image.levels) == 1:
            return chosen
        threshold = self.plan.top * float(getattr(self.plan.options, "dark", None) or 0.0) ** 2
        return [cell for cell in chosen if not self._is_dark(cell, threshold)]

    @cached_property
    def _coarse(self) -> np.ndarray | None:
        """The coarsest level of the image, read at once; None if it is too large for that."""
        level = len(self.image.levels) - 1
        shape = self.image.shape_of(level)
        return self.image.read([0] * self.ndim, shape, level) if math.prod(shape) <= MOST_COARSE else None

    def _is_dark(self, cell: Cell, threshold: float) -> bool:
        """Whether the coarsest level of the image shows that a cell holds no tube brighter than ``threshold``.

        A tube of 2 x 2 voxels fills four parts of the f x f that a coarse voxel averages across it.
        """
        level = len(self.image.levels) - 1
        shape = np.array(self.image.shape_of(level))
        factor = np.array(self.image.shape) / shape
        window = self.plan.spaces.window(*self.grid.box(cell))
        low = np.floor(np.array(window.image_low) / factor).astype(int)
        high = np.minimum(np.ceil(np.array(window.image_high) / factor).astype(int) + 1, shape)
        part = self.image.read(low, high, level) if self._coarse is None else self._coarse[box(low, high)]
        ground, share = float(part.min()), min(1.0, 4.0 / float(np.sort(factor)[-2:].prod()))
        return float(part.max()) <= ground + share * max(threshold - ground, 0.0)


def _check_options(run: Any, ndim: int) -> None:
    """Refuse options that need the whole image at once, and values that are not allowed."""
    least = HALO[ndim]
    fits = (lambda value: value == 0 or value >= least, f"--{{name}} {{value}}: give at least {least} (work pixels)")
    check_limits(run, {"cell": fits, "workers": at_least(0, "--{name} {value}: give 0 or more")})
    if ndim == 2 and run.images.is_dir() and not is_zarr(run.images):
        raise UserError(f"{run.images}: is a folder; give one image to trace in cells")
    if getattr(run, "masks", None) or getattr(run, "maps", None):
        raise UserError("--masks and --maps are for images traced in one piece; give --mask, or leave them out")


def _stored(path: Path) -> dict[str, Any]:
    """What the folder of a run says of it; empty before its first start."""
    try:
        return json.loads(path.read_text()) if path.is_file() else {}
    except ValueError:
        raise UserError(f"{path}: is not the report of a run; move it, or give another --out") from None


def _build_job(run: Any, ndim: int, before: Mapping[str, Any]) -> TraceJob:
    """The job; sums depend on the number of threads, and on the number format, which the first start measures."""
    precision = before.get("precision", "auto") if run.precision == "auto" else run.precision
    return DIMENSIONS[ndim].build(replace(run, precision=precision, threads=run.threads or 1, field="whole"))


def _check_same(out: Path, before: Mapping[str, Any], settings: Mapping[str, Any], parts: Sequence[str]) -> None:
    """Refuse to go on with a run that was started in another way, or of another image."""
    started = before.get("settings", {})
    if other := next((name for name in settings if started and started.get(name) != settings[name]), None):
        found = f"holds a run with {other} {started.get(other)}, now it is {settings[other]}"
        raise UserError(f"{out}: {found}; give another --out, or delete {CELLS} and {RUN} there")
    if any(one and other and one != other for one, other in zip(before.get("parts", ()), parts, strict=False)):
        raise UserError(f"{out}: holds a run of another image of this name and size; give another --out")


def _absolute(source: str) -> str:
    """A path that holds in another working directory, too."""
    return source if is_address(source) else str(Path(source).resolve())


def _region(run: Any, shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The part of the image to trace: ``--region``, within the bounding box of an SWC given as ``--mask``."""
    low, high = (np.zeros(len(shape), int), np.array(shape)) if run.region is None else parsed_region(run.region, shape)
    tree = run.mask if run.mask is not None and run.mask.suffix.lower() == ".swc" else None
    if tree is not None:
        places = read_swc(tree, origin="centre").positions(len(shape))
        low = np.maximum(low, np.floor(places.min(axis=0)).astype(int))
        high = np.minimum(high, np.ceil(places.max(axis=0)).astype(int) + 1)
        if (low >= high).any():
            raise UserError(f"--mask {run.mask}: the tree lies outside the image; give one in pixels of the image")
    return (tuple(low.tolist()), tuple(high.tolist())) if run.region or tree is not None else None


def _mask(run: Any, ndim: int) -> str | None:
    """The mask that is an image, and can be opened."""
    if run.mask is None or run.mask.suffix.lower() == ".swc":
        return None
    open_image(run.mask, ndim)
    return _absolute(str(run.mask))
