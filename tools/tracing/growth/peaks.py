"""Peaks of node maps, one for each node, and their centres to a fraction of a pixel.

A *volume* is one node map ``(z, y, x)``; that of an image has one slice. Needs numpy and numba alone, as
:mod:`tools.tracing.growth.geodesic`.
"""

from __future__ import annotations

import math

import numpy as np

from tools.tracing.growth.geodesic import compiled

WINDOW = 1.5
"""Radius, in node radii, of the window in which a peak is centred; see :func:`_centre`."""
ROUNDS = 3
"""Rounds of centring. Two suffice for a peak at the rim of a flat-topped node, 2 px from its centre."""
NODE_SPAN = 2.5
"""A bright pixel within this many node radii of a peak, and downhill of it, is part of the same node. The discs of
radius r alone (docs/paper.md §5) would leave the rim of a node, radius 2.35 px for r = 2, as a second candidate."""
SLACK = 0.2
"""Share of the peak by which the map may rise on the way downhill: the noise on a flat top. Two nodes of σ = 2 px, 4 px
apart, are separated if they are equally high; with 0.1 also if one has only 0.75 of the other's height."""
ORIGIN = (0.0, 0.0, 0.0)
RAY = 4
"""Samples on the line from a peak to a pixel, the pixel included: about one for each pixel passed."""


