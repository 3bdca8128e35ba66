"""Pictures to look at: traces on images, training samples with their labels, training curves.

Everything is drawn off screen and returned or written as uint8 RGB; no window is ever opened.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import uniform_filter1d
from skimage.segmentation import find_boundaries

from lib.errors import UserError
from lib.files import written
from lib.swclib import SwcForest

TREE_COLOURS = ("#56B4E9", "#F0E442", "#00C28E", "#F0A0CC", "#FFFFFF", "#3C9BE0")
"""Okabe and Ito's colour-blind-safe palette, without the orange and the black that vanish on a fundus image, and with
its darker colours lightened, because they lie on a dimmed picture."""

_DIMMED = 0.8
_LARGE = 1200
_DPI = 72  # at 72 dots per inch matplotlib's points are pixels
_GAP = 4
_TITLE = 22
_KIND_WIDTH = 90


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


def overlay(
    image: NDArray,
    forest: SwcForest,
    *,
    zoom: int | None = None,
    width: float = 2.0,
    marks: bool = True,
    spacing: Sequence[float] = (1, 1, 1),
) -> NDArray[np.uint8]:
    """Draw a forest on its image, a little dimmed, each tree in its own colour, the longest trees in the clearest ones.

    Parameters
    ----------
    image, zoom, spacing : as for `views`; a volume is shown as three projections, see `montage`
    forest : in pixel-centre coordinates of the image; on a plane its z is left out
    width : of the lines, in output pixels
    marks : also draw a ring at each root and a dot at each branch point

    Returns
    -------
    shape (zoom * y, zoom * x, 3), of a volume larger by the other two projections
    """

    def paint(axes: Axes, view: View) -> None:
        _draw_trees(axes, forest, view, width)
        if marks and len(forest):  # matplotlib draws a speck for no marks at all
            _draw_marks(axes, forest, view, width)

    return montage([view.drawn(paint) for view in views(image, zoom=zoom, spacing=spacing)])


def contact_sheet(
    maps: Mapping[str, NDArray],
    kinds: Sequence[str],
    *,
    count: int = 12,
    zoom: int = 4,
    rng: np.random.Generator | None = None,
) -> NDArray[np.uint8]:
    """Show random training samples, one per row, with each label map laid over the dimmed patch.

    A white dot marks the current node. Each kind of sample is shown at least once if there are rows enough.

    Parameters
    ----------
    maps : column title -> N patches; the first is the image, shape (N, y, x[, channels]), uint8 or float in [0, 1]; the
        others are label maps of shape (N, y, x), drawn where they are not 0. Volumes (N, z, y, x) are shown as maximum
        projections. Memory-mapped stacks are welcome: only the samples shown are read.
    kinds : of each of the N samples, written beside its row
    count : how many samples to show
    zoom : output pixels per patch pixel
    rng : draws the samples; default seed 0

    Returns
    -------
    RGB picture, shape (rows, columns, 3)

    Raises
    ------
    ValueError
        if the maps and kinds are not of one length.
    """
    lengths = {title: len(stack) for title, stack in maps.items()}
    if set(lengths.values()) != {len(kinds)} or not len(kinds):
        raise ValueError(f"maps and kinds must have one length, at least 1: {lengths}, {len(kinds)} kinds")
    rows = _chosen(np.asarray(kinds), count, rng or np.random.default_rng(0))
    image, *labels = maps.values()
    colours = [np.array(to_rgb(colour)) for colour in islice(cycle(TREE_COLOURS), len(labels))]
    tiles = [
        [_patch_tile(image[row], zoom)]
        + [_label_tile(image[row], label[row], colour, zoom) for label, colour in zip(labels, colours, strict=True)]
        for row in rows
    ]
    return _sheet(tiles, list(maps), [str(kinds[row]) for row in rows])


def curves(csv_path: str | Path, png_path: str | Path) -> None:
    """Draw the training curves of a metrics file: losses, Dice and learning rate over the steps.

    Parameters
    ----------
    csv_path : with a column ``step`` and any of ``loss*``, ``val_loss*``, ``dice_*`` and ``lr``; fields may be blank
    png_path : the picture; it appears only when complete

    Raises
    ------
    UserError
        if the file is missing, has no ``step`` or no rows, or a field is not a number.
    """
    metrics = _read_metrics(Path(csv_path))
    figure = Figure(figsize=(8, 9), layout="constrained")
    losses, dice, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1))
    _draw_curves(losses, metrics, ("loss", "val_loss"), "loss")
    _draw_curves(dice, metrics, ("dice",), "Dice")
    _draw_curves(rate, metrics, ("lr",), "learning rate")
    losses.set_yscale("log")
    losses.yaxis.set_major_formatter("{x:g}")
    losses.yaxis.set_minor_formatter("")
    dice.set_ylim(0, 1)
    rate.set_xlabel("step")
    with written(Path(png_path)) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


# --- overlay ----------------------------------------------------------------------------------------------------


def _draw_trees(axes: Axes, forest: SwcForest, view: View, width: float) -> None:
    """Draw each branch as one line over a dark casing, which keeps it apart from a bright image."""
    branches = forest.branches()
    places = view.places(forest.xyz)
    lines = [places[rows] for rows in branches]
    colours = _node_colours(forest)[[rows[0] for rows in branches]] if branches else "none"
    style = {"capstyle": "round", "joinstyle": "round"}
    axes.add_collection(LineCollection(lines, colors=[(0, 0, 0, 0.45)], linewidths=width + 1.6, **style))
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=width, **style))


def _draw_marks(axes: Axes, forest: SwcForest, view: View, width: float) -> None:
    x, y = view.places(forest.xyz).T
    colours = _node_colours(forest)
    forks, roots = forest.branch_points, forest.roots
    style = {"zorder": 3, "linewidths": 0.7}
    axes.scatter(x[forks], y[forks], s=(2.2 * width) ** 2, c="white", edgecolors="black", **style)
    axes.scatter(x[roots], y[roots], s=(4.5 * width) ** 2, c=colours[roots], edgecolors="black", **style)


def _node_colours(forest: SwcForest) -> NDArray[np.floating]:
    """Return the colour of each node's tree, shape (N, 3); colours go to the trees by falling length."""
    tree = forest.components
    length = np.bincount(tree[forest.edges[:, 1]], weights=forest.edge_lengths, minlength=len(forest.roots))
    rank = np.argsort(np.argsort(-length, kind="stable"))
    return np.array([to_rgb(colour) for colour in TREE_COLOURS])[rank[tree] % len(TREE_COLOURS)]


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


