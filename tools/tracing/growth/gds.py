"""GDS, the geodesic distance-based search of NETracer (docs/paper.md §1), for many tips at once.

The node map says where the next node may be, the edge map which way leads there. Of all candidates the one *nearest
along the edge* is kept, not the brightest: a bright node on a neighbouring branch lies far away along our edge.

Legend: ``B`` tips, each with maps of spatial shape ``*S``, ``(y, x)`` or ``(z, y, x)``; ``K`` candidates of all tips,
in flat arrays. All positions are pixel-centre coordinates of the maps ("local"). What is drawn is measured in pixels,
what is walked in *units*: pixels of the finest axis, see :attr:`Search.spacing`; in 2D both are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numba
import numpy as np

from tools.tracing.growth.geodesic import Solver, as_volumes, shortest_paths

STEP_LIMIT = 10.0
"""A step longer than this many node radii is refused (docs/paper.md §5)."""
WINDOW = 1.5
"""Radius, in node radii, of the window in which a peak is refined; see :func:`peak_centres`."""
REFINEMENTS = 3
"""Rounds of refinement: from a peak at the rim of a flat-topped node, 2 px off, two come to rest, about 0.1 px off."""
NODE_SPAN = 2.5
"""A bright pixel nearer to a peak than this, in node radii, and downhill of it is part of the same node. The discs of
radius r alone (docs/paper.md §5) would leave the rim of a node, radius 2.35 px (r = 2), as a second candidate."""
SLACK = 0.2
"""Share of the peak by which the way downhill from it may rise again: the noise on a flat top. Two nodes of σ = 2 px,
4 px apart, are told apart with 0.1 where the fainter has 0.75 of the other's height, with 0.2 where they are alike."""
RAY = 4
"""Places looked at on the way downhill from a peak to a pixel, the pixel included: about one for each pixel passed."""

_njit = numba.njit(cache=True, nogil=True)


@dataclass(frozen=True)
class Search:
    """What counts as a candidate.

    Attributes
    ----------
    r
        Node radius: 2 for DRIVE, CHASEDB1 and 3D, 3 for ROAD (docs/paper.md §5). Candidates of one tip lie farther
        apart than this, and farther from the tip.
    num_vec
        Bins of direction around the tip (docs/paper.md §5); only the strongest candidate of a bin is kept.
    max_step
        A candidate farther from the tip than this, in units, is refused; None means 10·r (docs/paper.md §5).
    border
        Pixels along the border of the map that are ignored (docs/paper.md §5: 4), one number or one per axis: of a
        volume of 16 slices it would take half.
    floor
        A peak must be above this share of its map's highest value (docs/paper.md §5: half).
    min_node
        A peak must also be above this probability, or every empty map would have candidates. Ours: the weighted loss
        with β = 0.9 makes 0.02 of a probability of 1 in 440 (docs/paper.md §6). On three simulated volumes
        0.03 instead of 0.1 finds up to 4 % more of the length; on images of DRIVE 0.02 and 0.1 score the same.
    spacing
        Size of a pixel along each axis in units of the finest, see :func:`~lib.klib.spaces.normalised`; None means 1.
    solver
        Who computes geodesic distances.
    slack
        See :data:`SLACK`.
    """

    r: float
    num_vec: int = 50
    max_step: float | None = None
    border: int | tuple[int, ...] = 4
    floor: float = 0.5
    min_node: float = 0.02
    spacing: tuple[float, ...] | None = None
    solver: Solver = "dijkstra"
    slack: float = SLACK

    def in_units(self, steps: np.ndarray) -> np.ndarray:
        """Steps ``(..., ndim)`` in pixels, in units."""
        return steps if self.spacing is None else steps * np.array(self.spacing)

    @property
    def longest(self) -> float:
        """The longest step allowed, in units."""
        return STEP_LIMIT * self.r if self.max_step is None else self.max_step

    @property
    def reach(self) -> float:
        """How far from the tip a path may lead, in units: one node radius beyond the longest step, for the bends."""
        return self.longest + self.r


