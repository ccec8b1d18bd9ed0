"""Competitions and recipes: what can be set, as frozen and strict models; ``config_file`` reads them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from podium.config_augment import AugmentSettings
from podium.config_base import NAME, Count, Settings
from podium.config_blend import BlendSettings
from podium.config_data import NO_LABEL_NAME, AnyData, FolderData, TableData
from podium.config_loss import LossSettings
from podium.config_metric import AnyMetric
from podium.config_metric import misfit as metric_misfit
from podium.config_mix import Mixes, misfit
from podium.config_net import CLASSIFIERS, NetSettings
from podium.config_objects import Objects
from podium.config_preprocess import Standardise, Steps, image_steps
from podium.config_submission import AnySubmission
from podium.config_submission import misfit as submission_misfit
from podium.config_train import TrainSettings
from podium.config_validation import Validation
from podium.errors import UserError, did_you_mean

# ---------------------------------------------------------------- a competition: what is given


Task = Literal["segmentation", "classification", "multilabel", "regression"]


class Rules(Settings):
    """What the competition's rules allow."""

    pretrained: Literal["allowed", "forbidden"] = "allowed"


class FoldSettings(Settings):
    """How the training rows are split.

    repeats: how many times, each time otherwise; for few images. strata: what the folds shall resemble each other in:
    ``class`` of labels, and of numbers in tenths; ``class_presence`` of masks and questions, the share of ``foreground``
    of masks; ``auto`` is the first that fits.
    groups: what is never apart: ``duplicates`` (equal and nearly equal images), the ``column`` of ``data.groups``,
    ``both`` of them joined; ``auto`` is all that is there. file: a fold file made by hand, taken as it is; its path
    counts from the project's folder.
    """

    count: Annotated[int, Field(ge=2, le=100)] = 5
    seed: Count = 0
    repeats: Annotated[int, Field(ge=1, le=20)] = 1
    strata: Literal["auto", "class", "class_presence", "foreground", "none"] = "auto"
    groups: Literal["auto", "duplicates", "column", "both", "none"] = "auto"
    file: str | None = None


