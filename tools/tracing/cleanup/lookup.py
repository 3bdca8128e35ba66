"""Look-ups that several steps of the clean-up share, on the map and among the branches of a trace."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import map_coordinates

from lib.swclib import Nearest, SwcForest
from tools.tracing.growth.graph import TraceGraph


def probabilities_at(positions: np.ndarray, centerline: np.ndarray, sizes: np.ndarray | float = 1.0) -> np.ndarray:
    """Centerline probabilities at some positions, interpolated linearly.

    Parameters
    ----------
    positions
        ``(N, ndim)`` in units.
    centerline
        ``(*S,)`` probabilities.
    sizes
        ``(ndim,)`` size of a pixel in units, or one for all axes.

    Returns
    -------
    ndarray
        ``(N,)``.
    """
    return map_coordinates(centerline, (positions / sizes).T, order=1, mode="nearest")


def near_other_trees(
    forest: SwcForest, nodes: np.ndarray, radius: np.ndarray | float, ndim: int
) -> tuple[TraceGraph, dict[int, Nearest]]:
    """The graph of a forest, and the place on another tree that is nearest to each of some nodes.

    Every step changes nodes or edges, so each that asks for places builds its graph here.

    Parameters
    ----------
    forest
        Any forest.
    nodes
        ``(K,)`` rows.
    radius
        Only places nearer than this are found; one number, or ``(K,)``.
    ndim
        2 or 3.

    Returns
    -------
    graph, near
        The graph, and the place by row, in the order of ``nodes``; rows without a place are missing.
    """
    graph, tree = TraceGraph.from_forest(forest, ndim), forest.components
    edge_tree, near = tree[forest.edges[:, 1]], {}
    for node, reach in zip(nodes.tolist(), np.broadcast_to(radius, len(nodes)).tolist(), strict=True):
        place = graph.nearest(graph.positions[node], reach, lambda edge, own=tree[node]: edge_tree[edge] == own)
        if place is not None:
            near[node] = place
    return graph, near
