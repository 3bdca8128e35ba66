"""Conversion of a mask to a forest: its skeleton, the graph of the skeleton's pixels, and loops cut open."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from skimage.measure import euler_number
from skimage.morphology import skeletonize

from lib.swclib import SwcForest


def mask_to_forest(mask: NDArray[np.bool_], *, radius: bool = True) -> tuple[SwcForest, int]:
    """Turn the skeleton of a mask into a forest, one node per skeleton pixel.

    Neighbouring pixels (8 in 2D, 26 in 3D) are joined by a minimum spanning forest, which prefers faces to diagonals
    and so removes the small triangles at junctions. SWC cannot hold loops: each loop of the skeleton is cut at one
    place. A skeleton pixel without neighbours is dropped. The root of each tree is its thickest end.

    Parameters
    ----------
    mask
        ``(y, x)`` or ``(z, y, x)``.
    radius
        Whether the radius of a node is the distance from its pixel's centre to the border of the mask, else 1.

    Returns
    -------
    forest
        Positions in pixel-centre coordinates.
    loops_cut
        Number of loops of the skeleton, without the triangles.

    Raises
    ------
    ValueError
        If the mask is not 2D or 3D, or has no background: then it has neither border nor skeleton.
    """
    mask = np.asarray(mask, dtype=bool)
    if mask.ndim not in (2, 3):
        raise ValueError(f"a mask has 2 or 3 axes, not {mask.ndim}")
    if mask.size and mask.all():
        raise ValueError("the mask is true everywhere, so it has no skeleton")
    skeleton = skeletonize(mask) if mask.any() else mask
    pixels = np.argwhere(skeleton)
    # Distances end at the centre of the nearest background pixel, half a pixel beyond the border of the mask.
    width = np.asarray(distance_transform_edt(mask))[skeleton] - 0.5 if radius else np.ones(len(pixels))
    graph = _pixel_graph(skeleton)
    rows, parent = _rooted(minimum_spanning_tree(graph), width)
    return SwcForest.from_positions(pixels[rows].astype(float), parent, width[rows]), _count_loops(skeleton, graph)


def _pixel_graph(skeleton: NDArray[np.bool_]) -> csr_array:
    """Join neighbouring pixels, numbered in C order; the weight of an edge is its length."""
    count = np.count_nonzero(skeleton)
    number = np.full(np.add(skeleton.shape, 2), -1, np.int32)  # scipy's graph algorithms accept only 32-bit indices
    number[(slice(1, -1),) * skeleton.ndim][skeleton] = np.arange(count)
    edges: list[NDArray[np.int32]] = [np.zeros((2, 0), np.int32)]
    lengths: list[NDArray[np.float64]] = [np.zeros(0)]
    for offset in product((-1, 0, 1), repeat=skeleton.ndim):
        if offset > (0,) * skeleton.ndim:  # one of each pair of opposite neighbours
            shifted = tuple(slice(1 + step, size + 1 + step) for step, size in zip(offset, skeleton.shape, strict=True))
            neighbour = number[shifted][skeleton]
            present = np.flatnonzero(neighbour >= 0)
            edges.append(np.stack([present, neighbour[present]]).astype(np.int32))
            lengths.append(np.full(len(present), float(np.linalg.norm(offset))))
    return csr_array((np.concatenate(lengths), np.concatenate(edges, axis=1)), shape=(count, count))


def _rooted(tree: csr_array, width: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Order the pixels of all trees, parents first.

    Returns
    -------
    rows
        ``(N,)`` pixel numbers in their new order, without isolated pixels.
    parent
        ``(N,)`` new row of each one's parent, -1 at roots.
    """
    count = len(width)
    roots = _thickest_ends(tree, width)
    if not len(roots):
        return np.zeros(0, int), np.zeros(0, int)
    # One search from an extra node above all roots visits every tree and no isolated pixel.
    edges = tree.tocoo()
    start = np.concatenate([edges.row, np.full(len(roots), count)]).astype(np.int32)
    end = np.concatenate([edges.col, roots]).astype(np.int32)
    joined = coo_array((np.ones(len(start)), (start, end)), shape=(count + 1, count + 1)).tocsr()
    order, predecessor = breadth_first_order(joined, count, directed=False)
    rows = order[1:]
    new_row = np.full(count + 1, -1)
    new_row[rows] = np.arange(len(rows))
    return rows, new_row[predecessor[rows]]


def _thickest_ends(tree: csr_array, width: NDArray[np.float64]) -> NDArray[np.intp]:
    """The end pixel of greatest width of each tree; the first one if several are equal."""
    edges = tree.tocoo()
    degree = np.bincount(np.concatenate([edges.row, edges.col]), minlength=len(width))
    _, component = connected_components(tree, directed=False)
    ends = np.flatnonzero(degree == 1)
    ends = ends[np.lexsort((ends, -width[ends], component[ends]))]
    _, first = np.unique(component[ends], return_index=True)
    return ends[first]


def _count_loops(skeleton: NDArray[np.bool_], graph: csr_array) -> int:
    """Loops of the skeleton: components minus Euler number, which ignores triangles of touching pixels."""
    if not skeleton.any():
        return 0
    components, _ = connected_components(graph, directed=False)
    return max(0, int(components - euler_number(skeleton, connectivity=skeleton.ndim)))
