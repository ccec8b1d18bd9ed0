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


def label_weight(targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The sum of the class weights of all labelled pixels, a scalar; targets (B, H, W) uint8, 255 for no label."""
    by_label = torch.nn.functional.pad(weights, (0, NO_LABEL + 1 - len(weights)))
    return by_label[targets.long()].sum()


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, total: torch.Tensor | None = None
) -> torch.Tensor:
    """Weighted mean cross-entropy over the labelled pixels, a scalar; 0 with zero gradient where no pixel is labelled.

    logits (B, C, H, W) any float dtype, computed in float32; targets (B, H, W) uint8 with 255 for no loss; weights (C,).
    total: what to divide by, ``label_weight`` of the whole batch where this is a piece of one: the pieces' losses then add
    up to the batch's. Equals ``torch.nn.CrossEntropyLoss(weight, ignore_index=255)`` wherever a pixel is labelled.
    """
    truth = targets.long()
    loss = torch.nn.functional.cross_entropy(logits.float(), truth, weights, ignore_index=NO_LABEL, reduction="sum")
    # an empty batch divides by a small number and not by zero
    return loss / (label_weight(targets, weights) if total is None else total).clamp(min=1e-6)
