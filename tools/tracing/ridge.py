"""The middle of a line of the centerline map, to a fraction of a pixel: for seeds, nodes and the finished trace.

The search has a centroid of its own, in :mod:`tools.tracing.growth.peaks`, whose weights depend on the path
to the peak.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import map_coordinates

from lib.vectors import unit
from tools.tracing.growth.geodesic import as_volumes, compiled

WINDOW = 2
"""Pixels around a skeleton pixel in which the middle of its line is searched: a line is 3 wide, and the rim of a line
4 px beside it is 3 px away."""
CLIMB = 2
"""Pixels that a node may lie beside its ridge: half the spacing of two lines that the map still separates."""

NEAREST_FIRST = np.array(sorted(np.ndindex(3, 3, 3), key=lambda place: math.dist(place, (1, 1, 1)))) - 1
"""``(27, 3)`` offsets of a pixel and its neighbours; of equally high ones the first is climbed."""


def centroid_offset(centerline: np.ndarray, places: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Offset of the centroid of the squared map around each place.

    Squared, so that the middle of a branch weighs more than its rim and than a fainter branch beside it.

    Parameters
    ----------
    centerline
        ``(*S,)`` probabilities.
    places
        ``(N, ndim)`` positions in pixels.
    offsets
        ``(M, ndim)`` sample positions around each place, in pixels.

    Returns
    -------
    ndarray
        ``(N, ndim)`` float64 in pixels; 0 where all probabilities are 0.
    """
    total, moment = np.zeros(len(places)), np.zeros(places.shape)
    for offset in offsets:
        weight = map_coordinates(centerline, (places + offset).T, order=1, mode="nearest") ** 2
        total += weight
        moment += weight[:, None] * offset
    return moment / np.maximum(total, 1e-9)[:, None]


def on_ridge(centerline: np.ndarray, places: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Places moved sideways to the nearest ridge (ours, docs/paper.md §5).

    If two branches run side by side and the network does not know which to follow, it puts a node between them, and
    from there both are equally near. Uphill is the ridge that the node was nearer to.

    Parameters
    ----------
    centerline
        ``(*S,)`` probabilities.
    places
        ``(N, ndim)`` positions in pixels.
    along
        ``(N, ndim)`` directions of the branches; places move at right angles to them.

    Returns
    -------
    ndarray
        ``(N, ndim)`` positions in pixels; a place farther than :data:`CLIMB` from its ridge is not moved.
    """
    shift = across(uphill(np.floor(places + 0.5).astype(np.int64), centerline) - places, along)
    return places + np.where(np.linalg.norm(shift, axis=1, keepdims=True) <= CLIMB, shift, 0)


def across(shift: np.ndarray, along: np.ndarray) -> np.ndarray:
    """The part of shifts ``(N, ndim)`` at right angles to ``along`` ``(N, ndim)``."""
    direction = unit(along)
    return shift - (shift * direction).sum(axis=1, keepdims=True) * direction


def uphill(pixels: np.ndarray, centerline: np.ndarray) -> np.ndarray:
    """``(N, ndim)`` positions on the line that :data:`CLIMB` steps uphill from ``pixels`` ``(N, ndim)`` lead to.

    There the middle of the line is the centroid of all probabilities of at least half the pixel's own, within
    :data:`WINDOW`.
    """
    top = np.array(centerline.shape) - 1
    return _climb(*as_volume(centerline, np.clip(pixels, 0, top)), NEAREST_FIRST)[:, -centerline.ndim :]


def highest_around(centerline: np.ndarray, places: np.ndarray) -> np.ndarray:
    """``(K,)`` highest probability at the pixels of ``places`` ``(K, ndim)`` and their neighbours."""
    return _highest_around(*as_volume(centerline, places))


def as_volume(centerline: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A map as a float32 volume, and places ``(N, 3)`` in it; an image becomes a volume of one slice."""
    volumes, lifted = as_volumes(np.ascontiguousarray(centerline, dtype=np.float32)[None], places)
    return volumes[0], lifted


@compiled
def beside(pixel: int, size: int) -> range:
    """Along one axis the pixels from one before to one after ``pixel``, moved into 0 ≤ x < ``size``."""
    return range(min(max(pixel - 1, 0), size - 1), min(max(pixel + 1, 0), size - 1) + 1)


@compiled
def highest_beside(volume: np.ndarray, place: np.ndarray) -> np.float32:
    """Highest probability at the pixel of a place ``(3,)`` and its neighbours."""
    highest = np.float32(-np.inf)
    for z in beside(math.floor(place[0] + 0.5), volume.shape[0]):
        for y in beside(math.floor(place[1] + 0.5), volume.shape[1]):
            for x in beside(math.floor(place[2] + 0.5), volume.shape[2]):
                highest = max(highest, volume[z, y, x])
    return highest


@compiled
def _highest_around(volume, places):
    return np.array([highest_beside(volume, place) for place in places])


@compiled
def _climb(volume, pixels, offsets):
    """Middles ``(N, 3)`` of the lines uphill from the pixels ``(N, 3)``."""
    middle = np.empty(pixels.shape)
    for row in range(len(pixels)):
        z, y, x = pixels[row, 0], pixels[row, 1], pixels[row, 2]
        for _ in range(CLIMB):
            up = (z, y, x)  # On level ground the pixel itself.
            for step in range(len(offsets)):
                i = min(max(z + offsets[step, 0], 0), volume.shape[0] - 1)
                j = min(max(y + offsets[step, 1], 0), volume.shape[1] - 1)
                k = min(max(x + offsets[step, 2], 0), volume.shape[2] - 1)
                if volume[i, j, k] > volume[up]:
                    up = (i, j, k)
            z, y, x = up
        middle[row] = _middle(volume, z, y, x)
    return middle


@compiled
def _middle(volume, z, y, x):
    """Centroid of the probabilities of at least half the pixel's own around it."""
    total, sum_z, sum_y, sum_x = 0.0, 0.0, 0.0, 0.0
    for i in range(max(z - WINDOW, 0), min(z + WINDOW + 1, volume.shape[0])):
        for j in range(max(y - WINDOW, 0), min(y + WINDOW + 1, volume.shape[1])):
            for k in range(max(x - WINDOW, 0), min(x + WINDOW + 1, volume.shape[2])):
                if volume[i, j, k] >= np.float32(0.5) * volume[z, y, x]:
                    weight = float(volume[i, j, k])
                    total += weight
                    sum_z, sum_y, sum_x = sum_z + weight * (i - z), sum_y + weight * (j - y), sum_x + weight * (k - x)
    total = max(total, 1e-9)
    return np.array([z + sum_z / total, y + sum_y / total, x + sum_x / total])
