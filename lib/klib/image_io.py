"""Images in and out: TIFF, PNG, JPEG, BMP, GIF and PPM to arrays, arrays to TIFF, PNG and memory-mapped stacks.

Reading goes in three steps, so that each question is answered in one place:

1. *decode*: file -> `Decoded`, an array whose axes are named (``"YX"``, ``"YXC"``, ``"ZYX"``, ``"ZYXC"``);
2. *shape*: take from it what the caller wants (a plane for `read_image`, any mask for `read_mask`);
3. *values*: bring the pixels to [0, 1] and to the wanted number of channels.

Nothing is changed silently: each conversion leaves a line in the notes.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import ArrayLike, DTypeLike, NDArray
from PIL import Image as PillowImage
from skimage.color import rgb2gray

from lib.errors import UserError
from lib.files import written

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".nii", ".nii.gz", ".zarr")
"""Suffixes by which `image_files` knows an image; a file named outright is read whatever its suffix."""

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_EXIF_ORIENTATION = 274
_MICRONS = {
    "nm": 1e-3,
    "nanometer": 1e-3,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "inch": 2.54e4,
}


@dataclass(frozen=True)
class Image:
    """Pixels ready for a network, and what was done to get them.

    Attributes
    ----------
    pixels
        ``(*S, channels)`` float32 in [0, 1].
    notes
        One line per conversion, in the order made; empty when the file already was what was asked for.
    spacing
        Size of a voxel, ``(z, y, x)``; None in 2D, and where the file does not say.
    """

    pixels: NDArray[np.float32]
    notes: tuple[str, ...] = ()
    spacing: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Decoded:
    """Pixels as they lie in the file. `axes` names them: (Z)YX(C). `spacing` is that of a volume, where it is known:
    the size of a voxel, (z, y, x), in micrometres if the file names a unit."""

    array: NDArray[Any]
    axes: str
    notes: tuple[str, ...] = ()
    spacing: tuple[float, ...] | None = None


def read_image(path: str | Path, *, channels: Literal[1, 3]) -> Image:
    """Read a 2D image.

    8-bit values become exactly value / 255, 16-bit ones value / 65535. Float images inside [0, 1] stay as they are;
    other values are brought there, with a note.

    Parameters
    ----------
    path : the image; what it is shows in its first bytes, not in its suffix
    channels : how many channels to return: gray is repeated, colour is turned into luminance, alpha is dropped

    Returns
    -------
    Image with pixels of shape (y, x, channels)

    Raises
    ------
    UserError
        if the file is missing, not an image, broken, a volume, or holds NaN or infinite values.
    """
    path = Path(path)
    decoded = decode(path)
    if "Z" in decoded.axes:
        shape = " x ".join(map(str, decoded.array.shape))
        raise UserError(f"{path}: is a volume ({shape}), a 2D image is wanted; give one plane, or use the 3D script")
    pixels = decoded.array if "C" in decoded.axes else decoded.array[..., np.newaxis]
    pixels, alpha_notes = _without_alpha(path, pixels)
    pixels, value_notes = _to_unit_range(path, pixels)
    pixels, channel_notes = _to_channels(pixels, channels)
    return Image(pixels, decoded.notes + alpha_notes + value_notes + channel_notes)


def read_mask(path: str | Path) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Read a binary mask: a hand-made label or a field of view, 2D or 3D.

    Any two values do (0/1, 0/255, ...). A mask with values in between (saved as JPEG, say) is cut at half its maximum.

    Returns
    -------
    mask : bool array, shape (y, x) or (z, y, x)
    notes : conversions made

    Raises
    ------
    UserError
        as for `read_image`, except that volumes are welcome.
    """
    path = Path(path)
    decoded = decode(path)
    array, notes = decoded.array, decoded.notes
    if "C" in decoded.axes:
        array, alpha_notes = _without_alpha(path, array)
        array, notes = array.max(axis=-1), notes + alpha_notes
    check_finite(path, array)
    half = array.max() / 2
    if array.dtype != bool and not np.isin(array, (0, array.max())).all():
        notes += (f"values between 0 and {array.max()} cut at {half:g}",)
    return array > half, notes


