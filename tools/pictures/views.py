"""Views of an image from one side or, of a volume, from three, to draw on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

_DIMMED = 0.8
_LARGE = 1200
_DPI = 72  # at 72 dots per inch matplotlib's points are pixels
_GAP = 4


@dataclass(frozen=True)
class View:
    """A picture of an image from one side, on which positions can be drawn.

    Attributes
    ----------
    axes : which axes of the volume run across and down: ``xy``, ``zy`` or ``xz``
    image : shape (down, across, 1 or 3), uint8 or float in [0, 1]
    zoom : output pixels per image pixel, (down, across)
    """

    axes: Literal["xy", "zy", "xz"]
    image: NDArray
    zoom: tuple[int, int]

    def places(self, xyz: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return where positions in SWC order (x, y, z), shape (..., 3), lie: (..., 2) as (across, down)."""
        return xyz[..., ["xyz".index(axis) for axis in self.axes]]

    def drawn(self, paint: Callable[[Axes, View], None], *, dimmed: float = _DIMMED) -> NDArray[np.uint8]:
        """Return the image, dimmed, under what ``paint`` draws on axes whose unit is the pixel.

        Returns
        -------
        shape (zoom * down, zoom * across, 3)
        """
        height, width = self.image.shape[:2]
        rows, columns = height * self.zoom[0], width * self.zoom[1]
        # The canvas cuts its size to whole pixels: a hair more keeps rounding from taking one away.
        size = np.array([columns, rows]) + 0.01
        figure = Figure(figsize=tuple(size / _DPI), dpi=_DPI, facecolor="none")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        # The first pixel's centre is 0, so the picture begins half a pixel before it.
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        paint(axes, self)
        canvas.draw()
        drawn = np.asarray(canvas.buffer_rgba())[:rows, :columns]
        return _over(dimmed * _enlarged(_as_rgb(self.image), *self.zoom), drawn)


def views(image: NDArray, *, zoom: int | None = None, spacing: Sequence[float] = (1, 1, 1)) -> list[View]:
    """Return the sides from which to look at an image: itself, or of a volume three brightest-value projections.

    Parameters
    ----------
    image : shape (y, x, 1 or 3), or a volume (z, y, x) or (z, y, x, 1); uint8 or float in [0, 1]. A memory-mapped
        volume is read slice by slice.
    zoom : output pixels per image pixel; default 2, but 1 where the image has more than 1200 pixels a side
    spacing : of a volume's voxels (z, y, x): longer sides are enlarged more, to the next whole number

    Returns
    -------
    one view ``xy``, or the views ``xy``, ``zy`` and ``xz`` of a volume
    """
    zoom = zoom or (1 if max(image.shape[:2] if _is_plane(image) else image.shape[:3]) > _LARGE else 2)
    if _is_plane(image):
        return [View("xy", image, (zoom, zoom))]
    z, y, x = (max(1, round(zoom * side / min(spacing))) for side in spacing)
    along_z, along_y, along_x = _projections(image)
    return [View("xy", along_z, (y, x)), View("zy", along_x.swapaxes(0, 1), (y, z)), View("xz", along_y, (z, x))]


def montage(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Set the pictures of `views` into one: ``zy`` right of ``xy`` and ``xz`` below it, so that their axes line up."""
    if len(pictures) == 1:
        return pictures[0]
    xy, zy, xz = pictures
    size = (xy.shape[0] + _GAP + xz.shape[0], xy.shape[1] + _GAP + zy.shape[1], 3)
    sheet = np.full(size, 255, np.uint8)
    sheet[xy.shape[0] + _GAP :, xy.shape[1] + _GAP :] = 0
    sheet[: xy.shape[0], : xy.shape[1]] = xy
    sheet[: xy.shape[0], xy.shape[1] + _GAP :] = zy
    sheet[xy.shape[0] + _GAP :, : xy.shape[1]] = xz
    return sheet


def _over(background: NDArray[np.floating], drawn: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay a drawing (RGBA) over a background in [0, 1]."""
    alpha = drawn[..., 3:] / 255
    return _as_uint8(background * (1 - alpha) + drawn[..., :3] / 255 * alpha)


def _as_rgb(image: NDArray) -> NDArray[np.float64]:
    """Bring (y, x[, 1 or 3]), uint8 or [0, 1], to float RGB."""
    image = image / 255 if image.dtype == np.uint8 else image.astype(float)
    image = image if image.ndim == 3 else image[..., np.newaxis]
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _as_uint8(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)


def _enlarged(image: NDArray, down: int, across: int) -> NDArray:
    """Repeat pixels, so that one still sees them."""
    return image.repeat(down, axis=0).repeat(across, axis=1)


def _is_plane(image: NDArray) -> bool:
    """Whether this is (y, x, 1 or 3), not a volume (z, y, x[, 1])."""
    return image.ndim == 3 and image.shape[-1] in (1, 3)


def _projections(volume: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Brightest values of (z, y, x[, 1]) along z, y and x: (y, x, 1), (z, x, 1) and (z, y, 1)."""
    volume = volume[..., 0] if volume.ndim == 4 else volume
    along_z = np.array(volume[0])
    along_y, along_x = [], []
    for plane in volume:
        np.maximum(along_z, plane, out=along_z)
        along_y.append(plane.max(axis=0))
        along_x.append(plane.max(axis=1))
    return along_z[..., np.newaxis], np.stack(along_y)[..., np.newaxis], np.stack(along_x)[..., np.newaxis]
