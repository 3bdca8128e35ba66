"""Where a trace is right and wrong, drawn over its image.

Matched gold, missed gold and extra test length in three colours that colour-blind eyes tell apart, and in a legend the
counts of what is marked: jumps, breaks, false merges and the loops that the protocol ``closed`` closes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lib.errors import UserError
from lib.klib.image_io import decode, image_files, read_image, stem
from lib.klib.volume_io import read_volume
from lib.swclib import SwcForest, rescale
from lib.swclib.metrics import Score, near_pieces
from tools.pictures.views import View, montage, views

MATCHED, MISSED, EXTRA = "#56B4E9", "#F0E442", "#FF5A1F"
"""Blue, yellow and vermilion of Okabe and Ito's palette; the last is lightened, because it lies on a dark picture."""
CLOSED, MARK = "#FF9DDB", "#FFFFFF"

_DIMMED = 0.55
_CANVAS = 1000
_MARGIN = 5
_LARGEST_ZOOM = 8
_NARROWEST = 200
_LINE = 24
_SWATCH = 24


@dataclass(frozen=True)
class Errors:
    """What is drawn, all in SWC order (x, y, z) and pixel-centre coordinates.

    Attributes
    ----------
    matched, missed, extra, closed, jumps : float, shape (K, 2, 3)
        Segments: of the gold, of the gold, of the test, closed loops of the gold, edges of the test.
    breaks, merges : float, shape (K, 3)
    """

    matched: NDArray[np.floating]
    missed: NDArray[np.floating]
    extra: NDArray[np.floating]
    closed: NDArray[np.floating]
    jumps: NDArray[np.floating]
    breaks: NDArray[np.floating]
    merges: NDArray[np.floating]

    def moved(self, shift: NDArray[np.floating] | float, scale: float = 1.0) -> Errors:
        """Return the same at ``(place + shift) * scale``; ``shift`` one number or (x, y, z)."""
        return Errors(**{name: (places + shift) * scale for name, places in vars(self).items()})


def error_picture(
    gold: SwcForest,
    test: SwcForest,
    result: Score,
    image: NDArray | None = None,
    *,
    shift: float = 0.0,
    zoom: int | None = None,
) -> NDArray[np.uint8]:
    """Draw what a score says.

    Parameters
    ----------
    gold, test, result
        The trees that were scored, in pixels, and what `lib.swclib.metrics.score` said.
    image : shape (y, x, 1 or 3), or a volume (z, y, x[, 1]); uint8 or float in [0, 1]
        None: a dark canvas as large as the trees, with three sides where they are not flat.
    shift
        Added to all positions to bring them to pixel-centre coordinates of the image: -0.5 if they count from the
        corner of the first pixel.
    zoom
        Output pixels per image pixel, see `tools.pictures.views.views`.

    Returns
    -------
    uint8 RGB, shape (y, x, 3): the picture, of a volume three projections, over a line of legend.
    """
    errors = find_errors(gold, test, result).moved(shift)
    if image is None:
        errors, sides = _on_canvas(errors, zoom)
    else:
        sides = [replace(view, image=_gray(view.image)) for view in views(image, zoom=zoom, spacing=result.spacing)]
    picture = montage([side.drawn(partial(_paint, errors), dimmed=_DIMMED) for side in sides])
    if picture.shape[1] < _NARROWEST:
        picture = np.pad(picture, ((0, 0), (0, _NARROWEST - picture.shape[1]), (0, 0)))
    return np.concatenate([picture, _legend(errors, result, picture.shape[1])])


def find_image(images: Path, stems: Sequence[str]) -> Path | None:
    """Return the image of a pair: ``images`` itself, or the file of a folder with the stem of the test or the gold.

    A stem that goes on with ``_`` or ``.`` will do, on either side: ``01.tif`` for ``01_manual1.swc``, and
    ``21_training.tif`` for ``21.swc``. None if there is none.

    Raises
    ------
    UserError
        If the folder holds no image, or several that fit equally.
    """
    files = image_files(images)
    if images.is_file():
        return images
    for fits in (_is_same, _goes_on):
        for name in stems:
            found = [file for file in files if fits(stem(file), name)]
            if len(found) > 1:
                names = ", ".join(file.name for file in found)
                raise UserError(f"{images}: {names} all fit {name}; leave one of them there")
            if found:
                return found[0]
    return None


def _is_same(image: str, name: str) -> bool:
    return image == name


def _goes_on(image: str, name: str) -> bool:
    return image.startswith((f"{name}_", f"{name}.")) or name.startswith((f"{image}_", f"{image}."))


def read_for_picture(path: Path) -> NDArray:
    """Read an image as float of shape (y, x, 3), or a volume as uint8 of shape (z, y, x, 1).

    Raises
    ------
    UserError
        As `lib.klib.image_io.read_image` and `lib.klib.volume_io.read_volume`.
    """
    is_volume = path.name.lower().endswith((".nii", ".nii.gz", ".zarr")) or "Z" in decode(path).axes
    return read_volume(path).as_bytes() if is_volume else read_image(path, channels=3).pixels


