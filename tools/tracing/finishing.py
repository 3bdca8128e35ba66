"""What is done to a trace after it has grown: cleaned of noise and spurs, then laid on the middle of its tubes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lib.swclib import SwcForest
from tools.tracing.postprocess import CleanUp, clean
from tools.tracing.refine import refine


def finished(
    forest: SwcForest,
    centerline: np.ndarray,
    options: CleanUp,
    *,
    longest: float,
    refined: bool = True,
    spacing: Sequence[float] | None = None,
) -> SwcForest:
    """A grown trace as it is written, in work pixels.

    Parameters
    ----------
    forest
        As the tracer leaves it.
    centerline
        ``(*S,)`` chances.
    options
        See :class:`~tools.tracing.postprocess.CleanUp`; ends are drawn out as far as its ``gap_chance`` holds.
    longest
        By how much ends may be drawn out: a step.
    refined
        Whether the trace is laid on the middle of its tubes.
    spacing
        Size of a pixel along each axis; None: the same.
    """
    forest = clean(forest, centerline, options, spacing)
    if not refined:
        return forest
    return refine(forest, centerline, threshold=options.gap_chance, longest=longest, spacing=spacing)