@compiled
def find_peaks(
    volumes: np.ndarray,
    tips: np.ndarray,
    border: np.ndarray,
    r: float,
    floor: np.float32,
    min_node: np.float32,
    slack: float,
    spacing: np.ndarray,
    longest: float,
    directions: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes around many tips, see :class:`~tools.tracing.growth.gds.Search` for the settings.

    Parameters
    ----------
    volumes
        ``(B, z, y, x)`` float32 node probabilities.
    tips
        ``(B, 3)`` float64 positions of the tips in their maps.
    border
        ``(3,)`` int64.
    r, floor, min_node, slack, spacing, longest
        ``floor`` and ``min_node`` are float32, ``spacing`` is ``(3,)``.
    directions
        ``(num_vec, 3)`` unit vectors of the bins.

    Returns
    -------
    tuple of ndarray
        int64 ``(K,)`` maps, float64 ``(K, 3)`` positions and ``(K,)`` values, of each map the brightest first.
    """
    size = volumes.size // max(len(volumes), 1)
    pixel, height = np.empty((size, 3), np.int64), np.empty(size, np.float32)
    owner, places, score = [0][:0], [0.0][:0], [0.0][:0]
    for b in range(len(volumes)):
        count = _summits(volumes[b], tips[b], border, r, floor, min_node, pixel, height)
        count = _distinct(volumes[b], pixel, height, count, r, slack)
        centres = np.empty((count, 3))
        for k in range(count):
            centres[k] = _centre(volumes[b], pixel[k], WINDOW * r, slack)
        for k in _separate(centres, tips[b], r, spacing, longest, directions):
            owner.append(b)
            places.extend([centres[k, 0], centres[k, 1], centres[k, 2]])
            score.append(float(height[k]))
    return np.array(owner), np.array(places).reshape(-1, 3), np.array(score)


@compiled
def _summits(volume, tip, border, r, floor, min_node, pixel, height):
    """Write the summits off the border and the tip, the highest first, equal ones by pixel; return their number."""
    limit, count = min_node, 0
    for z in range(border[0], volume.shape[0] - border[0]):
        for y in range(border[1], volume.shape[1] - border[1]):
            for x in range(border[2], volume.shape[2] - border[2]):
                value = volume[z, y, x]
                if value <= limit or _squared_distance((z, y, x), tip) <= r**2:
                    continue
                limit = max(limit, floor * value)
                if _is_summit(volume, z, y, x):
                    row = count
                    while row > 0 and height[row - 1] < value:
                        pixel[row], height[row] = pixel[row - 1], height[row - 1]
                        row -= 1
                    pixel[row, 0], pixel[row, 1], pixel[row, 2], height[row] = z, y, x, value
                    count += 1
    while count > 0 and height[count - 1] <= limit:
        count -= 1
    return count


@compiled
def _is_summit(volume, z, y, x):
    """Whether no neighbour is higher. The rim of a node cut off by the border or by the disc of the tip is no peak."""
    for i in range(max(z - 1, 0), min(z + 2, volume.shape[0])):
        for j in range(max(y - 1, 0), min(y + 2, volume.shape[1])):
            for k in range(max(x - 1, 0), min(x + 2, volume.shape[2])):
                if volume[i, j, k] > volume[z, y, x]:
                    return False
    return True


@compiled
def _distinct(volume, pixel, height, count, r, slack):
    """Move the pixels that are not part of the node of an earlier peak to the front; return their number."""
    kept = 0
    for row in range(count):
        free = True
        for peak in range(kept):
            if _same_node(volume, pixel[peak], pixel[row], r, slack):
                free = False
                break
        if free:
            pixel[kept], height[kept] = pixel[row], height[row]
            kept += 1
    return kept


@compiled
def _same_node(volume, peak, pixel, r, slack):
    """Whether a pixel lies within ``r`` of a peak, or downhill of it and within :data:`NODE_SPAN`."""
    squared = _squared_distance(peak, pixel)
    if squared <= r**2:
        return True
    rise = slack * volume[peak[0], peak[1], peak[2]]
    return squared <= (NODE_SPAN * r) ** 2 and _downhill(volume, peak, pixel, rise)


@compiled
def _separate(centres, tip, r, spacing, longest, directions):
    """Rows of the centres ``(K, 3)`` within the longest step that are apart from the tip and from each other.

    Two noise peaks on one broad node are centred on the same place. Of each bin of direction the first one is kept.
    """
    kept, bins, apart = [0][:0], [0][:0], [0][:0]
    for k in range(len(centres)):
        step = (centres[k] - tip) * spacing
        is_near = math.sqrt(_squared_distance(step, ORIGIN)) <= longest
        is_apart = math.sqrt(_squared_distance(centres[k], tip)) > r
        for other in apart:
            is_apart &= _squared_distance(centres[other], centres[k]) > r**2
        if not (is_near and is_apart):
            continue
        apart.append(k)
        best = _nearest_direction(step, directions)
        if best not in bins:
            bins.append(best)
            kept.append(k)
    return kept


@compiled
def _squared_distance(a, b):
    """Squared distance of two points. A loop, because this is the innermost function and arrays cost time."""
    total = 0.0
    for axis in range(3):
        total += (a[axis] - b[axis]) ** 2
    return total


@compiled
def _nearest_direction(step, directions):
    """Row of the unit vector nearest to a step."""
    best, highest = 0, -np.inf
    for row in range(len(directions)):
        along = step[0] * directions[row, 0] + step[1] * directions[row, 1] + step[2] * directions[row, 2]
        if along > highest:
            best, highest = row, along
    return best


@compiled
def _centre(volume, peak, radius, slack):
    """Centre ``(3,)`` of the node at a peak, to a fraction of a pixel.

    The mean position error of the published DRIVE traces is about 0.6 px (PE, docs/paper.md §6); rounding nodes to
    pixels would add as much again. The centre is the centroid of all values above half of the peak that lie downhill
    of it and within 1.5·r. It is computed again around its own result. Each part has a reason:

    - above *half*: the window's own shape, symmetric about the pixel, would otherwise hold the centroid there;
    - *downhill*: a brighter node on a parallel branch would otherwise pull the centre over;
    - *again*: any pixel of a flat-topped node, as the network learns to draw it, may be its peak;
    - *1.5·r*: such a node has a radius of 2.35 px (r = 2), and a smaller window would see only its flat top.
    """
    centre = (float(peak[0]), float(peak[1]), float(peak[2]))
    for _ in range(ROUNDS):
        centre = _centroid(volume, peak, centre, radius, slack)
    return centre


@compiled
def _centroid(volume, peak, centre, radius, slack):
    """Centroid, around ``centre``, of the values above half of ``peak`` that lie downhill of it."""
    highest = volume[peak[0], peak[1], peak[2]]
    total, sum_z, sum_y, sum_x = 0.0, 0.0, 0.0, 0.0
    for z in _window(centre[0], radius, volume.shape[0]):
        for y in _window(centre[1], radius, volume.shape[1]):
            for x in _window(centre[2], radius, volume.shape[2]):
                weight = volume[z, y, x] - 0.5 * highest
                if weight <= 0 or _squared_distance((z, y, x), centre) > radius**2:
                    continue
                if _downhill(volume, peak, (z, y, x), slack * highest):
                    total += weight
                    sum_z, sum_y, sum_x = sum_z + weight * z, sum_y + weight * y, sum_x + weight * x
    return (sum_z / total, sum_y / total, sum_x / total) if total > 0 else centre


@compiled
def _window(centre, radius, size):
    """The pixels of an axis of ``size`` within ``radius`` of a position."""
    return range(max(math.ceil(centre - radius), 0), min(math.floor(centre + radius) + 1, size))


@compiled
def _downhill(volume, peak, pixel, rise):
    """Whether the map never rises by more than ``rise`` on the line from the peak to the pixel."""
    lowest = volume[peak[0], peak[1], peak[2]]
    for step in range(1, RAY + 1):
        z = int(peak[0] + (pixel[0] - peak[0]) * step / RAY + 0.5)
        y = int(peak[1] + (pixel[1] - peak[1]) * step / RAY + 0.5)
        x = int(peak[2] + (pixel[2] - peak[2]) * step / RAY + 0.5)
        value = volume[z, y, x]
        if value > lowest + rise:
            return False
        lowest = min(lowest, value)
    return True
