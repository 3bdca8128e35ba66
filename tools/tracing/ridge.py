"""Where the middle of a line lies, to a fraction of a pixel: for seeds before, and for nodes after a trace.

(The search has its own centroid, :func:`tools.tracing.gds.refine`: there, what weighs depends on the way to the peak.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy.ndimage import map_coordinates

Weigh = Callable[[np.ndarray, np.ndarray], np.ndarray]


def middle(
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
        ``(*S,)`` chances.
    places
        ``(N, ndim)`` positions.
    offsets
        ``(M, ndim)`` where to look around each.
    weigh
        Weights ``(N,)`` of the chances ``(N,)`` at one offset, given those at the places themselves ``(N,)``.
    border
        What lies outside of the map: its border pixels (``nearest``) or nothing (``constant``).

    Returns
    -------
    ndarray
        ``(N, ndim)`` float64; 0 where nothing weighs.
    """

    def chances(shifted: np.ndarray) -> np.ndarray:
        return map_coordinates(centerline, shifted.T, order=1, mode=border)

    own = chances(places)
    total, moment = np.zeros(len(places)), np.zeros(places.shape)
    for offset in offsets:
        weight = weigh(chances(places + offset), own)
        total += weight
        moment += weight[:, None] * offset
    return moment / np.maximum(total, 1e-9)[:, None]
