"""Trees to draw: smoothed, cut at the border of a block, with neighbours beside and across.

Coordinates are *pixels of a slice*, along z too, so that lengths, angles and radii mean the same in all directions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import KDTree

from lib.swclib import SwcForest, concatenate, resample, subset
from lib.vectors import unit
from tools.simulation.effects import Effects

FINE_STEP = 1.0
"""Distance in pixels of the nodes of the trees that are drawn."""
_TOO_NEAR = 2.5
"""Pixels between centrelines below which two neurites cannot be distinguished in the image."""
_ATTEMPTS = 12
"""Places tried for a neighbour before it is given up."""
_SHORTEST, _LONGEST = 40.0, 200.0
"""Length of neighbours in pixels."""


def neurite(points: npt.ArrayLike, radius: npt.ArrayLike) -> SwcForest:
    """Make an unbranched tree of type 2 (axon) from ``(N, 3)`` points (z, y, x)."""
    return SwcForest.from_positions(points, np.arange(-1, len(np.asarray(points)) - 1), radius, types=2)


def smoothed(forest: SwcForest, effects: Effects, rng: Generator) -> SwcForest:
    """Give polylines the course of neurites: rounded corners and a slight wobble.

    Parameters
    ----------
    forest
        Trees in pixels.
    effects
        ``radius_scale``, ``least_radius``, ``smoothing`` and ``wobble`` are applied.
    rng
        Draws the wobble.

    Returns
    -------
    SwcForest
        Nodes ``FINE_STEP`` apart; roots and leaves keep their positions.
    """
    fine = resample(forest, FINE_STEP)
    radius = np.maximum(fine.radius * effects.radius_scale, effects.least_radius)
    moved = np.zeros((len(fine), 3))
    for path in sorted(longest_paths(fine), key=lambda path: fine.depth[path[0]]):
        start = moved[path[0]].copy()
        bend = _bend(fine.xyz[path], effects, rng)
        # A path that leaves a displaced branch point starts there and returns to its own line.
        along = np.arange(len(path))[:, None] * FINE_STEP
        moved[path] = bend + start * np.exp(-along / max(4 * effects.smoothing, 1.0))
        radius[path] = _smooth(radius[path][:, None], effects.smoothing)[:, 0]
    return replace(fine, xyz=fine.xyz + moved, radius=np.maximum(radius, effects.least_radius))


def longest_paths(forest: SwcForest) -> list[np.ndarray]:
    """Join branches at branch points: each continues into the longest branch that starts at its end.

    Returns
    -------
    list of ndarray
        Rows of each path. Every edge is in exactly one path; a path starts at a root or at the branch point it leaves.
    """
    branches = forest.branches()
    longest_from: dict[int, int] = {}
    for index, branch in enumerate(branches):
        rival = longest_from.get(int(branch[0]))
        if rival is None or len(branch) > len(branches[rival]):
            longest_from[int(branch[0])] = index
    is_first = np.ones(len(branches), bool)
    is_first[[longest_from[int(b[-1])] for b in branches if int(b[-1]) in longest_from]] = False
    paths = []
    for first in np.flatnonzero(is_first):
        parts = [branches[first]]
        while (end := int(parts[-1][-1])) in longest_from:
            parts.append(branches[longest_from[end]][1:])
        paths.append(np.concatenate(parts))
    return paths


def _bend(points: np.ndarray, effects: Effects, rng: Generator) -> np.ndarray:
    """``(n, 3)`` displacement that rounds and wobbles a path but keeps its ends."""
    n = len(points)
    bend = _smooth(points, effects.smoothing) - points
    wobble = smooth_noise((n, 3), 4 * max(effects.smoothing, 2.0), rng) * effects.wobble
    from_end = np.minimum(np.arange(n), np.arange(n)[::-1])[:, None] * FINE_STEP
    return bend + wobble * np.minimum(1.0, from_end / 10.0)


def _smooth(values: np.ndarray, length: float) -> np.ndarray:
    """Smooth ``(n, k)`` along the first axis; odd reflection keeps the first and last values."""
    if length <= 0 or len(values) < 3:
        return values
    pad = min(len(values) - 1, int(4 * length / FINE_STEP))
    padded = np.pad(values, ((pad, pad), (0, 0)), mode="reflect", reflect_type="odd")
    return gaussian_filter1d(padded, length / FINE_STEP / 2, axis=0, mode="nearest")[pad : pad + len(values)]


def smooth_noise(shape: tuple[int, int], length: float, rng: Generator) -> np.ndarray:
    """Make noise of standard deviation 1, correlated over ``length`` pixels along the first axis."""
    sigma = max(length / FINE_STEP / 2, 1e-3)
    noise = rng.standard_normal((shape[0] + int(8 * sigma) + 1, *shape[1:]))
    smooth = gaussian_filter1d(noise, sigma, axis=0, mode="wrap")[: shape[0]]
    # White noise after a Gaussian filter has the variance 1 / (2 √π σ).
    return smooth * np.sqrt(2 * np.sqrt(np.pi) * max(sigma, 1 / (2 * np.sqrt(np.pi))))


def clip(forest: SwcForest, low: npt.ArrayLike, high: npt.ArrayLike) -> SwcForest:
    """Cut a forest at a box.

    Parameters
    ----------
    forest
        Any forest.
    low, high
        ``(3,)`` corners of the box (z, y, x), both inside.

    Returns
    -------
    SwcForest
        The parts inside, cut exactly on the border; a part whose parent lies outside becomes a tree of its own. The
        radius is linear along an edge. Nodes without an edge inside are dropped, except single nodes.
    """
    points = np.column_stack([forest.xyz[:, ::-1], forest.radius])
    low, high = np.asarray(low, float), np.asarray(high, float)
    inside = np.all((points[:, :3] >= low) & (points[:, :3] <= high), axis=1)
    above, below = forest.edges.T
    enter, leave = _crossings(points[above, :3], points[below, :3], low, high)
    kept = enter < leave
    cut_top, cut_end = kept & ~inside[above], kept & ~inside[below]
    has_edge = np.bincount(np.concatenate([above[kept], below[kept]]), minlength=len(forest)) > 0
    stays = inside & (has_edge | (forest.degree == 0))
    row = np.cumsum(stays) - 1
    n_stay, n_top = int(stays.sum()), int(cut_top.sum())
    top_row = n_stay + np.cumsum(cut_top) - 1
    parent = np.full(n_stay + n_top + int(cut_end.sum()), -1)
    own_parent = np.where(cut_top, top_row, row[above])
    uncut = kept & inside[below]
    parent[row[below[uncut]]] = own_parent[uncut]
    parent[n_stay + n_top :] = own_parent[cut_end]
    start = points[above] + enter[:, None] * (points[below] - points[above])
    end = points[above] + leave[:, None] * (points[below] - points[above])
    values = np.concatenate([points[stays], start[cut_top], end[cut_end]])
    types = np.concatenate([forest.types[stays], forest.types[below[cut_top]], forest.types[below[cut_end]]])
    ids = np.arange(1, len(values) + 1)
    return SwcForest.sorted(ids, types, np.clip(values[:, :3], low, high)[:, ::-1], values[:, 3], parent)


def _crossings(start: np.ndarray, end: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fractions at which segments enter and leave a box (Liang and Barsky 1984); enter > leave if they miss it."""
    along = end - start
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (low - start) / along, (high - start) / along
    constant = along == 0
    within = (start >= low) & (start <= high)
    near = np.where(constant, np.where(within, -np.inf, np.inf), np.minimum(first, second))
    far = np.where(constant, np.where(within, np.inf, -np.inf), np.maximum(first, second))
    # Finite fractions even for segments beside the box, so that positions can be computed from them.
    return np.clip(near.max(axis=1, initial=-np.inf), 0.0, 2.0), np.clip(far.min(axis=1, initial=np.inf), -1.0, 1.0)


