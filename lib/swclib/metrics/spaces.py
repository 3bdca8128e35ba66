"""Warnings about two trees in different coordinates: another scale, voxel spacing or pixel origin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree

from lib.swclib.forest import SwcForest
from lib.swclib.metrics.score import Score
from lib.swclib.transform import rescale, subdivide

FACTORS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 8.0, 10.0)
"""Scales that programs use; their inverses are tried too."""
MIN_SHARE = 0.5  # a scale is reported only if this share of the test then lies near the gold
MIN_GAIN = 2.0  # and if the share grows at least by this factor
HALF_PIXEL = (0.3, 0.7)  # range of the mean shift in pixels that suggests half a pixel
MIN_SHIFT = 0.2  # in pixels along each axis: gold trees are themselves biased by 0.1 to 0.2 pixels
_MAX_NODES = 1000  # test nodes that are tried at each scale
_MIN_NEAR = 50.0  # multiple of the threshold: a shift is reported only if at least this length is near


def space_warnings(gold: SwcForest, test: SwcForest, result: Score) -> list[str]:
    """Return a one-line warning if the trees seem to lie in different coordinates, usually none.

    Parameters
    ----------
    gold, test
        The scored trees, in pixels.
    result
        Their `Score`.
    """
    if gold.length == 0 or test.length == 0:
        return []
    share = result.on_gold.value or 0.0
    if share < MIN_SHARE:
        scale, scaled_share = likely_scale(gold, test, threshold=result.threshold, spacing=result.spacing)
        if scaled_share >= max(MIN_SHARE, MIN_GAIN * share):
            found = f"{100 * scaled_share:.0f} % of it would lie on the gold instead of {100 * share:.0f} %"
            return [f"the test looks scaled by {_in_words(scale)} against the gold: divided by that, {found}"]
    if share == 0:
        return ["nothing of the test lies near the gold; is it a trace of the same image?"]
    shift = np.array(result.on_gold.shift) / result.spacing
    is_half = HALF_PIXEL[0] <= abs(shift[1:].mean()) <= HALF_PIXEL[1] and (abs(shift[1:]) >= MIN_SHIFT).all()
    if is_half and result.on_gold.near >= _MIN_NEAR * result.threshold:
        found = f"shifted by {shift[1]:+.2f}, {shift[2]:+.2f} pixels (y, x) against the gold"
        return [f"the test looks {found}: one may count from the corner of the first pixel, the other from its centre"]
    return []


def _in_words(scale: Sequence[float]) -> str:
    """One number if it is the same for all axes, otherwise three."""
    factors = [f"{factor:.3g}" for factor in scale]
    return factors[0] if len(set(factors)) == 1 else f"{', '.join(factors)} (z, y, x)"


def likely_scale(
    gold: SwcForest, test: SwcForest, *, threshold: float, spacing: Sequence[float]
) -> tuple[tuple[float, float, float], float]:
    """Find the scale by which the test must be divided to fit the gold best.

    Candidates are the usual factors on all axes and on z alone, and the ratios of the extents.

    Parameters
    ----------
    gold, test
        Trees in pixels.
    threshold
        Distance below which a test node is near the gold, in the unit of ``spacing``.
    spacing
        Pixel size, (z, y, x).

    Returns
    -------
    scale, share
        The scale, (z, y, x), and the share of (at most about a thousand) test nodes that are near the gold with it.
    """
    places = KDTree(subdivide(rescale(gold, spacing), threshold).xyz)
    nodes = test.xyz[:: max(1, len(test) // _MAX_NODES), ::-1]
    best, best_share = (1.0, 1.0, 1.0), 0.0
    for scale in _candidates(gold, test):
        distance = places.query((nodes / scale * spacing)[:, ::-1], distance_upper_bound=threshold)[0]
        share = float(np.isfinite(distance).mean())
        if share > best_share:
            best, best_share = tuple(scale.tolist()), share
    return best, best_share


def _candidates(gold: SwcForest, test: SwcForest) -> list[np.ndarray]:
    """Scales (z, y, x) to try, the simplest first, because the first of equally good ones is taken."""
    factors = [factor for f in FACTORS for factor in (f, 1 / f)][1:]
    extent = [np.ptp(tree.xyz[:, ::-1], axis=0) for tree in (gold, test)]
    has_extent = (extent[0] > 0) & (extent[1] > 0)
    ratio = np.where(has_extent, extent[1] / np.where(has_extent, extent[0], 1.0), 1.0)
    same = [np.full(3, factor) for factor in factors]
    along_z = [np.array([factor, 1.0, 1.0]) for factor in factors[1:]] if has_extent[0] else []
    mean = np.full(3, np.exp(np.log(ratio[has_extent]).mean())) if has_extent.any() else np.ones(3)
    return [*same, *along_z, mean, ratio]
