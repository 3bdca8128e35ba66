"""Known trees traced in cells and in one piece, with a predictor that draws its maps from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from configs.options import TraceRun, TraceRun3D
from lib.klib.decoded import ALL
from lib.klib.lazy import LazyImage
from lib.klib.spaces import Spaces
from lib.swclib import SwcForest, rescale
from models.checkpoint import WeightsHeader, save_weights
from models.nenet import NENet
from tests.tools.tracing.oracle import OraclePredictor
from tools.blockwise import plan as plan_module
from tools.blockwise.cells import CellTrace
from tools.blockwise.grid import Grid
from tools.blockwise.merge import Merged, cleaned, merge
from tools.blockwise.plan import Plan, trace_cell
from tools.blockwise.seams import find_seam
from tools.tracing.by_dimension import DIMENSIONS
from tools.tracing.growth.tracer import Tracer
from tools.tracing.job import TraceJob

PATCH = {2: (64, 64), 3: (16, 48, 48)}
Lines = Sequence[Any]


class KnownTrees:
    """An image of known lines, in work pixels, that can be traced as often as one likes.

    Parameters
    ----------
    folder
        For a weight file; its weights are not used.
    lines
        See :func:`~tests.tools.tracing.oracle.polylines`.
    shape
        Shape of the image.
    spacing
        Size of a pixel along each axis.
    pixels
        ``(*shape, ...)`` uint8, if they matter.
    """

    def __init__(
        self,
        folder: Path,
        lines: Lines,
        shape: Sequence[int],
        *,
        spacing: Sequence[float] | None = None,
        pixels: np.ndarray | None = None,
        **options,
    ) -> None:
        self.lines, self.shape, self.spacing = [np.array(line, float) for line in lines], tuple(shape), spacing
        ndim = len(shape)
        weights = folder / f"known{ndim}.safetensors"
        if not weights.exists():
            # 2 channels: nothing is computed with them
            header = WeightsHeader(ndim, 1 + 2 * (ndim == 2), 2, "T", 1.0, "centre", PATCH[ndim], 10.0, 2.0, "tile")
            save_weights(weights, NENet(ndim, header.in_channels, 2), header)
        run = (TraceRun if ndim == 2 else TraceRun3D)(
            weights=weights, images=Path("known"), out=folder, field="whole", device="cpu", precision="fp32", **options
        )
        # Radii take most of the time, and are not asked for here.
        spec = replace(DIMENSIONS[ndim].spec, radii=lambda image, centerline, work, in_image: np.ones(len(work)))
        self.job = TraceJob(weights, run, spec)
        prepare = self.job.prepare

        def prepared(pixels, *, window=None, **known):
            work = prepare(pixels, window=window, **known)
            low = np.zeros(ndim) if window is None else np.array(window.work_low)
            moved = [(line - low).tolist() for line in self.lines]
            sizes = work.sizes or 1.0
            oracle = OraclePredictor(moved, work.spaces.work_shape, PATCH[ndim], spacing=sizes)
            return replace(work, tracer=Tracer(oracle, work.tracer.settings))

        self.job.prepare = prepared
        channels = () if ndim == 3 else (3,)
        white = np.broadcast_to(np.uint8(255), (*self.shape, *channels))
        self.image = LazyImage(
            "known", [white if pixels is None else pixels], "ZYX" if ndim == 3 else "YXC", {}, ndim, spacing
        )

    @property
    def gold(self) -> SwcForest:
        """The lines as trees."""
        ends = np.concatenate(self.lines)
        points, same = np.unique(ends.round(6), axis=0, return_inverse=True)
        first = np.cumsum([0, *map(len, self.lines)])
        edges = [
            (a, a + 1)
            for start, line in zip(first, self.lines, strict=False)
            for a in range(start, start + len(line) - 1)
        ]
        return SwcForest.from_edges(points, same.ravel()[np.array(edges)])

    def in_one_piece(self) -> SwcForest:
        """The trace of the whole image."""
        work = self.job.prepare(self.image.unit(self.image.levels[0], 255.0), spacing=self.spacing)
        return self.job.finish(work, work.tracer.trace(work.pixels)).forest

    def plan(self, side: int, halo: int) -> Plan:
        """A plan of cells; what a worker would open is put in its place."""
        spaces, ndim = Spaces.scaled(self.shape, 1.0), len(self.shape)
        grid = Grid(self.shape, side, halo, PATCH[ndim])
        plan = Plan(
            Path("nowhere"), "known", ALL, self.job.options, spaces, grid, 255.0, key=f"{side} {halo} {id(self)}"
        )
        plan_module._opened.clear()
        plan_module._opened[plan.folder, plan.key] = plan_module._Opened(self.image, None, self.job)
        return plan

    def merged(self, side: int, halo: int = 48) -> tuple[dict[tuple[int, ...], CellTrace], Merged]:
        """The traces of all cells, and what they are merged to."""
        plan = self.plan(side, halo)
        cells = {cell: trace_cell(plan, cell) for cell in plan.grid}
        sizes = np.array(self.job.sizes(self.spacing) or (1.0,) * len(self.shape))
        number = plan.grid.number
        seams = [
            find_seam(
                number(cell),
                trace,
                plan.grid.box(cell),
                {number(o): cells[o] for o in plan.grid.neighbours(cell)},
                sizes,
            )
            for cell, trace in cells.items()
        ]
        return cells, merge([number(cell) for cell in cells], list(cells.values()), seams, sizes)

    def in_cells(self, side: int, halo: int = 48) -> SwcForest:
        """The trace of the whole image, made in cells."""
        _, merged = self.merged(side, halo)
        sizes = np.array(self.job.sizes(self.spacing) or (1.0,) * len(self.shape))
        return rescale(cleaned(merged, self.job.cleanup.spur), (1 / sizes).tolist())


def random_forest(rng: np.random.Generator, shape: Sequence[int], side: int) -> list[np.ndarray]:
    """Lines that meet the faces of cells in every way: straight, oblique, grazing, forks on faces, through corners, and
    two side by side, in
    volumes 4 px apart, each at least 12 px from lines of the others."""
    kept: list[np.ndarray] = []
    size = np.array(shape, float)
    for kind in rng.permutation(8):
        for _ in range(20):
            lines = _lines(int(kind), rng, size, side)
            if len(size) == 3:  # scikit-image thins a bar of exactly 2 x 2 voxels to nothing
                lines = [np.rint(line) for line in lines]
            points = np.concatenate([_dense(line) for line in lines])
            others = np.concatenate([np.full((1, len(size)), -1e3), *map(_dense, kept)])
            apart = np.linalg.norm(points[:, None] - others[None], axis=-1).min() > 12
            if apart and (points >= 6).all() and (points <= size - 7).all():
                kept += lines
                break
    return kept


def _dense(line: np.ndarray) -> np.ndarray:
    """Points of a line, about 2 px apart."""
    steps = np.linspace(0, 1, 24)[:, None]
    return np.concatenate([a + steps * (b - a) for a, b in pairwise(line)])


def _lines(kind: int, rng: np.random.Generator, size: np.ndarray, side: int) -> list[np.ndarray]:
    """One or more lines of a kind near a random corner of cells."""
    ndim = len(size)
    corner = side * rng.integers(1, np.maximum(size // side, 2)).astype(float) - 0.5
    axis = int(rng.integers(ndim))
    along = np.zeros(ndim)
    along[axis] = 1
    across = np.zeros(ndim)
    across[(axis + 1) % ndim] = 1
    place = corner + rng.uniform(-30, 30, ndim)
    length = rng.uniform(25, 45)
    if kind == 0:  # straight through a face
        place[axis] = corner[axis]
        return [np.stack([place - length * along, place + length * along])]
    if kind == 1:  # oblique
        place[axis] = corner[axis]
        slope = along + across * rng.uniform(-1, 1)
        return [np.stack([place - length * slope, place + length * slope])]
    if kind == 2:  # along a face, within a few pixels of it
        face = corner + across * rng.uniform(-3, 3)
        tilt = along + across * rng.uniform(-0.05, 0.05)
        return [np.stack([face - length * tilt, face + length * tilt])]
    if kind == 3:  # a fork on a face
        place[axis] = corner[axis] + rng.uniform(-1, 1)
        return [
            np.stack([place - length * along, place]),
            np.stack([place, place + length * (along + 0.8 * across)]),
            np.stack([place, place + length * (along - 0.8 * across)]),
        ]
    if kind == 4:  # through a corner
        slope = rng.uniform(0.5, 1, ndim) * rng.choice([-1, 1], ndim)
        return [np.stack([corner - length * slope, corner + length * slope])]
    if kind == 5:  # two side by side through a face
        place[axis] = corner[axis]
        apart = 2.0 if ndim == 3 else 4.0  # in images, traces 4 px apart count as one
        both = [place + across * offset for offset in (-apart, apart)]
        return [np.stack([each - length * along, each + length * along]) for each in both]
    if kind == 6:  # an end near a face
        place[axis] = corner[axis] + rng.uniform(-8, 8)
        return [np.stack([place, place + 1.5 * length * along])]
    bend = corner + rng.uniform(-4, 4, ndim)  # a bend near a corner
    return [np.stack([bend - length * along, bend, bend + length * (across + 0.3 * along)])]
