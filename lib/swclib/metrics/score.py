"""All metrics of one pair of trees, as one flat table row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from lib.swclib.forest import SwcForest
from lib.swclib.metrics.continuity import Continuity, continuity
from lib.swclib.metrics.coverage import Coverage, branch_point_f1, coverage, end_point_f1
from lib.swclib.metrics.f1 import F1
from lib.swclib.metrics.jumps import (
    CLOSE_LENGTH,
    CLOSE_RADIUS,
    BranchLength,
    Closures,
    JumpError,
    PositionError,
    Protocol,
    average_branch_length,
    closures,
    jump_error,
    position_error,
)
from lib.swclib.metrics.length import length_f1
from lib.swclib.metrics.ssd import ssd_f1
from lib.swclib.transform import per_axis, rescale

Row = dict[str, "float | int | None"]
"""Every number of a pair by name, as it stands in tables; None where there is none."""


@dataclass(frozen=True)
class Score:
    """Every metric of one pair; see docs/metrics.md for what each means. Places are in units of ``spacing``, (z, y, x).

    ``closing`` holds the closed loops of the gold under the protocol ``closed``, else None.
    """

    protocol: Protocol
    threshold: float
    spacing: tuple[float, float, float]
    ssd: F1
    length: F1
    position: PositionError
    branch: BranchLength
    jump: JumpError
    coverage: Coverage
    on_gold: Coverage
    ends: F1
    forks: F1
    continuity: Continuity
    closing: Closures | None
    gold_nodes: int
    test_nodes: int

    def row(self) -> Row:
        """Return the numbers by name, None where a value does not exist; never NaN."""
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
            "JE_asked": self.jump.asked,
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
    protocol: Protocol = "paper",
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
        How PE and JE are counted, see `lib.swclib.metrics.jumps`.
    threshold
        What "near" means, in the units that ``spacing`` gives (L-F1: in gold radii; ends, forks, continuity: twice it).
    spacing
        Size of a pixel: one number, (y, x) or (z, y, x). Coordinates are multiplied by it first.
    close_radius, close_length
        For ``closed``: see `closures`, in units of ``spacing`` too.

    Raises
    ------
    ValueError
        For an unknown protocol, or a threshold that is not positive.
    """
    _check_settings(protocol, threshold)
    gold, test = rescale(gold, spacing), rescale(test, spacing)
    is_closed = protocol == "closed"
    closing = closures(gold, radius=close_radius, least_way=close_length) if is_closed else None
    return Score(
        protocol=protocol,
        threshold=threshold,
        spacing=tuple(per_axis(spacing).tolist()),
        ssd=ssd_f1(gold, test, threshold=threshold),
        length=length_f1(gold, test, threshold=threshold),
        position=position_error(gold, test, protocol=protocol, threshold=threshold),
        branch=average_branch_length(test),
        jump=jump_error(gold, test, protocol=protocol, threshold=threshold, closing=closing),
        coverage=coverage(gold, test, threshold=threshold),
        on_gold=coverage(test, gold, threshold=threshold),
        ends=end_point_f1(gold, test, threshold=2 * threshold),
        forks=branch_point_f1(gold, test, threshold=2 * threshold),
        continuity=continuity(
            gold,
            test,
            reach=2 * threshold,
            close_radius=close_radius if is_closed else None,
            close_length=close_length,
        ),
        closing=closing,
        gold_nodes=len(gold),
        test_nodes=len(test),
    )


def _check_settings(protocol: str, threshold: float) -> None:
    if protocol not in get_args(Protocol):
        raise ValueError(f"protocol must be one of {get_args(Protocol)}, not {protocol!r}")
    if not threshold > 0:
        raise ValueError(f"threshold must be positive, not {threshold}")


def mean_row(rows: Sequence[Row]) -> Row:
    """Return the mean of every column over the rows that have a value, None where none has."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    values = {name: [row[name] for row in rows if row.get(name) is not None] for name in names}
    return {name: sum(found) / len(found) if found else None for name, found in values.items()}
