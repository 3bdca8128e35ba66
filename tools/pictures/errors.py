"""Where a trace is right and wrong, drawn over its image.

Matched gold, missed gold and extra test length have three colours that are distinct to colour-blind readers. Marks show
jumps, breaks, false merges and the loops that protocol ``closed`` closes; the legend counts them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lib.errors import counted
from lib.klib.image_io import decode, read_image
from lib.klib.volume_io import read_volume
from lib.swclib import SwcForest, rescale
from lib.swclib.metrics import Score, near_pieces
from tools.pictures.views import View, montage, stroke_width, views

MATCHED, MISSED, EXTRA = "#56B4E9", "#F0E442", "#FF5A1F"
"""Blue, yellow and vermilion of Okabe and Ito's palette, the last lightened for a dark background."""
CLOSED, MARK = "#FF9DDB", "#FFFFFF"

_BRIGHTNESS = 0.55
"""Factor of the image: darker than below an overlay, because the colours carry the message."""
_CANVAS = 1000
"""Output pixels of the longer side of a picture without an image."""
_MARGIN = 5
"""Image pixels around the trees of a picture without an image."""
_LARGEST_ZOOM = 8
_NARROWEST = 200
"""Output pixels: the width that a legend needs at least."""
_LINE_HEIGHT = 24
_SIGN_WIDTH = 24


@dataclass(frozen=True)
class Errors:
    """Positions of what is drawn: (x, y, z) in image pixels, 0 at the centre of the first pixel.

    Attributes
    ----------
    matched, missed
        ``(K, 2, 3)`` segments of the gold tree.
    extra
        ``(K, 2, 3)`` segments of the test tree that are not on the gold tree.
    closed
        ``(K, 2, 3)`` gaps of the gold tree that protocol ``closed`` closes.
    jumps
        ``(K, 2, 3)`` edges of the test tree that jump between branches of the gold tree.
    breaks, merges, changes
        ``(K, 3)`` places of breaks, of false merges, and of changes from one kind of tube to another.
    """

    matched: NDArray[np.floating]
    missed: NDArray[np.floating]
    extra: NDArray[np.floating]
    closed: NDArray[np.floating]
    jumps: NDArray[np.floating]
    breaks: NDArray[np.floating]
    merges: NDArray[np.floating]
    changes: NDArray[np.floating]

    def moved(self, shift: NDArray[np.floating] | float, scale: NDArray[np.floating] | float = 1.0) -> Errors:
        """Return the errors at ``(position + shift) * scale``; each is one number or (x, y, z)."""
        return Errors(**{name: (positions + shift) * scale for name, positions in vars(self).items()})


def error_picture(
    gold: SwcForest,
    test: SwcForest,
    result: Score,
    image: NDArray | None = None,
    *,
    shift: float = 0.0,
    zoom: int | None = None,
    changes: NDArray | None = None,
) -> NDArray[np.uint8]:
    """Draw the errors that a score counts.

    Parameters
    ----------
    gold, test
        The trees that were scored, in pixels.
    result
        Their score by `lib.swclib.metrics.score`.
    image
        ``(y, x, 1 or 3)``, or a volume ``(z, y, x[, 1])``; uint8, or float in [0, 1]. Without an image the background
        is black and as large as the trees; trees that are not flat are drawn as three projections.
    shift
        Added to all positions to bring them to pixel-centre coordinates of the image: -0.5 if they count from the
        corner of the first pixel.
    zoom
        Output pixels per image pixel, see `tools.pictures.views.views`.
    changes
        ``(K, 3)`` places where the trace changes from one kind of tube to another, if these are known.

    Returns
    -------
    ndarray
        ``(down, across, 3)`` RGB: the picture, for a volume its three projections, above a legend.
    """
    found = find_errors(gold, test, result)
    errors = (found if changes is None else replace(found, changes=changes)).moved(shift)
    if image is None:
        errors, sides = _on_canvas(errors, zoom)
    else:
        sides = [replace(view, image=_gray(view.image)) for view in views(image, zoom=zoom, spacing=result.spacing)]
    paint = partial(_paint, errors, stroke_width(sides))
    picture = montage([side.draw(paint, brightness=_BRIGHTNESS) for side in sides])
    if picture.shape[1] < _NARROWEST:
        picture = np.pad(picture, ((0, 0), (0, _NARROWEST - picture.shape[1]), (0, 0)))
    return np.concatenate([picture, _legend(errors, result, picture.shape[1])])


def read_for_picture(path: Path) -> NDArray:
    """Read an image as float ``(y, x, 3)``, or a volume as uint8 ``(z, y, x, 1)``.

    Raises
    ------
    UserError
        If the file cannot be read, as `lib.klib.image_io.read_image` and `lib.klib.volume_io.read_volume`.
    """
    is_volume = path.name.lower().endswith((".nii", ".nii.gz", ".zarr")) or "Z" in decode(path).axes
    return read_volume(path).as_bytes() if is_volume else read_image(path, channels=3).pixels


def find_errors(gold: SwcForest, test: SwcForest, result: Score) -> Errors:
    """Find the errors that a score counts, in the coordinates of the trees; parameters as in `error_picture`."""
    gold, test = rescale(gold, result.spacing), rescale(test, result.spacing)
    gold_pieces, is_matched = near_pieces(gold, test, threshold=result.threshold)
    test_pieces, is_on_gold = near_pieces(test, gold, threshold=result.threshold)
    along_gold, along_test = gold_pieces.xyz[gold_pieces.edges], test_pieces.xyz[test_pieces.edges]
    jump, closing, found = result.jump.nodes, result.closures, result.continuity
    scaled = Errors(
        matched=along_gold[is_matched],
        missed=along_gold[~is_matched],
        extra=along_test[~is_on_gold],
        closed=np.zeros((0, 2, 3)) if closing is None else np.stack([closing.start, closing.foot], axis=1),
        jumps=np.stack([test.xyz[test.parent[jump]], test.xyz[jump]], axis=1),
        breaks=found.breaks.places,
        merges=found.merges.places,
        changes=np.zeros((0, 3)),
    )
    return scaled.moved(0.0, 1 / np.asarray(result.spacing[::-1]))


