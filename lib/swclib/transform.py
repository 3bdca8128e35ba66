"""Functions that return a modified copy of a forest: resampled, moved, rerooted, cut or joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from lib.swclib.forest import ROOT, SOMA_TYPE, SwcForest, enumerate_groups, parents_from_edges


def resample(forest: SwcForest, step: float) -> SwcForest:
    """Replace the inner nodes of every branch by evenly spaced ones.

    Roots, branch points and leaves stay exactly in place. A branch of length L becomes ``max(1, round(L / step))``
    edges of equal length; coordinates and radius are interpolated linearly along the branch.

    Parameters
    ----------
    forest
        Any forest.
    step
        Desired node spacing in the unit of the coordinates.

    Returns
    -------
    SwcForest
        The roots first, then branch by branch; ids from 1. New nodes take the type of the last node of their branch.

    Raises
    ------
    ValueError
        If ``step`` is not positive.
    """
    if not step > 0:
        raise ValueError(f"step must be positive, not {step}")
    branches = forest.branches()
    if not branches:
        return replace(forest, ids=np.arange(1, len(forest) + 1))
    nodes = np.concatenate(branches)
    size = np.array(list(map(len, branches)))
    first = np.cumsum(size) - size
    start, end = nodes[first], nodes[first + size - 1]
    along = _arc_length(forest.xyz[nodes], first)
    begin, length = along[first], along[first + size - 1] - along[first]
    pieces = np.maximum(1, np.round(length / step)).astype(np.int64)
    source, target, parent = _new_rows(forest, start, end, pieces)

    branch, number = enumerate_groups(pieces)
    sample = begin[branch] + length[branch] * (number + 1) / pieces[branch]
    values = np.column_stack([forest.xyz, forest.radius])
    result = np.empty((len(parent), 4))
    result[len(forest.roots) :] = np.stack([np.interp(sample, along, column) for column in values[nodes].T], axis=1)
    result[target] = values[source]  # interpolation would round the ends of the branches
    types = np.concatenate([forest.types[forest.roots], forest.types[end][branch]])
    return SwcForest(np.arange(1, len(parent) + 1), types, result[:, :3], result[:, 3], parent)


def _arc_length(xyz: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Cumulative length along the concatenated branches; the step to the ``first`` node of a branch counts as 0."""
    step = np.linalg.norm(np.diff(xyz, axis=0, prepend=xyz[:1]), axis=1)
    step[first] = 0.0
    return np.cumsum(step)


