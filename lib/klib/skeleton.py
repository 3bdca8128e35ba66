"""From a mask to a forest: skeleton, graph of its pixels, loops cut."""

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

    Neighbouring pixels (8 in 2D, 26 in 3D) are joined by a minimum spanning forest: a face is preferred to a diagonal,
    so that the small triangles at junctions vanish. SWC holds no loops: each loop of the skeleton is cut at one place.
    A skeleton pixel without neighbours is dropped. Each tree starts at its thickest end.

    Parameters
    ----------
    mask : bool array, shape (y, x) or (z, y, x)
    radius : give each node the distance from its pixel centre to the border of the mask, else 1

    Returns
    -------
    forest : positions in pixel-centre coordinates
    loops_cut : number of loops of the skeleton (not counting the triangles)

    Raises
    ------
    ValueError
        if the mask is not 2D or 3D, or has no background: then it has no border and no skeleton.
    """
    mask = np.asarray(mask, dtype=bool)
    if mask.ndim not in (2, 3):
        raise ValueError(f"a mask has 2 or 3 axes, not {mask.ndim}")
    if mask.size and mask.all():
        raise ValueError("the mask is true everywhere, so it has no skeleton")
    skeleton = skeletonize(mask) if mask.any() else mask
    pixels = np.argwhere(skeleton)
    # Distances are to the nearest background pixel's centre; the border of the mask runs half a pixel before it.
    width = distance_transform_edt(mask)[skeleton] - 0.5 if radius else np.ones(len(pixels))
    graph = _pixel_graph(skeleton)
    rows, parent = _rooted(minimum_spanning_tree(graph), width)
    return SwcForest.from_positions(pixels[rows].astype(float), parent, width[rows]), _loops(skeleton, graph)


def _pixel_graph(skeleton: NDArray[np.bool_]) -> csr_array:
    """Join neighbouring pixels; the weight of an edge is its length. Pixels are numbered in C order."""
    count = np.count_nonzero(skeleton)
    number = np.full(np.add(skeleton.shape, 2), -1, np.int32)  # scipy's graph algorithms take 32-bit indices only
    inner = (slice(1, -1),) * skeleton.ndim
    number[inner][skeleton] = np.arange(count)
    edges, lengths = [np.zeros((2, 0), np.int32)], [np.zeros(0)]
    for offset in _half_neighbourhood(skeleton.ndim):
        shifted = tuple(slice(1 + step, size + 1 + step) for step, size in zip(offset, skeleton.shape, strict=True))
        here, there = number[inner][skeleton], number[shifted][skeleton]
        edges.append(np.stack([here, there])[:, there >= 0])
        lengths.append(np.full(edges[-1].shape[1], np.linalg.norm(offset)))
    return csr_array((np.concatenate(lengths), np.concatenate(edges, axis=1)), shape=(count, count))


def _half_neighbourhood(ndim: int) -> list[tuple[int, ...]]:
    """Return one of each pair of opposite neighbours: 4 offsets in 2D, 13 in 3D."""
    return [offset for offset in product((-1, 0, 1), repeat=ndim) if offset > (0,) * ndim]


def _rooted(tree: csr_array, width: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Order the pixels of all trees, parents first.

    Returns
    -------
    rows : pixel numbers in their new order, without isolated pixels
    parent : new row of each one's parent, -1 at roots
    """
    count = tree.shape[0]
    roots = _thickest_ends(tree, width)
    if not len(roots):
        return np.zeros(0, int), np.zeros(0, int)
    # One walk from a node above all roots visits every tree, and isolated pixels never.
    edges = tree.tocoo()
    start = np.concatenate([edges.row, np.full(len(roots), count)]).astype(np.int32)
    end = np.concatenate([edges.col, roots]).astype(np.int32)
    above = coo_array((np.ones(len(start)), (start, end)), shape=(count + 1, count + 1)).tocsr()
    order, predecessor = breadth_first_order(above, count, directed=False)
    rows = order[1:]
    new_row = np.full(count + 1, -1)
    new_row[rows] = np.arange(len(rows))
    return rows, new_row[predecessor[rows]]


def _thickest_ends(tree: csr_array, width: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the end pixel of greatest width of each tree, the first one where several are equal."""
    edges = tree.tocoo()
    degree = np.bincount(np.concatenate([edges.row, edges.col]), minlength=tree.shape[0])
    _, component = connected_components(tree, directed=False)
    ends = np.flatnonzero(degree == 1)
    ends = ends[np.lexsort((ends, -width[ends], component[ends]))]
    _, first = np.unique(component[ends], return_index=True)
    return ends[first]


def _loops(skeleton: NDArray[np.bool_], graph: csr_array) -> int:
    """Count loops as components minus Euler number, which does not see the triangles of touching pixels."""
    if not skeleton.any():
        return 0
    components, _ = connected_components(graph, directed=False)
    return max(0, int(components - euler_number(skeleton, connectivity=skeleton.ndim)))
