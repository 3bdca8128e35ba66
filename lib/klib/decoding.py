"""Decoding of TIFF, PNG, JPEG, BMP, GIF and PPM files, and folders of slices, to arrays with named axes."""

from __future__ import annotations

import importlib
import logging
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as PillowImage

from lib.errors import UserError, counted

Spacing = tuple[float, ...]
"""Size of a voxel, ``(z, y, x)``, in micrometres, or in a unit that the file does not name."""

_DECODED = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm")
_VOLUMES_ONLY = (".nii", ".nii.gz", ".zarr")
SUFFIXES = _DECODED + _VOLUMES_ONLY
"""Suffixes of the known formats. A single file is decoded by its first bytes, whatever its suffix."""

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# BMP and PPM begin with two letters, which ordinary text may begin with too.
_SIGNATURES = (*_TIFF_SIGNATURES, b"\x89PNG", b"\xff\xd8\xff", b"GIF8")
_EXIF_ORIENTATION, _GEO_KEYS, _GDAL_METADATA = 274, 34735, 42112
_MICRONS = dict(nm=1e-3, nanometer=1e-3, mm=1e3, millimeter=1e3, cm=1e4, m=1e6, meter=1e6, inch=2.54e4)
_MICRONS |= dict.fromkeys(("um", "µm", "μm", "\\u00b5m", "micron", "microns", "micrometer"), 1.0)
"""Micrometres per unit, by the names that OME, ImageJ, OME-Zarr and NIfTI use."""


@dataclass(frozen=True)
class ReadOptions:
    """What to take of a file, and how its values become 0 to 1.

    Attributes
    ----------
    channel
        Channels to take, the first is 1: one, or three as red, green and blue; empty takes all.
    timepoint
        Time point to take, the first is 1; None if there is one.
    white
        Percentile of the values that becomes 1; with 0 the value depends on the type.
    bright
        The :data:`BRIGHT` percentile of values that the weights know, 0 to 1. With ``white`` 0, values of more than 8
        bits that are much darker (in volumes 12 bits) are brought there; 0 leaves all as they are.
    """

    channel: tuple[int, ...] = ()
    timepoint: int | None = None
    white: float = 0.0
    bright: float = 0.0