def _new_rows(
    forest: SwcForest, start: np.ndarray, end: np.ndarray, pieces: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay out the resampled forest: the roots, then the inner nodes and the end of each branch.

    Returns the old rows of the nodes that stay, their new rows, and the new parents. A branch starts at a root or at
    the end of an earlier branch, so parents come first.
    """
    n_roots = len(forest.roots)
    last = n_roots + np.cumsum(pieces) - 1
    source = np.concatenate([forest.roots, end])
    target = np.concatenate([np.arange(n_roots), last])
    new_row = np.full(len(forest), ROOT)
    new_row[source] = target
    parent = np.arange(-1, n_roots + pieces.sum() - 1)
    parent[:n_roots] = ROOT
    parent[last - pieces + 1] = new_row[start]
    return source, target, parent


def subdivide(forest: SwcForest, longest: float) -> SwcForest:
    """Cut every edge into the fewest equal pieces of at most ``longest``; all nodes stay in order.

    Parameters
    ----------
    forest
        Any forest.
    longest
        Maximum edge length in the unit of the coordinates.

    Returns
    -------
    SwcForest
        New nodes precede the child of their edge and take its radius and type; ids from 1.
    """
    pieces = np.ones(len(forest), dtype=np.int64)
    pieces[forest.edges[:, 1]] = np.maximum(1, np.ceil(forest.edge_lengths / longest))
    child, number = enumerate_groups(pieces)
    last = np.cumsum(pieces) - 1
    to_parent = (pieces[child] - 1 - number) / pieces[child]
    is_root = forest.parent == ROOT
    old_parent = np.where(is_root, np.arange(len(forest)), forest.parent)[child]
    parent = np.arange(-1, len(child) - 1)
    parent[last - pieces + 1] = np.where(is_root, ROOT, last[forest.parent])
    xyz = forest.xyz[child] + to_parent[:, None] * (forest.xyz[old_parent] - forest.xyz[child])
    return SwcForest(np.arange(1, len(child) + 1), forest.types[child], xyz, forest.radius[child], parent)


def rescale(forest: SwcForest, scale: float | Sequence[float], *, shift: float | Sequence[float] = 0.0) -> SwcForest:
    """Return the forest with every position at ``position * scale + shift``.

    Parameters
    ----------
    forest
        Any forest.
    scale, shift
        One number for all axes, or one per axis in (y, x) or (z, y, x) order; with (y, x) z stays unchanged. The radius
        is multiplied by the geometric mean of the given scales.

    Raises
    ------
    ValueError
        If a scale is not positive, or the number of values is not 1, 2 or 3.
    """
    scale_zyx, shift_zyx = per_axis(scale, 1.0), per_axis(shift, 0.0)
    if not (scale_zyx > 0).all():
        raise ValueError(f"scale must be positive, not {scale}")
    mean_scale = float(np.exp(np.mean(np.log(np.asarray(scale, dtype=np.float64)))))
    return replace(forest, xyz=forest.xyz * scale_zyx[::-1] + shift_zyx[::-1], radius=forest.radius * mean_scale)


def translate(forest: SwcForest, shift: float | Sequence[float]) -> SwcForest:
    """Return the forest moved by ``shift``: one number for all axes, (y, x) or (z, y, x)."""
    return replace(forest, xyz=forest.xyz + per_axis(shift, 0.0)[::-1])


def per_axis(values: float | Sequence[float], z_value: float = 1.0) -> np.ndarray:
    """Expand one number, (y, x) or (z, y, x) to (z, y, x); a single number applies to all axes."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape == (2,):
        return np.array([z_value, *array])
    if array.shape in ((), (3,)):
        return np.broadcast_to(array, 3)
    raise ValueError(f"give one number, or one per axis (y, x) or (z, y, x), not {values}")


def reroot(forest: SwcForest, node: int) -> SwcForest:
    """Return the forest with row ``node`` as the root of its tree.

    Edges between the node and the old root are reversed, and rows move so that parents come first; ``file_order`` of
    the result gives the old row of each node.
    """
    return _with_parent(forest, _reversed_above(forest.parent.copy(), node))


def rooted_at_somata(forest: SwcForest) -> SwcForest:
    """Return the forest with every soma as a root; a tree that holds two is cut before the second. Rows move."""
    is_soma, tree = forest.types == SOMA_TYPE, forest.components
    below = np.flatnonzero(is_soma & ~is_soma[forest.roots[tree]])
    parent = forest.parent.copy()
    for node in below[np.unique(tree[below], return_index=True)[1]]:
        _reversed_above(parent, int(node))
    parent[is_soma] = ROOT
    return _with_parent(forest, parent)


def _reversed_above(parent: np.ndarray, node: int) -> np.ndarray:
    """Reverse the edges between a node and its root, in place; returns the parents ``(N,)``."""
    new_parent, row = ROOT, node
    while row != ROOT:
        old_parent = int(parent[row])
        parent[row] = new_parent
        new_parent, row = row, old_parent
    return parent


def _with_parent(forest: SwcForest, parent: np.ndarray) -> SwcForest:
    """The nodes with other parents ``(N,)``, sorted."""
    return SwcForest.sorted(forest.ids, forest.types, forest.xyz, forest.radius, parent)


def rewire(forest: SwcForest, edges: ArrayLike) -> SwcForest:
    """Return the nodes with other, undirected edges ``(M, 2)``; the root of a tree is its first leaf.

    Rows move so that parents come first; ``file_order`` of the result gives the old row of each node.
    """
    return _with_parent(forest, parents_from_edges(edges, len(forest)))


def subset(forest: SwcForest, keep: ArrayLike) -> SwcForest:
    """Return the nodes marked in ``keep``, bool ``(N,)``; children of removed nodes become roots."""
    keep = np.asarray(keep)
    if keep.dtype != bool or keep.shape != (len(forest),):
        raise ValueError(f"keep must be bool of shape ({len(forest)},), not {keep.dtype} {keep.shape}")
    new_row = np.where(keep, np.cumsum(keep) - 1, ROOT)
    parent = np.where(forest.parent == ROOT, ROOT, new_row[forest.parent])[keep]
    return SwcForest(
        forest.ids[keep], forest.types[keep], forest.xyz[keep], forest.radius[keep], parent, forest.file_order[keep]
    )


def tidied(forest: SwcForest, decimals: int = 4) -> SwcForest:
    """Return the forest without what other programs refuse or drop: trees of one node, and edges without length.

    A child that lies on its parent is left out, and its children become those of the parent.

    Parameters
    ----------
    forest
        Any forest.
    decimals
        Places are the same if they are when rounded to so many decimals, as files hold them.
    """
    place, parent = np.round(forest.xyz, decimals), forest.parent
    on_parent = (parent != ROOT) & (place == place[parent]).all(axis=1)
    # The nearest ancestor that stays, itself if the node stays.
    stays = np.where(on_parent, parent, np.arange(len(forest)))
    while not np.array_equal(further := stays[stays], stays):
        stays = further
    moved = replace(forest, parent=np.where(parent == ROOT, ROOT, stays[parent]))
    left = subset(moved, ~on_parent)
    return subset(left, left.degree > 0)


def concatenate(forests: Sequence[SwcForest]) -> SwcForest:
    """Join forests into one, in the given order, with ids from 1."""
    if not forests:
        return SwcForest.empty()
    offsets = np.cumsum([0] + [len(forest) for forest in forests[:-1]])
    parent = [np.where(f.parent == ROOT, ROOT, f.parent + offset) for f, offset in zip(forests, offsets, strict=True)]
    joined = {name: np.concatenate([getattr(f, name) for f in forests]) for name in ("types", "xyz", "radius")}
    return SwcForest(ids=np.arange(1, sum(map(len, forests)) + 1), parent=np.concatenate(parent), **joined)
