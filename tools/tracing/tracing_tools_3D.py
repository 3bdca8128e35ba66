"""Tracing in 3D: volumes on a square-root curve, limited memory, measured radii, maps made before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from configs.options import TraceFiles3D, TraceOptions3D, TraceRun3D
from lib.errors import UserError
from lib.klib.image_io import decode, volume_files
from lib.swclib import SwcForest
from tools.inference.memory_plan import GIGA
from tools.readers import read_image_3d
from tools.tracing.growth.settings import TraceSettings
from tools.tracing.job import Prepared, TraceJob, TraceSpec
from tools.tracing.maps import ImageMaps, axis_of, map_paths, radii, surface_distance
from tools.tracing.settings import CompleteOptions, trace_settings

BORDER = (2, 4, 4)
"""Voxels along the border of a patch that the search ignores: the paper's 4 would leave half of 16 slices."""
SLACK = 0.1
"""Half of that in 2D, because neurites run side by side; see :data:`tools.tracing.growth.peaks.SLACK`."""
MEET = 1.5
"""Node radii. A node nearer than this to a traced edge has met it, and a seed is skipped (docs/paper.md §5)."""


def trace_settings_3d(options: CompleteOptions) -> TraceSettings:
    """The tracer's part of the options of volumes."""
    settings = trace_settings(options)
    near = MEET * options.r
    search = replace(settings.search, border=BORDER, slack=SLACK)
    return replace(settings, search=search, side_by_side=True, meet=near, seed_gap=near)


def predictor_options_3d(options: TraceOptions3D) -> dict[str, Any]:
    """Arguments of the predictor that only volumes have."""
    return {"memory": options.memory * GIGA / max(options.together, 1), "dark": options.dark}


def stored_maps(files: TraceFiles3D, image: Path, shape: tuple[int, ...]) -> ImageMaps | None:
    """The maps in ``--maps`` of a volume of ``shape`` work voxels; None without ``--maps``.

    Raises
    ------
    UserError
        If they are missing, cannot be read, or belong to another volume.
    """
    if files.maps is None:
        return None
    centerline, distance = (_map(path, shape) for path in map_paths(files.maps, image))
    return ImageMaps(centerline.astype(np.float32) / 255, distance.astype(np.float32))


def radii_3d(image: Prepared, centerline: np.ndarray, work: SwcForest, _: SwcForest) -> np.ndarray:
    """Radii ``(N,)`` in pixels of a slice: distances to the surface of the neurites, see :mod:`tools.tracing.maps`."""
    positions, maps = work.positions(3), image.maps
    if not len(work):
        return np.zeros(0)
    if maps is None:
        axis = axis_of(positions[work.edges], image.pixels.shape[:-1])
        maps = ImageMaps(centerline, surface_distance(image.pixels, axis, image.sizes))
    return radii(maps.distance, positions, image.sizes) / image.spaces.scale[-1]


def _map(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """One map, which must have the given shape."""
    if not path.is_file():
        raise UserError(f"no map {path}; make it with --mode test_dis, or leave --maps out")
    array = decode(path).array
    if array.shape != shape:
        found, expected = (" x ".join(map(str, size)) for size in (array.shape, shape))
        raise UserError(f"{path} is {found}, the volume {expected}: the map of another volume; make it anew")
    return array


SPEC = TraceSpec(
    ndim=3,
    read=read_image_3d,
    files=volume_files,
    settings=trace_settings_3d,
    predictor=predictor_options_3d,
    stored_maps=stored_maps,
    radii=radii_3d,
    advice="give a larger --scale, or add empty slices",
)


def build_trace_job_3d(run: TraceRun3D) -> TraceJob:
    """A job for volumes, see :class:`~tools.tracing.job.TraceJob`."""
    return TraceJob(run.weights, run, SPEC)
