"""What a run in cells writes: the merged trace in all its formats, its overlay and its report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lib.files import write_json
from lib.klib.image_io import Image, stem
from lib.klib.windows import box
from lib.swclib import SwcForest, rescale
from tools.blockwise.cells import CellTrace
from tools.blockwise.grid import Cell, Grid
from tools.blockwise.merge import Merged, cleaned, merge
from tools.blockwise.plan import unit_sizes
from tools.blockwise.seams import Seam
from tools.tracing.outputs import Traced, report_of, write_each_tree, write_formats, write_overlay
from tools.tracing.run import TracedFile
from tools.tracing.trace import Trace

if TYPE_CHECKING:
    from tools.blockwise.cluster import CellOutcome
    from tools.blockwise.run import CellRun

RUN = "run.json"
"""The report of a run, in its folder."""


def write_results(
    work: CellRun, cells: Sequence[Cell], seams: Sequence[Seam], failures: Sequence[CellOutcome], started: float
) -> TracedFile:
    """Merge the cells and write the results; ``started`` is when the run began."""
    traces = [CellTrace.load(work.plan.file_of(cell)) for cell in cells]
    sizes, merging = unit_sizes(work.job, work.image), time.perf_counter()
    merged = merge([work.grid.number(cell) for cell in cells], traces, seams, sizes)
    trace = _trace(work, merged, cleaned(merged, work.job.cleanup.spur), traces, sizes)
    merging = time.perf_counter() - merging
    notes = (*work.image.notes, *work.notes)
    image = Image(_picture(work.grid, cells, traces), notes, work.image.spacing, work.image.has_unit)
    scale = tuple((work.plan.spaces.scale / work.grid.reduction).tolist())
    run = work.run
    traced = Traced(run.images, image, trace, work.job, run.formats, run.overlay, work.ground_scale, scale)
    overlay = work.run.out / f"{stem(work.run.images)}_overlay.png"
    write_overlay(overlay, traced)
    written = [*write_formats(work.run.out, traced), overlay]
    if work.run.one_file_per_tree:
        write_each_tree(work.run.out / f"{stem(work.run.images)}_trees", traced)
    seconds = time.perf_counter() - started
    failed = [{"place": work.plan.place_of(each.cell), "reason": each.reason} for each in failures]
    of_cells = {str(cell): round(each.seconds.get("total", 0.0), 2) for cell, each in zip(cells, traces, strict=True)}
    report = report_of(traced, seconds) | {
        "grid": work.grid.counts,
        "cells": len(cells),
        "cells_with_trees": sum(len(each) > 0 for each in traces),
        "failed_cells": failed,
        "seconds_of_cells": of_cells,
        "seconds_of_merge": round(merging, 2),
        "peak_memory_gb": round(max((each.memory for each in traces), default=0.0), 3),
    }
    write_json(work.run.out / RUN, {**report, **work.stored})
    nodes, trees = len(trace.forest), len(trace.forest.roots)
    return TracedFile(work.run.images, tuple(written), nodes, trees, seconds, "; ".join(traced.notes))


def _picture(grid: Grid, cells: Sequence[Cell], traces: Sequence[CellTrace]) -> np.ndarray:
    """``(*S, C)`` small picture of the image, black where it was not read."""
    factor, ndim = grid.reduction, len(grid.shape)
    channels = max((each.picture.shape[-1] for each in traces if each.picture.size), default=1)
    picture = np.zeros((*(-(-size // factor) for size in grid.shape), channels), np.uint8)
    for cell, each in zip(cells, traces, strict=True):
        if each.picture.size:
            low = np.array(cell) * (grid.side // factor)
            picture[box(low, low + each.picture.shape[:ndim])] = each.picture
    return picture


def _trace(work: CellRun, merged: Merged, forest: SwcForest, traces: Sequence[CellTrace], sizes: np.ndarray) -> Trace:
    """The trace of the whole image, from a cleaned merge in units."""
    spaces, rows = work.plan.spaces, forest.ids - 1
    row = np.full(len(merged.forest) + 1, -1)
    row[forest.ids] = np.arange(len(forest))
    loops = row[merged.loops].reshape(-1, 2)
    in_image = rescale(forest, (1 / sizes / spaces.scale).tolist(), shift=spaces.to_image(np.zeros(work.ndim)).tolist())
    return Trace(
        forest=replace(in_image, radius=forest.radius, ids=np.arange(1, len(forest) + 1)),
        centerline=None,
        spaces=spaces,
        loops=loops[(loops >= 0).all(axis=1)],
        counts=_summed([each.counts for each in traces]),
        stops=_summed([each.stops for each in traces]),
        seconds=_summed([each.seconds for each in traces]),
        space=work.job.space(work.image.spacing, work.image.has_unit),
        swc_shift=work.job.options.swc_shift,
        kind_names=work.job.header.kind_names,
        node_probability=merged.probability[rows],
        node_ahead=merged.ahead[rows],
        confidence_model=work.job.confidence_model,
    )


def _summed(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums by name."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0) for part in parts) for name in names}
