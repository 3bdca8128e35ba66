"""Boxes of an array: crops that may hang over the border, and tiles that cover a canvas."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np


def crop(array: np.ndarray, corner: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Copy of the box of ``shape`` at ``corner``; zero where it hangs over the border. Further axes are kept whole."""
    return crops(array, np.array(corner)[None], shape)[0]


def crops(array: np.ndarray, corner: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Copies ``(N, *shape, ...)`` of the boxes at ``corner`` ``(N, ndim)``, as :func:`crop` makes one."""
    out = np.zeros((len(corner), *shape, *array.shape[len(shape) :]), dtype=array.dtype)
    low = np.maximum(corner, 0)
    high = np.maximum(np.minimum(corner + np.array(shape), array.shape[: len(shape)]), low)
    boxes = np.stack([low, high, low - corner, high - corner], axis=2).tolist()
    for row, box in enumerate(boxes):
        source = tuple(slice(a, b) for a, b, _, _ in box)
        out[(row, *(slice(c, d) for _, _, c, d in box))] = array[source]
    return out


def with_halo(low: np.ndarray, high: np.ndarray, halo: int, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A box with ``halo`` pixels more on every side, as far as there are any."""
    return np.maximum(low - halo, 0), np.minimum(high + halo, size)


def up_to(size: np.ndarray, unit: int) -> np.ndarray:
    """Sizes rounded up to multiples of ``unit``."""
    return -(-size // unit) * unit


def box(low: np.ndarray, high: np.ndarray) -> tuple[slice, ...]:
    """Index of the pixels from ``low`` to before ``high``."""
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def tiles(shape: Sequence[int], side: int, unit: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """First and past-the-last pixel of tiles of at most ``side`` pixels that cover ``shape``, as equal as can be.

    Both are multiples of ``unit``, as ``shape`` and ``side`` must be: the network halves an image four times and
    computes something else where a tile begins between two of its coarsest pixels.
    """
    edges = []
    for size in shape:
        count, units = -(-size // side), size // unit
        edges.append(np.arange(count + 1) * units // count * unit)
    for index in itertools.product(*(range(len(e) - 1) for e in edges)):
        low = np.array([e[i] for e, i in zip(edges, index, strict=True)])
        high = np.array([e[i + 1] for e, i in zip(edges, index, strict=True)])
        yield low, high
