"""Images and volumes that are read by windows: OME-Zarr, tiled or striped TIFF, folders of TIFF slices.

TIFF files are seen through the Zarr store of tifffile, so that all formats are read in one way. Files of other formats
are decoded whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from lib.errors import UserError
from lib.klib.decoded import ALL, Decoded, ReadOptions, Spacing, decoding_errors, with_channels
from lib.klib.decoding import decode, plane_files
from lib.klib.image_io import top_of_image
from lib.klib.ome_zarr import is_address, location, open_zarr
from lib.klib.tiff import colour_bands, tiff_spacing
from lib.klib.volume_io import Volume, read_volume, top_of_volume
from lib.klib.windows import box

SAMPLES = 64
"""Most windows from which the brightness of an image is taken: enough for its percentiles."""
SAMPLE = {2: 256, 3: 64}
"""Side of these windows in pixels, by dimension."""


@dataclass(frozen=True, eq=False)
class LazyImage:
    """An opened image, of which windows are read.

    Attributes
    ----------
    source
        Path or address.
    levels
        Arrays as stored, the finest first; coarser ones only of OME-Zarr.
    axes
        A letter for each of their axes: Z, Y, X, C for channels, or any other, of which one index is taken.
    taken
        By position of an axis the index, or the indices of channels, to take.
    ndim
        2 or 3.
    spacing, has_unit, notes
        As in :class:`~lib.klib.decoded.Decoded`.
    """

    source: str
    levels: Sequence[Any]
    axes: str
    taken: dict[int, Any]
    ndim: int
    spacing: Spacing | None = None
    has_unit: bool = False
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """``(ndim,)`` size in pixels."""
        return self.shape_of(0)

    def shape_of(self, level: int) -> tuple[int, ...]:
        """``(ndim,)`` size of a level in its pixels."""
        return tuple(self.levels[level].shape[self.axes.index(letter)] for letter in "ZYX"[-self.ndim :])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values."""
        return np.dtype(self.levels[0].dtype)

    def read(self, low: Sequence[int] | np.ndarray, high: Sequence[int] | np.ndarray, level: int = 0) -> np.ndarray:
        """Read a window of a level.

        Parameters
        ----------
        low, high
            ``(ndim,)`` first pixel (included) and last one (excluded).
        level
            0 is the finest.

        Returns
        -------
        ndarray
            ``(*S,)``, or ``(*S, C)`` for colours, as stored.

        Raises
        ------
        UserError
            If it cannot be read.
        """
        sides = dict(zip("ZYX"[-self.ndim :], box(np.asarray(low), np.asarray(high)), strict=True))
        whole = slice(None)
        index = [sides.get(letter, self.taken.get(at, whole)) for at, letter in enumerate(self.axes)]
        # Several channels are taken afterwards: not every array can take a list together with windows.
        single = tuple(each if isinstance(each, (slice, int)) else whole for each in index)
        with decoding_errors(Path(self.source)):
            window = np.asarray(self.levels[level][single])
        left = [letter for letter, each in zip(self.axes, single, strict=True) if isinstance(each, slice)]
        window = np.moveaxis(window, left.index("C"), -1) if "C" in left else window
        chosen = next((each for each in index if isinstance(each, list)), None)
        return window if chosen is None else window[..., chosen]

    def sample(self) -> np.ndarray:
        """Values of windows evenly spread over the image, at most :data:`SAMPLES`: ``(N, side, side[, C])``."""
        return np.concatenate([
            window.reshape(-1, *window.shape[-2 if self.ndim == 3 or window.ndim == 2 else -3 :])
            for window in (self.read(low, high) for low, high in self._sample_boxes())
        ])  # fmt: skip

    def _sample_boxes(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Boxes of one size, at most :data:`SAMPLES`, in a regular grid."""
        shape, side = np.array(self.shape), np.minimum(SAMPLE[self.ndim], self.shape)
        counts = np.minimum(-(-shape // side), int(SAMPLES ** (1 / self.ndim) + 1e-9))
        starts = [
            np.linspace(0, size - length, count).astype(int)
            for size, length, count in zip(shape, side, counts, strict=True)
        ]
        for start in np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, self.ndim):
            yield start, start + side

    def top(self, how: ReadOptions) -> tuple[float, tuple[str, ...]]:
        """Value that becomes 1, taken from a sample, and a line about it; see :meth:`unit`."""
        sample = self.sample()
        return top_of_image(self.source, sample, how) if self.ndim == 2 else top_of_volume(sample, how)

    def unit(self, raw: np.ndarray, top: float) -> np.ndarray:
        """A window as read ``(*S[, C])`` as a network takes it: ``(*S, C)`` float32 in [0, 1].

        In 2D ``top`` becomes 1 and there are three channels, in 3D values lie on the square-root curve and there is one
        (docs/paper.md §3).
        """
        if self.ndim == 3:
            return Volume(raw).curved(top)
        unit = np.clip(raw / np.float32(top), 0, 1).astype(np.float32)
        return unit if unit.ndim == 3 else np.repeat(unit[..., None], 3, axis=2)


def open_image(path: str | Path, ndim: int, how: ReadOptions = ALL) -> LazyImage:
    """Open an image or volume of any known format without reading it.

    Parameters
    ----------
    path
        A file, a folder of TIFF slices, or a Zarr folder or address.
    ndim
        2 or 3.
    how
        Which channels and time point to take.

    Raises
    ------
    UserError
        If it is missing, broken, has other axes, or several channels or time points of which none was chosen; or if a
        package that reads its format is not installed.
    """
    at = Path(path)
    if not is_address(path) and not at.exists():
        raise UserError(f"{path}: no such file; check the path")
    with decoding_errors(at):
        if is_address(path) or at.suffix.lower() == ".zarr":
            image = open_zarr(path)
            opened = LazyImage(location(path), image.levels, image.axes, {}, ndim, image.spacing, image.has_unit)
            return _ready(opened, how, Decoded(np.zeros((1, 1, 1)), "YXC"))
        if at.is_dir() or at.suffix.lower() in (".tif", ".tiff"):
            return _open_tiff(at, ndim, how)
    return _decoded(at, ndim, how)


def _open_tiff(path: Path, ndim: int, how: ReadOptions) -> LazyImage:
    """Open a TIFF, or a folder of TIFF slices."""
    import zarr  # needed for large images alone

    files = plane_files(path) if path.is_dir() else [path]
    if not files or any(file.suffix.lower() not in (".tif", ".tiff") for file in files):
        raise UserError(f"{path}: a folder read by windows must hold TIFF slices alone; convert it")
    with tifffile.TiffFile(files[0]) as tiff:
        series, page = tiff.series[0], tiff.pages.first
        if page.photometric in (tifffile.PHOTOMETRIC.PALETTE, tifffile.PHOTOMETRIC.MINISWHITE):
            raise UserError(f"{path}: has a palette, or white is zero; save it as gray or RGB to read it by windows")
        axes = series.axes.replace("S", "C")
        count = series.shape[axes.index("C")] if "C" in axes else 1
        bands = colour_bands(files[0], page, Decoded(np.arange(count).reshape(1, 1, -1), "YXC"), how)
        spacing = tiff_spacing(tiff, "ZYX"[-ndim:])
    if path.is_dir():
        array = zarr.open_array(tifffile.TiffSequence(list(map(str, files))).aszarr(), mode="r")
        axes, spacing = f"Z{axes}", (None, False)
    else:
        array = zarr.open_array(tifffile.imread(path, aszarr=True, series=0, level=0), mode="r")
    return _ready(LazyImage(str(path), [array], axes, {}, ndim, *spacing), how, bands)


def _decoded(path: Path, ndim: int, how: ReadOptions) -> LazyImage:
    """Decode a file of another format whole."""
    if ndim == 3:
        volume = read_volume(path, how)
        return LazyImage(str(path), [volume.raw], "ZYX", {}, 3, volume.spacing, volume.has_unit, volume.notes)
    decoded = decode(path, how)
    opened = LazyImage(str(path), [decoded.array], decoded.axes, {}, 2, decoded.spacing, decoded.has_unit)
    count = decoded.array.shape[-1] if "C" in decoded.axes else 1
    return _ready(opened, ALL, Decoded(np.arange(count).reshape(1, 1, -1), "YXC", decoded.notes))


def _ready(image: LazyImage, how: ReadOptions, bands: Decoded) -> LazyImage:
    """An opened image in which an index is chosen along every axis that is not one of space.

    ``bands`` holds the numbers of the channels in the order of red, green and blue, where that is known.
    """
    sizes = image.levels[0].shape
    letters = [letter if size > 1 or letter in "YX" else "-" for letter, size in zip(image.axes, sizes, strict=True)]
    others = [at for at, letter in enumerate(letters) if letter not in "ZYXC-"]
    if image.ndim == 3 and len(others) == 1 and "Z" not in letters and how.timepoint is None:
        letters[others.pop()] = "Z"  # Stacks are often saved as series.
    taken: dict[int, Any] = {at: 0 for at, letter in enumerate(letters) if letter == "-"}
    for at in others:
        if how.timepoint is None or len(others) > 1:
            raise UserError(f"{image.source}: has {sizes[at]} time points; choose one with --timepoint")
        if not 1 <= how.timepoint <= sizes[at]:
            raise UserError(f"{image.source}: has {sizes[at]} time points; give another --timepoint")
        taken[at] = how.timepoint - 1
    found = [letter for letter in letters if letter in "ZYX"]
    if found != list("ZYX"[-image.ndim :]):
        wanted = "a volume" if image.ndim == 3 else "one plane"
        raise UserError(f"{image.source}: has the axes {''.join(image.axes).lower()}, {wanted} is wanted")
    if "C" in letters:
        at = letters.index("C")
        taken[at] = _channels(image, sizes[at], bands, how)
    return replace(image, axes="".join(letters), taken=taken, notes=image.notes + bands.notes)


def _channels(image: LazyImage, count: int, bands: Decoded, how: ReadOptions) -> int | list[int]:
    """The channels to take of ``count``."""
    if bands.array.shape[-1] == 1:
        bands = replace(bands, array=np.arange(count).reshape(1, 1, -1))
    chosen = with_channels(Path(image.source), bands, how).array
    if chosen.ndim == 2:
        return int(chosen[0, 0])
    numbers = chosen[0, 0].tolist()
    if image.ndim == 2 and len(numbers) in (3, 4):
        return numbers[:3]
    if image.ndim == 2 and len(numbers) == 2:
        return numbers[0]  # gray with alpha
    raise UserError(f"{image.source}: has {count} channels; choose one with --channel")