class Competition(Settings):
    """Everything about a competition that podium needs; one YAML file in configs/competitions.

    task: what an image's answer is: a mask (``segmentation``), one class (``classification``), yes or no to several
    questions (``multilabel``, ``classes`` names them), or a number (``regression``), which with ``classes`` is a grade on
    their scale, from 0 up.
    classes: in the order of their indices; of masks without an ``unscored`` class, the first is the background.
    preprocess: the steps that every image goes through, in order; see ``config_preprocess``. metric: the leaderboard's;
    also: further ones to be told beside it, by which nothing is chosen. blend: how the models are put together. objects: what
    counts as one in a mask. first_id: the number of
    the first test image where its ids are row numbers.
    """

    name: Annotated[str, Field(pattern=NAME)]
    task: Task
    kaggle: str | None = None
    data: AnyData
    classes: Annotated[tuple[str, ...], Field(max_length=255)] = ()
    unscored: str | None = None
    preprocess: Steps = (Standardise(name="standardise"),)
    metric: AnyMetric
    also: tuple[AnyMetric, ...] = ()
    rules: Rules = Rules()
    folds: FoldSettings = FoldSettings()
    validation: Validation = Validation()
    blend: BlendSettings = BlendSettings()
    objects: Objects = Objects()
    submission: AnySubmission | None = None
    models: Annotated[tuple[str, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _class_names(self) -> Competition:
        least = {"multilabel": 1, "regression": 0}.get(self.task, 2)
        if len(self.classes) < least or (self.task == "regression" and len(self.classes) == 1):
            what = "questions" if self.task == "multilabel" else "classes"
            raise ValueError(
                f"classes: {len(self.classes)} {what} with task: {self.task}; name {max(2, least)} or more"
            )
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes: every class is named once")
        if self.unscored is not None and self.unscored not in self.classes:
            raise ValueError(f"unscored: '{self.unscored}' is not a class; {did_you_mean(self.unscored, self.classes)}")
        values = getattr(self.data, "values", None) or {}
        for name in values:
            if name not in self.classes and not (name == NO_LABEL_NAME and isinstance(self.data, FolderData)):
                raise ValueError(f"data.values: '{name}' is not a class; {did_you_mean(name, self.classes)}")
        for name in self.classes if values else ():
            if name not in values:
                raise ValueError(f"data.values: class '{name}' has no value; add it")
        return self

    @model_validator(mode="after")
    def _fits_the_task(self) -> Competition:
        masks = self.task == "segmentation"
        if self.submission is not None:
            problem = submission_misfit(self.submission, self.task, self.classes, self.unscored, self.ordinal)
            if problem is not None:
                raise ValueError(problem)
        runs = self.data.train if isinstance(self.data, TableData) and self.data.train.rle else None
        if runs is not None and runs.mask_class is None and len(self.classes) > 2:
            raise ValueError(
                "data.train.mask_class: missing; with more than two classes a column must say which class a mask is of"
            )
        for key, metric in (("metric", self.metric), *(("also", other) for other in self.also)):
            problem = metric_misfit(metric, self.task, self.classes, self.ordinal, self.unscored)
            if problem is not None:
                raise ValueError(problem.replace("metric.", f"{key}.", 1))
        named = [str(metric) for metric in (self.metric, *self.also)]
        if len(set(named)) < len(named):
            raise ValueError(f"also: {', '.join(named)}: names one metric twice; leave one out")
        if not masks and self.unscored is not None:
            raise ValueError("unscored: is for masks; remove it")
        if lacking := _lacks(self.data, self.task):
            raise ValueError(lacking)
        if _has_masks(self.data) not in (None, masks):
            wanted = "masks" if masks else "labels"
            raise ValueError(f"data.train: gives no {wanted}, which task: {self.task} needs; correct one of them")
        strata = {"segmentation": ("class_presence", "foreground"), "multilabel": ("class_presence",)}
        if self.folds.strata not in ("auto", "none", *strata.get(self.task, ("class",))):
            allowed = " or ".join(strata.get(self.task, ("class",)))
            raise ValueError(f"folds.strata: '{self.folds.strata}' does not fit task: {self.task}; use {allowed}")
        if self.folds.groups in ("column", "both") and self.data.groups is None:
            raise ValueError(f"folds.groups: '{self.folds.groups}' needs data.groups, which names the column; add it")
        if self.data.groups is not None and self.data.groups.file is None and not isinstance(self.data, TableData):
            raise ValueError("data.groups.file: missing; only with format: table it may be left out")
        return self

    @property
    def scored(self) -> tuple[int, ...]:
        """Indices of the classes that are scored."""
        return tuple(i for i, name in enumerate(self.classes) if name != self.unscored)

    @property
    def masks(self) -> bool:
        """Whether an answer is a mask, which moves with its image, rather than something about the whole of it."""
        return self.task == "segmentation"

    @property
    def numbers(self) -> bool:
        """Whether a net answers with a number in the target's own unit rather than with probabilities."""
        return self.task == "regression"

    @property
    def ordinal(self) -> bool:
        """Whether the numbers are grades, whose names ``classes`` gives."""
        return self.numbers and bool(self.classes)

    @property
    def outputs(self) -> int:
        """Numbers that a net gives per image, or per pixel of one: of questions one each, of a number itself."""
        return {"multilabel": len(self.classes), "regression": 1}.get(self.task, len(self.scored))

    @property
    def answers(self) -> int:
        """Channels C of predictions (C, H, W): the classes; no and yes; a number itself."""
        return {"multilabel": 2, "regression": 1}.get(self.task, len(self.classes))

    @property
    def learnt(self) -> tuple[int, ...]:
        """The channels that a net fills, in its order; an unscored class has one that stays zero."""
        return self.scored if self.task in ("segmentation", "classification") else tuple(range(self.answers))

    @property
    def column(self) -> tuple[int, int]:
        """Height and width of targets and predictions that are no masks: one answer, or a column of a question each."""
        return (len(self.classes) if self.task == "multilabel" else 1, 1)

    @property
    def unscored_index(self) -> int | None:
        """Index of the class that the metric leaves out, None where all are scored."""
        return None if self.unscored is None else self.classes.index(self.unscored)

    @property
    def strata(self) -> str:
        """``folds.strata`` with ``auto`` resolved."""
        if self.folds.strata != "auto":
            return self.folds.strata
        return "class" if self.task in ("classification", "regression") else "class_presence"

    @property
    def grouping(self) -> frozenset[str]:
        """``folds.groups`` resolved: any of ``duplicates`` and ``column``."""
        if self.folds.groups == "auto":
            return frozenset({"duplicates"} | ({"column"} if self.data.groups else set()))
        return frozenset({"both": {"duplicates", "column"}, "none": set()}.get(self.folds.groups, {self.folds.groups}))

    @property
    def standardised(self) -> bool:
        """Whether a net normalises by the statistics of its own training images."""
        return len(image_steps(self.preprocess)) < len(self.preprocess)

    @property
    def first_id(self) -> int:
        """The number of the first test image, where ids are row numbers."""
        return self.submission.first_id if self.submission else 0


def _has_masks(data: AnyData) -> bool | None:
    """Whether a layout gives masks rather than labels; of an npz only its arrays tell: None."""
    if isinstance(data, FolderData):
        return data.train.target is not None
    return data.train.rle is not None if isinstance(data, TableData) else None


def _lacks(data: AnyData, task: Task) -> str | None:
    """What a layout does not give of what a task needs, as a sentence; None where it may give it all."""
    if isinstance(data, FolderData) and task in ("multilabel", "regression"):
        return (
            f"data.format: folders hold masks or one class per image, and the task is {task}; use format: table or npz"
        )
    if isinstance(data, TableData) and not (data.train.target or data.train.rle) and task != "multilabel":
        return "data.train.target: exactly one of target and rle is needed; name one of them"
    return None


# ---------------------------------------------------------------- a recipe: what is trained


View = Literal["identity", "hflip", "vflip", "rot180", "rot90", "rot270", "transpose", "antitranspose"]
LYING = ("rot90", "rot270", "transpose", "antitranspose")
"""Views that lay an image on its side, which only square ones can be."""


class PredictSettings(Settings):
    """Test-time augmentation: the views that are averaged, the same for out-of-fold and test."""

    views: Annotated[tuple[View, ...], Field(min_length=1)] = ("identity",)

    @model_validator(mode="after")
    def _views(self) -> PredictSettings:
        if len(set(self.views)) != len(self.views):
            raise ValueError("views: every view is named once")
        return self

    def misfit(self, size: tuple[int, int]) -> str | None:
        """Why images of that height and width cannot be seen so, as a sentence; None where they can."""
        lying = [view for view in self.views if view in LYING]
        if not lying or size[0] == size[1]:
            return None
        return f"predict.views: {lying[0]} lays {size[0]} × {size[1]} images on their side; use identity, hflip, vflip, rot180"


class Recipe(Settings):
    """What is trained and how; one YAML file in configs/models, its name is the file's. seed: is added to the run's."""

    name: Annotated[str, Field(pattern=NAME)]
    net: NetSettings
    loss: LossSettings = LossSettings()
    augment: AugmentSettings = AugmentSettings()
    mix: Mixes = ()
    train: TrainSettings = TrainSettings()
    predict: PredictSettings = PredictSettings()
    seed: Count = 0

    @model_validator(mode="after")
    def _fits_its_net(self) -> Recipe:
        if self.loss.deep is not None and len(self.loss.deep) != self.net.outputs:
            raise ValueError(
                f"loss.deep: {len(self.loss.deep)} weights for a net that gives {self.net.outputs} outputs in training; "
                "give it as many, full resolution first, or leave it out"
            )
        if self.net.encoder is None:
            for key, idle in (("freeze_epochs", 0), ("layer_decay", 1.0)):
                if getattr(self.train, key) != idle:
                    raise ValueError(
                        f"train.{key}: is for a backbone, which a net '{self.net.name}' has not; remove it"
                    )
        return self


def check_rules(competition: Competition, recipe: Recipe) -> None:
    """Refuse a recipe that the competition's rules forbid, or that does not fit its task."""
    labels = recipe.net.name in CLASSIFIERS
    if labels == competition.masks:
        kind = "labels" if labels else "masks"
        raise UserError(
            f"recipe '{recipe.name}': its net '{recipe.net.name}' predicts {kind}, but {competition.name}'s task is "
            f"{competition.task}; choose another with --models"
        )
    task = competition.task
    for problem in (recipe.loss.misfit(task), recipe.augment.misfit(task=task), misfit(recipe.mix, task)):
        if problem is not None:
            raise UserError(f"recipe '{recipe.name}': {problem}")
    if competition.numbers and not competition.classes and (what := _by_class(recipe)):
        raise UserError(f"recipe '{recipe.name}': {what} goes by the rarest class, and a number has none; leave it out")
    if recipe.net.pretrained != "never" and competition.rules.pretrained == "forbidden":
        raise UserError(
            f"recipe '{recipe.name}': net.pretrained is {recipe.net.pretrained}, but {competition.name}'s rules say "
            "'pretrained: forbidden'; set net.pretrained=never"
        )


def _by_class(recipe: Recipe) -> str | None:
    """The setting of a recipe that needs to know a rarest class; None where there is none."""
    if recipe.train.rarest_rate > 1 or (recipe.train.rarest_rate_end or 1) > 1:
        return "train.rarest_rate"
    return next((f"mix: {mix.name}" for mix in recipe.mix if getattr(mix, "of", "any") == "rarest"), None)
