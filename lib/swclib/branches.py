"""Branches of a forest, measured: order, length, tortuosity, width, angle; and sums over a whole forest.

docs/branches.md defines every number with its formula and source. Lengths are in the unit of the forest's coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.swclib.forest import ROOT, SOMA_TYPE, SwcForest
from lib.swclib.spurs import spans
from lib.swclib.transform import resample

Floats = NDArray[np.floating]
Rows = NDArray[np.integer]

SMALLEST_BOX, BOXES_ALONG = 2.0, 4.0
"""Sides of the boxes of the fractal dimension: from so many steps of a pixel up to this part of the image."""


@dataclass(frozen=True)
class Branches:
    """The ``B`` branches of a forest, from a root or branch point to the next branch point or end.

    A branch comes after the one that leads to it.

    Attributes
    ----------
    rows
        Rows of the nodes of each branch, both ends included.
    parent
        int64 ``(B,)`` number of the branch that leads to it, −1 at a root.
    tree
        int64 ``(B,)`` number of its tree, from 0 in the order of the roots.
    from_root
        int64 ``(B,)`` 1 at a root, and one more after every branch point.
    strahler
        int64 ``(B,)`` Strahler's order (Strahler 1957): 1 for a branch with an end, one more than its branches where at
        least two of these have the highest order, else the highest of them.
    length, chord
        ``(B,)`` length along the branch and distance between its ends.
    angle
        ``(B,)`` degrees by which the branch turns off the one that leads to it; NaN at a root.
    width
        ``(B, 4)`` mean along the length, median of the nodes, least and largest width, twice the radius. The first node
        does not count where it is a branch point, whose width is that of the branch that leads to it, or a soma.
    """

    rows: Sequence[Rows]
    parent: Rows
    tree: Rows
    from_root: Rows
    strahler: Rows
    length: Floats
    chord: Floats
    angle: Floats
    width: Floats

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def tortuosity(self) -> Floats:
        """``(B,)`` length over chord (Hart et al. 1999); NaN where both ends are in one place."""
        return np.divide(self.length, self.chord, out=np.full(len(self), np.nan), where=self.chord > 0)

    @classmethod
    def of(cls, forest: SwcForest, *, look: float) -> Branches:
        """Measure the branches of a forest.

        Parameters
        ----------
        forest
            Any forest.
        look
            Length along the branches, from a branch point on, that gives their directions for the angle.
        """
        rows, ends, length = spans(forest)
        begin, end = ends.T
        leading = np.full(len(forest), ROOT)
        leading[end] = np.arange(len(rows))
        parent = leading[begin]
        from_root = np.ones(len(rows), dtype=np.int64)
        for number, above in enumerate(parent.tolist()):
            if above != ROOT:
                from_root[number] = from_root[above] + 1
        # A fork has the width of the branch that leads to it, and a soma one of its own.
        is_own = (parent == ROOT) & (forest.types[begin] != SOMA_TYPE)
        width = [_widths(forest, each if own else each[1:]) for each, own in zip(rows, is_own, strict=True)]
        return cls(
            rows,
            parent,
            forest.components[begin],
            from_root,
            _strahler(parent),
            length,
            np.linalg.norm(forest.xyz[end] - forest.xyz[begin], axis=1),
            _angles(forest, rows, parent, look),
            np.reshape(width, (-1, 4)),
        )


def _strahler(parent: Rows) -> Rows:
    """Orders ``(B,)`` of branches after their parents."""
    order = np.ones(len(parent), dtype=np.int64)
    highest, count = np.zeros(len(parent), dtype=np.int64), np.zeros(len(parent), dtype=np.int64)
    for number in range(len(parent) - 1, -1, -1):
        if highest[number]:
            order[number] = highest[number] + (count[number] > 1)
        above = parent[number]
        if above != ROOT:
            if order[number] > highest[above]:
                highest[above], count[above] = order[number], 0
            count[above] += order[number] == highest[above]
    return order


def _widths(forest: SwcForest, rows: Rows) -> Floats:
    """Mean, median, least and largest width of nodes in a row, the mean by the length around each."""
    width = 2 * forest.radius[rows]
    steps = np.diff(forest.along(rows))
    around = np.convolve(steps, [0.5, 0.5]) if steps.sum() > 0 else np.ones(len(rows))
    return np.array([np.average(width, weights=around), np.median(width), width.min(), width.max()])


def _angles(forest: SwcForest, rows: Sequence[Rows], parent: Rows, look: float) -> Floats:
    """Degrees ``(B,)`` between the last stretch of the branch that leads to each and the first stretch of its own."""
    angle = np.full(len(rows), np.nan)
    for number, above in enumerate(parent.tolist()):
        if above == ROOT:
            continue
        own, before = rows[number], rows[above][::-1]
        ahead = forest.xyz[forest.row_along(own, look)] - forest.xyz[own[0]]
        behind = forest.xyz[before[0]] - forest.xyz[forest.row_along(before, look)]
        size = np.linalg.norm(ahead) * np.linalg.norm(behind)
        if size > 0:
            angle[number] = np.degrees(np.arccos(np.clip(ahead @ behind / size, -1, 1)))
    return angle


def fractal_dimension(forest: SwcForest, pixel: float, extent: float) -> float | None:
    """Box-counting dimension of the lines of a forest; None if it is empty or the image too small.

    The slope of log N over log 1/s, N boxes of side s that hold a part of a line (Liebovitch and Toth 1989), by least
    squares over sides that double from :data:`SMALLEST_BOX` pixels to 1/:data:`BOXES_ALONG` of the image.

    Parameters
    ----------
    forest
        Any forest.
    pixel
        Size of a pixel, in the unit of the coordinates.
    extent
        Shortest side of the image (in volumes: of a slice), in the same unit.
    """
    places = resample(forest, pixel / 2).xyz
    doublings = int(np.floor(np.log2(max(extent / BOXES_ALONG / (SMALLEST_BOX * pixel), 0.5)))) + 1
    if not len(places) or doublings < 2:
        return None
    sides = SMALLEST_BOX * pixel * 2.0 ** np.arange(doublings)
    boxes, counts = np.floor(places / sides[0]).astype(np.int64), []
    for _ in sides:
        boxes = _distinct(boxes)
        counts.append(len(boxes))
        boxes //= 2  # The boxes of the next side are made of these.
    return float(-np.polyfit(np.log(sides), np.log(counts), 1)[0])


def _distinct(boxes: Rows) -> Rows:
    """Rows ``(K, 3)`` that differ; several times as fast as ``np.unique`` along an axis."""
    low = boxes.min(axis=0)
    shape = tuple((boxes.max(axis=0) - low + 1).tolist())
    keys = np.unique(np.ravel_multi_index(tuple((boxes - low).T), shape))
    return np.stack(np.unravel_index(keys, shape), axis=1) + low
