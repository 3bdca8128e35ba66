"""Boxes of an array: crops that may reach beyond the border, and tiles that cover an array."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np


def crop(array: np.ndarray, corner: Sequence[int] | np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """One box of :func:`crops`: ``(*shape, ...)`` at ``corner``."""
    return crops(array, np.array(corner)[None], shape)[0]


def crops(array: np.ndarray, corners: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Copy boxes of one shape.

    Parameters
    ----------
    array
        ``(*S, ...)`` with the axes of ``shape`` first; further axes are kept whole.
    corners
        ``(N, ndim)`` integer index of the first pixel of each box.
    shape
        Shape of a box in pixels.

    Returns
    -------
    ndarray
        ``(N, *shape, ...)``; zero beyond the border of the array.
    """
    out = np.zeros((len(corners), *shape, *array.shape[len(shape) :]), dtype=array.dtype)
    low = np.maximum(corners, 0)
    high = np.maximum(np.minimum(corners + np.array(shape), array.shape[: len(shape)]), low)
    limits = np.stack([low, high, low - corners, high - corners], axis=2).tolist()
    for row, axes in enumerate(limits):
        source = tuple(slice(a, b) for a, b, _, _ in axes)
        out[(row, *(slice(c, d) for _, _, c, d in axes))] = array[source]
    return out


def add_halo(low: np.ndarray, high: np.ndarray, halo: int, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Extend a box by ``halo`` pixels on every side, clipped to an array of shape ``size``."""
    return np.maximum(low - halo, 0), np.minimum(high + halo, size)


def is_outside(positions: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which positions ``(N, ndim)`` do not lie between two corners ``(ndim,)``: bool ``(N,)``."""
    return np.any((positions < low) | (positions > high), axis=1)


def spread(shape: np.ndarray, side: np.ndarray, counts: np.ndarray) -> Iterator[np.ndarray]:
    """First pixels ``(ndim,)`` of boxes of ``side``, evenly spread over an array: ``counts`` along each axis."""
    room = zip(shape.tolist(), side.tolist(), counts.tolist(), strict=True)
    starts = [np.linspace(0, max(size - length, 0), count).astype(int) for size, length, count in room]
    yield from map(np.array, itertools.product(*starts))


def round_up(size: np.ndarray, unit: int | np.ndarray) -> np.ndarray:
    """Sizes rounded up to multiples of ``unit``."""
    return -(-size // unit) * unit


def box(low: np.ndarray, high: np.ndarray) -> tuple[slice, ...]:
    """Index of the pixels from ``low`` (included) to ``high`` (excluded)."""
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def tiles(shape: Sequence[int], side: int, unit: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cover an array with tiles of nearly equal size.

    The network halves an image four times. Its result is the same with and without tiles only if no tile begins inside
    one of its coarsest pixels, so all tiles begin and end at multiples of ``unit``.

    Parameters
    ----------
    shape
        Shape of the array in pixels; multiples of ``unit``.
    side
        Largest side of a tile in pixels; a multiple of ``unit``.
    unit
        Side of the network's coarsest pixels.

    Yields
    ------
    low, high
        ``(ndim,)`` first pixel of a tile (included) and last one (excluded).
    """
    edges = []
    for size in shape:
        count, units = -(-size // side), size // unit
        edges.append(np.arange(count + 1) * units // count * unit)
    lows = itertools.product(*(e[:-1] for e in edges))
    highs = itertools.product(*(e[1:] for e in edges))
    for low, high in zip(lows, highs, strict=True):
        yield np.array(low), np.array(high)
