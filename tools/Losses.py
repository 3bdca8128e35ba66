"""The losses of NETracer (paper, section "Loss functions") and the Dice shown while training.

All take logits and boolean targets of the same shape ``(N, 1, *S)``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.contract import BETA


def weighted_cross_entropy(
    logits: Tensor, target: Tensor, beta: float = BETA, *, ignored: Tensor | None = None
) -> Tensor:
    """Mean of ``−β·y·log p − (1 − β)·(1 − y)·log(1 − p)`` over all pixels; 0 for an empty batch.

    Pixels that are ``ignored`` (bool, shape of ``target``) count neither in the sum nor among the pixels, and so get no
    gradient; 0 where all are.
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
    """Mean over all pixels of the edge probability outside the current branch; 0 for an empty batch (L_conn)."""
    if edge_logits.numel() == 0:
        return edge_logits.sum()
    return (torch.sigmoid(edge_logits) * ~branch).mean()


def dice(prediction: Tensor, target: Tensor) -> Tensor:
    """Dice coefficient ``2|A ∩ B| / (|A| + |B|)`` of two bool tensors, over everything; 1 where both are empty."""
    both = (prediction & target).sum()
    total = prediction.sum() + target.sum()
    return torch.where(total > 0, 2 * both / total.clamp(min=1), torch.ones_like(both, dtype=torch.float32))