ALL = ReadOptions()
"""A whole file, its values by their type."""
BRIGHT = {2: 99.9, 3: 99.99}
"""Percentile that tells how bright an image is, by dimension: the brightest values may be broken pixels, but the
neurites of a volume are few."""
MOST_COMPRESSED = 20_000
"""Bytes of pixels for a byte of a file, which no compression reaches: Deflate makes a thousandth of a black image."""
DARK = 0.5
"""Part of the known brightness below which an image is brightened: 12 bits in a file of 16 are a sixteenth."""
TWELVE_BITS = 4095
"""Volumes with larger values are not brightened: where neurites are rarer than :data:`BRIGHT` takes them to be, the
percentile is that of the background."""


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
    channels
        What is said of the channels, if C are those of a microscope or of a sensor and not colours; else empty.
    """

    array: NDArray[Any]
    axes: str
    notes: tuple[str, ...] = ()
    spacing: Spacing | None = None
    has_unit: bool = False
    channels: str = ""


def decode(path: Path, how: ReadOptions = ALL) -> Decoded:
    """Decode an image file, whatever its suffix, or a folder of slices.

    Parameters
    ----------
    path
        The file, or a folder whose images are the slices of a volume, in natural order.
    how
        Which channel and time point to take.

    Raises
    ------
    UserError
        If the file is missing, of no known format, broken or incomplete, has no pixels, is animated, is a CMYK TIFF,
        or needs a package that is not installed; if it lacks the channel or the time point, or has several time points
        and none was chosen; if slices differ in size, or one is missing.
    """
    if path.is_dir():
        return _decode_slices(path, how)
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    with decoding_errors(path):
        with path.open("rb") as file:
            start = file.read(8)
        is_signed = start.startswith(_SIGNATURES)
        if start.startswith(_TIFF_SIGNATURES):
            decoded = _decode_tiff(path, how)
        else:
            decoded = _decode_with_pillow(path, is_signed)
        decoded = with_channels(path, decoded, how)
    if not decoded.array.size or decoded.array.dtype.kind not in "buif":
        raise UserError(f"{path}: has no pixels ({decoded.array.dtype}, {decoded.array.shape}); save it again")
    return decoded


@contextmanager
def decoding_errors(path: Path) -> Iterator[None]:
    """Turn every error of a decoder into a one-line message: decoders raise errors of many types on broken files.

    Raises
    ------
    UserError
        Instead of any other error in the block.
    """
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{path}: does not fit into memory ({one_line(error)}); give a part of it") from error
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


# --- what is taken ----------------------------------------------------------------------------------------------


def at_timepoint(path: Path, array: Any, axes: str, how: ReadOptions) -> tuple[Any, str, tuple[str, ...]]:
    """Take the time point that was chosen, before anything else of a series is read.

    Parameters
    ----------
    path
        For messages.
    array
        Anything with a shape that can be indexed.
    axes
        A letter for each axis, T for time.
    how
        Which time point.

    Returns
    -------
    array, axes, notes
        Without time; a series without slices is kept, because stacks are often saved so.

    Raises
    ------
    UserError
        If there is no such time point, or there are several and none was chosen.
    """
    axis = axes.find("T")
    count = array.shape[axis] if axis >= 0 else 1
    if how.timepoint is None and count > 1:
        if any(size > 1 for size, name in zip(array.shape, axes, strict=True) if name not in "TYXCS"):
            raise UserError(f"{path}: has {count} time points; choose one with --timepoint")
        return array, axes, (f"{count} time points read as slices",)
    if how.timepoint is not None and not 1 <= how.timepoint <= count:
        found = f"{count} time points" if count > 1 else "one time point"
        raise UserError(f"{path}: has {found}, not a number {how.timepoint}; give another --timepoint")
    if axis < 0:
        return array, axes, ()
    index: list[Any] = [slice(None)] * len(axes)
    index[axis] = (how.timepoint or 1) - 1
    note = (f"time point {how.timepoint} of {count} taken",) if count > 1 else ()
    return array[tuple(index)], axes.replace("T", ""), note


def with_channels(path: Path, decoded: Decoded, how: ReadOptions) -> Decoded:
    """Take the channels that were chosen.

    Raises
    ------
    UserError
        If there is no such channel, or their number is neither one nor three.
    """
    if not how.channel:
        return decoded
    count = decoded.array.shape[-1] if "C" in decoded.axes else 1
    if wrong := [each for each in how.channel if not 1 <= each <= count]:
        raise UserError(f"{path}: has {counted(count, 'channel')}, not a number {wrong[0]}; give another --channel")
    if len(how.channel) not in (1, 3):
        raise UserError(f"--channel: {len(how.channel)} given; give one, or three as red, green and blue")
    if "C" not in decoded.axes:
        return decoded
    chosen = [each - 1 for each in how.channel]
    note = f"channel{'s' if chosen[1:] else ''} {', '.join(map(str, how.channel))} of {count} taken"
    array = decoded.array[..., chosen if chosen[1:] else chosen[0]]
    axes = decoded.axes if chosen[1:] else decoded.axes.replace("C", "")
    return replace(decoded, array=array, axes=axes, notes=(*decoded.notes, note), channels="")


_UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda array: array[:, ::-1],
    3: lambda array: array[::-1, ::-1],
    4: lambda array: array[::-1],
    5: lambda array: array.swapaxes(0, 1),
    6: lambda array: array.swapaxes(0, 1)[:, ::-1],
    7: lambda array: array[::-1, ::-1].swapaxes(0, 1),
    8: lambda array: array.swapaxes(0, 1)[::-1],
}
"""How pixels ``(y, x[, C])`` are turned for each orientation flag (TIFF 6.0, tag 274) but 1, upright."""


def _upright(decoded: Decoded, orientation: int | None) -> Decoded:
    """Turn a photograph as its orientation flag says, so that traces fit what viewers show."""
    turn = _UPRIGHT.get(int(orientation or 1))
    if turn is None or not decoded.axes.startswith("Y"):
        return decoded
    note = f"turned as its orientation flag says ({int(orientation or 1)})"
    return replace(decoded, array=turn(decoded.array), notes=(*decoded.notes, note))


def _decode_slices(path: Path, how: ReadOptions) -> Decoded:
    """Decode a folder of slices to one volume."""
    files = plane_files(path)
    if not files:
        raise UserError(f"{path}: is a folder without images; give one of slices, or a file")
    _check_numbers(path, files)
    slices = [decode(file, how) for file in files]
    first = slices[0]
    for file, other in zip(files, slices, strict=True):
        if not other.axes.startswith("Y"):
            raise UserError(f"{file}: is a volume, and lies in a folder of slices; take it out")
        if (other.array.shape, other.axes) != (first.array.shape, first.axes):
            sizes = (" x ".join(map(str, each.array.shape)) for each in (other, first))
            raise UserError(f"{file}: is {next(sizes)}, {files[0].name} is {next(sizes)}; slices must be equal")
    array = np.stack([each.array for each in slices])
    notes = (f"{len(files)} slices, {files[0].name} to {files[-1].name}", *first.notes)
    return Decoded(array, f"Z{first.axes}", notes, channels=first.channels)


def plane_files(folder: Path) -> list[Path]:
    """Images of a folder, in natural order (2 before 10), that can be the slices of a volume."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in _DECODED and not file.name.startswith(".")]
    return sorted((file for file in files if file.is_file()), key=lambda file: natural_order(file.name))


