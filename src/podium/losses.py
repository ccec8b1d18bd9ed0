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
    classes = logits.shape[1]
    flat = logits.permute(0, 2, 3, 1).reshape(-1, classes).float()
    truth = targets.reshape(-1).long()
    loss = torch.nn.functional.cross_entropy(flat, truth, weights, ignore_index=NO_LABEL, reduction="sum")
    labelled = truth != NO_LABEL
    weight = (weights[torch.where(labelled, truth, 0)] * labelled).sum()
    return loss / weight.clamp(min=1e-6)
