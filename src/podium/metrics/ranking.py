"""Metrics of probabilities: log loss and the area under the ROC curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from podium.data.chunk import NO_LABEL
from podium.metrics.base import Additive, Needs, Score, as_images, known_parts, mean_of, quotient

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class LogLoss(Additive):
    """Mean of -log of the probability that the truth was given. LOWER is better.

    ``sklearn.metrics.log_loss`` of float64: each row of probabilities is divided by its sum, and clipped to [2.2e-16,
    1 - 2.2e-16], so that a zero on the truth costs 36.04. Of ``multilabel`` it is the mean over the questions of their own
    log loss.

    Statistics are float64 (N, C, 2), the loss and the count of each class (by truth) or question. The parts are their
    means: a class that does not occur has none and changes nothing, a question without a known answer is left out of the
    mean. With nothing known at all the score is infinite: the worst.
    """

    classes: tuple[str, ...]
    multilabel: bool

    higher_is_better: ClassVar[bool] = False
    needs: ClassVar[Needs] = "probabilities"

    @property
    def parts(self) -> tuple[str, ...]:
        return self.classes

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.classes), 2

    def stats(self, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
        """truth: uint8 (N, H, W), 255 where unknown. output: float (N, C, H, W), of ``multilabel`` (N, 2, K, 1); or no N."""
        truth, output = _checked(truth, output, self.classes, self.multilabel)
        known = truth != NO_LABEL
        right = np.take_along_axis(output, np.where(known, truth, 0)[:, None].astype(np.intp), axis=1)[:, 0]
        share = quotient(right, output.sum(axis=1))
        loss = -np.log(np.clip(share, _EPS, 1 - _EPS)) * known
        if self.multilabel:
            return np.stack([loss.sum(axis=2), known.sum(axis=2)], axis=2).astype(np.float64)
        found = np.zeros((len(truth), len(self.classes), 2))
        for c in range(len(self.classes)):
            found[:, c, 0] = (loss * (truth == c)).sum(axis=(1, 2))
            found[:, c, 1] = (truth == c).sum(axis=(1, 2))
        return found

    def values(self, sums: np.ndarray) -> np.ndarray:
        loss, count = sums[..., 0], sums[..., 1]
        if self.multilabel:
            return mean_of(quotient(loss, count), count > 0, np.inf)
        total = count.sum(axis=1)
        return np.where(total > 0, quotient(loss.sum(axis=1), total), np.inf)

    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        return known_parts(quotient(total[:, 0], total[:, 1]), total[:, 1] > 0)


@dataclass(frozen=True)
class RocAuc:
    """Area under the ROC curve: how often a yes is given more than a no, ties counting half. Higher is better.

    ``sklearn.metrics.roc_auc_score``. Of two classes it is that of the second, of several the mean over the classes of
    each against the rest (``multi_class="ovr", average="macro"``), of ``multilabel`` the mean over the questions. A class or
    question that is always or never true has none and is left out of the mean; with none left the score is 0.5, chance.

    It is no function of sums: statistics are the images' own, float64 (N, Q, 2): 1 for yes, -1 for no, 0 where unknown
    (and all zeros where an image was not predicted), and the probability.
    """

    classes: tuple[str, ...]
    multilabel: bool

    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[Needs] = "probabilities"
    additive: ClassVar[bool] = False

    @property
    def parts(self) -> tuple[str, ...]:
        return self.classes if self.multilabel or len(self.classes) > 2 else self.classes[1:]

    def stats(self, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
        """truth: uint8 (N, 1, 1), 255 where unknown, and output: float (N, C, 1, 1); or (N, K, 1) and (N, 2, K, 1); or no N."""
        truth, output = _checked(truth, output, self.classes, self.multilabel)
        if truth.shape[1:] != (len(self.classes) if self.multilabel else 1, 1):
            raise ValueError(f"truth {truth.shape}: roc_auc is of labels, one per image or question")
        if self.multilabel:
            asked, chance = truth[:, :, 0] == 1, output[:, 1, :, 0]
            known = truth[:, :, 0] != NO_LABEL
        else:
            first = len(self.classes) - len(self.parts)
            asked = truth[:, :, 0] == np.arange(first, len(self.classes))
            known = np.broadcast_to(truth[:, :, 0] != NO_LABEL, asked.shape)
            chance = output[:, first:, 0, 0]
        return np.stack([np.where(asked, 1.0, -1.0) * known, chance * known], axis=2)

    def values(self, sums: np.ndarray) -> np.ndarray:
        """Refused: the statistics of images do not add up."""
        raise ValueError("roc_auc does not follow from sums; use weighted")

    def weighted(self, stats: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Scores (B,) with each image of ``stats`` (N, Q, 2) counted as often as ``weights`` (B, N) says."""
        return mean_of(*self._areas(np.asarray(stats), np.asarray(weights, np.float64)), 0.5)

    def score(self, stats: np.ndarray) -> Score:
        """Score of all images of ``stats`` (..., Q, 2)."""
        stats = np.asarray(stats).reshape(-1, len(self.parts), 2)
        areas, used = self._areas(stats, np.ones((1, len(stats))))
        return Score(float(mean_of(areas, used, 0.5)[0]), known_parts(areas[0], used[0]))

    def value(self, stats: np.ndarray) -> float:
        """``score(stats).value``."""
        return self.score(stats).value

    def _areas(self, stats: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Area of each question, and whether it has any; both (B, Q)."""
        pairs = [_pairs(stats[:, q, 0], stats[:, q, 1], weights) for q in range(stats.shape[1])]
        won, all_ = (np.stack(column, axis=1) for column in zip(*pairs, strict=True))
        return quotient(won, all_), all_ > 0


def _pairs(mark: np.ndarray, chance: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of the pairs of a yes and a no in which the yes was given more, and of all such pairs; both (B,).

    The noes are sorted once; each yes then looks up the weight of those below it and of those not above it.
    """
    yes, no = np.flatnonzero(mark > 0), np.flatnonzero(mark < 0)
    no = no[np.argsort(chance[no], kind="stable")]
    upto = np.zeros((len(weights), len(no) + 1))
    np.cumsum(weights[:, no], axis=1, out=upto[:, 1:])
    below, not_above = (np.searchsorted(chance[no], chance[yes], side) for side in ("left", "right"))
    mine = weights[:, yes]
    won = np.einsum("by,by->b", mine, np.take(upto, below, axis=1))
    won += np.einsum("by,by->b", mine, np.take(upto, not_above, axis=1))
    return won / 2, mine.sum(axis=1) * upto[:, -1]


def _checked(
    truth: np.ndarray, output: np.ndarray, classes: tuple[str, ...], multilabel: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Both with a leading N, the output in float64; values that cannot be are a ValueError."""
    truth, output = as_images(truth, output)
    channels = 2 if multilabel else len(classes)
    if output.ndim != 4 or output.shape[1] != channels or (multilabel and truth.shape[1:] != (len(classes), 1)):
        raise ValueError(f"truth {truth.shape} and probabilities {output.shape} do not fit {len(classes)} classes")
    if ((truth >= channels) & (truth != NO_LABEL)).any():
        raise ValueError(f"truth holds values that are neither a class (0..{channels - 1}) nor {NO_LABEL}")
    if not (np.isfinite(output).all() and (output >= 0).all()):
        raise ValueError("probabilities hold values that are negative or no numbers")
    return truth, np.asarray(output, np.float64)
