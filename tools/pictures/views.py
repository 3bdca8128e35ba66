"""Images, and the three projections of volumes, as backgrounds to draw on.

All pictures of this package are drawn off screen and returned or written as uint8 RGB; no window is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

GAP = 4
"""Output pixels between the parts of a picture."""
_BRIGHTNESS = 0.8
_LARGEST_ENLARGED = 1200
"""Image pixels: larger images are not enlarged by default."""
_DPI = 72  # matplotlib's points are pixels at 72 dots per inch
_THINNEST_STROKE = 2.0
_STROKES_PER_SIDE = 600
_BLACK, _WHITE = 25.0, 99.7
"""Percentiles of a volume's projections that become black and white: most of a projection is background."""
_GAMMA = 0.7
"""Exponent that lifts dim neurites after the stretch."""


@dataclass(frozen=True)
class View:
    """An image, or one projection of a volume, on which positions can be drawn.

    Attributes
    ----------
    axes
        The axes of the volume that run across and down: ``xy``, ``zy`` or ``xz``.
    image
        ``(down, across, 1 or 3)`` uint8, or float in [0, 1].
    zoom
        Output pixels per image pixel, (down, across).
    """

    axes: Literal["xy", "zy", "xz"]
    image: NDArray
    zoom: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Size of the picture in output pixels, (down, across)."""
        return self.image.shape[0] * self.zoom[0], self.image.shape[1] * self.zoom[1]

    def project(self, xyz: NDArray[np.floating]) -> NDArray[np.floating]:
        """Project positions ``(..., 3)`` (x, y, z) to ``(..., 2)`` (across, down), in image pixels."""
        return xyz[..., ["xyz".index(axis) for axis in self.axes]]

    def draw(self, paint: Callable[[Axes, View], None], *, brightness: float = _BRIGHTNESS) -> NDArray[np.uint8]:
        """Draw on the dimmed image.

        Parameters
        ----------
        paint
            Draws on matplotlib axes whose unit is the image pixel.
        brightness
            Factor of the image below the drawing.

        Returns
        -------
        ndarray
            ``(*shape, 3)`` RGB.
        """
        rows, columns = self.shape
        height, width = self.image.shape[:2]
        # The canvas rounds its size down to whole pixels; 0.01 more keeps rounding errors from losing one.
        figure = Figure(figsize=((columns + 0.01) / _DPI, (rows + 0.01) / _DPI), dpi=_DPI, facecolor="none")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        # The centre of the first pixel is 0, so the picture begins half a pixel before it.
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        paint(axes, self)
        canvas.draw()
        drawing = np.asarray(canvas.buffer_rgba())[:rows, :columns] / 255
        alpha = drawing[..., 3:]
        background = brightness * enlarge(as_rgb(self.image), *self.zoom)
        return as_uint8(background * (1 - alpha) + drawing[..., :3] * alpha)


def views(image: NDArray, *, zoom: int | None = None, spacing: Sequence[float] = (1, 1, 1)) -> list[View]:
    """Make the views of an image: the image itself, or the three maximum projections of a volume.

    The projections of a volume are brightened, because neurites are dark and few: the 25th percentile of their values
    becomes black, the 99.7th white, and a gamma of 0.7 lifts what lies between. Images keep their values.

    Parameters
    ----------
    image
        ``(y, x, 1 or 3)``, or a volume ``(z, y, x)`` or ``(z, y, x, 1)``; uint8, or float in [0, 1]. A memory-mapped
        volume is read slice by slice.
    zoom
        Output pixels per image pixel; by default 2, or 1 where a side of the image exceeds 1200 pixels.
    spacing
        Size of a voxel (z, y, x) in any unit; axes with larger spacing are enlarged more, by whole numbers.

    Returns
    -------
    list of View
        One view ``xy``, or the views ``xy``, ``zy`` and ``xz`` of a volume.
    """
    zoom = zoom or (1 if max(image.shape[:2] if is_plane(image) else image.shape[:3]) > _LARGEST_ENLARGED else 2)
    if is_plane(image):
        return [View("xy", image, (zoom, zoom))]
    z, y, x = (max(1, round(zoom * size / min(spacing))) for size in spacing)
    xy, zy, xz = _brighten(_projections(image))
    return [View("xy", xy, (y, x)), View("zy", zy, (y, z)), View("xz", xz, (z, x))]


def stroke_width(sides: Sequence[View]) -> float:
    """Line width in output pixels: 1/600 of the longest side of the views, but at least 2.

    A picture that is shown smaller than it is, to fit the screen, so keeps visible lines.
    """
    return max(_THINNEST_STROKE, max(max(side.shape) for side in sides) / _STROKES_PER_SIDE)


def montage(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Combine the pictures of `views`: ``zy`` right of ``xy`` and ``xz`` below it, so that their axes line up."""
    if len(pictures) == 1:
        return pictures[0]
    xy, zy, xz = pictures
    bottom, right = xy.shape[0] + GAP, xy.shape[1] + GAP
    sheet = np.full((bottom + xz.shape[0], right + zy.shape[1], 3), 255, np.uint8)
    sheet[bottom:, right:] = 0
    sheet[: xy.shape[0], : xy.shape[1]] = xy
    sheet[: xy.shape[0], right:] = zy
    sheet[bottom:, : xy.shape[1]] = xz
    return sheet


def as_rgb(image: NDArray) -> NDArray[np.float64]:
    """Convert ``(y, x[, 1 or 3])``, uint8 or [0, 1], to float RGB in [0, 1]."""
    image = _as_unit(image if image.ndim == 3 else image[..., np.newaxis])
    return np.broadcast_to(image, (*image.shape[:2], 3))


def as_uint8(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Convert values in [0, 1] to 0 to 255."""
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)


def enlarge(image: NDArray, down: int, across: int) -> NDArray:
    """Repeat rows and columns, so that single pixels stay visible."""
    return image.repeat(down, axis=0).repeat(across, axis=1)


def is_plane(image: NDArray) -> bool:
    """Whether this is an image ``(y, x, 1 or 3)`` and not a volume ``(z, y, x[, 1])``."""
    return image.ndim == 3 and image.shape[-1] in (1, 3)


def _as_unit(image: NDArray) -> NDArray[np.float64]:
    return image / 255 if image.dtype == np.uint8 else image.astype(float)


def _projections(volume: NDArray) -> list[NDArray]:
    """Maximum projections ``xy``, ``zy`` and ``xz``, each ``(down, across, 1)``."""
    volume = volume[..., 0] if volume.ndim == 4 else volume
    xy = np.array(volume[0])
    rows_zx, rows_zy = [], []
    for plane in volume:
        np.maximum(xy, plane, out=xy)
        rows_zx.append(plane.max(axis=0))
        rows_zy.append(plane.max(axis=1))
    return [projection[..., np.newaxis] for projection in (xy, np.stack(rows_zy, axis=1), np.stack(rows_zx))]


def _brighten(projections: Sequence[NDArray]) -> list[NDArray[np.float64]]:
    """Stretch the projections of one volume alike; a volume of one value stays as it is."""
    units = [_as_unit(projection) for projection in projections]
    values = np.concatenate([unit.ravel() for unit in units])
    black, white = np.percentile(values, (_BLACK, _WHITE))
    # The neurites of a nearly empty volume may cover less than the white percentile leaves.
    white = white if white > black else values.max()
    if white == black:
        return units
    return [np.clip((unit - black) / (white - black), 0, 1) ** _GAMMA for unit in units]
