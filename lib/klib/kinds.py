"""Conversion of a label image with several kinds of tube to a forest in which tubes of different kinds never join.

Where tubes cross, a label image shows one of them, or a value for both. A mask of all tubes has a fork there, in which
two tubes become one. Here every kind has trees of its own, and each goes straight on through the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet
from scipy.ndimage import distance_transform_edt, map_coordinates

from lib.klib.skeleton import mask_to_forest
from lib.swclib import SwcForest, concatenate, prune_spurs, subset
from lib.swclib.forest import KIND_TYPE, parents_from_edges
from lib.swclib.nearest import EdgeSearch
from lib.vectors import unit

STRAIGHT = math.cos(math.radians(60))
"""Cosine of the greatest turn of a tube on each side of a crossing, as in the clean-up of traces."""
LOOK = 12.0
"""Pixels of a tube before its end, beyond its radius, that give its direction."""
SLANT = 3.0
"""Radii of a tube from the tip of its skeleton to its end: where a tube is cut at a slant, its skeleton runs into the
acute corner."""
NEAR = 3.0
"""Pixels between the end of a skeleton and what crosses the tube there, beyond the radius: skeletons end too early."""
INSIDE = 0.8
"""Least share of a bridge that lies within :data:`_RIM` of tubes of any kind."""
_RIM = 1.5
"""Pixels: ends of thin tubes touch what they cross at a corner only, or leave out a pixel."""
LONGEST = 60.0
"""Pixels that a bridge spans at most."""
_SHORTEST = 10.0
"""Pixels of the shortest tree of unknown kind: shorter ones are rims of crossings."""


@dataclass(frozen=True)
class Ends:
    """Ends of the skeleton of one kind.

    Attributes
    ----------
    tip, position, direction
        ``(E, ndim)``: the last node, the end :data:`SLANT` before it, and the direction of the tube there, outwards.
    radius
        ``(E,)`` of the tube.
    rows
        Rows of each arm, from its tip to its end.
    """

    tip: NDArray[np.floating]
    position: NDArray[np.floating]
    direction: NDArray[np.floating]
    radius: NDArray[np.floating]
    rows: Sequence[NDArray[np.integer]]


def kinds_to_forest(labels: NDArray[np.integer], shared: int) -> SwcForest:
    """Turn a label image into a forest whose trees are of one kind each.

    Parameters
    ----------
    labels
        ``(y, x)`` or ``(z, y, x)``: 0 is background, ``shared`` stands for several kinds or an unknown one, and every
        other value is a kind.
    shared
        That value. Tubes of a kind that end at such pixels, or at those of another kind, go on where they come out
        straight ahead on the other side. What no kind goes through becomes trees of unknown kind.

    Returns
    -------
    SwcForest
        Positions in pixel-centre coordinates; its types are :data:`~lib.swclib.forest.KIND_TYPE` plus the kind.
    """
    found = [int(value) for value in np.unique(labels) if value not in (0, shared)]
    known = concatenate([_typed(_one_kind(labels, kind), KIND_TYPE + kind) for kind in found])
    return concatenate([known, _typed(_unknown(labels, known), KIND_TYPE)])


def _typed(forest: SwcForest, kind: int) -> SwcForest:
    return replace(forest, types=np.full(len(forest), kind))


def _one_kind(labels: NDArray[np.integer], kind: int) -> SwcForest:
    """Skeleton of the tubes of a kind, with a bridge wherever one goes straight on through others."""
    forest = _skeleton(labels == kind)
    ends = find_ends(forest, labels.ndim)
    return bridged(forest, ends, straight_pairs(ends, labels, kind))


def _skeleton(mask: NDArray[np.bool_]) -> SwcForest:
    """Skeleton of a mask without the spurs into the corners of wide tubes."""
    return prune_spurs(mask_to_forest(mask)[0], 1.0, per_radius=1.5)


def find_ends(forest: SwcForest, ndim: int) -> Ends:
    """The ends of a skeleton; the last :data:`LOOK` pixels before each give its direction."""
    positions = forest.positions(ndim)
    tips, inner, outer, radii, rows = [], [], [], [], []
    for arm in forest.branches_from_ends():
        radius = float(forest.radius[arm[: math.ceil(2 * LOOK)]].max())
        # At most a third, so that both ends of a short branch can be moved.
        back = min(SLANT * radius, float(forest.along(arm)[-1]) / 3)
        end = forest.row_along(arm, back)
        rows.append(arm[: int(np.flatnonzero(arm == end)[0]) + 1])
        tips.append(arm[0])
        inner.append(end)
        outer.append(forest.row_along(arm, back + LOOK))
        radii.append(radius)
    direction = unit(positions[inner] - positions[outer])
    return Ends(positions[tips], positions[inner], direction, np.array(radii), rows)


def bridged(forest: SwcForest, ends: Ends, pairs: Sequence[tuple[int, int]]) -> SwcForest:
    """Join pairs of ends by curves, whose last edge is left out where it would close a loop."""
    ndim, trees, count = ends.position.shape[1], DisjointSet(forest.roots.tolist()), len(forest)
    root = forest.roots[forest.components]
    positions, radius, edges = [forest.positions(ndim)], [forest.radius], []
    dropped = np.zeros(count, dtype=bool)
    for one, other in pairs:
        start, end = (int(ends.rows[row][-1]) for row in (one, other))
        for row in (one, other):
            dropped[ends.rows[row][:-1]] = True
        inside = bridge(ends, one, other)[1:-1]
        chain = [start, *range(count, count + len(inside)), end]
        count += len(inside)
        positions.append(inside)
        radius.append(np.full(len(inside), min(ends.radius[one], ends.radius[other])))
        edges += list(pairwise(chain))[: None if trees.merge(int(root[start]), int(root[end])) else -1]
    kept = forest.edges[~dropped[forest.edges].any(axis=1)]
    edges = np.concatenate([kept, np.reshape(edges, (-1, 2)).astype(int)])
    parent = parents_from_edges(edges, count)
    joined = SwcForest.from_positions(np.concatenate(positions), parent, np.concatenate(radius))
    return subset(joined, joined.degree > 0)


def straight_pairs(ends: Ends, labels: NDArray[np.integer], kind: int) -> list[tuple[int, int]]:
    """Pairs of ends of a kind that continue each other through other kinds, the straightest first; each end once."""
    foreign = (labels > 0) & (labels != kind)
    to_foreign = map_coordinates(np.asarray(distance_transform_edt(~foreign)), ends.tip.T, order=0)
    at_foreign = np.flatnonzero(to_foreign <= ends.radius + NEAR)
    one, other = (at_foreign[rows] for rows in np.triu_indices(len(at_foreign), 1))
    length = np.linalg.norm(ends.position[other] - ends.position[one], axis=1)
    # Ends may lie side by side, or overlap, so the way is measured from some pixels before them.
    before = ends.position - LOOK / 2 * ends.direction
    between = unit(before[other] - before[one])
    turns = np.stack([(ends.direction[one] * between).sum(axis=1), -(ends.direction[other] * between).sum(axis=1)])
    apart = ends.tip[other] - ends.tip[one]
    gap = np.minimum((ends.direction[one] * apart).sum(axis=1), -(ends.direction[other] * apart).sum(axis=1))
    likely = np.flatnonzero((turns.min(axis=0) >= STRAIGHT) & (length <= LONGEST) & (gap >= -NEAR))
    cost = (LOOK + length[likely]) * (3 - turns[:, likely].sum(axis=0))
    to_tube = np.asarray(distance_transform_edt(labels == 0))
    pairs, taken = [], set()
    for row in likely[np.argsort(cost, kind="stable")].tolist():
        pair = int(one[row]), int(other[row])
        if taken.isdisjoint(pair) and _is_inside(bridge(ends, *pair), to_tube):
            pairs.append(pair)
            taken.update(pair)
    return pairs


def bridge(ends: Ends, one: int, other: int) -> NDArray[np.floating]:
    """Points ``(K, ndim)``, about a pixel apart, on the cubic curve straight on from one end and into another."""
    start, end = ends.position[one], ends.position[other]
    length = float(np.linalg.norm(end - start))
    t = np.linspace(0, 1, max(2, math.ceil(length) + 1))[:, None]
    away, into = ends.direction[one] * length, -ends.direction[other] * length
    # The basis of Hermite: positions and tangents at both ends.
    by_position = (2 * t**3 - 3 * t**2 + 1) * start + (3 * t**2 - 2 * t**3) * end
    return by_position + (t**3 - 2 * t**2 + t) * away + (t**3 - t**2) * into


def _is_inside(curve: NDArray[np.floating], to_tube: NDArray[np.floating]) -> bool:
    return float((map_coordinates(to_tube, curve.T, order=1) <= _RIM).mean()) >= INSIDE


def _unknown(labels: NDArray[np.integer], known: SwcForest) -> SwcForest:
    """What of the skeleton of all tubes is farther from every tree of a known kind than its tube is wide."""
    forest = _skeleton(labels > 0)
    if len(known.edges):
        forest = subset(forest, EdgeSearch.of(known).nearest(forest.xyz).distance > NEAR + forest.radius)
    long_enough = np.bincount(forest.components, minlength=len(forest.roots)) >= _SHORTEST
    return subset(forest, long_enough[forest.components])