def image_files(path: str | Path) -> list[Path]:
    """List the images to work on: the file itself, or the images of a folder in natural order (2 before 10).

    Raises
    ------
    UserError
        if there is nothing at `path`, or no image in the folder.
    """
    path = Path(path)
    if path.is_file() or path.suffix.lower() == ".zarr":
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; give an image or a folder of images")
    files = [p for p in path.iterdir() if has_suffix(p) and not p.name.startswith(".")]
    if not files:
        raise UserError(f"{path}: no image in this folder; known are {', '.join(SUFFIXES)}")
    return sorted(files, key=lambda file: _natural(file.name))


def has_suffix(path: Path) -> bool:
    """Whether the name ends as that of an image."""
    return path.name.lower().endswith(SUFFIXES)


def stem(path: Path) -> str:
    """Name of an image without its suffix, all of it: ``a`` of ``a.nii.gz`` and of ``a.ome.tif``."""
    return re.sub(r"(\.nii\.gz|\.ome\.tiff?|\.ome\.zarr)$", "", path.name, flags=re.IGNORECASE).removesuffix(
        path.suffix
    )


def write_tiff(path: str | Path, array: ArrayLike) -> None:
    """Write an array as an uncompressed TIFF, so that it can be memory-mapped; BigTIFF when it needs to be.

    Parameters
    ----------
    path : the file; its folder is made if needed, and it appears only when complete
    array : any shape; a last axis of 3 or 4 after at least two others is stored as RGB or RGBA

    Raises
    ------
    UserError
        if the file cannot be written.
    """
    array = np.asarray(array)
    photometric = _photometric(array.shape)
    with written(Path(path)) as temporary:
        tifffile.imwrite(temporary, array, photometric=photometric, metadata={})


def write_png(path: str | Path, array: NDArray[np.uint8]) -> None:
    """Write a uint8 picture of shape (y, x), (y, x, 3) or (y, x, 4) as PNG; it appears only when complete.

    Raises
    ------
    UserError
        if the file cannot be written.
    """
    with written(Path(path)) as temporary:
        PillowImage.fromarray(np.ascontiguousarray(array)).save(temporary, format="PNG")


