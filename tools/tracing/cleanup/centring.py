"""From a trace of long steps to a smooth centerline: denser nodes, each on the ridge of the map, and extended ends.

A step of 10 px is a chord: on a bend its middle lies beside the branch, and a trace ends up to a step too early.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial import KDTree

from lib.swclib import SwcForest, resample
from tools.tracing.ridge import across, centroid_offset
from tools.tracing.valley import crosses_valley, goes_straight

SPACING = 2.0
"""Units between the nodes of a centred trace: an image pixel at the scale of DRIVE, as dense as a skeleton. Wider
spacing cuts bends (docs/experiments.md)."""
EXTENSION_SPACING = 4
"""Units between the nodes of an extended end. Denser nodes lower SSD-F1, which counts nodes; fewer cut bends."""
RADIUS = 3.0
"""Pixels around a node in which its ridge is searched: half the distance of two branches that the map separates."""
ROUNDS = 2
"""Rounds of centring: the second starts from the corrected tangents of the first."""
TOUCH = 3.0
"""Pixels from the trace at which an extended end has arrived at it."""


def centre_trace(
    forest: SwcForest, centerline: np.ndarray, *, threshold: float, longest: float, sizes: np.ndarray | float = 1.0
) -> SwcForest:
    """Resample a trace, centre it on the map and extend its ends.

    Parameters
    ----------
    forest, centerline, sizes
        A trace in units, its map and pixel size, see :func:`~tools.tracing.cleanup.lookup.probabilities_at`.
    threshold
        Least probability along an extended end.
    longest
        Longest extension in units.

    Returns
    -------
    SwcForest
        The same trees and forks, in units; its roots are ends.
    """
    if not len(forest.edges):
        return forest
    fine = resample(forest, SPACING)
    positions = fine.positions(centerline.ndim) / sizes
    inner, neighbours = _inner_nodes(fine)
    for _ in range(ROUNDS):
        tangent = positions[neighbours[:, 0]] - positions[neighbours[:, 1]]
        positions[inner] = centred(positions[inner], tangent, centerline)
    # Centring leaves the grid of the map in single nodes, which would make the path longer than the branch.
    positions[inner] = 0.5 * positions[inner] + 0.25 * positions[neighbours].sum(axis=1)
    positions, edges = _extend_ends(positions, fine.edges, Extension(centerline, threshold, longest, sizes))
    return SwcForest.from_edges(positions * sizes, edges)


def centred(positions: np.ndarray, tangent: np.ndarray, centerline: np.ndarray) -> np.ndarray:
    """Move positions across the branch to the centroid of the squared probability around them.

    Squared, so that the middle of a branch weighs more than its rim and than a fainter branch beside it.

    Parameters
    ----------
    positions
        ``(N, ndim)`` in pixels.
    tangent
        ``(N, ndim)`` direction of the branch in pixels, of any length.
    centerline
        ``(*S,)`` probabilities.

    Returns
    -------
    ndarray
        ``(N, ndim)`` in pixels.
    """
    ball = _ball(positions.shape[1])
    shift = centroid_offset(centerline, positions, ball)
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
class Extension:
    """How ends are extended.

    Attributes
    ----------
    centerline
        ``(*S,)`` probabilities.
    threshold
        Least probability along an extended end.
    longest
        Longest extension in units.
    sizes
        ``(ndim,)`` size of a pixel in units, or one for all axes.
    """

    centerline: np.ndarray
    threshold: float
    longest: float
    sizes: np.ndarray | float


def _extend_ends(positions: np.ndarray, edges: np.ndarray, extension: Extension) -> tuple[np.ndarray, np.ndarray]:
    """Positions and edges with new nodes beyond every end from which the map continues."""
    ends = np.flatnonzero(np.bincount(edges.ravel(), minlength=len(positions)) == 1)
    before = np.zeros(len(positions), dtype=int)
    before[edges] = edges[:, ::-1]
    start, behind = positions[ends], positions[before[ends]]
    paths = extended_paths(positions, ends, before[ends], extension)
    reached = np.array([path[-1] for path in paths]).reshape(start.shape)
    # Where a branch fades, the ridge beside it may be that of another.
    straight = goes_straight((reached - start) * extension.sizes, (start - behind) * extension.sizes)
    astray = crosses_valley(extension.centerline, start, reached) & ~straight
    nodes, links, count = [positions], [edges], len(positions)
    for row in np.flatnonzero(~astray & (np.linalg.norm(reached - start, axis=1) >= 1)):
        # Spaced from the last position back, so that it becomes a node.
        new = paths[row][:0:-EXTENSION_SPACING][::-1]
        chain = np.concatenate([ends[[row]], count + np.arange(len(new))])
        nodes.append(new)
        links.append(np.stack([chain[:-1], chain[1:]], axis=1))
        count += len(new)
    return np.concatenate(nodes), np.concatenate(links)


def extended_paths(
    positions: np.ndarray, ends: np.ndarray, before: np.ndarray, extension: Extension
) -> list[np.ndarray]:
    """Paths from the ends along the ridge, unit by unit, until they meet the trace or another end.

    Parameters
    ----------
    positions
        ``(N, ndim)`` all nodes, in pixels.
    ends, before
        ``(E,)`` rows of the ends and of their neighbours.
    extension
        See :class:`Extension`.

    Returns
    -------
    list of ndarray
        ``(K, ndim)`` positions in pixels for each end, a unit apart; the first is the end itself.
    """
    reached = positions[ends].copy()
    paths = [[position] for position in positions[ends]]
    heading = reached - positions[before]
    active = np.arange(len(ends))
    trace, centerline = KDTree(positions), extension.centerline
    top = np.array(centerline.shape) - 1
    for _ in range(int(extension.longest)):
        heading[active] /= np.maximum(np.linalg.norm(heading[active] * extension.sizes, axis=1, keepdims=True), 1e-9)
        target = centred(reached[active] + heading[active], heading[active], centerline)
        probability = map_coordinates(centerline, target.T, order=1, mode="constant")
        own = np.stack([ends[active], before[active]], axis=1)
        arrived = _touches(trace, np.arange(len(positions)), target, own)
        # Ends move, and two that approach each other must not pass.
        arrived |= _touches(KDTree(reached), ends, target, own)
        going = (probability >= extension.threshold) & ~arrived & np.all((target >= 0) & (target <= top), axis=1)
        # Half of the old heading is kept: one noisy centring must not turn an end around.
        heading[active[going]] = 0.5 * heading[active[going]] + 0.5 * (target - reached[active])[going]
        reached[active[going]] = target[going]
        active = active[going]
        for row in active:
            paths[row].append(reached[row].copy())
    return [np.array(path) for path in paths]


def _touches(places: KDTree, node: np.ndarray, target: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Whether each target ``(A, ndim)`` comes within :data:`TOUCH` of a place of another node than its own ``(A, 2)``.

    ``node`` ``(M,)`` is the node at each place.
    """
    # Two of the neighbours may be its own, the end and the node before it, so three are needed.
    near, place = places.query(target, k=3, distance_upper_bound=TOUCH)
    found = np.isfinite(near)
    owner = node[np.where(found, place, 0)]
    return (found & (owner[..., None] != own[:, None]).all(axis=2)).any(axis=1)
