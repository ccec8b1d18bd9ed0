"""Metrics of labels, from ONE confusion matrix over all images: accuracy, balanced accuracy, macro F1, kappa.

Higher is better in all. Statistics are int64 (N, C, C), [truth, predicted]; all four share them. Items without a label
are nowhere in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from podium.metrics.base import Additive, known_parts, mean_of, quotient
from podium.metrics.counts import FromConfusion


@dataclass(frozen=True)
class Accuracy(FromConfusion, Additive):
    """Share of the labelled items whose class is the right one; of a class, its recall. Higher is better.

    ``sklearn.metrics.accuracy_score``. A class that does not occur has no recall; with nothing labelled the score is 0.
    """

    classes: tuple[str, ...]

    def values(self, sums: np.ndarray) -> np.ndarray:
        return quotient(np.trace(sums, axis1=1, axis2=2), sums.sum(axis=(1, 2)))

    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        return known_parts(*_recalls(total))


@dataclass(frozen=True)
class BalancedAccuracy(FromConfusion, Additive):
    """Mean over the classes of their recall, so that each counts as much as any other. Higher is better.

    ``sklearn.metrics.balanced_accuracy_score``. A class that does not occur is left out of the mean, and what is
    predicted as it costs its true class alone; with nothing labelled the score is 0.
    """

    classes: tuple[str, ...]

    def values(self, sums: np.ndarray) -> np.ndarray:
        return mean_of(*_recalls(sums))

    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        return known_parts(*_recalls(total))


@dataclass(frozen=True)
class MacroF1(FromConfusion, Additive):
    """Mean over the classes of F1, the harmonic mean of precision and recall. Higher is better.

    ``sklearn.metrics.f1_score(average="macro")``. A class that occurs neither in truth nor in prediction is left out of
    the mean, one that occurs in either alone has F1 0; with nothing labelled the score is 0.
    """

    classes: tuple[str, ...]

    def values(self, sums: np.ndarray) -> np.ndarray:
        return mean_of(*self._f1(sums))

    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        return known_parts(*self._f1(total))

    def _f1(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hit = np.diagonal(sums, axis1=-2, axis2=-1)
        both = sums.sum(axis=-1) + sums.sum(axis=-2)
        return quotient(2 * hit, both), both > 0


@dataclass(frozen=True)
class Kappa(FromConfusion, Additive):
    """Agreement beyond chance (Cohen 1960, 1968); of a class, its recall. Higher is better: 1 is perfect, 0 is chance.

    ``sklearn.metrics.cohen_kappa_score(labels=range(C))``: 1 - sum(w * seen) / sum(w * expected), where expected has the
    margins of seen. weights: what a mistake costs between class i and class j: ``quadratic`` (i - j)², ``linear``
    |i - j|, ``none`` 1. A class that does not occur keeps its place in the order and changes nothing else. Where chance
    alone would make no mistake, all in one class or nothing labelled, the score is 0.
    """

    classes: tuple[str, ...]
    weights: Literal["quadratic", "linear", "none"] = "quadratic"

    def values(self, sums: np.ndarray) -> np.ndarray:
        matrix = np.asarray(sums, np.float64)
        place = np.arange(len(self.classes), dtype=np.float64)
        apart = np.abs(place[:, None] - place)
        cost = {"quadratic": apart**2, "linear": apart, "none": apart > 0}[self.weights]
        truth, told = matrix.sum(axis=2), matrix.sum(axis=1)
        by_chance = quotient(((truth @ cost) * told).sum(axis=1), truth.sum(axis=1))
        return np.where(by_chance > 0, 1 - quotient((matrix * cost).sum(axis=(1, 2)), by_chance), 0.0)

    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        return known_parts(*_recalls(total))


def _recalls(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall of each class, and which of them occur; (..., C, C) → both (..., C)."""
    known = sums.sum(axis=-1)
    return quotient(np.diagonal(sums, axis1=-2, axis2=-1), known), known > 0
