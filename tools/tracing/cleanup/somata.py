"""Somata: where neurites reach the body of a cell, they are joined at its centre.

The network knows tubes. Inside a soma, several times as wide as they are, it sees none, or a few that are not there:
neurites end at its surface and stay apart. An SWC file holds a soma as one node, from which they start.

A soma is a place where a ball of the least radius fits into what is bright. Ours: the paper does not treat somata.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    distance_transform_edt,
    find_objects,
    gaussian_filter,
    map_coordinates,
    maximum_filter,
    minimum_filter,
)
from scipy.spatial import KDTree
from skimage.measure import block_reduce
from skimage.measure import label as measure_label

from lib.swclib import SwcForest, concatenate, rewire, rooted_at_somata, subset
from lib.swclib.forest import ROOT, SOMA_TYPE
from tools.tracing.cleanup.gaps import nodes_behind_ends
from tools.tracing.valley import goes_straight

Floats = NDArray[np.floating]

FINENESS = 3
"""Somata are looked for in an image reduced by a power of two: their least radius is at least so many pixels."""
BRIGHT = 0.5
"""A soma ends where it is this part as bright, above the background, as at its brightest. It is at least this part as
bright as the median tube."""
AROUND = 1.5
"""Reach of the brightest place nearby, as a multiple of the least radius."""
CORE = 0.7
"""The centre of a soma is the mean of the places at least this part of its radius from the surface."""
LARGEST = 5.0
"""Largest radius of a soma, as a multiple of the least one."""
ROUNDEST = 3.0
"""Most volume of a soma, as a multiple of that of the largest ball inside it: thick tubes are longer."""
POINTING = math.cos(math.radians(50))
"""Cosine of the angle to the centre within which an end reaches a soma, as for extended ends."""
TOUCHING = 3.0
"""Units from the surface within which an end reaches a soma unless it leads away from it: neurites leave it aslant."""


@dataclass(frozen=True)
class Somata:
    """The somata of an image. Lengths and places are in units, work pixels of the finest axis.

    Attributes
    ----------
    centre
        ``(K, ndim)`` their centres.
    radius
        ``(K,)`` radius of the largest ball inside each.
    places, owner
        ``(P, ndim)`` centres of the pixels of the reduced image inside them, and the soma ``(P,)`` of each.
    half_diagonal
        Of these pixels.
    """

    centre: Floats
    radius: Floats
    places: Floats
    owner: NDArray[np.integer]
    half_diagonal: float

    def __len__(self) -> int:
        return len(self.centre)

    def nearest(self, positions: Floats) -> tuple[Floats, NDArray[np.integer]]:
        """Distance ``(N,)`` of positions ``(N, ndim)`` to the surface of the nearest soma, 0 inside, and the soma."""
        distance, place = self._tree.query(positions)
        return np.maximum(distance - self.half_diagonal, 0.0), self.owner[place]

    @cached_property
    def _tree(self) -> KDTree:
        return KDTree(self.places)


def find_somata(pixels: Floats, positions: Floats, least: float, sizes: Floats) -> Somata | None:
    """Find the somata of an image.

    Parameters
    ----------
    pixels
        ``(*S, C)`` in [0, 1], in work pixels; the mean of the channels counts.
    positions
        ``(N, ndim)`` work positions of nodes of a trace, from which the brightness of tubes is known.
    least
        Least radius in units.
    sizes
        ``(ndim,)`` size of a pixel in units.

    Returns
    -------
    Somata or None
        None if there is none.
    """
    if not len(positions):
        return None
    shape, gray = np.array(pixels.shape[:-1]), pixels.mean(axis=-1) if pixels.shape[-1] > 1 else pixels[..., 0]
    # Cells begin at multiples of a power of two: their windows are reduced as the whole image is.
    factor = np.minimum(2 ** np.log2(np.maximum(least / FINENESS / sizes, 1)).astype(int), shape)
    block: Any = tuple(factor.tolist())  # its annotation knows one number alone
    image = np.asarray(block_reduce(gray, block, np.mean))
    image = image[tuple(map(slice, shape // factor))]  # the last block of an axis may hold zeros beyond the image
    pitch, dark = sizes * factor, float(np.median(image))
    at = (((positions + 0.5) / factor) - 0.5).T
    tube = float(np.median(map_coordinates(image, at, order=1, mode="nearest")))
    # Half as bright as the brightest place within its reach: a bright tube is not thicker than a dim one.
    smooth = gaussian_filter(image, least / 2 / pitch)
    peak = maximum_filter(smooth, (2 * np.ceil(AROUND * least / pitch) + 1).astype(int).tolist())
    mask = image >= dark + BRIGHT * (np.maximum(peak, tube) - dark)
    found = list(_balls(mask, least, pitch)) if tube > dark else []
    if not found:
        return None
    first = (pitch - sizes) / 2
    return Somata(
        centre=np.array([centre for centre, _, _ in found]) + first,
        radius=np.array([radius for _, radius, _ in found]),
        places=np.concatenate([places for _, _, places in found]) + first,
        owner=np.repeat(np.arange(len(found)), [len(places) for _, _, places in found]),
        half_diagonal=float(np.linalg.norm(pitch)) / 2,
    )


def _balls(mask: NDArray[np.bool_], least: float, pitch: Floats) -> Iterator[tuple[Floats, float, Floats]]:
    """Centre, radius and places of each part of a mask that holds a ball of the ``least`` radius, in units."""
    # A ball holds a cube, which is found faster.
    cube = (2 * np.floor(least / math.sqrt(mask.ndim) / pitch) + 1).astype(int)
    if not minimum_filter(mask, cube.tolist()).any():
        return
    # What lies beyond the border is not known to be bright.
    depth = np.asarray(distance_transform_edt(np.pad(mask, 1), sampling=pitch))[(slice(1, -1),) * mask.ndim]
    labels = np.asarray(measure_label(depth >= least, connectivity=1))
    for number, box in enumerate(find_objects(labels), start=1):
        margin = np.ceil(least / pitch).astype(int)
        low = np.maximum([axis.start for axis in box] - margin, 0)
        around = tuple(slice(a, axis.stop + b) for a, axis, b in zip(low, box, margin, strict=True))
        core, inside = labels[around] == number, depth[around]
        radius = float(inside[core].max())
        # Opened by a ball: neurites are too thin to stay.
        opened = np.asarray(distance_transform_edt(~core, sampling=pitch)) < least
        ball = math.pi ** (mask.ndim / 2) / math.gamma(mask.ndim / 2 + 1) * radius**mask.ndim
        if radius <= LARGEST * least and opened.sum() * pitch.prod() <= ROUNDEST * ball:
            middle = np.argwhere(core & (inside >= CORE * radius)).mean(axis=0)
            yield (middle + low) * pitch, radius, (np.argwhere(opened) + low) * pitch


def outside_somata(forest: SwcForest, somata: Somata | None) -> SwcForest:
    """The part of a forest, in units, that lies outside somata, all of it if there are none; its roots are ends."""
    if somata is None:
        return forest
    distance, _ = somata.nearest(forest.positions(somata.centre.shape[1]))
    left = subset(forest, distance > 0)
    return rewire(left, left.edges)


def join_at_somata(forest: SwcForest, somata: Somata | None, gap: float) -> SwcForest:
    """Join the trees that reach a soma at its centre, which becomes their root.

    Each tree is joined where it is nearest to one, and only there: a second edge would close a loop, or make one tree
    of two cells.

    Parameters
    ----------
    forest
        In units, outside the somata.
    somata
        Those that no tree reaches are left out. None leaves the forest as it is.
    gap
        Longest way in units from an end to the surface.

    Returns
    -------
    SwcForest
        Nodes of somata have their radius and the type :data:`~lib.swclib.forest.SOMA_TYPE`.
    """
    if somata is None:
        return forest
    ends, soma = _reaching(forest, somata, gap)
    used, number = np.unique(soma, return_inverse=True)
    bodies = SwcForest.from_positions(
        somata.centre[used], np.full(len(used), ROOT), somata.radius[used], np.full(len(used), SOMA_TYPE)
    )
    both = concatenate([forest, bodies])
    return rooted_at_somata(rewire(both, np.concatenate([both.edges, np.stack([ends, len(forest) + number], axis=1)])))


def ends_at_somata(forest: SwcForest, somata: Somata | None, gap: float) -> NDArray[np.integer]:
    """Ends ``(J,)`` of a forest in units that point at a soma at most ``gap`` from them."""
    return np.zeros(0, dtype=int) if somata is None else _pointing(forest, somata, gap)[0]


def _reaching(forest: SwcForest, somata: Somata, gap: float) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Ends ``(J,)`` that point at a soma near them, the nearest of each tree, and that soma ``(J,)``."""
    ends, soma, distance = _pointing(forest, somata, gap)
    nearest = np.argsort(distance, kind="stable")
    _, first = np.unique(forest.components[ends[nearest]], return_index=True)
    return ends[nearest[first]], soma[nearest[first]]


def _pointing(forest: SwcForest, somata: Somata, gap: float) -> tuple[NDArray[np.integer], NDArray[np.integer], Floats]:
    """Ends ``(J,)`` that point at a soma near them, that soma ``(J,)`` and the way ``(J,)`` to its surface."""
    ndim, behind = somata.centre.shape[1], nodes_behind_ends(forest)
    ends, before = (np.array(list(rows), dtype=int) for rows in (behind.keys(), behind.values()))
    if not len(ends):
        return ends, ends, ends.astype(float)
    positions = forest.positions(ndim)
    distance, soma = somata.nearest(positions[ends])
    ways = somata.centre[soma] - positions[ends], positions[ends] - positions[before]
    ahead = goes_straight(*ways, POINTING) | (goes_straight(*ways, 0.0) & (distance <= TOUCHING))
    reached = (distance <= max(gap, TOUCHING)) & ahead
    return ends[reached], soma[reached], distance[reached]
