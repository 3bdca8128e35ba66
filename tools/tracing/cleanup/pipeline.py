"""The clean-up of a grown trace, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lib.klib.windows import is_outside
from lib.swclib import SwcForest, prune_spurs, rescale
from lib.swclib.forest import SOMA_TYPE
from tools.tracing.cleanup.centring import TOUCH, centre_trace
from tools.tracing.cleanup.crossings import join_across, split_crossings
from tools.tracing.cleanup.gaps import close_gaps, find_loops
from tools.tracing.cleanup.kinds import with_kinds
from tools.tracing.cleanup.pruning import drop_isolated, drop_single_nodes
from tools.tracing.cleanup.somata import Somata, ends_at_somata, join_at_somata, outside_somata

LONGEST_EXTENSION = 20.0
"""Units by which an end is extended at most. Near the border of a volume the network stops before the map does."""
ARRIVED = TOUCH + 1
"""Units. An end is extended unit by unit until the next one would come within ``TOUCH`` of a branch, so an end that has
arrived at a branch lies within this distance."""
JOIN_CONE = math.cos(math.radians(50))
"""Cosine of the angle to the branch within which an extended end is joined: a parallel branch is another one."""


@dataclass(frozen=True)
class CleanupSettings:
    """Settings of the clean-up. Lengths are in units: work pixels of the finest axis.

    Attributes
    ----------
    gap
        An end is joined to another tree at most this far away, where the map supports it, and is the fourth arm of a
        crossing at most this far away; 0 joins none, also none across another tree.
    gap_probability
        Least mean centerline probability along a joined gap, and least probability along an extended end.
    spur
        Side branches shorter than this are cut off, see :func:`~lib.swclib.spurs.prune_spurs`; 0 keeps
        them.
    isolated
        Whether isolated short trees are dropped.
    sure
        An isolated tree is kept if its mean centerline probability is above this; 1 keeps none. The paper's rule alone
        would drop true vessels of up to 50 nodes, 500 px (docs/paper.md §5).
    centre
        Whether the trace is centred on the map and its ends are extended.
    split_crossings
        Whether branches that cross become two trees, see :mod:`tools.tracing.cleanup.crossings`, ends are joined across
        other trees, and trees of two kinds of tube are separated, see :mod:`tools.tracing.cleanup.kinds`.
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
    kinds: np.ndarray | None = None,
    somata: Somata | None = None,
    window: tuple[np.ndarray, np.ndarray] | None = None,
) -> SwcForest:
    """Clean up a grown trace.

    Parameters
    ----------
    forest
        Work positions; its roots are ends.
    centerline
        ``(*S,)`` probabilities.
    settings
        See :class:`CleanupSettings`.
    spacing
        Size of a pixel along each axis in units; None means 1. The steps work in units.
    kinds
        ``(kinds, *S)`` probabilities of the kinds of tube, if the network tells them apart.
    somata
        Bodies of cells at which trees are joined.
    window
        Least and largest work position ``(ndim,)`` between which all that matters is known, where the image is a window
        of a larger one; None knows everything.

    Returns
    -------
    SwcForest
        Work positions; its roots are ends, or somata, whose radius is in units.
    """
    sizes, support = np.array(1.0 if spacing is None else spacing), settings.gap_probability
    # Single nodes go first: they must not be joined to a branch, nor save one from being dropped.
    forest = drop_single_nodes(outside_somata(rescale(forest, sizes.tolist()), somata))
    if settings.gap > 0:
        forest = close_gaps(forest, centerline, settings.gap, support, sizes)
    # A stem that leads to a body is no spur, and the neurites of a cell are no noise.
    forest = prune_spurs(join_at_somata(forest, somata, settings.gap), settings.spur)
    if settings.isolated:
        kept = forest.types == SOMA_TYPE
        if window is not None:
            kept |= is_outside(forest.positions(centerline.ndim) / sizes, *window)
        forest = drop_isolated(forest, centerline, settings.sure, sizes, kept=kept)
    forest = outside_somata(forest, somata)
    if settings.centre:
        forest = centre_trace(forest, centerline, threshold=support, longest=LONGEST_EXTENSION, sizes=sizes)
        if settings.gap > 0:
            near = min(ARRIVED, settings.gap)
            forest = close_gaps(forest, centerline, near, support, sizes, JOIN_CONE, ahead_only=True)
    if settings.split_crossings:
        forest = split_crossings(forest, settings.gap, ends_at_somata(forest, somata, settings.gap))
    if kinds is not None:
        forest = with_kinds(forest, kinds, sizes, separate=settings.split_crossings)
    if settings.split_crossings and settings.gap > 0:
        forest = join_across(forest, ends_at_somata(forest, somata, settings.gap))
    # Steps in between may have led into a body.
    forest = join_at_somata(outside_somata(forest, somata), somata, settings.gap)
    return replace(rescale(forest, (1 / sizes).tolist()), radius=forest.radius)


def open_loops(
    forest: SwcForest,
    centerline: np.ndarray,
    settings: CleanupSettings,
    *,
    spacing: Sequence[float] | None = None,
    recorded: np.ndarray | None = None,
) -> np.ndarray:
    """Loops that a finished trace leaves open, see :func:`~tools.tracing.cleanup.gaps.find_loops`.

    Parameters
    ----------
    forest, centerline, settings, spacing
        The result of :func:`clean_up`, and what made it.
    recorded
        ``(L, 2, ndim)`` work positions of the loops that the tracer left open.

    Returns
    -------
    ndarray
        int64 ``(K, 2)`` rows of the forest, the ends of the edges that would close them.
    """
    sizes = np.array(1.0 if spacing is None else spacing)
    in_units = None if recorded is None else recorded * sizes
    in_place = rescale(forest, np.broadcast_to(sizes, centerline.ndim).tolist())
    return find_loops(in_place, centerline, settings.gap, settings.gap_probability, sizes, in_units)
