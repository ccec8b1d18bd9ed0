"""A factor for each class's probability, chosen on the rows of some folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from podium.blend.table import FoldSet, Table
from podium.combine import combined, take
from podium.data.chunk import NO_LABEL
from podium.decode import Decision, weighed
from podium.estimate import bootstrap, flat_middle
from podium.metrics import OfConfusion

REACH = 0.7
"""Largest logarithm of a factor, either way: twice as probable or half."""
GRID = tuple(round(-REACH + 0.1 * i, 1) for i in range(15))
ROUNDS = 3
FLAT = 0.1
"""Scores that are closer than this share of their own standard error are alike."""
Bias = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class _Close:
    """The images of a fold, as far as factors can change them.

    counted: int64 (n, C, C) of the pixels whose label no factor can change. scores: float32 (C', p) of the others, logarithms;
    truth, image: (p,).
    """

    counted: np.ndarray
    scores: np.ndarray
    truth: np.ndarray
    image: np.ndarray
    allowed: np.ndarray

    def stats(self, bias: np.ndarray) -> np.ndarray:
        """Confusion matrices (n, C, C) under logarithms of factors (C,)."""
        classes = self.counted.shape[1]
        top = self.scores[0] + np.float32(bias[self.allowed[0]])
        told = np.full(len(self.truth), self.allowed[0], np.int64)
        for of, score in zip(self.allowed[1:].tolist(), self.scores[1:], strict=True):
            other = score + np.float32(bias[of])
            told[other > top] = of
            np.maximum(top, other, out=top)
        at = (self.image * classes + self.truth) * classes + told
        return self.counted + np.bincount(at, minlength=self.counted.size).reshape(self.counted.shape)


class Biases:
    """Factors for the blend of ``decision``, on a table whose metric is of confusion matrices."""

    def __init__(self, table: Table, decision: Decision) -> None:
        assert isinstance(table.metric, OfConfusion)
        self.table, self.decision, self.of_confusion = table, decision, table.metric.of_confusion

    def stats(self, bias: Bias, fold: int) -> np.ndarray:
        """Statistics (n, ...) of a fold's images, in the order of its first volume."""
        return self.of_confusion(self._close(fold).stats(np.array(bias)))

    def choose(self, folds: FoldSet) -> Bias:
        """Logarithms of the factors (C,) that score best on ``folds``, by coordinate ascent from none.

        Of the factors of a class that score alike the middle one is taken: a peak is chance, a plateau less so. Of an
        unscored class it is 0.
        """
        bias: Bias = (0.0,) * len(self.table.competition.classes)
        best = float(self._scores([bias], folds)[0])
        stats = np.concatenate([self.stats(bias, k) for k in folds])
        tolerance = FLAT * bootstrap(self.table.metric, stats, self.table.groups_of(folds), 200).std
        for _ in range(ROUNDS):
            before = bias
            for of in self.table.competition.scored:
                trials = [(*bias[:of], amount, *bias[of + 1 :]) for amount in GRID]
                found = self._scores(trials, folds)
                place = flat_middle(found, tolerance)
                if found[place] > best:
                    best, bias = float(found[place]), trials[place]
            if bias == before:
                break
        return bias

    def _scores(self, biases: Sequence[Bias], folds: FoldSet) -> np.ndarray:
        sums = np.stack([np.stack([self._sum(bias, k) for k in folds]).sum(0) for bias in biases])
        values = self.table.metric.values(sums)
        return values if self.table.metric.higher_is_better else -values

    def _sum(self, bias: Bias, fold: int) -> np.ndarray:
        key = ("sum under a bias", self.decision.weights, self.decision.mean, bias, fold)
        return self.table.once(key, lambda: self.stats(bias, fold).sum(0))

    def _close(self, fold: int) -> _Close:
        key = ("close", self.decision.weights, self.decision.mean, fold)
        return self.table.once(key, lambda: _close(self.table, fold, self.decision))


def _close(table: Table, fold: int, decision: Decision) -> _Close:
    competition = table.competition
    classes, unscored = len(competition.classes), competition.unscored_index
    allowed = np.array([k for k in range(classes) if k != unscored])
    counted, scores, truths, images = [], [], [], []
    before = 0
    first, at = table.volumes[fold][0], 0
    for blend in combined(table.volumes[fold], decision.weights, unscored, decision.mean):
        ids = first.ids[at : at + len(blend)]
        at += len(blend)
        truth = take(table.targets, ids)[:, 0]
        image = np.repeat(np.arange(len(blend)), truth[0].size)
        known = truth.reshape(-1) != NO_LABEL
        logs = weighed(blend, unscored, decision.mean)[:, allowed]
        logs = logs.transpose(1, 0, 2, 3).reshape(len(allowed), -1)[:, known]
        if decision.mean == "arithmetic":
            logs = np.log(np.maximum(logs, np.float32(1e-12)))
        truth, image = truth.reshape(-1)[known].astype(np.int64), image[known]
        top = logs.max(0)
        rivals = (logs >= top - 2 * REACH - 1e-5).sum(0) > 1
        told = allowed[logs.argmax(0)]
        cell = (image * classes + truth) * classes + told
        settled = np.bincount(cell[~rivals], minlength=len(blend) * classes * classes)
        counted.append(settled.reshape(len(blend), classes, classes))
        scores.append(logs[:, rivals])
        truths.append(truth[rivals])
        images.append(image[rivals] + before)
        before += len(blend)
    return _Close(
        np.concatenate(counted),
        np.concatenate(scores, axis=1),
        np.concatenate(truths),
        np.concatenate(images),
        allowed,
    )
