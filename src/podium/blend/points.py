"""Thresholds and grades' cut points of a blend: chosen on out-of-fold predictions, and scored where they were not chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from podium.blend.oof import Oof
from podium.config import Competition
from podium.data.ragged import Ragged
from podium.estimate import nested, over_repeats
from podium.metrics import Metric
from podium.thresholds import choose, default, labels_at

Points = tuple[float, ...]
Choose = Callable[[np.ndarray], Points]


@dataclass(frozen=True, eq=False)
class Pointed:
    """Points and what they are worth.

    points: to be used from now on, chosen on all rows. in_sample: their score on those rows, an optimistic number.
    nested: with the choice made anew without each fold, the number to believe. plain: with the points that nothing was
    chosen for. by_fold: fold → what was chosen without it.
    """

    points: Points
    in_sample: float
    nested: float
    plain: float
    by_fold: dict[int, Points]


def find(metric: Metric, competition: Competition, predicted: Oof, ids: np.ndarray, targets: Ragged) -> Pointed | None:
    """The points for a blend; None where its task has none, the metric looks at no labels, or fewer than two folds of a
    repeat are there, without which no choice can be scored.

    predicted: with (n, R, K) probabilities of "yes", or (n, R, 1) numbers, as its statistics. ids: of its rows (n,).
    The whole choice is nested, that of choosing at all included: on any rows, points are taken only where their own nested
    score there beats that of the plain ones.
    """
    plain = default(competition.task, len(competition.classes))
    columns = predicted.folds.T
    if plain is None or metric.needs != "labels" or any(len(set(c[c >= 0].tolist())) < 2 for c in columns):
        return None
    questions = competition.task == "multilabel"
    rows = [targets.index[name] for name in ids.tolist()]
    truth = targets.stacked[rows, 0, :, 0]

    def stats_of(repeat: int, points: Points, inside: np.ndarray) -> np.ndarray:
        labels = labels_at(predicted.stats[inside, repeat], points, questions)
        return metric.stats(truth[inside, :, None], labels)

    def chosen(repeat: int, inside: np.ndarray) -> Points:
        return choose(metric, truth[inside], predicted.stats[inside, repeat], plain, questions)

    def worthwhile(repeat: int, inside: np.ndarray) -> Points:
        folds = np.where(inside, columns[repeat], -1)
        if len(np.unique(folds[folds >= 0])) > 1:
            found = nested(partial(chosen, repeat), partial(stats_of, repeat), folds, metric.value)
            better = found.nested - metric.value(stats_of(repeat, plain, inside))
            if (better if metric.higher_is_better else -better) <= 0:
                return plain
        return chosen(repeat, inside)

    first = stats_of(0, plain, np.ones(len(rows), bool))
    untouched = np.zeros((len(rows), len(columns), *first.shape[1:]), first.dtype)
    left_out, in_sample = untouched.copy(), untouched.copy()
    final: list[Points] = []
    by_fold: dict[int, Points] = {}
    for repeat, column in enumerate(columns):
        there = column >= 0
        found = nested(partial(worthwhile, repeat), partial(stats_of, repeat), column, metric.value)
        final.append(found.choice)
        by_fold |= zip(np.unique(column[there]).tolist(), found.choices_per_fold, strict=True)
        left_out[there, repeat] = found.stats
        in_sample[there, repeat] = stats_of(repeat, found.choice, there)
        untouched[there, repeat] = stats_of(repeat, plain, there)
    # each repeat is another split of the same images: the middle of what they chose
    points = tuple(np.median(np.array(final), axis=0).tolist())
    inside, outside, without = (over_repeats(metric, every) for every in (in_sample, left_out, untouched))
    return Pointed(points, inside, outside, without, by_fold)
