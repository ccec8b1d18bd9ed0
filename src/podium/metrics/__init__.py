"""Metrics in two steps: statistics per image, then a score from those of any images.

The statistics of an image never change, so the board, the bootstrap, comparisons and every nested choice only add
them up; where they do not add up (ROC AUC) they are scored with a weight per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from podium import config_metric as options
from podium.config_objects import Objects
from podium.data.ragged import Ragged
from podium.metrics.base import Additive, Metric, OfConfusion, Score
from podium.metrics.boundary import BoundaryF1
from podium.metrics.confusion import Accuracy, BalancedAccuracy, Kappa, MacroF1
from podium.metrics.objects import ObjectCount, ObjectDice, ObjectMap, PanopticQuality
from podium.metrics.overlap import MeanIoU, Overlap
from podium.metrics.questions import AnswerAccuracy, AnswerF1, ExactAccuracy
from podium.metrics.ranking import LogLoss, RocAuc
from podium.metrics.values import R2, MeanError

if TYPE_CHECKING:
    from podium.config import Competition

__all__ = [
    "R2",
    "Accuracy",
    "Additive",
    "AnswerAccuracy",
    "AnswerF1",
    "BalancedAccuracy",
    "BoundaryF1",
    "ExactAccuracy",
    "Kappa",
    "LogLoss",
    "MacroF1",
    "MeanError",
    "MeanIoU",
    "Metric",
    "ObjectCount",
    "ObjectDice",
    "ObjectMap",
    "OfConfusion",
    "Overlap",
    "PanopticQuality",
    "RocAuc",
    "Score",
    "build",
    "image_stats",
    "of",
]


def of(competition: Competition, settings: options.AnyMetric | None = None) -> Metric:
    """The competition's metric, or another one of it."""
    wanted = settings or competition.metric
    return build(wanted, competition.classes, competition.unscored_index, competition.task, competition.objects)


def build(
    settings: options.AnyMetric, classes: Sequence[str], unscored: int | None, task: str, objects: Objects | None = None
) -> Metric:
    """A metric from its settings.

    classes: their names; of ``multilabel`` the questions. unscored: index of the class that is not scored, or None.
    objects: how objects are found; what they are ``of`` is the metric's own to say.
    """
    names, several = tuple(classes), task == "multilabel"
    match settings:
        case options.Accuracy(exact=True):
            return ExactAccuracy(names)
        case options.Accuracy():
            return AnswerAccuracy(names) if several else Accuracy(names)
        case options.BalancedAccuracy():
            return BalancedAccuracy(names)
        case options.MacroF1():
            return AnswerF1(names) if several else MacroF1(names)
        case options.Kappa(weights=weights):
            return Kappa(names, weights)
        case options.LogLoss():
            return LogLoss(names, several)
        case options.RocAuc():
            return RocAuc(names, several)
        case options.MeanIoU(convention=convention):
            return MeanIoU(names, unscored, convention)
        case options.Overlap(name=kind, over=over, of=joined):
            return Overlap(kind, over, joined, names, unscored)
        case options.BoundaryF1(tolerance=tolerance, of=joined):
            return BoundaryF1(tolerance, joined, names, unscored)
        case options.ObjectMap(thresholds=thresholds, of=joined):
            return ObjectMap(names, unscored, _found(objects, joined), thresholds)
        case options.OfObjects(name="panoptic_quality", of=joined):
            return PanopticQuality(names, unscored, _found(objects, joined))
        case options.OfObjects(name="object_dice", of=joined):
            return ObjectDice(names, unscored, _found(objects, joined))
        case options.OfObjects(of=joined):
            return ObjectCount(names, unscored, _found(objects, joined))
        case options.Errors(name=kind):
            return MeanError(kind)
        case options.R2():
            return R2()
    raise ValueError(f"no metric is made of {settings!r}")


def _found(objects: Objects | None, of: options.Of) -> Objects:
    """How objects are found, by default where nothing is said, of what the metric asks for."""
    return (objects or Objects()).model_copy(update={"of": of})


def image_stats(metric: Metric, targets: Ragged, outputs: Ragged) -> np.ndarray:
    """Statistics (N, ...) of each of ``outputs``' images, in their order; ``targets`` are joined by id.

    outputs: what the metric ``needs``: labels or values (1, H, W), or probabilities (C, H, W).
    """
    rows = [targets.index[name] for name in outputs.ids.tolist()]
    whole = metric.needs == "probabilities"
    if outputs.uniform and targets.uniform:
        stacked = outputs.stacked
        return metric.stats(targets.stacked[rows, 0], stacked if whole else stacked[:, 0])
    pairs = zip(rows, outputs, strict=True)
    return np.concatenate([metric.stats(targets[row][0], one if whole else one[0]) for row, one in pairs])
