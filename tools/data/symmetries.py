"""Flips and quarter turns of a tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Symmetry:
    """A flip of some axes, then perhaps a swap of the last two: what maps a tile onto itself.

    Attributes
    ----------
    flips
        One bool per axis.
    swap
        Whether y and x change places (the tile must be square in them).
    """

    flips: tuple[bool, ...]
    swap: bool

    @classmethod
    def draw(cls, rng: np.random.Generator, ndim: int) -> Symmetry:
        """A random one; all are equally likely."""
        return cls(tuple(bool(b) for b in rng.integers(0, 2, ndim)), bool(rng.integers(0, 2)))

    def pixels(self, array: np.ndarray) -> np.ndarray:
        """Apply to ``(*shape, ...)``."""
        array = np.flip(array, [axis for axis, flip in enumerate(self.flips) if flip])
        last = len(self.flips) - 1
        return np.ascontiguousarray(np.swapaxes(array, last - 1, last) if self.swap else array)

    def positions(self, positions: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Apply to positions ``(..., ndim)`` in a tile of ``shape``."""
        moved = np.where(self.flips, np.array(shape) - 1 - positions, positions)
        return moved[..., [*range(len(shape) - 2), -1, -2]] if self.swap else moved
