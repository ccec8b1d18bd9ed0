"""What U-Nets have in common; what tells them apart is handed in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class UNet(nn.Module):
    """Levels down, a bottom, steps up with a skip each (Ronneberger et al. 2015, arXiv:1505.04597).

    down: the first keeps the resolution, each further one halves it. bottom: works on the last one's output. up: from the
    bottom to full resolution, called with the deeper features and the skip. widths: channels per level.
    deep: so many levels below full resolution answer too in training (deep supervision, Lee et al. 2015, arXiv:1409.5185).
    (N, channels, H, W), H and W multiples of ``stride`` → logits (N, classes, H, W); in training with ``deep`` a list of
    them, the one at index k with H / 2**k and W / 2**k.
    """

    def __init__(
        self,
        down: Sequence[nn.Module],
        bottom: nn.Module,
        up: Sequence[nn.Module],
        widths: Sequence[int],
        classes: int,
        deep: int = 0,
    ) -> None:
        super().__init__()
        if deep > len(up) - 1:
            raise ValueError(f"a decoder of {len(up)} levels has no {deep} below full resolution")
        self.stride = 2 ** len(up)
        self.down, self.bottom, self.up = nn.ModuleList(down), bottom, nn.ModuleList(up)
        self.heads = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in widths[: deep + 1])

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        skips = []
        for level in self.down:
            x = level(x)
            skips.append(x)
        x = self.bottom(skips.pop())
        levels = []
        for step in self.up:
            x = step(x, skips.pop())
            levels.append(x)
        if self.training and len(self.heads) > 1:
            return [head(level) for head, level in zip(self.heads, reversed(levels), strict=False)]
        answer: torch.Tensor = self.heads[0](x)
        return answer
