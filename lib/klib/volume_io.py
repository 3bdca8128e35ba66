"""Reading of volumes: multi-page, ImageJ and OME TIFF; NIfTI and OME-Zarr if their packages are installed.

A volume stays as stored, memory-mapped where possible (an uncompressed TIFF), until its values are requested. They are
then brought to [0, 1] on a square-root curve (docs/paper.md §3), which evens out the noise of counted photons and gives
faint neurites a larger share of the range.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.errors import UserError
from lib.klib.decoded import (
    ALL,
    BRIGHT,
    DARK,
    TWELVE_BITS,
    Decoded,
    ReadOptions,
    Spacing,
    at_timepoint,
    decoding_errors,
    in_microns,
    with_channels,
)
from lib.klib.decoding import decode
from lib.klib.image_io import check_finite
from lib.klib.ome_zarr import open_zarr

_WHITE = {"uint8": 255.0, "uint16": 255.0**2, "bool": 1.0}
"""Value that becomes 1: the paper's curve for 16 bits is √I / 255 (docs/paper.md §3), 8 bits get the same curve."""
_SAMPLE = 1 << 22
"""Number of evenly spread voxels from which a percentile is computed: enough for it, and fast."""


@dataclass(frozen=True)
class Volume:
    """A volume as stored in its file.

    Attributes
    ----------
    raw
        ``(z, y, x)`` of any dtype; may be a read-only memory map.
    spacing
        Size of a voxel; None where the file does not give it.
    has_unit
        Whether the size is known to be in micrometres.
    notes
        One line per conversion.
    """

    raw: NDArray[Any]
    spacing: Spacing | None = None
    notes: tuple[str, ...] = ()
    has_unit: bool = False

    def unit(self, how: ReadOptions = ALL) -> NDArray[np.float32]:
        """``(z, y, x, 1)`` values in [0, 1] on the square-root curve; see :meth:`top` for ``how``."""
        return self.curved(self.top(how))

    def curved(self, top: float) -> NDArray[np.float32]:
        """``(z, y, x, 1)`` values in [0, 1] on the square-root curve, on which ``top`` becomes 1."""
        return self._curved(np.dtype(np.float32), top)

    def as_bytes(self, how: ReadOptions = ALL) -> NDArray[np.uint8]:
        """:meth:`unit` times 255, rounded; takes a quarter of the memory."""
        return self._curved(np.dtype(np.uint8), self.top(how))

    def top(self, how: ReadOptions = ALL) -> float:
        """Value that becomes 1.

        Parameters
        ----------
        how
            See :class:`~lib.klib.decoded.ReadOptions`. By its type the value is 255² for 16 bits, 255 for 8; for
            other types the least of 1, 255 and 255² that no value exceeds, else the largest value.
        """
        if how.white:
            return self._percentile(how.white) or float(self.raw.max())
        if not how.bright or self.raw.dtype.name in ("uint8", "bool"):
            return self._top_of_type()
        top = self._top_of_type()
        if top != _WHITE["uint16"]:
            return top
        # On the curve the square of a value counts photons.
        bright = self._percentile(BRIGHT[3])
        is_dark = 0 < bright / top < DARK * how.bright**2
        # The percentile comes from some voxels, the largest value from all: it is looked for last.
        return bright / how.bright**2 if is_dark and float(self.raw.max()) <= TWELVE_BITS else top

    def top_note(self, how: ReadOptions) -> tuple[str, ...]:
        """A line about the value that becomes 1, if it is not that of the type."""
        top = self.top(how)
        if how.white:
            return (f"value {top:g} (percentile {how.white:g}) taken as 1",)
        if (gain := self._top_of_type() / top) == 1:
            return ()
        return (f"dark, values made {gain:.3g} times brighter, as those that the weights know; --white says otherwise",)

    def _percentile(self, share: float) -> float:
        """A percentile of the values, from some of them."""
        step = max(1, round((self.raw.size / _SAMPLE) ** (1 / 3)))
        return float(np.percentile(self.raw[::step, ::step, ::step], share))

    def _top_of_type(self) -> float:
        if self.raw.dtype.name in _WHITE:
            return _WHITE[self.raw.dtype.name]
        largest = float(self.raw.max())
        return next((top for top in (1.0, 255.0, 255.0**2) if largest <= top), largest)

    def _curved(self, dtype: np.dtype[Any], top: float) -> NDArray[Any]:
        """``(z, y, x, 1)`` on the curve, computed slice by slice; 8 and 16 bits through a table, for speed."""

        def curve(values: NDArray[Any]) -> NDArray[Any]:
            unit = np.sqrt(np.clip(values / top, 0, 1))
            return (np.rint(255.0 * unit) if dtype == np.uint8 else unit).astype(dtype)

        table = None
        if self.raw.dtype in (np.uint8, np.uint16):
            table = curve(np.arange(np.iinfo(self.raw.dtype).max + 1))
        out = np.empty((*self.raw.shape, 1), dtype)
        for index, plane in enumerate(self.raw):
            out[index, ..., 0] = curve(plane) if table is None else table[plane]
        return out


def read_volume(path: str | Path, how: ReadOptions = ALL) -> Volume:
    """Open a volume: by its suffix NIfTI (``.nii``, ``.nii.gz``) or OME-Zarr (a folder ``.zarr``), else a TIFF.

    Parameters
    ----------
    path
        The file, or a folder of slices.
    how
        Which channel and time point to take.

    Raises
    ------
    UserError
        If it is missing, broken, incomplete, a single plane, empty, of several channels or time points of which none
        was chosen, or holds NaN; if its axes seem to be in another order than z, y, x; or if the package that reads
        its format is not installed.
    """
    path = Path(path)
    volume = _one_channel(path, _decoded(path, how))
    _check(path, volume.raw)
    return volume


