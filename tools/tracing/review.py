"""Where a trace is most likely wrong: places for a person to look at, those first where looking gains most."""

from __future__ import annotations

from typing import Any

import numpy as np

from tools.confidence.model import KINDS
from tools.tracing.trace import Trace

QUESTIONS = {"branches": "real?", "joins": "joined here?", "insides": "joined here?", "ends": "ends here?"}
"""What is asked at an item, by its kind."""
LEAST_GAIN = 1.0
"""Image pixels. A place of which less length is expected to be mended is not worth a look."""
COLUMNS = ("rank", "question", "branch", "node", "x", "y", "z", "confidence", "gain")


def doubts(trace: Trace) -> list[dict[str, Any]]:
    """Rows of the table ``<image>_review.csv``, most expected gain first; none if the weights have no model.

    The gain is the doubt, 1 minus the confidence, times the length that is wrong if the item is: of a branch its own,
    of a join that of the smaller part that it holds on, of an end what is missed beyond false ends in the mean.
    Branches are named by their ids in the table of branches, nodes by their ids in the SWC, in whose unit coordinates
    and gain are.
    """
    if trace.confidence is None or trace.confidence_model is None:
        return []
    missed = trace.confidence_model.missed * trace.work_unit
    rows = []
    for kind in KINDS:
        evidence, sure = getattr(trace.evidence, kind), getattr(trace.confidence, kind)
        gain = (1 - sure) * np.where(np.isnan(evidence.behind), missed, evidence.behind)
        for item in np.flatnonzero(gain >= LEAST_GAIN * trace.pixel_size):  # not where it is NaN
            rows.append(_row(trace, kind, int(evidence.branch[item]), int(evidence.node[item]), sure[item], gain[item]))
    rows.sort(key=lambda row: (-row["gain"], row["node"], row["question"]))
    return [{"rank": rank, **row} for rank, row in enumerate(rows, start=1)]


def _row(trace: Trace, kind: str, branch: int, node: int, sure: float, gain: float) -> dict[str, Any]:
    """A row without its rank."""
    axes = "xyz"[: len(trace.spaces.image_shape)]
    place = dict(zip(axes, trace.swc_forest.xyz[node].round(4).tolist(), strict=False))
    numbers = {"confidence": round(float(sure), 4), "gain": round(float(gain), 2)}
    return {"question": QUESTIONS[kind], "branch": branch + 1, "node": node + 1, **place, **numbers}