@dataclass(frozen=True)
class Candidates:
    """Candidates of many tips, those of one tip together.

    Attributes
    ----------
    owner
        ``(K,)`` int64, row of the tip in the batch, ascending.
    position
        ``(K, ndim)`` float64 local position, refined to a fraction of a pixel.
    score
        ``(K,)`` float64 node probability at the peak.
    geodesic
        ``(K,)`` float64 distance from the tip along the edge map; inf beyond the reach, NaN before it is measured.
    edge_mean
        ``(K,)`` float64 mean edge probability on that path: high where the edge truly leads there, low where the path
        had to cross background. NaN before it is measured.
    """

    owner: np.ndarray
    position: np.ndarray
    score: np.ndarray
    geodesic: np.ndarray
    edge_mean: np.ndarray

    def __len__(self) -> int:
        return len(self.owner)

    def take(self, rows: np.ndarray) -> Candidates:
        """The candidates at ``rows``: indices or a mask."""
        return Candidates(*(getattr(self, field.name)[rows] for field in fields(self)))

    def winners(self) -> Candidates:
        """The first candidate of every tip that has one."""
        return self.take(np.diff(self.owner, prepend=-1) != 0)


def search_batch(
    node: np.ndarray, edge: np.ndarray, tips: np.ndarray, search: Search, *, use_edge: bool = True
) -> Candidates:
    """Candidates of every tip, the best first.

    Parameters
    ----------
    node, edge
        ``(B, *S)`` probabilities.
    tips
        ``(B, ndim)`` local positions of the tips.
    search
        See :class:`Search`.
    use_edge
        False sorts by score and measures no distance: the node-only search that the paper compares with.

    Returns
    -------
    Candidates
        Sorted for each tip by geodesic distance. Where an edge so sure that it costs nothing makes distances equal,
        the nearer in a straight line comes first, then the brighter.
    """
    found = find_candidates(node, tips, search)
    if not use_edge:
        return found
    starts, targets = (_pixel(p, node.shape[1:]) for p in (tips, found.position))
    paths = shortest_paths(
        edge, starts, found.owner, targets, reach=search.reach, spacing=search.spacing, solver=search.solver
    )
    straight = np.linalg.norm(search.in_units(found.position - np.asarray(tips)[found.owner]), axis=1)
    order = np.lexsort((-found.score, straight, paths.distance, found.owner))
    return Candidates(found.owner, found.position, found.score, paths.distance, paths.edge_mean).take(order)


def find_candidates(node: np.ndarray, tips: np.ndarray, search: Search) -> Candidates:
    """Peaks of the node maps, the brightest first for each tip; their ``geodesic`` and ``edge_mean`` are NaN.

    Parameters
    ----------
    node
        ``(B, *S)`` node probabilities.
    tips
        ``(B, ndim)`` local positions of the tips.
    search
        See :class:`Search`.
    """
    node, tips = np.asarray(node), np.asarray(tips, dtype=np.float64)
    if tips.shape != (len(node), node.ndim - 1):
        raise ValueError(f"node (B, *S) and tips (B, ndim) do not fit: {node.shape} and {tips.shape}")
    owner, pixel, score = _bright_pixels(node, tips, search)
    peak = _peaks(*as_volumes(node, pixel), owner, search.r, search.slack)
    owner, pixel, score = owner[peak], pixel[peak], score[peak]
    position = peak_centres(node, owner, pixel, search.r, slack=search.slack)
    step = search.in_units(position - tips[owner])
    from_tip = np.linalg.norm(position - tips[owner], axis=1)
    kept = np.flatnonzero((from_tip > search.r) & (np.linalg.norm(step, axis=1) <= search.longest))
    # Two peaks of noise on one broad node are refined to one place.
    kept = kept[_well_separated(owner[kept], position[kept], search.r)]
    kept = kept[_first_of_each(owner[kept], _direction_bins(step[kept], search.num_vec))]
    unknown = np.full(len(kept), np.nan)
    return Candidates(owner[kept], position[kept], score[kept], unknown, unknown)


