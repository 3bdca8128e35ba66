"""The grid of cells in which a large image is traced. It depends on the image and the size of a cell alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lib.errors import UserError
from lib.klib.windows import add_halo

Cell = tuple[int, ...]
"""Place of a cell in the grid, ``(y, x)`` or ``(z, y, x)``, counted from 0."""
LARGEST_PICTURE = {2: 2048, 3: 512}
"""Most pixels along a side of the small picture of an image, by dimension, as long as a cell has one at least."""


@dataclass(frozen=True)
class Grid:
    """Cells of one size that cover an image; those at its end may be smaller.

    Attributes
    ----------
    shape
        ``(ndim,)`` size of the image in work pixels.
    side
        Side of a cell in work pixels.
    halo
        Work pixels around a cell that are traced with it, so that what lies in the cell is traced as in the whole.
    least
        ``(ndim,)`` least size of a window, a patch of the network.
    """

    shape: tuple[int, ...]
    side: int
    halo: int
    least: tuple[int, ...]

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """``(ndim,)`` number of cells along each axis."""
        return tuple(-(-size // self.side) for size in self.shape)

    def __len__(self) -> int:
        return int(np.prod(self.counts))

    def __iter__(self) -> Iterator[Cell]:
        return itertools.product(*map(range, self.counts))

    def number(self, cell: Sequence[int]) -> int:
        """Number of a cell in the order of the grid."""
        return int(np.ravel_multi_index(tuple(cell), self.counts))

    def box(self, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
        """First work pixel (included) and last one (excluded) of a cell, ``(ndim,)`` int each."""
        low = np.array(cell) * self.side
        return low, np.minimum(low + self.side, self.shape)

    def window(self, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
        """The same of the cell and its halo, within the image and no smaller than a patch."""
        low, high = add_halo(*self.box(cell), self.halo, np.array(self.shape))
        return np.maximum(np.minimum(low, high - self.least), 0), high

    @cached_property
    def reduction(self) -> int:
        """Work pixels to a pixel of the small picture of the image, along each axis.

        It divides the side of a cell, so that each cell is made smaller by itself.
        """
        least = min(max(self.shape) / LARGEST_PICTURE[len(self.shape)], self.side)
        return next(size for size in range(1, self.side + 1) if self.side % size == 0 and size >= least)

    def neighbours(self, cell: Cell) -> list[Cell]:
        """Cells that share a face, an edge or a corner with a cell, in the order of the grid."""
        around = itertools.product(
            *(range(max(at - 1, 0), min(at + 2, n)) for at, n in zip(cell, self.counts, strict=True))
        )
        return [other for other in around if other != cell]

    def overlapping(self, low: np.ndarray, high: np.ndarray) -> list[Cell]:
        """Cells with a pixel in the box of work pixels from ``low`` (included) to ``high`` (excluded)."""
        first, last = np.maximum(low, 0) // self.side, -(-np.minimum(high, self.shape) // self.side)
        return list(itertools.product(*(range(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True))))


def parsed_region(text: str, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """A box from ``z0:z1,y0:y1,x0:x1`` (in 2D ``y0:y1,x0:x1``); an empty number is the border of the image.

    Parameters
    ----------
    text
        The region in image pixels.
    shape
        ``(ndim,)`` size of the image.

    Returns
    -------
    low, high
        ``(ndim,)`` int, first pixel (included) and last one (excluded).

    Raises
    ------
    UserError
        If it is no region of the image.
    """
    form = ",".join(f"{axis}0:{axis}1" for axis in "zyx"[-len(shape) :])
    try:
        sides = [[int(number) if number.strip() else None for number in side.split(":")] for side in text.split(",")]
        low, high = zip(
            *((first or 0, size if last is None else last) for (first, last), size in zip(sides, shape, strict=True)),
            strict=True,
        )
    except ValueError:
        raise UserError(f"--region {text}: give {form} in pixels of the image") from None
    if any(not 0 <= first < last <= size for first, last, size in zip(low, high, shape, strict=True)):
        size = " x ".join(map(str, shape))
        raise UserError(f"--region {text}: is no part of the image, which has {size} pixels; give {form}")
    return np.array(low), np.array(high)
