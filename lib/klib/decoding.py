"""Decoding of TIFF, PNG, JPEG, BMP, GIF and PPM files, and folders of slices, to arrays with named axes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from lib.errors import UserError
from lib.klib.decoded import ALL, Decoded, ReadOptions, decoding_errors, upright, with_channels
from lib.klib.tiff import decode_tiff

_DECODED = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm")
_VOLUMES_ONLY = (".nii", ".nii.gz", ".zarr")
SUFFIXES = _DECODED + _VOLUMES_ONLY
"""Suffixes of the known formats. A single file is decoded by its first bytes, whatever its suffix."""

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# BMP and PPM begin with two letters, which ordinary text may begin with too.
_SIGNATURES = (*TIFF_SIGNATURES, b"\x89PNG", b"\xff\xd8\xff", b"GIF8")
_EXIF_ORIENTATION = 274


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
        is_tiff = start.startswith(TIFF_SIGNATURES)
        decoded = decode_tiff(path, how) if is_tiff else _decode_with_pillow(path, start.startswith(_SIGNATURES))
        decoded = with_channels(path, decoded, how)
    if not decoded.array.size or decoded.array.dtype.kind not in "buif":
        raise UserError(f"{path}: has no pixels ({decoded.array.dtype}, {decoded.array.shape}); save it again")
    return decoded


def _decode_slices(path: Path, how: ReadOptions) -> Decoded:
    """Decode a folder of slices to one volume."""
    files = plane_files(path)
    if not files:
        raise UserError(f"{path}: is a folder without images; give one of slices, or a file")
    check_numbers(path, files)
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


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Sort key in which runs of digits count as numbers."""
    parts = filter(None, re.split(r"(\d+)", name.lower()))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def check_numbers(folder: Path, files: Sequence[Path]) -> None:
    """Refuse a folder in which a number is missing: what lies beyond would be at a wrong place."""
    numbers = [int(found[-1]) for file in files if (found := re.findall(r"\d+", file.stem))]
    steps = np.diff(numbers)
    if len(numbers) == len(files) and len(steps) and steps.min() > 0 and steps.max() > steps.min():
        at = int(np.argmax(steps > steps.min()))
        raise UserError(f"{folder}: slice {numbers[at] + int(steps.min())} is missing, after {files[at].name}; add it")


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
    return upright(Decoded(array, "YX" if array.ndim == 2 else "YXC", notes), orientation)
