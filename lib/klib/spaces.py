"""The three spaces of the house: *image* (file pixels), *work* (image × scale) and *patch* (a crop of work)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from skimage.transform import resize

from lib.errors import UserError

SwcOrigin = Literal["corner", "centre"]
"""Where the coordinate 0 of an SWC lies in the first pixel: at its corner (DRIVE, CHASEDB1) or at its centre."""
CORNER = 0.5
"""A pixel's centre, counted from its corner: added to pixel-centre coordinates where 0 is the corner."""


@dataclass(frozen=True)
class Spaces:
    """Converts positions between image and work space, half pixels included.

    Attributes
    ----------
    image_shape, work_shape
        Spatial shapes in pixels, ``(y, x)`` or ``(z, y, x)``.
    """

    image_shape: tuple[int, ...]
    work_shape: tuple[int, ...]

    @classmethod
    def scaled(cls, image_shape: Sequence[int], scale: float) -> Spaces:
        """Work space of ``scale`` times the image's resolution, rounded to whole pixels."""
        return cls(tuple(image_shape), tuple(max(1, round(size * scale)) for size in image_shape))

    @property
    def scale(self) -> np.ndarray:
        """``(ndim,)`` work pixels per image pixel; the rounding of ``work_shape`` makes the axes differ slightly."""
        return np.array(self.work_shape) / np.array(self.image_shape)

    def to_work(self, positions: np.ndarray) -> np.ndarray:
        """``(..., ndim)`` pixel-centre image positions to pixel-centre work positions."""
        return (positions + 0.5) * self.scale - 0.5

    def to_image(self, positions: np.ndarray) -> np.ndarray:
        """``(..., ndim)`` pixel-centre work positions to pixel-centre image positions."""
        return (positions + 0.5) / self.scale - 0.5

    def resize(self, pixels: np.ndarray) -> np.ndarray:
        """``(*image_shape, channels)`` to ``(*work_shape, channels)`` float32, linear, aligned with :meth:`to_work`."""
        if self.image_shape == self.work_shape:
            return pixels.astype(np.float32, copy=False)
        shape = (*self.work_shape, *pixels.shape[len(self.work_shape) :])
        smooth = bool(np.any(self.scale < 1))
        return resize(pixels, shape, order=1, mode="edge", anti_aliasing=smooth).astype(np.float32)


def check_holds_patch(
    work_shape: Sequence[int], patch_shape: Sequence[int], advice: str, image: Path | None = None
) -> None:
    """Refuse an image that is smaller than a patch.

    Raises
    ------
    UserError
        If it is; the line begins with the name of the ``image``, where it is given, and ends with ``advice``.
    """
    if np.any(np.array(work_shape) < np.array(patch_shape)):
        size, patch = (" x ".join(map(str, shape)) for shape in (work_shape, patch_shape))
        where = f"{image}: " if image else ""
        raise UserError(f"{where}{size} work pixels, smaller than a patch of {patch}; {advice}")


def patch_corner(positions: np.ndarray, patch_shape: Sequence[int]) -> np.ndarray:
    """Work index of the first pixel of the patch around each position.

    The pixel nearest to the position becomes pixel ``patch_shape // 2`` of the patch, so a patch is cut without
    interpolation and the position itself keeps its fraction of a pixel.

    Parameters
    ----------
    positions
        ``(N, ndim)`` work positions.
    patch_shape
        Shape of the patch in pixels.

    Returns
    -------
    ndarray
        ``(N, ndim)`` int64; may be negative near the border.
    """
    return np.floor(positions + 0.5).astype(np.int64) - np.array(patch_shape) // 2


def normalised(spacing: Sequence[float]) -> tuple[float, ...]:
    """Spacing in units of its smallest entry, the finest axis: lengths in these units are work pixels along that axis.

    Raises
    ------
    ValueError
        If an entry is not positive and finite.
    """
    sizes = np.array(spacing, dtype=float)
    if not ((sizes > 0) & np.isfinite(sizes)).all():
        raise ValueError(f"sizes of a voxel are positive, not {tuple(spacing)}")
    return tuple((sizes / sizes.min()).round(6).tolist())
