"""Nearest edge of a growing trace."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from rtree import index as rtree_index


@dataclass(frozen=True)
class Nearest:
    """The place on an edge nearest to a query point.

    Attributes
    ----------
    distance
        Distance to the point in pixels.
    edge
        Number of the edge, as returned by `EdgeIndex.insert`.
    payload
        The caller's number of the edge.
    foot
        float64 ``(ndim,)`` the place.
    fraction
        Position of the foot along the edge: 0 at its start, 1 at its end.
    """

    distance: float
    edge: int
    payload: int
    foot: np.ndarray
    fraction: float


class EdgeIndex:
    """An R-tree (Guttman 1984) of straight edges, with exact distances.

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
        self._tree = self._new_tree()
        self._starts: list[tuple[float, ...]] = []
        self._ends: list[tuple[float, ...]] = []
        self._payloads: list[int] = []

    def __len__(self) -> int:
        return len(self._payloads)

    def insert(self, start: ArrayLike, end: ArrayLike, payload: int) -> int:
        """Add the edge from ``start`` to ``end``, both ``(ndim,)``, and return its number (0, 1, ...)."""
        a, b = self._point(start), self._point(end)
        edge = self._store(a, b, payload)
        self._tree.insert(edge, _bounds(a, b))
        return edge

    def insert_many(self, starts: ArrayLike, ends: ArrayLike, payloads: Sequence[int]) -> np.ndarray:
        """Add edges, in bulk if the index is empty.

        Parameters
        ----------
        starts, ends
            ``(M, ndim)`` ends of the edges.
        payloads
            M numbers of the caller's.

        Returns
        -------
        ndarray
            int64 ``(M,)`` numbers of the edges.
        """
        first = len(self)
        boxes = []
        for start, end, payload in zip(np.asarray(starts), np.asarray(ends), payloads, strict=True):
            a, b = self._point(start), self._point(end)
            boxes.append((self._store(a, b, payload), _bounds(a, b), None))
        if boxes and first == 0:
            self._tree = self._new_tree(iter(boxes))
        else:
            for edge, bounds, _ in boxes:
                self._tree.insert(edge, bounds)
        return np.arange(first, len(self))

    def nearest(
        self, point: ArrayLike, radius: float, exclude: Container[int] | Callable[[int], bool] = ()
    ) -> Nearest | None:
        """Return the nearest edge strictly within ``radius`` of ``point``; a tie goes to the edge inserted first.

        Parameters
        ----------
        point
            ``(ndim,)``
        radius
            In pixels; an edge at exactly this distance is out of reach.
        exclude
            Payloads to ignore, or a function that is true for them.

        Returns
        -------
        Nearest or None
            None if no edge is within reach.
        """
        place = self._point(point)
        is_excluded = exclude if callable(exclude) else exclude.__contains__
        box = (*(value - radius for value in place), *(value + radius for value in place))
        best = None
        for edge in self._tree.intersection(box):
            if is_excluded(self._payloads[edge]):
                continue
            fraction, foot = _foot(place, self._starts[edge], self._ends[edge])
            distance = math.dist(place, foot)
            if distance < radius and (best is None or (distance, edge) < best[:2]):
                best = distance, edge, foot, fraction
        if best is None:
            return None
        distance, edge, foot, fraction = best
        return Nearest(distance, edge, self._payloads[edge], np.array(foot), fraction)

    def _new_tree(self, *boxes: Iterator) -> rtree_index.Index:
        return rtree_index.Index(*boxes, properties=rtree_index.Property(dimension=self.ndim))

    def _point(self, values: ArrayLike) -> tuple[float, ...]:
        point = tuple(np.asarray(values, dtype=np.float64).tolist())
        if len(point) != self.ndim:
            raise ValueError(f"a point needs {self.ndim} coordinates, not {len(point)}")
        return point

    def _store(self, start: tuple[float, ...], end: tuple[float, ...], payload: int) -> int:
        self._starts.append(start)
        self._ends.append(end)
        self._payloads.append(int(payload))
        return len(self._payloads) - 1


def _bounds(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
    return (*map(min, a, b), *map(max, a, b))


def _foot(
    point: tuple[float, ...], start: tuple[float, ...], end: tuple[float, ...]
) -> tuple[float, tuple[float, ...]]:
    """Project the point onto the edge, clipped to its ends; return the fraction and the place."""
    along = [b - a for a, b in zip(start, end, strict=True)]
    length_squared = sum(d * d for d in along)
    if length_squared == 0.0:
        return 0.0, start
    dot = sum((p - a) * d for p, a, d in zip(point, start, along, strict=True))
    fraction = min(1.0, max(0.0, dot / length_squared))
    return fraction, tuple(a + fraction * d for a, d in zip(start, along, strict=True))
