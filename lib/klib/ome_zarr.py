"""OME-Zarr images, versions 0.4 and 0.5, and plain Zarr arrays: their levels, axes and sizes of voxels."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.klib.decoded import Spacing, microns


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
