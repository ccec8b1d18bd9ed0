"""The resident source: images and targets lie on the device as uint8, and a batch is an index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from podium.augment import augment, draw
from podium.config import AugmentSettings
from podium.data.part import Part
from podium.losses import NO_LABEL
from podium.randomness import stream


def _moments(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel of uint8 images (N, C, H, W), scaled to 0..1; exact, from histograms."""
    values = np.arange(256) / 255
    means, stds = [], []
    for channel in range(images.shape[1]):
        counts = sum(np.bincount(image[channel].reshape(-1), minlength=256) for image in images)
        mean = float(np.average(values, weights=counts))
        means.append(mean)
        stds.append(max(float(np.average((values - mean) ** 2, weights=counts)) ** 0.5, 1e-3))
    return means, stds


@dataclass(frozen=True)
class Batch:
    """images float32 (B, C, H, W) in about 0..1; targets uint8 (B, H, W), indices of scored classes, 255 for no loss."""

    images: torch.Tensor
    targets: torch.Tensor


class Resident:
    """The training rows of a fold on the device, and the order in which an epoch draws them."""

    def __init__(
        self, part: Part, rows: np.ndarray, scored: tuple[int, ...], rarest_rate: int, batch: int, device: torch.device
    ) -> None:
        """scored: class indices that are learnt, in the order of the net's outputs; every other label carries no loss."""
        assert part.targets is not None
        lookup = np.full(256, NO_LABEL, np.uint8)
        lookup[list(scored)] = np.arange(len(scored), dtype=np.uint8)
        targets = lookup[part.targets.stacked[rows, 0]]
        images = np.ascontiguousarray(part.images.stacked[rows])
        flat = targets.reshape(len(rows), -1)
        per_image = np.stack([(flat == k).sum(1) for k in range(len(scored))], axis=1)
        self.counts = torch.from_numpy(per_image.sum(0))
        present = np.flatnonzero(per_image.sum(0))
        rarest = present[per_image.sum(0)[present].argmin()] if len(present) else 0
        rare = np.flatnonzero(per_image[:, rarest])
        self.order = torch.from_numpy(np.concatenate([np.arange(len(rows))] + [rare] * (rarest_rate - 1)))
        self.mean, self.std = _moments(images)
        self.batch = min(batch, len(self.order))
        self.steps = len(self.order) // self.batch
        self.images = torch.from_numpy(images).to(device)
        self.targets = torch.from_numpy(targets).to(device)

    @property
    def drawn(self) -> int:
        """Images that one epoch draws, counting repetitions."""
        return self.steps * self.batch

    def epoch(self, seed: int, fold: int, epoch: int, settings: AugmentSettings) -> Iterator[Batch]:
        """The augmented batches of one epoch: a function of (seed, fold, epoch), whatever ran before."""
        generator = torch.Generator().manual_seed(stream("epoch", seed, fold, epoch))
        torch.manual_seed(stream("noise", seed, fold, epoch))
        order = self.order[torch.randperm(len(self.order), generator=generator)].to(self.images.device)
        draws = draw(settings, len(order), generator).to(self.images.device)
        for step in range(self.steps):
            rows = slice(step * self.batch, (step + 1) * self.batch)
            picked = order[rows]
            yield Batch(*augment(self.images[picked], self.targets[picked], draws[rows], settings))
