"""Flips and quarter turns of a tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Symmetry:
    """A flip of some axes, optionally followed by a transposition of the last two.

    Attributes
    ----------
    flips
        For each axis, whether it is flipped.
    transpose
        Whether y and x are exchanged; the tile must be square in them.
    """

    flips: tuple[bool, ...]
    transpose: bool

    @classmethod
    def draw(cls, rng: np.random.Generator, ndim: int) -> Symmetry:
        """Draw a random symmetry; all are equally likely."""
        return cls(tuple(rng.integers(0, 2, ndim).astype(bool).tolist()), bool(rng.integers(0, 2)))

    def pixels(self, array: np.ndarray) -> np.ndarray:
        """Apply to an array ``(*shape, ...)`` whose first axes are spatial."""
        array = np.flip(array, tuple(axis for axis, flip in enumerate(self.flips) if flip))
        last = len(self.flips) - 1
        return np.ascontiguousarray(np.swapaxes(array, last - 1, last) if self.transpose else array)

    def positions(self, positions: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Apply to pixel-centre positions ``(..., ndim)`` in a tile of ``shape``."""
        flipped = np.where(self.flips, np.array(shape) - 1 - positions, positions)
        return flipped[..., [*range(len(shape) - 2), -1, -2]] if self.transpose else flipped
