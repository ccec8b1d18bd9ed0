"""Metrics of several yes/no questions per image. Higher is better in all; an answer that is not known is nowhere in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from podium.metrics.base import Additive, known_parts, mean_of, quotient
from podium.metrics.counts import FromAnswers, answers


@dataclass(frozen=True)
class AnswerAccuracy(FromAnswers, Additive):
    """Share of all single answers that are right; of a question, of its own. Higher is better.

    One minus ``sklearn.metrics.hamming_loss``. Statistics are int64 (N, K, 2, 2). A question without a known answer has
    no share of its own; with none at all the score is 0.
    """

    questions: tuple[str, ...]

    def values(self, sums: np.ndarray) -> np.ndarray:
        return quotient(np.trace(sums, axis1=-2, axis2=-1).sum(axis=-1), sums.sum(axis=(-3, -2, -1)))

    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        known = total.sum(axis=(-2, -1))
        return known_parts(quotient(np.trace(total, axis1=-2, axis2=-1), known), known > 0)


@dataclass(frozen=True)
class ExactAccuracy(Additive):
    """Share of the images all of whose known answers are right. Higher is better; it has no parts.

    ``sklearn.metrics.accuracy_score`` of a table of labels. Statistics are int64 (N, 2): right, and 1 where any answer is
    known. With none at all the score is 0.
    """

    questions: tuple[str, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        return ()

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)

    def stats(self, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
        """Shapes as with ``counts.answers``."""
        counts = answers(truth, output, len(self.questions)).sum(axis=1)
        known = counts.sum(axis=(1, 2)) > 0
        wrong = counts[:, 0, 1] + counts[:, 1, 0] > 0
        return np.stack([known & ~wrong, known], axis=1).astype(np.int64)

    def values(self, sums: np.ndarray) -> np.ndarray:
        return quotient(sums[:, 0], sums[:, 1])

    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        return ()


@dataclass(frozen=True)
class AnswerF1(FromAnswers, Additive):
    """Mean over the questions of the F1 of "yes". Higher is better.

    ``sklearn.metrics.f1_score(average="macro")`` of a table of labels. Statistics are int64 (N, K, 2, 2). A question whose
    answer is never yes, neither in truth nor in prediction, has F1 0 as there; one without any known answer is left out of
    the mean, and with none at all the score is 0.
    """

    questions: tuple[str, ...]

    def values(self, sums: np.ndarray) -> np.ndarray:
        return mean_of(*self._f1(sums))

    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        return known_parts(*self._f1(total))

    def _f1(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        yes = 2 * sums[..., 1, 1]
        return quotient(yes, yes + sums[..., 0, 1] + sums[..., 1, 0]), sums.sum(axis=(-2, -1)) > 0
