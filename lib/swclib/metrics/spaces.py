"""Do two trees lie in the same space? Likely mistakes: another scale, another voxel spacing, another pixel origin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from lib.swclib.forest import SwcForest
from lib.swclib.metrics.score import Score
from lib.swclib.transform import rescale, subdivide

FACTORS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 8.0, 10.0)
"""Scales that programs use; their inverses are tried too."""
ENOUGH = 0.5  # share of the places that must be near for a scale to be believed
AT_LEAST_TIMES = 2.0  # and how many times more than as the trees stand
HALF = (0.3, 0.7)  # a mean shift in between looks like half a pixel
LEAST_SHIFT = 0.2  # along each axis: golds lean to one side by a tenth or two, which comes on top
_PLACES = 1000
_LEAST_NEAR = 50.0  # in thresholds: a shift is believed only over this length


def space_warnings(gold: SwcForest, test: SwcForest, result: Score) -> list[str]:
    """Say in one line each what looks like a mistake of space; mostly nothing.

    Parameters
    ----------
    gold, test, result
        The trees that were scored, in pixels, and what `score` said.
    """
    if gold.length == 0 or test.length == 0:
        return []
    share = result.on_gold.value or 0.0
    if share < ENOUGH:
        scale, scaled_share = likely_scale(gold, test, threshold=result.threshold, spacing=result.spacing)
        if scaled_share >= max(ENOUGH, AT_LEAST_TIMES * share):
            found = f"{100 * scaled_share:.0f} % of it would lie on the gold, as it is {100 * share:.0f} %"
            return [f"the test looks scaled by {_in_words(scale)} against the gold: divided by that {found}"]
    if share == 0:
        return ["nothing of the test lies near the gold; is it the trace of this image?"]
    shift = np.array(result.on_gold.shift) / result.spacing
    is_half = HALF[0] <= abs(shift[1:].mean()) <= HALF[1] and (abs(shift[1:]) >= LEAST_SHIFT).all()
    if is_half and result.on_gold.near >= _LEAST_NEAR * result.threshold:
        found = f"shifted by {shift[1]:+.2f}, {shift[2]:+.2f} pixels (y, x) against the gold"
        return [f"the test looks {found}: one of them may count from the corner of a pixel, the other from its centre"]
    return []


def _in_words(scale: Sequence[float]) -> str:
    """One number if it is the same for all axes."""
    factors = [f"{factor:.3g}" for factor in scale]
    return factors[0] if len(set(factors)) == 1 else f"{', '.join(factors)} (z, y, x)"


def likely_scale(
    gold: SwcForest, test: SwcForest, *, threshold: float, spacing: Sequence[float]
) -> tuple[tuple[float, float, float], float]:
    """Return the scale (z, y, x) by which the test must be divided to lie on the gold best, and the share that does.

    Tried are the usual factors on all axes, on z alone, and the ratios of the extents. Share means nodes of the test
    nearer than the threshold to a gold place, of at most a thousand evenly taken.
    """
    places = cKDTree(subdivide(rescale(gold, spacing), threshold).xyz)
    nodes = test.xyz[:: max(1, len(test) // _PLACES), ::-1]
    best, best_share = (1.0, 1.0, 1.0), 0.0
    for scale in _candidates(gold, test):
        distance = places.query((nodes / scale * spacing)[:, ::-1], distance_upper_bound=threshold)[0]
        share = float(np.isfinite(distance).mean())
        if share > best_share:
            best, best_share = tuple(scale.tolist()), share
    return best, best_share


def _candidates(gold: SwcForest, test: SwcForest) -> list[np.ndarray]:
    """Scales (z, y, x) to try, the plainest first: a tie goes to it."""
    factors = [factor for pair in ((f, 1 / f) for f in FACTORS) for factor in pair][1:]
    extent = [np.ptp(tree.xyz[:, ::-1], axis=0) for tree in (gold, test)]
    has_extent = (extent[0] > 0) & (extent[1] > 0)
    ratio = np.where(has_extent, extent[1] / np.where(has_extent, extent[0], 1.0), 1.0)
    same = [np.full(3, factor) for factor in factors]
    along_z = [np.array([factor, 1.0, 1.0]) for factor in factors[1:]] if has_extent[0] else []
    mean = np.full(3, np.exp(np.log(ratio[has_extent]).mean())) if has_extent.any() else np.ones(3)
    return [*same, *along_z, mean, ratio]
