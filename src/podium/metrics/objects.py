"""Metrics of objects: which of them were found, how well they fit, how many there are. Higher is better in all.

Objects are found in truth and prediction by the same settings (``podium.objects.find``), since a mask of classes does
not tell touching objects apart: a watershed of the prediction alone would be counted as a mistake wherever it is right.
Pixels without a label, and those whose truth is an unscored class, are taken out of both before.
Objects only ever match others of their own kind: a class, or with ``of: foreground`` anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from podium.config_objects import Objects
from podium.data.chunk import NO_LABEL
from podium.metrics.base import Additive, as_images, known_parts, mean_of, quotient
from podium.metrics.regions import counted, regions

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU thresholds of the Data Science Bowl 2018: 0.5, 0.55 ... 0.95."""


@dataclass(frozen=True)
class ObjectMap(Additive):
    """Mean over thresholds t of TP / (TP + FP + FN), image by image: the score of the Data Science Bowl 2018.

    A true and a predicted object are a pair (TP) where their IoU is above t; what is left is FN and FP. From 0.5 on no
    object has two partners, so thresholds are at least 0.5 and below 1.

    A kind that an image has neither in truth nor in prediction scores 1 there, as with the other metrics that are means
    over images; the contest has no such image, and its score is the same either way. The score is the mean over images,
    then over kinds; an image without a single labelled pixel is left out, and with none left the score is 0.
    Statistics are float64 (N, K, 2): score, 1.
    """

    classes: tuple[str, ...]
    unscored: int | None
    objects: Objects
    thresholds: tuple[float, ...] = THRESHOLDS

    def __post_init__(self) -> None:
        if not self.thresholds or not all(0.5 <= t < 1 for t in self.thresholds):
            raise ValueError(f"thresholds {self.thresholds}: must be at least 0.5, where pairs are unique, and below 1")

    @property
    def parts(self) -> tuple[str, ...]:
        return regions(self.classes, self.unscored, self.objects.of).names

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.parts), 2

    def stats(self, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
        """truth: uint8 (N, H, W) or (H, W), 255 where there is no label. output: class indices of the same shape."""
        truth, output = as_images(truth, output)
        stats = np.zeros((len(truth), *self.shape))
        levels = np.array(self.thresholds)
        for row, meetings in _images(truth, output, self.classes, self.unscored, self.objects):
            for kind in range(len(self.parts)):
                mine = meetings.of(kind)
                hits = (mine.iou[:, None] > levels).sum(axis=0)
                every = len(mine.true_areas) + len(mine.told_areas) - hits
                stats[row, kind] = (hits / every).mean() if every.all() else 1.0, 1
        return stats

    def values(self, sums: np.ndarray) -> np.ndarray:
        return mean_of(quotient(sums[..., 0], sums[..., 1]), sums[..., 1] > 0)

    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        return known_parts(quotient(total[:, 0], total[:, 1]), total[:, 1] > 0)


@dataclass(frozen=True)
class PanopticQuality(Additive):
    """Sum of the IoU of pairs / (TP + FP / 2 + FN / 2), over all images (Kirillov et al. 2019).

    A true and a predicted object of a kind are a pair (TP) where their IoU is above 0.5. The score is the mean over the
    kinds that occur in truth or prediction; with none it is 0. Statistics are float64 (N, K, 4): IoU, TP, FP, FN.
    """

    classes: tuple[str, ...]
    unscored: int | None
    objects: Objects

    @property
    def parts(self) -> tuple[str, ...]:
        return regions(self.classes, self.unscored, self.objects.of).names

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.parts), 4

    def stats(self, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
        """As ``ObjectMap.stats``."""
        truth, output = as_images(truth, output)
        stats = np.zeros((len(truth), *self.shape))
        for row, meetings in _images(truth, output, self.classes, self.unscored, self.objects):
            for kind in range(len(self.parts)):
                mine = meetings.of(kind)
                pair = mine.iou > 0.5
                hits = int(pair.sum())
                false, missed = len(mine.told_areas) - hits, len(mine.true_areas) - hits
                stats[row, kind] = mine.iou[pair].sum(), hits, false, missed
        return stats

    def values(self, sums: np.ndarray) -> np.ndarray:
        return mean_of(*self._scores(sums))

    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        return known_parts(*self._scores(total))

    def _scores(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        below = sums[..., 1] + (sums[..., 2] + sums[..., 3]) / 2
        return quotient(sums[..., 0], below), below > 0


@dataclass(frozen=True)
class ObjectDice(Additive):
    """Dice of every object with its best partner, weighted by area, from both sides (Sirinukunwattana et al. 2017).

    The score of a kind is the mean of two: of true objects with the predicted one that shares most pixels with them,
    and of predicted objects with the true one; each object weighs as much as it has pixels, over all objects of all
    images. An object that meets none has Dice 0; where two share the same number of pixels it is the smaller one. The
    score is the mean over the kinds that occur in truth or prediction; with none it is 0.
    Statistics are float64 (N, K, 4): area × Dice and area of true objects, the same of predicted ones.
    """

    classes: tuple[str, ...]
    unscored: int | None
    objects: Objects

    @property
    def parts(self) -> tuple[str, ...]:
        return regions(self.classes, self.unscored, self.objects.of).names

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.parts), 4

    def stats(self, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
        """As ``ObjectMap.stats``."""
        truth, output = as_images(truth, output)
        stats = np.zeros((len(truth), *self.shape))
        for row, meetings in _images(truth, output, self.classes, self.unscored, self.objects):
            for kind in range(len(self.parts)):
                mine = meetings.of(kind)
                stats[row, kind, 0] = mine.true_areas @ _best(mine.true, mine.common, mine.dice, len(mine.true_areas))
                stats[row, kind, 1] = mine.true_areas.sum()
                stats[row, kind, 2] = mine.told_areas @ _best(mine.told, mine.common, mine.dice, len(mine.told_areas))
                stats[row, kind, 3] = mine.told_areas.sum()
        return stats

    def values(self, sums: np.ndarray) -> np.ndarray:
        return mean_of(*self._scores(sums))

    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        return known_parts(*self._scores(total))

    def _scores(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        both = quotient(sums[..., 0], sums[..., 1]) + quotient(sums[..., 2], sums[..., 3])
        return both / 2, sums[..., 1] + sums[..., 3] > 0


@dataclass(frozen=True)
class ObjectCount(Additive):
    """Share of images in which the number of objects is right, of every kind.

    parts: the same of each kind, then of each the mean absolute error of its number. An image without objects is right
    where none is predicted; one without a single labelled pixel is left out, and with none left the score is 0.
    Statistics are int64 (N, 2 + 2 K): 1, right, right of each kind, absolute error of each kind.
    """

    classes: tuple[str, ...]
    unscored: int | None
    objects: Objects

    @property
    def parts(self) -> tuple[str, ...]:
        return *self._kinds, *(f"{kind}: mean absolute error" for kind in self._kinds)

    @property
    def shape(self) -> tuple[int, ...]:
        return (2 + 2 * len(self._kinds),)

    def stats(self, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
        """As ``ObjectMap.stats``."""
        truth, output = as_images(truth, output)
        stats = np.zeros((len(truth), *self.shape), np.int64)
        for row, meetings in _images(truth, output, self.classes, self.unscored, self.objects):
            numbers = [np.bincount(kinds, minlength=len(self._kinds)) for kinds in meetings.kinds]
            error = np.abs(numbers[0] - numbers[1])
            stats[row] = 1, not error.any(), *(error == 0), *error
        return stats

    def values(self, sums: np.ndarray) -> np.ndarray:
        return quotient(sums[..., 1], sums[..., 0])

    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        return known_parts(quotient(total[2:], total[:1]), np.broadcast_to(total[:1] > 0, len(self.parts)))

    @property
    def _kinds(self) -> tuple[str, ...]:
        return regions(self.classes, self.unscored, self.objects.of).names


@dataclass(frozen=True, eq=False)
class _Meetings:
    """The true and predicted objects of one image, and where they meet.

    kinds: of the true and of the predicted objects, int64 (T,) and (P,). true_areas, told_areas: their pixels. true,
    told, common: int64 (M,), positions of two objects of one kind that overlap, and the pixels that they share.
    """

    kinds: tuple[np.ndarray, np.ndarray]
    true_areas: np.ndarray
    told_areas: np.ndarray
    true: np.ndarray
    told: np.ndarray
    common: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        return np.asarray(self.common / (self.true_areas[self.true] + self.told_areas[self.told] - self.common))

    @property
    def dice(self) -> np.ndarray:
        return np.asarray(2 * self.common / (self.true_areas[self.true] + self.told_areas[self.told]))

    def of(self, kind: int) -> _Meetings:
        """Those of one kind, with positions among themselves."""
        (true, told), mine = (kinds == kind for kinds in self.kinds), self.kinds[0][self.true] == kind
        return _Meetings(
            (self.kinds[0][true], self.kinds[1][told]),
            self.true_areas[true],
            self.told_areas[told],
            (true.cumsum() - 1)[self.true[mine]],
            (told.cumsum() - 1)[self.told[mine]],
            self.common[mine],
        )


def _images(
    truth: np.ndarray, output: np.ndarray, classes: tuple[str, ...], unscored: int | None, objects: Objects
) -> Iterator[tuple[int, _Meetings]]:
    """The objects of each image that has labelled pixels, with its row."""
    from podium.objects.find import find

    for row, (image, labels) in enumerate(zip(truth, output, strict=True)):
        known = counted(image, unscored)
        if not known.any():
            continue
        if labels.size and not 0 <= labels.min() <= labels.max() < len(classes):
            raise ValueError(f"labels hold {labels.min()}..{labels.max()}, allowed are 0..{len(classes) - 1}")
        true = find(np.where(known, image, NO_LABEL).astype(np.uint8), objects, classes, unscored)
        told = find(np.where(known, labels, NO_LABEL).astype(np.uint8), objects, classes, unscored)
        yield row, _meetings(true.numbers, told.numbers, true.kinds, told.kinds)


def _meetings(true: np.ndarray, told: np.ndarray, true_kinds: np.ndarray, told_kinds: np.ndarray) -> _Meetings:
    """From two maps of object numbers (H, W) of one image, each with the kinds of its objects."""
    width = len(told_kinds) + 1
    pairs, common = np.unique(true.astype(np.int64) * width + told, return_counts=True)
    first, second = pairs // width - 1, pairs % width - 1
    meet = (first >= 0) & (second >= 0)
    first, second, common = first[meet], second[meet], common[meet]
    alike = true_kinds[first] == told_kinds[second]
    return _Meetings(
        (true_kinds, told_kinds),
        np.bincount(true.reshape(-1), minlength=len(true_kinds) + 1)[1:],
        np.bincount(told.reshape(-1), minlength=width)[1:],
        first[alike],
        second[alike],
        common[alike].astype(np.int64),
    )


def _best(owners: np.ndarray, common: np.ndarray, dice: np.ndarray, count: int) -> np.ndarray:
    """Of each of ``count`` objects the Dice with the partner it shares most pixels with, 0 without one."""
    best = np.zeros(count)
    order = np.lexsort((dice, common))  # the last one written stays
    best[owners[order]] = dice[order]
    return best
