"""What the tracer doubts: the queue of questions and the confidence of every branch, from the tables of a trace."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.errors import UserError
from lib.swclib import SwcForest
from lib.swclib.forest import ROOT

Row = dict[str, str]
ToImage = Callable[[np.ndarray], np.ndarray]
"""Image positions ``(K, ndim)`` of coordinates ``(K, 3)`` in the SWC file."""


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
    """

    rank: int
    question: str
    branch: int
    node: int
    position: tuple[float, ...]
    confidence: float
    gain: float
    branch_end: int | None = None


def read_queue(path: Path, branches: Path, to_image: ToImage) -> list[Doubt]:
    """Read ``<image>_review.csv``, by rank, with ``<image>_branches.csv``; a file that is not there is an empty queue.

    Raises
    ------
    UserError
        If a column is missing or holds something else.
    """
    ends = {row.get("id"): row.get("end_node") for _, row in _rows(branches)}
    doubts = [_doubt(path, number, row, ends.get(row.get("branch")), to_image) for number, row in _rows(path)]
    if len({doubt.rank for doubt in doubts}) < len(doubts):
        raise UserError(f"{path}: a rank occurs twice; write the queue again")
    return sorted(doubts, key=lambda doubt: doubt.rank)


def _doubt(path: Path, number: int, row: Row, end: str | None, to_image: ToImage) -> Doubt:
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
            int(end) if end else None,
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
