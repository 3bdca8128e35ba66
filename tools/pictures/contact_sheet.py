"""A contact sheet of training samples with their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, islice

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries

from tools.pictures.overlay import TREE_COLOURS
from tools.pictures.views import _GAP, _as_rgb, _as_uint8, _enlarged, _is_plane

_TITLE = 22
_KIND_WIDTH = 90


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
