"""Metrics that compare a trace with a gold tree; docs/metrics.md defines each."""

from __future__ import annotations

from lib.swclib.metrics.closures import CLOSE_LENGTH, CLOSE_RADIUS, find_closures
from lib.swclib.metrics.continuity import Continuity, continuity
from lib.swclib.metrics.coverage import branch_point_f1, coverage, end_point_f1, near_pieces
from lib.swclib.metrics.jumps import Protocol, average_branch_length, jump_error, position_error
from lib.swclib.metrics.length import length_f1
from lib.swclib.metrics.score import Row, Score, mean_row, score
from lib.swclib.metrics.ssd import ssd_f1

__all__ = [
    "CLOSE_LENGTH",
    "CLOSE_RADIUS",
    "Continuity",
    "Protocol",
    "Row",
    "Score",
    "average_branch_length",
    "branch_point_f1",
    "continuity",
    "coverage",
    "end_point_f1",
    "find_closures",
    "jump_error",
    "length_f1",
    "mean_row",
    "near_pieces",
    "position_error",
    "score",
    "ssd_f1",
]
