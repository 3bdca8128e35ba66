"""Volumes in: multi-page, ImageJ and OME TIFF, and with their readers installed NIfTI and OME-Zarr.

A volume stays as it lies in the file, mapped into memory where the file allows (a TIFF without compression), until its
values are asked for. These come on a square-root curve (docs/paper.md §3): it evens out the noise of counted photons,
and gives faint neurites a share of the range.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.errors import UserError
from lib.klib.image_io import Decoded, check_finite, decode, microns, one_line

Spacing = tuple[float, ...]
_TOPS = {"uint8": 255.0, "uint16": 255.0**2, "bool": 1.0}
"""Value that becomes 1: √I / 255 of 16 bits is the paper's, 8 bits get the same curve."""
_SUBSAMPLE = 1 << 22
"""Voxels, evenly spread, from which a percentile is taken."""


@dataclass(frozen=True)
class Volume:
    """A volume as it lies in its file.

    Attributes
    ----------
    raw
        ``(z, y, x)`` of any dtype; perhaps a read-only memory map.
    spacing
        Size of a voxel, ``(z, y, x)``; None where the file does not say.
    notes
        One line per conversion.
    """

    raw: NDArray[Any]
    spacing: Spacing | None = None
    notes: tuple[str, ...] = ()

    def unit(self, *, white: float = 0.0) -> NDArray[np.float32]:
        """``(z, y, x, 1)`` float32 in [0, 1] on the square-root curve; see :meth:`top` for ``white``."""
        out = np.empty((*self.raw.shape, 1), dtype=np.float32)
        self._fill(out[..., 0], self.top(white))
        return out

    def as_bytes(self, *, white: float = 0.0) -> NDArray[np.uint8]:
        """:meth:`unit` times 255, rounded, made slice by slice: a quarter of the memory."""
        out = np.empty((*self.raw.shape, 1), dtype=np.uint8)
        self._fill(out[..., 0], self.top(white))
        return out

    def top(self, white: float = 0.0) -> float:
        """The value that becomes 1: that at the percentile ``white``, or with 0 one that depends on the type alone.

        The latter is 255² for 16 bits, 255 for 8; for floats 1 if all are in [0, 1], else 255, 255² or their largest.
        """
        if white:
            step = max(1, round((self.raw.size / _SUBSAMPLE) ** (1 / 3)))
            return float(np.percentile(self.raw[::step, ::step, ::step], white)) or float(self.raw.max())
        if self.raw.dtype.name in _TOPS:
            return _TOPS[self.raw.dtype.name]
        largest = float(self.raw.max())
        return next((top for top in (1.0, 255.0, 255.0**2) if largest <= top), largest)

    def _fill(self, out: NDArray[Any], top: float) -> None:
        """Write the curve into ``out``, slice by slice; 8 and 16 bits through a table, for speed."""
        full, kind = (255.0, np.uint8) if out.dtype == np.uint8 else (1.0, np.float32)

        def curve(values: NDArray[Any]) -> NDArray[Any]:
            lit = full * np.sqrt(np.clip(values.astype(np.float32) / np.float32(top), 0, 1))
            return (np.rint(lit) if kind is np.uint8 else lit).astype(kind)

        table = None
        if self.raw.dtype in (np.uint8, np.uint16):
            table = curve(np.arange(np.iinfo(self.raw.dtype).max + 1))
        for index, plane in enumerate(self.raw):
            out[index] = curve(plane) if table is None else table[plane]


def read_volume(path: str | Path) -> Volume:
    """Open a volume: a TIFF, or by its suffix NIfTI (``.nii``, ``.nii.gz``) or OME-Zarr (a folder ``.zarr``).

    Raises
    ------
    UserError
        If it is missing, broken, not whole, no volume but a plane, has several channels, is empty, holds NaN, or its
        axes seem to be in another order than z, y, x; or if the reader of its format is not installed.
    """
    path = Path(path)
    decoded = _decoded(path)
    volume = Volume(*_one_channel(path, decoded))
    _check(path, volume.raw)
    return volume


def volume_spacing(path: str | Path) -> Spacing | None:
    """Size of a voxel as the file says it, ``(z, y, x)``; see :func:`read_volume`."""
    return _decoded(Path(path)).spacing


def _decoded(path: Path) -> Decoded:
    """Read by suffix."""
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return _foreign(path, "nibabel", _read_nifti)
    if path.suffix.lower() == ".zarr":
        return _foreign(path, "zarr", _read_zarr)
    return decode(path)


