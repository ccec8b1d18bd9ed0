"""A recipe's loss: its terms, their weights and those of a net's outputs, for a batch or a piece of one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from podium.config_loss import Bce, Boundary, CrossEntropy, Dice, Focal, Huber, Jaccard, LossSettings, Lovasz, Mse, Term
from podium.errors import UserError
from podium.losses.boundary import boundary
from podium.losses.numbers import amount, number_loss
from podium.losses.pixelwise import bce, cross_entropy, focal
from podium.losses.regions import dice, jaccard, lovasz, tversky
from podium.losses.seen import Seen
from podium.losses.weights import class_weights, label_weight


class Loss:
    """The weighted sum of a recipe's terms, over all outputs of a net with deep supervision.

    Output k has 1 / 2 ** k of the resolution (sizes rounded up) and is compared with every 2 ** k-th label of every
    2 ** k-th row, so that no label is invented. weights: of the classes, float32 (K,), on the device. outputs: how many a
    net gives in training, where the settings leave their weights open. unit: standard deviation of numbers, for their terms.
    """

    def __init__(self, settings: LossSettings, weights: torch.Tensor, outputs: int = 1, unit: float = 1.0) -> None:
        self.settings, self.weights, self.unit = settings, weights, unit
        deep = settings.deep or tuple(2.0**-level for level in range(outputs))
        self.deep = [weight / sum(deep) for weight in deep]

    def total(
        self, targets: torch.Tensor, other: torch.Tensor | None = None, share: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The weight of all labels of a whole batch, for every output, (outputs,): what its pieces are divided by.

        targets uint8 (B, H, W), 255 for no label; other, share: a second set and its share (B,) in every image. Of
        numbers, float32 with NaN for none, it is their number.
        """
        if targets.is_floating_point():
            return amount(targets, other, share)[None]
        levels = [_every(level, targets, other) for level in range(len(self.deep))]
        return torch.stack([label_weight(first, self.weights, second, share) for first, second in levels])

    def __call__(
        self,
        outputs: torch.Tensor | Sequence[torch.Tensor],
        targets: torch.Tensor,
        other: torch.Tensor | None = None,
        share: torch.Tensor | None = None,
        total: torch.Tensor | None = None,
        fraction: float = 1.0,
    ) -> torch.Tensor:
        """The loss of a batch, or of a piece of one, a scalar in float32 (float64 for logits in float64).

        outputs: logits (B, K, H, W) of any float dtype, or a list of them by falling resolution. targets, other, share:
        as of ``total``. total, fraction: of the whole batch and the piece's share of its images, where this is a piece;
        the losses of all pieces then add up to the batch's, except of terms with ``over: batch``, which take each piece
        for a batch.
        """
        outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
        if len(outputs) != len(self.deep):
            raise UserError(
                f"loss.deep: {len(self.deep)} weights for a net that gives {len(outputs)} outputs in training; give it "
                "as many, full resolution first"
            )
        total = self.total(targets, other, share) if total is None else total
        losses = []
        for level, (logits, weight) in enumerate(zip(outputs, self.deep, strict=True)):
            if targets.is_floating_point():
                losses += [
                    term.weight * number_loss(term, logits, targets, other, share, total[level], self.unit)
                    for term in self.settings.terms
                    if isinstance(term, Mse | Huber)
                ]
            elif weight:
                seen = Seen(logits, *_every(level, targets, other), share)
                losses += [
                    weight * term.weight * self._value(term, seen, total[level], fraction)
                    for term in self.settings.terms
                ]
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _value(self, term: Term, seen: Seen, total: torch.Tensor, fraction: float) -> torch.Tensor:
        if isinstance(term, CrossEntropy):
            return cross_entropy(seen, self.weights, total, term.label_smoothing)
        if isinstance(term, Focal):
            return focal(seen, self.weights, total, term.gamma)
        if isinstance(term, Bce):
            return bce(seen, self.weights, total, term.label_smoothing)
        if isinstance(term, Dice):
            return fraction * dice(seen, term.over, term.smooth)
        if isinstance(term, Jaccard):
            return fraction * jaccard(seen, term.over, term.smooth)
        if isinstance(term, Lovasz):
            return fraction * lovasz(seen, term.over)
        if isinstance(term, Boundary):
            return fraction * boundary(seen, term.reach)
        if isinstance(term, Mse | Huber):
            raise ValueError(f"{term.name}: is of numbers, these are classes")
        return fraction * tversky(seen, term.alpha, term.beta, term.gamma, term.over, term.smooth)


def build(
    settings: LossSettings, counts: torch.Tensor, task: str, device: torch.device, outputs: int = 1, unit: float = 1.0
) -> Loss:
    """The loss that ``settings`` name. counts: pixels or labels per scored class, (K,), for the class weights.

    task: what is learnt, masks (segmentation) or labels (classification); a term that is not for it is a UserError.
    outputs: how many the net gives in training. unit: standard deviation of numbers.
    """
    problem = settings.misfit(task)
    if problem is not None:
        raise UserError(problem)
    return Loss(settings, class_weights(counts, settings).to(device), outputs, unit)


def _every(level: int, targets: torch.Tensor, other: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Every 2 ** level-th label of both sets, both ways."""
    if level == 0:
        return targets, other
    step = 2**level
    return targets[:, ::step, ::step], None if other is None else other[:, ::step, ::step]
