"""How thick is a tube? Its radius from the brightness around a known centreline.

A tube's surface is where its brightness has fallen to half, between background and centreline. Brightness is turned
into the share of a voxel that lies inside; the gray-weighted distance of that share from the background is then the
distance to the surface to a fraction of a voxel (a share of 0.3 in the last voxel counts as 0.3 of its size).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import product

import numba
import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from lib.gwdt.transform import gwdt

_TILE = 32
"""Side in voxels of the tiles whose median is the background: far larger than a tube, smaller than clouds."""
_ALONG, _NEIGHBOURS = 2.0, 9
"""Width (standard deviation, voxels) over which the brightness of a centreline is averaged; over how many voxels."""
_BLUR = 0.7
"""Width (standard deviation, in the finest axis' voxels) of the smoothing before: noise would dent every surface."""
_EMPTY, _FULL = 0.2, 0.8
"""Relative brightness up to which a voxel counts as outside, and from which as inside; half is the surface."""
_ASLANT = 0.8
"""Mean share of the offset of a voxel from a position that lies across the tube: √(2/3), about."""

_njit = numba.njit(cache=True, nogil=True)


def boundary_distance(
    image: np.ndarray, axis: np.ndarray, *, spacing: Sequence[float] | None = None, reach: float = 24.0
) -> np.ndarray:
    """Distance to the surface of the tubes around given centrelines.

    Parameters
    ----------
    image
        ``(y, x)`` or ``(z, y, x)`` brightness, linear (not its square root), of any scale.
    axis
        The same shape, bool: voxels on centrelines, such as a skeleton or a trace drawn one voxel wide. A tube without
        them is not measured.
    spacing
        ``(ndim,)`` size of a voxel; default 1.
    reach
        Voxels farther than this from their centreline, in voxels of the finest axis, are outside.

    Returns
    -------
    ndarray
        The image's shape, float32, in the unit of the spacing; 0 outside the tubes. What is thinner than the blur of
        the image measures as thick as the blur.

    Raises
    ------
    ValueError
        If the shapes differ, or the spacing does not fit.
    """
    image, axis = np.asarray(image), np.asarray(axis, dtype=bool)
    if image.shape != axis.shape:
        raise ValueError(f"image and axis must have one shape, not {image.shape} and {axis.shape}")
    share = np.zeros(image.shape, np.float32)
    if axis.any():
        lift = (1,) * (3 - image.ndim)
        steps = np.array([*lift, *([1.0] * image.ndim if spacing is None else spacing)], dtype=np.float64)
        _fill_tubes(image.reshape(lift + image.shape), axis.reshape(lift + axis.shape), steps, reach, share)
    distance = gwdt(share, spacing=spacing)
    # Only an image that is all tube has no way to an outside.
    distance[~np.isfinite(distance)] = 0
    return distance


def _fill_tubes(volume: np.ndarray, axis: np.ndarray, steps: np.ndarray, reach: float, share: np.ndarray) -> None:
    """Write into ``share`` how much of each voxel lies inside a tube."""
    seeds = np.argwhere(axis)
    base = _background(volume, seeds)
    peak = _along_axis(volume[axis] - base, seeds)
    lit = np.flatnonzero(peak > 0)
    ratio = steps / steps.min()
    weights = [np.exp(-((np.arange(-1, 2) * r / _BLUR) ** 2) / 2) for r in ratio]
    kernel = weights[0][:, None, None] * weights[1][:, None] * weights[2]
    _grow(volume, seeds[lit], base[lit], peak[lit], ratio, kernel, reach, share.reshape(volume.shape))


def _background(volume: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Background at voxels ``(K, 3)``: medians of tiles (of every second voxel), linear in between."""
    tiles = [max(1, round(size / _TILE)) for size in volume.shape]
    borders = [np.linspace(0, size, count + 1).astype(int) for size, count in zip(volume.shape, tiles, strict=True)]
    medians = np.empty(tiles)
    for tile in np.ndindex(*tiles):
        medians[tile] = np.median(volume[tuple(slice(b[t], b[t + 1], 2) for b, t in zip(borders, tile, strict=True))])
    at = (places + 0.5) * np.array(tiles) / volume.shape - 0.5
    return map_coordinates(medians, at.T, order=1, mode="nearest")


def _along_axis(values: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Mean of the values on centreline voxels ``(K, 3)`` and the nearest others, which lie along the line."""
    count = min(_NEIGHBOURS, len(seeds))
    distance, neighbour = cKDTree(seeds).query(seeds, k=[*range(1, count + 1)])
    weight = np.exp(-((distance / _ALONG) ** 2) / 2)
    return (weight * values[neighbour]).sum(axis=1) / weight.sum(axis=1)


@_njit
def _grow(volume, seeds, base, peak, ratio, kernel, reach, share):
    """Grow from the centreline voxels outwards, nearest voxels first, as far as the tube is bright.

    A voxel belongs to the centreline voxel that it is reached from first: the nearest, up to ties and bends.
    """
    known = np.full(volume.shape, np.inf, np.float32)  # least distance at which a voxel waits; -1 once it is taken
    heap = [(0.0, k, seeds[k, 0], seeds[k, 1], seeds[k, 2]) for k in range(len(seeds))]
    while heap:
        away, k, z, y, x = heappop(heap)
        if known[z, y, x] < 0.0:
            continue
        known[z, y, x] = -1.0
        relative = (_smoothed(volume, kernel, z, y, x) - base[k]) / peak[k]
        share[z, y, x] = min(max((relative - _EMPTY) / (_FULL - _EMPTY), 0.0), 1.0)
        if away > 0.0 and share[z, y, x] == 0.0:
            continue
        for c in range(max(z - 1, 0), min(z + 2, volume.shape[0])):
            for b in range(max(y - 1, 0), min(y + 2, volume.shape[1])):
                for a in range(max(x - 1, 0), min(x + 2, volume.shape[2])):
                    dz, dy, dx = c - seeds[k, 0], b - seeds[k, 1], a - seeds[k, 2]
                    off = math.sqrt((dz * ratio[0]) ** 2 + (dy * ratio[1]) ** 2 + (dx * ratio[2]) ** 2)
                    if off <= reach and off < known[c, b, a]:
                        known[c, b, a] = off
                        heappush(heap, (off, k, c, b, a))


@_njit
def _smoothed(volume, kernel, z, y, x):
    """Weighted mean of a voxel and its neighbours inside the volume."""
    total, weight = 0.0, 0.0
    for c in range(max(z - 1, 0), min(z + 2, volume.shape[0])):
        for b in range(max(y - 1, 0), min(y + 2, volume.shape[1])):
            for a in range(max(x - 1, 0), min(x + 2, volume.shape[2])):
                w = kernel[c - z + 1, b - y + 1, a - x + 1]
                total += w * volume[c, b, a]
                weight += w
    return total / weight


def radius_at(distance: np.ndarray, positions: np.ndarray, *, spacing: Sequence[float] | None = None) -> np.ndarray:
    """Radius of the tubes at positions on their centrelines.

    A voxel beside the centreline is nearer to the surface by its offset: that is added before the voxels around a
    position are averaged (linear weights).

    Parameters
    ----------
    distance
        Map of :func:`boundary_distance`.
    positions
        ``(N, ndim)`` in voxels, the centre of the first voxel is 0; those outside the map are moved to its border.
    spacing
        The one that the map was made with.

    Returns
    -------
    ndarray
        ``(N,)`` float64 in the unit of the spacing; 0 where all voxels around a position are outside the tubes.
    """
    steps = np.ones(distance.ndim) if spacing is None else np.asarray(spacing, dtype=np.float64)
    top = np.array(distance.shape) - 1
    places = np.clip(np.asarray(positions, dtype=np.float64).reshape(-1, distance.ndim), 0, top)
    below = np.floor(places).astype(np.int64)
    radius, deepest = np.zeros(len(places)), np.zeros(len(places))
    for corner in product((0, 1), repeat=distance.ndim):
        weight = np.prod(np.where(corner, places - below, below + 1 - places), axis=1)
        voxel = np.minimum(below + corner, top)
        value = distance[tuple(voxel.T)]
        offset = np.linalg.norm((voxel - places) * steps, axis=1)
        radius += weight * (value + _ASLANT * offset)
        deepest = np.maximum(deepest, value)
    return np.where(deepest > 0, radius, 0.0)
