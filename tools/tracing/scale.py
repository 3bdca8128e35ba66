"""The scale of an image, from the size of its pixels on the ground or the width of its tubes.

Tubes should be as many work pixels wide as in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from lib.errors import UserError
from lib.formats.georeference import ground_pixel
from lib.klib.skeleton import mask_to_forest
from lib.swclib import SwcForest, resample

if TYPE_CHECKING:
    from models.checkpoint import WeightsHeader
    from tools.tracing.job import Prepared, TraceJob
    from tools.tracing.trace import Trace

Part = tuple[slice, ...]

SIDE = {2: 900, 3: 128}
"""Work pixels along each axis, by dimension, of the middle of an image in which tubes are measured."""
NODES = 4.0
"""Work pixels between the places at which a width is measured."""
LEAST_LENGTH = 50.0
"""Work pixels of tubes from which a width is believed."""
OCTAVES = (-4, -3, -2, -1, 0, 1)
"""Powers of two, times the scale of the weights, that are tried. Images are mostly finer than the training images."""
CLEARLY = 1.5
"""From so many times as much of the image covered by tubes at half the scale, the scale plainly does not fit. At scales
that fit, half of them shows .6 to 1.3 times as much, at twice that 1.8 to 2.8 times (docs/experiments.md)."""


def ground_scale(
    given: float | Literal["auto"] | None, header: WeightsHeader, image: Path, shape: Sequence[int]
) -> float | None:
    """Scale at which a georeferenced image shows the ground as the training images did, to two digits.

    Parameters
    ----------
    given
        ``--scale``: a number is left as it is.
    header
        Of weights that say how many metres a pixel of their training images spans.
    image, shape
        The file, and its size (y, x).

    Returns
    -------
    float or None
        Work pixels per image pixel. None where either size is not known, and where an image is so much coarser or finer
        than the training images that no scale makes it look like them.
    """
    known = header.seen.get("metres")
    metres = ground_pixel(image, shape) if known and (given is None or given == "auto") else None
    if not known or not metres:
        return None
    ratio = float(f"{metres / known:.2g}")
    return header.scale * ratio if 2.0 ** OCTAVES[0] <= ratio <= 2.0 ** OCTAVES[-1] else None


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
    seen = [_seen(job, pixels, job.header.scale * 2.0**octave, known, spacing) for octave in OCTAVES]
    covered, scale = max(seen)
    return float(f"{scale:.2g}") if covered else job.header.scale


def mismatch(job: TraceJob, trace: Trace, pixels: np.ndarray, spacing: Sequence[float] | None = None) -> str:
    """What to say of a trace at a scale that is plainly too large for its image; empty if it seems to fit.

    At half of a scale that is too large more of the image is covered by tubes, see :func:`fitting_scale`. Twice the
    scale is not tried: it takes four times as long, and where the image holds narrow tubes too, as roads do, it shows
    more even if the scale is right.
    """
    known, scale = job.header.seen.get("width"), float(trace.spaces.scale[-1])
    if not known or job.options.scale == "auto":
        return ""
    part = _middle(pixels.shape[:-1], SIDE[job.spec.ndim] / scale)
    first = [round(each.start * scale) for each in part]
    size = [round((each.stop - each.start) * scale) for each in part]
    of_part = tuple(slice(at, at + length) for at, length in zip(first, size, strict=True))
    assert trace.centerline is not None  # a trace in cells is not asked
    here, _ = _seen(job, pixels[part], scale, known, spacing, trace.centerline[of_part])
    there, fitting = _seen(job, pixels[part], scale / 2, known, spacing)
    if there <= CLEARLY * here:
        return ""
    more = f"{there / here:.1f} times as much of the tubes" if here else "tubes, and none here"
    found = f"at {scale / 2:.2g} the network sees {more}"
    return f"the scale {scale:.2g} seems not to fit: {found}; try --scale {fitting:.2g}, or --scale auto"


def _seen(
    job: TraceJob,
    pixels: np.ndarray,
    scale: float,
    known: float,
    spacing: Sequence[float] | None,
    centerline: np.ndarray | None = None,
) -> tuple[float, float]:
    """Part of the middle of an image that tubes cover at a scale, and the scale at which these are as wide as known.

    Its ``centerline`` map is made where it is not given; then ``pixels`` are the middle already.
    """
    middle = pixels[_middle(pixels.shape[:-1], SIDE[job.spec.ndim] / scale)] if centerline is None else pixels
    if any(size * scale < least for size, least in zip(middle.shape, job.header.patch_size, strict=False)):
        return 0.0, scale
    forest, width = tube_widths(job, job.prepare(middle, spacing=spacing, scale=scale), centerline)
    if not len(forest):
        return 0.0, scale
    covered = (width[forest.edges].mean(axis=1) ** (job.spec.ndim - 1) * forest.edge_lengths).sum()
    size = float(np.prod(np.array(middle.shape[:-1]) * scale))
    return float(covered) / size, scale * known / weighted_quantiles(forest, width, (0.5,))[0]


def tube_widths(job: TraceJob, image: Prepared, centerline: np.ndarray | None = None) -> tuple[SwcForest, np.ndarray]:
    """Tubes of an image and the width of each node ``(N,)``, both in work pixels; an empty forest where there are none.

    The tubes are the skeleton of the ``centerline`` map, which is made where it is not given; a trace takes longer.
    """
    if centerline is None:
        centerline = job.predictor.encode(image.pixels, views=1).centerline
    mask = centerline >= job.options.seed_threshold
    forest = SwcForest.empty() if mask.all() else mask_to_forest(mask, radius=False)[0]
    if forest.length < LEAST_LENGTH:
        return SwcForest.empty(), np.zeros(0)
    forest = resample(forest, NODES)
    radius = job.spec.radii(image, centerline, forest, image.to_image(forest))
    return forest, 2 * radius * image.spaces.scale[-1]


def weighted_quantiles(forest: SwcForest, values: np.ndarray, shares: Sequence[float]) -> list[float]:
    """Values ``(N,)`` of nodes below which these shares of the length lie."""
    of_edges = values[forest.edges].mean(axis=1)
    order = np.argsort(of_edges)
    below = np.cumsum(forest.edge_lengths[order]) / forest.length
    return [float(of_edges[order][min(np.searchsorted(below, share), len(order) - 1)]) for share in shares]


def _middle(shape: tuple[int, ...], side: float) -> Part:
    """The middle of an image of this shape, at most ``side`` pixels along each axis."""
    start = [max(0, int((size - side) / 2)) for size in shape]
    return tuple(slice(first, size - first) for first, size in zip(start, shape, strict=True))