def top_of_volume(sample: NDArray[Any], how: ReadOptions) -> tuple[float, tuple[str, ...]]:
    """Value that becomes 1, judged by some planes ``(N, y, x)``, and a line about it; see :meth:`Volume.top`."""
    volume = Volume(sample)
    return volume.top(how) or 1.0, volume.top_note(how)


def volume_from_array(array: ArrayLike) -> Volume:
    """Check a ``(z, y, x)`` array as :func:`read_volume` checks a file.

    Raises
    ------
    UserError
        If the array has another shape or type, is empty, holds NaN, or its axes seem to be in another order.
    """
    raw = np.asarray(array)
    if raw.ndim != 3 or not raw.size or raw.dtype.kind not in "buif":
        raise UserError(f"array: {raw.dtype} of shape {raw.shape} is not a volume; give numbers (z, y, x)")
    _check("array", raw)
    return Volume(raw)


def volume_spacing(path: str | Path, how: ReadOptions = ALL) -> Spacing | None:
    """Size of a voxel given in the file; raises the errors of :func:`read_volume` for a file that cannot be read."""
    return _decoded(Path(path), how).spacing


def _decoded(path: Path, how: ReadOptions) -> Decoded:
    """Decode by suffix."""
    is_zarr = path.suffix.lower() == ".zarr"
    if not is_zarr and not path.name.lower().endswith((".nii", ".nii.gz")):
        return decode(path, how)
    if not path.exists():
        raise UserError(f"{path}: no such file; check the path")
    with decoding_errors(path):
        decoded = _decode_zarr(path, how) if is_zarr else _decode_nifti(path, how)
        return with_channels(path, decoded, how)


def _one_channel(path: Path, decoded: Decoded) -> Volume:
    """Volume of one channel; several channels are accepted only if they are equal."""
    array, axes, notes = decoded.array, decoded.axes, decoded.notes
    if axes == "YXC" and array.shape[-1] > 4:
        # A stack whose slices are labelled as channels.
        array, axes, notes = np.moveaxis(array, -1, 0), "ZYX", (*notes, "channels read as slices")
    if axes in ("YX", "YXC"):
        size = " x ".join(map(str, array.shape[:2]))
        raise UserError(f"{path}: is a 2D image ({size}), a volume is wanted; give a stack, or use the 2D script")
    if axes == "ZYXC":
        count = array.shape[-1]
        if not (array[..., :1] == array).all():
            said = decoded.channels.removeprefix(f"{count} channels")
            raise UserError(f"{path}: has {count} different channels{said}; choose one with --channel")
        array, notes = array[..., 0], (*notes, f"one of {count} equal channels taken")
    return Volume(array, decoded.spacing, notes, decoded.has_unit)


def _check(source: Path | str, raw: NDArray[Any]) -> None:
    """Refuse volumes that must be a mistake."""
    depth, height, width = raw.shape
    if 3 * width <= min(depth, height):
        found = f"is {depth} x {height} x {width} (z y x), so x is far shorter than z and y"
        raise UserError(f"{source}: {found}; its axes seem to be in the order x, y, z: save it with z first")
    check_finite(source, raw)
    low, high = raw.min(), raw.max()
    if low == high:
        raise UserError(f"{source}: is empty, all its voxels are {low}; check how it was saved")


# --- formats with a package of their own ------------------------------------------------------------------------


def _decode_nifti(path: Path, how: ReadOptions) -> Decoded:
    """Decode NIfTI, stored as (x, y, z). The orientation of the patient is ignored: an SWC drawn on the voxels fits."""
    image = importlib.import_module("nibabel").load(path)
    stored, ndim = image.dataobj, len(image.dataobj.shape)
    array, _, notes = at_timepoint(path, stored, ("XYZT" + "Q" * ndim)[:ndim], how)
    array = np.asanyarray(array)
    array = array.reshape(array.shape[:3]) if array.ndim > 3 and set(array.shape[3:]) == {1} else array
    if array.ndim != 3:
        raise UserError(f"{path}: has {array.ndim} axes; give one volume")
    spacing = in_microns(image.header.get_zooms()[2::-1], image.header.get_xyzt_units()[0])
    return Decoded(array.T, "ZYX", (*notes, "NIfTI axes turned to z, y, x"), *spacing)


def _decode_zarr(path: Path, how: ReadOptions) -> Decoded:
    """Decode the finest level of an OME-Zarr image (versions 0.4 and 0.5), or a plain array."""
    image = open_zarr(path)
    array, letters, notes = at_timepoint(path, image.levels[0], image.axes, how)
    array = np.asarray(array)
    kept = [(name, size) for name, size in zip(letters, array.shape, strict=True) if name in "ZYX" or size > 1]
    array, names = array.reshape([size for _, size in kept]), "".join(name for name, _ in kept)
    spacing = image.spacing, image.has_unit
    if names == "CZYX":
        return Decoded(np.moveaxis(array, 0, -1), "ZYXC", notes, *spacing, f"{len(array)} channels")
    if names != "ZYX":
        raise UserError(f"{path}: has the axes {names.lower() or 'none'}; give one volume with z, y, x")
    return Decoded(array, "ZYX", notes, *spacing)
