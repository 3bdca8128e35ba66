"""Nearest edge of a growing trace."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from operator import mul, sub

import numpy as np

CELL = 8.0
"""Pixels along a side of a cell, about the length of a step: an edge and a query each touch few cells."""

Point = tuple[float, ...]


@dataclass(frozen=True)
class Nearest:
    """The place on an edge nearest to a query point.

    Attributes
    ----------
    distance
        Distance to the point in pixels.
    edge
        Number of the edge, as returned by `EdgeIndex.insert`.
    foot
        float64 ``(ndim,)`` the place.
    fraction
        Position of the foot along the edge: 0 at its start, 1 at its end.
    """

    distance: float
    edge: int
    foot: np.ndarray
    fraction: float


class EdgeIndex:
    """Straight edges by the cells of a grid, with exact distances. An edge is in all cells that its box touches.

    Parameters
    ----------
    ndim
        2 or 3. All points are in (y, x) or (z, y, x) order, in pixels.

    Raises
    ------
    ValueError
        If ``ndim`` is neither 2 nor 3; from the methods, if a point has another number of coordinates.
    """

    def __init__(self, ndim: int) -> None:
        if ndim not in (2, 3):
            raise ValueError(f"ndim must be 2 or 3, not {ndim}")
        self.ndim = ndim
        self._edges: list[tuple[Point, Point]] = []
        self._cells: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._edges)

    def insert(self, start: Iterable[float], end: Iterable[float]) -> int:
        """Add the edge from ``start`` to ``end``, both ``(ndim,)``, and return its number (0, 1, ...)."""
        a, b = self._point(start), self._point(end)
        for cell in _cells(map(min, a, b), map(max, a, b)):
            self._cells[cell].append(len(self._edges))
        self._edges.append((a, b))
        return len(self._edges) - 1

    def nearest(
        self, point: Iterable[float], radius: float, exclude: Container[int] | Callable[[int], bool] = ()
    ) -> Nearest | None:
        """Return the nearest edge strictly within ``radius`` of ``point``; a tie goes to the edge inserted first.

        Parameters
        ----------
        point
            ``(ndim,)``
        radius
            In pixels; an edge at exactly this distance is out of reach.
        exclude
            Edges to ignore, or a function that is true for them.

        Returns
        -------
        Nearest or None
            None if no edge is within reach.
        """
        place = self._point(point)
        is_excluded = exclude if callable(exclude) else exclude.__contains__
        best = None
        for edge in self._around(place, radius):
            if is_excluded(edge):
                continue
            fraction, foot = _foot(place, *self._edges[edge])
            distance = math.dist(place, foot)
            if distance < radius and (best is None or (distance, edge) < best[:2]):
                best = distance, edge, foot, fraction
        if best is None:
            return None
        distance, edge, foot, fraction = best
        return Nearest(distance, edge, np.array(foot), fraction)

    def around(self, point: Iterable[float], radius: float) -> set[int]:
        """All edges within ``radius`` of ``point``, and some that are a little further."""
        return self._around(self._point(point), radius)

    def _around(self, place: Point, radius: float) -> set[int]:
        cells = _cells((value - radius for value in place), (value + radius for value in place))
        return {edge for cell in cells for edge in self._cells.get(cell, ())}

    def _point(self, values: Iterable[float]) -> Point:
        point = tuple(map(float, values))
        if len(point) != self.ndim:
            raise ValueError(f"a point needs {self.ndim} coordinates, not {len(point)}")
        return point


def _cells(low: Iterable[float], high: Iterable[float]) -> Iterator[tuple[int, ...]]:
    """The cells that a box touches."""
    return product(*[range(int(a // CELL), int(b // CELL) + 1) for a, b in zip(low, high, strict=True)])


def _foot(point: Point, start: Point, end: Point) -> tuple[float, Point]:
    """Project the point onto the edge, clipped to its ends; return the fraction and the place."""
    along = tuple(map(sub, end, start))
    length_squared = sum(map(mul, along, along))
    if length_squared == 0.0:
        return 0.0, start
    fraction = min(1.0, max(0.0, sum(map(mul, map(sub, point, start), along)) / length_squared))
    return fraction, tuple([a + fraction * d for a, d in zip(start, along, strict=True)])
