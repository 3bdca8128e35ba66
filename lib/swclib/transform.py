"""Forests made from forests: resampled, moved, cut and joined. Nothing is changed in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lib.swclib.forest import ROOT, SwcForest


def resample(forest: SwcForest, step: float) -> SwcForest:
    """Replace the nodes inside every branch by evenly spaced ones.

    Roots, branch points and leaves stay exactly where they are. A branch of length L becomes
    ``max(1, round(L / step))`` pieces of equal length; coordinates and radius are linear along the branch.

    Parameters
    ----------
    forest
        Any forest.
    step
        Wanted distance between nodes, > 0, in the units of the coordinates.

    Returns
    -------
    SwcForest: the roots first, then branch by branch; ids from 1; new nodes take the type of the end of their branch.
    """
    if not step > 0:
        raise ValueError(f"step must be positive, not {step}")
    paths = forest.branches()
    if not paths:
        return renumber(forest)
    nodes = np.concatenate(paths)
    size = np.array([len(path) for path in paths])
    first = np.cumsum(size) - size
    along = _arc_length(forest.xyz[nodes], first)
    begin, end = along[first], along[first + size - 1]
    pieces = np.maximum(1, np.round((end - begin) / step)).astype(np.int64)
    source, target, parent = _new_rows(forest, nodes[first], nodes[first + size - 1], pieces)

    which = np.repeat(np.arange(len(paths)), pieces)
    number = np.arange(len(which)) - np.repeat(np.cumsum(pieces) - pieces, pieces) + 1
    sample = begin[which] + (end - begin)[which] * number / pieces[which]
    columns = np.column_stack([forest.xyz, forest.radius])[nodes]
    values = np.stack([np.interp(sample, along, column) for column in columns.T], axis=1)

    rows = len(forest.roots) + len(which)
    result = np.empty((rows, 4))
    result[len(forest.roots) :] = values
    result[target] = np.column_stack([forest.xyz, forest.radius])[source]  # ends exactly, not up to rounding
    types = np.concatenate([forest.types[forest.roots], forest.types[nodes[first + size - 1]][which]])
    return SwcForest(np.arange(1, rows + 1), types, result[:, :3], result[:, 3], parent)


def _arc_length(xyz: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Length walked up to every point of the chained paths; the jump to the ``first`` of a path counts nothing."""
    step = np.linalg.norm(np.diff(xyz, axis=0, prepend=xyz[:1]), axis=1)
    step[first] = 0.0
    return np.cumsum(step)


def _new_rows(
    forest: SwcForest, start: np.ndarray, end: np.ndarray, pieces: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay out the resampled forest: roots, then per branch its inner nodes and its end.

    Returns the kept old rows, their new rows, and the new parents. A branch starts at a root or at the end of a branch
    before it, so parents come first.
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
    """Cut every edge into equal pieces of at most ``longest``; all nodes stay, and so do the edges of length 0.

    Rows keep their order, the new nodes of an edge stand before its child; ids are numbered from 1 and new nodes take
    the radius and the type of the child.
    """
    pieces = np.ones(len(forest), dtype=np.int64)
    pieces[forest.edges[:, 1]] = np.maximum(1, np.ceil(forest.edge_lengths / longest))
    child = np.repeat(np.arange(len(forest)), pieces)
    last = np.cumsum(pieces) - 1
    left = (last[child] - np.arange(len(child))) / pieces[child]
    above = np.where(forest.parent == ROOT, np.arange(len(forest)), forest.parent)[child]
    parent = np.arange(-1, len(child) - 1)
    parent[last - pieces + 1] = np.where(forest.parent == ROOT, ROOT, last[forest.parent])
    xyz = forest.xyz[child] + left[:, None] * (forest.xyz[above] - forest.xyz[child])
    return SwcForest(np.arange(1, len(child) + 1), forest.types[child], xyz, forest.radius[child], parent)


def rescale(forest: SwcForest, scale: float | Sequence[float], *, shift: float | Sequence[float] = 0.0) -> SwcForest:
    """Return the forest at ``position * scale + shift``.

    Parameters
    ----------
    forest
        Any forest.
    scale, shift
        One number for all axes, or one per axis in (y, x) or (z, y, x) order; with (y, x) the z axis stays as it is.
        The radius is multiplied by the geometric mean of the scales that were given.
    """
    scale_zyx, shift_zyx = per_axis(scale, 1.0), per_axis(shift, 0.0)
    if not (scale_zyx > 0).all():
        raise ValueError(f"scale must be positive, not {scale}")
    mean_scale = float(np.exp(np.mean(np.log(np.asarray(scale, dtype=np.float64)))))
    return replace(forest, xyz=forest.xyz * scale_zyx[::-1] + shift_zyx[::-1], radius=forest.radius * mean_scale)


def translate(forest: SwcForest, shift: float | Sequence[float]) -> SwcForest:
    """Return the forest moved by ``shift``: one number for all axes, or (y, x) or (z, y, x)."""
    return replace(forest, xyz=forest.xyz + per_axis(shift, 0.0)[::-1])


def per_axis(values: float | Sequence[float], z_value: float = 1.0) -> np.ndarray:
    """Bring one, two (y, x) or three (z, y, x) numbers to three; a lone number holds for all axes."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape == (2,):
        return np.array([z_value, *array])
    if array.shape in ((), (3,)):
        return np.broadcast_to(array, 3)
    raise ValueError(f"give one number, or one per axis (y, x) or (z, y, x), not {values}")


def reroot(forest: SwcForest, node: int) -> SwcForest:
    """Return the forest with row ``node`` as the root of its tree.

    The edges from the node to the old root turn round. Rows move so that parents come first: ``file_order`` of the
    result gives the old row of each.
    """
    parent = forest.parent.copy()
    below, row = ROOT, node
    while row != ROOT:
        above = int(parent[row])
        parent[row] = below
        below, row = row, above
    return SwcForest.sorted(forest.ids, forest.types, forest.xyz, forest.radius, parent)


def subset(forest: SwcForest, keep: npt.ArrayLike) -> SwcForest:
    """Return the nodes marked in ``keep`` (bool, shape (N,)); children of dropped nodes become roots."""
    keep = np.asarray(keep)
    if keep.dtype != bool or keep.shape != (len(forest),):
        raise ValueError(f"keep must be bool of shape ({len(forest)},), not {keep.dtype} {keep.shape}")
    new_row = np.where(keep, np.cumsum(keep) - 1, ROOT)
    parent = np.where(forest.parent == ROOT, ROOT, new_row[forest.parent])[keep]
    return SwcForest(
        forest.ids[keep], forest.types[keep], forest.xyz[keep], forest.radius[keep], parent, forest.file_order[keep]
    )


def concatenate(forests: Sequence[SwcForest]) -> SwcForest:
    """Return all trees of all forests as one forest, in that order, with ids from 1."""
    if not forests:
        return SwcForest.empty()
    offsets = np.cumsum([0] + [len(forest) for forest in forests[:-1]])
    parent = [np.where(f.parent == ROOT, ROOT, f.parent + offset) for f, offset in zip(forests, offsets, strict=True)]
    joined = {name: np.concatenate([getattr(f, name) for f in forests]) for name in ("types", "xyz", "radius")}
    return SwcForest(ids=np.arange(1, sum(map(len, forests)) + 1), parent=np.concatenate(parent), **joined)


def renumber(forest: SwcForest) -> SwcForest:
    """Return the forest with ids from 1 in row order."""
    return replace(forest, ids=np.arange(1, len(forest) + 1))
