"""Trees to draw: rounded, cut at the border of a block, with neighbours beside and across.

All coordinates are *pixels*: those of a slice, in z too (z voxel times the distance of the slices in pixels), so that
lengths, angles and radii mean the same in all directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from lib.swclib import SwcForest, concatenate, resample
from tools.simulation.effects import Effects

FINE = 1.0
"""Distance of nodes, in pixels, at which trees are drawn."""
_TOO_NEAR = 2.5
"""A neighbour that comes nearer than this, in pixels, lies on another neurite: no gold could tell them apart."""
_TRIES = 12
_LONGEST, _SHORTEST = 200.0, 40.0
"""Length of neighbours in pixels."""


def rounded(forest: SwcForest, effects: Effects, rng: np.random.Generator) -> SwcForest:
    """The forest as a neurite grows: nodes ``FINE`` apart, corners rounded, winding a little; roots and leaves stay."""
    fine = resample(forest, FINE)
    radius = np.maximum(fine.radius * effects.radius_scale, effects.least_radius)
    moved = np.zeros((len(fine), 3))
    paths = sorted(through_forks(fine), key=lambda path: fine.depth[path[0]])
    for path in paths:
        fork = moved[path[0]].copy()
        bend = _bend(fine.xyz[path], effects, rng)
        # Where the path starts at a fork that was moved, it starts there and comes back to its own line.
        along = np.arange(len(path))[:, None] * FINE
        moved[path] = bend + fork * np.exp(-along / max(4 * effects.smoothing, 1.0))
        radius[path] = _odd_smooth(radius[path][:, None], effects.smoothing)[:, 0]
    return replace(fine, xyz=fine.xyz + moved, radius=np.maximum(radius, effects.least_radius))


def through_forks(forest: SwcForest) -> list[np.ndarray]:
    """Rows of the branches, joined at forks: each goes on into the longest branch that starts at its end.

    Every edge is in exactly one path; a path that does not start at a root starts at the fork that it leaves.
    """
    branches = forest.branches()
    next_of: dict[int, int] = {}
    for index, branch in enumerate(branches):
        rival = next_of.get(int(branch[0]))
        if rival is None or len(branch) > len(branches[rival]):
            next_of[int(branch[0])] = index
    is_head = np.ones(len(branches), bool)
    is_head[[next_of[int(b[-1])] for b in branches if int(b[-1]) in next_of]] = False
    paths = []
    for head in np.flatnonzero(is_head):
        parts = [branches[head]]
        while (end := int(parts[-1][-1])) in next_of:
            parts.append(branches[next_of[end]][1:])
        paths.append(np.concatenate(parts))
    return paths


def _bend(points: np.ndarray, effects: Effects, rng: np.random.Generator) -> np.ndarray:
    """``(n, 3)`` displacement that rounds and winds a path and leaves its two ends where they are."""
    n = len(points)
    bend = _odd_smooth(points, effects.smoothing) - points
    winding = smooth_noise((n, 3), 4 * max(effects.smoothing, 2.0), rng) * effects.wobble
    from_end = np.minimum(np.arange(n), np.arange(n)[::-1])[:, None] * FINE
    return bend + winding * np.minimum(1.0, from_end / 10.0)


def _odd_smooth(values: np.ndarray, length: float) -> np.ndarray:
    """Smooth ``(n, k)`` along the first axis; the odd reflection at both ends keeps the end values."""
    if length <= 0 or len(values) < 3:
        return values
    pad = min(len(values) - 1, int(4 * length / FINE))
    padded = np.pad(values, ((pad, pad), (0, 0)), mode="reflect", reflect_type="odd")
    return gaussian_filter1d(padded, length / FINE / 2, axis=0, mode="nearest")[pad : pad + len(values)]


def smooth_noise(shape: tuple[int, int], length: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of standard deviation 1 along the first axis, correlated over ``length`` pixels."""
    sigma = max(length / FINE / 2, 1e-3)
    noise = rng.standard_normal((shape[0] + int(8 * sigma) + 1, *shape[1:]))
    smooth = gaussian_filter1d(noise, sigma, axis=0, mode="wrap")[: shape[0]]
    # White noise filtered with a Gaussian has variance 1 / (2 √π σ).
    return smooth * np.sqrt(2 * np.sqrt(np.pi) * max(sigma, 1 / (2 * np.sqrt(np.pi))))