def find_errors(gold: SwcForest, test: SwcForest, result: Score) -> Errors:
    """Look up what a score counted; parameters as in `error_picture`, coordinates as of ``gold`` and ``test``."""
    gold, test = rescale(gold, result.spacing), rescale(test, result.spacing)
    gold_pieces, is_matched = near_pieces(gold, test, threshold=result.threshold)
    test_pieces, is_on_gold = near_pieces(test, gold, threshold=result.threshold)
    along_gold, along_test = gold_pieces.xyz[gold_pieces.edges], test_pieces.xyz[test_pieces.edges]
    jump, closing, found = result.jump.nodes, result.closing, result.continuity
    scaled = Errors(
        matched=along_gold[is_matched],
        missed=along_gold[~is_matched],
        extra=along_test[~is_on_gold],
        closed=np.zeros((0, 2, 3)) if closing is None else np.stack([closing.start, closing.foot], axis=1),
        jumps=np.stack([test.xyz[test.parent[jump]], test.xyz[jump]], axis=1),
        breaks=found.breaks.places,
        merges=found.merges.places,
    )
    return Errors(**{name: places / result.spacing[::-1] for name, places in vars(scaled).items()})


def _paint(errors: Errors, axes: Axes, view: View) -> None:
    """Draw lines below, marks above."""
    for segments, colour, width in (
        (errors.matched, MATCHED, 1.6),
        (errors.missed, MISSED, 2.6),
        (errors.extra, EXTRA, 2.6),
    ):
        lines = LineCollection(view.places(segments), colors=colour, linewidths=width, capstyle="round")
        axes.add_collection(lines)
    axes.add_collection(LineCollection(view.places(errors.closed), colors=CLOSED, linewidths=3.2))
    for places, style in (
        (errors.jumps.mean(axis=1), {"marker": "o", "s": 150, "facecolors": "none", "edgecolors": MARK}),
        (errors.breaks, {"marker": "x", "s": 50, "c": MARK}),
        (errors.merges, {"marker": "+", "s": 80, "c": MARK}),
    ):
        if len(places):  # matplotlib draws a speck for no marks at all
            axes.scatter(*view.places(places).T, linewidths=1.4, zorder=3, **style)


def _gray(image: NDArray) -> NDArray:
    """Return the mean of the channels, so that only what is drawn has a colour."""
    return image.mean(axis=-1, keepdims=True) / (255 if image.dtype == np.uint8 else 1)


def _on_canvas(errors: Errors, zoom: int | None) -> tuple[Errors, list[View]]:
    """Bring everything onto a dark canvas, about `_CANVAS` output pixels a side, and return the canvas too."""
    places = np.concatenate([lines.reshape(-1, 3) for lines in vars(errors).values()])
    low, high = (places.min(axis=0), places.max(axis=0)) if len(places) else (np.zeros(3), np.zeros(3))
    extent = high - low
    scale = min(1.0, _CANVAS / max(extent.max(), 1.0))
    zoom = zoom or max(1, min(_LARGEST_ZOOM, int(_CANVAS / (scale * extent.max() + 2 * _MARGIN))))
    size = dict(zip("xyz", np.ceil(extent * scale).astype(int) + 2 * _MARGIN + 1, strict=True))
    names = ("xy", "zy", "xz") if extent[2] > 0 else ("xy",)
    sides = [View(axes, np.zeros((size[axes[1]], size[axes[0]], 1)), (zoom, zoom)) for axes in names]
    return errors.moved(_MARGIN / scale - low, scale), sides


def _legend(errors: Errors, result: Score, width: int) -> NDArray[np.uint8]:
    """Return lines of (swatch, words), broken where the picture ends."""
    font = ImageFont.load_default(size=14)
    items = _legend_items(errors, result)
    widths = [int(font.getlength(text)) + _SWATCH + 12 for _, _, text in items]
    left, top, corners = 4, 0, []
    for item_width in widths:
        if left > 4 and left + item_width > width:
            left, top = 4, top + _LINE
        corners.append((left, top))
        left += item_width
    strip = Image.new("RGB", (width, top + _LINE), "black")
    pen = ImageDraw.Draw(strip)
    for (sign, colour, text), (left, top) in zip(items, corners, strict=True):
        _draw_sign(pen, sign, colour, left + _SWATCH // 2, top + _LINE // 2)
        pen.text((left + _SWATCH + 2, top + 3), text, fill="white", font=font)
    return np.asarray(strip)


def _legend_items(errors: Errors, result: Score) -> list[tuple[str, str, str]]:
    """Sign, colour and words of what is drawn; closed loops are named only where the protocol closes them."""
    covered, on_gold = result.coverage.value, result.on_gold.value
    items = [
        ("line", MATCHED, f"matched {_percent(covered)} of gold"),
        ("line", MISSED, f"missed {_percent(None if covered is None else 1 - covered)}"),
        ("line", EXTRA, f"extra {_percent(None if on_gold is None else 1 - on_gold)} of test"),
        ("ring", MARK, f"{len(errors.jumps)} jumps"),
        ("x", MARK, f"{len(errors.breaks)} breaks"),
        ("+", MARK, f"{len(errors.merges)} false merges"),
    ]
    return items + [("line", CLOSED, f"{len(errors.closed)} loops closed")] * (result.closing is not None)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _draw_sign(pen: ImageDraw.ImageDraw, sign: str, colour: str, x: int, y: int) -> None:
    if sign == "line":
        pen.line((x - 9, y, x + 9, y), fill=colour, width=3)
    elif sign == "ring":
        pen.ellipse((x - 7, y - 7, x + 7, y + 7), outline=colour, width=2)
    else:
        slant = 5 if sign == "x" else 0
        reach = 5 if sign == "x" else 7
        pen.line((x - reach, y - slant, x + reach, y + slant), fill=colour, width=2)
        pen.line((x - slant, y + reach, x + slant, y - reach), fill=colour, width=2)