@contextmanager
def stack_writer(path: str | Path, shape: tuple[int, ...], dtype: DTypeLike) -> Iterator[np.memmap]:
    """Fill a TIFF stack larger than memory: yields an array on disk, zero at first, of the given shape.

    The stack takes its final name when the block ends, and is deleted if the block raises. `open_stack` and plain
    ``tifffile.imread`` both give `shape` back. More than 4 GB are fine.

    Raises
    ------
    UserError
        if the disk has no room for the stack, or the file cannot be made.
    ValueError
        if `shape` is empty.
    """
    path, dtype = Path(path), np.dtype(dtype)
    if not np.prod(shape):
        raise ValueError(f"{path}: a stack needs at least one pixel, not shape {shape}")
    with written(path) as temporary:
        # Checked here because a full disk under a memory map does not raise, it kills the process.
        _check_room(path, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        stack = tifffile.memmap(temporary, shape=shape, dtype=dtype, photometric=_photometric(shape))
        yield stack
        stack.flush()


def open_stack(path: str | Path) -> np.memmap:
    """Map a TIFF stack into memory, read-only: pixels are read from disk when they are indexed.

    Raises
    ------
    UserError
        if the file is missing, or is not an uncompressed TIFF in one piece (as `stack_writer` makes it).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; run prepare_datasets to make the stacks")
    try:
        return tifffile.memmap(path, mode="r")
    except Exception as error:  # whatever a foreign or broken file makes tifffile stumble over
        raise UserError(f"{path}: cannot be memory-mapped ({one_line(error)}); write it anew, uncompressed") from error


# --- decode -----------------------------------------------------------------------------------------------------


def decode(path: Path) -> Decoded:
    """Read a file of any known format; every way in which that fails becomes one line."""
    if not path.is_file():
        found = "is a folder, an image is wanted" if path.is_dir() else "no such file; check the path"
        raise UserError(f"{path}: {found}")
    try:
        is_tiff = path.open("rb").read(4) in _TIFF_MAGIC
        decoded = _decode_tiff(path) if is_tiff else _decode_other(path)
    except UserError:
        raise
    except PillowImage.UnidentifiedImageError as error:
        raise UserError(f"{path}: not an image; known are {', '.join(SUFFIXES)}") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise all sorts of things on broken bytes
        raise UserError(f"{path}: cannot be read ({one_line(error)}); the file is broken or not whole") from error
    if not decoded.array.size or decoded.array.dtype.kind not in "buif":
        raise UserError(f"{path}: holds no pixels ({decoded.array.dtype}, {decoded.array.shape}); save it anew")
    return decoded


def _decode_tiff(path: Path) -> Decoded:
    """Read the first series of a TIFF: one image, or the planes of a volume."""
    with _whole(path), tifffile.TiffFile(path) as tiff:
        series, page = tiff.series[0], tiff.pages[0]
        notes = _orientation_note(page.tags.valueof(_EXIF_ORIENTATION))
        if len(tiff.series) > 1:
            notes += (f"image 1 of {len(tiff.series)} in the file taken",)
        if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:
            raise UserError(f"{path}: colours are CMYK; save it as RGB")
        array, axes = _named_axes(path, _series_array(path, series), series.axes)
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE and "C" not in axes:
            # The colour map is 16-bit; its high bytes are the 8-bit colours it was made from.
            array = (np.moveaxis(page.colormap[:, array], 0, -1) >> 8).astype(np.uint8)
            return Decoded(array, axes + "C", (*notes, "palette turned into colours"))
        # tifffile itself flags bool arrays as white-is-zero without meaning it.
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and not (array.dtype == bool and page.is_shaped):
            array, notes = _inverted(array), (*notes, "white-is-zero image inverted")
        return Decoded(array, axes, notes, _tiff_spacing(tiff) if axes.startswith("Z") else None)


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Refuse a TIFF whose chain of pages ends beyond the file: tifffile only logs that, and gives the pages before."""
    said: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: said.append(record.getMessage())
    tifffile.logger().addHandler(handler)
    try:
        yield
    finally:
        tifffile.logger().removeHandler(handler)
    if any("invalid page offset" in message for message in said):
        raise UserError(f"{path}: is not whole, pages are missing at its end; copy it again")


def _series_array(path: Path, series: tifffile.TiffPageSeries) -> NDArray[Any]:
    """Pixels of a series, mapped into memory where they lie in one piece: a volume may be larger than memory."""
    if series.ndim > 2 and series.dataoffset is not None and series.dtype.isnative:
        end = series.dataoffset + series.nbytes
        if path.stat().st_size < end:
            raise UserError(f"{path}: is not whole, {path.stat().st_size} of {end} bytes are there; copy it again")
        mapped = np.memmap(path, series.dtype, "r", series.dataoffset, series.shape)
        return mapped.view(np.ndarray)
    return series.asarray()


def _tiff_spacing(tiff: tifffile.TiffFile) -> tuple[float, ...] | None:
    """Voxel size ``(z, y, x)`` as OME or ImageJ noted it; a resolution alone says nothing of the slices."""
    if tiff.ome_metadata:
        sizes = [_ome_size(tiff.ome_metadata, axis) for axis in "ZYX"]
        return tuple(sizes) if all(sizes) else None
    depth = (tiff.imagej_metadata or {}).get("spacing")
    tags = tiff.pages[0].tags
    ratios = [tags.valueof(name) for name in ("YResolution", "XResolution")]
    if not depth or any(not ratio or not all(ratio) for ratio in ratios):
        return None
    scale = microns(tiff.imagej_metadata.get("unit"))
    return tuple(float(size) * scale for size in (depth, *(below / above for above, below in ratios)))


def _ome_size(xml: str, axis: str) -> float | None:
    """PhysicalSize of an axis in micrometres."""
    size = re.search(rf'PhysicalSize{axis}="([^"]+)"', xml)
    unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', xml)
    return float(size[1]) * microns(unit[1] if unit else None) if size else None


def microns(unit: str | None) -> float:
    """Micrometres in a unit of length; what is not known is taken to be micrometres."""
    return _MICRONS.get((unit or "").lower(), 1.0)


def _named_axes(path: Path, array: NDArray[Any], axes: str) -> tuple[NDArray[Any], str]:
    """Bring a TIFF series to (Z)YX(C); tifffile's S(ample) is a channel, and any other stack axis is read as Z."""
    axes = axes.replace("S", "C")
    keep = [n > 1 or name in "YX" for n, name in zip(array.shape, axes, strict=True)]
    axes = "".join(name for name, kept in zip(axes, keep, strict=True) if kept)
    array = array.reshape([n for n, kept in zip(array.shape, keep, strict=True) if kept])
    if axes.count("C") == 1:
        array, axes = np.moveaxis(array, axes.index("C"), -1), axes.replace("C", "") + "C"
    if len(axes) == 3 and "C" not in axes:
        # Float colour written by numpy users has no sample axis: three or four columns are colours, not a volume.
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


def _decode_other(path: Path) -> Decoded:
    """Read what Pillow knows."""
    with PillowImage.open(path) as image:
        notes = _orientation_note(image.getexif().get(_EXIF_ORIENTATION))
        if getattr(image, "n_frames", 1) > 1:
            raise UserError(f"{path}: has {image.n_frames} frames; give a still image")
        if image.format == "PNG":
            # Pillow would silently cut 16-bit colour to 8 bits.
            array, notes = _decode_png(path, image.mode, notes)
        else:
            image, notes = _without_palette(image, notes)
            array = np.asarray(image)
    return Decoded(array, "YX" if array.ndim == 2 else "YXC", notes)


def _decode_png(path: Path, mode: str, notes: tuple[str, ...]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Pixels of a PNG whose Pillow mode is ``mode``; libpng itself turns palettes into colours and 1 bit into 8."""
    array = imagecodecs.png_decode(path.read_bytes())
    if mode == "P":
        return array, (*notes, "palette turned into colours")
    return (array > 0 if mode == "1" else array), notes


def _without_palette(image: PillowImage.Image, notes: tuple[str, ...]) -> tuple[PillowImage.Image, tuple[str, ...]]:
    if image.mode in ("P", "PA"):
        return image.convert("RGB"), (*notes, "palette turned into colours")
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        return image.convert("RGB"), (*notes, f"{image.mode} turned into RGB")
    return image, notes


def _orientation_note(orientation: int | None) -> tuple[str, ...]:
    """Pixels stay as they lie in the file, because an SWC drawn on them does too."""
    return () if orientation in (None, 0, 1) else (f"orientation flag {int(orientation)} ignored",)


# --- values and channels ----------------------------------------------------------------------------------------


def _without_alpha(path: Path, pixels: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    count = pixels.shape[-1]
    if count > 4:
        raise UserError(f"{path}: has {count} channels; save it as gray or RGB")
    if count in (2, 4):
        return pixels[..., :-1], ("alpha dropped" if count == 4 else "second channel (alpha) dropped",)
    return pixels, ()


def check_finite(path: Path, pixels: NDArray[Any]) -> None:
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        bad = np.count_nonzero(~np.isfinite(pixels))
        raise UserError(f"{path}: {bad} values are NaN or infinite; replace them, by 0 for example")


def _to_unit_range(path: Path, pixels: NDArray[Any]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Bring values to float32 in [0, 1]."""
    check_finite(path, pixels)
    if pixels.dtype == np.uint8:
        return pixels / np.float32(255), ()
    if pixels.dtype == bool:
        return pixels.astype(np.float32), ("1-bit image",)
    if pixels.dtype == np.uint16:
        return pixels / np.float32(65535), (f"16-bit scaled by 1/65535 (brightest value {pixels.max()})",)
    low, high = float(pixels.min()), float(pixels.max())
    if low >= 0 and high <= 1:
        return pixels.astype(np.float32), ()
    if low >= 0 and high <= 255:
        return (pixels / 255).astype(np.float32), (f"{pixels.dtype} values up to {high:g} scaled by 1/255",)
    span = max(high - low, np.finfo(np.float32).tiny)
    note = f"{pixels.dtype} values {low:g} to {high:g} rescaled to 0 to 1"
    return ((pixels - low) / span).astype(np.float32), (note,)


def _to_channels(pixels: NDArray[np.float32], wanted: int) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    if pixels.shape[-1] == wanted:
        return pixels, ()
    if wanted == 3:
        return np.repeat(pixels, 3, axis=-1), ("gray image repeated to three channels",)
    return rgb2gray(pixels)[..., np.newaxis], ("colour turned into luminance",)


# --- small helpers ----------------------------------------------------------------------------------------------


def _photometric(shape: tuple[int, ...]) -> Literal["rgb", "minisblack"]:
    return "rgb" if len(shape) >= 3 and shape[-1] in (3, 4) else "minisblack"


def _check_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise UserError(f"{path}: needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; make room or take fewer")


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key in which runs of digits count as numbers."""
    parts = filter(None, re.split(r"(\d+)", name.lower()))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
