"""Decoding of TIFF, PNG, JPEG, BMP, GIF and PPM files to arrays with named axes."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as PillowImage

from lib.errors import UserError

Spacing = tuple[float, ...]
"""Size of a voxel, ``(z, y, x)``, in micrometres, or in a unit that the file does not name."""

_DECODED = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm")
_VOLUMES_ONLY = (".nii", ".nii.gz", ".zarr")
SUFFIXES = _DECODED + _VOLUMES_ONLY
"""Suffixes of the known formats. A single file is decoded by its first bytes, whatever its suffix."""

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# BMP and PPM begin with two letters, which ordinary text may begin with too.
_SIGNATURES = (*_TIFF_SIGNATURES, b"\x89PNG", b"\xff\xd8\xff", b"GIF8")
_EXIF_ORIENTATION = 274
_MICRONS = dict(nm=1e-3, nanometer=1e-3, mm=1e3, millimeter=1e3, cm=1e4, m=1e6, meter=1e6, inch=2.54e4)
_MICRONS |= dict.fromkeys(("um", "µm", "μm", "\\u00b5m", "micron", "microns", "micrometer"), 1.0)
"""Micrometres per unit, by the names that OME, ImageJ, OME-Zarr and NIfTI use."""


@dataclass(frozen=True)
class Decoded:
    """Pixels as stored in a file.

    Attributes
    ----------
    array
        Numbers of any dtype, one axis per letter of ``axes``.
    axes
        ``"YX"``, ``"YXC"``, ``"ZYX"`` or ``"ZYXC"``.
    notes
        One line per conversion.
    spacing
        Size of a voxel; None in 2D, and where the file does not give it.
    has_unit
        Whether the size is known to be in micrometres.
    """

    array: NDArray[Any]
    axes: str
    notes: tuple[str, ...] = ()
    spacing: Spacing | None = None
    has_unit: bool = False


def decode(path: Path) -> Decoded:
    """Decode an image file, whatever its suffix.

    Raises
    ------
    UserError
        If the file is missing, of no known format, broken or incomplete, has no pixels, is animated, is a CMYK TIFF,
        or needs a package that is not installed.
    """
    if not path.is_file():
        problem = "is a folder, an image is wanted" if path.is_dir() else "no such file; check the path"
        raise UserError(f"{path}: {problem}")
    with decoding_errors(path):
        with path.open("rb") as file:
            start = file.read(8)
        is_signed = start.startswith(_SIGNATURES)
        decoded = _decode_tiff(path) if start.startswith(_TIFF_SIGNATURES) else _decode_with_pillow(path, is_signed)
    if not decoded.array.size or decoded.array.dtype.kind not in "buif":
        raise UserError(f"{path}: has no pixels ({decoded.array.dtype}, {decoded.array.shape}); save it again")
    return decoded


@contextmanager
def decoding_errors(path: Path) -> Iterator[None]:
    """Turn every error of a decoder into a one-line message: decoders raise errors of many types on broken files.

    Raises
    ------
    UserError
        Instead of any other error in the block, except that of memory running out.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        package = error.name if isinstance(error, ImportError) else None
        if "requires the 'imagecodecs' package" in str(error):  # tifffile, for a compression it cannot decode itself
            package = "imagecodecs"
        if package is None:
            raise UserError(f"{path}: broken or not complete ({one_line(error)}); copy it again") from error
        advice = f"run `pip install {package}`, or save the image as uncompressed TIFF"
        raise UserError(f"{path}: reading it needs the package {package}, which is not installed; {advice}") from error


