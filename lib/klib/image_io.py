"""Images in and out: image files and arrays to network input, arrays to TIFF, PNG and memory-mapped stacks.

`lib.klib.decoding` turns a file into an array with named axes. This module takes a plane or a mask from it and brings
the values to [0, 1] and to the wanted number of channels. Every conversion adds a line to the notes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import ArrayLike, DTypeLike, NDArray
from PIL import Image as PillowImage
from skimage.color import rgb2gray

from lib.errors import UserError
from lib.files import atomic_write
from lib.klib.decoded import ALL, BRIGHT, DARK, ReadOptions, Spacing, one_line
from lib.klib.decoding import SUFFIXES, decode, natural_order, plane_files
from lib.klib.tiff import is_plane


@dataclass(frozen=True)
class Image:
    """Pixels ready for a network, and how they were made.

    Attributes
    ----------
    pixels
        ``(*S, channels)`` float32 in [0, 1].
    notes
        One line per conversion, in order; empty if nothing was converted.
    spacing
        Size of a voxel, or pixel; None where the file does not give it.
    has_unit
        Whether the size is known to be in micrometres.
    """

    pixels: NDArray[np.float32]
    notes: tuple[str, ...] = ()
    spacing: Spacing | None = None
    has_unit: bool = False


# --- reading ----------------------------------------------------------------------------------------------------


def read_image(path: str | Path, *, channels: Literal[1, 3], how: ReadOptions = ALL) -> Image:
    """Read a 2D image.

    Parameters
    ----------
    path
        The image file; its format is recognised by its first bytes, not by its suffix.
    channels
        As in :func:`image_from_array`.
    how
        Which channels to take, and how values become 0 to 1.

    Returns
    -------
    Image
        ``(y, x, channels)``, see :func:`image_from_array` for the values.

    Raises
    ------
    UserError
        If the file is missing, not an image, broken or a volume, holds NaN or infinite values, or has channels of which
        none was chosen.
    """
    path = Path(path)
    decoded = decode(path, how)
    if "Z" in decoded.axes:
        shape = " x ".join(map(str, decoded.array.shape))
        series = any("time points" in note for note in decoded.notes)
        advice = "choose one with --timepoint" if series else "give one plane, or use the 3D script"
        raise UserError(f"{path}: is a {'series' if series else 'volume'} ({shape}), a 2D image is wanted; {advice}")
    notes = decoded.notes
    if decoded.channels:
        if decoded.array.shape[-1] != 3:
            advice = "choose one with --channel, or three as red, green and blue"
            raise UserError(f"{path}: has {decoded.channels}; {advice}")
        notes += (f"{decoded.channels} taken as red, green and blue",)
    image = _ready(path, decoded.array, channels, notes, how)
    return replace(image, spacing=decoded.spacing, has_unit=decoded.has_unit)


def image_from_array(array: ArrayLike, *, channels: Literal[1, 3], how: ReadOptions = ALL) -> Image:
    """Prepare an array as :func:`read_image` prepares a file.

    8-bit values are divided by 255, 16-bit values by 65535 (docs/paper.md §3 gives the former). Float values in [0, 1]
    are kept; others are brought to that range, with a note. :class:`~lib.klib.decoded.ReadOptions` says otherwise.

    Parameters
    ----------
    array
        ``(y, x)``, or ``(y, x, channels)`` of gray, gray and alpha, RGB or RGBA; bool, integer or float.
    channels
        Number of channels wanted: gray is repeated, colour is turned into luminance, alpha is dropped.
    how
        How values become 0 to 1.

    Returns
    -------
    Image
        ``(y, x, channels)``.

    Raises
    ------
    UserError
        If the array has another shape or type, or holds NaN or infinite values.
    """
    array = np.asarray(array)
    if array.ndim not in (2, 3) or not array.size or array.dtype.kind not in "buif":
        raise UserError(f"array: {array.dtype} of shape {array.shape} is not an image; give numbers (y, x[, channels])")
    return _ready("array", array, channels, (), how)


def read_mask(path: str | Path) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Read a binary mask: a hand-made label or a field of view, 2D or 3D.

    The two values may be any (0/1, 0/255, ...). A mask with values in between, such as a JPEG, is thresholded at half
    its maximum.

    Returns
    -------
    mask
        ``(y, x)`` or ``(z, y, x)``.
    notes
        One line per conversion.

    Raises
    ------
    UserError
        As :func:`read_image`, except that volumes are accepted.
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


def read_labels(path: str | Path) -> NDArray[np.integer]:
    """Read a label image: whole numbers, one for each kind or object, 2D or 3D.

    Raises
    ------
    UserError
        As :func:`read_image`, except that volumes are accepted, and if it has colours or fractions.
    """
    path = Path(path)
    decoded = decode(path)
    if "C" in decoded.axes or decoded.array.dtype.kind not in "ui":
        raise UserError(f"{path}: not a label image; give one channel of whole numbers")
    return decoded.array


def image_files(path: str | Path) -> list[Path]:
    """List the images to work on: the file itself, or the images of a folder in natural order (2 before 10).

    Raises
    ------
    UserError
        If there is nothing at ``path``, or no image in the folder.
    """
    path = Path(path)
    if path.is_file() or path.suffix.lower() == ".zarr":
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; give an image or a folder of images")
    if not (files := _images_in(path)):
        raise UserError(f"{path}: no image in this folder; known are {', '.join(SUFFIXES)}")
    return _in_order(files)


def volume_files(path: str | Path) -> list[Path]:
    """List the volumes to work on: as :func:`image_files`, and folders of slices, the one given or those in it.

    Raises
    ------
    UserError
        As :func:`image_files`.
    """
    path = Path(path)
    if not path.is_dir() or path.suffix.lower() == ".zarr":
        return image_files(path)
    if _holds_slices(path):
        return [path]
    folders = [each for each in path.iterdir() if each.is_dir() and not each.name.startswith(".")]
    stacks = [folder for folder in folders if folder.suffix.lower() != ".zarr" and _holds_slices(folder)]
    return _in_order([*_images_in(path), *stacks]) if stacks else image_files(path)


def _images_in(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.name.lower().endswith(SUFFIXES) and not p.name.startswith(".")]


def _in_order(files: list[Path]) -> list[Path]:
    return sorted(files, key=lambda file: natural_order(file.name))


def _holds_slices(folder: Path) -> bool:
    """Whether a folder holds images of one plane, at least two."""
    files = plane_files(folder)
    return len(files) > 1 and all(is_plane(file) for file in (files[0], files[-1]))


def stem(path: Path) -> str:
    """Name of an image without its whole suffix: ``a`` for ``a.tif``, ``a.nii.gz`` and ``a.ome.tif``."""
    return re.sub(r"(?<=.)(\.nii\.gz|\.ome\.tiff?|\.ome\.zarr|\.[^.]+)$", "", path.name, flags=re.IGNORECASE)


def find_image(images: Path, stems: Sequence[str]) -> Path | None:
    """Find the image of a pair: ``images`` itself, or the file in that folder whose stem is that of a tree.

    Parameters
    ----------
    images
        Image file, or folder of images.
    stems
        Stems of the test and the gold file. If no image has one of them, a stem that is continued by ``_`` or ``.``
        also fits, on either side: ``01.tif`` for ``01_manual1.swc``, and ``21_training.tif`` for ``21.swc``.

    Returns
    -------
    Path or None
        None if no image fits.

    Raises
    ------
    UserError
        If the folder holds no image, or several that fit equally well.
    """
    files = image_files(images)
    if images.is_file():
        return images
    for fits in (str.__eq__, _is_continued):
        for name in stems:
            found = [file for file in files if fits(stem(file), name)]
            if len(found) > 1:
                names = ", ".join(file.name for file in found)
                raise UserError(f"{images}: {names} all fit {name}; leave one of them there")
            if found:
                return found[0]
    return None


def _is_continued(image: str, name: str) -> bool:
    return image.startswith((f"{name}_", f"{name}.")) or name.startswith((f"{image}_", f"{image}."))


def check_finite(source: Path | str, pixels: NDArray[Any]) -> None:
    """Refuse NaN and infinite values.

    Raises
    ------
    UserError
        If there are any; the message begins with ``source``.
    """
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        count = np.count_nonzero(~np.isfinite(pixels))
        raise UserError(f"{source}: {count} values are NaN or infinite; replace them, by 0 for example")


def _ready(source: Path | str, pixels: NDArray[Any], channels: int, notes: tuple[str, ...], how: ReadOptions) -> Image:
    """Image from decoded pixels ``(y, x)`` or ``(y, x, C)``."""
    pixels, alpha_notes = _without_alpha(source, pixels if pixels.ndim == 3 else pixels[..., np.newaxis])
    pixels, value_notes = _to_unit_range(source, pixels, how)
    pixels, channel_notes = _to_channels(pixels, channels)
    return Image(pixels, notes + alpha_notes + value_notes + channel_notes)


def _without_alpha(source: Path | str, pixels: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    count = pixels.shape[-1]
    if count > 4:
        raise UserError(f"{source}: has {count} channels; save it as gray or RGB")
    if count in (2, 4):
        return pixels[..., :-1], ("alpha dropped" if count == 4 else "second channel (alpha) dropped",)
    return pixels, ()


def _to_unit_range(
    source: Path | str, pixels: NDArray[Any], how: ReadOptions
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Bring values to float32 in [0, 1]."""
    check_finite(source, pixels)
    if how.white and pixels.dtype != bool and (top := float(np.percentile(pixels, how.white))) > 0:
        return np.clip(pixels / top, 0, 1).astype(np.float32), (f"value {top:g} (percentile {how.white:g}) taken as 1",)
    unit, notes = _by_type(pixels)
    if pixels.dtype in (bool, np.uint8) or not how.bright:
        return unit, notes
    bright = float(np.percentile(unit, BRIGHT[2]))
    if not 0 < bright < DARK * how.bright:
        return unit, notes
    gain = how.bright / bright
    note = f"dark, values made {gain:.3g} times brighter, as those that the weights know; --white says otherwise"
    return np.minimum(unit * np.float32(gain), 1), (*notes, note)


