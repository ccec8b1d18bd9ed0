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
from podium.config import Competition
from podium.config_augment import AugmentSettings
from podium.config_mix import Mixes
from podium.data.chunk import NO_LABEL
from podium.data.fit import Fit
from podium.data.part import Part
from podium.mixing import Mixing
from podium.randomness import stream
from podium.training.moments import Moments
from podium.training.rows import rows_of

READ_AT_ONCE = 256
"""Rows that are read at once; fixed, since floating-point means depend on it."""


@dataclass(frozen=True)
class Batch:
    """images float32 (B, C, H, W) in about 0..1; targets uint8 (B, H, W) masks, (B, 1, 1) labels or (B, K, 1) answers to
    questions, 255 for no loss; numbers are float32 (B, 1, 1), NaN for none.

    other, share: where labels were mixed, a second set of targets and its share in each image, float32 (B,).
    """

    images: torch.Tensor
    targets: torch.Tensor
    other: torch.Tensor | None = None
    share: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class Reader:
    """A training piece by its number: image (C, h, w) as stored, and target uint8 (h, w), or (1, 1) for a label.

    first: the number of each row's first piece. lookup: from classes to what is learnt; None of numbers, which are.
    """

    part: Part
    rows: np.ndarray
    fit: Fit
    lookup: np.ndarray | None
    first: np.ndarray

    def __call__(self, piece: int) -> tuple[np.ndarray, np.ndarray]:
        at = int(np.searchsorted(self.first, piece, side="right")) - 1
        image, target = self.fit.piece(self.part, int(self.rows[at]), piece - int(self.first[at]))
        return image, target if self.lookup is None else self.lookup[target]


