"""Classification nets: one answer per image, shaped like a mask of one pixel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from podium.nets.blocks import ResidualBlock


class Classifier(nn.Module):
    """Gives any classification net's logits (N, classes) as (N, classes, 1, 1): a mask of one pixel per image.

    So losses, views, volumes and metrics need not know which task they serve. questions: logits (N, K) are those of "yes"
    to K questions, and become (N, 2, K, 1), with 0 for "no": their softmax is the sigmoid of each.
    """

    def __init__(self, net: nn.Module, questions: bool = False) -> None:
        super().__init__()
        self.net = net
        self.questions = questions

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.net(x)
        return torch.stack((torch.zeros_like(out), out), 1)[..., None] if self.questions else out[..., None, None]


class Scaled(nn.Module):
    """A net that learns a number of mean 0 and deviation 1, whatever the target's unit; gives it in that unit.

    mean, std: of the training part's targets; they are part of the model and kept in its weights.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, net: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x).float() * self.std + self.mean


class SmallCNN(nn.Module):
    """Residual blocks (He et al. 2016, arXiv:1512.03385), halving the resolution from one width to the next.

    stem: stride of a first convolution of twice that size; 1: there is none, and the first block sees the image itself.
    widths: channels per level, the first at the resolution that the stem leaves. The mean over what is left of the image
    feeds one linear layer, with dropout before it. (N, channels, H, W) → logits (N, classes).
    """

    def __init__(self, channels: int, classes: int, widths: Sequence[int], dropout: float = 0.0, stem: int = 1) -> None:
        super().__init__()
        first: list[nn.Module] = []
        if stem > 1:
            first = [
                nn.Conv2d(channels, widths[0], 2 * stem, stem, stem // 2, bias=False),
                nn.BatchNorm2d(widths[0]),
                nn.ReLU(inplace=True),
            ]
        self.blocks = nn.Sequential(
            *first,
            ResidualBlock(widths[0] if first else channels, widths[0]),
            *(ResidualBlock(a, b, 2) for a, b in pairwise(widths)),
            ResidualBlock(widths[-1], widths[-1]),
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(widths[-1], classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(x).mean((2, 3)))
