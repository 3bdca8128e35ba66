"""The scale of an image, from the width of its tubes: they should be as many work pixels wide as in training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lib.errors import UserError
from lib.klib.skeleton import mask_to_forest
from lib.swclib import SwcForest, resample

if TYPE_CHECKING:
    from tools.tracing.job import Prepared, TraceJob

SIDE = {2: 900, 3: 128}
"""Work pixels along each axis, by dimension, of the middle of an image in which tubes are measured."""
NODES = 4.0
"""Work pixels between the places at which a width is measured."""
LEAST_LENGTH = 50.0
"""Work pixels of tubes from which a width is believed."""
OCTAVES = (-4, -3, -2, -1, 0, 1)
"""Powers of two, times the scale of the weights, that are tried. Images are mostly finer than the training images."""
FAR = 1.8
"""Ratio of the widths from which a scale plainly does not fit."""


def fitting_scale(job: TraceJob, pixels: np.ndarray, spacing: Sequence[float] | None = None) -> float:
    """Scale at which the tubes of an image are as wide as those that the weights know.

    An image holds tubes of many widths, and at every scale the network sees those that are then as wide as in training.
    So the octave comes first, from how much of the image is covered by tubes that are seen (by volume, in volumes):
    where the wide ones are among them it is most. Within the octave the median width gives the scale.

    Parameters
    ----------
    job
        Its network finds the tubes.
    pixels
        ``(*S, C)`` the image.
    spacing
        Size of a pixel along each axis, as its file gives it.

    Returns
    -------
    float
        Work pixels per image pixel; that of the weights where nothing is found to measure.

    Raises
    ------
    UserError
        If the weights do not say how wide the tubes of their training images are.
    """
    known = job.header.seen.get("width")
    if not known:
        found = "--scale auto: these weights do not say how wide the tubes of their training images are"
        raise UserError(f"{found}; give a number, or run tools.calibrate")
    best, most = job.header.scale, 0.0
    for octave in OCTAVES:
        scale = job.header.scale * 2.0**octave
        middle = _middle(pixels, SIDE[job.spec.ndim] / scale)
        if any(size * scale < least for size, least in zip(middle.shape, job.header.patch_size, strict=False)):
            continue
        forest, width = tube_widths(job, job.prepare(middle, spacing=spacing, scale=scale))
        covered = _covered(forest, width, job.spec.ndim) / float(np.prod(np.array(middle.shape[:-1]) * scale))
        if covered > most:
            best, most = scale * known / weighted_quantiles(forest, width, (0.5,))[0], covered
    return float(f"{best:.2g}")


def tube_widths(job: TraceJob, image: Prepared) -> tuple[SwcForest, np.ndarray]:
    """Tubes of an image and the width of each node ``(N,)``, both in work pixels; an empty forest where there are none.

    The tubes are the skeleton of the centerline map, because a trace takes longer.
    """
    centerline = job.predictor.encode(image.pixels).centerline
    mask = centerline >= job.options.seed_threshold
    forest = SwcForest.empty() if mask.all() else mask_to_forest(mask, radius=False)[0]
    if forest.length < LEAST_LENGTH:
        return SwcForest.empty(), np.zeros(0)
    forest = resample(forest, NODES)
    radius = job.spec.radii(image, centerline, forest, image.to_image(forest))
    return forest, 2 * radius * image.spaces.scale[-1]


def _covered(forest: SwcForest, width: np.ndarray, ndim: int) -> float:
    """Area that tubes cover, or volume up to a factor."""
    return float((width[forest.edges].mean(axis=1) ** (ndim - 1) * forest.edge_lengths).sum())


def weighted_quantiles(forest: SwcForest, values: np.ndarray, shares: Sequence[float]) -> list[float]:
    """Values ``(N,)`` of nodes below which these shares of the length lie."""
    of_edges = values[forest.edges].mean(axis=1)
    order = np.argsort(of_edges)
    below = np.cumsum(forest.edge_lengths[order]) / forest.length
    return [float(of_edges[order][min(np.searchsorted(below, share), len(order) - 1)]) for share in shares]


def mismatch(width: float, known: float, scale: float) -> str:
    """What to say of a trace whose tubes are ``width`` work pixels wide; empty if the weights know such tubes."""
    if not width > 0 or abs(math.log(width / known)) < math.log(FAR):
        return ""
    found = f"its tubes are {width:.2g} work pixels wide, those that the weights know {known:.2g}"
    return f"the scale seems not to fit: {found}; try --scale {scale * known / width:.2g}, or --scale auto"


def _middle(pixels: np.ndarray, side: float) -> np.ndarray:
    """The middle of an image, at most ``side`` pixels along each axis."""
    start = [max(0, int((size - side) / 2)) for size in pixels.shape[:-1]]
    return pixels[tuple(slice(first, size - first) for first, size in zip(start, pixels.shape[:-1], strict=True))]
