"""The small convolutional net that competitors write for digits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from podium.nets.blocks import ConvNormAct

GRID = 3
"""Positions per side that the dense layers see: what 28 pixels are after two halvings and the last, halved again."""


class CNN5(nn.Module):
    """Five convolutions and two dense layers, batch norm after each but the last, maximum pooling after every second.

    widths: channels of the five convolutions. hidden: of the first dense layer. Dropout after each pooling and between the
    dense layers. What is left of the image is averaged to 3×3 positions, so that any size fits; below about 12 pixels they
    repeat one another. Weights are drawn as He et al. 2015, arXiv:1502.01852, have it for ReLU.
    (N, channels, H, W) → logits (N, classes).
    """

    def __init__(
        self, channels: int, classes: int, widths: Sequence[int], dropout: float = 0.25, hidden: int = 128
    ) -> None:
        super().__init__()
        one, two, three, four, five = widths
        self.features = nn.Sequential(
            ConvNormAct(channels, one),
            ConvNormAct(one, two),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Dropout(dropout),
            ConvNormAct(two, three),
            ConvNormAct(three, four),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Dropout(dropout),
            ConvNormAct(four, five),
            nn.AdaptiveAvgPool2d(GRID),
            nn.Dropout(dropout),
        )
        self.dense = nn.Sequential(
            nn.Flatten(),
            nn.Linear(GRID * GRID * five, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(self.features(x))
