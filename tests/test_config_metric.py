"""Settings of metrics: what each is called, which task it is for, and the sentence where it does not fit."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from podium.config_metric import AnyMetric, misfit
from three_classes import competition

READ: TypeAdapter[AnyMetric] = TypeAdapter(AnyMetric)
CLASSES = ("nothing", "dust", "rock")


def said(task: str, ordinal: bool = False, unscored: str | None = None, **metric: Any) -> str | None:
    return misfit(READ.validate_python(metric), task, CLASSES, ordinal, unscored)


def test_names_on_the_board():
    shown: dict[str, dict[str, Any]] = {
        "accuracy": {},
        "accuracy (exact)": {"exact": True},
        "balanced_accuracy": {},
        "kappa (quadratic)": {},
        "kappa (no weights)": {"weights": "none"},
        "mean_iou (keras)": {},
        "iou (pooled, classes)": {},
        "dice (per image, foreground)": {"over": "image", "of": "foreground"},
        "boundary_f1 (2 px, classes)": {},
        "object_map (0.5 to 0.95, classes)": {},
        "object_map (0.75, foreground)": {"thresholds": (0.75,), "of": "foreground"},
        "object_count (classes)": {},
        "rmse": {},
        "r2": {},
    }
    for text, options in shown.items():
        assert str(READ.validate_python({"name": text.split(" ")[0]} | options)) == text


@pytest.mark.parametrize(
    "raw",
    [
        {"name": "accuracy", "convention": "keras"},  # only its own options
        {"name": "mean_iou", "convention": None},
        {"name": "rmse", "of": "classes"},
        {"name": "boundary_f1", "tolerance": 0},
        {"name": "object_map", "thresholds": []},
        {"name": "object_map", "thresholds": [0.9, 0.5]},
        {"name": "object_map", "thresholds": [0.4, 0.5]},
        {"name": "miou"},
        {},
    ],
)
def test_other_options_are_refused(raw):
    with pytest.raises(ValidationError):
        READ.validate_python(raw)


def test_thresholds_default_to_ten():
    made = READ.validate_python({"name": "object_map"})
    assert made.thresholds == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)  # type: ignore[union-attr]


def test_what_fits():
    fits = {
        "segmentation": ("mean_iou", "iou", "dice", "boundary_f1", "object_map", "panoptic_quality", "object_dice"),
        "classification": ("accuracy", "balanced_accuracy", "macro_f1", "kappa", "log_loss", "roc_auc"),
        "multilabel": ("accuracy", "macro_f1", "log_loss", "roc_auc"),
        "regression": ("rmse", "mae", "r2"),
    }
    every = {name for names in fits.values() for name in names}
    for task, names in fits.items():
        for name in every:
            assert (said(task, name=name) is None) == (name in names), (task, name)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "kappa", "rmse", "mae", "r2"):
        assert said("regression", ordinal=True, name=name) is None
    assert said("regression", ordinal=True, name="log_loss") is not None


def test_the_way_out():
    masks = "mean_iou, iou, dice, boundary_f1, object_map, panoptic_quality, object_dice or object_count"
    assert said("segmentation", name="accuracy") == (
        f"metric.name: accuracy is of labels; with task: segmentation use {masks}"
    )
    assert said("classification", name="dice") == (
        "metric.name: dice is of masks; with task: classification use accuracy, balanced_accuracy, macro_f1, kappa, "
        "log_loss or roc_auc"
    )
    assert said("multilabel", name="kappa") == (
        "metric.name: kappa is of one answer per image; with task: multilabel use accuracy, macro_f1, log_loss or roc_auc"
    )
    assert said("regression", name="kappa") == (
        "metric.name: kappa is of labels, which numbers without classes have not; use rmse, mae or r2, or name the classes"
    )
    assert said("regression", name="roc_auc") == (
        "metric.name: roc_auc is of probabilities of labels; with task: regression use rmse, mae or r2"
    )
    assert said("regression", ordinal=True, name="roc_auc") == (
        "metric.name: roc_auc is of probabilities of labels; with task: regression use accuracy, balanced_accuracy, "
        "macro_f1, kappa, rmse, mae or r2"
    )


def test_options_that_would_do_nothing():
    assert said("multilabel", name="accuracy", exact=True) is None
    assert "remove it" in str(said("classification", name="accuracy", exact=True))
    assert said("segmentation", name="dice", of="foreground") is None
    text = str(said("segmentation", unscored="nothing", name="dice", of="foreground"))
    assert text.startswith("metric.of: foreground joins 'dust' and 'rock'") and "use of: classes" in text
    assert said("segmentation", unscored="nothing", name="dice") is None


def test_a_competition_is_refused_with_that_sentence():
    with pytest.raises(ValidationError, match="accuracy is of labels; with task: segmentation use mean_iou"):
        competition(metric={"name": "accuracy"})
    assert str(competition("classification", metric={"name": "log_loss"}).metric) == "log_loss"
