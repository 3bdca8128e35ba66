"""Trees from a centerline map without a tracer: skeletons by scikit-image and by two other packages.

Each skeleton is that of the pixels at or above the threshold at which a trace stops. The rules of a trace's clean-up
apply: end branches shorter than ``spur`` are cut, and isolated short trees are dropped. What only a tracer does is left
out: no gap is closed, no node centred, no end extended. Nodes are spaced as in a trace, because JE counts edges.

kimimaro (GPL) and skan (BSD) are optional (requirements-tables.txt) and imported only when they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import minimum_spanning_tree
from skimage.morphology import skeletonize

from lib.errors import UserError
from lib.klib.skeleton import mask_to_forest
from lib.swclib import SwcForest, prune_spurs, resample, rescale, subset
from tools.tracing.cleanup.centring import SPACING
from tools.tracing.cleanup.pruning import drop_isolated, drop_single_nodes

TEASAR = {"scale": 1.5, "const": 5.0}
"""kimimaro's parameters: a new path starts where a pixel is farther from all paths than scale × width + const.
``scale`` is its default; ``const`` is in work pixels (its default, 300, is meant for nanometres)."""
MIN_LENGTH = 1e-9
"""Added to the length of every edge, because a sparse matrix takes 0 for no edge."""


@dataclass(frozen=True)
class Rules:
    """Rules for all skeletons; lengths are in units (work pixels of the finest axis).

    Attributes
    ----------
    threshold
        Least probability of a pixel of the mask.
    spur
        End branches shorter than this are cut.
    sure
        Isolated trees are kept if their mean probability is above this, see
        :class:`~tools.tracing.cleanup.pipeline.CleanupSettings`.
    step
        Spacing of a trace's nodes; the rule for isolated trees counts nodes.
    """

    threshold: float
    spur: float
    sure: float
    step: float


MakeSkeleton = Callable[[np.ndarray, np.ndarray, Rules], SwcForest]
"""Makes a forest without spurs, positions in units, from a mask ``(*S,)`` and the size of a pixel ``(ndim,)`` in units.
"""


def skeleton(mask: np.ndarray, sizes: np.ndarray, rules: Rules) -> SwcForest:
    """Skeleton by scikit-image, as in :func:`~lib.klib.skeleton.mask_to_forest`."""
    return prune_spurs(rescale(mask_to_forest(mask, radius=False)[0], sizes.tolist()), rules.spur)


def skan_skeleton(mask: np.ndarray, sizes: np.ndarray, rules: Rules) -> SwcForest:
    """The same skeleton as skan's graph of paths, pruned by skan."""
    skan = import_module("skan")
    paths = skan.Skeleton(skeletonize(mask), spacing=sizes)
    while len(spurs := _skan_spurs(skan.summarize(paths, separator="-"), rules.spur)):
        paths = paths.prune_paths(spurs)
    chains = [paths.path(index) for index in range(paths.n_paths)]
    pairs = np.concatenate([np.stack([chain[:-1], chain[1:]], axis=1) for chain in chains])
    return spanning_forest(np.asarray(paths.coordinates, dtype=float) * sizes, pairs)


def _skan_spurs(summary: Any, shortest: float) -> np.ndarray:
    """Rows of skan's table of paths that lead from a junction to an end (its type 1) and are too short."""
    is_spur = (summary["branch-type"] == 1) & (summary["branch-distance"] < shortest)
    return np.flatnonzero(is_spur.to_numpy())


def kimimaro_skeleton(mask: np.ndarray, sizes: np.ndarray, rules: Rules) -> SwcForest:
    """TEASAR skeleton by kimimaro."""
    # kimimaro takes volumes only: an image is a volume of one slice.
    volume, size = (mask, sizes) if mask.ndim == 3 else (mask[..., None], [*sizes, 1])
    found = import_module("kimimaro").skeletonize(
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
    """Forest of a graph, with roots at ends; each loop is cut at its longest edge.

    Parameters
    ----------
    positions
        ``(N, ndim)``.
    pairs
        ``(M, 2)`` undirected edges.
    """
    lengths = np.linalg.norm(np.diff(positions[pairs], axis=1)[:, 0], axis=1) + MIN_LENGTH
    low, high = pairs.min(axis=1), pairs.max(axis=1)
    # A sparse matrix would add the lengths of an edge that is given twice.
    _, first = np.unique(low * len(positions) + high, return_index=True)
    shape = (len(positions), len(positions))
    tree = minimum_spanning_tree(coo_matrix((lengths[first], (low[first], high[first])), shape=shape)).tocoo()
    edges = np.stack([tree.row, tree.col], axis=1).astype(int)
    return SwcForest.from_edges(positions, edges)


def skeleton_forest(
    centerline: np.ndarray, rules: Rules, make: MakeSkeleton, spacing: Sequence[float] | None = None
) -> SwcForest:
    """Forest of a centerline map, positions in work pixels.

    Parameters
    ----------
    centerline
        ``(*S,)`` probabilities.
    rules
        Threshold of the mask, and what is cut and dropped.
    make
        One of the functions above.
    spacing
        Size of a pixel along each axis, in units; None means 1.

    Raises
    ------
    UserError
        If the whole map is above the threshold.
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
    kept = _drop_isolated_trees(forest, centerline, rules, sizes)
    return rescale(resample(kept, SPACING), (1 / sizes).tolist())


def _drop_isolated_trees(forest: SwcForest, centerline: np.ndarray, rules: Rules, sizes: np.ndarray) -> SwcForest:
    """Drop trees that the clean-up of a trace would drop if their nodes were spaced as in a trace."""
    coarse = resample(forest, rules.step)
    kept = drop_isolated(coarse, centerline, rules.sure, sizes)
    # `resample` puts the roots first, in the order of the trees, and counts ids from 1.
    tree_is_kept = np.isin(np.arange(len(forest.roots)), kept.ids[kept.roots] - 1)
    return subset(forest, tree_is_kept[forest.components])
