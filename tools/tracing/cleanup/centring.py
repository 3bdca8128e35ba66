"""From a trace of steps to a smooth centerline: denser nodes, each on the ridge of the map, ends drawn out to where the
map ends. Everything in work pixels.

A step of 10 px is a chord: on a bend its middle lies beside the branch, and at an end a trace stops up to a step short.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from lib.swclib import SwcForest, resample
from tools.tracing.growth.graph import parents_from_ends
from tools.tracing.ridge import across, centroid_offset
from tools.tracing.valley import turns_over_valley

SPACING = 2.0
"""Nodes of the refined trace are about this far apart: an image pixel at the scale of DRIVE, as dense as a skeleton.
On training images that is worth .003 of SSD-F1 and .006 of L-F1 against 4, which cuts bends short."""
DRAWN_NODES = 4
"""Every so many units of the way on which an end was drawn out a node is set. With 2 SSD-F1, which counts nodes, falls
by .001 to .002 on 22 training images of the 2D datasets; without any but the last a bend is cut."""
RADIUS = 3.0
"""The ridge is looked for within this distance: half of what separates two branches that the map still tells apart."""
ROUNDS = 2
"""Rounds of centring: the second starts from tangents that the first has put right."""
TOUCH = 3.0
"""A drawn-out end that comes this near to the trace has arrived."""


def centre_trace(
    forest: SwcForest,
    centerline: np.ndarray,
    *,
    threshold: float,
    longest: float,
    spacing: Sequence[float] | None = None,
) -> SwcForest:
    """Resample a trace, centre it on the map and draw out its ends.

    Parameters
    ----------
    forest
        A trace, in units.
    centerline
        ``(*S,)`` probabilities.
    threshold
        An end is drawn out while the probability is at least this.
    longest
        ... and by at most this many units.
    spacing
        Size of a pixel along each axis in units, pixels of the finest axis; None means 1.

    Returns
    -------
    SwcForest
        The same trees and forks; nodes on branches moved onto the ridge, ends perhaps farther out. Roots are ends.
    """
    if not len(forest.edges):
        return forest
    sizes = np.ones(centerline.ndim) if spacing is None else np.array(spacing)
    fine = resample(forest, SPACING)
    positions = fine.positions(centerline.ndim) / sizes
    inner, neighbours = _inner_nodes(fine)
    for _ in range(ROUNDS):
        tangent = positions[neighbours[:, 0]] - positions[neighbours[:, 1]]
        positions[inner] = centred(positions[inner], tangent, centerline)
    # The grid of the map shows in single nodes; a path of them would be longer than the branch is.
    positions[inner] = 0.5 * positions[inner] + 0.25 * positions[neighbours].sum(axis=1)
    ends = Ends(centerline, threshold, longest, sizes)
    positions, edges = _with_longer_ends(positions, fine.edges, ends)
    return SwcForest.from_positions(positions * sizes, parents_from_ends(edges, len(positions)), radius=1.0)


def centred(positions: np.ndarray, tangent: np.ndarray, centerline: np.ndarray) -> np.ndarray:
    """Move positions ``(N, ndim)`` across ``tangent`` ``(N, ndim)`` to the centroid of the squared probability around them.

    Squared, so that the sure middle of a branch weighs more than its rim and than a fainter branch beside it.
    """
    ball = _ball(positions.shape[1])
    shift = centroid_offset(centerline, positions, ball, lambda probability, _: probability**2, border="nearest")
    return positions + across(shift, tangent)


def _ball(ndim: int) -> np.ndarray:
    """``(M, ndim)`` offsets within :data:`RADIUS`, half a pixel apart."""
    line = np.arange(-RADIUS, RADIUS + 0.25, 0.5)
    grid = np.array(list(itertools.product(line, repeat=ndim)))
    return grid[(grid**2).sum(axis=1) <= RADIUS**2]


def _inner_nodes(forest: SwcForest) -> tuple[np.ndarray, np.ndarray]:
    """Nodes with exactly two neighbours ``(M,)``, and those neighbours ``(M, 2)``."""
    both = np.concatenate([forest.edges, forest.edges[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    two = forest.degree[both[:, 0]] == 2
    pairs = both[two].reshape(-1, 2, 2)
    return pairs[:, 0, 0], pairs[:, :, 1]


@dataclass(frozen=True)
class Ends:
    """How ends are drawn out: on which map ``(*S,)``, down to which probability, by how many units of which pixels."""

    centerline: np.ndarray
    threshold: float
    longest: float
    sizes: np.ndarray


def _with_longer_ends(positions: np.ndarray, edges: np.ndarray, manner: Ends) -> tuple[np.ndarray, np.ndarray]:
    """Positions and edges with new nodes behind every end that the map goes on from."""
    ends = np.flatnonzero(np.bincount(edges.ravel(), minlength=len(positions)) == 1)
    before = np.zeros(len(positions), dtype=int)
    before[edges] = edges[:, ::-1]
    start, behind = positions[ends], positions[before[ends]]
    ways = drawn_out(positions, ends, before[ends], manner)
    reached = np.array([way[-1] for way in ways]).reshape(start.shape)
    # Where a branch fades, the ridge beside it may be another's.
    astray = turns_over_valley(manner.centerline, start, reached, behind, manner.sizes)
    places, links, count = [positions], [edges], len(positions)
    for row in np.flatnonzero(~astray & (np.linalg.norm(reached - start, axis=1) >= 1)):
        # From the last place back, so that it is one of them.
        new = ways[row][:0:-DRAWN_NODES][::-1]
        chain = np.concatenate([ends[[row]], count + np.arange(len(new))])
        places.append(new)
        links.append(np.stack([chain[:-1], chain[1:]], axis=1))
        count += len(new)
    return np.concatenate(places), np.concatenate(links)


def drawn_out(positions: np.ndarray, ends: np.ndarray, before: np.ndarray, manner: Ends) -> list[np.ndarray]:
    """The way of each end when it follows the ridge unit by unit, until it meets the trace or another end.

    Parameters
    ----------
    positions
        ``(N, ndim)`` all nodes.
    ends, before
        ``(E,)`` rows of the ends and of their neighbours.
    manner
        See :class:`Ends`.

    Returns
    -------
    list of ndarray
        For each end ``(K, ndim)`` work positions, a unit apart, the end itself the first.
    """
    reached = positions[ends].copy()
    ways = [[place] for place in positions[ends]]
    heading = reached - positions[before]
    active = np.arange(len(ends))
    trace = cKDTree(positions)
    centerline = manner.centerline
    top = np.array(centerline.shape) - 1
    for _ in range(int(manner.longest)):
        heading[active] /= np.maximum(np.linalg.norm(heading[active] * manner.sizes, axis=1, keepdims=True), 1e-9)
        target = centred(reached[active] + heading[active], heading[active], centerline)
        probability = map_coordinates(centerline, target.T, order=1, mode="constant")
        own = np.stack([ends[active], before[active]], axis=1)
        # Ends move: two that come towards each other would pass where only the places they started from counted.
        arrived = _touches(trace, np.arange(len(positions)), target, own)
        arrived |= _touches(cKDTree(reached), ends, target, own)
        going = (probability >= manner.threshold) & ~arrived & np.all((target >= 0) & (target <= top), axis=1)
        # Half of the old heading is kept: a single noisy centring must not turn an end around.
        heading[active[going]] = 0.5 * heading[active[going]] + 0.5 * (target - reached[active])[going]
        reached[active[going]] = target[going]
        active = active[going]
        for row in active:
            ways[row].append(reached[row].copy())
    return [np.array(way) for way in ways]


def _touches(places: cKDTree, node: np.ndarray, target: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Whether each target ``(A, ndim)`` comes within :data:`TOUCH` of a place whose node is none of its own ``(A, 2)``.

    ``node`` ``(M,)`` says which node stands at each place.
    """
    # Two nodes may be one's own, the end and its neighbour, so a third neighbour is surely another's.
    near, place = places.query(target, k=3, distance_upper_bound=TOUCH)
    found = np.isfinite(near)
    owner = node[np.where(found, place, 0)]
    return (found & (owner[..., None] != own[:, None]).all(axis=2)).any(axis=1)
