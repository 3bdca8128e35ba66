"""A contact sheet of training samples with their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tools.pictures.overlay import TREE_COLOURS
from tools.pictures.views import GAP, as_rgb, as_uint8, enlarge, is_plane

_TITLE_HEIGHT = 22
_KIND_WIDTH = 90


def contact_sheet(
    maps: Mapping[str, NDArray],
    kinds: Sequence[str],
    *,
    zoom: int = 4,
) -> NDArray[np.uint8]:
    """Show training samples, one per row, with each label map over the dimmed patch.

    A white square marks the current node.

    Parameters
    ----------
    maps
        Patches of N samples by column title. The first are images ``(N, y, x[, 1 or 3])``, uint8 or float in [0, 1];
        the others are label maps ``(N, y, x)``, drawn where they are above 0. Volumes ``(N, z, y, x)`` are shown as
        maximum projections along z.
    kinds
        Kind of each of the N samples, written beside its row.
    zoom
        Output pixels per patch pixel.

    Returns
    -------
    ndarray
        ``(rows, columns, 3)`` RGB.

    Raises
    ------
    ValueError
        If maps and kinds differ in length, or are empty.
    """
    lengths = {title: len(stack) for title, stack in maps.items()}
    if set(lengths.values()) != {len(kinds)} or not len(kinds):
        raise ValueError(f"maps and kinds must have one length, at least 1: {lengths}, {len(kinds)} kinds")
    tiles = [
        [_patch_tile(image, zoom), *(_label_tile(image, *label, zoom) for label in zip(labels, cycle(TREE_COLOURS)))]
        for image, *labels in zip(*maps.values(), strict=True)
    ]
    return _sheet(tiles, list(maps), kinds)


def _project(patch: NDArray) -> NDArray:
    """Reduce a volume to its maximum along z; a plane stays as it is."""
    return patch if patch.ndim == 2 or is_plane(patch) else patch.max(axis=0)


def _patch_tile(patch: NDArray, zoom: int) -> NDArray[np.floating]:
    return enlarge(as_rgb(_project(patch)), zoom, zoom)


def _label_tile(patch: NDArray, label: NDArray, colour: str, zoom: int) -> NDArray[np.floating]:
    """Draw a label over its dimmed patch."""
    tile = 0.7 * _patch_tile(patch, zoom)
    tile[enlarge(_project(label) > 0, zoom, zoom)] = to_rgb(colour)
    y, x = np.array(tile.shape[:2]) // zoom // 2 * zoom
    tile[y : y + zoom, x : x + zoom] = 1
    return tile


def _sheet(tiles: list[list[NDArray]], titles: Sequence[str], kinds: Sequence[str]) -> NDArray[np.uint8]:
    """Arrange tiles of one size in a grid, titles above the columns and kinds left of the rows."""
    height, width = (size + GAP for size in tiles[0][0].shape[:2])
    picture = Image.new("RGB", (_KIND_WIDTH + len(titles) * width, _TITLE_HEIGHT + len(tiles) * height), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=13)
    for column, title in enumerate(titles):
        pen.text((_KIND_WIDTH + column * width, 3), title, fill="black", font=font)
    for row, (kind, line) in enumerate(zip(kinds, tiles, strict=True)):
        top = _TITLE_HEIGHT + row * height
        pen.text((6, top + (height - GAP) // 2 - 8), kind, fill="black", font=font)
        for column, tile in enumerate(line):
            picture.paste(Image.fromarray(as_uint8(tile)), (_KIND_WIDTH + column * width, top))
    return np.asarray(picture)
