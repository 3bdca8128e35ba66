"""Decoding of TIFF files: their series, axes, bands, channels and sizes of voxels."""

from __future__ import annotations

import importlib
import logging
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from lib.errors import UserError
from lib.klib.decoded import Decoded, ReadOptions, Spacing, at_timepoint, in_microns, microns, upright

_ORIENTATION, _GEO_KEYS, _GDAL_METADATA = 274, 34735, 42112
"""Numbers of tags."""
MOST_COMPRESSED = 20_000
"""Bytes of pixels for a byte of a file, which no compression reaches: Deflate makes a thousandth of a black image."""


def decode_tiff(path: Path, how: ReadOptions) -> Decoded:
    """Decode the first series of a TIFF: one image, or the planes of a volume."""
    with complete_pages(path), tifffile.TiffFile(path) as tiff:
        check_chain(path, tiff)
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
        spacing, has_unit = tiff_spacing(tiff, axes.removesuffix("C"))
        said = channels_said(tiff, array.shape[-1]) if has_channels and "C" in axes else ""
        decoded = Decoded(array, axes, notes, spacing, has_unit, said)
        decoded = colour_bands(path, page, decoded, how)
        return upright(decoded, page.tags.valueof(_ORIENTATION))


def is_plane(path: Path) -> bool:
    """Whether a file holds one plane; a file that cannot be read counts as one, and is refused when it is decoded."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return True
    try:
        with tifffile.TiffFile(path) as tiff:
            check_chain(path, tiff)
            shape, axes = tiff.series[0].shape, tiff.series[0].axes
    except Exception:  # tifffile raises exceptions of many types on foreign or broken files
        return True
    return not any(size > 1 for size, name in zip(shape, axes, strict=True) if name not in "YXCS")


def colour_bands(path: Path, page: Any, decoded: Decoded, how: ReadOptions) -> Decoded:
    """Red, green and blue of a GeoTIFF, whose bands may be others and in any order; other files as they are.

    Parameters
    ----------
    path, page
        The file, and its first page.
    decoded
        Its pixels; only the axis C matters.
    how
        Where channels are chosen, all bands stay.
    """
    if _GEO_KEYS not in page.tags or decoded.axes != "YXC" or how.channel:
        return decoded
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


def channels_said(tiff: tifffile.TiffFile, count: int) -> str:
    """Number of the channels, and their names if OME metadata give them."""
    names = re.findall(r'<Channel [^>]*Name="([^"]+)"', tiff.ome_metadata or "")[:count]
    numbered = ", ".join(f"{number} {name}" for number, name in enumerate(names, start=1))
    return f"{count} channels{f' ({numbered})' if names else ''}"


@contextmanager
def complete_pages(path: Path) -> Iterator[None]:
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


def check_chain(path: Path, tiff: tifffile.TiffFile) -> None:
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


def mapped_series(path: Path, series: tifffile.TiffPageSeries) -> np.memmap | None:
    """The pixels of a series mapped from the file, if they lie there in one piece, uncompressed.

    Raises
    ------
    UserError
        If the file ends before them.
    """
    if series.dataoffset is None or series.dtype is None:
        return None
    end, size = series.dataoffset + series.nbytes, path.stat().st_size
    if size < end:
        raise UserError(f"{path}: is not complete, {size} of {end} bytes are there; copy it again")
    # The order of bytes is that of the file: the series says that of this machine.
    dtype = np.dtype(series.keyframe.parent.byteorder + series.dtype.char)
    return np.memmap(path, dtype, "r", series.dataoffset, series.shape)


def _series_array(path: Path, series: tifffile.TiffPageSeries) -> NDArray[Any]:
    """Pixels of a series; a volume stored in one piece is memory-mapped, because it may be larger than memory."""
    if series.ndim > 2 and (mapped := mapped_series(path, series)) is not None:
        return mapped.view(np.ndarray)
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


def tiff_spacing(tiff: tifffile.TiffFile, axes: str) -> tuple[Spacing | None, bool]:
    """Size of a voxel (``axes`` ZYX) or pixel (YX) from OME or ImageJ metadata, and whether its unit is known.

    A resolution alone says nothing about the distance of the slices, nor, without a unit, about the size of a pixel.
    """
    if tiff.ome_metadata:
        sizes = tuple(size for axis in axes if (size := _ome_size(tiff.ome_metadata, axis)))
        return (sizes, True) if len(sizes) == len(axes) else (None, False)
    imagej, tags = tiff.imagej_metadata or {}, tiff.pages.first.tags
    ratios = [tags.valueof(name) for name in ("YResolution", "XResolution")]
    if any(not ratio or not all(ratio) for ratio in ratios) or (axes == "ZYX" and not imagej.get("spacing")):
        return None, False
    between_slices = [imagej["spacing"]] if axes == "ZYX" else []
    sizes, has_unit = in_microns([*between_slices, *(length / pixels for pixels, length in ratios)], imagej.get("unit"))
    return (sizes, has_unit) if has_unit or between_slices else (None, False)


def _ome_size(xml: str, axis: str) -> float | None:
    """Voxel size along one axis in micrometres, from OME-XML."""
    size = re.search(rf'PhysicalSize{axis}="([^"]+)"', xml)
    unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', xml)
    # OME's unit is the micrometre unless another one is named; one that is unknown to us is left out.
    scale = microns(unit[1] if unit else "um")
    return float(size[1]) * scale if size and scale else None
