"""How a volume is traced within a given memory: how large its tiles are, how many features are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.errors import UserError
from models.nenet import STRIDE
from tools.inference.staged_encoder import COARSE_HALO, GRAIN, HALO

GIGA = 1e9
PROGRAM = 0.6 * GIGA
"""What the program itself takes, its libraries and the network."""
HELD = 34
"""Bytes for each voxel that are held whatever the tiles: pixels, map, seeds, distances, what lies free between them. 22
are counted; with these a volume of 200×512×512 took 4.5 GB of the 4 it was given (benchmarks/volume_speed.py)."""
ALIVE = 7
"""Maps of the base width that are alive together while a tile is computed; counted in the same way."""
SHARE = 0.5
"""Share of what is left that a tile may take; the rest keeps features."""
SMALLEST, LARGEST = 32, 192
"""Sides of tiles: smaller ones are mostly halo, larger ones gain nothing."""


@dataclass(frozen=True)
class Plan:
    """How to encode a volume.

    Attributes
    ----------
    tile
        Side of the tiles in pixels.
    coarse_tile
        Side of the tiles of the coarse levels in grains, see :mod:`tools.inference.staged_encoder`.
    kept
        Bytes of features to keep.
    """

    tile: int
    coarse_tile: int
    kept: float

    @classmethod
    def of(cls, memory: float, canvas: Sequence[int], width: int, *, tile: int = 0) -> Plan:
        """The plan for a canvas of ``canvas`` pixels, a network of base width ``width`` and ``memory`` bytes.

        Parameters
        ----------
        tile
            Side of the tiles where it is given; 0 takes the largest for which there is room.

        Raises
        ------
        UserError
            If there is too little memory even with the smallest tiles.
        """
        voxels = float(np.prod(canvas, dtype=float))
        # Features of the cut level, once on the way down and once on the way up.
        coarse = 2 * voxels / GRAIN ** len(canvas) * width * GRAIN * 4
        held = PROGRAM + HELD * voxels + coarse
        free = memory - held
        least = _bytes(tile or SMALLEST, canvas, width) / SHARE
        if free < least:
            size, needed = " x ".join(map(str, np.asarray(canvas).tolist())), (held + least) / GIGA
            found = f"{size} voxels need {needed:.1f} GB of memory"
            raise UserError(f"{found}, --memory is {memory / GIGA:g}: give more, or trace the volume in parts")
        sides = [tile] if tile else range(LARGEST, SMALLEST - 1, -STRIDE)
        tile = next(side for side in sides if _bytes(side, canvas, width) <= SHARE * free)
        return cls(tile, _coarse_tile(SHARE * free, width, len(canvas)), free - _bytes(tile, canvas, width))


def _bytes(tile: int, canvas: Sequence[int], width: int) -> float:
    """What computing a tile takes."""
    window = np.minimum(np.array(canvas, dtype=float), tile + 2 * HALO)
    return float(window.prod()) * width * 4 * ALIVE


def _coarse_tile(room: float, width: int, ndim: int) -> int:
    """Side in grains of the largest coarse tile for which there is room."""
    side = (room / (GRAIN * width * 4 * ALIVE)) ** (1 / ndim) - 2 * COARSE_HALO
    unit = STRIDE // GRAIN
    return max(int(side) // unit, 2) * unit
