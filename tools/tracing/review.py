"""Where a trace is most likely wrong: places for a person to look at, those first where looking gains most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tools.confidence.model import KINDS
from tools.tracing.trace import Trace

QUESTIONS = {"branches": "real?", "joins": "joined here?", "insides": "joined here?", "ends": "ends here?"}
"""What is asked at an item, by its kind."""
LEAST_GAIN = 1.0
"""Image pixels. A place of which less length is expected to be mended is not worth a look."""
MOST_BEHIND = 100.0
"""Units. Lengths count up to this: with all that hangs on a join, a trunk that is nearly sure would be asked about
before every doubtful branch (docs/experiments.md)."""
COLUMNS = ("rank", "question", "branch", "node", "x", "y", "z", "confidence", "gain")


@dataclass(frozen=True)
class ReviewItem:
    """An item of :class:`~tools.confidence.evidence.TraceEvidence` that may be wrong.

    The proofreader reads its row back as a :class:`~tools.proofreading.doubts.Doubt`.

    Attributes
    ----------
    kind, number
        Name of its kind, and its number among the items of that kind.
    branch, node
        Number of its branch and row of its node in the SWC, from 0.
    confidence
        How sure it is, in [0, 1].
    gain
        Expected length that looking mends, in the unit of the SWC: the doubt, 1 minus the confidence, times the length
        that is wrong if the item is: of a branch its own, of a join that of the smaller part that it holds on, of an
        end what is missed beyond false ends in the mean; :data:`MOST_BEHIND` at most.
    """

    kind: str
    number: int
    branch: int
    node: int
    confidence: float
    gain: float


def ranked(trace: Trace) -> list[ReviewItem]:
    """The items of a trace worth a look, most expected gain first; none if the weights have no model of confidence."""
    if trace.confidence is None or trace.confidence_model is None:
        return []
    missed, found = trace.confidence_model.missed * trace.work_unit, list[ReviewItem]()
    for kind in KINDS:
        evidence, sure = getattr(trace.evidence, kind), getattr(trace.confidence, kind)
        behind = np.minimum(evidence.behind, MOST_BEHIND * trace.work_unit)
        gain = (1 - sure) * np.where(np.isnan(behind), missed, behind)
        for number in np.flatnonzero(gain >= LEAST_GAIN * trace.pixel_size).tolist():  # not where it is NaN
            place = int(evidence.branch[number]), int(evidence.node[number])
            found.append(ReviewItem(kind, number, *place, float(sure[number]), float(gain[number])))
    return sorted(found, key=lambda item: (-item.gain, item.node, item.kind))


def review_rows(trace: Trace) -> list[dict[str, Any]]:
    """Rows of the table ``<image>_review.csv``.

    Branches are named by their ids in the table of branches, nodes by their ids in the SWC, in whose unit coordinates
    and gain are.
    """
    axes, places = "xyz"[: len(trace.spaces.image_shape)], trace.swc_forest.xyz.round(4)
    return [
        {
            "rank": rank,
            "question": QUESTIONS[item.kind],
            "branch": item.branch + 1,
            "node": item.node + 1,
            **dict(zip(axes, places[item.node].tolist(), strict=False)),
            "confidence": round(item.confidence, 4),
            "gain": round(item.gain, 2),
        }
        for rank, item in enumerate(ranked(trace), start=1)
    ]
