"""The image under a trace, and the map on which missing pieces are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from lib.errors import UserError, counted
from lib.klib.decoded import Spacing
from lib.klib.decoding import decode
from lib.klib.image_io import open_stack
from lib.klib.spaces import Spaces
from lib.klib.volume_io import read_volume
from lib.klib.windows import box
from lib.swclib import SwcForest
from tools.proofreading.route import ProbabilityMap

NARROW, WIDE = 1.5, 5.0
"""Pixels: standard deviations of the two Gaussians whose difference shows a tube where there is no map."""
BRIGHT_SHARE = 99.0
"""Percentile of that difference that counts as a sure tube."""
SAMPLES = 64
"""Nodes that tell whether tubes are brighter or darker than what is around them."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image as stored.

    Attributes
    ----------
    pixels
        ``(*S,)``, or ``(y, x, channels)``; may be mapped from a file.
    ndim
        2 or 3.
    spacing
        Size of a pixel; None if the file does not say.
    """

    pixels: np.ndarray
    ndim: int
    spacing: Spacing | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """``(ndim,)`` size in pixels."""
        return self.pixels.shape[: self.ndim]


def open_picture(path: Path) -> Picture:
    """Open an image or a volume of any format that the tracer reads.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    if path.is_dir() or path.name.lower().endswith((".zarr", ".nii", ".nii.gz")):
        volume = read_volume(path)
        return Picture(volume.raw, 3, volume.spacing)
    decoded = decode(path)
    if "Z" in decoded.axes:
        volume = read_volume(path)
        return Picture(volume.raw, 3, volume.spacing)
    return Picture(decoded.array, 2, decoded.spacing)


class RidgeMap(ProbabilityMap):
    """Stands in for a map of probabilities: how much brighter, or darker, than its surroundings each pixel is.

    Parameters
    ----------
    picture
        The image.
    positions
        ``(N, ndim)`` of nodes on tubes: they tell whether tubes are bright or dark.
    spacing
        As in :class:`~tools.proofreading.route.ProbabilityMap`.
    """

    def __init__(self, picture: Picture, positions: np.ndarray, spacing: np.ndarray) -> None:
        super().__init__(picture.pixels, 1.0, spacing)
        self._size, self._sign = np.array(picture.shape), 1.0
        at = np.rint(positions[:: max(1, len(positions) // SAMPLES)]).astype(int)
        at = at[((at >= 0) & (at < self._size)).all(axis=1)]
        around = [self._middle(place) for place in at]
        self._sign = -1.0 if around and np.median(around) < 0 else 1.0

    @property
    def shape(self) -> np.ndarray:
        """``(ndim,)`` its size in pixels."""
        return self._size

    def window(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """See :class:`~tools.proofreading.route.ProbabilityMap`."""
        ridge = self._sign * self._contrast(low, high)
        return np.clip(ridge / max(float(np.percentile(ridge, BRIGHT_SHARE)), 1e-9), 0, 1)

    def brightness(self, pixels: np.ndarray) -> np.ndarray:
        """See :class:`~tools.proofreading.route.ProbabilityMap`."""
        values = super().brightness(pixels)
        return self._sign * (values.mean(axis=-1) if values.ndim > 1 else values)

    def _contrast(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        pixels = np.asarray(self.pixels[box(low, high)], dtype=np.float32)
        pixels = pixels.mean(axis=-1) if pixels.ndim > len(self._size) else pixels
        return gaussian_filter(pixels, NARROW) - gaussian_filter(pixels, WIDE)

    def _middle(self, place: np.ndarray) -> float:
        reach = int(2 * WIDE)
        low, high = np.maximum(place - reach, 0), np.minimum(place + reach + 1, self._size)
        return float(self._contrast(low, high)[tuple(place - low)])


def check_together(image: Path, picture: Picture, trace: Path, forest: SwcForest) -> None:
    """Refuse a trace, in image positions, that cannot be that of an image.

    Raises
    ------
    UserError
        If it is empty, lies in one plane of a volume or beside a plane, or most of it outside the image.
    """
    if not len(forest):
        raise UserError(f"{trace}: holds no nodes, so there is nothing to proofread; trace {image} again")
    depth = forest.xyz[:, 2].any()
    if picture.ndim == 2 and depth:
        raise UserError(f"{trace}: has depth (z), but {image} is one plane; give the volume that was traced")
    if picture.ndim == 3 and picture.shape[0] > 1 and not depth:
        slices = f"{image} has {picture.shape[0]} slices"
        raise UserError(f"{trace}: is flat (all z are 0), but {slices}; give the image that was traced")
    places = forest.positions(picture.ndim)
    outside = ~((places >= -0.5) & (places <= np.array(picture.shape) - 0.5)).all(axis=1)
    if outside.mean() > 0.5:
        size = " x ".join(map(str, picture.shape))
        found = f"{outside.sum()} of {counted(len(forest), 'node')} lie outside {image} ({size} pixels)"
        raise UserError(f"{trace}: {found}; give the image that was traced, or a trace in its pixels")


def map_path(trace: Path) -> Path:
    """Centerline map that the tracer writes beside a trace."""
    return trace.with_name(f"{trace.stem}_centerline.tif")


def map_under(trace: Path, picture: Picture, forest: SwcForest, spacing: np.ndarray) -> tuple[ProbabilityMap, Spaces]:
    """The map on which pieces of a trace are drawn, and its place in the image.

    It is the centerline map that the tracer wrote beside the trace; without one it is the image itself.

    Raises
    ------
    UserError
        If the dimensions of the map are not those of the image.
    """
    path = map_path(trace)
    if not path.exists():
        spaces = Spaces(picture.shape, picture.shape)
        return RidgeMap(picture, forest.positions(picture.ndim), spacing), spaces
    pixels = open_stack(path)
    if pixels.ndim != picture.ndim:
        raise UserError(f"{path}: has {pixels.ndim} dimensions, the image {picture.ndim}; move it away")
    spaces = Spaces(picture.shape, pixels.shape)
    top = float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind in "ui" else 1.0
    return ProbabilityMap(pixels, top, spacing / spaces.scale), spaces