def top_of_image(source: Path | str, sample: NDArray[Any], how: ReadOptions) -> tuple[float, tuple[str, ...]]:
    """Value that becomes 1, judged by some pixels of an image that is read by windows, and lines about it.

    Parameters
    ----------
    source
        Name of the image.
    sample
        Pixels of any shape, as stored.
    how
        As in :func:`image_from_array`, whose rules hold.

    Raises
    ------
    UserError
        If the values are not finite, or floats or integers of a range that nothing is known of.
    """
    unit, notes = _to_unit_range(source, sample, how)
    low, high = float(sample.min()), float(sample.max())
    known = {"bool": 1.0, "uint8": 255.0, "uint16": 65535.0}.get(sample.dtype.name)
    if known is None and low >= 0 and high <= 255:
        known = 1.0 if high <= 1 else 255.0
    if known is None and not (how.white and np.percentile(sample, how.white) > 0):
        found = f"{sample.dtype} values {low:g} to {high:g}"
        raise UserError(f"{source}: {found}; give --white, or save it with 8 or 16 bits")
    if known and np.array_equal(unit, _by_type(sample)[0]):
        return known, notes
    # Every other rule is a factor, found where a value lies between 0 and 1; where none does, the least becomes 1.
    below = np.where(unit < 1, unit, 0)
    at = np.unravel_index(int(below.argmax()), below.shape)
    return float(sample[at]) / float(below[at]) if below[at] > 0 else float(sample[sample > 0].min()), notes


