"""The way along a tube between two places: the cheapest path over a map of centerline probabilities.

A pixel of probability p costs ``1 / (p + FLOOR)``. The tracer's own search (:mod:`tools.tracing.growth.geodesic`)
makes the background a thousand times dearer, because it must never leave a tube. A missing piece is missing because
the map is faint there, so here a faint ridge counts and a gap can be crossed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from skimage.graph import MCP_Geometric

from lib.klib.windows import box

FLOOR = 0.03
"""A straight gap is crossed rather than gone around on a tube that is ``1 / FLOOR`` times as long."""
MARGIN, MARGIN_SHARE = 16, 0.5
"""Pixels of the box beyond both ends, and the same as a part of their distance."""
GROWTHS = 2
"""How often the box doubles its margin if the path runs along its side."""
SIDE = 4
"""Pixels along the sides of the box that count as its side."""
MOST_PIXELS = 100_000
"""Of a search. A larger box is searched on a coarser grid, then along that path on finer and finer ones."""
SMALLEST_AXIS = 16
"""Pixels below which an axis, such as that of few slices, stays as it is on coarser grids."""
CORRIDOR = 2
"""Coarse pixels to each side of the coarse path that the next finer search may enter."""
SMOOTH = 1.5
"""Standard deviation in nodes of the Gaussian that takes the steps of the pixels out of a path."""


class ProbabilityMap:
    """A map of centerline probabilities, and how far its pixels lie apart.

    Parameters
    ----------
    pixels
        ``(*S,)`` of any number type; may be mapped from a file.
    top
        Value that is a probability of 1.
    spacing
        ``(ndim,)`` lengths of a pixel along each axis.
    """

    def __init__(self, pixels: np.ndarray, top: float, spacing: np.ndarray) -> None:
        self.pixels, self.top, self.spacing = pixels, top, spacing

    @property
    def shape(self) -> np.ndarray:
        """``(ndim,)`` its size in pixels."""
        return np.array(self.pixels.shape)

    def window(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Values of the pixels from ``low`` (included) to ``high`` (excluded)."""
        return np.asarray(self.pixels[box(low, high)])

    def brightness(self, pixels: np.ndarray) -> np.ndarray:
        """Values ``(K,)`` of pixels ``(K, ndim)``; the more, the surer they lie on a tube."""
        return np.asarray(self.pixels[tuple(pixels.T)], dtype=np.float64)

    def cost(self, values: np.ndarray) -> np.ndarray:
        """Cost per length of pixels with the given values."""
        return 1 / (np.clip(values / np.float64(self.top), 0, 1) + FLOOR)


def find_route(
    centerline: ProbabilityMap, start: np.ndarray, end: np.ndarray, traced: np.ndarray | None = None
) -> np.ndarray:
    """Find the path between two places of a map.

    Parameters
    ----------
    centerline
        The map.
    start, end
        ``(ndim,)`` positions in pixels of the map; a place outside of it counts as the nearest pixel.
    traced
        ``(K, ndim)`` positions, at most a pixel apart along a line, at which a tube is traced already: they count as
        background, so that the path crosses such a tube but does not follow it.

    Returns
    -------
    ndarray
        ``(n, ndim)`` positions, about a pixel apart and smooth, from the start to the end, both included as given.
    """
    ends = np.clip(np.rint(np.stack([start, end])).astype(int), 0, centerline.shape - 1)
    across = np.abs(ends[1] - ends[0]).max()
    margin = int(MARGIN + MARGIN_SHARE * across)
    path = ends
    for _ in range(GROWTHS + 1):
        low = np.maximum(ends.min(axis=0) - margin, 0)
        high = np.minimum(ends.max(axis=0) + margin + 1, centerline.shape)
        values = _without(centerline.window(low, high), traced, low)
        path = _searched(centerline, values, ends - low) + low
        on_side = ((path < low + SIDE) & (low > 0)) | ((path >= high - SIDE) & (high < centerline.shape))
        if not on_side.any():
            break
        margin *= 2
    return smoothed(path, start, end)


