"""Single nodes and isolated trees, removed from a trace."""

from __future__ import annotations

import numpy as np

from lib.swclib import SwcForest, subset
from tools.tracing.cleanup.lookup import near_other_trees, probabilities_at

LONG_TREE = 50
"""Trees of more nodes than this are never isolated noise (docs/paper.md §5)."""
SHORT_TREE, SHORT_REACH, REACH = 4, 10.0, 25.0
"""A tree of fewer nodes than the first is noise if no other branch lies within the second of any of its ends, a longer
one if none lies within the third; in units (docs/paper.md §5)."""


def drop_single_nodes(forest: SwcForest) -> SwcForest:
    """Drop trees of one node: seeds from which nothing grew."""
    return subset(forest, forest.degree > 0)


def drop_isolated(
    forest: SwcForest,
    centerline: np.ndarray,
    sure: float = 1.0,
    sizes: np.ndarray | float = 1.0,
    *,
    kept: np.ndarray | None = None,
) -> SwcForest:
    """Drop short trees that have no other branch near any end (docs/paper.md §5).

    Parameters
    ----------
    forest, centerline, sizes
        A trace in units, its map and pixel size, see :func:`~tools.tracing.cleanup.lookup.probabilities_at`.
    sure
        A tree is kept if its mean probability is above this.
    kept
        bool ``(N,)`` nodes whose trees are kept in any case: bodies of cells, and what may go on beyond the window that
        is traced; None: none.
    """
    isolated = is_isolated(forest, np.bincount(forest.components), centerline, sure, sizes)
    if kept is not None:
        isolated[forest.components[kept]] = False
    return subset(forest, ~isolated[forest.components])


def is_isolated(
    forest: SwcForest, size: np.ndarray, centerline: np.ndarray, sure: float, sizes: np.ndarray | float = 1.0
) -> np.ndarray:
    """Which trees :func:`drop_isolated` drops.

    Parameters
    ----------
    size
        ``(trees,)`` number of steps that each tree has, or had.
    forest, centerline, sure, sizes
        As there.

    Returns
    -------
    ndarray
        bool ``(trees,)``.
    """
    tree, ndim = forest.components, centerline.ndim
    mean = np.bincount(tree, probabilities_at(forest.positions(ndim), centerline, sizes)) / np.bincount(tree)
    keep = (size > LONG_TREE) | ((size >= SHORT_TREE) & (mean > sure))
    # A branch at exactly the reach is near, but the search finds only what is nearer than its radius.
    reach = np.nextafter(np.where(size < SHORT_TREE, SHORT_REACH, REACH), np.inf)
    ends = np.flatnonzero((forest.degree <= 1) & ~keep[tree])
    _, near = near_other_trees(forest, ends, reach[tree[ends]], ndim)
    keep[tree[list(near)]] = True
    return ~keep
