"""What our own nets are made of; each block stands here once. Shapes are (N, channels, H, W)."""

from __future__ import annotations

import torch
from torch import nn


def enlarge(x: torch.Tensor) -> torch.Tensor:
    """Twice the height and width, bilinear."""
    return nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class ConvNormAct(nn.Sequential):
    """A 3×3 convolution, batch norm (Ioffe & Szegedy 2015, arXiv:1502.03167), ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )


class DoubleConv(nn.Sequential):
    """Two ``ConvNormAct``, with dropout of whole channels between them."""

    def __init__(self, inputs: int, outputs: int, dropout: float = 0.0) -> None:
        drop = nn.Dropout2d(dropout) if dropout else nn.Identity()
        super().__init__(ConvNormAct(inputs, outputs), drop, ConvNormAct(outputs, outputs))


class SqueezeExcitation(nn.Module):
    """Weighs channels by what the whole image shows (Hu et al. 2018, arXiv:1709.01507): x · σ(W₂ ReLU(W₁ mean(x)))."""

    def __init__(self, channels: int, ratio: int = 8) -> None:
        super().__init__()
        inner = max(4, channels // ratio)
        self.squeeze = nn.Linear(channels, inner)
        self.excite = nn.Linear(inner, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.excite(self.squeeze(x.mean((2, 3))).relu()).sigmoid()
        return x * weights[..., None, None]


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with batch norm and a shortcut (He et al. 2016, arXiv:1512.03385); dropout between them.

    dilation: spacing of the convolutions' taps (Yu & Koltun 2016, arXiv:1511.07122). squeeze: with squeeze-excitation
    before the shortcut is added. (N, inputs, H, W) → (N, outputs, H / stride, W / stride).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int = 1,
        dropout: float = 0.0,
        dilation: int = 1,
        squeeze: bool = False,
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout) if dropout else nn.Identity(),
            nn.Conv2d(outputs, outputs, 3, 1, dilation, dilation, bias=False),
            nn.BatchNorm2d(outputs),
            *([SqueezeExcitation(outputs)] if squeeze else []),
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


class AttentionGate(nn.Module):
    """Additive attention on a skip (Oktay et al. 2018, arXiv:1804.03999): skip · σ(ψ ReLU(θ skip + φ deeper)).

    One weight per position, found on the grid of ``deeper``, which is half as fine, and enlarged.
    """

    def __init__(self, skip: int, deeper: int) -> None:
        super().__init__()
        inner = max(4, skip // 2)
        self.theta = nn.Conv2d(skip, inner, 2, 2, bias=False)
        self.phi = nn.Conv2d(deeper, inner, 1)
        self.psi = nn.Conv2d(inner, 1, 1)

    def forward(self, skip: torch.Tensor, deeper: torch.Tensor) -> torch.Tensor:
        weights = self.psi((self.theta(skip) + self.phi(deeper)).relu()).sigmoid()
        return skip * enlarge(weights)


class SkipGate(nn.Module):
    """Lets through of a skip what it and the deeper level agree on: skip · σ(θ skip + enlarged φ deeper).

    One weight per position and channel, as the gates of recurrent nets have it (Cho et al. 2014, arXiv:1406.1078);
    ``deeper`` is half as fine.
    """

    def __init__(self, skip: int, deeper: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(skip, skip, 1)
        self.phi = nn.Conv2d(deeper, skip, 1, bias=False)

    def forward(self, skip: torch.Tensor, deeper: torch.Tensor) -> torch.Tensor:
        return skip * (self.theta(skip) + enlarge(self.phi(deeper))).sigmoid()


class UpStep(nn.Module):
    """One level up: the deeper features, enlarged, and the skip, added or side by side, through ``block``.

    gate: of the skip, told by the deeper features. (N, deeper, H, W), (N, skip, 2H, 2W) → what ``block`` gives.
    """

    def __init__(
        self, deeper: int, skip: int, block: nn.Module, gate: nn.Module | None = None, concat: bool = False
    ) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(deeper, skip, 1)
        self.block, self.gate, self.concat = block, gate, concat

    def forward(self, deeper: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        # reduced before enlarging: a quarter of the work of enlarging first
        x = enlarge(self.reduce(deeper))
        if self.gate is not None:
            skip = self.gate(skip, deeper)
        return self.block(torch.cat([skip, x], 1) if self.concat else x + skip)
