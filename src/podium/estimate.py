"""How far a score can be believed: intervals over groups, paired comparisons, choices scored where they were not made.

Statistics are arrays (N, ...), one entry per image, that add up over images; ``values`` turns sums (B, ...) into
scores (B,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

Values = Callable[[np.ndarray], np.ndarray]
T = TypeVar("T")
_BLOCK = 1 << 21  # resampled counts held at once: 16 MiB of float64


@dataclass(frozen=True)
class Interval:
    """Percentile interval of a bootstrap: its ends, the resamples' standard deviation, the level (0.90 = 90 %)."""

    low: float
    high: float
    std: float
    level: float


@dataclass(frozen=True)
class Gain:
    """Score of a minus score of b on the same resamples: mean, percentile interval, share of them where a was above."""

    mean: float
    low: float
    high: float
    share_above_zero: float


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
    values: Values, stats: np.ndarray, groups: np.ndarray, count: int = 1000, seed: int = 0, level: float = 0.90
) -> Interval:
    """Interval of ``values`` of the sum of ``stats`` (N, ...), resampling whole ``groups`` (N,) with replacement.

    Percentile bootstrap (Efron & Tibshirani 1993, chapter 13) with ``count`` resamples. A single group has no spread:
    its interval is a point.
    """
    scores = _resampled(values, [stats], groups, count, seed)[0]
    low, high = _ends(scores, level)
    return Interval(low, high, float(scores.std(ddof=1)), level)


def over_repeats(values: Values, stats: np.ndarray) -> float:
    """Mean of the scores of repeats: ``stats`` (n, R, ...), each repeat summed over the images and scored by itself."""
    return float(values(stats.sum(axis=0)).mean())


def paired(
    values: Values,
    stats_a: np.ndarray,
    stats_b: np.ndarray,
    groups: np.ndarray,
    count: int = 1000,
    seed: int = 0,
    level: float = 0.90,
) -> Gain:
    """How much higher a scores than b: both on the same resampled groups, so that what is hard for both cancels out.

    stats_a, stats_b: (N, ...), the same images in the same order.
    """
    if stats_a.shape != stats_b.shape:
        raise ValueError(f"statistics {stats_a.shape} and {stats_b.shape} are not of the same images")
    a, b = _resampled(values, [stats_a, stats_b], groups, count, seed)
    gain = a - b
    low, high = _ends(gain, level)
    return Gain(float(gain.mean()), low, high, float((gain > 0).mean()))


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
    value: statistics (n, ...) → the score of their sum.
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


def best_of(
    candidates: np.ndarray, values: Values
) -> tuple[Callable[[np.ndarray], int], Callable[[int, np.ndarray], np.ndarray]]:
    """The ``choose`` and ``apply`` of ``nested`` for "the best single one of M models"; of equals the first.

    candidates: (M, N, ...), the statistics of each model on the same rows.
    """

    def choose(rows: np.ndarray) -> int:
        return int(np.argmax(values(candidates[:, rows].sum(axis=1))))

    def apply(choice: int, rows: np.ndarray) -> np.ndarray:
        return np.asarray(candidates[choice][rows])

    return choose, apply


def _resampled(
    values: Values, several: list[np.ndarray], groups: np.ndarray, count: int, seed: int
) -> list[np.ndarray]:
    """Scores (count,) of each statistics array, all on the same resamples."""
    if len(groups) == 0 or any(len(stats) != len(groups) for stats in several):
        raise ValueError(f"{[len(stats) for stats in several]} statistics and {len(groups)} groups do not fit")
    number, member = np.unique(groups, return_inverse=True)
    sums = []
    for stats in several:
        total = np.zeros((len(number), *stats.shape[1:]), np.float64)  # sums of counts are exact up to 2^53
        np.add.at(total, member, stats)
        sums.append(total)
    scores: list[list[np.ndarray]] = [[] for _ in several]
    for drawn in _draws(len(number), count, seed):
        for into, total in zip(scores, sums, strict=True):
            resampled = drawn @ total.reshape(len(total), -1)
            into.append(np.asarray(values(resampled.reshape(len(drawn), *total.shape[1:]))))
    return [np.concatenate(parts) for parts in scores]


def _draws(groups: int, count: int, seed: int) -> Iterator[np.ndarray]:
    """How often each group is drawn, float64 (b, groups), in blocks that bound memory and do not change the draws."""
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // groups)
    for start in range(0, count, block):
        size = min(block, count - start)
        picks = generator.integers(0, groups, (size, groups))
        picks += np.arange(size)[:, None] * groups
        yield np.bincount(picks.reshape(-1), minlength=size * groups).reshape(size, groups).astype(np.float64)


def _ends(scores: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
