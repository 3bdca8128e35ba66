"""Pictures to look at: traces on images, training samples with their labels, training curves.

Everything is drawn off screen and returned or written as uint8 RGB; no window is ever opened.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from lib.swclib import SwcForest
from tools.pictures.views import View, montage, views

TREE_COLOURS = ("#56B4E9", "#F0E442", "#00C28E", "#F0A0CC", "#FFFFFF", "#3C9BE0")
"""Okabe and Ito's colour-blind-safe palette, without the orange and the black that vanish on a fundus image, and with
its darker colours lightened, because they lie on a dimmed picture."""


def overlay(
    image: NDArray,
    forest: SwcForest,
    *,
    zoom: int | None = None,
    width: float = 2.0,
    marks: bool = True,
    spacing: Sequence[float] = (1, 1, 1),
) -> NDArray[np.uint8]:
    """Draw a forest on its image, a little dimmed, each tree in its own colour, the longest trees in the clearest ones.

    Parameters
    ----------
    image, zoom, spacing : as for `views`; a volume is shown as three projections, see `montage`
    forest : in pixel-centre coordinates of the image; on a plane its z is left out
    width : of the lines, in output pixels
    marks : also draw a ring at each root and a dot at each branch point

    Returns
    -------
    shape (zoom * y, zoom * x, 3), of a volume larger by the other two projections
    """

    def paint(axes: Axes, view: View) -> None:
        _draw_trees(axes, forest, view, width)
        if marks and len(forest):  # matplotlib draws a speck for no marks at all
            _draw_marks(axes, forest, view, width)

    return montage([view.drawn(paint) for view in views(image, zoom=zoom, spacing=spacing)])


# --- overlay ----------------------------------------------------------------------------------------------------


def _draw_trees(axes: Axes, forest: SwcForest, view: View, width: float) -> None:
    """Draw each branch as one line over a dark casing, which keeps it apart from a bright image."""
    branches = forest.branches()
    places = view.places(forest.xyz)
    lines = [places[rows] for rows in branches]
    colours = _node_colours(forest)[[rows[0] for rows in branches]] if branches else "none"
    style = {"capstyle": "round", "joinstyle": "round"}
    axes.add_collection(LineCollection(lines, colors=[(0, 0, 0, 0.45)], linewidths=width + 1.6, **style))
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=width, **style))


def _draw_marks(axes: Axes, forest: SwcForest, view: View, width: float) -> None:
    x, y = view.places(forest.xyz).T
    colours = _node_colours(forest)
    forks, roots = forest.branch_points, forest.roots
    style = {"zorder": 3, "linewidths": 0.7}
    axes.scatter(x[forks], y[forks], s=(2.2 * width) ** 2, c="white", edgecolors="black", **style)
    axes.scatter(x[roots], y[roots], s=(4.5 * width) ** 2, c=colours[roots], edgecolors="black", **style)


def _node_colours(forest: SwcForest) -> NDArray[np.floating]:
    """Return the colour of each node's tree, shape (N, 3); colours go to the trees by falling length."""
    tree = forest.components
    length = np.bincount(tree[forest.edges[:, 1]], weights=forest.edge_lengths, minlength=len(forest.roots))
    rank = np.argsort(np.argsort(-length, kind="stable"))
    return np.array([to_rgb(colour) for colour in TREE_COLOURS])[rank[tree] % len(TREE_COLOURS)]


# --- contact sheet ----------------------------------------------------------------------------------------------


# --- curves -----------------------------------------------------------------------------------------------------