class Source(ABC):
    """The training rows of a fold: what they are like, and the order in which an epoch draws them.

    counts: pixels (or labels) per scored class, int64 (K,); of questions, how often the answers are no and yes. rarest: of
    the scored classes that occur, the one with the fewest; of questions the one with the fewest yeses. order: the pieces of
    one epoch before shuffling; those with the rarest class several times. mean, std: per channel, None where the
    competition does not standardise. shape: of one image, (C, H, W), at the net's size. unit: mean and standard deviation
    of numbers.
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
        rarest_rate_end: int | None = None,
        mix: Mixes = (),
    ) -> None:
        """Classes that are not scored carry no loss; the others are learnt in their order.

        fit: how images come to the size that the net works on; a tile counts as an image of its own. rarest_rate,
        rarest_rate_end: see ``order_at``. mix: copy-paste without masks is a UserError.
        """
        self.part, self.rows, self.fit, self.device = part, rows, fit, device
        self.lookup = _lookup(competition)
        self.shape = (part.channels, *fit.size)
        self.scale = part.scale
        moments, per_image, pieces, numbers = Moments(part.channels), [], [], []
        for start in range(0, len(rows), READ_AT_ONCE):
            images, targets, counts = self.read(rows[start : start + READ_AT_ONCE])
            moments.add(images)
            flat = targets.reshape(len(images), -1)
            per_image.append(_held(competition, flat))
            if competition.numbers:
                numbers.append(flat[:, 0])
            pieces.append(counts)
            self._take(sum(len(found) for found in per_image) - len(images), images, targets)
        found = np.concatenate(per_image)
        self.reader = Reader(part, rows, fit, self.lookup, np.concatenate([[0], np.cumsum(np.concatenate(pieces))]))
        total = found.sum(0)
        self.counts = torch.from_numpy(total)
        if competition.task == "multilabel":
            yes = int(total.sum())
            self.counts = torch.tensor([found.size - yes, yes])
        self.unit = _unit(np.concatenate(numbers)) if numbers else (0.0, 1.0)
        present = np.flatnonzero(total)
        self.rarest = int(present[total[present].argmin()]) if len(present) else 0
        held = found[:, self.rarest]
        self._rare, self._others = (torch.from_numpy(np.flatnonzero(kind)) for kind in (held > 0, held == 0))
        self._rates = rarest_rate, rarest_rate if rarest_rate_end is None else rarest_rate_end
        self.order = torch.cat([torch.arange(len(found))] + [self._rare] * (min(self._rates) - 1))
        self.mean: list[float] | None = None
        self.std: list[float] | None = None
        if competition.standardised:
            mean, std = moments.result()
            self.mean = (mean / part.scale).tolist()
            self.std = np.maximum(std / part.scale, 1e-3).tolist()
        self.batch = min(batch, len(self.order))
        self.steps = len(self.order) // self.batch
        self.mixing = Mixing(mix, competition.task, self.rarest, held, self.reader, self.batch, fit.size, device)

    @property
    def drawn(self) -> int:
        """Images that one epoch draws, counting repetitions."""
        return self.steps * self.batch

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images (M, C, h, w) and targets (M, h, w) of some rows' pieces, and how many pieces each row has."""
        images, counts = self.fit.images(self.part, rows)
        targets = self.fit.targets(self.part, rows, counts)
        return images, targets if self.lookup is None else self.lookup[targets], counts

    def order_at(self, progress: float, generator: torch.Generator) -> torch.Tensor:
        """The pieces of an epoch before shuffling; ``progress`` is how much of the training lies behind it, 0..1.

        A piece with the rarest class is drawn r times as often as another, r going evenly from ``rarest_rate`` to
        ``rarest_rate_end``. Every epoch is as long as at the lower of the two: ``order`` itself where both are one. At
        any other rate each piece with the class comes equally often, some once more than others by lot, and of the rest
        some are left out by lot.
        """
        start, end = self._rates
        if start == end:
            return self.order
        weight = (start + (end - start) * progress) * len(self._rare)
        rare = round(len(self.order) * weight / (weight + len(self._others))) if weight else 0
        times, more = divmod(rare, max(1, len(self._rare)))
        lots = [torch.randperm(len(kind), generator=generator) for kind in (self._rare, self._others)]
        others = self._others[lots[1][: len(self.order) - rare]]
        return torch.cat([*[self._rare] * times, self._rare[lots[0][:more]], others])

    def epoch(
        self, seed: int, fold: int, epoch: int, settings: AugmentSettings, progress: float = 0.0
    ) -> Iterator[Batch]:
        """The augmented batches of one epoch: a function of (seed, fold, epoch, progress), whatever ran before.

        progress: how much of the training lies behind it, 0..1.
        """
        generator = torch.Generator().manual_seed(stream("epoch", seed, fold, epoch))
        torch.manual_seed(stream("noise", seed, fold, epoch))
        order = self.order_at(progress, generator)
        order = order[torch.randperm(len(order), generator=generator)][: self.drawn]
        draws = draw(settings, len(self.order), generator, self.shape).to(self.device)
        mixed = self.mixing.epoch(stream("mix", seed, fold, epoch), self.drawn)
        taken = draw(settings, mixed.taken, generator, self.shape).to(self.device) if mixed.taken else draws

        def changed(images: torch.Tensor, targets: torch.Tensor, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
            return augment(images, targets, taken[rows], settings, self.scale)

        for step, (images, targets) in enumerate(self._batches(order, stream("per image", seed, fold, epoch))):
            rows = slice(step * self.batch, (step + 1) * self.batch)
            images, targets = mixed.before(step, images, targets)
            images, targets = augment(images, targets, draws[rows], settings, self.scale)
            yield Batch(*mixed.after(step, images, targets, changed))

    @abstractmethod
    def sample(self, count: int) -> torch.Tensor:
        """Some images on the device, (n, C, h, w), n at most ``count``."""

    @abstractmethod
    def _take(self, first: int, images: np.ndarray, targets: np.ndarray) -> None:
        """Called once with every piece while they are counted; ``first`` is the number of the first one."""

    @abstractmethod
    def _batches(self, order: torch.Tensor, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Images and targets on the device, ``self.batch`` pieces of ``order`` at a time."""


def _lookup(competition: Competition) -> np.ndarray | None:
    """(256,): what is learnt of each target; 255, or NaN of grades, for no label. None where targets are numbers already."""
    if competition.numbers:
        if not competition.classes:
            return None
        grades = np.full(256, np.nan, np.float32)
        grades[: len(competition.classes)] = np.arange(len(competition.classes))
        return grades
    table = np.full(256, NO_LABEL, np.uint8)
    table[list(competition.learnt)] = np.arange(len(competition.learnt), dtype=np.uint8)
    return table


def _held(competition: Competition, flat: np.ndarray) -> np.ndarray:
    """How much of each class (or grade) the images hold, or which questions they answer with yes; (N, P) → (N, K) integers."""
    if competition.task == "multilabel":
        return np.asarray(flat == 1, np.int64)
    kinds = len(competition.classes) if competition.numbers else competition.outputs
    return np.stack([(flat == k).sum(1) for k in range(max(1, kinds))], axis=1)


def _unit(numbers: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the numbers that are known; where all are one, the deviation is 1."""
    known = numbers[~np.isnan(numbers)].astype(np.float64)
    if not len(known):
        return 0.0, 1.0
    return float(known.mean()), float(known.std()) or 1.0


class Resident(Source):
    """All pieces lie on the device in the type they are stored in, and a batch is an index."""

    images: torch.Tensor
    targets: torch.Tensor

    def _take(self, first: int, images: np.ndarray, targets: np.ndarray) -> None:
        if first == 0:
            count = self.fit.count(self.part, self.rows)
            self.images = torch.empty((count, *self.shape), dtype=torch.from_numpy(images).dtype, device=self.device)
            kind = torch.from_numpy(targets).dtype
            self.targets = torch.empty((count, *targets.shape[1:]), dtype=kind, device=self.device)
        self.images[first : first + len(images)] = torch.from_numpy(images).to(self.device)
        self.targets[first : first + len(images)] = torch.from_numpy(targets).to(self.device)

    def sample(self, count: int) -> torch.Tensor:
        return self.images[:count]

    def _batches(self, order: torch.Tensor, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = order.to(self.device)
        for start in range(0, len(order), self.batch):
            picked = order[start : start + self.batch]
            yield rows_of(self.images, picked), rows_of(self.targets, picked)