def without_short_trees(forest: SwcForest, length: float) -> SwcForest:
    """Drop trees shorter than ``length`` pixels: slivers that a cut leaves in a corner."""
    tree = forest.components
    lengths = np.bincount(tree[forest.edges[:, 1]], weights=forest.edge_lengths, minlength=len(forest.roots))
    return subset(forest, lengths[tree] >= length)


def randomly_turned(forest: SwcForest, rng: Generator) -> SwcForest:
    """Turn a forest about z by a random angle, and mirror it at random along each axis, at the origin."""
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    mirror = rng.choice([-1.0, 1.0], 3)
    return replace(forest, xyz=forest.xyz @ turn.T * mirror)


def densest_corner(
    forest: SwcForest, size: np.ndarray, weight: np.ndarray, rng: Generator, attempts: int = 40
) -> np.ndarray:
    """Choose a block that holds much of a forest.

    Parameters
    ----------
    forest
        Trees with evenly spaced nodes.
    size
        ``(3,)`` size of the block (z, y, x) in pixels.
    weight
        ``(N,)`` weight of each node.
    rng
        Draws blocks around nodes; they stay inside the extent of the forest where that is large enough.
    attempts
        Number of blocks drawn.

    Returns
    -------
    ndarray
        ``(3,)`` first corner (z, y, x) of the block with the largest sum of weights.
    """
    points = forest.xyz[:, ::-1]
    least, most = points.min(axis=0), points.max(axis=0)
    best, low = -1.0, least
    for _ in range(attempts):
        node = points[rng.choice(len(points), p=weight / weight.sum())]
        corner = node - size * rng.uniform(0.2, 0.8, 3)
        fits = most - least > size
        corner = np.where(fits, np.clip(corner, least, np.maximum(most - size, least)), (least + most - size) / 2)
        held = weight[((points >= corner) & (points <= corner + size)).all(axis=1)].sum()
        if held > best:
            best, low = held, corner
    return low


