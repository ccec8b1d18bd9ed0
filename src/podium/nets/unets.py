"""Our own U-Nets, each put together from the same blocks.

channels, classes: of the images and the logits. widths: channels per level; level i works at 1 / 2**i of the resolution.
dropout: of whole channels, at every level but the first, whose few channels carry the small objects.
deep: levels below full resolution that answer too in training (``UNet``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

from podium.nets.blocks import AttentionGate, DoubleConv, ResidualBlock, SkipGate, UpStep
from podium.nets.transformer import Transformer
from podium.nets.unet import UNet

Gate = Callable[[int, int], nn.Module]


def plain_unet(channels: int, classes: int, widths: Sequence[int], dropout: float = 0.0, deep: int = 0) -> UNet:
    """Two convolutions per level with batch norm after each, maximum pooling, skips side by side."""
    down: list[nn.Module] = [DoubleConv(channels, widths[0])]
    down += [nn.Sequential(nn.MaxPool2d(2), DoubleConv(a, b, dropout)) for a, b in pairwise(widths)]
    up = [UpStep(a, b, DoubleConv(2 * b, b, dropout if i else 0.0), concat=True) for i, a, b in _upwards(widths)]
    return UNet(down, nn.Identity(), up, widths, classes, deep)


def attention_unet(channels: int, classes: int, widths: Sequence[int], dropout: float = 0.0, deep: int = 0) -> UNet:
    """Residual blocks with squeeze-excitation, attention gates on the skips."""
    return _residual(channels, classes, widths, dropout, deep, gate=AttentionGate, squeeze=True)


def gated_unet(channels: int, classes: int, widths: Sequence[int], dropout: float = 0.0, deep: int = 0) -> UNet:
    """Residual blocks, gates on the skips for every channel by itself."""
    return _residual(channels, classes, widths, dropout, deep, gate=SkipGate)


def transformer_unet(
    channels: int,
    classes: int,
    widths: Sequence[int],
    dropout: float = 0.0,
    deep: int = 0,
    depth: int = 4,
    heads: int = 4,
) -> UNet:
    """Residual blocks, and ``depth`` transformer blocks of ``heads`` heads over the positions of the deepest level."""
    deepest = ResidualBlock(widths[-1], widths[-1], dropout=dropout)
    bottom = nn.Sequential(deepest, Transformer(widths[-1], depth, heads, dropout))
    return _residual(channels, classes, widths, dropout, deep, bottom)


def small_object_unet(
    channels: int,
    classes: int,
    widths: Sequence[int],
    dropout: float = 0.0,
    deep: int = 0,
    dilations: Sequence[int] = (1, 2, 4, 8),
) -> UNet:
    """Few levels, so that small objects are never pooled away; dilated blocks at the last one see far instead."""
    bottom = nn.Sequential(
        *(ResidualBlock(widths[-1], widths[-1], dropout=dropout, dilation=dilation) for dilation in dilations)
    )
    return _residual(channels, classes, widths, dropout, deep, bottom)


def _residual(
    channels: int,
    classes: int,
    widths: Sequence[int],
    dropout: float,
    deep: int,
    bottom: nn.Module | None = None,
    gate: Gate | None = None,
    squeeze: bool = False,
) -> UNet:
    """Residual blocks throughout, skips by addition as in ``ResidualUNet``."""
    down = [ResidualBlock(channels, widths[0], squeeze=squeeze)]
    down += [ResidualBlock(a, b, 2, dropout, squeeze=squeeze) for a, b in pairwise(widths)]
    up = [
        UpStep(
            a,
            b,
            ResidualBlock(b, b, dropout=dropout if i else 0.0, squeeze=squeeze),
            gate(b, a) if gate else None,
        )
        for i, a, b in _upwards(widths)
    ]
    bottom = bottom or ResidualBlock(widths[-1], widths[-1], dropout=dropout, squeeze=squeeze)
    return UNet(down, bottom, up, widths, classes, deep)


def _upwards(widths: Sequence[int]) -> list[tuple[int, int, int]]:
    """From the deepest level up: the level's number, the width below it, its own."""
    return [(i, widths[i + 1], widths[i]) for i in reversed(range(len(widths) - 1))]
