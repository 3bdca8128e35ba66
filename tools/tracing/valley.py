"""Whether a valley of the map lies between two places: then they are on two branches, or on two sides of a gap."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import map_coordinates

DEPTH = 0.5
"""Share of the lower of two chances below which the map must fall between the places. Measured on simulated neurites 4
voxels apart: steps from one to the other fall below 0.4 of it, nine in ten steps along one stay above."""
AHEAD = math.cos(math.radians(20))
"""Cosine of the turn below which a way goes straight on, and may cross a gap."""
BETWEEN = np.linspace(0.2, 0.8, 9)
"""Where on the way the map is looked at, as shares of it: the ends may lie a pixel beside their ridges."""


def parted(centerline: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Which of the ways from ``start`` to ``end`` cross a valley.

    Parameters
    ----------
    centerline
        ``(*S,)`` chances.
    start, end
        ``(K, ndim)`` positions in pixels.

    Returns
    -------
    np.ndarray
        ``(K,)`` bool.
    """
    way = start[:, None] + BETWEEN[:, None] * (end - start)[:, None]
    chance = map_coordinates(centerline, np.moveaxis(way, -1, 0), order=1, mode="nearest")
    lower = np.minimum(best_around(centerline, start), best_around(centerline, end))
    return chance.min(axis=1) < DEPTH * lower


def ahead(step: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Which steps ``(K, ndim)`` go straight on from the last ones ``(K, ndim)``; none where there was none (NaN)."""
    return (step * last).sum(axis=1) > AHEAD * np.linalg.norm(step, axis=1) * np.linalg.norm(last, axis=1)


def best_around(centerline: np.ndarray, places: np.ndarray) -> np.ndarray:
    """``(K,)`` highest chance at the pixels of places ``(K, ndim)`` and the ones around them."""
    around = np.array(list(np.ndindex(*(3,) * centerline.ndim))) - 1
    pixels = np.floor(places + 0.5).astype(np.int64)[:, None] + around
    inside = np.clip(pixels, 0, np.array(centerline.shape) - 1)
    return centerline[tuple(np.moveaxis(inside, -1, 0))].max(axis=1)