def peak_centres(
    node: np.ndarray, owner: np.ndarray, pixel: np.ndarray, r: float, *, slack: float = SLACK
) -> np.ndarray:
    """Centres of the nodes whose peaks are given, to a fraction of a pixel.

    The mean position error of the published DRIVE traces is about 0.6 px (PE, docs/paper.md §6): rounding nodes to
    pixels would add as much again. The centre is the centroid of what stands above half of the peak and lies downhill
    of it, within 1.5·r, taken again around its own result. Each part is there for a reason:

    - above *half*: otherwise the window's own shape, the same on all sides, holds the centroid back at the pixel;
    - *downhill*: otherwise a brighter node on a parallel branch draws the centre over to itself;
    - *again*: the peak of a flat-topped node, as the network learns to draw it, may be any of its pixels;
    - *1.5·r*: such a node's radius is 2.35 px (r = 2), and within a smaller window it looks the same everywhere.

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
        ``(K, ndim)`` float64 local positions.
    """
    volume, peak = as_volumes(np.asarray(node), np.asarray(pixel, dtype=np.int64))
    return _peak_centres(volume, owner, peak, WINDOW * r, slack)[:, 4 - node.ndim :]


def unit_directions(count: int, ndim: int) -> np.ndarray:
    """``(count, ndim)`` unit vectors spread evenly: equal angles from the x axis in 2D, a Fibonacci sphere in 3D."""
    index = np.arange(count)
    if ndim == 2:
        angle = 2 * math.pi * index / count
        return np.stack([np.sin(angle), np.cos(angle)], axis=1)
    height = 1 - (2 * index + 1) / count
    angle = math.pi * (3 - math.sqrt(5)) * index
    across = np.sqrt(1 - height**2)
    return np.stack([height, across * np.sin(angle), across * np.cos(angle)], axis=1)


def _bright_pixels(node: np.ndarray, tips: np.ndarray, search: Search) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Owner ``(P,)``, pixel ``(P, ndim)`` and value ``(P,)`` of what may be a peak, brightest first for each tip."""
    shape = node.shape[1:]
    inner = _without_tip(_without_border(node, search.border), tips, search.r)
    flat = inner.reshape(len(node), math.prod(shape))
    highest = flat.max(axis=1, initial=0.0)
    above = flat > np.maximum(search.floor * highest, search.min_node)[:, None]
    owner, index = np.nonzero(above)
    value = flat[owner, index].astype(np.float64)
    # Equal values in the order of their pixels: the search is the same every time.
    order = np.lexsort((index, -value, owner))
    pixel = np.stack(np.unravel_index(index[order], shape), axis=1)
    return owner[order], pixel, value[order]


def _without_border(node: np.ndarray, border: int | Sequence[int]) -> np.ndarray:
    """A copy of the maps with 0 along their borders."""
    ndim = node.ndim - 1
    widths = (border,) * ndim if isinstance(border, int) else border
    inner = tuple(slice(width, size - width) for width, size in zip(widths, node.shape[1:], strict=True))
    copy = np.zeros_like(node)
    copy[(slice(None), *inner)] = node[(slice(None), *inner)]
    return copy


def _without_tip(node: np.ndarray, tips: np.ndarray, r: float) -> np.ndarray:
    """The maps themselves, with 0 within ``r`` of each tip."""
    shape = np.array(node.shape[1:])
    disc = _pixel(tips, node.shape[1:])[:, None] + _ball_offsets(r + 1, len(shape))
    near = ((disc - tips[:, None]) ** 2).sum(axis=2) <= r**2
    near &= np.all((disc >= 0) & (disc < shape), axis=2)
    row, place = np.nonzero(near)
    node[(row, *disc[row, place].T)] = 0
    return node


def _pixel(position: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The pixel of a map of ``shape`` nearest to each position ``(N, ndim)``, int64."""
    return np.clip(np.floor(np.asarray(position) + 0.5), 0, np.array(shape) - 1).astype(np.int64)


