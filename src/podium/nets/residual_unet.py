"""A U-Net with residual blocks that keeps full resolution at its first level."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from podium.nets.blocks import ResidualBlock, enlarge


class ResidualUNet(nn.Module):
    """Encoder and decoder of residual blocks (Ronneberger et al. 2015, arXiv:1505.04597) with skips by addition.

    Added skips (LinkNet, Chaurasia & Culurciello 2017, arXiv:1707.03718) make every decoder block an identity shortcut and
    halve its first convolution, which at full resolution is what most of the time goes into.

    widths: channels per level; level i works at 1 / 2**i of the resolution. Dropout (of whole channels) at every
    level but the first, whose few channels carry the small objects.
    (N, channels, H, W), H and W multiples of ``stride`` → logits (N, classes, H, W).
    """

    def __init__(self, channels: int, classes: int, widths: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.stride = 2 ** (len(widths) - 1)
        self.first = ResidualBlock(channels, widths[0])
        self.down = nn.ModuleList(ResidualBlock(a, b, 2, dropout) for a, b in pairwise(widths))
        self.deep = ResidualBlock(widths[-1], widths[-1], dropout=dropout)
        up = list(pairwise(widths[::-1]))
        self.reduce = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in up)
        self.up = nn.ModuleList(ResidualBlock(b, b, dropout=dropout if b != widths[0] else 0.0) for _, b in up)
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        skips = []
        for block in self.down:
            skips.append(x)
            x = block(x)
        x = self.deep(x)
        for reduce, block, skip in zip(self.reduce, self.up, reversed(skips), strict=True):
            # reduced before enlarging: a quarter of the work of enlarging first
            x = block(enlarge(reduce(x)) + skip)
        return self.head(x)
