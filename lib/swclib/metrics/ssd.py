"""SSD-F1: the share of nodes of each tree that lie near the other tree.

The F1 form of the substantial spatial distance (Peng et al., Nature Biotechnology 28:348, 2010). Equal to the metric
``ssd`` of PyNeval 1.1.1 (Zhang et al., Frontiers in Neuroinformatics 15, 2021) with its defaults; an independent
implementation based on PyNeval's behaviour.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from lib.swclib.forest import SwcForest, enumerate_groups
from lib.swclib.metrics.f1 import F1
from lib.swclib.nearest import distances

STEP = 2.0  # PyNeval's up_sample_threshold, in pixels
SEARCH_DECIMALS = 2  # PyNeval finds the nearest of the rounded positions, then measures the unrounded distance


def ssd_f1(gold: SwcForest, test: SwcForest, *, threshold: float = 2.0, step: float = STEP) -> F1:
    """Return the SSD-F1 of two trees; its counts are nodes of the densified trees.

    Parameters
    ----------
    gold, test
        Trees in the same coordinates, in pixels or physical units.
    threshold
        A node is matched if the nearest node of the other tree is nearer than this.
    step
        Every edge of length L is first cut into ``floor(L / step)`` equal pieces.
    """
    gold_points, test_points = densify(gold, step), densify(test, step)
    return F1(
        matched_gold=_count_near(gold_points, test_points, threshold),
        total_gold=len(gold_points),
        matched_test=_count_near(test_points, gold_points, threshold),
        total_test=len(test_points),
    )


def densify(forest: SwcForest, step: float) -> np.ndarray:
    """Return the nodes and the places that cut every edge into ``floor(length / step)`` pieces, float64 ``(K, 3)``."""
    parent, child = forest.edges.T
    pieces = np.floor(forest.edge_lengths / step).astype(np.int64)
    edge, number = enumerate_groups(np.maximum(pieces - 1, 0))
    start, end = forest.xyz[child[edge]], forest.xyz[parent[edge]]
    return np.concatenate([forest.xyz, start + (end - start) / pieces[edge, None] * (number[:, None] + 1)])


def _count_near(points: np.ndarray, others: np.ndarray, threshold: float) -> int:
    if len(points) == 0 or len(others) == 0:
        return 0
    nearest = KDTree(np.round(others, SEARCH_DECIMALS)).query(np.round(points, SEARCH_DECIMALS))[1]
    return int((distances(points, others[nearest]) < threshold).sum())
