"""Whether a valley of the map lies between two places: then they are on two branches, or on two sides of a gap."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import label, map_coordinates

from tools.tracing.ridge import around

DEPTH = 0.5
"""Share of the lower of two probabilities below which the map must fall between the places. Measured on simulated neurites 4
voxels apart: steps from one to the other fall below 0.4 of it, nine in ten steps along one stay above."""
AHEAD = math.cos(math.radians(20))
"""Cosine of the turn below which a way goes straight on, and may cross a gap."""
BRIDGE = 0.8
"""... and above which it must stay on a way around a bend. Of 20 simulated pairs 20 are without a jump with 0.8, 19
with 0.5, and two dense blocks have 53 jumps and 24 false merges instead of 72 and 38."""
BEND = 2
"""Pixels that a bend may lead out of the box around its ends: a step of 10 along a circle of radius 6 leads 2 aside."""
BETWEEN = np.linspace(0.2, 0.8, 9)
"""Where on the way the map is looked at, as shares of it: the ends may lie a pixel beside their ridges."""


def crosses_valley(centerline: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Which of the ways from ``start`` to ``end`` cross a valley.

    Parameters
    ----------
    centerline
        ``(*S,)`` probabilities.
    start, end
        ``(K, ndim)`` positions in pixels.

    Returns
    -------
    np.ndarray
        ``(K,)`` bool.
    """
    way = start[:, None] + BETWEEN[:, None] * (end - start)[:, None]
    probability = map_coordinates(centerline, np.moveaxis(way, -1, 0), order=1, mode="nearest")
    lower = np.minimum(best_around(centerline, start), best_around(centerline, end))
    across = probability.min(axis=1) < DEPTH * lower
    for row in np.flatnonzero(across):
        across[row] = not _bridged(centerline, start[row], end[row], BRIDGE * lower[row])
    return across


def _bridged(centerline: np.ndarray, start: np.ndarray, end: np.ndarray, level: float) -> bool:
    """Whether the map leads from one place to the other without falling below ``level``, around a bend if need be."""
    top = np.array(centerline.shape)
    low = np.clip(np.floor(np.minimum(start, end)).astype(int) - BEND, 0, top - 1)
    high = np.clip(np.ceil(np.maximum(start, end)).astype(int) + BEND + 1, low + 1, top)
    box = centerline[tuple(map(slice, low, high))]
    parts = label(box >= level, structure=np.ones((3,) * box.ndim))[0]
    pixels = np.floor(np.stack([start, end]) + 0.5).astype(int) - low
    ends = parts[tuple(np.moveaxis(around(pixels, box.shape), -1, 0))]
    return bool((np.intersect1d(*ends) > 0).any())


def turns_over_valley(
    centerline: np.ndarray, start: np.ndarray, end: np.ndarray, before: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """Which of the ways ``(K, ndim)`` cross a valley, and not straight on from where they come.

    All in pixels, whose ``sizes`` are ``(ndim,)``; ``before`` is what was walked last, or NaN.
    """
    return crosses_valley(centerline, start, end) & ~goes_straight((end - start) * sizes, (start - before) * sizes)


def goes_straight(step: np.ndarray, last: np.ndarray, cone: float = AHEAD) -> np.ndarray:
    """Which steps ``(K, ndim)`` go on in a ``cone`` about the last ones; none where there was none (NaN)."""
    return (step * last).sum(axis=1) > cone * np.linalg.norm(step, axis=1) * np.linalg.norm(last, axis=1)


def best_around(centerline: np.ndarray, places: np.ndarray) -> np.ndarray:
    """``(K,)`` highest probability at the pixels of places ``(K, ndim)`` and the ones around them."""
    inside = around(np.floor(places + 0.5).astype(np.int64), centerline.shape)
    return centerline[tuple(np.moveaxis(inside, -1, 0))].max(axis=1)
