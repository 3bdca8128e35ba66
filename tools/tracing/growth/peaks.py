"""Peaks of node maps, one for each node, and their centres to a fraction of a pixel.

Legend: ``B`` node maps, those of images as volumes of one slice ``(B, z, y, x)``; ``K`` pixels or peaks, each with the
map that it lies in, its *owner*. Owners ascend. Needs numpy and numba alone, as :mod:`tools.tracing.growth.geodesic`.
"""

from __future__ import annotations

import numpy as np

from tools.tracing.growth.geodesic import as_volumes, compiled

WINDOW = 1.5
"""Radius, in node radii, of the window in which a peak is centred; see :func:`peak_centres`."""
ROUNDS = 3
"""Rounds of centring. Two suffice for a peak at the rim of a flat-topped node, 2 px from its centre."""
NODE_SPAN = 2.5
"""A bright pixel within this many node radii of a peak, and downhill of it, is part of the same node. The discs of
radius r alone (docs/paper.md §5) would leave the rim of a node, radius 2.35 px for r = 2, as a second candidate."""
SLACK = 0.2
"""Share of the peak by which the map may rise on the way downhill: the noise on a flat top. Two nodes of σ = 2 px, 4 px
apart, are separated if they are equally high; with 0.1 also if one has only 0.75 of the other's height."""
RAY = 4
"""Samples on the line from a peak to a pixel, the pixel included: about one for each pixel passed."""


def peak_centres(
    node: np.ndarray, owner: np.ndarray, pixel: np.ndarray, r: float, *, slack: float = SLACK
) -> np.ndarray:
    """Centres of the nodes at the given peaks, to a fraction of a pixel.

    The mean position error of the published DRIVE traces is about 0.6 px (PE, docs/paper.md §6); rounding nodes to
    pixels would add as much again. The centre is the centroid of all values above half of the peak that lie downhill
    of it and within 1.5·r. It is computed again around its own result. Each part has a reason:

    - above *half*: the window's own shape, symmetric about the pixel, would otherwise hold the centroid there;
    - *downhill*: a brighter node on a parallel branch would otherwise pull the centre over;
    - *again*: any pixel of a flat-topped node, as the network learns to draw it, may be its peak;
    - *1.5·r*: such a node has a radius of 2.35 px (r = 2), and a smaller window would see only its flat top.

    Parameters
    ----------
    node
        ``(B, *S)`` node probabilities.
    owner
        ``(K,)`` int, the map of each peak.
    pixel
        ``(K, ndim)`` int, the peaks.
    r
        Node radius in pixels.
    slack
        See :data:`SLACK`.

    Returns
    -------
    ndarray
        ``(K, ndim)`` float64 positions in the maps.
    """
    volume, peak = as_volumes(np.asarray(node), np.asarray(pixel, dtype=np.int64))
    return _centres(volume, owner, peak, WINDOW * r, slack)[:, 4 - node.ndim :]


@compiled
def distinct_peaks(volume: np.ndarray, pixel: np.ndarray, owner: np.ndarray, r: float, slack: float) -> np.ndarray:
    """Rows of the pixels ``(K, 3)`` that are summits and not part of the node of an earlier, brighter peak.

    The pixels of each map come in descending order of their values.
    """
    kept = np.empty(len(owner), np.int64)
    count, first = 0, 0
    for row in range(len(owner)):
        if row > 0 and owner[row] != owner[row - 1]:
            first = count
        free = _is_summit(volume[owner[row]], pixel[row])
        for peak in kept[first:count]:
            if not free:
                break
            free = not _same_node(volume[owner[row]], pixel[peak], pixel[row], r, slack)
        if free:
            kept[count] = row
            count += 1
    return kept[:count]


@compiled
def well_separated(owner: np.ndarray, position: np.ndarray, radius: float) -> np.ndarray:
    """Rows of the positions ``(K, ndim)`` with no earlier kept position of the same owner within ``radius``."""
    kept = np.empty(len(owner), np.int64)
    count, first = 0, 0
    for row in range(len(owner)):
        if row > 0 and owner[row] != owner[row - 1]:
            first = count
        squared = ((position[kept[first:count]] - position[row]) ** 2).sum(axis=1)
        if np.all(squared > radius**2):
            kept[count] = row
            count += 1
    return kept[:count]


@compiled
def _squared_distance(a, b):
    """Squared distance of two points. A loop, because this is the innermost function and arrays cost time."""
    total = 0.0
    for axis in range(len(a)):
        total += (a[axis] - b[axis]) ** 2
    return total


@compiled
def _is_summit(volume, pixel):
    """Whether no neighbour is higher. The rim of a node cut off by the border or by the disc of the tip is no peak."""
    height = volume[pixel[0], pixel[1], pixel[2]]
    low = np.maximum(pixel - 1, 0)
    high = np.minimum(pixel + 2, np.array(volume.shape))
    return volume[low[0] : high[0], low[1] : high[1], low[2] : high[2]].max() <= height


@compiled
def _same_node(volume, peak, pixel, r, slack):
    """Whether a pixel lies within ``r`` of a peak, or downhill of it and within :data:`NODE_SPAN`."""
    squared = _squared_distance(peak, pixel)
    if squared <= r**2:
        return True
    rise = slack * volume[peak[0], peak[1], peak[2]]
    return squared <= (NODE_SPAN * r) ** 2 and _downhill(volume, peak, pixel, rise)


@compiled
def _centres(volume, owner, peaks, radius, slack):
    """Centres ``(K, 3)`` of the nodes at ``peaks`` ``(K, 3)`` of the maps ``(B, z, y, x)``."""
    centres = peaks.astype(np.float64)
    for k in range(len(peaks)):
        for _ in range(ROUNDS):
            centres[k] = _centroid(volume[owner[k]], peaks[k], centres[k], radius, slack)
    return centres


@compiled
def _centroid(volume, peak, centre, radius, slack):
    """Centroid, around ``centre``, of the values above half of ``peak`` that lie downhill of it."""
    highest = volume[peak[0], peak[1], peak[2]]
    total, moment = 0.0, np.zeros(3)
    low = np.maximum(np.ceil(centre - radius), 0).astype(np.int64)
    high = np.minimum(np.floor(centre + radius) + 1, np.array(volume.shape)).astype(np.int64)
    for z in range(low[0], high[0]):
        for y in range(low[1], high[1]):
            for x in range(low[2], high[2]):
                weight = volume[z, y, x] - 0.5 * highest
                squared = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
                if weight > 0 and squared <= radius**2 and _downhill(volume, peak, (z, y, x), slack * highest):
                    total += weight
                    moment += weight * np.array([z, y, x])
    return moment / total if total > 0 else centre


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
