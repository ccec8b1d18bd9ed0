"""Convolutions over few positions with many channels, as matrix products: the deep end of an encoder on a CPU.

There the weights are far more than the pixels, and oneDNN's backward pass takes 1.4 to 3 times as long as the product of the
unfolded images with the weights (docs/performance.md has the figures).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

POSITIONS = 512
"""Of the output, over the whole batch; measured: at 1,024 the convolution is faster again."""
WEIGHTS = 1 << 17
"""Input times output channels from which it pays."""


class FewPositions(nn.Conv2d):
    """A ``Conv2d`` that multiplies matrices where that is faster; same parameters, same answers up to rounding."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        assert not isinstance(self.padding, str)
        (kernel_h, kernel_w), (step_h, step_w), (pad_h, pad_w) = self.kernel_size, self.stride, self.padding
        height = (input.shape[2] + 2 * pad_h - kernel_h) // step_h + 1
        width = (input.shape[3] + 2 * pad_w - kernel_w) // step_w + 1
        if not 0 < len(input) * height * width <= POSITIONS:
            return super().forward(input)
        padded = functional.pad(input.permute(0, 2, 3, 1), (0, 0, pad_w, pad_w, pad_h, pad_h))
        windows = padded.unfold(1, kernel_h, step_h).unfold(2, kernel_w, step_w)  # (N, H, W, C, kernel_h, kernel_w)
        # channels last of all, as they lie in memory: what is copied are whole runs
        rows = windows.permute(0, 1, 2, 4, 5, 3).reshape(len(input) * height * width, -1)
        answers = rows @ self.weight.permute(0, 2, 3, 1).reshape(self.out_channels, -1).t()
        if self.bias is not None:
            answers = answers + self.bias
        return answers.view(len(input), height, width, self.out_channels).permute(0, 3, 1, 2)


def use_products(net: nn.Module) -> None:
    """Let every convolution of ``net`` that may gain choose its way by the size of its input; in place."""
    for module in net.modules():
        if type(module) is nn.Conv2d and _may_gain(module):
            module.__class__ = FewPositions


def _may_gain(layer: nn.Conv2d) -> bool:
    return (
        max(layer.kernel_size) > 1
        and layer.in_channels * layer.out_channels >= WEIGHTS
        and layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )
