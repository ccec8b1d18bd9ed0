"""Transformer blocks over the positions of a feature map."""

from __future__ import annotations

import math

import torch
from torch import nn

SHORT = 512
"""Positions up to which a CPU attends by plain products: its fused kernel's bf16 backward pass takes up to 13 times as long."""


class Transformer(nn.Module):
    """``depth`` blocks in which every position attends to all others, and a norm.

    channels: a multiple of 4 and of ``heads``. (N, channels, H, W) → the same, for any H and W; time grows with (H W)².
    """

    def __init__(self, channels: int, depth: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(channels, heads, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count, channels, height, width = x.shape
        # with channels last in memory no value moves, neither way
        tokens = x.permute(0, 2, 3, 1).reshape(count, height * width, channels)
        tokens = tokens + positions(height, width, channels, x.device).to(x.dtype)
        tokens = self.norm(self.blocks(tokens))
        return tokens.view(count, height, width, channels).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A pre-norm transformer block (Vaswani et al. 2017, arXiv:1706.03762; Xiong et al. 2020, arXiv:2002.04745).

    x + attention(norm(x)), then x + perceptron(norm(x)) with an inner width of four times ``channels``. Dropout acts on
    what the two add. (N, positions, channels) → the same.
    """

    def __init__(self, channels: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.join = nn.Linear(channels, channels)
        self.perceptron = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.dropout(self._attention(self.norm1(x)))
        return x + self.dropout(self.perceptron(self.norm2(x)))

    def _attention(self, x: torch.Tensor) -> torch.Tensor:
        count, places, channels = x.shape
        split = self.query_key_value(x).view(count, places, 3, self.heads, channels // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        if x.device.type == "cpu" and places <= SHORT:
            query = query * (channels // self.heads) ** -0.5
            seen = (query @ key.transpose(-1, -2)).softmax(-1) @ value
        else:
            seen = nn.functional.scaled_dot_product_attention(query, key, value)
        joined: torch.Tensor = self.join(seen.transpose(1, 2).reshape(count, places, channels))
        return joined


def positions(height: int, width: int, channels: int, device: torch.device | None = None) -> torch.Tensor:
    """A code of every position that exists for any size: float32 (H W, channels).

    A quarter of the channels each: sines and cosines of the row, sines and cosines of the column, at frequencies that fall
    from 1 to 1/10,000 (Vaswani et al. 2017, in two directions).
    """
    if channels % 4:
        raise ValueError(f"{channels} channels cannot be shared by sine and cosine of row and column")
    steps = torch.arange(channels // 4, device=device)
    frequencies = torch.exp(steps * (-math.log(10_000.0) / (channels // 4)))
    rows = torch.arange(height, device=device)[:, None] * frequencies
    columns = torch.arange(width, device=device)[:, None] * frequencies
    of_row = torch.cat([rows.sin(), rows.cos()], 1)[:, None].expand(-1, width, -1)
    of_column = torch.cat([columns.sin(), columns.cos()], 1)[None].expand(height, -1, -1)
    return torch.cat([of_row, of_column], 2).reshape(height * width, channels)
