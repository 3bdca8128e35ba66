"""Valleys of the centerline map: two places with a valley between are on two branches, or on two sides of a gap.

Ours, not the paper's (docs/paper.md §5).
"""

from __future__ import annotations

import math

import numpy as np

from tools.tracing.growth.geodesic import compiled
from tools.tracing.ridge import as_volume, beside, highest_beside

DEPTH = 0.5
"""There is a valley if the map falls below this share of the lower of the two ends. Steps between simulated neurites
4 voxels apart fall below 0.4 of it (docs/experiments.md)."""
AHEAD = math.cos(math.radians(20))
"""Cosine of the turn below which a step goes straight ahead, and may cross a gap."""
STRAIGHT = math.cos(math.radians(60))
"""Cosine of the greatest turn of a branch where it crosses another (docs/experiments.md)."""
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
    volume, starts = as_volume(centerline, start)
    return _crossed(volume, starts, as_volume(centerline, end)[1], BETWEEN)


@compiled
def _crossed(volume, starts, ends, between):
    """Which lines from ``starts`` to ``ends`` ``(K, 3)`` cross a valley, probed at the shares ``between``."""
    crossed = np.zeros(len(starts), np.bool_)
    for row in range(len(starts)):
        start, end = starts[row], ends[row]
        lower = min(highest_beside(volume, start), highest_beside(volume, end))
        for share in between:
            if _probability(volume, start + share * (end - start)) < np.float32(DEPTH) * lower:
                crossed[row] = not _bridged(volume, start, end, np.float32(BRIDGE) * lower)
                break
    return crossed


@compiled
def _probability(volume, place):
    """The map between pixels, as ``scipy.ndimage.map_coordinates`` of order 1 and mode ``nearest`` gives it."""
    at = (_between(place[0], volume.shape[0]), _between(place[1], volume.shape[1]), _between(place[2], volume.shape[2]))
    total = 0.0
    for z, across in at[0]:
        for y, down in at[1]:
            for x, along in at[2]:
                total += volume[z, y, x] * across * down * along
    return np.float32(total)


@compiled
def _between(place, size):
    """The two pixels around a place on an axis, with their weights."""
    place = min(max(place, 0.0), size - 1.0)
    first = math.floor(place)
    weight = 1.0 - (place - first)
    return (first, weight), (min(first + 1, size - 1), 1.0 - weight)


@compiled
def _bridged(volume, start, end, level):
    """Whether a path near the straight line leads from start to end and never falls below ``level``."""
    low, high = np.empty(3, np.int64), np.empty(3, np.int64)
    for axis in range(3):
        size, ends = volume.shape[axis], (start[axis], end[axis])
        low[axis] = min(max(math.floor(min(ends)) - BEND, 0), size - 1)
        high[axis] = min(max(math.ceil(max(ends)) + BEND + 1, low[axis] + 1), size)
    free = volume[low[0] : high[0], low[1] : high[1], low[2] : high[2]] >= level
    stack = _pixels_beside(np.floor(start + 0.5).astype(np.int64) - low, free.shape)
    goal = np.floor(end + 0.5).astype(np.int64) - low
    while stack:
        here = stack.pop()
        if free[here]:
            if max(abs(here[0] - goal[0]), abs(here[1] - goal[1]), abs(here[2] - goal[2])) <= 1:
                return True
            free[here] = False
            stack.extend(_pixels_beside(here, free.shape))
    return False


@compiled
def _pixels_beside(pixel, shape):
    """A pixel and its neighbours, moved into a box of ``shape``."""
    z, y, x = beside(pixel[0], shape[0]), beside(pixel[1], shape[1]), beside(pixel[2], shape[2])
    return [(i, j, k) for i in z for j in y for k in x]


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