def _paint(errors: Errors, width: float, axes: Axes, view: View) -> None:
    """Draw lines below and marks above; ``width`` is that of a usual line in output pixels."""
    for segments, colour, factor in (
        (errors.matched, MATCHED, 0.8),
        (errors.missed, MISSED, 1.3),
        (errors.extra, EXTRA, 1.3),
        (errors.closed, CLOSED, 1.6),
    ):
        lines = LineCollection(list(view.project(segments)), colors=colour, linewidths=factor * width, capstyle="round")
        axes.add_collection(lines)
    for positions, diameter, style in (
        (errors.jumps.mean(axis=1), 6.1, {"marker": "o", "facecolors": "none", "edgecolors": MARK}),
        (errors.breaks, 3.5, {"marker": "x", "c": MARK}),
        (errors.merges, 4.5, {"marker": "+", "c": MARK}),
        (errors.changes, 5.2, {"marker": "D", "facecolors": "none", "edgecolors": CLOSED}),
    ):
        if len(positions):  # matplotlib draws a speck for an empty set of marks
            size = (diameter * width) ** 2
            axes.scatter(*view.project(positions).T, s=size, linewidths=0.7 * width, zorder=3, **style)


def _gray(image: NDArray) -> NDArray:
    """Return the mean of the channels as float in [0, 1]: only errors are coloured."""
    return image.mean(axis=-1, keepdims=True) / (255 if image.dtype == np.uint8 else 1)


def _on_canvas(errors: Errors, zoom: int | None) -> tuple[Errors, list[View]]:
    """Move the errors onto a black canvas with a longer side of about `_CANVAS` output pixels; return both."""
    positions = np.concatenate([each.reshape(-1, 3) for each in vars(errors).values()])
    low, high = (positions.min(axis=0), positions.max(axis=0)) if len(positions) else (np.zeros(3), np.zeros(3))
    extent = high - low
    scale = min(1.0, _CANVAS / max(extent.max(), 1.0))
    zoom = zoom or max(1, min(_LARGEST_ZOOM, int(_CANVAS / (scale * extent.max() + 2 * _MARGIN))))
    size = dict(zip("xyz", np.ceil(extent * scale).astype(int) + 2 * _MARGIN + 1, strict=True))
    names = ("xy", "zy", "xz") if extent[2] > 0 else ("xy",)
    sides = [View(axes, np.zeros((size[axes[1]], size[axes[0]], 1)), (zoom, zoom)) for axes in names]
    return errors.moved(_MARGIN / scale - low, scale), sides


def _legend(errors: Errors, result: Score, width: int) -> NDArray[np.uint8]:
    """Draw the legend in lines of at most ``width`` output pixels."""
    font = ImageFont.load_default(size=14)
    items = _legend_items(errors, result)
    widths = [int(font.getlength(text)) + _SIGN_WIDTH + 12 for _, _, text in items]
    left, top, corners = 4, 0, []
    for item_width in widths:
        if left > 4 and left + item_width > width:
            left, top = 4, top + _LINE_HEIGHT
        corners.append((left, top))
        left += item_width
    strip = Image.new("RGB", (width, top + _LINE_HEIGHT), "black")
    pen = ImageDraw.Draw(strip)
    for (sign, colour, text), (left, top) in zip(items, corners, strict=True):
        _draw_sign(pen, sign, colour, left + _SIGN_WIDTH // 2, top + _LINE_HEIGHT // 2)
        pen.text((left + _SIGN_WIDTH + 2, top + 3), text, fill="white", font=font)
    return np.asarray(strip)


def _legend_items(errors: Errors, result: Score) -> list[tuple[str, str, str]]:
    """List (sign, colour, text); closed loops are listed only if the protocol closes them."""
    covered, on_gold = result.coverage.value, result.on_gold.value
    items = [
        ("line", MATCHED, f"matched {_percent(covered)} of gold"),
        ("line", MISSED, f"missed {_percent(None if covered is None else 1 - covered)}"),
        ("line", EXTRA, f"extra {_percent(None if on_gold is None else 1 - on_gold)} of test"),
        ("ring", MARK, f"{len(errors.jumps)} jumps"),
        ("x", MARK, counted(len(errors.breaks), "break")),
        ("+", MARK, f"{len(errors.merges)} false merges"),
    ]
    items += [("line", CLOSED, f"{len(errors.closed)} loops closed")] * (result.closures is not None)
    return items + [("diamond", CLOSED, f"{len(errors.changes)} changes of kind")] * bool(len(errors.changes))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _draw_sign(pen: ImageDraw.ImageDraw, sign: str, colour: str, x: int, y: int) -> None:
    if sign == "line":
        pen.line((x - 9, y, x + 9, y), fill=colour, width=3)
    elif sign == "diamond":
        pen.polygon([(x - 7, y), (x, y - 7), (x + 7, y), (x, y + 7)], outline=colour, width=2)
    elif sign == "ring":
        pen.ellipse((x - 7, y - 7, x + 7, y + 7), outline=colour, width=2)
    else:
        slant = 5 if sign == "x" else 0
        reach = 5 if sign == "x" else 7
        pen.line((x - reach, y - slant, x + reach, y + slant), fill=colour, width=2)
        pen.line((x - slant, y + reach, x + slant, y - reach), fill=colour, width=2)
