"""Images and volumes that are read by windows: OME-Zarr, tiled or striped TIFF, folders of TIFF slices.

Uncompressed TIFF files are mapped into memory, others are seen through the Zarr store of tifffile, which decodes the
tiles or strips of a window. Files of other formats are decoded whole.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image as PillowImage

from lib.errors import UserError
from lib.klib.decoded import ALL, Decoded, ReadOptions, Spacing, at_timepoint, decoding_errors, with_channels
from lib.klib.decoding import TIFF_SIGNATURES, check_numbers, decode, plane_files
from lib.klib.image_io import check_finite, top_of_image
from lib.klib.ome_zarr import address_errors, is_address, is_zarr, location, open_zarr
from lib.klib.tiff import channels_said, check_chain, colour_bands, complete_pages, mapped_series, tiff_spacing
from lib.klib.volume_io import Volume, read_volume, top_of_volume
from lib.klib.windows import box, spread

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
            If it cannot be read, or holds NaN or infinite values.
        """
        sides = dict(zip("ZYX"[-self.ndim :], box(np.asarray(low), np.asarray(high)), strict=True))
        whole = slice(None)
        index = [sides.get(letter, self.taken.get(at, whole)) for at, letter in enumerate(self.axes)]
        # Several channels are taken afterwards: not every array can take a list together with windows.
        single = tuple(each if isinstance(each, (slice, int)) else whole for each in index)
        try:
            window = self._decoded(single, level)
        except UserError as error:
            raise UserError(f"{error}{self._first_broken(single, level)}") from error
        check_finite(self.source, window)
        left = [letter for letter, each in zip(self.axes, single, strict=True) if isinstance(each, slice)]
        window = np.moveaxis(window, left.index("C"), -1) if "C" in left else window
        chosen = next((each for each in index if isinstance(each, list)), None)
        return window if chosen is None else window[..., chosen]

    def _decoded(self, index: tuple[Any, ...], level: int) -> np.ndarray:
        """Part of the stored array of a level."""
        with decoding_errors(self.source), address_errors(self.source):
            # A copy, because the array may be mapped from a file, in the order of bytes of this machine.
            return np.asarray(self.levels[level][index]).astype(self.dtype.newbyteorder("="))

    def _first_broken(self, index: tuple[Any, ...], level: int) -> str:
        """Which chunk of a part cannot be read, in words; empty where the array has none."""
        array = self.levels[level]
        chunks = getattr(array, "chunks", None)
        if not chunks:
            return ""
        sides = [
            range(*each.indices(size)) if isinstance(each, slice) else range(each, each + 1)
            for each, size in zip(index, array.shape, strict=True)
        ]
        places = [range(side.start // chunk, -(-side.stop // chunk)) for side, chunk in zip(sides, chunks, strict=True)]
        for place in itertools.product(*places):
            try:
                self._decoded(tuple(slice(at * n, (at + 1) * n) for at, n in zip(place, chunks, strict=True)), level)
            except UserError:
                return f"; chunk {'/'.join(map(str, place))} of level {level}"
        return ""

    def fingerprints(self) -> list[str]:
        """SHA-256 of each window of the sample, empty where it cannot be read. They tell images apart."""
        return [
            "" if isinstance(window, UserError) else hashlib.sha256(window.tobytes()).hexdigest()
            for window in self._windows
        ]

    def sample(self) -> np.ndarray:
        """Values of windows evenly spread over the image, at most :data:`SAMPLES`: ``(N, side, side[, C])``.

        Raises
        ------
        UserError
            If none of them can be read; broken ones are left out.
        """
        windows = [window for window in self._windows if not isinstance(window, UserError)]
        if not windows:
            broken = [window for window in self._windows if isinstance(window, UserError)]
            raise broken[0] if broken else UserError(f"{self.source}: has no pixels")
        planes = -2 if self.ndim == 3 or windows[0].ndim == 2 else -3
        return np.concatenate([window.reshape(-1, *window.shape[planes:]) for window in windows])

    @cached_property
    def _windows(self) -> list[np.ndarray | UserError]:
        """The windows of the sample, or why one cannot be read."""

        def read(low: np.ndarray, high: np.ndarray) -> np.ndarray | UserError:
            try:
                return self.read(low, high)
            except UserError as error:
                return error

        return [read(low, high) for low, high in self._sample_boxes()]

    def _sample_boxes(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Boxes of one size, at most :data:`SAMPLES`, in a regular grid."""
        shape, side = np.array(self.shape), np.minimum(SAMPLE[self.ndim], self.shape)
        counts = np.minimum(-(-shape // side), int(SAMPLES ** (1 / self.ndim) + 1e-9))
        for start in spread(shape, side, counts):
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
    at, source = Path(path), location(path)
    if not is_address(path) and not at.exists():
        raise UserError(f"{path}: no such file; check the path")
    with decoding_errors(source):
        if is_address(path) or is_zarr(at):
            return _open_zarr(source, ndim, how)
        if at.is_dir():
            return _open_slices(at, ndim, how)
        if _is_tiff(at):
            return _open_tiff(at, ndim, how)
    return _decoded(at, ndim, how)


def shape_of(path: Path, ndim: int, how: ReadOptions = ALL) -> tuple[int, ...]:
    """``(ndim,)`` size in pixels of an image that :func:`open_image` opens, of which nothing is decoded.

    Raises
    ------
    UserError
        As there.
    """
    if path.is_dir() or is_address(path) or (path.is_file() and _is_tiff(path)):
        return open_image(path, ndim, how).shape
    with decoding_errors(path):
        if ndim == 3:
            return tuple(importlib.import_module("nibabel").load(path).shape[2::-1])
        with PillowImage.open(path) as image:
            return image.size[::-1]


def _is_tiff(path: Path) -> bool:
    """Whether a file begins as a TIFF, whatever its suffix."""
    with path.open("rb") as file:
        return file.read(4) in TIFF_SIGNATURES


def _open_zarr(source: str, ndim: int, how: ReadOptions) -> LazyImage:
    """Open an OME-Zarr image, or a plain array."""
    image = open_zarr(source)
    spacing = image.spacing[-ndim:] if image.spacing and len(image.spacing) >= ndim else None
    opened = LazyImage(source, image.levels, image.axes, {}, ndim, spacing, image.has_unit and spacing is not None)
    count = image.levels[0].shape[image.axes.index("C")] if "C" in image.axes else 1
    return _ready(opened, how, _numbered(count, f"{count} channels" if count > 1 else ""))


def _numbered(count: int, said: str = "", notes: tuple[str, ...] = ()) -> Decoded:
    """Numbers of channels in place of their pixels, with what is said of them; see :class:`Decoded`."""
    return Decoded(np.arange(count).reshape(1, 1, -1), "YXC", notes, channels=said)


@contextmanager
def _head(path: Path) -> Iterator[tifffile.TiffFile]:
    """A TIFF of which all pages are found."""
    with complete_pages(path), tifffile.TiffFile(path) as tiff:
        check_chain(path, tiff)
        len(tiff.pages)
        yield tiff


def _open_tiff(path: Path, ndim: int, how: ReadOptions) -> LazyImage:
    """Open a TIFF of one image or of the planes of a volume."""
    with _head(path) as tiff:
        axes, bands = _axes_and_bands(path, tiff, ndim == 2, how)
        array = mapped_series(path, tiff.series[0])
        spacing = tiff_spacing(tiff, "ZYX"[-ndim:])
        notes = (f"image 1 of {len(tiff.series)} in the file taken",) if len(tiff.series) > 1 else ()
    levels = [_kept_open(path) if array is None else array]
    return _ready(LazyImage(str(path), levels, axes, {}, ndim, *spacing, notes), how, bands)


def _axes_and_bands(path: Path, tiff: tifffile.TiffFile, is_plane: bool, how: ReadOptions) -> tuple[str, Decoded]:
    """Axes of the first series of a TIFF, and its :func:`_numbered` bands in the order of colours."""
    series, page = tiff.series[0], tiff.pages.first
    kinds, advice = tifffile.PHOTOMETRIC, "save it as gray or RGB to read it by windows"
    # tifffile marks the bool arrays it writes as white-is-zero, although they are not inverted.
    is_inverted = page.photometric == kinds.MINISWHITE and not (page.dtype == bool and page.is_shaped)
    if page.photometric == kinds.PALETTE or is_inverted:
        raise UserError(f"{path}: has a palette, or white is zero; {advice}")
    if page.photometric == kinds.SEPARATED:
        raise UserError(f"{path}: colours are CMYK; save it as RGB")
    if is_plane and page.tags.valueof("Orientation", 1) not in (0, 1):
        raise UserError(f"{path}: is turned, as its orientation flag says; save it upright to read it by windows")
    axes, shape = series.axes, series.shape
    if len(axes) == 3 and not set("SC") & set(axes) and shape[-1] in (3, 4):
        axes = "YXS"  # float colours written from numpy, as in lib.klib.tiff
    channels, samples = (dict(zip(axes, shape, strict=True)).get(letter, 1) for letter in "CS")
    bands = _numbered(max(channels, samples), channels_said(tiff, channels) if channels > 1 else "")
    return axes.replace("S", "C"), colour_bands(path, page, bands, how)


def _kept_open(path: Path) -> Any:
    """The first series of a TIFF as an array, with whose end the file is closed."""
    with ExitStack() as closing:
        array = _decoding(path, closing.enter_context(tifffile.TiffFile(path)).series[0])
        weakref.finalize(array, closing.pop_all().close)
    return array


def _decoding(path: Path, series: tifffile.TiffPageSeries) -> Any:
    """A series as a Zarr array, which decodes the tiles or strips that it is asked for."""
    try:
        zarr = importlib.import_module("zarr")
    except ImportError as error:
        advice = "run `pip install zarr`, or save it as uncompressed TIFF, not in tiles"
        problem = "reading it by windows needs the package zarr, which is not installed"
        raise UserError(f"{path}: {problem}; {advice}") from error
    return zarr.open_array(series.aszarr(level=0), mode="r")


class _Slices:
    """Planes in files of their own, ``(z, y, x[, C])``; a window is read file by file."""

    def __init__(self, files: Sequence[Path], plane: tifffile.TiffPageSeries) -> None:
        self._files, self._plane = files, self._said(plane)
        self.shape, self.dtype = (len(files), *plane.shape), plane.dtype

    def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray:
        slices, *inside = index
        return np.stack([self._part(file, tuple(inside)) for file in self._files[slices]])

    def _part(self, file: Path, inside: tuple[Any, ...]) -> np.ndarray:
        with decoding_errors(file), _head(file) as tiff:
            plane = tiff.series[0]
            if self._said(plane) != self._plane:
                found = f"is {self._said(plane)}, {self._files[0].name} is {self._plane}"
                raise UserError(f"{file}: {found}; slices must be equal")
            mapped = mapped_series(file, plane)
            return np.array((_decoding(file, plane) if mapped is None else mapped)[inside])

    @staticmethod
    def _said(plane: tifffile.TiffPageSeries) -> str:
        return f"{' x '.join(map(str, plane.shape))} ({plane.axes.lower()}, {plane.dtype})"


def _open_slices(path: Path, ndim: int, how: ReadOptions) -> LazyImage:
    """Open a folder of TIFF slices."""
    files = plane_files(path)
    if not files or not all(map(_is_tiff, files)):
        raise UserError(f"{path}: a folder read by windows must hold TIFF slices alone; convert it")
    check_numbers(path, files)
    with _head(files[0]) as tiff:
        axes, bands = _axes_and_bands(files[0], tiff, True, how)
        if not set(axes) <= set("YXC"):
            raise UserError(f"{files[0]}: is a volume, and lies in a folder of slices; take it out")
        slices = _Slices(files, tiff.series[0])
    notes = (f"{len(files)} slices, {files[0].name} to {files[-1].name}",)
    return _ready(LazyImage(str(path), [slices], f"Z{axes}", {}, ndim, notes=notes), how, bands)


def _decoded(path: Path, ndim: int, how: ReadOptions) -> LazyImage:
    """Decode a file of another format whole."""
    if ndim == 3:
        volume = read_volume(path, how)
        return LazyImage(str(path), [volume.raw], "ZYX", {}, 3, volume.spacing, volume.has_unit, volume.notes)
    decoded = decode(path, how)
    opened = LazyImage(str(path), [decoded.array], decoded.axes, {}, 2, decoded.spacing, decoded.has_unit)
    count = decoded.array.shape[-1] if "C" in decoded.axes else 1
    return _ready(opened, ALL, _numbered(count, decoded.channels, decoded.notes))


def _ready(image: LazyImage, how: ReadOptions, bands: Decoded) -> LazyImage:
    """An opened image in which an index is chosen along every axis that is not one of space.

    ``bands`` holds the numbers of the channels in the order of red, green and blue, where that is known.
    """
    sizes, name = image.levels[0].shape, image.source
    if not all(sizes) or image.dtype.kind not in "buif":
        raise UserError(f"{name}: has no pixels ({image.dtype}, {sizes}); save it again")
    space = "ZYX"[-image.ndim :]
    letters = [letter if n > 1 or letter in space else "-" for letter, n in zip(image.axes, sizes, strict=True)]
    taken: dict[int, Any] = {at: 0 for at, letter in enumerate(letters) if letter == "-"}
    _, left, notes = at_timepoint(name, np.broadcast_to(False, sizes), image.axes, how)
    if "T" in letters and ("T" not in left or image.ndim == 2):
        at = letters.index("T")
        if how.timepoint is None:
            raise UserError(f"{name}: has {sizes[at]} time points; choose one with --timepoint")
        letters[at], taken[at] = "-", how.timepoint - 1
    depth = _depth(letters, sizes, how) if image.ndim == 3 else None
    if depth is not None:
        notes = (*notes, "channels read as slices") if letters[depth] == "C" else notes
        letters[depth] = "Z"
    _check_axes(image, letters)
    if "C" in letters:
        taken[letters.index("C")], said = _channels(image, bands, how)
    else:
        said = with_channels(name, replace(bands, array=np.zeros((1, 1)), axes="YX"), how).notes
    return replace(image, axes="".join(letters), taken=taken, notes=image.notes + notes + said)


def _depth(letters: Sequence[str], sizes: Sequence[int], how: ReadOptions) -> int | None:
    """The axis of the slices of a volume if it has another name: stacks are often saved as series, or as channels."""
    others = [at for at, letter in enumerate(letters) if letter not in "YXC-"]
    if not others and "C" in letters and not how.channel and sizes[letters.index("C")] > 4:
        return letters.index("C")
    return others[0] if len(others) == 1 else None


def _check_axes(image: LazyImage, letters: Sequence[str]) -> None:
    """Refuse an image of other axes, or with axes that seem to be in another order."""
    kept = {letter: n for letter, n in zip(letters, image.levels[0].shape, strict=True) if letter != "-"}
    axes = "".join(letters).replace("-", "")
    if axes.replace("C", "", 1) != "ZYX"[-image.ndim :]:
        wanted = "a volume is wanted; give a stack, or use the 2D script"
        wanted = wanted if image.ndim == 3 else "a 2D image is wanted; give one plane, or use the 3D script"
        size = " x ".join(str(n) for letter, n in zip(letters, image.levels[0].shape, strict=True) if letter != "-")
        raise UserError(f"{image.source}: has the axes {axes.lower()} ({size}), {wanted}")
    if image.ndim == 3 and 3 * kept["X"] <= min(kept["Z"], kept["Y"]):
        size = " x ".join(str(kept[letter]) for letter in "ZYX")
        found = f"is {size} (z y x), so x is far shorter than z and y"
        raise UserError(f"{image.source}: {found}; its axes seem to be in the order x, y, z: save it with z first")


def _channels(image: LazyImage, bands: Decoded, how: ReadOptions) -> tuple[int | list[int], tuple[str, ...]]:
    """The channels to take, as numbers, and lines about them."""
    chosen = with_channels(image.source, bands, how)
    if chosen.axes == "YX":
        return int(chosen.array[0, 0]), chosen.notes
    numbers, said = chosen.array[0, 0].tolist(), chosen.channels
    count = len(numbers)
    if image.ndim == 3:
        raise UserError(f"{image.source}: has {said or f'{count} channels'}; choose one with --channel")
    if said and count != 3:
        raise UserError(f"{image.source}: has {said}; choose one with --channel, or three as red, green and blue")
    if count == 2:
        return numbers[0], (*chosen.notes, "second channel (alpha) dropped")
    if count not in (3, 4):
        raise UserError(f"{image.source}: has {count} channels; save it as gray or RGB")
    said_of_alpha = ("alpha dropped",) if count == 4 else ()
    return numbers[:3], (*chosen.notes, *((f"{said} taken as red, green and blue",) if said else ()), *said_of_alpha)
