"""Terms of a number per image: sums over the images that have one, divided by their number in the whole batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from podium.config_loss import Huber, Mse

Mixed = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]


def known(targets: torch.Tensor) -> torch.Tensor:
    """Where there is a number, bool in the shape of ``targets``; NaN stands for none."""
    return ~targets.isnan()


def amount(targets: torch.Tensor, other: torch.Tensor | None, share: torch.Tensor | None) -> torch.Tensor:
    """How many numbers a batch holds, a scalar; with a second set of targets each counts in its share."""
    return _mixture(lambda wanted: known(wanted).float(), (targets, other, share)).sum()


def number_loss(
    term: Mse | Huber,
    answers: torch.Tensor,
    targets: torch.Tensor,
    other: torch.Tensor | None,
    share: torch.Tensor | None,
    total: torch.Tensor,
    unit: float,
) -> torch.Tensor:
    """The term for answers (B, 1, H, W) against targets float32 (B, H, W), in standard deviations ``unit``.

    mse: the mean of ((answer - target) / unit) ** 2. huber: half of that up to ``delta``, and delta × (|x| - delta / 2)
    beyond, as ``torch.nn.functional.huber_loss``. total: of the whole batch, see ``amount``.
    """
    given = answers[:, 0].float()

    def of(wanted: torch.Tensor) -> torch.Tensor:
        there = known(wanted)
        # NaN times nothing is NaN, in the gradient too: the answer itself stands in for what is unknown
        difference = (given - torch.where(there, wanted, given.detach())) / unit
        nothing = torch.zeros_like(difference)
        if isinstance(term, Huber):
            loss = functional.huber_loss(difference, nothing, reduction="none", delta=term.delta)
        else:
            loss = difference.square()
        return torch.where(there, loss, nothing)

    return _mixture(of, (targets, other, share)).sum() / total.clamp(min=1e-6)


def _mixture(of: Callable[[torch.Tensor], torch.Tensor], mixed: Mixed) -> torch.Tensor:
    """What ``of`` gives for both sets of targets, added in their shares; MixUp of two numbers is no third number."""
    targets, other, share = mixed
    if other is None or share is None:
        return of(targets)
    share = share.reshape(-1, *[1] * (targets.dim() - 1))
    return of(targets) * (1 - share) + of(other) * share