# --- contact sheet ----------------------------------------------------------------------------------------------


def _chosen(kinds: NDArray, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw samples at random, the first of each kind before all others, and list them in the order of the stack."""
    order = rng.permutation(len(kinds))
    _, first = np.unique(kinds[order], return_index=True)
    return np.sort(np.concatenate([order[first], np.delete(order, first)])[:count])


def _flat(patch: NDArray) -> NDArray:
    """Return a patch as (y, x[, channels]): a volume's maximum along z."""
    return patch if patch.ndim == 2 or _is_plane(patch) else patch.max(axis=0)


def _patch_tile(patch: NDArray, zoom: int) -> NDArray[np.floating]:
    return _enlarged(_as_rgb(_flat(patch)), zoom, zoom)


def _label_tile(patch: NDArray, label: NDArray, colour: NDArray, zoom: int) -> NDArray[np.floating]:
    """Lay a label over its dimmed patch: a veil that lets the image through, and a clear outline."""
    tile = 0.7 * _patch_tile(patch, zoom)
    mask = _enlarged(_flat(label) > 0, zoom, zoom)
    tile[mask] = 0.65 * tile[mask] + 0.35 * colour
    tile[find_boundaries(mask, mode="inner")] = colour
    node = np.array(tile.shape[:2]) // zoom // 2 * zoom
    tile[node[0] : node[0] + zoom, node[1] : node[1] + zoom] = 1
    return tile


def _sheet(tiles: list[list[NDArray]], titles: Sequence[str], kinds: Sequence[str]) -> NDArray[np.uint8]:
    """Set tiles of one size in a grid, titles above the columns and kinds left of the rows."""
    height, width = tiles[0][0].shape[:2]
    size = (_KIND_WIDTH + len(titles) * (width + _GAP), _TITLE + len(tiles) * (height + _GAP))
    picture = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=13)
    for column, title in enumerate(titles):
        pen.text((_KIND_WIDTH + column * (width + _GAP), 3), title, fill="black", font=font)
    for row, (kind, line) in enumerate(zip(kinds, tiles, strict=True)):
        top = _TITLE + row * (height + _GAP)
        pen.text((6, top + height // 2 - 8), kind, fill="black", font=font)
        for column, tile in enumerate(line):
            picture.paste(Image.fromarray(_as_uint8(tile)), (_KIND_WIDTH + column * (width + _GAP), top))
    return np.asarray(picture)


# --- curves -----------------------------------------------------------------------------------------------------


def _read_metrics(path: Path) -> dict[str, NDArray[np.floating]]:
    """Return column -> values, NaN where blank. Columns of words (``split``) are left out by the drawing."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; training writes it as metrics.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "step" not in rows[0]:
        raise UserError(f"{path}: has no rows with a 'step'; give the metrics.csv of a training run")
    names = [name for name in rows[0] if name and name.startswith(("step", "loss", "val_loss", "dice", "lr"))]
    return {name: np.array([_number(path, i, name, row[name]) for i, row in enumerate(rows, 2)]) for name in names}


def _number(path: Path, line: int, name: str, field: str | None) -> float:
    try:
        return float(field) if field and field.strip() else np.nan
    except ValueError:
        raise UserError(f"{path}, line {line}: {name} is '{field}', not a number; correct or delete the line") from None


def _draw_curves(axes: Axes, metrics: Mapping[str, NDArray], starts: tuple[str, ...], title: str) -> None:
    """Draw the columns whose names start as given; a noisy curve is drawn pale, its running mean over it."""
    names = [name for name, values in metrics.items() if name.startswith(starts) and np.isfinite(values).any()]
    for name in names:
        known = np.isfinite(metrics[name]) & np.isfinite(metrics["step"])
        step, values = metrics["step"][known], metrics[name][known]
        window = len(values) // 40
        marker = "o" if len(values) < 40 else None
        (line,) = axes.plot(step, values, marker=marker, markersize=3, alpha=0.25 if window > 1 else 1, label=name)
        if window > 1:
            line.set_label(None)
            axes.plot(step, uniform_filter1d(values, window, mode="nearest"), color=line.get_color(), label=name)
    axes.set_ylabel(title)
    axes.grid(alpha=0.3)
    if names:
        axes.legend(fontsize="small")
