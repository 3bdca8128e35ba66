"""Radius of tubes from the brightness around a known centerline.

The surface of a tube is where its brightness is halfway between background and centerline. Brightness is converted to
the share of a voxel that lies inside. The gray-weighted distance of that share from the background is the distance to
the surface with sub-voxel precision: a share of 0.3 in the outermost voxel counts as 0.3 of its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import product

import numba
import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial import KDTree

from lib.gwdt.transform import gwdt

_TILE = 32
"""Side in voxels of the tiles whose median is the background: much larger than a tube, smaller than bright clouds."""
_ALONG_SIGMA, _ALONG_COUNT = 2.0, 9
"""Standard deviation in voxels of the average along a centerline, and the number of voxels averaged."""
_BLUR_SIGMA = 0.7
"""Standard deviation, in voxels of the finest axis, of the smoothing that keeps noise from denting the surface."""
_OUTSIDE, _INSIDE = 0.2, 0.8
"""Relative brightness up to which a voxel is outside, and from which it is inside; 0.5 is the surface."""
_ACROSS = 0.8
"""Mean part of a voxel's offset from a position that is perpendicular to the tube: about √(2/3)."""

_njit = numba.njit(cache=True, nogil=True)


def boundary_distance(
    image: np.ndarray, axis: np.ndarray, *, spacing: Sequence[float] | None = None, reach: float = 24.0
) -> np.ndarray:
    """Distance to the surface of the tubes around given centerlines.

    Parameters
    ----------
    image
        ``(y, x)`` or ``(z, y, x)`` brightness, linear (not its square root), of any scale.
    axis
        Bool of the same shape: voxels on centerlines, such as a skeleton or a trace drawn one voxel wide. Tubes without
        such voxels are ignored.
    spacing
        ``(ndim,)`` size of a voxel; default 1.
    reach
        Voxels farther than this from their centerline, in voxels of the finest axis, are outside.

    Returns
    -------
    ndarray
        Of the image's shape, float32, in the unit of the spacing; 0 outside the tubes. A tube thinner than the blur of
        the image appears as thick as the blur.

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
        extra = (1,) * (3 - image.ndim)
        sizes = np.array([*extra, *([1.0] * image.ndim if spacing is None else spacing)], dtype=np.float64)
        _fill_tubes(image.reshape(extra + image.shape), axis.reshape(extra + axis.shape), sizes, reach, share)
    distance = gwdt(share, spacing=spacing)
    # Distances are infinite only if the whole image is inside a tube.
    distance[~np.isfinite(distance)] = 0
    return distance


def _fill_tubes(volume: np.ndarray, axis: np.ndarray, sizes: np.ndarray, reach: float, share: np.ndarray) -> None:
    """Write the share of each voxel that lies inside a tube into ``share``."""
    line = np.argwhere(axis)
    base = _background(volume, line)
    peak = _mean_along_line(volume[axis] - base, line)
    bright = np.flatnonzero(peak > 0)
    ratio = sizes / sizes.min()
    weights = [np.exp(-((np.arange(-1, 2) * r / _BLUR_SIGMA) ** 2) / 2) for r in ratio]
    kernel = weights[0][:, None, None] * weights[1][:, None] * weights[2]
    _grow(volume, line[bright], base[bright], peak[bright], ratio, kernel, reach, share.reshape(volume.shape))


def _background(volume: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """Background at voxels ``(K, 3)``: medians of tiles (of every second voxel), interpolated linearly."""
    tiles = [max(1, round(size / _TILE)) for size in volume.shape]
    borders = [np.linspace(0, size, count + 1).astype(int) for size, count in zip(volume.shape, tiles, strict=True)]
    medians = np.empty(tiles)
    for tile in np.ndindex(*tiles):
        medians[tile] = np.median(volume[tuple(slice(b[t], b[t + 1], 2) for b, t in zip(borders, tile, strict=True))])
    tile_positions = (voxels + 0.5) * np.array(tiles) / volume.shape - 0.5
    return map_coordinates(medians, tile_positions.T, order=1, mode="nearest")


def _mean_along_line(values: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Weighted mean of the value of each centerline voxel ``(K, 3)`` and of those nearest to it."""
    count = min(_ALONG_COUNT, len(line))
    # The size of the leaves decides which of several equally near voxels are taken; it is fixed to keep results stable.
    found = KDTree(line, leafsize=16).query(line, k=count)
    distance, neighbour = (np.reshape(each, (-1, count)) for each in found)
    weight = np.exp(-((distance / _ALONG_SIGMA) ** 2) / 2)
    return (weight * values[neighbour]).sum(axis=1) / weight.sum(axis=1)


@_njit
def _grow(volume, line, base, peak, ratio, kernel, reach, share):
    """Grow outward from the centerline voxels, nearest voxels first, as far as the tube is bright.

    A voxel is compared with the centerline voxel from which it is reached first: the nearest, except at ties and bends.
    """
    known = np.full(volume.shape, np.inf, np.float32)  # least distance in the heap; -1 once a voxel is done
    heap = [(0.0, k, line[k, 0], line[k, 1], line[k, 2]) for k in range(len(line))]
    while heap:
        distance, k, z, y, x = heappop(heap)
        if known[z, y, x] < 0.0:
            continue
        known[z, y, x] = -1.0
        relative = (_smoothed(volume, kernel, z, y, x) - base[k]) / peak[k]
        share[z, y, x] = min(max((relative - _OUTSIDE) / (_INSIDE - _OUTSIDE), 0.0), 1.0)
        if distance > 0.0 and share[z, y, x] == 0.0:
            continue
        for c in range(max(z - 1, 0), min(z + 2, volume.shape[0])):
            for b in range(max(y - 1, 0), min(y + 2, volume.shape[1])):
                for a in range(max(x - 1, 0), min(x + 2, volume.shape[2])):
                    dz, dy, dx = c - line[k, 0], b - line[k, 1], a - line[k, 2]
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
    """Radius of the tubes at positions on their centerlines.

    The distance map is interpolated linearly. A voxel beside the centerline is nearer to the surface by its offset from
    the position, so that is added to its value first.

    Parameters
    ----------
    distance
        Result of :func:`boundary_distance`.
    positions
        ``(N, ndim)`` in voxels, 0 at the centre of the first voxel; positions outside the map are moved to its border.
    spacing
        As given to :func:`boundary_distance`.

    Returns
    -------
    ndarray
        ``(N,)`` float64 in the unit of the spacing; 0 where all voxels around a position are outside the tubes.
    """
    sizes = np.ones(distance.ndim) if spacing is None else np.asarray(spacing, dtype=np.float64)
    top = np.array(distance.shape) - 1
    inside = np.clip(np.asarray(positions, dtype=np.float64).reshape(-1, distance.ndim), 0, top)
    below = np.floor(inside).astype(np.int64)
    radius, deepest = np.zeros(len(inside)), np.zeros(len(inside))
    for corner in product((0, 1), repeat=distance.ndim):
        weight = np.prod(np.where(corner, inside - below, below + 1 - inside), axis=1)
        voxel = np.minimum(below + corner, top)
        value = distance[tuple(voxel.T)]
        offset = np.linalg.norm((voxel - inside) * sizes, axis=1)
        radius += weight * (value + _ACROSS * offset)
        deepest = np.maximum(deepest, value)
    return np.where(deepest > 0, radius, 0.0)
