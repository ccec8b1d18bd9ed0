"""How far a score can be believed: intervals over groups, paired comparisons, choices scored where they were not made.

Statistics are arrays (N, ...), one entry per image. Those of an additive metric are added up before they are scored;
others are scored with a weight per image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

T = TypeVar("T")
_BLOCK = 1 << 21  # resampled counts held at once: 16 MiB of float64


class Scorer(Protocol):
    """What is asked of a metric here: see ``metrics.Metric``."""

    @property
    def higher_is_better(self) -> bool: ...

    @property
    def additive(self) -> bool: ...

    def values(self, sums: np.ndarray) -> np.ndarray:
        """Scores (B,) of sums of statistics (B, ...); of additive ones only."""

    def weighted(self, stats: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Scores (B,) of ``stats`` (N, ...), each image counted as often as ``weights`` (B, N) says."""


class Parted(Scorer, Protocol):
    """A metric whose score has parts: see ``metrics.Metric``."""

    @property
    def parts(self) -> tuple[str, ...]: ...

    def score(self, stats: np.ndarray) -> Any:
        """Of ``stats`` with one more leading axis, with ``parts``."""


@dataclass(frozen=True)
class Repeats:
    """A metric of repeats: statistics (N, R, ...), each repeat scored by itself, and the mean of the R scores.

    An image whose statistics are all zeros in a repeat was not predicted in it and counts in the others alone.
    """

    metric: Scorer

    @property
    def higher_is_better(self) -> bool:
        """As of the metric."""
        return self.metric.higher_is_better

    @property
    def additive(self) -> bool:
        """As of the metric."""
        return self.metric.additive

    def values(self, sums: np.ndarray) -> np.ndarray:
        """Scores (B,) of sums (B, R, ...)."""
        return np.asarray(np.mean([self.metric.values(sums[:, repeat]) for repeat in range(sums.shape[1])], axis=0))

    def weighted(self, stats: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Scores (B,) of ``stats`` (N, R, ...); the weight of an image is that of all its repeats."""
        each = [self.metric.weighted(stats[:, repeat], weights) for repeat in range(stats.shape[1])]
        return np.asarray(np.mean(each, axis=0))


@dataclass(frozen=True)
class Interval:
    """Percentile interval of a bootstrap: its ends, the resamples' standard deviation, the level (0.90 = 90 %)."""

    low: float
    high: float
    std: float
    level: float


@dataclass(frozen=True)
class Gain:
    """By how much a is better than b on the same resamples: mean, percentile interval, share of them where it was better,
    and their standard deviation.

    Score of a minus score of b, or the other way round where lower is better.
    """

    mean: float
    low: float
    high: float
    share_above_zero: float
    std: float = 0.0


@dataclass(frozen=True, eq=False)
class Nested(Generic[T]):
    """A choice and both its scores.

    choice: made on all rows, the one to use. in_sample: its score on the rows it was made on, an optimistic number.
    nested: the score to report. choices_per_fold: what was chosen without each fold, in ascending order of the folds.
    stats: (n, ...) left-out statistics of the kept rows, in row order; ``bootstrap`` makes an interval of them.
    """

    choice: T
    in_sample: float
    nested: float
    choices_per_fold: tuple[T, ...]
    stats: np.ndarray


def bootstrap(
    metric: Scorer, stats: np.ndarray, groups: np.ndarray, count: int = 1000, seed: int = 0, level: float = 0.90
) -> Interval:
    """Interval of the score of ``stats`` (N, ...), resampling whole ``groups`` (N,) with replacement.

    Percentile bootstrap (Efron & Tibshirani 1993, chapter 13) with ``count`` resamples. A single group has no spread:
    its interval is a point. Of repeats, (N, R, ...), the metric is ``Repeats(metric)``.
    """
    scores = _resampled(metric, [stats], groups, count, seed)[0]
    low, high = _ends(scores, level)
    return Interval(low, high, float(scores.std(ddof=1)), level)


def over_repeats(metric: Scorer, stats: np.ndarray) -> float:
    """Mean of the scores of repeats: ``stats`` (n, R, ...), each repeat scored by itself over the images."""
    if metric.additive:
        return float(metric.values(stats.sum(axis=0)).mean())
    return float(Repeats(metric).weighted(stats, np.ones((1, len(stats))))[0])


def paired(
    metric: Scorer,
    stats_a: np.ndarray,
    stats_b: np.ndarray,
    groups: np.ndarray,
    count: int = 1000,
    seed: int = 0,
    level: float = 0.90,
) -> Gain:
    """How much better a is than b: both on the same resampled groups, so that what is hard for both cancels out.

    stats_a, stats_b: (N, ...), the same images in the same order.
    """
    if stats_a.shape != stats_b.shape:
        raise ValueError(f"statistics {stats_a.shape} and {stats_b.shape} are not of the same images")
    a, b = _resampled(metric, [stats_a, stats_b], groups, count, seed)
    gain = a - b if metric.higher_is_better else b - a
    low, high = _ends(gain, level)
    return Gain(float(gain.mean()), low, high, float((gain > 0).mean()), float(gain.std(ddof=1)))


def second_chance(
    metric: Scorer, stats_a: np.ndarray, stats_b: np.ndarray, groups: np.ndarray, count: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """What b is worth beside a, of two of which the better one counts: the share of resamples in which b is better, and by how
    much the better of both is better than a, on average over all resamples. As in ``paired`` both see the same ones.
    """
    a, b = _resampled(metric, [stats_a, stats_b], groups, count, seed)
    gain = b - a if metric.higher_is_better else a - b
    return float((gain > 0).mean()), float(np.maximum(gain, 0).mean())


def simplest(candidates: Sequence[np.ndarray], metric: Scorer, groups: np.ndarray, count: int = 200) -> int:
    """The first of several statistics (N, ...) whose score lies within one standard error of the best one's.

    The rule of Breiman et al. 1984 (Classification and regression trees, section 3.4.3) with the standard error of the
    difference, from ``count`` paired resamples of ``groups``. Candidates come simplest first.
    """
    once = np.ones((1, len(groups)))
    scores = np.array([float(metric.weighted(stats, once)[0]) for stats in candidates])
    top = best(scores, metric)
    for place, stats in enumerate(candidates):
        behind = abs(float(scores[top] - scores[place]))
        if place == top or behind == 0 or behind <= paired(metric, candidates[top], stats, groups, count).std:
            return place
    return top


def nested(
    choose: Callable[[np.ndarray], T],
    apply: Callable[[T, np.ndarray], np.ndarray],
    folds: np.ndarray,
    value: Callable[[np.ndarray], float],
) -> Nested[T]:
    """Make a choice anew without each fold, and score it on the folds it has not seen.

    choose: from a mask of rows, bool (N,), to anything: the best model, blend weights, thresholds. It is the WHOLE
    choice: whatever was tried and compared happens inside, or the nested score is optimistic again.
    apply: a choice and a mask of rows → the statistics (n, ...) of those rows, in row order.
    folds: int (N,), -1 for rows that are left out altogether; at least two different folds.
    value: statistics (n, ...) → their score, as a metric's ``value``.
    """
    folds = np.asarray(folds)
    kept = folds >= 0
    numbers = np.unique(folds[kept])
    if len(numbers) < 2:
        raise ValueError(f"a nested score needs at least two folds, there are {len(numbers)}")
    choices: list[T] = []
    merged: np.ndarray | None = None
    for number in numbers:
        left_out = folds == number
        choice = choose(kept & ~left_out)
        choices.append(choice)
        part = np.asarray(apply(choice, left_out))
        if len(part) != left_out.sum():
            raise ValueError(f"fold {number}: {len(part)} statistics for {left_out.sum()} rows")
        if merged is None:
            merged = np.zeros((len(folds), *part.shape[1:]), part.dtype)
        merged[left_out] = part
    assert merged is not None
    final = choose(kept)
    return Nested(final, float(value(apply(final, kept))), float(value(merged[kept])), tuple(choices), merged[kept])


def best(scores: Sequence[float] | np.ndarray, metric: Scorer) -> int:
    """Position of the best score, the highest or the lowest as the metric has it; of equals the first."""
    return int(np.argmax(scores) if metric.higher_is_better else np.argmin(scores))


def best_of(
    candidates: np.ndarray, metric: Scorer
) -> tuple[Callable[[np.ndarray], int], Callable[[int, np.ndarray], np.ndarray]]:
    """The ``choose`` and ``apply`` of ``nested`` for "the best single one of M models"; of equals the first.

    candidates: (M, N, ...), the statistics of each model on the same rows.
    """

    def choose(rows: np.ndarray) -> int:
        if metric.additive:
            return best(metric.values(candidates[:, rows].sum(axis=1)), metric)
        once = np.ones((1, int(rows.sum())))
        return best([float(metric.weighted(model[rows], once)[0]) for model in candidates], metric)

    def apply(choice: int, rows: np.ndarray) -> np.ndarray:
        return np.asarray(candidates[choice][rows])

    return choose, apply


def flat_middle(scores: np.ndarray, tolerance: float) -> int:
    """The middle of the stretch of neighbours around the highest of ``scores`` (n,) that are within ``tolerance`` of it.

    For amounts in order, such as thresholds: a peak is chance, a plateau less so.
    """
    top = int(np.argmax(scores))
    good = scores >= scores[top] - tolerance
    low = high = top
    while low > 0 and good[low - 1]:
        low -= 1
    while high < len(scores) - 1 and good[high + 1]:
        high += 1
    return (low + high) // 2


def worse_parts(
    metric: Parted, stats: np.ndarray, before: np.ndarray, groups: np.ndarray, count: int = 100
) -> tuple[str, ...]:
    """Parts of a score, of most metrics the classes, that ``stats`` (N, ...) have worse than ``before`` beyond one standard
    error of the difference, from ``count`` resamples of ``groups``; of additive metrics, others have no parts to resample."""
    if not metric.additive:
        return ()
    sign = 1.0 if metric.higher_is_better else -1.0

    def gain(new: np.ndarray, old: np.ndarray) -> np.ndarray:
        pairs = zip(metric.score(new[None]).parts, metric.score(old[None]).parts, strict=True)
        return sign * np.array([np.nan if a is None or b is None else a - b for a, b in pairs])

    number, member = np.unique(groups, return_inverse=True)
    new, old = (_by_group(each, member, len(number)) for each in (stats, before))
    mean = gain(new.sum(0), old.sum(0))
    resampled = []
    for drawn in _draws(len(number), count, 0, len(number)):
        for weights in drawn:
            resampled.append(gain(np.tensordot(weights, new, 1), np.tensordot(weights, old, 1)))
    spread = np.array(resampled)
    known = np.isfinite(spread)
    centred = np.where(known, spread, 0.0)
    number_of = np.maximum(known.sum(0), 1)
    middle = centred.sum(0) / number_of
    error = np.sqrt((np.where(known, spread - middle, 0.0) ** 2).sum(0) / np.maximum(number_of - 1, 1))
    return tuple(name for name, by, std in zip(metric.parts, mean, error, strict=True) if by < -std and by < 0)


def _resampled(
    metric: Scorer, several: list[np.ndarray], groups: np.ndarray, count: int, seed: int
) -> list[np.ndarray]:
    """Scores (count,) of each statistics array, all on the same resamples."""
    if len(groups) == 0 or any(len(stats) != len(groups) for stats in several):
        raise ValueError(f"{[len(stats) for stats in several]} statistics and {len(groups)} groups do not fit")
    number, member = np.unique(groups, return_inverse=True)
    if metric.additive:
        sums = [_by_group(stats, member, len(number)) for stats in several]
        scores = [
            [
                np.asarray(metric.values((drawn @ total.reshape(len(total), -1)).reshape(-1, *total.shape[1:])))
                for total in sums
            ]
            for drawn in _draws(len(number), count, seed, len(number))
        ]
    else:
        scores = []
        for drawn in _draws(len(number), count, seed, len(groups)):
            weights = drawn[:, member]
            scores.append([np.asarray(metric.weighted(stats, weights)) for stats in several])
    return [np.concatenate(parts) for parts in zip(*scores, strict=True)]


def _by_group(stats: np.ndarray, member: np.ndarray, groups: int) -> np.ndarray:
    """Statistics added up within each group, float64 (groups, ...)."""
    total = np.zeros((groups, *stats.shape[1:]), np.float64)  # sums of counts are exact up to 2^53
    np.add.at(total, member, stats)
    return total


def _draws(groups: int, count: int, seed: int, width: int) -> Iterator[np.ndarray]:
    """How often each group is drawn, float64 (b, groups), in blocks that do not change the draws.

    width: numbers that a resample makes; blocks are as long as memory for it allows.
    """
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // width)
    for start in range(0, count, block):
        size = min(block, count - start)
        picks = generator.integers(0, groups, (size, groups))
        picks += np.arange(size)[:, None] * groups
        yield np.bincount(picks.reshape(-1), minlength=size * groups).reshape(size, groups).astype(np.float64)


def _ends(scores: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