def _ball_offsets(radius: float, ndim: int) -> np.ndarray:
    """``(M, ndim)`` int offsets of the pixels within ``radius`` of a pixel."""
    reach = int(radius)
    grid = np.indices((2 * reach + 1,) * ndim).reshape(ndim, -1).T - reach
    return grid[(grid**2).sum(axis=1) <= radius**2]


def _direction_bins(step: np.ndarray, num_vec: int) -> np.ndarray:
    """``(K,)`` number of the direction nearest to each step ``(K, ndim)``."""
    # Not a matrix product: BLAS may round one candidate otherwise than a thousand.
    return (step[:, None] * unit_directions(num_vec, step.shape[1])).sum(axis=2).argmax(axis=1)


def _first_of_each(owner: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Rows, ascending, of the first candidate of every group of every owner."""
    _, first = np.unique(np.stack([owner, group]), axis=1, return_index=True)
    return np.sort(first)


@_njit
def _squared_distance(a, b):
    """Between two points, with no array made on the way: this is the innermost loop."""
    total = 0.0
    for axis in range(len(a)):
        total += (a[axis] - b[axis]) ** 2
    return total


@_njit
def _well_separated(owner, position, radius):
    """Rows of the candidates that no earlier kept one of the same owner lies within ``radius`` of."""
    kept = np.empty(len(owner), np.int64)
    count, first = 0, 0
    for row in range(len(owner)):
        if row > 0 and owner[row] != owner[row - 1]:
            first = count
        free = True
        for other in kept[first:count]:
            if _squared_distance(position[row], position[other]) <= radius**2:
                free = False
                break
        if free:
            kept[count] = row
            count += 1
    return kept[:count]


@_njit
def _peaks(volume, pixel, owner, r, slack):
    """Rows of the bright pixels that are summits and belong to no earlier, so brighter, peak of the same owner."""
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


@_njit
def _is_summit(volume, pixel):
    """Whether no neighbour is higher: the rim of a node cut off by the border or by the disc of the tip is no peak."""
    height = volume[pixel[0], pixel[1], pixel[2]]
    low = np.maximum(pixel - 1, 0)
    high = np.minimum(pixel + 2, np.array(volume.shape))
    return volume[low[0] : high[0], low[1] : high[1], low[2] : high[2]].max() <= height


@_njit
def _same_node(volume, peak, pixel, r, slack):
    """Whether a pixel lies within ``r`` of a peak, or downhill of it and within :data:`NODE_SPAN`."""
    squared = _squared_distance(peak, pixel)
    if squared <= r**2:
        return True
    rise = slack * volume[peak[0], peak[1], peak[2]]
    return squared <= (NODE_SPAN * r) ** 2 and _downhill(volume, peak, pixel, rise)


@_njit
def _peak_centres(volume, owner, peaks, radius, slack):
    """Centres ``(K, 3)`` of the nodes around ``peaks`` ``(K, 3)`` of the maps ``(B, z, y, x)``."""
    centers = peaks.astype(np.float64)
    for k in range(len(peaks)):
        for _ in range(REFINEMENTS):
            centers[k] = _centroid(volume[owner[k]], peaks[k], centers[k], radius, slack)
    return centers


@_njit
def _centroid(volume, peak, center, radius, slack):
    """Centroid around ``center`` of what stands above half of ``peak`` and lies downhill of it."""
    highest = volume[peak[0], peak[1], peak[2]]
    total, moment = 0.0, np.zeros(3)
    low = np.maximum(np.ceil(center - radius), 0).astype(np.int64)
    high = np.minimum(np.floor(center + radius) + 1, np.array(volume.shape)).astype(np.int64)
    for z in range(low[0], high[0]):
        for y in range(low[1], high[1]):
            for x in range(low[2], high[2]):
                weight = volume[z, y, x] - 0.5 * highest
                squared = (z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2
                if weight > 0 and squared <= radius**2 and _downhill(volume, peak, (z, y, x), slack * highest):
                    total += weight
                    moment += weight * np.array([z, y, x])
    return moment / total if total > 0 else center


@_njit
def _downhill(volume, peak, pixel, rise):
    """Whether the map falls all the way from the peak to the pixel, but for a ``rise``."""
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
