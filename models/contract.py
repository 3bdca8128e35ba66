"""What a network is asked and what it answers: walked paths, tubes, β, and the probability behind a logit.

Training draws its samples by these, and tracing asks by them, so both see the same.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

PAST_SHARES = (0.1, 0.1, 0.1, 0.7)
"""Share of states with 1, 2, 3 and 4 walked nodes."""
MAX_PAST = len(PAST_SHARES)
EDGES_AHEAD = 3
"""The current branch, outside which an edge is punished, reaches this many edges ahead (paper, L_conn)."""
EXTENSION = 3.0
"""The oldest walked segment is drawn this many times as long, so that the walked path leaves the patch."""
TUBE_RADIUS = 1.0
"""Radius in pixels of walked paths, edges, branches and centerlines."""
NODE_RADIUS = 2.0 * np.sqrt(2 * np.log(2))
"""Half height of the paper's Gaussian node label (σ = 2 px): 2.35 px."""


def extended(before: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Where the oldest walked node ``last`` is drawn: its segment from ``before`` made :data:`EXTENSION` as long."""
    return before + EXTENSION * (last - before)


BETA = 0.9
"""Weight of positive pixels in the weighted cross entropy; the others weigh 1 − β (docs/paper.md §1)."""


def probability(logits: Tensor, beta: float = BETA) -> Tensor:
    """Probability of a pixel being positive, with the shift that the weights β and 1 − β put on it taken back.

    The weighted cross entropy is least at ``p = βq / (βq + (1 − β)(1 − q))`` for a true probability ``q``: with β = 0.9
    an output of 0.5 stands for a probability of 0.1. Solved for ``q`` this is a constant shift of the logits.
    """
    return torch.sigmoid(logits - math.log(beta / (1 - beta)))
