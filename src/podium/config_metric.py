"""Settings of a competition's metric: what it is called, its options, and the tasks it is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, field_validator

from podium.config_base import Settings

Of = Literal["classes", "foreground"]
Over = Literal["pooled", "image"]
Threshold = Annotated[float, Field(ge=0.5, lt=1)]


class Accuracy(Settings):
    """Share of right labels. exact: of several answers per image, the share of images all of whose answers are right."""

    name: Literal["accuracy"] = "accuracy"
    exact: bool = False

    kind: ClassVar[str] = "labels"
    tasks: ClassVar[tuple[str, ...]] = ("classification", "multilabel", "regression")

    def __str__(self) -> str:
        return "accuracy (exact)" if self.exact else "accuracy"


class BalancedAccuracy(Settings):
    """Mean recall of the classes."""

    name: Literal["balanced_accuracy"] = "balanced_accuracy"

    kind: ClassVar[str] = "labels"
    tasks: ClassVar[tuple[str, ...]] = ("classification", "regression")

    def __str__(self) -> str:
        return self.name


class MacroF1(Settings):
    """Mean F1 of the classes, or of the yes of several questions."""

    name: Literal["macro_f1"] = "macro_f1"

    kind: ClassVar[str] = "labels"
    tasks: ClassVar[tuple[str, ...]] = ("classification", "multilabel", "regression")

    def __str__(self) -> str:
        return self.name


class Kappa(Settings):
    """Cohen's kappa. weights: what a mistake costs by how far apart the classes are in their order."""

    name: Literal["kappa"] = "kappa"
    weights: Literal["quadratic", "linear", "none"] = "quadratic"

    kind: ClassVar[str] = "labels"
    tasks: ClassVar[tuple[str, ...]] = ("classification", "regression")

    def __str__(self) -> str:
        return f"kappa ({self.weights})" if self.weights != "none" else "kappa (no weights)"


class LogLoss(Settings):
    """Mean of -log of the probability that the truth was given; lower is better."""

    name: Literal["log_loss"] = "log_loss"

    kind: ClassVar[str] = "probabilities of labels"
    tasks: ClassVar[tuple[str, ...]] = ("classification", "multilabel")

    def __str__(self) -> str:
        return self.name


class RocAuc(Settings):
    """Area under the ROC curve: of the second of two classes, or the mean over several classes or questions."""

    name: Literal["roc_auc"] = "roc_auc"

    kind: ClassVar[str] = "probabilities of labels"
    tasks: ClassVar[tuple[str, ...]] = ("classification", "multilabel")

    def __str__(self) -> str:
        return self.name


class MeanIoU(Settings):
    """Mean IoU of one confusion matrix over all images. convention: how the unscored class is treated."""

    name: Literal["mean_iou"] = "mean_iou"
    convention: Literal["keras", "foreground", "masked"] = "keras"

    kind: ClassVar[str] = "masks"
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)

    def __str__(self) -> str:
        return f"mean_iou ({self.convention})"


class Overlap(Settings):
    """IoU or Dice.

    over: ``pooled``: of the pixels of all images together; ``image``: of each image, then their mean. of: ``classes``: the
    mean over all but the background; ``foreground``: all but the background joined as one class. The background is the
    unscored class, or without one the first.
    """

    name: Literal["iou", "dice"]
    over: Over = "pooled"
    of: Of = "classes"

    kind: ClassVar[str] = "masks"
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)

    def __str__(self) -> str:
        return f"{self.name} ({self.over if self.over == 'pooled' else 'per image'}, {self.of})"


class BoundaryF1(Settings):
    """F1 of boundary pixels, per image. tolerance: pixels two boundaries may be apart; of: as with iou and dice."""

    name: Literal["boundary_f1"] = "boundary_f1"
    tolerance: Annotated[float, Field(gt=0, le=100)] = 2.0
    of: Of = "classes"

    kind: ClassVar[str] = "masks"
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)

    def __str__(self) -> str:
        return f"boundary_f1 ({self.tolerance:g} px, {self.of})"


