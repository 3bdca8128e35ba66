"""All metrics of a pair of trees, as one flat table row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from lib.swclib.forest import SwcForest
from lib.swclib.metrics import jumps
from lib.swclib.metrics.closures import CLOSE_LENGTH, CLOSE_RADIUS, Closures, find_closures
from lib.swclib.metrics.continuity import Continuity, continuity
from lib.swclib.metrics.coverage import Coverage, branch_point_f1, coverage, end_point_f1
from lib.swclib.metrics.f1 import F1
from lib.swclib.metrics.length import length_f1
from lib.swclib.metrics.ssd import ssd_f1
from lib.swclib.transform import per_axis, rescale

Row = dict[str, "float | int | None"]
"""The numbers of a pair by their column name; None if a number does not exist."""


@dataclass(frozen=True)
class Score:
    """Every metric of a pair, as defined in docs/metrics.md; coordinates are multiplied by ``spacing``, (z, y, x).

    ``closures`` are those of the gold under the protocol ``closed``, otherwise None.
    """

    protocol: jumps.Protocol
    threshold: float
    spacing: tuple[float, float, float]
    ssd: F1
    length: F1
    position: jumps.PositionError
    branch: jumps.BranchLength
    jump: jumps.JumpError
    coverage: Coverage
    on_gold: Coverage
    ends: F1
    forks: F1
    continuity: Continuity
    closures: Closures | None
    gold_nodes: int
    test_nodes: int

    def row(self) -> Row:
        """Return the numbers by column name; a number that does not exist is None, never NaN."""
        return {
            **_named("SSD", self.ssd),
            **_named("L", self.length),
            "PE": self.position.value,
            "PE_matched_fraction": self.position.matched_fraction,
            "ABL": self.branch.value,
            "JE": self.jump.value if self.test_nodes else None,
            "coverage": self.coverage.value,
            "on_gold": self.on_gold.value,
            **_per_axis("offset", self.on_gold.offset),
            **_per_axis("shift", self.on_gold.shift),
            **_named("ends", self.ends),
            **_named("forks", self.forks),
            **_named("paths", self.continuity.paths),
            "breaks": self.continuity.breaks.value,
            "false_merges": self.continuity.merges.value if self.test_nodes else None,
            "SSD_gold_nodes": self.ssd.total_gold,
            "SSD_test_nodes": self.ssd.total_test,
            "PE_matched_nodes": self.position.matched,
            "ABL_branches": self.branch.branches,
            "JE_asked": self.jump.candidates,
            "paths_gold": self.continuity.paths.total_gold,
            "paths_test": self.continuity.paths.total_test,
            "gold_length": self.length.total_gold,
            "test_length": self.length.total_test,
            "gold_nodes": self.gold_nodes,
            "test_nodes": self.test_nodes,
        }


def _named(prefix: str, f1: F1) -> dict[str, float]:
    return {f"{prefix}_F1": f1.value, f"{prefix}_precision": f1.precision, f"{prefix}_recall": f1.recall}


def _per_axis(name: str, values: tuple[float, float, float] | None) -> dict[str, float | None]:
    return dict(zip((f"{name}_z", f"{name}_y", f"{name}_x"), values or (None, None, None), strict=True))


def score(
    gold: SwcForest,
    test: SwcForest,
    *,
    protocol: jumps.Protocol = "paper",
    threshold: float = 2.0,
    spacing: float | Sequence[float] = 1.0,
    close_radius: float = CLOSE_RADIUS,
    close_length: float = CLOSE_LENGTH,
) -> Score:
    """Return all metrics of a test tree against a gold tree.

    Parameters
    ----------
    gold, test
        Trees in the same coordinates; either may be empty.
    protocol
        How to count PE and JE, see `lib.swclib.metrics.jumps`.
    threshold
        Distance below which places match, in the unit of ``spacing``. Ends, forks and continuity use twice the
        distance; L-F1 reads it as a multiple of the gold radii.
    spacing
        Pixel size: one number, (y, x) or (z, y, x). Coordinates are multiplied by it first.
    close_radius, close_length
        For ``closed``: ``radius`` and ``min_loop`` of `find_closures`, in the unit of ``spacing``.

    Raises
    ------
    ValueError
        If the protocol is unknown or the threshold is not positive.
    """
    if protocol not in get_args(jumps.Protocol):
        raise ValueError(f"protocol must be one of {get_args(jumps.Protocol)}, not {protocol!r}")
    if not threshold > 0:
        raise ValueError(f"threshold must be positive, not {threshold}")
    gold, test = rescale(gold, spacing), rescale(test, spacing)
    is_closed = protocol == "closed"
    closures = find_closures(gold, radius=close_radius, min_loop=close_length) if is_closed else None
    return Score(
        protocol=protocol,
        threshold=threshold,
        spacing=tuple(per_axis(spacing).tolist()),
        ssd=ssd_f1(gold, test, threshold=threshold),
        length=length_f1(gold, test, threshold=threshold),
        position=jumps.position_error(gold, test, protocol=protocol, threshold=threshold),
        branch=jumps.average_branch_length(test),
        jump=jumps.jump_error(gold, test, protocol=protocol, threshold=threshold, closures=closures),
        coverage=coverage(gold, test, threshold=threshold),
        on_gold=coverage(test, gold, threshold=threshold),
        ends=end_point_f1(gold, test, threshold=2 * threshold),
        forks=branch_point_f1(gold, test, threshold=2 * threshold),
        continuity=continuity(
            gold, test, reach=2 * threshold, close_radius=close_radius if is_closed else None, close_length=close_length
        ),
        closures=closures,
        gold_nodes=len(gold),
        test_nodes=len(test),
    )


def mean_row(rows: Sequence[Row]) -> Row:
    """Return the mean of every column over the rows that have a value, None if none has."""
    names = dict.fromkeys(name for row in rows for name in row)
    values = {name: [value for row in rows if (value := row.get(name)) is not None] for name in names}
    return {name: sum(found) / len(found) if found else None for name, found in values.items()}
