"""The loss terms (docs/paper.md §1), and the Dice coefficient reported during training.

All but :func:`kind_cross_entropy` take tensors of shape ``(N, 1, *S)``; targets and masks are bool.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.contract import BETA


def weighted_cross_entropy(
    logits: Tensor, target: Tensor, beta: float = BETA, *, ignored: Tensor | None = None
) -> Tensor:
    """Mean over the pixels of ``−β·y·log p − (1 − β)·(1 − y)·log(1 − p)`` (docs/paper.md §1).

    Parameters
    ----------
    logits
        ``(N, 1, *S)`` output of a head.
    target
        ``(N, 1, *S)`` positive pixels.
    beta
        Weight β of positive pixels.
    ignored
        ``(N, 1, *S)`` pixels left out of the mean, which get no gradient.

    Returns
    -------
    Tensor
        A scalar; 0 if the batch is empty or all pixels are ignored.
    """
    if logits.numel() == 0:
        return logits.sum()
    weight = torch.where(target, beta, 1 - beta).to(logits.dtype)
    if ignored is None:
        return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), weight=weight)
    weight = weight * ~ignored
    total = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), weight=weight, reduction="sum")
    return total / (~ignored).sum().clamp(min=1)


def local_connectivity_loss(edge_logits: Tensor, branch: Tensor) -> Tensor:
    """Mean over all pixels of the edge output outside the current branch (L_conn, docs/paper.md §1).

    Parameters
    ----------
    edge_logits
        ``(N, 1, *S)`` output of the edge head.
    branch
        ``(N, 1, *S)`` pixels of the current branch.

    Returns
    -------
    Tensor
        A scalar; 0 if the batch is empty.
    """
    if edge_logits.numel() == 0:
        return edge_logits.sum()
    return (torch.sigmoid(edge_logits) * ~branch).mean()


def kind_cross_entropy(logits: Tensor, kind: Tensor) -> Tensor:
    """Mean cross entropy over the pixels whose kind is known.

    Parameters
    ----------
    logits
        ``(N, kinds, *S)``
    kind
        ``(N, *S)`` whole numbers from 1 to the number of kinds; 0 where it is unknown.

    Returns
    -------
    Tensor
        A scalar; 0 if no kind is known.
    """
    total = F.cross_entropy(logits, kind.long() - 1, ignore_index=-1, reduction="sum")
    return total / (kind > 0).sum().clamp(min=1)


def dice(prediction: Tensor, target: Tensor) -> Tensor:
    """Dice coefficient ``2|A ∩ B| / (|A| + |B|)`` of two bool tensors, over the whole batch; 1 if both are empty."""
    both = (prediction & target).sum()
    total = prediction.sum() + target.sum()
    return torch.where(total > 0, 2 * both / total.clamp(min=1), torch.ones_like(both, dtype=torch.float32))
