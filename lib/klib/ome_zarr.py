"""OME-Zarr images, versions 0.4 and 0.5, and plain Zarr arrays: their levels, axes and sizes of voxels."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from lib.klib.decoded import Spacing, microns
from lib.klib.windows import box, tiles

CHUNK = 64
"""Side of a chunk in voxels: a window of a cell reads few that it does not need."""
LEAST = 64
"""Voxels of the longest side of the coarsest level, at most."""


@dataclass(frozen=True)
class ZarrImage:
    """An opened image, of which nothing is read yet.

    Attributes
    ----------
    levels
        Arrays, the finest first.
    axes
        A letter for each axis of these, such as ``CZYX``.
    spacing, has_unit
        As in :class:`~lib.klib.decoded.Decoded`.
    """

    levels: list[Any]
    axes: str
    spacing: Spacing | None = None
    has_unit: bool = False


def location(path: str | Path) -> str:
    """A path, or the address that became one: ``Path`` makes ``http:/host`` of ``http://host``."""
    return re.sub(r"^(\w\w+):/(?=[^/])", r"\1://", str(path))


def is_address(path: str | Path) -> bool:
    """Whether this is an address such as ``http://host/brain.ome.zarr`` and not a path."""
    return "://" in location(path)


def open_zarr(path: str | Path) -> ZarrImage:
    """Open an image or a plain array of z, y, x; any error of the library may be raised."""
    node = importlib.import_module("zarr").open(location(path), mode="r")
    if hasattr(node, "shape"):
        return ZarrImage([node], "TCZYX"[-node.ndim :])
    attributes = dict(node.attrs)
    (image, *_) = attributes.get("ome", attributes)["multiscales"]
    levels = [node[level["path"]] for level in image["datasets"]]
    axes = "".join(str(axis["name"]).upper()[0] for axis in image["axes"])
    return ZarrImage(levels, axes, *_spacing(image))


def _spacing(image: dict[str, Any]) -> tuple[Spacing | None, bool]:
    """Voxel size of the finest level of a multiscale image, and whether its unit is known."""
    scales = [t["scale"] for t in image["datasets"][0].get("coordinateTransformations", ()) if t["type"] == "scale"]
    if not scales:
        return None, False
    units = {axis["name"]: microns(axis.get("unit")) for axis in image["axes"]}
    sizes = dict(zip(units, map(float, scales[0]), strict=True))
    wanted = [axis for axis in "zyx" if axis in sizes]
    if wanted[-2:] != ["y", "x"]:
        return None, False
    has_unit = all(units[axis] for axis in wanted)
    return tuple(sizes[axis] * (units[axis] or 1.0) for axis in wanted), has_unit


def create_zarr(
    path: Path, shape: Sequence[int], dtype: Any, spacing: Sequence[float], *, chunk: int = CHUNK, least: int = LEAST
) -> list[Any]:
    """Create an empty OME-Zarr volume, version 0.5.

    Parameters
    ----------
    path
        A folder that does not exist yet.
    shape
        ``(3,)`` voxels of the finest level. Each further level has half as many along every axis, until none has more
        than ``least``.
    dtype
        Type of the values.
    spacing
        ``(3,)`` micrometres from voxel to voxel.
    chunk
        Side of a chunk.
    least
        See ``shape``.

    Returns
    -------
    list
        Zarr arrays, the finest first, to be filled; :func:`fill_levels` fills the others.
    """
    zarr = importlib.import_module("zarr")
    group, levels, sizes = zarr.create_group(str(path), zarr_format=3), [], [np.array(shape)]
    while sizes[-1].max() > least:
        sizes.append(-(-sizes[-1] // 2))
    datasets = []
    for number, size in enumerate(sizes):
        chunks = tuple(np.minimum(size, chunk).tolist())
        levels.append(group.create_array(str(number), shape=tuple(size.tolist()), chunks=chunks, dtype=dtype))
        factor = 2.0**number
        transforms = [
            {"type": "scale", "scale": [float(each) * factor for each in spacing]},
            # The first voxel of a level covers 2 ** number of the finest: its centre lies between theirs.
            {"type": "translation", "translation": [float(each) * (factor - 1) / 2 for each in spacing]},
        ]
        datasets.append({"path": str(number), "coordinateTransformations": transforms})
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets, "name": path.name}]}
    return levels


def fill_levels(levels: Sequence[Any]) -> None:
    """Fill the coarser levels of :func:`create_zarr`, chunk by chunk, with means of 2 x 2 x 2 voxels."""
    for fine, coarse in pairwise(levels):
        for low, high in tiles(coarse.shape, max(coarse.chunks), 1):
            read = np.asarray(fine[box(2 * low, np.minimum(2 * high, fine.shape))])
            odd = [(0, n - have) for n, have in zip(2 * (high - low), read.shape, strict=True)]
            halves = [each for n in (high - low).tolist() for each in (n, 2)]
            mean = np.pad(read, odd, mode="edge").reshape(halves).mean(axis=(1, 3, 5))
            coarse[box(low, high)] = np.rint(mean) if coarse.dtype.kind in "ui" else mean
