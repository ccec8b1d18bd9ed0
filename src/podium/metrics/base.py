"""What a metric is, and what those share whose statistics add up over images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

Needs = Literal["labels", "probabilities", "values"]


@dataclass(frozen=True)
class Score:
    """A metric's value and its parts, in the order of the metric's ``parts``; ``None`` for one that did not count."""

    value: float
    parts: tuple[float | None, ...]


class Metric(Protocol):
    """A metric in two steps: statistics per image, which never change, then a score from those of any images.

    needs: what ``stats`` takes as output. additive: whether the statistics of images add up, so that ``values`` can score
    their sums. parts: names of ``Score.parts``, of most metrics the classes.
    """

    @property
    def higher_is_better(self) -> bool: ...

    @property
    def needs(self) -> Needs: ...

    @property
    def additive(self) -> bool: ...

    @property
    def parts(self) -> tuple[str, ...]: ...

    def stats(self, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
        """One entry per image, (N, ...), int64 for counts, else float64; all zeros stand for an image that is not there.

        truth: (N, H, W) or (H, W) uint8 class indices, 255 where there is none; of values float32, NaN where there is none.
        output: labels (N, H, W), probabilities (N, C, H, W) or values (N, H, W); without N where truth has none.
        """

    def values(self, sums: np.ndarray) -> np.ndarray:
        """One score per sum of statistics: (B, ...) → float64 (B,); of additive metrics only."""

    def weighted(self, stats: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Scores (B,) with each image of ``stats`` (N, ...) counted as often as ``weights`` (B, N) says."""

    def score(self, stats: np.ndarray) -> Score:
        """Score of all images of ``stats``, over all of its leading axes."""

    def value(self, stats: np.ndarray) -> float:
        """``score(stats).value``."""


@runtime_checkable
class OfConfusion(Protocol):
    """What a metric is beside ``Metric`` where an image's statistics follow from its confusion matrix alone.

    Then labels need only be counted, which blends are searched by. classes: their names. linear: whether the statistics of
    several images are those of their summed matrices.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def linear(self) -> bool: ...

    def of_confusion(self, matrices: np.ndarray) -> np.ndarray:
        """Statistics (N, ...) of images with the confusion matrices (N, C, C), int64, [truth, predicted]."""


class Additive(ABC):
    """What additive metrics share: they say how sums are scored, all else follows."""

    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[Needs] = "labels"
    additive: ClassVar[bool] = True

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one image's statistics."""

    @abstractmethod
    def values(self, sums: np.ndarray) -> np.ndarray:
        """One score per sum of statistics: (B, ...) → float64 (B,)."""

    @abstractmethod
    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        """The parts of one sum (...)."""

    def weighted(self, stats: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Scores (B,) with each image of ``stats`` (N, ...) counted as often as ``weights`` (B, N) says."""
        flat = np.asarray(stats, np.float64).reshape(len(stats), int(np.prod(self.shape)))
        return self.values((np.asarray(weights, np.float64) @ flat).reshape(len(weights), *self.shape))

    def score(self, stats: np.ndarray) -> Score:
        """Score of the sum over all leading axes of ``stats``."""
        total = np.asarray(stats).reshape(-1, *self.shape).sum(axis=0)
        return Score(float(self.values(total[None])[0]), self._parts_of(total))

    def value(self, stats: np.ndarray) -> float:
        """``score(stats).value``."""
        return self.score(stats).value


def as_images(truth: np.ndarray, output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with a leading N, and as wide and high as each other, or a ValueError."""
    if truth.ndim == 2:
        truth, output = truth[None], output[None]
    if truth.ndim != 3 or truth.shape != output.shape[:1] + output.shape[-2:]:
        raise ValueError(f"truth {truth.shape} and output {output.shape} are not of the same images, (N, H, W)")
    return truth, output


def quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """``above / below``, 0 where ``below`` is 0."""
    return np.asarray(above / np.where(below > 0, below, 1) * (below > 0), np.float64)


def mean_of(values: np.ndarray, used: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
    """Mean along the last axis of the ``values`` that are ``used``; ``otherwise`` where none is."""
    count = used.sum(axis=-1)
    return np.where(count > 0, np.where(used, values, 0).sum(axis=-1) / np.maximum(count, 1), otherwise)


def known_parts(values: Iterable[float], used: Iterable[bool]) -> tuple[float | None, ...]:
    """The values as parts of a score, ``None`` where they are not ``used``."""
    return tuple(float(value) if known else None for value, known in zip(values, used, strict=True))
