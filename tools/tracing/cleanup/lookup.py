"""What the steps of the clean-up look up: probabilities on the map, the nearest edge of another tree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import map_coordinates

from lib.swclib import Nearest, SwcForest
from tools.tracing.growth.graph import TraceGraph


def probabilities_at(
    positions: np.ndarray, centerline: np.ndarray, spacing: Sequence[float] | None = None
) -> np.ndarray:
    """Centerline probabilities at some positions, linear between pixels.

    Parameters
    ----------
    positions
        ``(N, ndim)`` in units.
    centerline
        ``(*S,)`` probabilities.
    spacing
        Size of a pixel along each axis in units; None: 1.

    Returns
    -------
    ndarray
        ``(N,)``.
    """
    pixels = positions if spacing is None else positions / np.array(spacing)
    return map_coordinates(centerline, pixels.T, order=1, mode="nearest")


def nearest_other_tree(
    graph: TraceGraph, forest: SwcForest, position: np.ndarray, tree: int, radius: float
) -> Nearest | None:
    """The nearest place strictly within ``radius`` on an edge of any tree but ``tree``; None without one.

    ``graph`` is made of ``forest``; ``tree`` is a number of its ``components``.
    """
    children = forest.edges[:, 1]
    return graph.nearest(position, radius, lambda edge: forest.components[children[edge]] == tree)
