"""Statistics of predictions by a metric: one way for folds, inner splits and blends, and for clean and corrupted images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from podium import metrics, thresholds
from podium.combine import VALUES
from podium.config import Competition
from podium.config_metric import AnyMetric
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.decode import Decision, finish, mean
from podium.jobs import OOF, STATS, VERSIONS
from podium.metrics import Metric
from podium.store import Folder, Key

ALONE = Decision((1.0,))
"""A model by itself, with nothing chosen."""


def stats_of(
    metric: Metric,
    competition: Competition,
    targets: Ragged,
    volumes: Sequence[Ragged],
    decision: Decision = ALONE,
) -> tuple[np.ndarray, np.ndarray]:
    """The ids of the first volume and the statistics (N, ...) of the blend of all, joined with ``targets`` by id.

    decision: how they are blended and decoded; without points those that nothing was chosen for. Metrics of probabilities
    and of numbers look at the blend itself.
    """
    if metric.needs == "labels":
        output = labels_of(volumes, decision, competition)
    else:
        output = mean(volumes, decision.weights, competition.unscored_index, decision.mean)
    return output.ids, metrics.image_stats(metric, targets, output)


def labels_of(volumes: Sequence[Ragged], decision: Decision, competition: Competition) -> Ragged:
    """The labels of a blend, of out-of-fold and test predictions alike; see ``decode.finish``."""
    points = decision.points or thresholds.default(competition.task, len(competition.classes))
    return finish(volumes, decision.weights, competition.unscored_index, points, decision.mean, decision.steps)


def probabilities_of(volumes: Sequence[Ragged], decision: Decision, competition: Competition) -> Ragged:
    """The probabilities of a blend, float32 (C, H, W) per id, in the order of the first volume; of questions no and yes.

    Those that metrics of probabilities score, but divided by their sum over the classes, from which float16 leaves them a
    little apart; where no class has any, all that are scored have the same. The decision's weights and kind of mean
    count; its steps (factors, thresholds, areas) only make labels.
    """
    if competition.numbers:
        raise ValueError(f"{competition.name}: numbers have no probabilities")
    blend = mean(volumes, decision.weights, competition.unscored_index, decision.mean)
    scored = [i for i in range(competition.answers) if i != competition.unscored_index]
    step = max(1, VALUES // max(1, int(blend.shapes[0].prod())))
    stacks = (blend.stacked[at : at + step] for at in range(0, len(blend), step)) if blend.uniform else blend
    for some in stacks:
        values = some.astype(np.float64)  # (..., C, H, W)
        total = values.sum(axis=-3, keepdims=True)
        values[..., scored, :, :] += total == 0
        some[...] = values / np.where(total == 0, len(scored), total)
    return blend


def submitted(volumes: Sequence[Ragged], decision: Decision, competition: Competition) -> Ragged:
    """What the competition's submission is made of: ``labels_of`` a blend, or ``probabilities_of`` it."""
    settings = competition.submission
    make = probabilities_of if settings is not None and settings.needs == "probabilities" else labels_of
    return make(volumes, decision, competition)


def also(competition: Competition) -> dict[str, Metric]:
    """The further metrics that a competition asks for, by the names that they have on the board."""
    return {str(settings): metrics.of(competition, settings) for settings in competition.also}


def scored_by(competition: Competition, metric: AnyMetric | None = None) -> dict[str, Any]:
    """All that a metric's statistics depend on beside the predictions; the competition's own where none is given."""
    return {
        "metric": (metric or competition.metric).model_dump(mode="json"),
        "objects": competition.objects.model_dump(mode="json"),
        "task": competition.task,
        "classes": len(competition.classes),
        "unscored": competition.unscored_index,
    }


def fold_stats(
    predicted: Folder, competition: Competition, part: Part, settings: AnyMetric | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The ids (n,) of a fold's predictions and the statistics (n, ...) of a metric, the competition's own, in their order.

    They are kept beside the predictions under a key of their own, so that another metric needs no new predictions, and
    are made anew where the predictions are no longer those that they are of.
    """
    key = Key("stats", VERSIONS["stats"], scored_by(competition, settings), (predicted.key.hash,))
    folder = Folder(predicted.path / f"stats-{key.short}", key)
    volume = Ragged.open(predicted.path / OOF)
    with folder.lock():
        of = predicted.file_sum(OOF)
        done = folder.done
        if done is None or done["oof"] != of:
            predicted.verify(OOF)
            assert part.targets is not None
            _, stats = stats_of(metrics.of(competition, settings), competition, part.targets, [volume])
            np.save(folder.file(STATS), stats)
            folder.finish((STATS,), oof=of)
        folder.verify(STATS)
        return volume.ids, np.load(folder.path / STATS, allow_pickle=False)


def fold_score(predicted: Folder, competition: Competition, part: Part) -> float:
    """The metric of a fold's predictions."""
    return metrics.of(competition).value(fold_stats(predicted, competition, part)[1])
