"""Metrics in two steps: statistics per image, then a score from their sum.

The statistics of an image never change, so the board, the bootstrap, comparisons and every nested choice only add
them up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from podium.config_metric import MetricSettings
from podium.data.chunk import NO_LABEL
from podium.data.ragged import Ragged

_CHUNK = 1 << 22  # pixels whose int64 bins are held at once: 32 MiB


@dataclass(frozen=True)
class Score:
    """A metric's value and its parts; ``None`` for a class that did not enter the mean."""

    value: float
    per_class: tuple[float | None, ...]


@dataclass(frozen=True)
class MeanIoU:
    """Mean intersection over union of ONE confusion matrix over all images.

    classes: number of classes, the unscored one included. unscored: index of the class that is not scored, or None.
    convention: how a leaderboard treats the unscored class; without one the three are the same:

    - ``keras``: ``keras.metrics.MeanIoU(num_classes=classes, ignore_class=unscored)``. Pixels whose *truth* is unscored
      are dropped, *predictions* of it are kept: one such pixel makes the unscored class enter the mean with IoU 0.
    - ``foreground``: every labelled pixel counts, the unscored class is left out of the mean; what is predicted on its
      pixels are false positives.
    - ``masked``: pixels whose truth is unscored are dropped, and so is the unscored class in the mean.

    In all three a class that occurs neither in truth nor in prediction is left out of the mean; with none left it is 0.
    """

    classes: int
    unscored: int | None
    convention: Literal["keras", "foreground", "masked"]

    higher_is_better: ClassVar[bool] = True

    @property
    def width(self) -> int:
        """How many integers the statistics of one image hold."""
        return self.classes * self.classes

    def stats(self, truth: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Confusion matrix of each image, [truth, predicted], int64 (N, C, C); all conventions share them.

        truth: (H, W) or (N, H, W) uint8 class indices, 255 where there is no label. labels: class indices of the same
        shape. Other values are a ValueError.
        """
        if truth.shape != labels.shape or truth.ndim not in (2, 3):
            raise ValueError(f"truth {truth.shape} and labels {labels.shape} must be of one shape, (H, W) or (N, H, W)")
        if truth.ndim == 2:
            truth, labels = truth[None], labels[None]
        if labels.size and not 0 <= labels.min() <= labels.max() < self.classes:
            raise ValueError(f"labels hold {labels.min()}..{labels.max()}, allowed are 0..{self.classes - 1}")
        # One look-up gives each pixel its row's first bin; row C is for no label, row C + 1 for what must not occur.
        bins = (self.classes + 2) * self.classes
        first = np.full(256, (self.classes + 1) * self.classes, np.int64)
        first[: self.classes] = np.arange(self.classes) * self.classes
        first[NO_LABEL] = self.classes * self.classes
        n = len(truth)
        counts = np.empty((n, bins), np.int64)
        step = max(1, _CHUNK // max(1, truth[0].size)) if n else 1
        for start in range(0, n, step):
            stop = min(n, start + step)
            where = np.take(first, truth[start:stop])
            where += labels[start:stop]
            where += (np.arange(stop - start) * bins)[:, None, None]
            counts[start:stop] = np.bincount(where.reshape(-1), minlength=(stop - start) * bins).reshape(-1, bins)
        matrices = counts.reshape(n, self.classes + 2, self.classes)
        if matrices[:, -1].any():
            raise ValueError(f"truth holds values that are neither a class (0..{self.classes - 1}) nor {NO_LABEL}")
        return matrices[:, : self.classes].copy()

    def values(self, stats: np.ndarray) -> np.ndarray:
        """One score per matrix: (B, C, C) → float64 (B,)."""
        iou, used = self._iou(stats)
        return np.asarray(iou.sum(axis=1) / np.maximum(used.sum(axis=1), 1))

    def score(self, stats: np.ndarray) -> Score:
        """Score of the sum over all leading axes of (..., C, C)."""
        total = np.asarray(stats).reshape(-1, self.classes, self.classes).sum(axis=0)[None]
        iou, used = self._iou(total)
        per_class = tuple(float(x) if u else None for x, u in zip(iou[0], used[0], strict=True))
        return Score(float(self.values(total)[0]), per_class)

    def value(self, stats: np.ndarray) -> float:
        """``score(stats).value``."""
        return self.score(stats).value

    def _iou(self, stats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """IoU per class (0 where it does not count) and which classes enter the mean; both (B, C)."""
        matrix = np.array(stats, np.float64)  # a copy; counts are exact up to 2^53
        if self.unscored is not None and self.convention != "foreground":
            matrix[:, self.unscored, :] = 0
        hit = np.diagonal(matrix, axis1=1, axis2=2)
        union = matrix.sum(axis=1) + matrix.sum(axis=2) - hit
        used = union > 0
        if self.unscored is not None and self.convention != "keras":
            used[:, self.unscored] = False
        return np.where(used, hit / np.where(used, union, 1), 0.0), used


@dataclass(frozen=True)
class Accuracy:
    """Share of the labelled items whose class is the right one, from the confusion matrix of all; of a class, its recall.

    ``sklearn.metrics.accuracy_score``. A class that does not occur has no recall; with nothing labelled the score is 0.
    """

    classes: int

    higher_is_better: ClassVar[bool] = True

    def stats(self, truth: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Confusion matrix of each image, [truth, predicted], int64 (N, C, C); shapes as with ``MeanIoU.stats``."""
        return MeanIoU(self.classes, None, "masked").stats(truth, labels)

    def values(self, stats: np.ndarray) -> np.ndarray:
        """One score per matrix: (B, C, C) → float64 (B,)."""
        hits = np.trace(stats, axis1=1, axis2=2)
        return np.asarray(hits / np.maximum(stats.sum(axis=(1, 2)), 1), np.float64)

    def score(self, stats: np.ndarray) -> Score:
        """Score of the sum over all leading axes of (..., C, C)."""
        total = np.asarray(stats).reshape(-1, self.classes, self.classes).sum(axis=0)
        right, known = np.diagonal(total).tolist(), total.sum(axis=1).tolist()
        recall = tuple(hit / n if n else None for hit, n in zip(right, known, strict=True))
        return Score(float(self.values(total[None])[0]), recall)

    def value(self, stats: np.ndarray) -> float:
        """``score(stats).value``."""
        return self.score(stats).value


Metric = MeanIoU | Accuracy


def image_stats(metric: Metric, targets: Ragged, labels: Ragged) -> np.ndarray:
    """Statistics (N, ...) of each of ``labels``' images, in their order; ``targets`` are joined by id."""
    rows = [targets.index[name] for name in labels.ids.tolist()]
    if labels.uniform and targets.uniform:
        return metric.stats(targets.stacked[rows, 0], labels.stacked[:, 0])
    pairs = zip(rows, labels, strict=True)
    return np.concatenate([metric.stats(targets[row], predicted) for row, predicted in pairs])


def build(settings: MetricSettings, classes: Sequence[str], unscored: int | None) -> Metric:
    """The competition's metric from its settings; ``unscored`` is a class index or None."""
    if settings.name == "accuracy":
        return Accuracy(len(classes))
    assert settings.convention is not None
    return MeanIoU(len(classes), unscored, settings.convention)
