"""The middle of a line of the centerline map, to a fraction of a pixel: for seeds, nodes and the finished trace.

The search has a centroid of its own, :func:`tools.tracing.growth.peaks.peak_centres`, whose weights depend on the path
to the peak.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
from scipy.ndimage import map_coordinates

WINDOW = 2
"""Pixels around a skeleton pixel in which the middle of its line is searched: a line is 3 wide, and the rim of a line
4 px beside it is 3 px away."""
CLIMB = 2
"""Pixels that a node may lie beside its ridge: half the spacing of two lines that the map still separates."""

Weigh = Callable[[np.ndarray, np.ndarray], np.ndarray]


def centroid_offset(
    centerline: np.ndarray,
    places: np.ndarray,
    offsets: np.ndarray,
    weigh: Weigh,
    *,
    border: Literal["nearest", "constant"],
) -> np.ndarray:
    """Offset of the centroid of the map around each place.

    Parameters
    ----------
    centerline
        ``(*S,)`` probabilities.
    places
        ``(N, ndim)`` positions in pixels.
    offsets
        ``(M, ndim)`` sample positions around each place, in pixels.
    weigh
        Gives the weights ``(N,)`` of the probabilities ``(N,)`` at one offset and those at the places ``(N,)``.
    border
        Values outside the map: those of its border pixels (``nearest``) or 0 (``constant``).

    Returns
    -------
    ndarray
        ``(N, ndim)`` float64 in pixels; 0 where all weights are 0.
    """
    probabilities = partial(map_coordinates, centerline, order=1, mode=border)
    own = probabilities(places.T)
    total, moment = np.zeros(len(places)), np.zeros(places.shape)
    for offset in offsets:
        weight = weigh(probabilities((places + offset).T), own)
        total += weight
        moment += weight[:, None] * offset
    return moment / np.maximum(total, 1e-9)[:, None]


def subpixel(pixels: np.ndarray, centerline: np.ndarray) -> np.ndarray:
    """Pixels on a line ``(N, ndim)`` moved to the middle of the line: ``(N, ndim)`` positions in pixels.

    The middle is the centroid of all probabilities of at least half the pixel's own, within :data:`WINDOW`.
    """
    window = np.array(list(np.ndindex(*(2 * WINDOW + 1,) * centerline.ndim))) - WINDOW
    return pixels + centroid_offset(
        centerline, pixels, window, lambda near, own: np.where(near >= 0.5 * own, near, 0), border="constant"
    )


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
    unit = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    return shift - (shift * unit).sum(axis=1, keepdims=True) * unit


def uphill(pixels: np.ndarray, centerline: np.ndarray) -> np.ndarray:
    """``(N, ndim)`` positions on the line that :data:`CLIMB` steps uphill from ``pixels`` ``(N, ndim)`` lead to."""
    pixels = np.clip(pixels, 0, np.array(centerline.shape) - 1)
    for _ in range(CLIMB):
        near = neighbourhood(pixels, centerline.shape)
        highest = centerline[tuple(np.moveaxis(near, -1, 0))].argmax(axis=1)  # On level ground the pixel itself.
        pixels = near[np.arange(len(pixels)), highest]
    return subpixel(pixels, centerline)


def neighbourhood(pixels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``(N, 3^ndim, ndim)`` each of ``pixels`` ``(N, ndim)`` and its neighbours, nearest first, clipped to the map."""
    offsets = np.array(list(np.ndindex(*(3,) * len(shape)))) - 1
    offsets = offsets[np.argsort((offsets**2).sum(axis=1), kind="stable")]
    return np.clip(pixels[:, None] + offsets, 0, np.array(shape) - 1)


def highest_around(centerline: np.ndarray, places: np.ndarray) -> np.ndarray:
    """``(K,)`` highest probability at the pixels of ``places`` ``(K, ndim)`` and their neighbours."""
    near = neighbourhood(np.floor(places + 0.5).astype(np.int64), centerline.shape)
    return centerline[tuple(np.moveaxis(near, -1, 0))].max(axis=1)
