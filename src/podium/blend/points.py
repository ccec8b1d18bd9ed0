"""Thresholds and grades' cut points of a blend, chosen on the rows of some folds."""

from __future__ import annotations

from functools import partial

import numpy as np

from podium.blend.table import FoldSet, Table
from podium.decode import Decision, mean
from podium.estimate import nested, paired
from podium.thresholds import choose, default, labels_at

Points = tuple[float, ...]


def choose_points(table: Table, folds: FoldSet, decision: Decision) -> tuple[Points, float] | None:
    """The points that score best on ``folds``, and by how much they are better where they were not chosen; None where the task
    has none, the metric looks at no labels, or those that nothing is chosen for do as well.

    Whether to choose at all is part of the choice: points are taken only where those that are chosen without each fold beat the
    plain ones there beyond one standard error of the difference, so one fold alone has none.
    """
    competition, metric = table.competition, table.metric
    plain = default(competition.task, len(competition.classes))
    if plain is None or metric.needs != "labels":
        return None
    questions = competition.task == "multilabel"
    predicted, truth, fold_of = [], [], []
    for k in folds:
        blend = mean(table.volumes[k], decision.weights, competition.unscored_index, decision.mean)
        predicted.append(blend.stacked[:, -1, :, 0])  # the last channel: "yes", or the number
        truth.append(table.targets.stacked[[table.targets.index[name] for name in blend.ids.tolist()], 0, :, 0])
        fold_of.append(np.full(len(blend), k))
    told, known, column = (np.concatenate(parts) for parts in (predicted, truth, fold_of))

    def stats(points: Points, rows: np.ndarray) -> np.ndarray:
        return metric.stats(known[rows, :, None], labels_at(told[rows], points, questions))

    chosen = partial(_chosen, table, known, told, plain, questions)
    if len(folds) < 2:
        return None
    found = nested(chosen, stats, column, metric.value)
    before = stats(plain, np.ones(len(column), bool))
    better = found.nested - metric.value(before)
    gain = better if metric.higher_is_better else -better
    noise = paired(metric, found.stats, before, table.groups_of(folds), 200).std
    return (found.choice, gain) if gain > noise else None


def _chosen(
    table: Table, truth: np.ndarray, predicted: np.ndarray, plain: Points, questions: bool, rows: np.ndarray
) -> Points:
    return choose(table.metric, truth[rows], predicted[rows], plain, questions)
