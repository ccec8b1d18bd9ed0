"""What each class weighs, and what a batch of labels weighs in all."""

from __future__ import annotations

import math

import torch

from podium.config_loss import LossSettings
from podium.losses.seen import NO_LABEL


def class_weights(counts: torch.Tensor, settings: LossSettings) -> torch.Tensor:
    """(largest / count) ** weight_power, at most weight_cap, float32 (K,); a class that never occurs weighs 1.

    counts: pixels per scored class in the training part; with ``weight_beta`` their effective numbers
    (1 - beta ** n) / (1 - beta) stand in for them (Cui et al. 2019, arXiv:1901.05555). Inverse frequency (power 1) without
    a cap lets a class of 0.1 % outweigh all others by 300 to 1, which costs more than the rare class gains.
    """
    counts = counts.double()
    sizes = counts if settings.weight_beta is None else _effective(counts, settings.weight_beta)
    weights = (sizes.max() / sizes).pow(settings.weight_power).clamp(max=settings.weight_cap)
    return torch.where(counts > 0, weights, torch.ones_like(weights)).float()


def _effective(counts: torch.Tensor, beta: float) -> torch.Tensor:
    # 1 - beta ** n without the rounding of powers near 1
    return -torch.expm1(counts * math.log(beta)) / (1 - beta)


def weight_of(labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The class weights (K,) of labels of uint8, in their shape; what is no class, 255 among them, weighs 0."""
    table = torch.nn.functional.pad(weights, (0, NO_LABEL + 1 - len(weights)))
    # a third of the time of table[labels.long()]
    return table.index_select(0, labels.flatten().int()).view(labels.shape)


def label_weight(
    targets: torch.Tensor,
    weights: torch.Tensor,
    other: torch.Tensor | None = None,
    share: torch.Tensor | None = None,
) -> torch.Tensor:
    """The sum of the class weights of all labelled pixels, a scalar; targets (B, H, W) uint8, 255 for no label.

    other, share: a second set of targets and its share (B,) in every image; the first then has what is left.
    """
    if other is None or share is None:
        return weight_of(targets, weights).sum()
    first, second = (weight_of(labels, weights).flatten(1).sum(1) for labels in (targets, other))
    return ((1 - share) * first + share * second).sum()