class ObjectMap(Settings):
    """Share of objects found, over several IoU thresholds, ascending, from 0.5 up; of: as with iou and dice.

    How objects are found, the competition's ``objects`` says.
    """

    name: Literal["object_map"] = "object_map"
    thresholds: Annotated[tuple[Threshold, ...], Field(min_length=1)] = tuple(
        round(0.5 + 0.05 * i, 2) for i in range(10)
    )
    of: Of = "classes"

    kind: ClassVar[str] = "masks"
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)

    @field_validator("thresholds")
    @classmethod
    def _ascending(cls, thresholds: tuple[float, ...]) -> tuple[float, ...]:
        if list(thresholds) != sorted(set(thresholds)):
            raise ValueError(f"{list(thresholds)}: do not ascend; write each once, the smallest first")
        return thresholds

    def __str__(self) -> str:
        first, last = self.thresholds[0], self.thresholds[-1]
        return f"object_map ({f'{first:g} to {last:g}' if first < last else f'{first:g}'}, {self.of})"


class OfObjects(Settings):
    """Panoptic quality, object Dice, or the share of images whose objects are counted right; of: as with iou and dice.

    How objects are found, the competition's ``objects`` says.
    """

    name: Literal["panoptic_quality", "object_dice", "object_count"]
    of: Of = "classes"

    kind: ClassVar[str] = "masks"
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)

    def __str__(self) -> str:
        return f"{self.name} ({self.of})"


class Errors(Settings):
    """Root mean squared or mean absolute error of numbers; lower is better."""

    name: Literal["rmse", "mae"]

    kind: ClassVar[str] = "numbers"
    tasks: ClassVar[tuple[str, ...]] = ("regression",)

    def __str__(self) -> str:
        return self.name


class R2(Settings):
    """Share of the variance of numbers that is explained."""

    name: Literal["r2"] = "r2"

    kind: ClassVar[str] = "numbers"
    tasks: ClassVar[tuple[str, ...]] = ("regression",)

    def __str__(self) -> str:
        return self.name


Kind = (
    Accuracy
    | BalancedAccuracy
    | MacroF1
    | Kappa
    | LogLoss
    | RocAuc
    | MeanIoU
    | Overlap
    | BoundaryF1
    | ObjectMap
    | OfObjects
    | Errors
    | R2
)
AnyMetric = Annotated[Kind, Field(discriminator="name")]
"""The value of a competition's ``metric`` key."""

_KINDS: tuple[type[Kind], ...] = (
    Accuracy,
    BalancedAccuracy,
    MacroF1,
    Kappa,
    LogLoss,
    RocAuc,
    MeanIoU,
    Overlap,
    BoundaryF1,
    ObjectMap,
    OfObjects,
    Errors,
    R2,
)


def misfit(
    settings: AnyMetric, task: str, classes: Sequence[str], ordinal: bool, unscored: str | None = None
) -> str | None:
    """Why a metric cannot score a competition, as a sentence with the way out; None where it can.

    classes: their names. ordinal: whether numbers stand for classes in an order. unscored: the class that is not scored.
    """
    labels = task != "regression" or ordinal
    if task not in settings.tasks:
        return f"metric.name: {settings.name} is of {_kind(settings, task)}; with task: {task} use {_or(task, labels)}"
    if settings.kind == "labels" and not labels:
        return (
            f"metric.name: {settings.name} is of labels, which numbers without classes have not; use "
            f"{_or(task, labels)}, or name the classes"
        )
    if isinstance(settings, Accuracy) and settings.exact and task != "multilabel":
        return "metric.exact: is of several answers per image; remove it, or use task: multilabel"
    if isinstance(settings, Overlap | BoundaryF1 | ObjectMap | OfObjects) and settings.of == "foreground" and unscored:
        others = " and ".join(f"'{name}'" for name in classes if name != unscored)
        return (
            f"metric.of: foreground joins {others}, and beside them nothing is predicted where '{unscored}' is unscored; "
            "use of: classes, or remove unscored"
        )
    return None


def _kind(settings: AnyMetric, task: str) -> str:
    """What a metric is of, so that it does not sound like what the task has."""
    return "one answer per image" if task == "multilabel" and settings.kind == "labels" else settings.kind


def _or(task: str, labels: bool) -> str:
    """The names of the metrics of a task."""
    kinds = [kind for kind in _KINDS if task in kind.tasks and (labels or kind.kind != "labels")]
    names = [name for kind in kinds for name in get_args(kind.model_fields["name"].annotation)]
    return " or ".join([", ".join(names[:-1]), names[-1]])
