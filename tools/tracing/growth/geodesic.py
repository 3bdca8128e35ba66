"""Geodesic distances from the tips of a trace along the predicted edge, for many small maps at once.

A map is a graph of pixels, each connected to its 4 (2D) or 6 (3D) neighbours. A step costs the mean of its two pixels'
costs (trapezoid rule) times its length: a path inside a sure edge costs almost nothing, leaving the edge costs much.

Legend: ``B`` maps, one for each tip, ``*S`` their spatial shape, ``(y, x)`` or ``(z, y, x)``, ``K`` target pixels.

The inner loops handle volumes only; an image is a volume of one slice. This module needs numpy and numba alone, so that
it also runs in the environment of GeodisTK, which needs NumPy < 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Literal, NamedTuple

import numba
import numpy as np

from lib.errors import UserError

Solver = Literal["dijkstra", "geodistk"]
"""Solver of the distances: our own search, or the optional package GeodisTK."""

STEEPNESS = 10.0
"""A pixel of edge probability p costs ``exp(STEEPNESS · (1 − p)) − 1`` (docs/paper.md §5): 0 at p = 1, 22 025 at 0."""
_BLOCKED = -1.0
"""Stands for the cost of a pixel that must not be entered."""
_UNKNOWN = -2.0
"""Stands for a cost not yet computed."""

compiled = numba.njit(cache=True, nogil=True)
"""Decorator of the inner loops, here and in :mod:`tools.tracing.growth.peaks`."""


class Paths(NamedTuple):
    """Shortest paths to ``K`` target pixels.

    Attributes
    ----------
    distance
        ``(K,)`` float64 geodesic distance, inf if the target lies beyond the reach.
    edge_mean
        ``(K,)`` float64 mean edge probability of the pixels on the path, both ends included; 0 if there is no path.
    """

    distance: np.ndarray
    edge_mean: np.ndarray


def shortest_paths(
    edge: np.ndarray,
    starts: np.ndarray,
    owner: np.ndarray,
    targets: np.ndarray,
    *,
    reach: float = math.inf,
    spacing: Sequence[float] | None = None,
    solver: Solver = "dijkstra",
) -> Paths:
    """Shortest paths to a few target pixels: the search of a map ends when it has reached all of its targets.

    Parameters
    ----------
    edge
        ``(B, *S)`` edge probabilities.
    starts
        ``(B, ndim)`` int, the start pixel of each map.
    owner
        ``(K,)`` int, the map of each target, ascending.
    targets
        ``(K, ndim)`` int pixels.
    reach
        Pixels farther than this from the start, in a straight line and in units of ``spacing``, are not entered.
    spacing
        ``(ndim,)`` length of a step along each axis; None means 1.
    solver
        See :data:`Solver`. GeodisTK is there for comparison: a patch of a volume takes it over a minute.

    Returns
    -------
    Paths
        GeodisTK gives distances without paths, so ``edge_mean`` always comes from our own search.

    Raises
    ------
    ValueError
        If the shapes do not fit or a start lies outside its map.
    UserError
        If the solver is GeodisTK and it is not installed.
    """
    edge, starts = _checked(edge, starts)
    volume, start = as_volumes(edge, starts)
    first = np.searchsorted(owner, np.arange(len(edge) + 1))
    lengths = _step_lengths(volume.shape[1:], spacing)
    target = lifted(np.asarray(targets, dtype=np.int64))
    paths = Paths(*_all_paths(volume, start, first, target, reach, lengths))
    if solver == "geodistk":
        maps = [_geodistk(one, start, reach, spacing) for one, start in zip(edge, starts, strict=True)]
        distance = np.array(maps, dtype=np.float64).reshape(edge.shape)[(owner, *np.asarray(targets).T)]
        return paths._replace(distance=distance)
    return paths


def _checked(edge: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of the right type. Starts outside their maps are refused, as the loops check no bounds."""
    edge = np.ascontiguousarray(edge, dtype=np.float32)
    starts = np.asarray(starts, dtype=np.int64)
    if edge.ndim not in (3, 4) or starts.shape != (len(edge), edge.ndim - 1):
        raise ValueError(f"edge (B, *S) and starts (B, ndim) do not fit: {edge.shape} and {starts.shape}")
    if np.any((starts < 0) | (starts >= edge.shape[1:])):
        raise ValueError(f"a start lies outside its map of shape {edge.shape[1:]}")
    return edge, starts


