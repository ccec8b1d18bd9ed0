"""A factor for each class's probability, chosen on the rows of some folds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from podium import side_by_side
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
CACHED = 1 << 14
"""Pixels looked at one amount after the other, so few that they stay in a core's cache."""
ALL = slice(None)
Bias = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class _Close:
    """The images of a fold, as far as factors can change them.

    counted: int64 (n, C, C) of the pixels whose label no factor can change. scores: float32 (C', p) of the others, logarithms,
    of the classes ``allowed``; truth, image: (p,).
    """

    counted: np.ndarray
    scores: np.ndarray
    truth: np.ndarray
    image: np.ndarray
    allowed: np.ndarray

    def stats(self, bias: np.ndarray) -> np.ndarray:
        """Confusion matrices (n, C, C) under logarithms of factors (C,)."""
        told, _ = self._winners(bias, self.allowed)
        classes = self.counted.shape[1]
        at = (self.image * classes + self.truth) * classes + told
        return self.counted + np.bincount(at, minlength=self.counted.size).reshape(self.counted.shape)

    def sweep(self, bias: np.ndarray, of: int, amounts: np.ndarray, apart: bool) -> np.ndarray:
        """Confusion matrices (A, n, C, C) with each of the ascending ``amounts`` as the logarithm of one class's factor.

        apart: of each image, or else summed, n = 1. A pixel becomes the class from one amount on, so that all are counted in
        one pass.
        """
        count = len(self.truth)
        # how many amounts do not make a pixel the class, and what it is then
        lost_to, told = np.zeros(count, np.uint8), np.empty(count, np.uint8)
        steps_of = amounts.astype(np.float32)
        for start in range(0, count, CACHED):
            here = slice(start, start + CACHED)
            told[here], top = self._winners(bias, self.allowed[self.allowed != of], here)
            score = self.scores[np.searchsorted(self.allowed, of), here]
            # of equals the lower class wins: below this the pixel is not of the class
            least = np.where(told[here] > of, top, np.nextafter(top, np.float32(np.inf)))
            for amount in steps_of:
                lost_to[here] += score + amount < least
        classes, steps = self.counted.shape[1], len(amounts) + 1
        images = len(self.counted) if apart else 1
        cell = self.truth * classes + told
        if apart:
            cell += self.image * classes**2
        counts = np.bincount(cell * steps + lost_to, minlength=images * classes**2 * steps)
        counts = counts.reshape(images, classes, classes, steps)
        won = counts.cumsum(-1)[..., :-1]  # at amount a all that are lost to no more than a of them
        matrices = np.moveaxis(counts.sum(-1, keepdims=True) - won, -1, 0).copy()
        matrices[..., of] += np.moveaxis(won.sum(2), -1, 0)
        return matrices + (self.counted if apart else self.counted.sum(0, keepdims=True))

    def _winners(self, bias: np.ndarray, among: np.ndarray, here: slice = ALL) -> tuple[np.ndarray, np.ndarray]:
        """The best of some classes, uint8 (p,), of equals the lower one, and how it scores; of the pixels ``here``."""
        first, *others = among.tolist()
        place = {of: at for at, of in enumerate(self.allowed.tolist())}
        top = self.scores[place[first], here] + np.float32(bias[first])
        told = np.full(len(top), first, np.uint8)
        for of in others:
            other = self.scores[place[of], here] + np.float32(bias[of])
            told[other > top] = of
            np.maximum(top, other, out=top)
        return told, top


class Biases:
    """Factors for the blend of ``decision``, on a table whose metric is of confusion matrices."""

    def __init__(self, table: Table, decision: Decision) -> None:
        assert isinstance(table.metric, OfConfusion)
        self.table, self.decision = table, decision
        self.of_confusion, self.linear = table.metric.of_confusion, table.metric.linear

    def stats(self, bias: Bias, fold: int) -> np.ndarray:
        """Statistics (n, ...) of a fold's images, in the order of its first volume."""
        return self.of_confusion(self._close(fold).stats(np.array(bias)))

    def choose(self, folds: FoldSet) -> Bias:
        """Logarithms of the factors (C,) that score best on ``folds``, by coordinate ascent from none.

        Of the factors of a class that score alike the middle one is taken: a peak is chance, a plateau less so. Of an
        unscored class it is 0.
        """
        bias: Bias = (0.0,) * len(self.table.competition.classes)
        stats = np.concatenate([self.stats(bias, k) for k in folds])
        best = float(self._signed(stats.sum(0, keepdims=True))[0])
        tolerance = FLAT * bootstrap(self.table.metric, stats, self.table.groups_of(folds), 200).std
        for _ in range(ROUNDS):
            before = bias
            for of in self.table.competition.scored:
                found = self._signed(np.sum(list(side_by_side.each(partial(self._sweep, bias, of), folds)), axis=0))
                place = flat_middle(found, tolerance)
                if found[place] > best:
                    best, bias = float(found[place]), (*bias[:of], GRID[place], *bias[of + 1 :])
            if bias == before:
                break
        return bias

    def _signed(self, sums: np.ndarray) -> np.ndarray:
        values = self.table.metric.values(sums)
        return values if self.table.metric.higher_is_better else -values

    def _sweep(self, bias: Bias, of: int, fold: int) -> np.ndarray:
        """Sums of a fold's statistics with each of GRID as the logarithm of one class's factor, (G, ...)."""
        others = (*bias[:of], 0.0, *bias[of + 1 :])
        key = ("sweep", self.decision.weights, self.decision.mean, others, of, fold)

        def make() -> np.ndarray:
            matrices = self._close(fold).sweep(np.array(bias), of, np.array(GRID), not self.linear)
            stats = self.of_confusion(matrices.reshape(-1, *matrices.shape[2:]))
            return np.asarray(stats.reshape(*matrices.shape[:2], *stats.shape[1:]).sum(1))

        return self.table.once(key, make)

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