def clip(forest: SwcForest, low: Sequence[float], high: Sequence[float]) -> SwcForest:
    """Cut a forest at a box.

    Parameters
    ----------
    forest
        Any forest.
    low, high
        Corners of the box, (z, y, x), both inside.

    Returns
    -------
    SwcForest: the parts inside. Edges end exactly on the border; a part whose parent lies outside becomes a tree with
    its root there. The radius is linear along an edge. Nodes without an edge inside are dropped, save roots that were
    alone before.
    """
    points = np.column_stack([forest.xyz[:, ::-1], forest.radius])
    low, high = np.asarray(low, float), np.asarray(high, float)
    inside = ((points[:, :3] >= low) & (points[:, :3] <= high)).all(axis=1)
    above, below = forest.edges.T
    enter, leave = _crossings(points[above, :3], points[below, :3], low, high)
    kept = enter < leave
    cut_top, cut_end = kept & ~inside[above], kept & ~inside[below]
    has_edge = np.bincount(np.concatenate([above[kept], below[kept]]), minlength=len(forest)) > 0
    alone = forest.degree == 0
    stays = inside & (has_edge | alone)
    row = np.cumsum(stays) - 1
    n_stay, n_top = int(stays.sum()), int(cut_top.sum())
    top_row = n_stay + np.cumsum(cut_top) - 1
    parent = np.full(n_stay + n_top + int(cut_end.sum()), -1)
    own_parent = np.where(cut_top, top_row, row[above])
    goes_on = kept & inside[below]
    parent[row[below[goes_on]]] = own_parent[goes_on]
    parent[n_stay + n_top :] = own_parent[cut_end]
    between = points[above] + enter[:, None] * (points[below] - points[above])
    end = points[above] + leave[:, None] * (points[below] - points[above])
    values = np.concatenate([points[stays], between[cut_top], end[cut_end]])
    types = np.concatenate([forest.types[stays], forest.types[below[cut_top]], forest.types[below[cut_end]]])
    ids = np.arange(1, len(values) + 1)
    return SwcForest.sorted(ids, types, np.clip(values[:, :3], low, high)[:, ::-1], values[:, 3], parent)