def as_volumes(maps: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps ``(B, z, y, x)`` and pixels ``(N, 3)``: those of images become volumes of one slice, with z = 0."""
    return maps.reshape(len(maps), *(1,) * (4 - maps.ndim), *maps.shape[1:]), lifted(pixels)


def lifted(pixels: np.ndarray) -> np.ndarray:
    """``(N, 3)`` pixels or positions; those of an image get z = 0."""
    return np.concatenate([np.zeros((len(pixels), 3 - pixels.shape[1]), pixels.dtype), pixels], axis=1)


def _step_lengths(shape: tuple[int, ...], spacing: Sequence[float] | None) -> np.ndarray:
    """``(3,)`` length of a step along each axis of a volume; 0 along an axis of one pixel, where there is none."""
    lengths = np.ones(3)
    if spacing is not None:
        lengths[3 - len(spacing) :] = spacing
    return np.where(np.array(shape) > 1, lengths, 0.0)


# Dijkstra's search. Costs, distances and predecessors are flat arrays over the volume and a frame of blocked pixels
# around it, so a step is one addition to an index and needs no check of bounds. A search enters few pixels, so costs
# are computed as they are needed.


@compiled
def _framed_index(pixel, shape):
    """Flat index of a pixel in the framed volume of a volume of ``shape``."""
    return ((pixel[0] + 1) * (shape[1] + 2) + pixel[1] + 1) * (shape[2] + 2) + pixel[2] + 1


@compiled
def _framed_steps(shape, lengths):
    """Index offset and length of the steps to the neighbours, two along each axis of more than one pixel."""
    strides = ((shape[1] + 2) * (shape[2] + 2), shape[2] + 2, 1)
    offset, length = [], []
    for axis in range(3):
        if lengths[axis] > 0:
            for sign in (-1, 1):
                offset.append(sign * strides[axis])
                length.append(lengths[axis])
    return np.array(offset), np.array(length)


@compiled
def _cost(edge, index, start, reach, lengths):
    """Cost of the pixel at a framed index; blocked in the frame and beyond the reach."""
    row, column = divmod(index, edge.shape[2] + 2)
    z, y, x = row // (edge.shape[1] + 2) - 1, row % (edge.shape[1] + 2) - 1, column - 1
    if not (0 <= z < edge.shape[0] and 0 <= y < edge.shape[1] and 0 <= x < edge.shape[2]):
        return _BLOCKED
    across = ((z - start[0]) * lengths[0]) ** 2 + ((y - start[1]) * lengths[1]) ** 2
    if across + ((x - start[2]) * lengths[2]) ** 2 > reach**2:
        return _BLOCKED
    return max(math.exp(STEEPNESS * (1.0 - edge[z, y, x])) - 1.0, 0.0)


@compiled
def _dijkstra(edge, start, ends, reach, lengths, offsets, step_lengths, cost, distance, previous):
    """Fill the arrays from the pixel ``start`` until the distances at the framed indices ``ends`` are final.

    Returns the pixels whose costs were computed.
    """
    distance[ends] = np.inf
    wanted = 0
    for end in ends:
        wanted += _cost(edge, end, start, reach, lengths) != _BLOCKED
    first = _framed_index(start, edge.shape)
    cost[first], distance[first], previous[first] = _cost(edge, first, start, reach, lengths), 0.0, -1
    heap, known = [(0.0, first)], [first]
    while heap:
        reached, here = heappop(heap)
        if reached > distance[here]:
            continue  # A shorter path was found after this entry was made.
        wanted -= (ends == here).sum()
        if wanted == 0:
            break
        for step in range(len(offsets)):
            there = here + offsets[step]
            if cost[there] == _UNKNOWN:
                cost[there], distance[there] = _cost(edge, there, start, reach, lengths), np.inf
                known.append(there)
            if cost[there] == _BLOCKED:
                continue
            total = reached + 0.5 * (cost[here] + cost[there]) * step_lengths[step]
            if total < distance[there]:
                distance[there], previous[there] = total, here
                heappush(heap, (total, there))
    return known


@compiled
def _all_paths(edge, starts, first, targets, reach, lengths):
    """Distance and mean edge of the targets; those of map b are rows ``first[b]`` to ``first[b + 1]``."""
    size = (edge.shape[1] + 2) * (edge.shape[2] + 2) * (edge.shape[3] + 2)
    cost, distance, previous = np.full(size, _UNKNOWN), np.empty(size), np.empty(size, np.int64)
    offsets, step_lengths = _framed_steps(edge.shape[1:], lengths)
    far, mean = np.full(len(targets), np.inf), np.zeros(len(targets))
    for b in range(len(edge)):
        rows = range(first[b], first[b + 1])
        ends = np.array([_framed_index(targets[k], edge.shape[1:]) for k in rows])
        if len(ends) == 0:
            continue
        known = _dijkstra(edge[b], starts[b], ends, reach, lengths, offsets, step_lengths, cost, distance, previous)
        for k in rows:
            far[k] = distance[ends[k - first[b]]]
            if far[k] < np.inf:
                mean[k] = _mean_edge(cost, previous, ends[k - first[b]])
        for index in known:
            cost[index] = _UNKNOWN
    return far, mean


@compiled
def _mean_edge(cost, previous, end):
    """Mean edge probability on the path to ``end``, computed from the costs."""
    total, count, here = 0.0, 0, end
    while here >= 0:
        total += 1.0 - math.log(cost[here] + 1.0) / STEEPNESS
        count += 1
        here = previous[here]
    return total / count


# GeodisTK uses another graph: 8 or 26 neighbours, and a step costs the *difference* of its two pixels' values (vectors,
# one number per channel) times its length. A grid of twice the size represents our graph in it exactly. Our pixels have
# the value 0. The place between two neighbours along axis a has half their step's cost in channel a, so passing it
# costs the whole. All other places are walls. A diagonal between two such places is no short cut: it costs
# √2·√(a² + b²) ≥ a + b, the cost of the path through the pixel between them. Only rounding differs: GeodisTK computes
# in float32, in which the small costs of a confident edge vanish beside the costs of the background.


def _doubled_grid(cost: np.ndarray, spacing: Sequence[float] | np.ndarray) -> np.ndarray:
    """Image ``(*(2·S − 1), ndim)`` float32 in which GeodisTK's distances are ours; inf in ``cost`` becomes a wall."""
    ndim = cost.ndim
    grid = np.full((*(2 * size - 1 for size in cost.shape), ndim), np.inf, dtype=np.float32)
    grid[(slice(None, None, 2),) * ndim] = 0
    for axis, length in enumerate(spacing):
        between = [slice(None, None, 2)] * ndim
        between[axis] = slice(1, None, 2)
        before = np.take(cost, np.arange(cost.shape[axis] - 1), axis)
        after = np.take(cost, np.arange(1, cost.shape[axis]), axis)
        grid[tuple(between)] = np.where(np.isfinite(before + after), 0, np.inf)[..., None]
        grid[(*between, axis)] = (before + after) * length / 4
    walls = np.isinf(grid)
    # A wall costs more than any path around it.
    grid[walls] = 4 * grid[~walls].sum(dtype=np.float64) + 1
    return grid


def _geodistk(edge: np.ndarray, start: np.ndarray, reach: float, spacing: Sequence[float] | None) -> np.ndarray:
    """Distances of one map ``*S`` by GeodisTK, float32."""
    lengths = np.ones(edge.ndim) if spacing is None else np.asarray(spacing, dtype=float)
    far = np.minimum(reach / lengths, max(edge.shape)).astype(int)
    low = np.maximum(start - far, 0)
    box = tuple(slice(a, b + n + 1) for a, b, n in zip(low, start, far, strict=True))
    inside = _ball(edge[box].shape, start - low, reach, lengths)
    cost = np.maximum(np.expm1(STEEPNESS * (1.0 - edge[box].astype(np.float64))), 0)
    grid = _doubled_grid(np.where(inside, cost, np.inf), lengths)
    distance = np.full(edge.shape, np.inf, dtype=np.float32)
    distance[box] = np.where(inside, _marched(grid, 2 * (start - low)), np.inf)
    return distance


def _ball(shape: tuple[int, ...], centre: np.ndarray, radius: float, lengths: np.ndarray) -> np.ndarray:
    """``shape`` bool, the pixels within ``radius`` of ``centre`` ``(ndim,)``, in units of ``lengths`` ``(ndim,)``."""
    offset = np.moveaxis(np.indices(shape), 0, -1) - centre
    return ((offset * lengths) ** 2).sum(axis=-1) <= radius**2


def _marched(grid: np.ndarray, start: np.ndarray) -> np.ndarray:
    """GeodisTK's fast marching over a doubled grid, sampled at the pixels.

    Its other method, the raster scan, must be repeated for every turn of a path.
    """
    try:
        import GeodisTK  # type: ignore[import-not-found]  # optional; builds only against NumPy 1
    except ImportError as error:
        raise UserError("--geodesic geodistk: GeodisTK is not installed; run `make geodistk`") from error
    seeds = np.zeros(grid.shape[:-1], dtype=np.uint8)
    seeds[tuple(start)] = 1
    if seeds.ndim == 2:
        return GeodisTK.geodesic2d_fast_marching(grid, seeds)[::2, ::2]
    return GeodisTK.geodesic3d_fast_marching(grid, seeds, (1.0, 1.0, 1.0))[::2, ::2, ::2]
