"""What training and tracing agree on: how the network's input is drawn and how its output is read.

Training draws its samples with these values and tracing prepares its input with the same ones. A change here makes
existing weight files unusable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

PAST_SHARES = (0.1, 0.1, 0.1, 0.7)
"""Shares of training samples whose walked path has 1, 2, 3 and 4 nodes (docs/paper.md §3)."""
MAX_PAST = len(PAST_SHARES)
"""Most walked nodes in a training sample."""
EDGES_AHEAD = 3
"""Edges ahead of the current node that belong to the current branch in L_conn (docs/paper.md §1)."""
EXTENSION = 3.0
"""Factor by which the oldest walked segment is lengthened, so that the path leaves the patch (docs/paper.md §3)."""
TUBE_RADIUS = 1.0
"""Radius, in work pixels, at which walked paths, edges, branches and centerlines are drawn (docs/paper.md §3)."""
NODE_RADIUS = 2.0 * np.sqrt(2 * np.log(2))
"""Radius of a node label: half width at half height of a Gaussian with σ = 2 px, 2.35 px (docs/paper.md §3)."""
BETA = 0.9
"""Weight of positive pixels in the weighted cross entropy; the others weigh 1 − β (docs/paper.md §1)."""


def extended(before: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Lengthen the oldest walked segment, which runs from ``before`` to ``last``, by the factor :data:`EXTENSION`.

    Parameters
    ----------
    before, last
        ``(..., ndim)`` positions in work pixels; ``last`` is the oldest walked node, ``before`` the node that follows
        it.

    Returns
    -------
    ndarray
        ``(..., ndim)`` the new position of ``last``.
    """
    return before + EXTENSION * (last - before)


def crop_features(features: Tensor, owner: Tensor, corner: Tensor, shape: Sequence[int]) -> Tensor:
    """Cut patches out of the features of tiles.

    Parameters
    ----------
    features
        ``(T, W, *S)`` features of tiles, in trunk pixels.
    owner
        ``(K,)`` int64 on the CPU, tile of each patch.
    corner
        ``(K, ndim)`` int64 on the CPU, first pixel of each patch in its tile, in trunk pixels.
    shape
        ``(ndim,)`` size of a patch in trunk pixels.

    Returns
    -------
    Tensor
        ``(K, W, *shape)``.
    """
    # One gather of rows, because the gradients of as many slices would each be as large as the features.
    rows = owner
    for axis, size in enumerate(shape):
        within = corner[:, axis].view(-1, *[1] * (axis + 1)) + torch.arange(size)
        rows = rows[..., None] * features.shape[2 + axis] + within.view(len(owner), *[1] * axis, size)
    rows = rows.to(features.device, non_blocking=True)
    pixels = features.movedim(1, -1).reshape(-1, features.shape[1])
    return pixels.index_select(0, rows.flatten()).view(*rows.shape, -1).movedim(-1, 1)


def probability(logits: Tensor, beta: float = BETA) -> Tensor:
    """Probability that a pixel is positive, corrected for the class weights of the training loss.

    The weighted cross entropy has its minimum at ``p = βq / (βq + (1 − β)(1 − q))`` for a true probability ``q``: with
    β = 0.9, an output of 0.5 means a probability of 0.1 (docs/paper.md §6). Solved for ``q``, this is a constant shift
    of the logits.

    Parameters
    ----------
    logits
        Output of any of the network's heads, of any shape.
    beta
        The β that the network was trained with.

    Returns
    -------
    Tensor
        Probabilities in [0, 1], of the same shape.
    """
    return torch.sigmoid(logits - math.log(beta / (1 - beta)))
