"""The two halves of augmentation: drawing its parameters on the CPU, and doing it to a batch on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from podium.augment import geometry, pixels
from podium.augment.draws import Chosen, Draws
from podium.config_augment import AugmentSettings, Cutout, Geometric, Random, steps
from podium.errors import UserError


def draw(settings: AugmentSettings, n: int, generator: torch.Generator, shape: Sequence[int]) -> Draws:
    """Random parameters for ``n`` samples, images of ``shape`` (C, H, W); a function of the CPU generator's state.

    An operation that cannot be done to such images is a UserError.
    """
    problem = settings.misfit(tuple(shape))
    if problem is not None:
        raise UserError(problem)
    wanted = _wanted(settings, n, generator)
    drawn: list[tuple[Chosen, ...]] = []
    for step in steps(settings.batch):
        here, wanted = wanted[: len(step)], wanted[len(step) :]
        parts = [item for item in step if isinstance(item, Geometric)]
        if parts:
            drawn.append(geometry.drawn(parts, here, generator, shape))
        else:
            drawn.append((Chosen.where(here[0], pixels.drawn(step[0], n, generator, shape)),))
    return Draws(n, tuple(drawn))


def _wanted(settings: AugmentSettings, n: int, generator: torch.Generator) -> list[torch.Tensor]:
    """To which samples each operation is done, bool (n,), in the order of ``steps``."""
    wanted = []
    for item in settings.batch:
        done = torch.rand(n, generator=generator) < item.p
        if isinstance(item, Random):
            picked = torch.rand((n, len(item.of)), generator=generator).argsort(1)[:, : item.count]
            chosen = torch.zeros((n, len(item.of)), dtype=torch.bool).scatter_(1, picked, True)
            wanted += list((chosen & done[:, None]).unbind(1))
        else:
            wanted.append(done)
    return wanted


def augment(
    images: torch.Tensor, targets: torch.Tensor, draws: Draws, settings: AugmentSettings, scale: float = 255.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment a batch: images (B, C, H, W), uint8, uint16 or float32 → float32, divided by ``scale``; uint8 targets,
    masks (B, H, W), moved alike, or labels (B, 1, 1), left alone. What is given is not changed.

    draws: of these samples, drawn for these settings. Values are not clipped, since nothing after needs it. The noise comes
    from torch's global generator of the images' device, which the training loop seeds per epoch.
    """
    if draws.n != len(images):
        raise ValueError(f"{len(images)} images and the draws of {draws.n} samples")
    masks = targets.shape[1:] == images.shape[2:]
    # which torch can neither flip nor compute with
    x, y = images.float() if images.dtype == torch.uint16 else images, targets
    plan = list(zip(steps(settings.batch), draws.steps, strict=True))
    if plan and isinstance(plan[0][0][0], Geometric):  # flips before the conversion: a quarter of the bytes
        x, y = _turned(x, y, plan[0][1], masks)
    x = x.to(torch.float32, copy=True).mul_(1 / scale)
    for place, (step, drawn) in enumerate(plan):
        first = step[0]
        if isinstance(first, Geometric):
            if place:
                x, y = _turned(x, y, drawn, masks)
            x, moved = geometry.resampled(x, y if masks else None, drawn, step)
            y = y if moved is None else moved
        else:
            x = pixels.changed(x, first, drawn[0])
            if isinstance(first, Cutout) and first.labels == "drop":
                if not masks:
                    raise UserError(str(settings.misfit(task="classification")))
                y = pixels.unlabelled(y, drawn[0])
    return x, y


def _turned(
    x: torch.Tensor, y: torch.Tensor, drawn: Sequence[Chosen], masks: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    return geometry.turned(x, drawn), geometry.turned(y, drawn) if masks else y