def _crossings(start: np.ndarray, end: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where segments enter and leave a box, as fractions (Liang and Barsky 1984); outside, enter is above leave."""
    along = end - start
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (low - start) / along, (high - start) / along
    still = along == 0
    within = (start >= low) & (start <= high)
    near = np.where(still, np.where(within, -np.inf, np.inf), np.minimum(first, second))
    far = np.where(still, np.where(within, np.inf, -np.inf), np.maximum(first, second))
    # A segment beside the box is never in it: kept finite, so that positions on it can be computed.
    return np.clip(near.max(axis=1, initial=-np.inf), 0.0, 2.0), np.clip(far.min(axis=1, initial=np.inf), -1.0, 1.0)


def without_crumbs(forest: SwcForest, length: float) -> SwcForest:
    """Drop trees shorter than ``length``: slivers that a cut leaves in a corner."""
    step = np.zeros(len(forest))
    step[forest.edges[:, 1]] = forest.edge_lengths
    size = np.bincount(forest.components, weights=step, minlength=len(forest.roots))
    keep = size[forest.components] >= length
    row = np.cumsum(keep) - 1
    parent = np.where(forest.parent < 0, -1, row[forest.parent])[keep]
    ids = np.arange(1, int(keep.sum()) + 1)
    return SwcForest(ids, forest.types[keep], forest.xyz[keep], forest.radius[keep], parent)


def turned(forest: SwcForest, rng: np.random.Generator) -> SwcForest:
    """The forest turned by any angle about z and mirrored at random along each axis, about the origin."""
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    mirror = rng.choice([-1.0, 1.0], 3)
    return replace(forest, xyz=forest.xyz @ turn.T * mirror)


def well_filled(
    forest: SwcForest, size: np.ndarray, weight: np.ndarray, rng: np.random.Generator, tries: int = 40
) -> np.ndarray:
    """First corner (z, y, x) of a block of ``size`` pixels that holds much of a fine forest.

    Blocks are laid at random places around nodes and kept inside the forest's extent where that is large enough; of
    ``tries`` the one with the largest sum of ``weight`` ``(N,)`` is taken.
    """
    points = forest.xyz[:, ::-1]
    least, most = points.min(axis=0), points.max(axis=0)
    best, low = -1.0, least
    for _ in range(tries):
        node = points[rng.choice(len(points), p=weight / weight.sum())]
        corner = node - size * rng.uniform(0.2, 0.8, 3)
        roomy = most - least > size
        corner = np.where(roomy, np.clip(corner, least, np.maximum(most - size, least)), (least + most - size) / 2)
        held = weight[((points >= corner) & (points <= corner + size)).all(axis=1)].sum()
        if held > best:
            best, low = held, corner
    return low


def with_neighbours(
    forest: SwcForest, size: np.ndarray, count: int, effects: Effects, rng: np.random.Generator
) -> tuple[SwcForest, np.ndarray]:
    """Add neurites beside and across those of a fine forest.

    Parameters
    ----------
    forest
        Trees around a block that begins at 0; hosts are chosen inside the block.
    size
        ``(3,)`` of the block, in pixels.
    count
        Neighbours wanted; one that finds no place in a dozen tries is left out.

    Returns
    -------
    forest with the new trees at its end, and ``(trees,)`` bool: which trees belong to the gold.
    """
    labelled = [True] * len(forest.roots)
    for _ in range(count):
        for _ in range(_TRIES):
            points = _beside(forest, size, effects, rng)
            if points is None or not _has_room(points, forest):
                continue
            typical = float(np.median(forest.radius)) * rng.uniform(0.7, 1.2)
            radius = max(typical, effects.least_radius)
            new = SwcForest.from_positions(points, np.arange(-1, len(points) - 1), radius, types=2)
            forest = concatenate([forest, new])
            labelled.append(bool(rng.random() >= effects.unlabelled))
            break
    return forest, np.array(labelled, dtype=bool)


def _beside(forest: SwcForest, size: np.ndarray, effects: Effects, rng: np.random.Generator) -> np.ndarray | None:
    """``(n, 3)`` points of one neighbour, or None where the place that was drawn has no neurite to follow."""
    paths = [path for path in through_forks(forest) if len(path) * FINE >= _SHORTEST]
    points = forest.positions(3)
    inside = ((points >= 0) & (points <= size)).all(axis=1)
    weight = np.array([inside[path].sum() for path in paths], float)
    if not weight.sum():
        return None
    host = paths[rng.choice(len(paths), p=weight / weight.sum())]
    middle = int(rng.choice(np.flatnonzero(inside[host])))
    if rng.random() < effects.parallel_share:
        return _parallel(points[_stretch(host, middle, rng)], effects, rng)
    other = paths[rng.integers(len(paths))]
    return _across(points[host[middle]], points[_stretch(other, rng.integers(len(other)), rng)], effects, rng)


def _stretch(path: np.ndarray, middle: int, rng: np.random.Generator) -> np.ndarray:
    """Part of a path around its node ``middle``."""
    half = int(rng.uniform(_SHORTEST, _LONGEST) / FINE / 2)
    return path[max(0, middle - half) : middle + half]


def _parallel(line: np.ndarray, effects: Effects, rng: np.random.Generator) -> np.ndarray | None:
    """A line beside another: at an even distance in the middle, leaving it towards both ends."""
    n = len(line)
    if n < 3:
        return None
    normal = random_normal(line[-1] - line[0], rng)
    away = np.abs(np.linspace(-1, 1, n))[:, None] ** 4 * n * FINE * rng.uniform(0.05, 0.25)
    distance = rng.uniform(effects.nearest, effects.farthest)
    return line + normal * (distance + away) + smooth_noise((n, 3), 20.0, rng) * effects.wobble


def _across(place: np.ndarray, line: np.ndarray, effects: Effects, rng: np.random.Generator) -> np.ndarray | None:
    """A line turned at random that passes a place at a distance of 1 to 4 pixels beyond both radii."""
    if len(line) < 3:
        return None
    turn = _random_turn(rng)
    line = (line - line[len(line) // 2]) @ turn.T
    normal = random_normal(line[-1] - line[0], rng)
    return line + place + normal * rng.uniform(_TOO_NEAR, _TOO_NEAR + 3)


def _random_turn(rng: np.random.Generator) -> np.ndarray:
    """A rotation drawn evenly from all: the QR factors of a random matrix (Mezzadri 2007)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    return q * np.sign(np.diag(r))


def random_normal(direction: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random unit vector at right angles to ``direction`` ``(3,)``."""
    unit = direction / max(float(np.linalg.norm(direction)), 1e-9)
    vector = rng.standard_normal(3)
    vector -= unit * (vector @ unit)
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def _has_room(points: np.ndarray, forest: SwcForest) -> bool:
    """Whether a new line comes too near to others nowhere, or only in passing (3 in 100 of its nodes)."""
    distance, _ = cKDTree(forest.positions(3)).query(points, distance_upper_bound=_TOO_NEAR)
    return bool(np.mean(np.isfinite(distance)) <= 0.03)
