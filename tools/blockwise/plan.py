"""What every worker needs to know to trace a cell, and how it does."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from skimage.measure import block_reduce

from configs.options import TraceOptions
from lib.klib.contrast import without_local_contrast
from lib.klib.decoded import ReadOptions
from lib.klib.lazy import LazyImage, open_image
from lib.klib.spaces import Spaces, WindowSpaces
from lib.klib.windows import box, is_outside
from lib.swclib import SwcForest, rescale
from lib.swclib.forest import SOMA_TYPE
from tools.blockwise.cells import OVERLAP, CellTrace
from tools.blockwise.grid import Cell, Grid
from tools.blockwise.seams import Seam, find_seam
from tools.confidence.ahead import probability_ahead
from tools.inference.memory_plan import GIGA
from tools.tracing.by_dimension import DIMENSIONS
from tools.tracing.cleanup.pruning import REACH, is_isolated
from tools.tracing.growth.tracer import TraceResult
from tools.tracing.job import TraceJob
from tools.tracing.maps import as_bytes
from tools.tracing.trace import Trace

WEIGHTS = "weights.safetensors"
"""Copy of the weights beside the cells, adapted to the image, so that workers need nothing but the folder."""


@dataclass(frozen=True, eq=False)
class Plan:
    """How an image is traced in cells. It can be sent to another process.

    Attributes
    ----------
    folder
        Folder of the finished cells and the weights.
    image
        Path or address of the image.
    how
        Which channels and time point to take of it.
    options
        Options of the trace; nothing in them is measured anew by a worker.
    spaces
        Spaces of the whole image.
    grid
        Its cells.
    top
        Value of the image that becomes 1.
    mask
        Path or address of a mask, of any resolution: nothing is traced where it is 0.
    region
        First pixel (included) and last one (excluded) of the part of the image to trace; None is all.
    key
        Differs between plans that differ.
    """

    folder: Path
    image: str
    how: ReadOptions
    options: TraceOptions
    spaces: Spaces
    grid: Grid
    top: float
    mask: str | None = None
    region: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    key: str = ""

    @property
    def ndim(self) -> int:
        """Dimension of the image."""
        return len(self.grid.shape)

    def file_of(self, cell: Cell) -> Path:
        """File of the trace of a cell."""
        return self.folder / f"{'_'.join(map(str, cell))}.npz"

    def pixels(self, image: LazyImage, window: WindowSpaces) -> np.ndarray:
        """``(*S, C)`` pixels of a window of the image, in [0, 1]."""
        return image.unit(image.read(window.image_low, window.image_high), self.top)

    def place_of(self, cell: Cell) -> str:
        """Where a cell lies, in image pixels: ``z 0:256, y 256:512, x 0:256``."""
        low, high = (np.rint(self.spaces.to_image(corner - 0.5) + 0.5).astype(int) for corner in self.grid.box(cell))
        axes = zip("zyx"[-self.ndim :], low.tolist(), high.tolist(), strict=True)
        return ", ".join(f"{axis} {first}:{last}" for axis, first, last in axes)


class _Opened(NamedTuple):
    """What a worker opens and loads once for all its cells."""

    image: LazyImage
    mask: LazyImage | None
    job: TraceJob


_opened: dict[tuple[Path, str], _Opened] = {}
"""By folder and key of the plan: every task brings a copy of it."""


def opened(plan: Plan) -> _Opened:
    """The image, the mask and the job of a plan; those of the plan before are forgotten.

    Raises
    ------
    UserError
        If one of them cannot be opened.
    """
    which = plan.folder, plan.key
    if which not in _opened:
        _opened.clear()
        image = open_image(plan.image, plan.ndim, plan.how)
        mask = None if plan.mask is None else open_image(plan.mask, plan.ndim)
        _opened[which] = _Opened(image, mask, TraceJob(plan.folder / WEIGHTS, plan.options, DIMENSIONS[plan.ndim].spec))
    return _opened[which]


def unit_sizes(job: TraceJob, image: LazyImage) -> np.ndarray:
    """``(ndim,)`` size of a work pixel in units."""
    return np.array(job.sizes(image.spacing) or (1.0,) * image.ndim)


def trace_cell(plan: Plan, cell: Cell) -> CellTrace:
    """Trace one cell of an image.

    Raises
    ------
    UserError
        If the image cannot be read.
    """
    started = time.perf_counter()
    image, mask, job = opened(plan)
    window = plan.spaces.window(*plan.grid.window(cell))
    pixels = plan.pixels(image, window)
    reading = time.perf_counter() - started
    if pixels.max(initial=0.0) <= getattr(job.options, "dark", 0.0):
        return CellTrace.empty(plan.ndim)
    field = field_of(plan, mask, window)
    if field is not None and not field.any():
        return CellTrace.empty(plan.ndim)
    size = {"spacing": image.spacing, "has_unit": image.has_unit}
    work = job.prepare(pixels, **size, window=window, mask=field)
    result = work.tracer.trace(work.pixels, field=work.field_inside)
    sizes = unit_sizes(job, image)
    known = known_inside(plan.grid, cell, sizes)
    trace = job.finish(work, result, window=known)
    whole = _of_window(trace, result, window, known, sizes, job)
    cut = whole.with_own_somata(*plan.grid.box(cell), sizes).cut_to(*_kept(plan.grid, cell, sizes))
    seconds = {"read": reading, **trace.seconds, "total": time.perf_counter() - started}
    # In kilobytes, but on macOS in bytes.
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / GIGA
    picture = _picture(without_local_contrast(work.pixels), plan.grid, cell)
    return replace(cut, picture=picture, counts=trace.counts, stops=trace.stops, seconds=seconds, memory=memory)


def _picture(pixels: np.ndarray, grid: Grid, cell: Cell) -> np.ndarray:
    """The pixels ``(*S, C)`` of a window without its halo, made smaller: means, but maxima of volumes, whose tubes are
    few and thin."""
    (low, high), (begin, _) = grid.box(cell), grid.window(cell)
    inner = pixels[box(low - begin, high - begin)]
    sides: Any = (grid.reduction,) * len(low) + (1,)  # scikit-image's annotation knows one side alone
    reduced = block_reduce(inner, sides, np.max if len(low) == 3 else np.mean)
    return as_bytes(np.clip(reduced, 0, 1))


def seam_of(plan: Plan, cell: Cell) -> Seam:
    """How a finished cell meets those of its neighbours that are finished, too."""
    image, _, job = opened(plan)
    around = [other for other in plan.grid.neighbours(cell) if plan.file_of(other).exists()]
    traces = {plan.grid.number(other): CellTrace.load(plan.file_of(other)) for other in around}
    own = CellTrace.load(plan.file_of(cell))
    return find_seam(plan.grid.number(cell), own, plan.grid.box(cell), traces, unit_sizes(job, image))


def field_of(plan: Plan, mask: LazyImage | None, window: WindowSpaces) -> np.ndarray | None:
    """``(*image_shape,)`` bool: where to trace in a window, by mask and region; None is everywhere."""
    field = None if mask is None else mask_in(mask, plan.spaces, window)
    if plan.region is not None:
        field = np.ones(window.image_shape, bool) if field is None else field
        inside = np.zeros_like(field)
        low, high = (np.clip(np.subtract(corner, window.image_low), 0, field.shape) for corner in plan.region)
        inside[box(low, high)] = True
        field &= inside
    return field


def mask_in(mask: LazyImage, spaces: Spaces, window: WindowSpaces) -> np.ndarray:
    """``(*image_shape,)`` bool: the mask, of any resolution, in the image pixels of a window."""
    factor = np.array(mask.shape) / np.array(spaces.image_shape)
    axes = [
        np.clip(((np.arange(low, high) + 0.5) * scale).astype(int), 0, size - 1)
        for low, high, scale, size in zip(window.image_low, window.image_high, factor, mask.shape, strict=True)
    ]
    low, high = np.array([axis[0] for axis in axes]), np.array([axis[-1] + 1 for axis in axes])
    part = mask.read(low, high)
    part = part.max(axis=-1) if part.ndim > mask.ndim else part
    return part[np.ix_(*(axis - first for axis, first in zip(axes, low, strict=True)))] > 0


def known_inside(grid: Grid, cell: Cell, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners ``(ndim,)`` in pixels of the window between which all that decides about a short tree is known."""
    low, high = grid.window(cell)
    lower = np.where(low > 0, REACH / sizes, -np.inf)
    upper = np.where(high < grid.shape, high - low - 1 - REACH / sizes, np.inf)
    return lower, upper


