"""Where the middle of a line lies, to a fraction of a pixel: for seeds before, and for nodes after a trace.

(The search has its own centroid, :func:`tools.tracing.growth.gds.peak_centres`: there, what weighs depends on the way to the peak.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy.ndimage import map_coordinates

WINDOW = 2
"""Pixels around a skeleton pixel in which the middle of its line is looked for: a line is 3 wide, its neighbour's rim
3 away where two lines run 4 px apart."""
CLIMB = 2
"""Pixels by which a node may lie beside its ridge: half of what separates two lines that the map still tells apart."""

Weigh = Callable[[np.ndarray, np.ndarray], np.ndarray]


def centroid_offset(
    centerline: np.ndarray,
    places: np.ndarray,
    offsets: np.ndarray,
    weigh: Weigh,
    *,
    border: Literal["nearest", "constant"],
) -> np.ndarray:
    """How far the centroid of the map around each place lies from it.

    Parameters
    ----------
    centerline
        ``(*S,)`` probabilities.
    places
        ``(N, ndim)`` positions.
    offsets
        ``(M, ndim)`` where to look around each.
    weigh
        Weights ``(N,)`` of the probabilities ``(N,)`` at one offset, given those at the places themselves ``(N,)``.
    border
        What lies outside of the map: its border pixels (``nearest``) or nothing (``constant``).

    Returns
    -------
    ndarray
        ``(N, ndim)`` float64; 0 where nothing weighs.
    """

    def probabilities(shifted: np.ndarray) -> np.ndarray:
        return map_coordinates(centerline, shifted.T, order=1, mode=border)

    own = probabilities(places)
    total, moment = np.zeros(len(places)), np.zeros(places.shape)
    for offset in offsets:
        weight = weigh(probabilities(places + offset), own)
        total += weight
        moment += weight[:, None] * offset
    return moment / np.maximum(total, 1e-9)[:, None]


def subpixel(pixels: np.ndarray, centerline: np.ndarray) -> np.ndarray:
    """Pixels on a line ``(N, ndim)`` moved to the middle of the line, to a fraction of a pixel: ``(N, ndim)``.

    The middle is the centroid of what has at least half of the pixel's probability, within :data:`WINDOW`. A skeleton is
    off by up to a pixel, the nodes found by the search by a tenth; of those, one in ten is a seed.
    """
    window = np.array(list(np.ndindex(*(2 * WINDOW + 1,) * centerline.ndim))) - WINDOW
    return pixels + centroid_offset(centerline, pixels, window, _at_least_half, border="constant")


def _at_least_half(probability: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Probabilities that are at least half of a place's own."""
    return np.where(probability >= 0.5 * own, probability, 0)


def on_ridge(centerline: np.ndarray, places: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Places ``(N, ndim)`` moved across ``along`` ``(N, ndim)`` to the ridge beside them; those too far from one stay.

    Where two branches run side by side and the network does not know which to follow, a node comes to lie between
    them, and from there either is as near: uphill lies the one that it was nearer to.
    """
    shift = uphill(np.floor(places + 0.5).astype(np.int64), centerline) - places
    shift = across(shift, along)
    return places + np.where(np.linalg.norm(shift, axis=1, keepdims=True) <= CLIMB, shift, 0)


def across(shift: np.ndarray, along: np.ndarray) -> np.ndarray:
    """The part of shifts ``(N, ndim)`` at right angles to ``along`` ``(N, ndim)``."""
    unit = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    return shift - (shift * unit).sum(axis=1, keepdims=True) * unit


def uphill(pixels: np.ndarray, centerline: np.ndarray) -> np.ndarray:
    """Where :data:`CLIMB` pixels uphill lead from ``pixels`` ``(N, ndim)``, to a fraction of one: ``(N, ndim)``."""
    pixels = np.clip(pixels, 0, np.array(centerline.shape) - 1)
    for _ in range(CLIMB):
        near = around(pixels, centerline.shape)
        best = centerline[tuple(np.moveaxis(near, -1, 0))].argmax(axis=1)  # On level ground the pixel itself.
        pixels = near[np.arange(len(pixels)), best]
    return subpixel(pixels, centerline)


def around(pixels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``(N, 3^ndim, ndim)`` pixels around each of ``(N, ndim)``, the nearest first, so itself; clipped to a map."""
    offsets = np.array(list(np.ndindex(*(3,) * len(shape)))) - 1
    offsets = offsets[np.argsort((offsets**2).sum(axis=1), kind="stable")]
    return np.clip(pixels[:, None] + offsets, 0, np.array(shape) - 1)