def with_neighbours(
    forest: SwcForest, size: np.ndarray, count: int, effects: Effects, rng: Generator
) -> tuple[SwcForest, np.ndarray]:
    """Add neurites beside and across those of a forest.

    Parameters
    ----------
    forest
        Trees with nodes ``FINE_STEP`` apart, around a block whose first corner is 0.
    size
        ``(3,)`` size of the block (z, y, x) in pixels; neighbours follow neurites inside it.
    count
        Neighbours to add; one that finds no place in 12 attempts is left out.
    effects, rng
        Distances and shares of the neighbours, and what draws them.

    Returns
    -------
    SwcForest
        The forest, followed by the new trees.
    ndarray
        ``(trees,)`` bool: whether a tree belongs to the gold.
    """
    points = forest.positions(3)
    hosts = [points[path] for path in longest_paths(forest) if _is_host(path)]
    weights = [_inside(line, size).sum() for line in hosts]
    indexes, added, labelled = [KDTree(points)], [], [True] * len(forest.roots)
    for _ in range(count):
        for _ in range(_ATTEMPTS):
            line = _beside(hosts, np.array(weights, float), size, effects, rng)
            if line is None or not _has_room(line, indexes):
                continue
            radius = max(float(np.median(forest.radius)) * rng.uniform(0.7, 1.2), effects.least_radius)
            added.append(neurite(line, radius))
            labelled.append(bool(rng.random() >= effects.unlabelled))
            _index(line, indexes)
            if _is_host(line):
                hosts.append(line)
                weights.append(_inside(line, size).sum())
            break
    return concatenate([forest, *added]), np.array(labelled, dtype=bool)


def _is_host(path: np.ndarray) -> bool:
    """Whether a path is long enough to be followed."""
    return len(path) * FINE_STEP >= _SHORTEST


def _inside(line: np.ndarray, size: np.ndarray) -> np.ndarray:
    """``(n,)`` bool: which points lie in the block."""
    return np.all((line >= 0) & (line <= size), axis=1)


def _index(line: np.ndarray, indexes: list[KDTree]) -> None:
    """Add points to a list of indexes, kept few: each holds at least twice as many points as the next."""
    indexes.append(KDTree(line))
    while len(indexes) > 1 and indexes[-2].n < 2 * indexes[-1].n:
        last, before = indexes.pop(), indexes.pop()
        indexes.append(KDTree(np.concatenate([before.data, last.data])))


def _beside(
    hosts: list[np.ndarray], weight: np.ndarray, size: np.ndarray, effects: Effects, rng: Generator
) -> np.ndarray | None:
    """``(n, 3)`` points of one neighbour, or None if the drawn place has no neurite to follow.

    ``hosts`` are lines ``(n, 3)`` of existing neurites; ``weight`` is the number of their points inside the block.
    """
    if not weight.sum():
        return None
    host = hosts[rng.choice(len(hosts), p=weight / weight.sum())]
    middle = int(rng.choice(np.flatnonzero(_inside(host, size))))
    if rng.random() < effects.parallel_share:
        return _parallel(_stretch(host, middle, rng), effects, rng)
    other = hosts[rng.integers(len(hosts))]
    return _across(host[middle], _stretch(other, int(rng.integers(len(other))), rng), effects, rng)


def _stretch(line: np.ndarray, middle: int, rng: Generator) -> np.ndarray:
    """Part of a line of random length around its point ``middle``."""
    half = int(rng.uniform(_SHORTEST, _LONGEST) / FINE_STEP / 2)
    return line[max(0, middle - half) : middle + half]


def _parallel(line: np.ndarray, effects: Effects, rng: Generator) -> np.ndarray | None:
    """A line beside another, which bends away towards both ends."""
    n = len(line)
    if n < 3:
        return None
    normal = random_normal(line[-1] - line[0], rng)
    away = np.abs(np.linspace(-1, 1, n))[:, None] ** 4 * n * FINE_STEP * rng.uniform(0.05, 0.25)
    distance = rng.uniform(effects.nearest, effects.farthest)
    return line + normal * (distance + away) + smooth_noise((n, 3), 20.0, rng) * effects.wobble


def _across(place: np.ndarray, line: np.ndarray, effects: Effects, rng: Generator) -> np.ndarray | None:
    """A randomly turned line that passes a place at a distance of 2.5 to 5.5 pixels."""
    if len(line) < 3:
        return None
    line = (line - line[len(line) // 2]) @ _random_rotation(rng).T
    normal = random_normal(line[-1] - line[0], rng)
    return line + place + normal * rng.uniform(_TOO_NEAR, _TOO_NEAR + 3)


def _random_rotation(rng: Generator) -> np.ndarray:
    """A uniformly random orthogonal matrix, by QR decomposition of a Gaussian one (Mezzadri 2007)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    return q * np.sign(np.diag(r))


def random_normal(direction: np.ndarray, rng: Generator) -> np.ndarray:
    """Draw a unit vector perpendicular to ``direction`` ``(3,)``."""
    along, vector = unit(direction), rng.standard_normal(3)
    return unit(vector - along * (vector @ along))


def _has_room(points: np.ndarray, indexes: list[KDTree]) -> bool:
    """Whether at most 3 % of the points lie too near to other trees, as they may where neurites cross."""
    nearest = np.min([index.query(points, distance_upper_bound=_TOO_NEAR)[0] for index in indexes], axis=0)
    return bool(np.mean(np.isfinite(nearest)) <= 0.03)
