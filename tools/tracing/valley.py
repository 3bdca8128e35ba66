"""Valleys of the centerline map: two places with a valley between are on two branches, or on two sides of a gap.

Ours, not the paper's (docs/paper.md §5).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import label, map_coordinates

from tools.tracing.ridge import highest_around, neighbourhood

DEPTH = 0.5
"""There is a valley if the map falls below this share of the lower of the two ends. Steps between simulated neurites
4 voxels apart fall below 0.4 of it (docs/experiments.md)."""
AHEAD = math.cos(math.radians(20))
"""Cosine of the turn below which a step goes straight ahead, and may cross a gap."""
BRIDGE = 0.8
"""No valley is crossed if the map stays above this share of the lower end on a path around a bend. Higher than
:data:`DEPTH`, because a detour of its own can lead over a saddle to the neighbour (docs/experiments.md)."""
BEND = 2
"""Pixels by which such a path may leave the box around the ends: a step of 10 on a circle of radius 6 needs 2."""
BETWEEN = np.linspace(0.2, 0.8, 9)
"""Samples between the ends, as shares of the step. Not nearer, as the ends may lie a pixel beside their ridges."""


def crosses_valley(centerline: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Which of the straight lines from ``start`` to ``end`` cross a valley that no path around leads past.

    Parameters
    ----------
    centerline
        ``(*S,)`` probabilities.
    start, end
        ``(K, ndim)`` positions in pixels.

    Returns
    -------
    ndarray
        ``(K,)`` bool.
    """
    samples = start[:, None] + BETWEEN[:, None] * (end - start)[:, None]
    probability = map_coordinates(centerline, np.moveaxis(samples, -1, 0), order=1, mode="nearest")
    lower = np.minimum(highest_around(centerline, start), highest_around(centerline, end))
    crosses = probability.min(axis=1) < DEPTH * lower
    for row in np.flatnonzero(crosses):
        crosses[row] = not _bridged(centerline, start[row], end[row], float(BRIDGE * lower[row]))
    return crosses


def _bridged(centerline: np.ndarray, start: np.ndarray, end: np.ndarray, level: float) -> bool:
    """Whether a path near the straight line leads from start to end and never falls below ``level``."""
    top = np.array(centerline.shape)
    low = np.clip(np.floor(np.minimum(start, end)).astype(int) - BEND, 0, top - 1)
    high = np.clip(np.ceil(np.maximum(start, end)).astype(int) + BEND + 1, low + 1, top)
    box = centerline[tuple(map(slice, low, high))]
    parts = np.empty(box.shape, dtype=np.int32)
    label(box >= level, structure=np.ones((3,) * box.ndim), output=parts)
    pixels = np.floor(np.stack([start, end]) + 0.5).astype(int) - low
    ends = parts[tuple(np.moveaxis(neighbourhood(pixels, box.shape), -1, 0))]
    return bool((np.intersect1d(*ends) > 0).any())


def goes_straight(step: np.ndarray, last: np.ndarray, cone: float = AHEAD) -> np.ndarray:
    """Which steps ``(K, ndim)`` continue the previous ones ``(K, ndim)`` within a cone.

    Parameters
    ----------
    step, last
        ``(K, ndim)`` in units; ``last`` is NaN if there was no step before, and then none goes straight.
    cone
        Cosine of the largest turn.

    Returns
    -------
    ndarray
        ``(K,)`` bool.
    """
    return (step * last).sum(axis=1) > cone * np.linalg.norm(step, axis=1) * np.linalg.norm(last, axis=1)
