"""Tracing in 3D: volumes on a square-root curve, tiles within a given memory, measured radii, maps made before."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from configs.options import TraceOptions3D
from lib.errors import UserError
from lib.klib.image_io import decode
from lib.klib.volume_io import read_volume
from models.checkpoint import WeightsHeader
from tools.memory import GIGA
from tools.tracing.job import TraceDoor, TraceJob, WorkImage, trace_settings
from tools.tracing.maps import ImageMaps, map_paths
from tools.tracing.tracer import TraceSettings
from tools.visualisation import overlay

BORDER = (2, 4, 4)
"""Voxels along the border of a patch that the search ignores: the 4 of the paper would leave half of 16 slices."""
SLACK = 0.1
"""Half of what is allowed in 2D: neurites run side by side, see :data:`tools.tracing.gds.SLACK`."""
MEET = 1.5
"""A node nearer than this many node radii to a traced edge has met it (docs/paper.md §5), and a seed is skipped."""


def read_work_image_3d(path: Path, header: WeightsHeader) -> WorkImage:
    """Read a volume as one channel on the square-root curve that the weights were trained with."""
    volume = read_volume(path)
    return WorkImage(volume.unit(white=header.white), volume.notes, volume.spacing)


def trace_settings_3d(options: TraceOptions3D) -> TraceSettings:
    """As in 2D, but for what differs in volumes."""
    settings = trace_settings(options)
    near = MEET * options.r
    search = replace(settings.search, border=BORDER, slack=SLACK)
    return replace(settings, search=search, side_by_side=True, meet=near, seed_gap=near)


def predictor_options_3d(options: TraceOptions3D) -> dict[str, Any]:
    """What bounds the memory, and what may be left out."""
    return {"memory": options.memory * GIGA, "overhang": BORDER, "dark": options.dark}


def maps_made_before(options: TraceOptions3D, image: Path, shape: tuple[int, ...]) -> ImageMaps | None:
    """The maps of ``--maps`` for a volume of ``shape`` work voxels; None where none are named.

    Raises
    ------
    UserError
        If they are missing, cannot be read, or are those of another volume.
    """
    if options.maps is None:
        return None
    centerline, distance = (_map(path, shape) for path in map_paths(options.maps, image))
    return ImageMaps(centerline.astype(np.float32) / 255, distance.astype(np.float32))


def _map(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """One map, of the shape that is wanted."""
    if not path.is_file():
        raise UserError(f"no map {path}; make it with --mode test_dis, or leave --maps out")
    array = decode(path).array
    if array.shape != shape:
        found, expected = (" x ".join(map(str, size)) for size in (array.shape, shape))
        raise UserError(f"{path} is {found}, the volume {expected}: the map of another volume; make it anew")
    return array


DOOR = TraceDoor(
    ndim=3,
    read=read_work_image_3d,
    picture=overlay,
    settings=trace_settings_3d,
    predictor=predictor_options_3d,
    maps=maps_made_before,
    measured=True,
    advice="give a larger --scale, or add empty slices",
    units="voxels of the file (x, y, z); 0 is the {origin} of the first voxel",
)


def build_trace_job_3d(options: TraceOptions3D) -> TraceJob:
    """A job for volumes.

    Raises
    ------
    UserError
        As :class:`~tools.tracing.job.TraceJob`.
    """
    _check(options)
    return TraceJob(options, DOOR)


def _check(options: TraceOptions3D) -> None:
    """Refuse values that mean nothing; written so that NaN is refused, too."""
    if not 0 < options.memory < math.inf:
        raise UserError(f"--memory {options.memory}: must be positive, in gigabytes")
    sizes = options.spacing
    if sizes is not None and not (len(sizes) == DOOR.ndim and all(0 < size < math.inf for size in sizes)):
        raise UserError(f"--spacing {' '.join(map(str, sizes))}: give three positive sizes, z y x")
    if options.dark is not None and not 0 <= options.dark <= 1:
        raise UserError(f"--dark {options.dark}: give a brightness from 0 to 1, on the square-root curve")
