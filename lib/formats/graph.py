"""A trace as the formats write it: branches with their attributes, in the image's own place, with loops closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.formats.georeference import GeoReference, metres
from lib.swclib import SwcForest

Row = Mapping[str, Any]
Floats = NDArray[np.floating]
Rows = NDArray[np.integer]

PIXELS = "pixels of the image, 0 at the corner of the first one, y down"
"""Coordinates of an image without a coordinate reference system, as GDAL counts them."""


@dataclass(frozen=True)
class BranchGraph:
    """The branches of a trace.

    Attributes
    ----------
    name
        Of the image.
    origin
        What the trace was made of, one line.
    forest
        The trees, in pixel-centre image positions, radii in pixels; rows as in the SWC.
    branches
        Rows of the nodes of each branch, in the order of ``table``.
    table
        Attributes of each branch: None, text, or a number.
    loops
        int64 ``(L, 2)`` rows of the ends of the edges that close loops.
    probability
        ``(N,)`` centerline probability of each node.
    ndim
        Dimension of the image.
    voxel_size
        Micrometres, (z, y, x) or (y, x); None if unknown.
    place
        Where the image lies on the earth; None if its file does not say.
    """

    name: str
    origin: str
    forest: SwcForest
    branches: Sequence[Rows]
    table: Sequence[Row]
    loops: Rows
    probability: Floats
    ndim: int
    voxel_size: tuple[float, ...] | None = None
    place: GeoReference | None = None

    @property
    def crs(self) -> str | None:
        """Coordinate reference system of :attr:`coordinates`; None where they are those of the image."""
        return self.place.crs if self.place else None

    @property
    def coordinates_are(self) -> str:
        """What :attr:`coordinates` are, in words."""
        if self.place:
            return self.place.crs
        if self.ndim == 2:
            return PIXELS
        return f"{'micrometres' if self.voxel_size else 'voxels'} (x, y, z), 0 at the centre of the first voxel"

    @cached_property
    def coordinates(self) -> Floats:
        """``(N, 2)`` x and y of the nodes in :attr:`crs`, else in pixels.

        In volumes ``(N, 3)`` x, y and z in micrometres, or voxels of unknown size.
        """
        positions = self.forest.positions(self.ndim)
        if self.ndim == 3:
            return (positions * (self.voxel_size or 1.0))[:, ::-1]
        return self.place.coordinates(positions) if self.place else positions[:, ::-1] + 0.5

    @cached_property
    def confidence(self) -> Floats | None:
        """``(N,)`` how sure the branch that leads to each node is; None if that is not known."""
        sure = [row.get("confidence") for row in self.table]
        if not sure or None in sure:
            return None
        values = np.ones(len(self.forest))
        for rows, value in zip(self.branches, sure, strict=True):
            # A fork belongs to the branch that leads to it.
            values[rows if self.forest.parent[rows[0]] < 0 else rows[1:]] = value
        return values

    @cached_property
    def longitude_latitude(self) -> Floats | None:
        """``(N, 2)`` degrees of the nodes; None where the image does not say where it lies."""
        return self.place.longitude_latitude(self.forest.positions(self.ndim)) if self.place else None

    @cached_property
    def lines(self) -> list[tuple[Rows, Row]]:
        """Nodes and attributes of each branch, then of the edges that close loops.

        Those of images whose place is known have ``length_m``, metres on the ground, and ``width_mean_m``.
        """
        closing = ((rows, self._loop_row(number, rows)) for number, rows in enumerate(self.loops, len(self.table) + 1))
        lines = [*zip(self.branches, ({**row, "closes_loop": False} for row in self.table), strict=True), *closing]
        if self.place is None or not lines:
            return lines
        pixel = self.place.pixel_metres(self.forest.positions(self.ndim).mean(axis=0))
        return [(rows, {**row, **self._in_metres(rows, pixel)}) for rows, row in lines]

    def _loop_row(self, number: int, rows: Rows) -> Row:
        """Attributes of an edge that closes a loop; its length is only known in the unit of :attr:`coordinates`."""
        begin, end = (int(row) + 1 for row in rows)
        tree = int(self.forest.components[rows[0]]) + 1
        return {"id": number, "tree": tree, "begin_node": begin, "end_node": end, "closes_loop": True}

    def _in_metres(self, rows: Rows, pixel: float) -> Row:
        """Length of a line on the ground, and the mean width of its nodes; ``pixel`` is the size of one."""
        assert self.longitude_latitude is not None
        length, width = metres(self.longitude_latitude[rows]).sum(), 2 * self.forest.radius[rows].mean() * pixel
        return {"length_m": round(float(length), 2), "width_mean_m": round(float(width), 2)}

    @cached_property
    def columns(self) -> list[str]:
        """Names of the attributes, in the order of the table."""
        return list(dict.fromkeys(name for _, row in self.lines for name in row))

    @cached_property
    def junctions(self) -> Rows:
        """Rows of the nodes of the graph: ends, branch points, and both ends of every edge that closes a loop."""
        return np.union1d(np.flatnonzero(self.forest.degree != 2), self.loops.ravel())

    @cached_property
    def sections(self) -> list[tuple[Rows, Row]]:
        """As :attr:`lines`, with branches cut at :attr:`junctions`."""
        at = set(self.junctions.tolist())
        return [(part, row) for rows, row in self.lines for part in _cut(rows, at)]

    def length(self, rows: Rows) -> float:
        """Length of a line through nodes, in the unit of :attr:`coordinates`."""
        return float(np.linalg.norm(np.diff(self.coordinates[rows], axis=0), axis=1).sum())


def _cut(rows: Rows, at: set[int]) -> list[Rows]:
    """Pieces of a line between some of its nodes, which belong to both pieces."""
    inner = [number for number in range(1, len(rows) - 1) if int(rows[number]) in at]
    return [rows[start : end + 1] for start, end in zip([0, *inner], [*inner, len(rows) - 1], strict=True)]