def one_line(error: Exception) -> str:
    """Message of an error in one line of at most 160 characters."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def microns(unit: str | None) -> float | None:
    """Micrometres per unit of length; None if the unit is unknown or missing."""
    return _MICRONS.get((unit or "").lower())


def in_microns(sizes: Sequence[float], unit: str | None) -> tuple[Spacing, bool]:
    """Sizes in micrometres, and whether they are: those in an unknown unit are left as they are."""
    scale = microns(unit)
    return tuple(float(size) * (scale or 1.0) for size in sizes), scale is not None


# --- TIFF -------------------------------------------------------------------------------------------------------


def _decode_tiff(path: Path) -> Decoded:
    """Decode the first series of a TIFF: one image, or the planes of a volume."""
    with _complete_pages(path), tifffile.TiffFile(path) as tiff:
        series, page = tiff.series[0], tiff.pages.first
        notes = _orientation_note(page.tags.valueof(_EXIF_ORIENTATION))
        if len(tiff.series) > 1:
            notes += (f"image 1 of {len(tiff.series)} in the file taken",)
        if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:
            raise UserError(f"{path}: colours are CMYK; save it as RGB")
        array, axes = _named_axes(path, _series_array(path, series), series.axes)
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE and "C" not in axes:
            # The colour map is 16-bit; its high bytes are the original 8-bit colours.
            array = (np.moveaxis(np.asarray(page.colormap)[:, array], 0, -1) >> 8).astype(np.uint8)
            return Decoded(array, axes + "C", (*notes, "palette turned into colours"))
        # tifffile marks the bool arrays it writes as white-is-zero, although they are not inverted.
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and not (array.dtype == bool and page.is_shaped):
            array, notes = _inverted(array), (*notes, "white-is-zero image inverted")
        spacing, has_unit = _tiff_spacing(tiff) if axes.startswith("Z") else (None, False)
        return Decoded(array, axes, notes, spacing, has_unit)


@contextmanager
def _complete_pages(path: Path) -> Iterator[None]:
    """Refuse a TIFF whose list of pages points beyond its end: tifffile only logs that, and skips those pages."""
    messages: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: messages.append(record.getMessage())
    tifffile.logger().addHandler(handler)
    try:
        yield
    finally:
        tifffile.logger().removeHandler(handler)
    if any("invalid page offset" in message for message in messages):
        raise UserError(f"{path}: is not complete, pages are missing at its end; copy it again")


def _series_array(path: Path, series: tifffile.TiffPageSeries) -> NDArray[Any]:
    """Pixels of a series; a volume stored in one piece is memory-mapped, because it may be larger than memory."""
    if series.ndim > 2 and series.dataoffset is not None and series.dtype is not None and series.dtype.isnative:
        end, size = series.dataoffset + series.nbytes, path.stat().st_size
        if size < end:
            raise UserError(f"{path}: is not complete, {size} of {end} bytes are there; copy it again")
        return np.memmap(path, series.dtype, "r", series.dataoffset, series.shape).view(np.ndarray)
    return series.asarray()


def _named_axes(path: Path, array: NDArray[Any], axes: str) -> tuple[NDArray[Any], str]:
    """Bring a TIFF series to (Z)YX(C). Tifffile's S(ample) is a channel; any other stack axis is read as Z."""
    kept = [(n, name) for n, name in zip(array.shape, axes.replace("S", "C"), strict=True) if n > 1 or name in "YX"]
    array, axes = array.reshape([n for n, _ in kept]), "".join(name for _, name in kept)
    if axes.count("C") == 1:
        array, axes = np.moveaxis(array, axes.index("C"), -1), axes.replace("C", "") + "C"
    if len(axes) == 3 and "C" not in axes:
        # Float colour images written from numpy have no sample axis; a last axis of 3 or 4 is taken to be colours.
        axes = "YXC" if array.shape[-1] in (3, 4) else "ZYX"
    elif len(axes) == 4 and axes.endswith("C"):
        axes = "ZYXC"
    if axes not in ("YX", "YXC", "ZYX", "ZYXC"):
        raise UserError(f"{path}: has {array.ndim} axes ({axes}); give one plane or one volume")
    return array, axes


def _inverted(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype == bool:
        return ~array
    top = np.iinfo(array.dtype).max if array.dtype.kind in "ui" else array.max()
    return (top - array).astype(array.dtype)


def _tiff_spacing(tiff: tifffile.TiffFile) -> tuple[Spacing | None, bool]:
    """Voxel size from OME or ImageJ metadata, and whether its unit is known.

    A resolution alone says nothing about the distance of the slices.
    """
    if tiff.ome_metadata:
        sizes = tuple(size for axis in "ZYX" if (size := _ome_size(tiff.ome_metadata, axis)))
        return (sizes, True) if len(sizes) == 3 else (None, False)
    imagej, tags = tiff.imagej_metadata or {}, tiff.pages.first.tags
    ratios = [tags.valueof(name) for name in ("YResolution", "XResolution")]
    if not imagej.get("spacing") or any(not ratio or not all(ratio) for ratio in ratios):
        return None, False
    sizes = (imagej["spacing"], *(length / pixels for pixels, length in ratios))
    return in_microns(sizes, imagej.get("unit"))


def _ome_size(xml: str, axis: str) -> float | None:
    """Voxel size along one axis in micrometres, from OME-XML."""
    size = re.search(rf'PhysicalSize{axis}="([^"]+)"', xml)
    unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', xml)
    # OME's unit is the micrometre unless another one is named; one that is unknown to us is left out.
    scale = microns(unit[1] if unit else "um")
    return float(size[1]) * scale if size and scale else None


# --- other formats ----------------------------------------------------------------------------------------------


def _decode_with_pillow(path: Path, is_signed: bool) -> Decoded:
    """Decode a file of any format known to Pillow; ``is_signed`` says that it begins as one of ours."""
    try:
        image = PillowImage.open(path)
    except PillowImage.UnidentifiedImageError as error:
        formats = f"{', '.join(_DECODED)}, and for volumes {', '.join(_VOLUMES_ONLY)}"
        named = f"a {path.suffix[1:].upper()} image" if path.suffix.lower() in _DECODED else "an image"
        problem = "broken or not complete; copy it again" if is_signed else f"is not {named}; known are {formats}"
        raise UserError(f"{path}: {problem}") from error
    with image:
        mode, frames = image.mode, getattr(image, "n_frames", 1)
        if frames > 1:
            raise UserError(f"{path}: has {frames} frames; give a still image")
        notes = _orientation_note(image.getexif().get(_EXIF_ORIENTATION))
        has_palette, converted = mode in ("P", "PA"), mode in ("CMYK", "YCbCr", "LAB", "HSV")
        if has_palette:
            notes += ("palette turned into colours",)
        elif converted:
            notes += (f"{mode} turned into RGB",)
        if image.format == "PNG":
            import imagecodecs  # needed for PNG only; libpng keeps 16-bit colours, which Pillow would cut to 8 bits

            array = imagecodecs.png_decode(path.read_bytes())
            array = array > 0 if mode == "1" else array
        else:
            array = np.asarray(image.convert("RGB") if has_palette or converted else image)
    return Decoded(array, "YX" if array.ndim == 2 else "YXC", notes)


def _orientation_note(orientation: int | None) -> tuple[str, ...]:
    """Note on an orientation flag. Pixels stay as stored, so that an SWC drawn on the stored pixels still fits."""
    return () if orientation in (None, 0, 1) else (f"orientation flag {int(orientation)} ignored",)
