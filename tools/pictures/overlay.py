"""A trace drawn over its image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial import KDTree

from lib.swclib import SwcForest
from lib.swclib.forest import KIND_TYPE
from tools.pictures.views import View, montage, stroke_width, views

TREE_COLOURS = ("#56B4E9", "#F0E442", "#1AC21A", "#FF6685", "#1AC2B3", "#8080FF", "#FFB380")
"""Light colours for lines on a dimmed image, most different first; none is as pale as the white of branch points. Any
two differ by a CIEDE2000 of at least 20, and of 10 with the red-green blindness of Machado et al. (2009)."""
KIND_COLOURS = ("#FF5050", "#50A0FF", "#1AC21A", "#F0E442", "#FFB380")
"""Colours of the kinds of tube: arteries red, veins blue."""
SURENESS = LinearSegmentedColormap.from_list("sureness", ("#FF5050", "#F0E442", "#56B4E9"))
"""Colours of confidence: 0 red, a half yellow, 1 blue; told apart with red-green blindness, too."""
_NEAR = 20
"""Trees nearer to each other than this many line widths get different colours."""


def overlay(
    image: NDArray,
    forest: SwcForest,
    *,
    zoom: int | None = None,
    width: float | None = None,
    marks: bool = True,
    spacing: Sequence[float] = (1, 1, 1),
    confidence: NDArray[np.floating] | None = None,
) -> NDArray[np.uint8]:
    """Draw a forest over its dimmed image, or over the brightened projections of a volume (see `views`).

    Where the types of the nodes are kinds of tube, these give the colours. Otherwise each tree has one colour, and
    trees that lie near each other have different ones. Colours are given out from the longest tree to the shortest;
    each takes the colour that is rarest near it, then the one rarest in the picture.

    Parameters
    ----------
    image, zoom, spacing
        As in `views`.
    forest
        Trees in image pixels; the centre of the first pixel is 0.
    width
        Line width in output pixels, to which the marks are proportional; by default `stroke_width` of the picture.
    confidence
        ``(N,)`` between 0 and 1, of the edge that leads to each node: it gives the colours, see :data:`SURENESS`.
    marks
        Whether to draw a disc at each root and a white dot at each branch point.

    Returns
    -------
    ndarray
        ``(zoom * y, zoom * x, 3)`` RGB; for a volume `montage` of three projections.
    """
    sides = views(image, zoom=zoom, spacing=spacing)
    width = width or stroke_width(sides)
    if confidence is None:
        colours = _tree_colours(forest, sides, _NEAR * width)[forest.components]
    else:
        colours = SURENESS(confidence)[:, :3]

    def paint(axes: Axes, view: View) -> None:
        if len(forest):  # matplotlib draws a speck for an empty set of marks
            _draw_branches(axes, view, forest, colours, width)
            if marks:
                _draw_marks(axes, view, forest, colours, width)

    return montage([side.draw(paint) for side in sides])


def _draw_branches(axes: Axes, view: View, forest: SwcForest, colours: NDArray[np.floating], width: float) -> None:
    """Draw each branch as one line over a wider dark line, which sets it off from a bright image."""
    branches = forest.branches()
    places = view.project(forest.xyz)
    lines = [places[rows] for rows in branches]
    line_colours = colours[np.array([rows[-1] for rows in branches], dtype=int)]
    for colour, line_width in (((0, 0, 0, 0.45), 1.8 * width), (line_colours, width)):
        axes.add_collection(
            LineCollection(lines, colors=colour, linewidths=line_width, capstyle="round", joinstyle="round")
        )


def _draw_marks(axes: Axes, view: View, forest: SwcForest, colours: NDArray[np.floating], width: float) -> None:
    x, y = view.project(forest.xyz).T
    branch_points, roots = forest.branch_points, forest.roots
    for rows, diameter, colour in ((branch_points, 2.2, "white"), (roots, 4.5, colours[roots])):
        size, edge = (diameter * width) ** 2, 0.35 * width
        axes.scatter(x[rows], y[rows], s=size, c=colour, edgecolors="black", linewidths=edge, zorder=3)


def _tree_colours(forest: SwcForest, sides: Sequence[View], reach: float) -> NDArray[np.floating]:
    """Choose the colour of each tree, ``(trees, 3)``; trees within ``reach`` output pixels are neighbours."""
    kind = forest.types[forest.roots] - KIND_TYPE - 1
    if (kind >= 0).any():
        return np.array([to_rgb(KIND_COLOURS[each % len(KIND_COLOURS)] if each >= 0 else "white") for each in kind])
    count, colours = len(forest.roots), np.array([to_rgb(colour) for colour in TREE_COLOURS])
    length = np.bincount(forest.components[forest.edges[:, 1]], weights=forest.edge_lengths, minlength=count)
    neighbours = _neighbours(forest, sides, reach)
    uses, uses_nearby = np.zeros(len(colours), int), np.zeros((count, len(colours)), int)
    chosen = np.zeros(count, int)
    for tree in np.argsort(-length, kind="stable"):
        chosen[tree] = colour = np.lexsort((uses, uses_nearby[tree]))[0]
        uses[colour] += 1
        uses_nearby[neighbours[[tree]].indices, colour] += 1
    return colours[chosen]


def _neighbours(forest: SwcForest, sides: Sequence[View], reach: float) -> csr_array:
    """Whether two trees come within about ``reach`` output pixels in a view, ``(trees, trees)`` bool."""
    near = csr_array((len(forest.roots), len(forest.roots)), dtype=bool)
    for side in sides if len(forest) else ():
        places = side.project(forest.xyz) * side.zoom[::-1]
        # One place per tree and cell of half the reach bounds the number of pairs, however dense the nodes are.
        cells = np.unique(np.column_stack([forest.components, places // (reach / 2)]).astype(int), axis=0)
        pairs = cells[KDTree(cells[:, 1:]).query_pairs(2, output_type="ndarray"), 0]
        near += csr_array((np.ones(len(pairs), bool), tuple(pairs.T)), shape=near.shape)
    return near + near.T
