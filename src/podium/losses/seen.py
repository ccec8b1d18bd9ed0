"""One output of a net beside the labels that it should have given: what all terms look at, made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch.nn import functional

from podium.data.chunk import NO_LABEL


class Seen:
    """Logits (B, K, H, W) and labels, with what several terms need of them; each is computed when first asked for.

    logits: any float dtype; float64 stays, all else is computed in float32. targets: uint8 (B, H, W), 255 for no label.
    other, share: a second set of targets and its share in every image, float (B,): MixUp (Zhang et al. 2018,
    arXiv:1710.09412). A pixel then has label ``targets`` for 1 - share and ``other`` for share.
    """

    def __init__(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        other: torch.Tensor | None = None,
        share: torch.Tensor | None = None,
    ) -> None:
        if logits.shape[2:] != targets.shape[1:] or len(logits) != len(targets):
            raise ValueError(f"logits {tuple(logits.shape)} do not fit targets {tuple(targets.shape)}")
        if (other is None) != (share is None):
            raise ValueError("other and share are given together or not at all")
        self.dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        self.raw, self.targets, self.other, self.share = logits, targets, other, share

    @property
    def classes(self) -> int:
        """Number of classes, K."""
        return self.raw.shape[1]

    @cached_property
    def logits(self) -> torch.Tensor:
        """The logits in the dtype that is computed in, (B, K, H, W)."""
        return self.raw.to(self.dtype)

    @cached_property
    def truth(self) -> torch.Tensor:
        """``targets`` as int64, which torch's losses take."""
        return self.targets.long()

    @cached_property
    def log_probabilities(self) -> torch.Tensor:
        """Logarithms of the softmax, (B, K, H, W)."""
        return functional.log_softmax(self.raw, dim=1, dtype=self.dtype)

    @cached_property
    def probabilities(self) -> torch.Tensor:
        """The softmax, (B, K, H, W)."""
        return self.log_probabilities.exp()

    @cached_property
    def mass(self) -> torch.Tensor:
        """How much label each pixel has, (B, 1, H, W): 1, or 0 without a label; between them where a share has none."""
        return self.mixture(lambda labels: (labels != NO_LABEL).to(self.dtype))[:, None]

    @cached_property
    def wanted(self) -> torch.Tensor:
        """The labels as probabilities, (B, K, H, W), which add up to ``mass``."""
        return self.mixture(lambda labels: one_hot(labels, self.classes).to(self.dtype))

    def mixture(self, of: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """What ``of`` gives for ``targets`` and for ``other``, (B, ...), added in their shares."""
        first = of(self.targets)
        if self.other is None or self.share is None:
            return first
        share = self.share.to(first.dtype).reshape(-1, *[1] * (first.dim() - 1))
        return first * (1 - share) + of(self.other) * share


def one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Labels (B, H, W) as bool (B, classes, H, W), all false where there is none."""
    return labels[:, None] == torch.arange(classes, dtype=labels.dtype, device=labels.device).view(1, -1, 1, 1)
