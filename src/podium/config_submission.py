"""A competition's ``submission`` section: which formats there are, and which competitions they do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from podium.config_model_zip import ModelZip
from podium.config_submission_formats import (
    LINE_BREAKS,
    LabelCsv,
    Npy,
    Npz,
    PngZip,
    ProbabilityCsv,
    RleCsv,
    WideCsv,
)
from podium.errors import did_you_mean

AnySubmission = Annotated[
    WideCsv | LabelCsv | ProbabilityCsv | RleCsv | PngZip | Npy | Npz | ModelZip, Field(discriminator="format")
]
"""A competition's ``submission`` section; ``format`` says which."""


def misfit(
    settings: AnySubmission, task: str, classes: Sequence[str], unscored: str | None, ordinal: bool
) -> str | None:
    """Why a file of this format cannot be made for such a competition, as a sentence; None where it can.

    ordinal: whether the numbers of ``task: regression`` are grades, which ``classes`` names.
    """
    if isinstance(settings, ModelZip):
        return settings.misfit(task)
    if isinstance(settings, LabelCsv):
        return _misfit_labels(settings, task, classes, ordinal)
    if isinstance(settings, ProbabilityCsv):
        return _misfit_probabilities(settings, task, classes)
    if isinstance(settings, (Npy, Npz)):
        return _misfit_arrays(settings, task, ordinal)
    if task != "segmentation":
        what = {"wide_csv": "masks, a column per pixel", "rle_csv": "masks as runs", "png_zip": "masks as pictures"}
        return (
            f"submission.format: {settings.format} is of {what[settings.format]}; with task: {task} use label_csv, or "
            f"leave submission out"
        )
    if isinstance(settings, RleCsv):
        return _misfit_runs(settings, classes, unscored)
    return _misfit_pictures(settings, classes) if isinstance(settings, PngZip) else None


def _misfit_labels(settings: LabelCsv, task: str, classes: Sequence[str], ordinal: bool) -> str | None:
    if task == "segmentation":
        return (
            "submission.format: label_csv is of labels, a row per image; of masks use wide_csv, rle_csv or png_zip, or "
            "leave submission out"
        )
    if task != "multilabel":
        if settings.style is not None:
            return f"submission.style: is for task: multilabel; with task: {task} remove it"
        if settings.names and task == "regression" and not ordinal:
            return "submission.names: the numbers of task: regression have no names; remove it"
        return _unwritable(classes) if settings.names else None
    if settings.style == "joined":
        parted = [name for name in classes if name != "".join(name.split())] if settings.names else []
        if parted:
            return (
                f"submission.names: class '{parted[0]}' holds a blank, which parts the names in style: joined; rename it "
                f"or leave names out"
            )
        return None
    for key, given in (("label", settings.label is not None), ("names", settings.names)):
        if given:
            return (
                f"submission.{key}: does nothing with style: columns, whose columns are called as the classes; remove "
                f"it or set style: joined"
            )
    if settings.id in classes:
        return (
            f"submission.id: '{settings.id}' is a class and has a column of its own; call the column of ids otherwise"
        )
    return _unwritable(classes)


def _misfit_probabilities(settings: ProbabilityCsv, task: str, classes: Sequence[str]) -> str | None:
    if task == "segmentation":
        return (
            "submission.format: probability_csv is of classes, a row per image; of masks use npy or npz with "
            "of: probabilities"
        )
    if task == "regression":
        return "submission.format: probability_csv is of classes, and task: regression gives numbers; use label_csv"
    columns = settings.wanted(classes)
    if isinstance(settings.columns, dict):
        for name in settings.columns:
            if name not in classes:
                return f"submission.columns: '{name}' is not a class; {did_you_mean(name, classes)}"
        lacking = [name for name in classes if name not in columns]
        if lacking and (task == "multilabel" or len(classes) > 2 or not columns):
            return f"submission.columns: class '{lacking[0]}' has no column; add it"
    names = list(columns.values())
    for name in names:
        if names.count(name) > 1 or name == settings.id:
            return f"submission.columns: two columns would be called '{name}'; give them different names"
    return _unwritable(names, "submission.columns")


def _misfit_arrays(settings: Npy | Npz, task: str, ordinal: bool) -> str | None:
    if settings.of == "probabilities" and task == "regression":
        return "submission.of: task: regression gives numbers and no probabilities; remove it"
    numbers = task == "regression" and not ordinal
    fractions = numbers or settings.of == "probabilities"
    if settings.dtype is not None and settings.dtype.startswith("float") != fractions:
        what = "numbers" if numbers else settings.of
        kinds = "float16, float32 or float64" if fractions else "uint8, uint16, int16, int32 or int64"
        return f"submission.dtype: {settings.dtype} does not suit {what}; use {kinds}"
    return None


def _misfit_runs(settings: RleCsv, classes: Sequence[str], unscored: str | None) -> str | None:
    name = settings.class_
    if name is not None and name not in classes:
        return f"submission.class: '{name}' is not a class; {did_you_mean(name, classes)}"
    if name is not None and name == unscored:
        return f"submission.class: '{name}' is the unscored class, which is never predicted; name another"
    if "{class}" in settings.template:
        return _unwritable(classes)
    if name is None and len(classes) > 2:
        or_each = "put {class} into name for rows of each" if settings.per else "set per: class for a row of each"
        return f"submission.class: missing; with {len(classes)} classes say whose pixels are meant, or {or_each}"
    return None


def _misfit_pictures(settings: PngZip, classes: Sequence[str]) -> str | None:
    if settings.values is None:
        if len(classes) == 2:
            return None
        return f"submission.values: missing; with {len(classes)} classes give each its grey value, 0 to 255"
    for name in settings.values:
        if name not in classes:
            return f"submission.values: '{name}' is not a class; {did_you_mean(name, classes)}"
    for name in classes:
        if name not in settings.values:
            return f"submission.values: class '{name}' has no value; add it"
    if len(set(settings.values.values())) == 1:
        return "submission.values: all classes have one value, so that pictures say nothing; give them different ones"
    return None


def _unwritable(names: Sequence[str], key: str = "classes") -> str | None:
    broken = [name for name in names if LINE_BREAKS.search(name)]
    return f"{key}: {broken[0]!r} holds a line break, which no csv carries safely; rename it" if broken else None
