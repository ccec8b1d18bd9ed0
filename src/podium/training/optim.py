"""The optimiser, its schedule, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from podium.config_train import Cosine, Plateau, StepDown, TrainSettings


def optimiser(
    model: nn.Module, settings: TrainSettings, device: torch.device, depths: Mapping[str, int] | None = None
) -> torch.optim.Optimizer:
    """Fused AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), Adam with L2 decay, or SGD with Nesterov's momentum.

    Biases and norm layers are not decayed. depths: for parameters of a backbone the number of stages after them; each has
    its rate multiplied by ``layer_decay`` to that power (Howard & Ruder 2018, arXiv:1801.06146). A group's ``scale`` is that
    factor, its ``backbone`` says whether it is frozen with it.
    """
    depths = depths or {}
    groups: dict[tuple[float, int], list[torch.Tensor]] = {}
    for name, parameter in model.named_parameters():
        decay = settings.decay if parameter.ndim > 1 else 0.0
        groups.setdefault((decay, depths.get(name, 0)), []).append(parameter)
    given = [
        {
            "params": parameters,
            "weight_decay": decay,
            "scale": settings.layer_decay**depth,
            "backbone": depth > 0,
        }
        for (decay, depth), parameters in sorted(groups.items(), key=lambda item: (item[0][1], -item[0][0]))
    ]
    fused = device.type in ("cpu", "cuda")
    if settings.optimiser == "sgd":
        momentum = 0.9 if settings.momentum is None else settings.momentum
        return torch.optim.SGD(given, lr=settings.lr, momentum=momentum, nesterov=momentum > 0, fused=fused)
    made = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return made(given, lr=settings.lr, fused=fused)


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


def rate(step: int, steps: int, per_epoch: int, settings: TrainSettings, scores: Sequence[float] = ()) -> float:
    """Learning rate of one step: linear warm-up over ``warmup`` of all steps, then as the schedule says.

    per_epoch: steps of an epoch. scores: on the inner split, one per finished epoch, for ``plateau``.
    """
    warm = round(settings.warmup * steps)
    if settings.schedule.name == "cosine":
        warm = max(1, warm)
    if step < warm:
        return settings.lr * (step + 1) / warm
    schedule = settings.schedule
    if isinstance(schedule, Cosine):
        return settings.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
    if isinstance(schedule, StepDown):
        return settings.lr * schedule.factor ** (step // per_epoch // schedule.every)
    if isinstance(schedule, Plateau):
        return max(
            min(schedule.lowest, settings.lr), settings.lr * schedule.factor ** _plateaus(scores, schedule.patience)
        )
    return settings.lr


def _plateaus(scores: Sequence[float], patience: int) -> int:
    """How often the best score had stood for ``patience`` epochs; counting begins anew after each."""
    best, waited, found = -math.inf, 0, 0
    for score in scores:
        if score > best:
            best, waited = score, 0
            continue
        waited += 1
        if waited == patience:
            found, waited = found + 1, 0
    return found


def epochs_since_best(scores: Sequence[float]) -> int:
    """How many epochs have passed since the best score; of equal ones the first counts."""
    return len(scores) - 1 - max(range(len(scores)), key=lambda epoch: (scores[epoch], -epoch)) if scores else 0


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
