"""Batched augmentation on the device, after either source: one set of random parameters per sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from podium.config import AugmentSettings


@dataclass(frozen=True)
class Draws:
    """The random parameters of ``n`` samples, one row each; drawn on the CPU, so that every device gets the same."""

    flip_h: torch.Tensor
    flip_v: torch.Tensor
    contrast: torch.Tensor
    brightness: torch.Tensor
    noise: torch.Tensor

    def __getitem__(self, rows: slice) -> Draws:
        return Draws(*(value[rows] for value in vars(self).values()))

    def to(self, device: torch.device) -> Draws:
        """The same parameters on another device."""
        return Draws(*(value.to(device) for value in vars(self).values()))


def draw(settings: AugmentSettings, n: int, generator: torch.Generator) -> Draws:
    """Random parameters for ``n`` samples: flips as bool (n,), amounts as float32 (n,)."""

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    return Draws(
        flip_h=torch.rand(n, generator=generator) < settings.flip_h,
        flip_v=torch.rand(n, generator=generator) < settings.flip_v,
        contrast=uniform(1 - settings.contrast, 1 + settings.contrast),
        brightness=uniform(-settings.brightness, settings.brightness),
        noise=uniform(0, settings.noise),
    )


def augment(
    images: torch.Tensor, targets: torch.Tensor, draws: Draws, settings: AugmentSettings, scale: float = 255.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment a batch: images (B, C, H, W) → float32, divided by ``scale``; uint8 targets (B, H, W), moved alike.

    Contrast is about each image's own mean; values are not clipped, since nothing after needs it. The noise comes from
    torch's global generator of the images' device, which the training loop seeds per epoch.
    """
    if images.dtype == torch.uint16:  # which torch can neither flip nor compute with
        images = images.float()
    for flip, amount in ((draws.flip_h, settings.flip_h), (draws.flip_v, settings.flip_v)):
        if amount:
            axis = -1 if flip is draws.flip_h else -2
            images = torch.where(flip.view(-1, 1, 1, 1), images.flip(axis), images)
            targets = torch.where(flip.view(-1, 1, 1), targets.flip(axis), targets)
    x = images.to(torch.float32, copy=True).mul_(1 / scale)
    if settings.contrast or settings.brightness:
        mean = x.mean((1, 2, 3), keepdim=True)
        factor = draws.contrast.view(-1, 1, 1, 1)
        x = x * factor + (mean * (1 - factor) + draws.brightness.view(-1, 1, 1, 1))
    if settings.noise:
        x = x.addcmul(torch.randn_like(x), draws.noise.view(-1, 1, 1, 1))
    return x, targets