def is_plane(path: Path) -> bool:
    """Whether a file holds one plane; a file that cannot be read counts as one, and is refused when it is decoded."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return True
    try:
        with tifffile.TiffFile(path) as tiff:
            _check_chain(path, tiff)
            shape, axes = tiff.series[0].shape, tiff.series[0].axes
    except Exception:  # tifffile raises exceptions of many types on foreign or broken files
        return True
    return not any(size > 1 for size, name in zip(shape, axes, strict=True) if name not in "YXCS")


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Sort key in which runs of digits count as numbers."""
    parts = filter(None, re.split(r"(\d+)", name.lower()))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _check_numbers(folder: Path, files: Sequence[Path]) -> None:
    """Refuse a folder in which a number is missing: what lies beyond would be at a wrong place."""
    numbers = [int(found[-1]) for file in files if (found := re.findall(r"\d+", file.stem))]
    steps = np.diff(numbers)
    if len(numbers) == len(files) and len(steps) and steps.min() > 0 and steps.max() > steps.min():
        at = int(np.argmax(steps > steps.min()))
        raise UserError(f"{folder}: slice {numbers[at] + int(steps.min())} is missing, after {files[at].name}; add it")


# --- TIFF -------------------------------------------------------------------------------------------------------


def _decode_tiff(path: Path, how: ReadOptions) -> Decoded:
    """Decode the first series of a TIFF: one image, or the planes of a volume."""
    with _complete_pages(path), tifffile.TiffFile(path) as tiff:
        _check_chain(path, tiff)
        series, page, notes = tiff.series[0], tiff.pages.first, ()
        if len(tiff.series) > 1:
            notes += (f"image 1 of {len(tiff.series)} in the file taken",)
        if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:
            raise UserError(f"{path}: colours are CMYK; save it as RGB")
        array, axes, taken = at_timepoint(path, _series_array(path, series), series.axes, how)
        notes += taken
        has_channels = any(name == "C" and size > 1 for name, size in zip(axes, array.shape, strict=True))
        array, axes = _named_axes(path, array, axes)
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE and "C" not in axes:
            # The colour map is 16-bit; its high bytes are the original 8-bit colours.
            array = (np.moveaxis(np.asarray(page.colormap)[:, array], 0, -1) >> 8).astype(np.uint8)
            axes, notes = axes + "C", (*notes, "palette turned into colours")
        # tifffile marks the bool arrays it writes as white-is-zero, although they are not inverted.
        elif page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and not (array.dtype == bool and page.is_shaped):
            array, notes = _inverted(array), (*notes, "white-is-zero image inverted")
        spacing, has_unit = _tiff_spacing(tiff) if axes.startswith("Z") else (None, False)
        said = _channels_said(tiff, array.shape[-1]) if has_channels and "C" in axes else ""
        decoded = Decoded(array, axes, notes, spacing, has_unit, said)
        if _GEO_KEYS in page.tags and axes == "YXC" and not how.channel:
            decoded = _colour_bands(path, page, decoded)
        return _upright(decoded, page.tags.valueof(_EXIF_ORIENTATION))


