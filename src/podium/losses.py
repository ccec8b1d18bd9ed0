"""Losses over logits and class indices, with 255 for pixels that carry no label."""

from __future__ import annotations

import torch

from podium.config import LossSettings

NO_LABEL = 255


def class_weights(counts: torch.Tensor, settings: LossSettings) -> torch.Tensor:
    """(largest / count) ** weight_power, at most weight_cap, float32 (C,); a class that never occurs weighs 1.

    counts: pixels per scored class in the training part. Inverse frequency (power 1) without a cap lets a class of
    0.1 % outweigh all others by 300 to 1, which costs more than the rare class gains.
    """
    counts = counts.double()
    ratio = counts.max() / counts.clamp(min=1)
    weights = ratio.pow(settings.weight_power).clamp(max=settings.weight_cap)
    return torch.where(counts > 0, weights, torch.ones_like(weights)).float()


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean cross-entropy over the labelled pixels, a scalar; 0 with zero gradient where no pixel is labelled.

    logits (B, C, H, W) any float dtype, computed in float32; targets (B, H, W) uint8 with 255 for no loss; weights (C,).
    Equals ``torch.nn.CrossEntropyLoss(weight, ignore_index=255)`` wherever a pixel is labelled.
    """
    truth = targets.long()
    loss = torch.nn.functional.cross_entropy(logits.float(), truth, weights, ignore_index=NO_LABEL, reduction="sum")
    # the weight of every label, 0 for no label: an empty batch divides by a small number and not by zero
    by_label = torch.zeros(NO_LABEL + 1, device=weights.device).index_copy_(
        0, torch.arange(len(weights), device=weights.device), weights
    )
    return loss / by_label[truth].sum().clamp(min=1e-6)
