"""The optimiser, its schedule, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from podium.config import TrainSettings


def optimiser(model: nn.Module, settings: TrainSettings, device: torch.device) -> torch.optim.AdamW:
    """Fused AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101); biases and norm layers are not decayed."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.lr, fused=device.type in ("cpu", "cuda"))


@torch.no_grad()
def clip(parameters: Sequence[torch.Tensor], largest: float) -> None:
    """Scale all gradients together so that their norm is at most ``largest`` (Pascanu et al. 2013, arXiv:1211.5063).

    The bits of ``torch.nn.utils.clip_grad_norm_``. On a CPU gradients that are short enough are only read and not
    written; a GPU would have to be waited for to know.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    factor = largest / (norm + 1e-6)
    if factor.device.type == "cuda" or not factor >= 1:  # a norm that is not a number is passed on
        torch._foreach_mul_(gradients, factor.clamp(max=1.0))


def rate(step: int, steps: int, settings: TrainSettings) -> float:
    """Learning rate of one step: linear warm-up over ``warmup`` of all steps, then half a cosine down to zero."""
    warm = max(1, round(settings.warmup * steps))
    if step < warm:
        return settings.lr * (step + 1) / warm
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


class Average:
    """Exponential moving average of a model's weights and buffers.

    Its time constant is a share of the whole schedule, so that a short training averages over as much of its end as a
    long one; the early average is short (Tarvainen & Valpola 2017's ramp, arXiv:1703.01780).
    """

    def __init__(self, model: nn.Module, share: float, steps: int) -> None:
        self.decay = 1 - 1 / max(1.0, share * steps) if share else 0.0
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}
        live = model.state_dict(keep_vars=True)
        pairs = [(self.state[name], value.detach()) for name, value in live.items() if value.is_floating_point()]
        self._average, self._live = [a for a, _ in pairs], [b for _, b in pairs]
        self._counters = [(self.state[name], value) for name, value in live.items() if not value.is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the model's weights after ``step`` (counted from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.decay else 0.0
        torch._foreach_lerp_(self._average, self._live, 1 - decay)
        for average, live in self._counters:
            average.copy_(live)
