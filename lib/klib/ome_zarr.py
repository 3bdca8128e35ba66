"""OME-Zarr images, versions 0.4 and 0.5, and plain Zarr arrays: their levels, axes and sizes of voxels."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from lib.errors import UserError
from lib.klib.decoded import Spacing, microns, one_line
from lib.klib.windows import box

CHUNK = 64
"""Side of a chunk in voxels: a window of a cell reads few that it does not need."""
LEAST = 64
"""Voxels of the longest side of the coarsest level, at most."""
_METADATA = ("zarr.json", ".zgroup", ".zarray")
_PLAIN = "TCZYX"
"""Axes of a plain array; one with fewer has the last."""


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
    whole = re.sub(r"(^|::)(\w[\w+.-]+):/(?=[^/])", r"\1\2://", str(path))
    return re.sub(r"(^|::)(file|local)://(?=[^/])", r"\1\2:///", whole)


def is_address(path: str | Path) -> bool:
    """Whether this is an address such as ``http://host/brain.ome.zarr`` and not a path."""
    return "://" in location(path)


def is_zarr(path: Path) -> bool:
    """Whether this is a Zarr folder: by its suffix, or by what lies in it."""
    return path.suffix.lower() == ".zarr" or any((path / name).is_file() for name in _METADATA)


@contextmanager
def address_errors(source: str) -> Iterator[None]:
    """Say what is wrong with an address, or with the connection; errors of a path are left as they are.

    Raises
    ------
    UserError
        Instead of any other error in the block but those of missing packages.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except ImportError as error:
        # fsspec names a package in words; its own cause names it.
        cause = error.__cause__
        if error.name or not isinstance(cause, ImportError):
            raise
        raise ImportError(str(error), name=cause.name) from error
    except Exception as error:
        if not is_address(source):
            raise
        advice = "check the address, or copy the image to a disk"
        raise UserError(f"{source}: cannot be read ({one_line(error)}); {advice}") from error


def open_zarr(path: str | Path) -> ZarrImage:
    """Open an image or a plain array of z, y, x; any error of the library may be raised."""
    source = location(path)
    with address_errors(source):
        try:
            node = importlib.import_module("zarr").open(source, mode="r")
        except FileNotFoundError as error:
            raise UserError(f"{source}: no Zarr image there; check where it lies") from error
        if hasattr(node, "shape"):
            if node.ndim > len(_PLAIN):
                raise UserError(f"{source}: has {node.ndim} axes; give one plane or one volume")
            return ZarrImage([_with_whole_chunks(node)], _PLAIN[len(_PLAIN) - node.ndim :])
        attributes = dict(node.attrs)
        images = attributes.get("ome", attributes).get("multiscales")
        if not images:
            raise UserError(f"{source}: is a group without an image of its own; give one in it, such as {source}/0")
        levels = [_with_whole_chunks(node[level["path"]]) for level in images[0]["datasets"]]
        axes = "".join(_letter(axis) for axis in images[0]["axes"])
        return ZarrImage(levels, axes, *_spacing(images[0]))


def _with_whole_chunks(array: Any) -> Any:
    """The array, from which chunks of Blosc that are cut off are not read: it would read past their ends, silently."""
    compressors = () if getattr(array, "shards", None) else getattr(array, "compressors", ())
    if not any("Blosc" in type(each).__name__ for each in compressors[-1:]):
        return array
    zarr = importlib.import_module("zarr")

    class Checked(zarr.storage.WrapperStore):
        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            chunk = await super().get(key, prototype, byte_range)
            if chunk is not None and not key.endswith((*_METADATA, ".zattrs")):
                # Its head says how long it is.
                there, said = len(chunk), int.from_bytes(chunk[12:16].to_bytes(), "little")
                if there < said:
                    raise ValueError(f"chunk {key} is not complete, {there} of {said} bytes are there")
            return chunk

    return zarr.open_array(Checked(array.store), path=array.path, mode="r", zarr_format=array.metadata.zarr_format)


def _letter(axis: dict[str, Any]) -> str:
    """Letter of an axis: the first of its name, as in ``channel``."""
    return str(axis["name"]).upper()[0]


def _spacing(image: dict[str, Any]) -> tuple[Spacing | None, bool]:
    """Voxel size of the finest level of a multiscale image, and whether its unit is known."""
    scales = [*_scales(image["datasets"][0]), *_scales(image)]
    if not scales:
        return None, False
    units = {_letter(axis): microns(axis.get("unit")) for axis in image["axes"]}
    sizes = dict(zip(units, np.prod(scales, axis=0).tolist(), strict=True))
    wanted = [axis for axis in "ZYX" if axis in sizes]
    if wanted[-2:] != ["Y", "X"]:
        return None, False
    has_unit = all(units[axis] for axis in wanted)
    return tuple(sizes[axis] * (units[axis] or 1.0) for axis in wanted), has_unit


def _scales(part: dict[str, Any]) -> list[list[float]]:
    """Scales of a level, or of all levels."""
    return [each["scale"] for each in part.get("coordinateTransformations", ()) if each["type"] == "scale"]


def create_zarr(
    path: Path,
    shape: Sequence[int],
    dtype: Any,
    spacing: Sequence[float],
    *,
    name: str = "",
    chunk: int = CHUNK,
    least: int = LEAST,
) -> list[Any]:
    """Create an empty OME-Zarr volume, version 0.5.

    Parameters
    ----------
    path
        A folder that is empty or does not exist yet.
    shape
        ``(3,)`` voxels of the finest level. Each further level has half as many along every axis, until none has more
        than ``least``.
    dtype
        Type of the values.
    spacing
        ``(3,)`` micrometres from voxel to voxel.
    name
        Of the image; without it, that of the folder.
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
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": datasets, "name": name or path.name}],
    }
    return levels


def fill_levels(levels: Sequence[Any]) -> None:
    """Fill the coarser levels of :func:`create_zarr`, chunk by chunk, with means of 2 x 2 x 2 voxels."""
    for fine, coarse in pairwise(levels):
        counts = [-(-size // side) for size, side in zip(coarse.shape, coarse.chunks, strict=True)]
        for low in np.array(list(np.ndindex(*counts))) * coarse.chunks:
            high = np.minimum(low + coarse.chunks, coarse.shape)
            read = np.asarray(fine[box(2 * low, np.minimum(2 * high, fine.shape))])
            odd = [(0, n - have) for n, have in zip(2 * (high - low), read.shape, strict=True)]
            halves = [each for n in (high - low).tolist() for each in (n, 2)]
            mean = np.pad(read, odd, mode="edge").reshape(halves).mean(axis=(1, 3, 5))
            coarse[box(low, high)] = np.rint(mean) if coarse.dtype.kind in "ui" else mean
