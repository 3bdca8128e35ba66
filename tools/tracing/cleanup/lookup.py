"""Look-ups that several steps of the clean-up share: probabilities on the map, and the nearest edge of another tree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import map_coordinates

from lib.swclib import Nearest, SwcForest
from tools.tracing.growth.graph import TraceGraph


def pixel_sizes(spacing: Sequence[float] | None, ndim: int) -> np.ndarray:
    """``(ndim,)`` size of a pixel along each axis in units; 1 where ``spacing`` is None."""
    return np.ones(ndim) if spacing is None else np.array(spacing)


def probabilities_at(
    positions: np.ndarray, centerline: np.ndarray, spacing: Sequence[float] | None = None
) -> np.ndarray:
    """Centerline probabilities at some positions, interpolated linearly.

    Parameters
    ----------
    positions
        ``(N, ndim)`` in units.
    centerline
        ``(*S,)`` probabilities.
    spacing
        Size of a pixel along each axis in units; None means 1.

    Returns
    -------
    ndarray
        ``(N,)``.
    """
    pixels = positions / pixel_sizes(spacing, centerline.ndim)
    return map_coordinates(centerline, pixels.T, order=1, mode="nearest")


def nearest_other_tree(
    graph: TraceGraph, forest: SwcForest, position: np.ndarray, tree: int, radius: float
) -> Nearest | None:
    """The nearest position strictly within ``radius`` on an edge of any other tree; None if there is none.

    Parameters
    ----------
    graph
        The graph of ``forest``.
    position
        ``(ndim,)`` in units, as ``radius``.
    tree
        A number of the forest's ``components``, whose edges are ignored.
    """
    children = forest.edges[:, 1]
    return graph.nearest(position, radius, lambda edge: forest.components[children[edge]] == tree)
