"""How far a map of centerlines goes on beyond the ends of a trace."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial import KDTree

from lib.swclib import SwcForest, resample
from lib.vectors import unit

Floats = NDArray[np.floating]

BACK = 10.0
"""Units of a branch before its end that give its direction."""
CONE = np.radians(50.0)
"""Largest angle to that direction at which one looks ahead."""
DISTANCES = np.arange(4.0, 31.0, 2.0)
"""Units from the end at which one looks: nearer lies what the end itself makes of the map (docs/experiments.md)."""
TRACED = 3.0
"""Units around the trace in which nothing counts."""
RAYS = {2: 11, 3: 37}
"""Directions in the cone, by dimension."""


def probability_ahead(forest: SwcForest, centerline: Floats, sizes: Floats) -> Floats:
    """How surely a tube goes on beyond each end of a trace.

    At each of some distances the highest centerline probability ahead of the end is taken, without what is traced, and
    the mean of these is what is returned.

    Parameters
    ----------
    forest
        The trace in units, 0 at the centre of the first work pixel.
    centerline
        ``(*S,)`` probabilities of the work pixels.
    sizes
        ``(ndim,)`` size of a work pixel in units.

    Returns
    -------
    ndarray
        ``(N,)`` in [0, 1]; 0 of nodes that are no ends.
    """
    ahead, ndim = np.zeros(len(forest)), centerline.ndim
    branches, places = forest.branches_from_ends(), forest.positions(ndim)
    if not branches:
        return ahead
    ends = np.array([branch[0] for branch in branches])
    along = unit(places[ends] - places[[forest.row_along(branch, BACK) for branch in branches]])
    rays = np.einsum("eij,dj->edi", _turned(along), _cone(ndim))
    seen = places[ends][:, None, None] + rays[:, :, None] * DISTANCES[:, None]  # (ends, rays, distances, ndim)
    found = map_coordinates(centerline, (seen / sizes).reshape(-1, ndim).T, order=1, mode="constant")
    to_trace, _ = KDTree(resample(forest, 1.0).positions(ndim)).query(
        seen.reshape(-1, ndim), distance_upper_bound=TRACED
    )
    found = np.where(np.isinf(to_trace), found, 0.0).reshape(seen.shape[:-1])
    ahead[ends] = found.max(axis=1).mean(axis=1)
    return ahead


def _cone(ndim: int) -> Floats:
    """Unit vectors ``(D, ndim)`` evenly spread around the first axis."""
    count = RAYS[ndim]
    if ndim == 2:
        angle = np.linspace(-CONE, CONE, count)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    number = np.arange(count)
    height, turn = (
        1 - (1 - np.cos(CONE)) * number / (count - 1),
        np.pi * (3 - np.sqrt(5)) * number,
    )  # Fibonacci's spiral
    across = np.sqrt(1 - height**2)
    return np.stack([height, across * np.cos(turn), across * np.sin(turn)], axis=1)


def _turned(along: Floats) -> Floats:
    """Matrices ``(E, ndim, ndim)`` that take the first axis to unit vectors ``(E, ndim)`` (Householder 1958)."""
    normal = unit(along - np.eye(along.shape[1])[0])
    return np.eye(along.shape[1]) - 2 * normal[:, :, None] * normal[:, None, :]