def _kept(grid: Grid, cell: Cell, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners in work pixels of what a cell keeps. Pixels reach half a pixel beyond their centres."""
    low, high = grid.box(cell)
    lower = np.where(low > 0, low - 0.5 - OVERLAP / sizes, -np.inf)
    upper = np.where(high < grid.shape, high - 0.5 + OVERLAP / sizes, np.inf)
    return lower, upper


def _of_window(
    trace: Trace,
    result: TraceResult,
    window: WindowSpaces,
    known: tuple[np.ndarray, np.ndarray],
    sizes: np.ndarray,
    job: TraceJob,
) -> CellTrace:
    """The trace of a window in work pixels of the whole image."""
    forest, ndim = trace.forest, len(sizes)
    positions = window.to_work(forest.positions(ndim))
    in_units = SwcForest.from_positions(positions * sizes, forest.parent, types=forest.types)
    grown = rescale(result.forest, sizes.tolist()).edge_lengths
    step = float(grown.mean()) if len(grown) else 1.0
    return CellTrace(
        positions=positions + window.work_low,
        radius=forest.radius,
        types=forest.types,
        probability=trace.node_probabilities(forest),
        ahead=probability_ahead(in_units, result.centerline, sizes),
        is_cut=np.zeros(len(forest), bool),
        is_doubtful=_doubtful(in_units, positions, result.centerline, known, sizes, step, job.cleanup.sure)
        if job.cleanup.isolated
        else np.zeros(len(forest), bool),
        edges=forest.edges,
        loops=trace.loops,
        step=step,
    )


def _doubtful(
    forest: SwcForest,
    positions: np.ndarray,
    centerline: np.ndarray,
    known: tuple[np.ndarray, np.ndarray],
    sizes: np.ndarray,
    step: float,
    sure: float,
) -> np.ndarray:
    """bool ``(N,)`` nodes of trees, in units, that were kept only because they may go on beyond the window."""
    if not len(forest):
        return np.zeros(0, bool)
    tree, trees = forest.components, len(forest.roots)
    length = np.bincount(tree[forest.edges[:, 1]], forest.edge_lengths, trees)
    isolated = is_isolated(forest, length / step + 1, centerline, sure, sizes)
    goes_on = np.bincount(tree, is_outside(positions, *known), trees) > 0
    has_soma = np.bincount(tree, forest.types == SOMA_TYPE, trees) > 0
    return (isolated & goes_on & ~has_soma)[tree]
