"""What the tracer doubts: the queue of questions and the confidence of every branch, from the tables of a trace."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lib.errors import UserError
from lib.swclib import SwcForest
from lib.swclib.forest import ROOT

Row = dict[str, str]
ToImage = Callable[[np.ndarray], np.ndarray]
"""Image positions ``(K, ndim)`` of coordinates ``(K, 3)`` in the SWC file."""

Parents = Mapping[int, int | None]
MEANING = {
    "real?": "Is the marked branch a tube?",
    "joined here?": "Are the two parts one tube here?",
    "ends here?": "Does the tube end here?",
}
"""Words for the questions of the queue."""
JOIN, INSIDE = (
    "Does the marked branch join the other tube here?",
    "Does the marked branch go on through its weakest place?",
)
"""Words for the two kinds of "joined here?", where the table of branches tells them apart."""
AT_NODE = 1.0
"""Pixels, along each axis, from a doubt to its node; more is another node."""


@dataclass(frozen=True)
class Doubt:
    """A question to the proofreader.

    Attributes
    ----------
    rank
        Place in the queue, from 1; the answer to the first is worth most.
    question
        ``real?``, ``joined here?`` or ``ends here?``.
    branch
        Number of the branch in the table of branches.
    node
        Id of the node in the trace as it was written.
    position
        Of the place in the image, ``(y, x)`` or ``(z, y, x)``.
    confidence
        Probability that the trace is right there.
    gain
        What the answer is worth, in the unit of the table.
    branch_end
        Id of the node at the end of the branch; None if the table of branches is not there.
    beside
        Id of the neighbour of the node on the branch, where the node is the first or the last of it: without the edge
        between both there is nothing left to ask. Otherwise None.
    """

    rank: int
    question: str
    branch: int
    node: int
    position: tuple[float, ...]
    confidence: float
    gain: float
    branch_end: int | None = None
    beside: int | None = None

    @property
    def words(self) -> str:
        """The question in plain words."""
        if self.question == "joined here?" and self.branch_end is not None:
            return INSIDE if self.beside is None or self.node == self.branch_end else JOIN
        return MEANING.get(self.question, self.question)

    def is_gone(self, parent: Parents) -> bool:
        """Whether nothing is left to ask in a forest with these :func:`parents`."""
        if self.node not in parent:
            return True
        return self.beside is not None and self.beside != parent[self.node] and self.node != parent.get(self.beside)


def parents(forest: SwcForest) -> Parents:
    """Id of the parent of every node, None at a root."""
    above = forest.ids[forest.parent].tolist() if len(forest) else []
    is_root = (forest.parent == ROOT).tolist()
    return {node: None if root else up for node, up, root in zip(forest.ids.tolist(), above, is_root, strict=True)}


def read_queue(path: Path, branches: Path, forest: SwcForest, to_image: ToImage) -> list[Doubt]:
    """Read ``<image>_review.csv``, by rank, with ``<image>_branches.csv``; a file that is not there is an empty queue.

    Parameters
    ----------
    path, branches
        The two tables.
    forest
        The trace as it was written, in image positions.
    to_image
        Image positions of coordinates in the SWC.

    Raises
    ------
    UserError
        If a column is missing or holds something else, or a place is not that of its node.
    """
    spans = {row.get("id"): (_node(row, "begin_node"), _node(row, "end_node")) for _, row in _rows(branches)}
    place_of = dict(zip(forest.ids.tolist(), forest.xyz[:, ::-1], strict=True))
    parent = parents(forest)
    doubts = []
    for number, row in _rows(path):
        begin, end = spans.get(row.get("branch"), (None, None))
        doubt = _doubt(path, number, row, end, to_image)
        _check_place(f"{path}, line {number}", doubt, place_of.get(doubt.node))
        doubts.append(replace(doubt, beside=_beside(doubt.node, begin, end, parent)))
    if len({doubt.rank for doubt in doubts}) < len(doubts):
        raise UserError(f"{path}: a rank occurs twice; write the queue again")
    return sorted(doubts, key=lambda doubt: doubt.rank)


def _node(row: Row, column: str) -> int | None:
    """Id of a node in a column of a table; None if there is none."""
    text = row.get(column) or ""
    return int(text) if text.isdecimal() else None


def _beside(node: int, begin: int | None, end: int | None, parent: Parents) -> int | None:
    """See :class:`Doubt`."""
    if node == end:
        return parent.get(node)
    if node != begin or end is None:
        return None
    here = end
    while (above := parent.get(here)) not in (begin, None):
        here = above
    return None if above is None else here


def _check_place(where: str, doubt: Doubt, place: np.ndarray | None) -> None:
    """Refuse a doubt whose node is missing or lies elsewhere than at ``place`` (z, y, x)."""
    advice = "the queue is that of another trace; take the files of one run, or move the queue away"
    if place is None:
        raise UserError(f"{where}: node {doubt.node} is not in the trace; {advice}")
    place = place[-len(doubt.position) :]
    if np.abs(place - doubt.position).max() > AT_NODE:
        here, there = (", ".join(f"{value:.1f}" for value in each) for each in (doubt.position, place))
        raise UserError(f"{where}: node {doubt.node} lies at {there} in the trace, not at {here}; {advice}")


def _doubt(path: Path, number: int, row: Row, end: int | None, to_image: ToImage) -> Doubt:
    try:
        place = np.array([[float(row["x"]), float(row["y"]), float(row.get("z") or 0)]])
        return Doubt(
            int(row["rank"]),
            row["question"],
            int(row["branch"]),
            int(row["node"]),
            tuple(to_image(place)[0].tolist()),
            float(row["confidence"]),
            float(row["gain"] or 0),
            end,
        )
    except (KeyError, ValueError) as error:
        found = f"column {error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{path}, line {number}: {found}; write the queue again with the tracer") from None


def read_confidence(path: Path, forest: SwcForest) -> np.ndarray | None:
    """Confidence of the edge above each node, from ``<image>_branches.csv``.

    Parameters
    ----------
    path
        The table; it may be missing, and its column ``confidence`` empty.
    forest
        The trace as it was written.

    Returns
    -------
    ndarray or None
        ``(N,)`` float64, NaN where nothing is known; None if the table knows nothing.

    Raises
    ------
    UserError
        If a value is not a number, or a node is not in the trace.
    """
    confidence = np.full(len(forest), np.nan)
    row_of = {node: row for row, node in enumerate(forest.ids.tolist())}
    parent = forest.parent.tolist()
    for number, line in _rows(path):
        if not line.get("confidence"):
            continue
        try:
            value, begin, end = (
                float(line["confidence"]),
                row_of[int(line["begin_node"])],
                row_of[int(line["end_node"])],
            )
        except (KeyError, ValueError) as error:
            advice = "trace the image again, so that both files belong together"
            raise UserError(f"{path}, line {number}: {error} does not fit the SWC; {advice}") from None
        while end not in (begin, ROOT):
            confidence[end], end = value, parent[end]
    return None if np.isnan(confidence).all() else confidence


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of a table with their line numbers; none if there is no such file."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        yield from enumerate(csv.DictReader(file), start=2)
