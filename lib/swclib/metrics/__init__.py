"""How well a traced tree agrees with a gold tree; docs/metrics.md explains each metric."""

from __future__ import annotations

from lib.swclib.metrics.continuity import Changes, Continuity, continuity
from lib.swclib.metrics.coverage import Coverage, branch_point_f1, coverage, end_point_f1, near_pieces
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
from lib.swclib.metrics.score import Row, Score, mean_row, score
from lib.swclib.metrics.ssd import ssd_f1

__all__ = [
    "CLOSE_LENGTH",
    "CLOSE_RADIUS",
    "F1",
    "BranchLength",
    "Changes",
    "Closures",
    "Continuity",
    "Coverage",
    "JumpError",
    "PositionError",
    "Protocol",
    "Row",
    "Score",
    "average_branch_length",
    "branch_point_f1",
    "closures",
    "continuity",
    "coverage",
    "end_point_f1",
    "jump_error",
    "length_f1",
    "mean_row",
    "near_pieces",
    "position_error",
    "score",
    "ssd_f1",
]
