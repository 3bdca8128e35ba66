"""The trace of one cell: traced in its window, then cut at the faces of the cell.

A cell keeps what lies up to :data:`OVERLAP` beyond its faces, so that a tube that runs along a face is in one of the
two cells at least; :mod:`tools.blockwise.seams` finds what both have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from lib.files import atomic_write
from lib.swclib.forest import SOMA_TYPE

OVERLAP = 3.0
"""Units, work pixels of the finest axis, by which a cell's trace goes beyond its faces."""


@dataclass(frozen=True)
class CellTrace:
    """The trace of a cell, in work pixels of the whole image.

    Attributes
    ----------
    positions
        float64 ``(N, ndim)``.
    radius
        float64 ``(N,)`` in image pixels.
    types
        int64 ``(N,)`` SWC types.
    probability
        float64 ``(N,)`` centerline probability.
    ahead
        float64 ``(N,)`` of ends, the probability ahead of them (:mod:`tools.confidence.ahead`); 0 of others.
    is_cut
        bool ``(N,)`` ends made by the cut.
    is_doubtful
        bool ``(N,)`` nodes of a tree that is noise unless it goes on beyond the window.
    edges
        int64 ``(M, 2)``.
    loops
        int64 ``(L, 2)`` pairs of nodes of which an edge would close a loop in this cell.
    picture
        uint8 ``(*S, C)`` the pixels of the cell without its halo, made smaller; without elements where it is dark.
    step
        Mean length of the steps of the trace in units, by which the length of a tree becomes a number of steps.
    memory
        Peak memory of the worker so far, in GB.
    counts, stops, seconds
        As in :class:`~tools.tracing.trace.Trace`.
    """

    positions: np.ndarray
    radius: np.ndarray
    types: np.ndarray
    probability: np.ndarray
    ahead: np.ndarray
    is_cut: np.ndarray
    is_doubtful: np.ndarray
    edges: np.ndarray
    loops: np.ndarray
    picture: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))
    step: float = 1.0
    memory: float = 0.0
    counts: Mapping[str, int] = field(default_factory=dict)
    stops: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def empty(cls, ndim: int) -> CellTrace:
        """No trace."""
        none, pairs, no = np.zeros(0), np.zeros((0, 2), np.int64), np.zeros(0, bool)
        return cls(np.zeros((0, ndim)), none, none.astype(np.int64), none, none, no, no, pairs, pairs)

    def __len__(self) -> int:
        return len(self.positions)

    def save(self, path: Path) -> None:
        """Write it as ``.npz``; the file appears only when complete.

        Raises
        ------
        UserError
            If it cannot be written.
        """
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        arrays: dict[str, Any] = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
        rest = json.dumps({name: value for name, value in values.items() if name not in arrays})
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, rest=np.array(rest), **arrays)

    @classmethod
    def load(cls, path: Path) -> CellTrace:
        """Read a file of :meth:`save`."""
        with np.load(path) as stored:
            arrays: dict[str, Any] = dict(stored)
        return cls(**json.loads(str(arrays.pop("rest"))), **arrays)

    def with_own_somata(self, low: np.ndarray, high: np.ndarray, sizes: np.ndarray) -> CellTrace:
        """The trace without the bodies that belong to other cells, so that each is in one cell alone.

        Edges that lead to them end :data:`OVERLAP` before the centre, where the bodies' own cells have them, too; those
        that begin in a third cell are left to it.

        Parameters
        ----------
        low, high
            ``(ndim,)`` corners of the cell in work pixels; a body belongs to the cell that holds its centre.
        sizes
            ``(ndim,)`` size of a work pixel in units.
        """
        is_own = np.all((self.positions >= low - 0.5) & (self.positions < high - 0.5), axis=1)
        keep = (self.types != SOMA_TYPE) | is_own
        crossing = self._leading_out(keep)
        crossing = crossing[is_own[crossing[:, 0]]]
        length = np.linalg.norm(np.diff(self.positions[crossing], axis=1)[:, 0] * sizes, axis=1)
        return self._cut(keep, crossing, 1 - OVERLAP / np.maximum(length, OVERLAP))

    def cut_to(self, low: np.ndarray, high: np.ndarray) -> CellTrace:
        """The part between two corners ``(ndim,)`` in work pixels, with a node wherever an edge crosses their faces."""
        inside = np.all((self.positions >= low) & (self.positions <= high), axis=1)
        crossing = self._leading_out(inside)
        share = _way_out(self.positions[crossing[:, 0]], self.positions[crossing[:, 1]], low, high)
        return self._cut(inside, crossing, share)

    def _leading_out(self, keep: np.ndarray) -> np.ndarray:
        """Edges ``(K, 2)`` from a node that is kept to one that is not; ``keep`` is bool ``(N,)``."""
        leading = self.edges[keep[self.edges].sum(axis=1) == 1]
        return np.where(keep[leading[:, :1]], leading, leading[:, ::-1])

    def _cut(self, keep: np.ndarray, crossing: np.ndarray, share: np.ndarray) -> CellTrace:
        """The nodes to ``keep``, bool ``(N,)``, and a cut end on each of some edges that lead out of them.

        ``crossing`` ``(K, 2)`` are their inner and outer nodes, ``share`` ``(K,)`` how far along them the ends lie.
        """
        is_soma = self.types == SOMA_TYPE

        def between(values: np.ndarray) -> np.ndarray:
            first, last = values[crossing[:, 0]], values[crossing[:, 1]]
            if values.ndim == 1:  # A body is no tube: up to it, a neurite stays as it is.
                first, last = (
                    np.where(is_soma[crossing[:, 0]], last, first),
                    np.where(is_soma[crossing[:, 1]], first, last),
                )
            return first + (share[:, None] if values.ndim == 2 else share) * (last - first)

        new_row = np.cumsum(keep) - 1
        count = int(keep.sum())
        to_cut = np.stack([new_row[crossing[:, 0]], count + np.arange(len(crossing))], axis=1)
        kept = {name: getattr(self, name)[keep] for name in ("types", "ahead", "is_cut", "is_doubtful")}
        made = {
            "types": np.where(is_soma, 0, self.types),
            "ahead": np.zeros(len(self)),
            "is_cut": np.ones(len(self), bool),
            "is_doubtful": self.is_doubtful,
        }
        interpolated = ("positions", "radius", "probability")
        return replace(
            self,
            **{
                name: np.concatenate([getattr(self, name)[keep], between(getattr(self, name))]) for name in interpolated
            },
            **{name: np.concatenate([values, made[name][crossing[:, 0]]]) for name, values in kept.items()},
            edges=np.concatenate([new_row[self.edges[keep[self.edges].all(axis=1)]], to_cut]),
            loops=new_row[self.loops[keep[self.loops].all(axis=1)]],
        )


def _way_out(inner: np.ndarray, outer: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Share ``(K,)`` of the way from ``inner`` to ``outer`` ``(K, ndim)`` at which it leaves the box."""
    along = outer - inner
    with np.errstate(divide="ignore", invalid="ignore"):
        reached = np.where(along > 0, (high - inner) / along, np.where(along < 0, (low - inner) / along, np.inf))
    return np.clip(reached.min(axis=1, initial=np.inf), 0, 1)
