"""Terms that are sums over pixels. Each is divided by ``total``, the weight of all labels of the whole batch, so that the
losses of its pieces add up to the batch's; a batch without a label has loss 0 and no gradient.

With a second set of labels (MixUp) each is exactly (1 - share) × its value for the first + share × that for the second.
w is the weight of a class, y a pixel's label, p the softmax, K the number of classes.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from podium.losses.seen import NO_LABEL, Seen
from podium.losses.weights import weight_of

LEAST = 1e-6
"""An empty batch divides by this and not by zero; and the least 1 - p whose power has a derivative."""


def cross_entropy(seen: Seen, weights: torch.Tensor, total: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Sum over labelled pixels of (1 - s) × w_y × -log p_y + s / K × sum over classes of w_c × -log p_c, over ``total``.

    s: label_smoothing. weights (K,). Equals ``torch.nn.CrossEntropyLoss(weight, ignore_index=255, label_smoothing=s)``
    wherever a pixel is labelled.
    """
    log_p, weights = seen.log_probabilities, weights.to(seen.dtype)
    if seen.other is None:
        loss = functional.nll_loss(log_p, seen.truth, weights, ignore_index=NO_LABEL, reduction="sum")
    else:
        loss = seen.mixture(lambda y: _picked(-log_p, y) * weight_of(y, weights)).sum()
    if label_smoothing:
        # the labels of a pixel say only how much of it counts
        evenly = -(log_p * weights.view(1, -1, 1, 1)).sum(1, keepdim=True)
        loss = (1 - label_smoothing) * loss + label_smoothing / seen.classes * (evenly * seen.mass).sum()
    return loss / total.clamp(min=LEAST)


def focal(seen: Seen, weights: torch.Tensor, total: torch.Tensor, gamma: float = 2.0) -> torch.Tensor:
    """Sum over labelled pixels of w_y × (1 - p_y) ** gamma × -log p_y, over ``total`` (Lin et al. 2017, arXiv:1708.02002).

    The paper's alpha is the class weight; it divides by the number of positive anchors, which masks have not.
    """
    weights = weights.to(seen.dtype)

    def of(labels: torch.Tensor) -> torch.Tensor:
        log_p = _picked(seen.log_probabilities, labels)
        missing = -torch.expm1(log_p)  # 1 - p without its rounding
        return weight_of(labels, weights) * missing.clamp(min=LEAST).pow(gamma) * -log_p

    return seen.mixture(of).sum() / total.clamp(min=LEAST)


def bce(seen: Seen, weights: torch.Tensor, total: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Sum over labelled pixels of w_y / K × sum over classes of -(t log q + (1 - t) log(1 - q)), over ``total``.

    q is the sigmoid of a class's logit; t is 1 for the label and 0 for the rest, or with label_smoothing s, 1 - s / 2 and
    s / 2. Equals ``torch.nn.functional.binary_cross_entropy_with_logits`` where all weights are 1.
    """
    logits, weights = seen.logits, weights.to(seen.dtype)
    # softplus(z) - t z, with the classes added up
    evenly = functional.softplus(logits).sum(1)
    if label_smoothing:
        evenly = evenly - label_smoothing / 2 * logits.sum(1)

    def of(labels: torch.Tensor) -> torch.Tensor:
        return weight_of(labels, weights) * (evenly - (1 - label_smoothing) * _picked(logits, labels))

    return seen.mixture(of).sum() / (seen.classes * total.clamp(min=LEAST))


def _picked(values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Of (B, K, H, W) the values of the labels, (B, H, W); those of class 0 where there is no label: they must weigh 0."""
    # not nll_loss, whose derivative without a reduction refuses the channels-last layout on a CPU
    return values.gather(1, labels.long().mul_(labels != NO_LABEL)[:, None])[:, 0]
