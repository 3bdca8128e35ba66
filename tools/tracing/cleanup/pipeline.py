"""What is done to a trace after it has grown, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.swclib import SwcForest, rescale
from tools.tracing.cleanup.centring import TOUCH, centre_trace
from tools.tracing.cleanup.crossings import split_crossings
from tools.tracing.cleanup.gaps import close_gaps
from tools.tracing.cleanup.pruning import drop_isolated, drop_single_nodes, prune_spurs

LONGEST_EXTENSION = 20.0
"""Units by which an end is extended at most: where the network stops at the border of a volume, the map goes on. (40
is worth .001 of SSD-F1 more, 5 costs .014: docs/experiments.md.)"""
ARRIVED = TOUCH + 1
"""Units. An end is extended unit by unit until the next one would come within ``TOUCH`` of a branch. So an end that has
arrived at a branch lies within this distance of it."""
JOIN_CONE = math.cos(math.radians(50))
"""Cosine of the angle to the branch within which an extended end must point to be joined: what runs alongside is
another branch. (20 degrees leave a third of the forks unjoined, with 60 parallel neurites are joined.)"""


@dataclass(frozen=True)
class CleanupSettings:
    """What is cleaned up. Lengths are in units: work pixels of the finest axis.

    Attributes
    ----------
    gap
        An end at most this far from another tree is joined to it, where the map supports it; 0 joins none.
    gap_probability
        Mean centerline probability along a joined gap, at least; also down to which ends are extended.
    spur
        Side branches shorter than this are cut off, see :func:`~tools.tracing.cleanup.pruning.prune_spurs`; 0 keeps
        them.
    isolated
        Whether isolated short trees are dropped.
    sure
        An isolated tree is kept all the same where its mean centerline probability is above this; 1 keeps none. The
        paper's rule alone would drop true vessels of 500 px (docs/paper.md §5: up to 50 nodes).
    centre
        Whether the trace is centred on the map and its ends are extended.
    split_crossings
        Whether branches that cross become two trees, see :mod:`tools.tracing.cleanup.crossings`.
    """

    gap: float = 12.0
    gap_probability: float = 0.3
    spur: float = 20.0
    isolated: bool = True
    sure: float = 1.0
    centre: bool = True
    split_crossings: bool = False


def clean_up(
    forest: SwcForest,
    centerline: np.ndarray,
    settings: CleanupSettings,
    *,
    spacing: Sequence[float] | None = None,
) -> SwcForest:
    """Clean up a grown trace.

    Positions are turned into units once, and back at the end; every step between works in units.

    Parameters
    ----------
    forest
        As the tracer leaves it: work positions, roots at ends.
    centerline
        ``(*S,)`` probabilities.
    settings
        See :class:`CleanupSettings`.
    spacing
        Size of a pixel along each axis in units; None: 1.

    Returns
    -------
    SwcForest
        Work positions; its roots are ends.
    """
    sizes = np.ones(centerline.ndim) if spacing is None else np.array(spacing)
    forest = rescale(forest, sizes)
    # First, because a lone node is no branch: it must neither be joined to one nor save one from being dropped.
    forest = drop_single_nodes(forest)
    if settings.gap > 0:
        forest = close_gaps(forest, centerline, settings.gap, settings.gap_probability, spacing)
    forest = prune_spurs(forest, settings.spur)
    if settings.isolated:
        forest = drop_isolated(forest, centerline, settings.sure, spacing)
    if settings.centre:
        forest = centre_trace(
            forest, centerline, threshold=settings.gap_probability, longest=LONGEST_EXTENSION, spacing=spacing
        )
        if settings.gap > 0:
            near = min(ARRIVED, settings.gap)
            forest = close_gaps(forest, centerline, near, settings.gap_probability, spacing, JOIN_CONE, ahead_only=True)
    if settings.split_crossings:
        forest = split_crossings(forest)
    return rescale(forest, 1 / sizes)
