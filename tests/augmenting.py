"""Augmentation in a line: settings, draws and batches for its tests."""

from __future__ import annotations

from typing import Any

import torch

from podium.augment import Draws, augment, draw
from podium.config_augment import AugmentSettings


def settings(*batch: Any) -> AugmentSettings:
    """From operations as a recipe writes them."""
    return AugmentSettings.model_validate({"batch": list(batch)})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(n: int, *batch: Any, shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0) -> Draws:
    return draw(settings(*batch), n, generator(seed), shape)


def done(
    images: torch.Tensor, targets: torch.Tensor | None, *batch: Any, seed: int = 0, scale: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch, augmented; without targets its images carry labels, all 0."""
    if targets is None:
        targets = torch.zeros((len(images), 1, 1), dtype=torch.uint8)
    c, h, w = images.shape[1:]
    return augment(images, targets, drawn(len(images), *batch, shape=(c, h, w), seed=seed), settings(*batch), scale)


def pictures(n: int = 4, channels: int = 1, height: int = 8, width: int = 8, seed: int = 0) -> torch.Tensor:
    """Noise in 0..1, float32."""
    return torch.rand((n, channels, height, width), generator=generator(seed + 1000))


def masks_of(images: torch.Tensor) -> torch.Tensor:
    """Which fifth of 0..1 the first channel is in, with some pixels that carry no label."""
    masks = (images[:, 0] * 5).floor().clamp(0, 4).to(torch.uint8)
    masks[images[:, 0] > 0.97] = 255
    return masks