def _one_channel(path: Path, decoded: Decoded) -> tuple[NDArray[Any], Spacing | None, tuple[str, ...]]:
    """``(z, y, x)`` of what was decoded, its spacing and notes."""
    array, axes, notes = decoded.array, decoded.axes, decoded.notes
    if axes == "YXC" and array.shape[-1] > 4:
        # A stack whose slices are called channels.
        array, axes, notes = np.moveaxis(array, -1, 0), "ZYX", (*notes, "channels read as slices")
    if axes in ("YX", "YXC"):
        size = " x ".join(map(str, array.shape[:2]))
        raise UserError(f"{path}: is a 2D image ({size}), a volume is wanted; give a stack, or use the 2D script")
    if axes == "ZYXC":
        if not (array[..., :1] == array).all():
            found = f"has {array.shape[-1]} different channels"
            raise UserError(f"{path}: {found}; save the one to trace as a volume of its own")
        array, notes = array[..., 0], (*notes, f"one of {array.shape[-1]} equal channels taken")
    return array, decoded.spacing, notes


def _check(path: Path, raw: NDArray[Any]) -> None:
    """Refuse volumes that cannot be right."""
    depth, height, width = raw.shape
    if 3 * width <= min(depth, height):
        found = f"is {depth} x {height} x {width} (z y x), so x is far shorter than z and y"
        raise UserError(f"{path}: {found}; its axes seem to be in the order x, y, z: save it with z first")
    check_finite(path, raw)
    low, high = raw.min(), raw.max()
    if low == high:
        raise UserError(f"{path}: is empty, all its voxels are {low}; check how it was saved")


# ---- other formats -------------------------------------------------------------------------------------------------


def _foreign(path: Path, package: str, read: Callable[[Path, ModuleType], Decoded]) -> Decoded:
    """Read with a package that need not be installed."""
    if not path.exists():
        raise UserError(f"{path}: no such file; check the path")
    try:
        module = importlib.import_module(package)
    except ImportError:
        advice = f"run `pip install {package}`, or save the volume as TIFF"
        raise UserError(f"{path}: reading it needs the package {package}, not installed; {advice}") from None
    try:
        return read(path, module)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # readers raise all sorts of things on broken files
        raise UserError(f"{path}: cannot be read ({one_line(error)}); the file is broken or not whole") from error


def _read_nifti(path: Path, nibabel: ModuleType) -> Decoded:
    """NIfTI lies as (x, y, z); the orientation of the patient is left aside, as an SWC drawn on the voxels does."""
    image = nibabel.load(path)
    array = np.asanyarray(image.dataobj)
    array = array.reshape(array.shape[:3]) if array.ndim > 3 and set(array.shape[3:]) == {1} else array
    if array.ndim != 3:
        raise UserError(f"{path}: has {array.ndim} axes; give one volume")
    to_microns = {"mm": 1e3, "meter": 1e6}.get(image.header.get_xyzt_units()[0], 1.0)
    spacing = tuple(float(size) * to_microns for size in image.header.get_zooms()[2::-1])
    return Decoded(array.T, "ZYX", ("NIfTI axes turned to z, y, x",), spacing)


def _read_zarr(path: Path, zarr: ModuleType) -> Decoded:
    """The finest level of an OME-Zarr image (versions 0.4 and 0.5), or a plain array."""
    node = zarr.open(str(path), mode="r")
    if hasattr(node, "shape"):
        array, axes, spacing = node, ["z", "y", "x"][-node.ndim :], None
    else:
        attributes = dict(node.attrs)
        (image, *_) = attributes.get("ome", attributes)["multiscales"]
        array = node[image["datasets"][0]["path"]]
        axes = [axis["name"] for axis in image["axes"]]
        spacing = _zarr_spacing(image)
    keep = [axis for axis, size in enumerate(array.shape) if axes[axis] in "zyx" or size > 1]
    names = "".join(axes[axis] for axis in keep)
    if names != "zyx":
        raise UserError(f"{path}: has the axes {names or 'none'}; give one volume with z, y, x")
    values = np.asarray(array).reshape([array.shape[axis] for axis in keep])
    return Decoded(values, "ZYX", (), spacing)


def _zarr_spacing(image: dict[str, Any]) -> Spacing | None:
    """Voxel size in micrometres of the finest level of a multiscale image."""
    scales = [t["scale"] for t in image["datasets"][0].get("coordinateTransformations", ()) if t["type"] == "scale"]
    if not scales:
        return None
    sizes = {
        axis["name"]: float(s) * microns(axis.get("unit")) for axis, s in zip(image["axes"], scales[0], strict=True)
    }
    return tuple(sizes[axis] for axis in "zyx") if all(axis in sizes for axis in "zyx") else None
