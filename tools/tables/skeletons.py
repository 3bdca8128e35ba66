"""Trees of a centerline map without a tracer: its skeleton, by scikit-image and by two other packages.

All take the pixels at or above the threshold at which a trace would stop, and all get the rules of a trace's clean-up:
end branches shorter than ``spur`` are cut, isolated short trees dropped. They get nothing that a tracer does: no gap is
closed, no node centred, no end drawn out. At last they are noded like a trace, for JE counts edges.

kimimaro (GPL) and skan (BSD) are imported only where a user has installed them (requirements-tables.txt).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import minimum_spanning_tree
from skimage.morphology import skeletonize

from lib.errors import UserError
from lib.klib.skeleton import mask_to_forest
from lib.swclib import SwcForest, resample, rescale, subset
from tools.tracing.cleanup.centring import SPACING
from tools.tracing.cleanup.pruning import drop_isolated, drop_single_nodes, prune_spurs
from tools.tracing.growth.graph import parents_from_ends

TEASAR = {"scale": 1.5, "const": 5.0}
"""kimimaro's parameters: a new path starts where a pixel is farther from all paths than scale × width + const.
``scale`` is its default; ``const`` is in work pixels here (its default, 300, is meant for nanometres)."""
NO_LENGTH = 1e-9
"""Added to the length of every edge, as a sparse matrix takes 0 for no edge."""


@dataclass(frozen=True)
class Rules:
    """What is done to every skeleton; lengths are work pixels of the finest axis.

    Attributes
    ----------
    threshold
        Least probability of a pixel of the mask.
    spur
        End branches shorter than this are cut.
    sure
        Isolated trees stay where their mean probability is above this, see :class:`~tools.tracing.cleanup.pipeline.CleanupSettings`.
    step
        Distance of a trace's nodes: the rule for isolated trees counts in nodes.
    """

    threshold: float
    spur: float
    sure: float
    step: float


Make = Callable[[np.ndarray, np.ndarray, Rules], SwcForest]
"""From a mask ``(*S,)`` and the size of a pixel ``(ndim,)`` to a forest without spurs, its positions in that size."""


def skeleton(mask: np.ndarray, sizes: np.ndarray, rules: Rules) -> SwcForest:
    """The skeleton of a mask by scikit-image, as in :func:`~lib.klib.skeleton.mask_to_forest`."""
    return prune_spurs(rescale(mask_to_forest(mask, radius=False)[0], sizes), rules.spur)


def skan_skeleton(mask: np.ndarray, sizes: np.ndarray, rules: Rules) -> SwcForest:
    """The same skeleton through skan's graph of paths, pruned by skan."""
    import skan

    paths = skan.Skeleton(skeletonize(mask), spacing=sizes)
    while len(spurs := _skan_spurs(skan.summarize(paths, separator="-"), rules.spur)):
        paths = paths.prune_paths(spurs)
    chains = [paths.path(index) for index in range(paths.n_paths)]
    pairs = np.concatenate([np.stack([chain[:-1], chain[1:]], axis=1) for chain in chains])
    return spanning_forest(np.asarray(paths.coordinates, dtype=float) * sizes, pairs)


def _skan_spurs(summary: Any, shortest: float) -> np.ndarray:
    """Numbers of the paths from a junction to an end (skan's type 1) that are too short; ``summary`` is its table."""
    is_spur = (summary["branch-type"] == 1) & (summary["branch-distance"] < shortest)
    return np.flatnonzero(is_spur.to_numpy())


def kimimaro_skeleton(mask: np.ndarray, sizes: np.ndarray, rules: Rules) -> SwcForest:
    """The TEASAR skeleton of kimimaro."""
    import kimimaro

    # kimimaro knows volumes only: a plane is one of a single slice.
    volume, size = (mask, sizes) if mask.ndim == 3 else (mask[..., None], [*sizes, 1])
    found = kimimaro.skeletonize(
        np.asfortranarray(volume.astype(np.uint8)),
        teasar_params=TEASAR,
        anisotropy=tuple(map(float, size)),
        dust_threshold=0,
        fix_borders=False,
        progress=False,
        parallel=1,
    )
    if not found:
        return SwcForest.empty()
    (tree,) = found.values()
    forest = spanning_forest(np.asarray(tree.vertices, dtype=float)[:, : mask.ndim], np.asarray(tree.edges, dtype=int))
    return prune_spurs(forest, rules.spur)


def spanning_forest(positions: np.ndarray, pairs: np.ndarray) -> SwcForest:
    """A forest of a graph, roots at ends; where the graph has a loop its longest edge is left out.

    Parameters
    ----------
    positions
        ``(N, ndim)``.
    pairs
        ``(M, 2)`` undirected edges.
    """
    lengths = np.linalg.norm(np.diff(positions[pairs], axis=1)[:, 0], axis=1) + NO_LENGTH
    low, high = pairs.min(axis=1), pairs.max(axis=1)
    # A sparse matrix would add up an edge that is given twice.
    _, first = np.unique(low * len(positions) + high, return_index=True)
    shape = (len(positions), len(positions))
    tree = minimum_spanning_tree(coo_matrix((lengths[first], (low[first], high[first])), shape=shape)).tocoo()
    edges = np.stack([tree.row, tree.col], axis=1).astype(int)
    return SwcForest.from_positions(positions, parents_from_ends(edges, len(positions)))


def skeletonised(centerline: np.ndarray, rules: Rules, make: Make, spacing: Sequence[float] | None = None) -> SwcForest:
    """A forest of a map, in work positions.

    Parameters
    ----------
    centerline
        ``(*S,)`` probabilities.
    rules
        See :class:`Rules`.
    make
        One of the functions above.
    spacing
        Size of a pixel along each axis, in units of its finest axis; None where it is the same along all.

    Raises
    ------
    UserError
        If the map is above the threshold everywhere.
    """
    mask = centerline >= rules.threshold
    if mask.all():
        raise UserError(f"the map is above {rules.threshold:g} everywhere: it has no skeleton; give other weights")
    if not mask.any():
        return SwcForest.empty()
    sizes = np.ones(mask.ndim) if spacing is None else np.array(spacing, dtype=float)
    forest = drop_single_nodes(make(mask, sizes, rules))
    if not len(forest):
        return forest
    return rescale(resample(without_isolated(forest, centerline, rules, sizes), SPACING), 1 / sizes)


def without_isolated(forest: SwcForest, centerline: np.ndarray, rules: Rules, sizes: np.ndarray) -> SwcForest:
    """Drop the trees that a trace's clean-up would drop if they had the nodes of a trace.

    Parameters
    ----------
    forest
        Positions in ``sizes``, the size of a pixel ``(ndim,)``.
    centerline
        ``(*S,)`` probabilities.
    rules
        See :class:`Rules`.
    sizes
        See ``forest``.
    """
    coarse = resample(forest, rules.step)
    kept = drop_isolated(coarse, centerline, rules.sure, sizes)
    # `resample` puts the roots first, in the order of the trees, and counts ids from 1.
    tree_is_kept = np.isin(np.arange(len(forest.roots)), kept.ids[kept.roots] - 1)
    return subset(forest, tree_is_kept[forest.components])
