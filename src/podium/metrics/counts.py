"""How often each answer met each truth, image by image."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from podium.data.chunk import NO_LABEL

_CHUNK = 1 << 22  # pixels whose int64 bins are held at once: 32 MiB


def confusion(truth: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Confusion matrix of each image, [truth, predicted], int64 (N, C, C).

    truth: (H, W) or (N, H, W) uint8 class indices, 255 where there is no label. labels: class indices of the same shape.
    Other values are a ValueError.
    """
    if truth.shape != labels.shape or truth.ndim not in (2, 3):
        raise ValueError(f"truth {truth.shape} and labels {labels.shape} must be of one shape, (H, W) or (N, H, W)")
    if truth.ndim == 2:
        truth, labels = truth[None], labels[None]
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels hold {labels.min()}..{labels.max()}, allowed are 0..{classes - 1}")
    # One look-up gives each pixel its row's first bin; row C is for no label, row C + 1 for what must not occur.
    bins = (classes + 2) * classes
    first = np.full(256, (classes + 1) * classes, np.int64)
    first[:classes] = np.arange(classes) * classes
    first[NO_LABEL] = classes * classes
    n = len(truth)
    counts = np.empty((n, bins), np.int64)
    step = max(1, _CHUNK // max(1, truth[0].size)) if n else 1
    for start in range(0, n, step):
        stop = min(n, start + step)
        where = np.take(first, truth[start:stop])
        where += labels[start:stop]
        where += (np.arange(stop - start) * bins)[:, None, None]
        counts[start:stop] = np.bincount(where.reshape(-1), minlength=(stop - start) * bins).reshape(-1, bins)
    matrices = counts.reshape(n, classes + 2, classes)
    if matrices[:, -1].any():
        raise ValueError(f"truth holds values that are neither a class (0..{classes - 1}) nor {NO_LABEL}")
    return matrices[:, :classes].copy()


class Classes(Protocol):
    """What knows the names of its classes."""

    @property
    def classes(self) -> tuple[str, ...]: ...


class FromConfusion:
    """What metrics share whose statistics are one confusion matrix per image, int64 (N, C, C), [truth, predicted]."""

    @property
    def parts(self: Classes) -> tuple[str, ...]:
        return self.classes

    @property
    def shape(self: Classes) -> tuple[int, ...]:
        return len(self.classes), len(self.classes)

    @property
    def linear(self) -> bool:
        """Statistics of several images are those of their summed matrices."""
        return True

    def stats(self: Classes, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
        """As ``confusion``."""
        return confusion(truth, output, len(self.classes))

    def of_confusion(self, matrices: np.ndarray) -> np.ndarray:
        """Statistics of images whose confusion matrices are known: these themselves."""
        return matrices


def answers(truth: np.ndarray, labels: np.ndarray, questions: int) -> np.ndarray:
    """Confusion matrix of each question of each image, [truth, answer] with 0 for no and 1 for yes, int64 (N, K, 2, 2).

    truth: (K, 1) or (N, K, 1) uint8, 255 where the answer is not known. labels: 0 and 1 of the same shape.
    """
    if truth.shape[-2:] != (questions, 1):
        raise ValueError(f"truth {truth.shape} must be (N, {questions}, 1), a row per question")
    if truth.shape != labels.shape:
        raise ValueError(f"truth {truth.shape} and labels {labels.shape} must be of one shape")
    return confusion(truth.reshape(-1, 1, 1), labels.reshape(-1, 1, 1), 2).reshape(-1, questions, 2, 2)


class Questions(Protocol):
    """What knows the names of its questions."""

    @property
    def questions(self) -> tuple[str, ...]: ...


class FromAnswers:
    """What metrics share whose statistics are a matrix per question and image, int64 (N, K, 2, 2), [truth, answer]."""

    @property
    def parts(self: Questions) -> tuple[str, ...]:
        return self.questions

    @property
    def shape(self: Questions) -> tuple[int, ...]:
        return len(self.questions), 2, 2

    def stats(self: Questions, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
        """As ``answers``."""
        return answers(truth, output, len(self.questions))
