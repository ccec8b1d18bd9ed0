"""A U-Net with residual blocks that keeps full resolution at its first level."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with batch norm and a shortcut (He et al. 2016, arXiv:1512.03385); dropout between them.

    (N, inputs, H, W) → (N, outputs, H / stride, W / stride).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout) if dropout else nn.Identity(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        # Averaging before the 1×1 keeps what a strided 1×1 would skip (He et al. 2019, arXiv:1812.01187), and avoids
        # oneDNN's backward pass of narrow strided 1×1 convolutions, which corrupts memory (torch 2.12.1, channels-last).
        # No norm: the sum is normalised well enough by the body's, and at full resolution a norm costs as much as the 1×1.
        pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        match = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()
        self.shortcut = nn.Sequential(pool, match)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.body(x) + self.shortcut(x))


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
            x = nn.functional.interpolate(reduce(x), scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(x + skip)
        return self.head(x)
