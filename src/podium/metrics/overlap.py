"""Overlap of masks: mean IoU as leaderboards compute it, IoU and Dice pooled or per image. Higher is better in all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from podium.metrics.base import Additive, known_parts, mean_of, quotient
from podium.metrics.counts import FromConfusion, confusion
from podium.metrics.regions import Of, Regions, regions


@dataclass(frozen=True)
class MeanIoU(FromConfusion, Additive):
    """Mean intersection over union of ONE confusion matrix over all images. Higher is better.

    classes: their names, that of the unscored one included. unscored: index of the class that is not scored, or None.
    convention: how a leaderboard treats the unscored class; without one the three are the same:

    - ``keras``: ``keras.metrics.MeanIoU(num_classes=len(classes), ignore_class=unscored)``. Pixels whose *truth* is
      unscored are dropped, *predictions* of it are kept: one such pixel makes the unscored class enter the mean with IoU 0.
    - ``foreground``: every labelled pixel counts, the unscored class is left out of the mean; what is predicted on its
      pixels are false positives.
    - ``masked``: pixels whose truth is unscored are dropped, and so is the unscored class in the mean.

    In all three a class that occurs neither in truth nor in prediction is left out of the mean; with none left it is 0.
    Statistics are int64 (N, C, C), [truth, predicted]; all conventions share them.
    """

    classes: tuple[str, ...]
    unscored: int | None
    convention: Literal["keras", "foreground", "masked"]

    def values(self, sums: np.ndarray) -> np.ndarray:
        iou, used = self._iou(sums)
        return np.asarray(iou.sum(axis=1) / np.maximum(used.sum(axis=1), 1))

    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        iou, used = self._iou(total[None])
        return known_parts(iou[0], used[0])

    def _iou(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """IoU per class (0 where it does not count) and which classes enter the mean; both (B, C)."""
        matrix = np.array(sums, np.float64)  # a copy; counts are exact up to 2^53
        if self.unscored is not None and self.convention != "foreground":
            matrix[:, self.unscored, :] = 0
        hit = np.diagonal(matrix, axis1=1, axis2=2)
        union = matrix.sum(axis=1) + matrix.sum(axis=2) - hit
        used = union > 0
        if self.unscored is not None and self.convention != "keras":
            used[:, self.unscored] = False
        return np.where(used, hit / np.where(used, union, 1), 0.0), used


@dataclass(frozen=True)
class Overlap(Additive):
    """IoU or Dice of each class but the background, or of all of them joined as one (``of: foreground``). Higher is better.

    IoU = hit / (truth + predicted - hit), Dice = 2 hit / (truth + predicted), in pixels. The background is the unscored
    class, or without one the first; pixels whose truth is an unscored class are dropped, those of a scored background
    count against what is predicted there.

    over: ``pooled``: from the pixels of all images. A class that occurs neither in truth nor in prediction is left out of
    the mean over the classes; with none left the score is 0. Statistics are int64 (N, P, 3): hit, truth, predicted.
    ``image``: from each image's pixels, then the mean over images. A class that an image has neither in truth nor in
    prediction scores 1 there; an image without a single labelled pixel is left out, and with none left the score is 0.
    Statistics are float64 (N, P, 2): score, 1.
    """

    kind: Literal["iou", "dice"]
    over: Literal["pooled", "image"]
    of: Of
    classes: tuple[str, ...]
    unscored: int | None

    @property
    def parts(self) -> tuple[str, ...]:
        return self._regions.names

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.parts), 3 if self.over == "pooled" else 2

    @property
    def linear(self) -> bool:
        """Whether statistics of several images are those of their summed matrices."""
        return self.over == "pooled"

    def stats(self, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
        """truth, output: as ``counts.confusion``."""
        return self.of_confusion(confusion(truth, output, len(self.classes)))

    def of_confusion(self, matrices: np.ndarray) -> np.ndarray:
        """Statistics (N, P, ...) of images whose confusion matrices (N, C, C) are known."""
        matrix = matrices.copy()
        if self.unscored is not None:
            matrix[:, self.unscored] = 0
        pixels = np.zeros((len(matrix), len(self.parts), 3), np.int64)
        for part, members in enumerate(self._regions.members):
            mine = list(members)
            pixels[:, part, 0] = matrix[:, mine][:, :, mine].sum(axis=(1, 2))
            pixels[:, part, 1] = matrix[:, mine].sum(axis=(1, 2))
            pixels[:, part, 2] = matrix[:, :, mine].sum(axis=(1, 2))
        if self.over == "pooled":
            return pixels
        share, used = self._share(pixels)
        labelled = (matrix.sum(axis=(1, 2)) > 0)[:, None]
        return np.stack([np.where(used, share, 1.0) * labelled, np.broadcast_to(labelled, share.shape)], axis=2)

    def values(self, sums: np.ndarray) -> np.ndarray:
        return mean_of(*self._scores(sums))

    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        return known_parts(*self._scores(total))

    def _scores(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score per part and which parts count; (..., P, 3) or (..., P, 2) → both (..., P)."""
        if self.over == "pooled":
            return self._share(sums)
        return quotient(sums[..., 0], sums[..., 1]), sums[..., 1] > 0

    def _share(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hit, both = pixels[..., 0], pixels[..., 1] + pixels[..., 2]
        share = quotient(2 * hit, both) if self.kind == "dice" else quotient(hit, both - hit)
        return share, both > 0

    @property
    def _regions(self) -> Regions:
        return regions(self.classes, self.unscored, self.of)