def _by_type(pixels: NDArray[Any]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Bring values to float32 in [0, 1] by their type."""
    if pixels.dtype == bool:
        return pixels.astype(np.float32), ("1-bit image",)
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / np.float32(255), ()
    if pixels.dtype == np.uint16:
        note = f"16-bit scaled by 1/65535 (brightest value {pixels.max()})"
        return pixels.astype(np.float32) / np.float32(65535), (note,)
    low, high = float(pixels.min()), float(pixels.max())
    if low >= 0 and high <= 1:
        return pixels.astype(np.float32), ()
    if low >= 0 and high <= 255:
        return (pixels / 255).astype(np.float32), (f"{pixels.dtype} values up to {high:g} scaled by 1/255",)
    note = f"{pixels.dtype} values {low:g} to {high:g} rescaled to 0 to 1"
    # First to -1 to 1: the difference of the largest numbers has no number.
    largest = max(abs(low), abs(high))
    unit = pixels.astype(np.float64) / largest
    span = max(high / largest - low / largest, np.finfo(np.float32).tiny)
    return ((unit - low / largest) / span).astype(np.float32), (note,)


def _to_channels(pixels: NDArray[np.float32], wanted: int) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    if pixels.shape[-1] == wanted:
        return pixels, ()
    if wanted == 3:
        return np.repeat(pixels, 3, axis=-1), ("gray image repeated to three channels",)
    return rgb2gray(pixels)[..., np.newaxis], ("colour turned into luminance",)


# --- writing ----------------------------------------------------------------------------------------------------


def write_tiff(path: str | Path, array: ArrayLike) -> None:
    """Write an array as an uncompressed TIFF, which can be memory-mapped; a BigTIFF if it is large.

    Parameters
    ----------
    path
        The file; its folder is made if needed, and the file appears only when complete.
    array
        Any shape; a last axis of 3 or 4 after at least two others is stored as RGB or RGBA.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    array = np.asarray(array)
    with atomic_write(Path(path)) as temporary:
        tifffile.imwrite(temporary, array, photometric=_photometric(array.shape), metadata={})


def write_png(path: str | Path, array: NDArray[np.uint8]) -> None:
    """Write ``(y, x)``, ``(y, x, 3)`` or ``(y, x, 4)`` pixels as a PNG; the file appears only when complete.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    with atomic_write(Path(path)) as temporary:
        PillowImage.fromarray(np.ascontiguousarray(array)).save(temporary, format="PNG")


@contextmanager
def stack_writer(path: str | Path, shape: tuple[int, ...], dtype: DTypeLike) -> Iterator[np.memmap]:
    """Give an array on disk, initially zero, to fill with a TIFF stack that may be larger than memory.

    The stack gets its final name when the block ends, and is deleted if the block raises. :func:`open_stack` and
    ``tifffile.imread`` both return an array of this ``shape``.

    Raises
    ------
    UserError
        If the disk has no room for the stack, or the file cannot be made.
    ValueError
        If ``shape`` holds no pixel.
    """
    path, dtype = Path(path), np.dtype(dtype)
    if not np.prod(shape):
        raise ValueError(f"{path}: a stack needs at least one pixel, not shape {shape}")
    with atomic_write(path) as temporary:
        # A full disk under a memory map kills the process instead of raising, so the room is checked beforehand.
        _check_room(path, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        stack = tifffile.memmap(temporary, shape=shape, dtype=dtype, photometric=_photometric(shape))
        yield stack
        stack.flush()


def open_stack(path: str | Path) -> np.memmap:
    """Map a TIFF stack into memory, read-only; pixels are read from disk when they are indexed.

    Raises
    ------
    UserError
        If the file is missing, or is not an uncompressed TIFF in one piece (as :func:`stack_writer` makes it).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; run prepare_datasets to make the stacks")
    try:
        return tifffile.memmap(path, mode="r")
    except Exception as error:  # tifffile raises exceptions of many types on foreign or broken files
        raise UserError(f"{path}: cannot be memory-mapped ({one_line(error)}); write it again, uncompressed") from error


def _photometric(shape: tuple[int, ...]) -> Literal["rgb", "minisblack"]:
    return "rgb" if len(shape) >= 3 and shape[-1] in (3, 4) else "minisblack"


def _check_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise UserError(f"{path}: needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; make room or take fewer")
