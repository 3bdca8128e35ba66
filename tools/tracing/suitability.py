"""Whether the weights suit an image, judged by its trace: unsuitable ones give short trees of low probability."""

from __future__ import annotations

import numpy as np

from lib.errors import counted
from tools.tracing.trace import Trace

SHORT = 150.0
"""Work pixels. Mean length of the trees below which the weights are in doubt; whole training images of the shipped 2D
weights have 177 and more, unsuitable ones 37 to 122 (docs/experiments.md)."""
FAINT = 0.25
"""Share of nodes below the seed threshold from which short trees are in doubt. Unsuitable images have 0.30 and more,
the short neurites of a small simulated volume 0.02."""
ADVICE = "try --scale, or other weights"


def why_unsuited(trace: Trace, seed_threshold: float) -> str:
    """Why the weights seem not to suit an image; empty if they do.

    Parameters
    ----------
    trace
        The finished trace.
    seed_threshold
        Probability from which on traces start.
    """
    forest, count = trace.forest, len(trace.forest.roots)
    if not count:
        return f"nothing was found to trace: the SWC is empty; {ADVICE}"
    length = forest.length * float(np.mean(trace.spaces.scale)) / count
    probability = trace.probabilities(forest.positions(len(trace.spaces.work_shape)))
    faint = float((probability < seed_threshold).mean())
    if length >= SHORT or faint < FAINT:
        return ""
    trees = f"{counted(count, 'tree')} of {length:.0f} work pixels on average"
    share = f"with {faint * 100:.0f} % of the nodes below the seed threshold"
    return f"the weights seem not to suit this image: {trees}, {share}; {ADVICE}"
