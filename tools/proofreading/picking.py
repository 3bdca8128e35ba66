"""What lies under the cursor: the nearest node or edge to a place, or to a line of sight through a volume."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lib.swclib import SwcForest
from lib.vectors import unit

FLAT = 0.1
"""A branch whose second axis is shorter than this part of its first is a line, which has no plane of its own."""


class Picked(NamedTuple):
    """What was found: the ids of one node, or of the two ends of an edge, the nearer one first, and the distance."""

    nodes: tuple[int, ...]
    distance: float


def nearest_node(
    forest: SwcForest, place: np.ndarray, spacing: np.ndarray, sight: np.ndarray | None = None
) -> Picked | None:
    """The node nearest to a place.

    Parameters
    ----------
    forest
        In image positions.
    place
        ``(ndim,)`` in image positions.
    spacing
        ``(ndim,)`` size of a pixel; distances are in its unit.
    sight
        ``(ndim,)`` direction of the line of sight through the place, in image positions; distances are to this line.

    Returns
    -------
    Picked or None
        None in an empty forest.
    """
    if not len(forest):
        return None
    distance = np.linalg.norm(_seen(forest.positions(len(place)) - place, spacing, sight), axis=1)
    row = int(distance.argmin())
    return Picked((int(forest.ids[row]),), float(distance[row]))


def nearest_edge(
    forest: SwcForest, place: np.ndarray, spacing: np.ndarray, sight: np.ndarray | None = None
) -> Picked | None:
    """The edge nearest to a place; parameters as of :func:`nearest_node`. None if there is no edge."""
    if not len(forest.edges):
        return None
    seen = _seen(forest.positions(len(place)) - place, spacing, sight)
    start, end = seen[forest.edges[:, 0]], seen[forest.edges[:, 1]]
    along = end - start
    length = (along**2).sum(axis=1)
    fraction = np.clip(-(start * along).sum(axis=1) / np.where(length > 0, length, 1), 0, 1)
    distance = np.linalg.norm(start + fraction[:, None] * along, axis=1)
    row = int(distance.argmin())
    nodes = forest.ids[forest.edges[row]].tolist()
    return Picked(tuple(nodes if fraction[row] <= 0.5 else nodes[::-1]), float(distance[row]))


def flat_view(positions: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Direction from which a branch of a volume lies flat on the screen.

    Parameters
    ----------
    positions
        ``(n, 3)`` of its nodes (z, y, x).
    spacing
        ``(3,)`` size of a voxel.

    Returns
    -------
    normal, along
        ``(3,)`` unit vectors (z, y, x), in space: across the main plane of the branch, and along it. The normal of a
        straight branch is the one nearest to z.
    """
    points = positions * spacing
    _, size, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=True)
    along, normal = axes[0], axes[2]
    if len(size) < 2 or size[1] < FLAT * size[0]:
        upwards = np.array([1.0, 0.0, 0.0])
        normal = upwards - along[0] * along
        # A branch along z is seen from the side.
        normal = axes[2] if np.linalg.norm(normal) < FLAT else unit(normal)
    return normal, along


def _seen(offsets: np.ndarray, spacing: np.ndarray, sight: np.ndarray | None) -> np.ndarray:
    """Offsets ``(N, ndim)`` in units of the spacing; of those along the line of sight nothing is left."""
    offsets = offsets * spacing
    if sight is None:
        return offsets
    direction = unit(sight * spacing)
    return offsets - (offsets @ direction)[:, None] * direction
