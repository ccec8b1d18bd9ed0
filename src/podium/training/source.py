"""Where batches come from: a fold's training rows, kept on the device (resident) or read as they are drawn (streamed).

Both give the same batches for the same seed: which images come when, and what is done to them on the device, is decided
here and knows nothing of the source. Only ``augment.per_image``, which is done while reading, needs the streamed one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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
from podium.training.moments import Moments

READ_AT_ONCE = 256
"""Rows that are read at once; fixed, since floating-point means depend on it."""


@dataclass(frozen=True)
class Batch:
    """images float32 (B, C, H, W) in about 0..1; targets uint8 (B, H, W) masks or (B, 1, 1) labels, 255 for no loss."""

    images: torch.Tensor
    targets: torch.Tensor


class Source(ABC):
    """The training rows of a fold: what they are like, and the order in which an epoch draws them.

    counts: pixels (or labels) per scored class, int64 (K,). order: the pieces of one epoch before shuffling; those with
    the rarest class several times. mean, std: per channel, None where the competition does not standardise. shape: of
    one image, (C, H, W), at the net's size.
    """

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
        self.part, self.rows, self.fit, self.device = part, rows, fit, device
        scored = competition.scored
        self.lookup = np.full(256, NO_LABEL, np.uint8)
        self.lookup[list(scored)] = np.arange(len(scored), dtype=np.uint8)
        self.shape = (part.channels, *fit.size)
        self.scale = part.scale
        moments, per_image, pieces = Moments(part.channels), [], []
        for start in range(0, len(rows), READ_AT_ONCE):
            images, targets, counts = self.read(rows[start : start + READ_AT_ONCE])
            moments.add(images)
            flat = targets.reshape(len(images), -1)
            per_image.append(np.stack([(flat == k).sum(1) for k in range(len(scored))], axis=1))
            pieces.append(counts)
            self._take(sum(len(found) for found in per_image) - len(images), images, targets)
        found = np.concatenate(per_image)
        self.pieces = np.concatenate(pieces)
        total = found.sum(0)
        self.counts = torch.from_numpy(total)
        present = np.flatnonzero(total)
        rarest = present[total[present].argmin()] if len(present) else 0
        rare = np.flatnonzero(found[:, rarest])
        self.order = torch.from_numpy(np.concatenate([np.arange(len(found))] + [rare] * (rarest_rate - 1)))
        self.mean: list[float] | None = None
        self.std: list[float] | None = None
        if competition.standardised:
            mean, std = moments.result()
            self.mean = (mean / part.scale).tolist()
            self.std = np.maximum(std / part.scale, 1e-3).tolist()
        self.batch = min(batch, len(self.order))
        self.steps = len(self.order) // self.batch

    @property
    def drawn(self) -> int:
        """Images that one epoch draws, counting repetitions."""
        return self.steps * self.batch

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images (M, C, h, w) and targets (M, h, w) of some rows' pieces, and how many pieces each row has."""
        images, counts = self.fit.images(self.part, rows)
        return images, self.lookup[self.fit.targets(self.part, rows, counts)], counts

    def epoch(self, seed: int, fold: int, epoch: int, settings: AugmentSettings) -> Iterator[Batch]:
        """The augmented batches of one epoch: a function of (seed, fold, epoch), whatever ran before."""
        generator = torch.Generator().manual_seed(stream("epoch", seed, fold, epoch))
        torch.manual_seed(stream("noise", seed, fold, epoch))
        order = self.order[torch.randperm(len(self.order), generator=generator)][: self.drawn]
        draws = draw(settings, len(self.order), generator).to(self.device)
        for step, (images, targets) in enumerate(self._batches(order, stream("per image", seed, fold, epoch))):
            rows = slice(step * self.batch, (step + 1) * self.batch)
            yield Batch(*augment(images, targets, draws[rows], settings, self.scale))

    @abstractmethod
    def sample(self, count: int) -> torch.Tensor:
        """Some images on the device, (n, C, h, w), n at most ``count``."""

    @abstractmethod
    def _take(self, first: int, images: np.ndarray, targets: np.ndarray) -> None:
        """Called once with every piece while they are counted; ``first`` is the number of the first one."""

    @abstractmethod
    def _batches(self, order: torch.Tensor, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Images and targets on the device, ``self.batch`` pieces of ``order`` at a time."""


class Resident(Source):
    """All pieces lie on the device in the type they are stored in, and a batch is an index."""

    images: torch.Tensor
    targets: torch.Tensor

    def _take(self, first: int, images: np.ndarray, targets: np.ndarray) -> None:
        if first == 0:
            count = self.fit.count(self.part, self.rows)
            self.images = torch.empty((count, *self.shape), dtype=torch.from_numpy(images).dtype, device=self.device)
            self.targets = torch.empty((count, *targets.shape[1:]), dtype=torch.uint8, device=self.device)
        self.images[first : first + len(images)] = torch.from_numpy(images).to(self.device)
        self.targets[first : first + len(images)] = torch.from_numpy(targets).to(self.device)

    def sample(self, count: int) -> torch.Tensor:
        return self.images[:count]

    def _batches(self, order: torch.Tensor, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = order.to(self.device)
        for start in range(0, len(order), self.batch):
            picked = order[start : start + self.batch]
            yield self.images[picked], self.targets[picked]