def _colour_bands(path: Path, page: Any, decoded: Decoded) -> Decoded:
    """Red, green and blue of a GeoTIFF, whose bands may be others and in any order."""
    count = decoded.array.shape[-1]
    is_said = "COLORINTERP" in str(page.tags.valueof(_GDAL_METADATA, ""))
    if count < 3 or (page.photometric == tifffile.PHOTOMETRIC.RGB and count <= 4 and not is_said):
        return decoded  # gray, or colours in their order, perhaps with alpha
    with importlib.import_module("rasterio").open(path) as image:
        colours = [each.name for each in image.colorinterp]
    if {"red", "green", "blue"} <= set(colours):
        chosen = [colours.index(name) for name in ("red", "green", "blue")]
    elif count == 3:
        return replace(decoded, notes=(*decoded.notes, "three bands taken as red, green and blue"))
    else:
        return replace(decoded, channels=f"{count} bands of which none is said to be red, green or blue")
    note = f"bands {', '.join(str(band + 1) for band in chosen)} taken as red, green and blue"
    return replace(decoded, array=decoded.array[..., chosen], notes=(*decoded.notes, note))


def _channels_said(tiff: tifffile.TiffFile, count: int) -> str:
    """Number of the channels, and their names if OME metadata give them."""
    names = re.findall(r'<Channel [^>]*Name="([^"]+)"', tiff.ome_metadata or "")[:count]
    numbered = ", ".join(f"{number} {name}" for number, name in enumerate(names, start=1))
    return f"{count} channels{f' ({numbered})' if names else ''}"


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


def _check_chain(path: Path, tiff: tifffile.TiffFile) -> None:
    """Refuse a list of pages that leads back to itself, which tifffile would follow for ever."""
    form, file, seen = tiff.tiff, tiff.filehandle, set[int]()
    offset = tiff.pages.first.offset
    while offset:
        if offset in seen:
            raise UserError(f"{path}: broken, its list of pages leads back to its beginning; copy it again")
        seen.add(offset)
        file.seek(offset)
        count = struct.unpack(form.tagnoformat, file.read(form.tagnosize))[0]
        file.seek(offset + form.tagnosize + count * form.tagsize)
        after = file.read(form.offsetsize)
        offset = struct.unpack(form.offsetformat, after)[0] if len(after) == form.offsetsize else 0
        if offset >= file.size:
            return  # tifffile stops there, too, and says so


def _series_array(path: Path, series: tifffile.TiffPageSeries) -> NDArray[Any]:
    """Pixels of a series; a volume stored in one piece is memory-mapped, because it may be larger than memory."""
    if series.ndim > 2 and series.dataoffset is not None and series.dtype is not None and series.dtype.isnative:
        end, size = series.dataoffset + series.nbytes, path.stat().st_size
        if size < end:
            raise UserError(f"{path}: is not complete, {size} of {end} bytes are there; copy it again")
        return np.memmap(path, series.dtype, "r", series.dataoffset, series.shape).view(np.ndarray)
    if series.nbytes > MOST_COMPRESSED * path.stat().st_size:
        raise UserError(f"{path}: broken, {path.stat().st_size} bytes cannot hold {series.nbytes}; copy it again")
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
        notes, orientation = (), image.getexif().get(_EXIF_ORIENTATION)
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
    return _upright(Decoded(array, "YX" if array.ndim == 2 else "YXC", notes), orientation)