def smoothed(path: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A path of pixels ``(n, ndim)`` as a smooth line between two given ends."""
    line = np.concatenate([[start], path[1:-1], [end]]).astype(np.float64)
    if len(line) > 3:
        line[1:-1] = gaussian_filter1d(line, SMOOTH, axis=0, mode="nearest")[1:-1]
    return line


def _without(values: np.ndarray, traced: np.ndarray | None, low: np.ndarray) -> np.ndarray:
    """Values of a window that begins at ``low``; 0 within a pixel of the places that are traced."""
    if traced is None or not len(traced):
        return values
    beside = np.indices((3,) * values.ndim).reshape(values.ndim, -1).T - 1
    pixels = (np.rint(traced).astype(int) - low + beside[:, None]).reshape(-1, values.ndim)
    pixels = pixels[((pixels >= 0) & (pixels < values.shape)).all(axis=1)]
    values = values.copy()
    values[tuple(pixels.T)] = 0
    return values


def _searched(centerline: ProbabilityMap, pixels: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Cheapest path ``(n, ndim)`` of pixels in a window of the map, between two pixels ``(2, ndim)`` of it."""
    grids, factors = [pixels], [np.ones(pixels.ndim, dtype=int)]
    while grids[-1].size > MOST_PIXELS:
        halved = np.where(np.array(grids[-1].shape) >= SMALLEST_AXIS, 2, 1)
        grids.append(_coarser(grids[-1], halved))
        factors.append(factors[-1] * halved)
    path = _path_in_box(centerline.cost(grids[-1]), ends // factors[-1], centerline.spacing * factors[-1])
    for level in range(len(grids) - 2, -1, -1):
        grid, factor = grids[level], factors[level]
        cells = _corridor(path, factors[level + 1] // factor, grid.shape)
        cost = centerline.cost(grid.ravel()[cells])
        path = _path_among(cells, cost, grid.shape, ends // factor, centerline.spacing * factor)
    return path


def _coarser(pixels: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Largest value of every two pixels along the axes of which the factor is 2: thin tubes stay."""
    for axis in np.flatnonzero(factors == 2):
        ahead = np.moveaxis(pixels, axis, 0)
        half = ahead[::2].copy()
        np.maximum(half[: len(ahead) // 2], ahead[1::2], out=half[: len(ahead) // 2])
        pixels = np.moveaxis(half, 0, axis)
    return np.ascontiguousarray(pixels)


def _corridor(path: np.ndarray, factors: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Flat indices, ascending, of the pixels of a grid that lie around a path on the next coarser one."""
    reach = np.indices((2 * CORRIDOR + 1,) * path.shape[1]).reshape(path.shape[1], -1).T - CORRIDOR
    coarse = np.unique((path[:, None] + reach).reshape(-1, path.shape[1]), axis=0)
    inside = np.indices(tuple(factors.tolist())).reshape(len(factors), -1).T
    cells = (coarse[:, None] * factors + inside).reshape(-1, len(factors))
    cells = cells[((cells >= 0) & (cells < shape)).all(axis=1)]
    return np.sort(np.ravel_multi_index(tuple(cells.T), tuple(shape)))


def _path_in_box(cost: np.ndarray, ends: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Cheapest path over all pixels of a box."""
    start, end = (tuple(each.tolist()) for each in ends)
    search = MCP_Geometric(cost, sampling=tuple(spacing.tolist()))
    search.find_costs([start], [end])
    return np.array(search.traceback(end))


def _path_among(
    cells: np.ndarray, cost: np.ndarray, shape: Sequence[int], ends: np.ndarray, spacing: np.ndarray
) -> np.ndarray:
    """Cheapest path over some pixels of a grid, given by their flat indices, ascending, and their costs."""
    place = np.stack(np.unravel_index(cells, tuple(shape)), axis=1)
    steps = np.indices((3,) * len(shape)).reshape(len(shape), -1).T - 1
    steps = steps[len(steps) // 2 + 1 :]  # one of each two opposite steps
    # On a grid with a pixel more on each side, no step leads out of it to the next line.
    wide = np.array(shape) + 2
    lines = np.append(np.cumprod(wide[:0:-1])[::-1], 1)  # pixels from one place to the next along each axis
    padded, offsets = (place + 1) @ lines, steps @ lines
    pairs, lengths = [], []
    for step, offset in zip(steps, offsets, strict=True):
        there = np.minimum(np.searchsorted(padded, padded + offset), len(cells) - 1)
        here = np.flatnonzero(padded[there] == padded + offset)
        pairs.append(np.stack([here, there[here]]))
        lengths.append(np.full(len(here), np.linalg.norm(step * spacing)))
    (a, b), length = np.concatenate(pairs, axis=1), np.concatenate(lengths)
    graph = csr_matrix(((cost[a] + cost[b]) / 2 * length, (a, b)), shape=(len(cells), len(cells)))
    flat = np.asarray(np.ravel_multi_index(tuple(ends.T), tuple(shape)))
    start, here = np.searchsorted(cells, flat).tolist()
    _, before = dijkstra(graph, directed=False, indices=start, return_predecessors=True)
    rows = [here]
    while here != start:
        here = int(before[here])
        rows.append(here)
    return place[rows[::-1]]
