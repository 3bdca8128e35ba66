"""How a volume is traced within a given memory: the size of its tiles, and how many features are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.errors import UserError
from models.nenet import STRIDE
from tools.inference.staged_encoder import COARSE_HALO, GRAIN, HALO

GIGA = 1e9
PROGRAM = 0.6 * GIGA
"""Bytes of the program itself, its libraries and the network."""
HELD = 34
"""Bytes per voxel whatever the tiles: pixels, map, seeds and distances are 22, the rest is fragmentation, measured by
benchmarks/volume_speed.py."""
ALIVE = 7
"""Maps of the base width in memory together while a tile is computed; measured in the same way."""
SHARE = 0.5
"""Share of the free memory that a tile may take; the rest keeps features."""
DEVICE_SHARE = 0.8
"""Share of a GPU's free memory that is used: its allocator and the heads, on batches of tips, need the rest."""
SMALLEST, LARGEST = 32, 192
"""Sides of tiles in pixels: smaller ones are mostly halo, larger ones are no faster."""


@dataclass(frozen=True)
class Plan:
    """How to encode a volume.

    Attributes
    ----------
    tile
        Side of the tiles in pixels.
    coarse_tile
        Side of the tiles of the coarse levels in grains, see :mod:`tools.inference.staged_encoder`; 0 encodes each tile
        by itself, as those of an image.
    kept
        Bytes of features to keep.
    """

    tile: int
    coarse_tile: int
    kept: float

    @classmethod
    def of(
        cls,
        memory: float,
        canvas: Sequence[int] | np.ndarray,
        width: int,
        *,
        stem: Sequence[int] = (1,),
        tile: int = 0,
        device_memory: float | None = None,
    ) -> Plan:
        """The plan for a canvas and a network.

        Parameters
        ----------
        memory
            Bytes of main memory in all.
        canvas
            ``(ndim,)`` size in trunk pixels.
        width
            Base width of the network.
        stem
            Voxels of the volume that a trunk pixel covers along each axis.
        tile
            Side of the tiles in pixels; 0 takes the largest that fits.
        device_memory
            Bytes free on the GPU that computes and keeps the features; None on a CPU, which does so in main memory.

        Raises
        ------
        UserError
            If there is too little memory even with the smallest tiles.
        """
        volume, least = np.asarray(canvas) * stem, _bytes(tile or SMALLEST, canvas, width) / SHARE
        size = " x ".join(map(str, volume.tolist()))
        held = PROGRAM + HELD * float(np.prod(volume, dtype=float))
        # Features of the cut level, once on the way down and once on the way up.
        coarse = 2 * float(np.prod(canvas, dtype=float)) / GRAIN ** len(canvas) * width * GRAIN * 4
        needed = held if device_memory is not None else held + coarse + least
        if needed > memory:
            found = f"{size} voxels need {needed / GIGA:.1f} GB of memory, --memory is {memory / GIGA:g}"
            raise UserError(f"{found}: give more, or a smaller --cell")
        free = (memory - held if device_memory is None else DEVICE_SHARE * device_memory) - coarse
        if device_memory is not None and free < least:
            found = f"{size} voxels need {(coarse + least) / DEVICE_SHARE / GIGA:.1f} GB of memory on the GPU"
            advice = "give a smaller --cell, or --device cpu"
            raise UserError(f"{found}, {device_memory / GIGA:.1f} are free: {advice}")
        sides = [tile] if tile else range(LARGEST, SMALLEST - 1, -STRIDE)
        tile = next(side for side in sides if _bytes(side, canvas, width) <= SHARE * free)
        return cls(tile, _coarse_tile(SHARE * free, width, len(canvas)), free - _bytes(tile, canvas, width))


def _bytes(tile: int, canvas: Sequence[int] | np.ndarray, width: int) -> float:
    """Bytes that computing a tile takes."""
    window = np.minimum(np.array(canvas, dtype=float), tile + 2 * HALO)
    return float(window.prod()) * width * 4 * ALIVE


def _coarse_tile(room: float, width: int, ndim: int) -> int:
    """Side in grains of the largest coarse tile that fits into ``room`` bytes."""
    side = (room / (GRAIN * width * 4 * ALIVE)) ** (1 / ndim) - 2 * COARSE_HALO
    unit = STRIDE // GRAIN
    return max(int(side) // unit, 2) * unit
