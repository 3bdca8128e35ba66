"""The three spaces of positions: *image* (pixels of the file), *work* (image × scale), *patch* (a crop of work)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from lib.errors import UserError
from lib.klib.windows import box

TRUNCATE = 4.0
"""Standard deviations at which Gaussians are cut off, as in scikit-image."""


@dataclass(frozen=True)
class Spaces:
    """Conversion of positions between image and work space, both with 0 at the centre of the first pixel.

    Attributes
    ----------
    image_shape, work_shape
        Spatial shapes in pixels, ``(y, x)`` or ``(z, y, x)``.
    """

    image_shape: tuple[int, ...]
    work_shape: tuple[int, ...]

    @classmethod
    def scaled(cls, image_shape: Sequence[int], scale: float) -> Spaces:
        """Spaces with ``scale`` work pixels per image pixel; the work shape is rounded to whole pixels."""
        return cls(tuple(image_shape), tuple(max(1, round(size * scale)) for size in image_shape))

    @property
    def scale(self) -> np.ndarray:
        """``(ndim,)`` work pixels per image pixel; rounding of ``work_shape`` makes the axes differ slightly."""
        return np.array(self.work_shape) / np.array(self.image_shape)

    def to_work(self, positions: np.ndarray) -> np.ndarray:
        """Work positions of image positions ``(..., ndim)``."""
        return (positions + 0.5) * self.scale - 0.5

    def to_image(self, positions: np.ndarray) -> np.ndarray:
        """Image positions of work positions ``(..., ndim)``."""
        return (positions + 0.5) / self.scale - 0.5

    def resize(self, pixels: np.ndarray) -> np.ndarray:
        """Resize ``(*image_shape, channels)`` to ``(*work_shape, channels)`` float32, aligned with :meth:`to_work`.

        Linear between pixels; an image that shrinks is smoothed first, both as in scikit-image.
        """
        if np.all(self.scale == 1):
            low = np.rint(self.to_image(np.zeros(len(self.work_shape)))).astype(int)
            return pixels[box(low, low + self.work_shape)].astype(np.float32, copy=False)
        if self._blur.any():
            pixels = gaussian_filter(pixels, (*self._blur, 0), mode="nearest", truncate=TRUNCATE)
        # The last axis first: it is the slowest, and the array is still small.
        for axis, size in reversed([*enumerate(self.work_shape)]):
            pixels = interpolated(pixels, axis, self.to_image(np.arange(size)[:, None])[:, axis])
        return pixels.astype(np.float32, copy=False)

    def window(self, low: np.ndarray, high: np.ndarray) -> WindowSpaces:
        """The spaces of the window of work pixels from ``low`` (included) to ``high`` (excluded), ``(ndim,)`` int."""
        first, last = self.to_image(low), self.to_image(high - 1)
        reach = np.ceil(TRUNCATE * self._blur).astype(int)
        image_low = np.maximum(np.floor(first).astype(int) - reach, 0)
        image_high = np.minimum(np.floor(last).astype(int) + 2 + reach, self.image_shape)
        shapes = (tuple((image_high - image_low).tolist()), tuple((high - low).tolist()))
        return WindowSpaces(*shapes, self, tuple(image_low.tolist()), tuple(low.tolist()))

    @property
    def _blur(self) -> np.ndarray:
        """``(ndim,)`` image pixels: width of the Gaussian that smooths before an image shrinks, as in scikit-image."""
        return np.maximum((1 / self.scale - 1) / 2, 0)


@dataclass(frozen=True)
class WindowSpaces(Spaces):
    """Image and work space of a window of a larger image, made by :meth:`Spaces.window`.

    Positions count from the first pixels of the window. A window is resized to the pixels that the whole has there.

    Attributes
    ----------
    whole
        Spaces of the whole image.
    image_low, work_low
        ``(ndim,)`` first pixels of the window in the whole.
    """

    whole: Spaces
    image_low: tuple[int, ...]
    work_low: tuple[int, ...]

    @property
    def image_high(self) -> tuple[int, ...]:
        """``(ndim,)`` the pixels of the whole image past the last of the window."""
        return tuple(low + size for low, size in zip(self.image_low, self.image_shape, strict=True))

    @property
    def scale(self) -> np.ndarray:
        """As that of the whole."""
        return self.whole.scale

    def to_work(self, positions: np.ndarray) -> np.ndarray:
        """Work positions of image positions ``(..., ndim)``."""
        return self.whole.to_work(positions + self.image_low) - self.work_low

    def to_image(self, positions: np.ndarray) -> np.ndarray:
        """Image positions of work positions ``(..., ndim)``."""
        return self.whole.to_image(positions + self.work_low) - self.image_low


def interpolated(array: np.ndarray, axis: int, places: np.ndarray) -> np.ndarray:
    """Interpolate an array linearly at ``places`` ``(N,)`` along one axis; beyond its ends it stays constant."""
    places = np.clip(places, 0, array.shape[axis] - 1)
    below = np.minimum(places.astype(int), max(array.shape[axis] - 2, 0))
    fraction = (places - below).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(array.ndim)])
    above = np.minimum(below + 1, array.shape[axis] - 1)
    return np.take(array, below, axis) * (1 - fraction) + np.take(array, above, axis) * fraction


def check_holds_patch(
    work_shape: Sequence[int], patch_shape: Sequence[int], advice: str, image: Path | None = None
) -> None:
    """Refuse an image that is smaller than a patch along any axis, both in work pixels.

    Raises
    ------
    UserError
        If it is; the message begins with ``image``, if given, and ends with ``advice``.
    """
    if np.any(np.array(work_shape) < np.array(patch_shape)):
        size, patch = (" x ".join(map(str, shape)) for shape in (work_shape, patch_shape))
        where = f"{image}: " if image else ""
        raise UserError(f"{where}{size} work pixels, smaller than a patch of {patch}; {advice}")


def patch_corner(positions: np.ndarray, patch_shape: Sequence[int]) -> np.ndarray:
    """Index of the first pixel of the patch around each position.

    The pixel nearest to the position becomes pixel ``patch_shape // 2`` of the patch: patches are cut without
    interpolation, and the position keeps its fraction of a pixel.

    Parameters
    ----------
    positions
        ``(N, ndim)`` work positions.
    patch_shape
        Shape of a patch in pixels.

    Returns
    -------
    ndarray
        ``(N, ndim)`` int64 work pixels; may be negative near the border.
    """
    return np.floor(positions + 0.5).astype(np.int64) - np.array(patch_shape) // 2


def relative_spacing(spacing: Sequence[float]) -> tuple[float, ...]:
    """Spacing divided by that of the finest axis: the *units* in which steps and gaps are given.

    Raises
    ------
    ValueError
        If an entry is not positive and finite.
    """
    sizes = np.array(spacing, dtype=float)
    if not ((sizes > 0) & np.isfinite(sizes)).all():
        raise ValueError(f"the size of a voxel must be positive, not {tuple(spacing)}")
    return tuple((sizes / sizes.min()).round(6).tolist())
