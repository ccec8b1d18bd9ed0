"""The resident source: images and targets lie on the device as uint8, and a batch is an index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from podium.augment import augment, draw
from podium.config import AugmentSettings, Competition
from podium.data.fit import Fit
from podium.data.part import Part
from podium.losses import NO_LABEL
from podium.randomness import stream


def _moments(images: np.ndarray, scale: float) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel of images (N, C, H, W) divided by ``scale``; of uint8 by histograms."""
    if images.dtype != np.uint8:
        found = []
        for channel in range(images.shape[1]):
            total = sum(float(image[channel].sum(dtype=np.float64)) for image in images)
            count = images[:, channel].size
            mean = total / count
            square = sum(float(((image[channel] - mean) ** 2).sum(dtype=np.float64)) for image in images)
            found.append((mean / scale, max((square / count) ** 0.5 / scale, 1e-3)))
        return [mean for mean, _ in found], [std for _, std in found]
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
    """images float32 (B, C, H, W) in about 0..1; targets uint8 (B, H, W) masks or (B, 1, 1) labels, 255 for no loss."""

    images: torch.Tensor
    targets: torch.Tensor


class Resident:
    """The training rows of a fold on the device, and the order in which an epoch draws them."""

    def __init__(
        self,
        part: Part,
        rows: np.ndarray,
        fit: Fit,
        competition: Competition,
        rarest_rate: int,
        batch: int,
        device: torch.device,
    ) -> None:
        """Classes that are not scored carry no loss; the others are learnt in their order.

        fit: how images come to the size that the net works on; a tile counts as an image of its own.
        """
        scored = competition.scored
        lookup = np.full(256, NO_LABEL, np.uint8)
        lookup[list(scored)] = np.arange(len(scored), dtype=np.uint8)
        images, pieces = fit.images(part, rows)
        targets = lookup[fit.targets(part, rows, pieces)]
        flat = targets.reshape(len(images), -1)
        per_image = np.stack([(flat == k).sum(1) for k in range(len(scored))], axis=1)
        self.counts = torch.from_numpy(per_image.sum(0))
        present = np.flatnonzero(per_image.sum(0))
        rarest = present[per_image.sum(0)[present].argmin()] if len(present) else 0
        rare = np.flatnonzero(per_image[:, rarest])
        self.order = torch.from_numpy(np.concatenate([np.arange(len(images))] + [rare] * (rarest_rate - 1)))
        self.scale = part.scale
        self.mean: list[float] | None = None
        self.std: list[float] | None = None
        if competition.standardised:
            self.mean, self.std = _moments(images, part.scale)
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
            yield Batch(*augment(self.images[picked], self.targets[picked], draws[rows], settings, self.scale))
