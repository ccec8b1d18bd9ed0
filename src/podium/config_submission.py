"""Settings of the file that a competition wants: one class per format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from podium.config_base import Count, Settings
from podium.config_model_zip import ModelZip
from podium.errors import did_you_mean

Column = Annotated[str, Field(min_length=1)]
Template = Annotated[str, Field(min_length=1)]
"""How an image is called in the file: a text in which ``{id}``, and where it says so ``{class}``, stand for its own."""
Grey = Annotated[int, Field(ge=0, le=255)]
BRACES = re.compile(r"\{([^{}]*)\}")
LINE_BREAKS = re.compile(r"[\n\r\0]")


class SubmissionFormat(Settings):
    """What every format shares. first_id: the number of the first test image, where its data give no ids."""

    first_id: Count = 0


class WideCsv(SubmissionFormat):
    """Masks of one size: a row per image, a column per pixel, row by row; values are class indices.

    id: name of the column of ids.
    """

    format: Literal["wide_csv"]
    id: Column = "id"


class LabelCsv(SubmissionFormat):
    """Labels or numbers: a row per image.

    id: name of the column of ids. label: name of the column of answers, ``label`` where it is left out. names: classes
    are written by name, not as indices.
    style: of ``task: multilabel`` only; ``columns`` (where it is left out) is a column of 0 and 1 per question, called
    as that; ``joined`` is one column with the questions that are answered yes, joined by blanks, empty where none is.
    """

    format: Literal["label_csv"]
    id: Column = "id"
    label: Column | None = None
    names: bool = False
    style: Literal["columns", "joined"] | None = None

    @property
    def label_column(self) -> str:
        """``label`` with its default."""
        return self.label or "label"

    @model_validator(mode="after")
    def _check(self) -> LabelCsv:
        if self.style == "columns" and self.label is not None:
            raise ValueError("label: does nothing with style: columns, whose columns are called as classes; remove it")
        if self.style == "columns" and self.names:
            raise ValueError("names: does nothing with style: columns, whose columns are called as classes; remove it")
        if self.style != "columns" and self.id == self.label_column:
            raise ValueError(f"label: '{self.id}' is the name of the column of ids too; give it another")
        return self


class RleCsv(SubmissionFormat):
    """Masks as runs of pixels: ``start length start length ...``, counted from 1 down the columns, left to right.

    id, rle: names of the columns. name: what stands in the column of ids, as in ``image_{id}.png``; where it is left
    out, ``{id}``, and ``{id}_{class}`` with a row per class.
    class: whose pixels are meant; with two classes it may be left out, it is the one that is not the background.
    per: ``class`` makes a row of each image and each class that is not the background. The background is the unscored
    class, or else the first.
    """

    format: Literal["rle_csv"]
    id: Column = "id"
    rle: Column = "rle"
    name: Template | None = None
    class_: Annotated[str | None, Field(alias="class")] = None
    per: Literal["class"] | None = None

    @property
    def template(self) -> str:
        """``name`` with its default."""
        return self.name or ("{id}_{class}" if self.per else "{id}")

    def wanted(self, classes: Sequence[str], unscored: str | None) -> tuple[str, ...]:
        """The classes whose masks are written, in their order."""
        if self.class_ is not None:
            return (self.class_,)
        return tuple(name for name in classes if name != _background(classes, unscored))

    @model_validator(mode="after")
    def _check(self) -> RleCsv:
        if self.class_ is not None and self.per is not None:
            raise ValueError("class: stands beside per: class, a row of every class; name one of them")
        if self.id == self.rle:
            raise ValueError(f"rle: '{self.rle}' is the name of the column of ids too; give it another")
        _check_template("name", self.template, ("id", "class") if self.per else ("id",))
        return self

    @model_serializer(mode="wrap")
    def _as_read(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """``class`` under the name that it has in a file, so that what is written can be read again."""
        return {"class" if key == "class_" else key: value for key, value in dump(self).items()}


class PngZip(SubmissionFormat):
    """Masks as pictures: a zip with one grey 8-bit PNG per image, in the image's own size.

    name: of the pictures. values: class name → its grey value, every class once; several classes may share one. With
    two classes it may be left out: 0 for the background (the unscored class, or else the first), 255 for the other.
    """

    format: Literal["png_zip"]
    name: Template = "{id}.png"
    values: dict[str, Grey] | None = None

    def greys(self, classes: Sequence[str], unscored: str | None) -> tuple[int, ...]:
        """The grey value of each class, in the order of ``classes``."""
        if self.values is not None:
            return tuple(self.values[name] for name in classes)
        return tuple(0 if name == _background(classes, unscored) else 255 for name in classes)

    @model_validator(mode="after")
    def _check(self) -> PngZip:
        _check_template("name", self.name, ("id",))
        if self.name.startswith("/") or "\\" in self.name or ".." in PurePosixPath(self.name).parts:
            raise ValueError(f"name: '{self.name}' leads out of the archive; name a path inside it, with /")
        if self.name.endswith("/"):
            raise ValueError(f"name: '{self.name}' is a folder; add the picture's name, as in '{self.name}{{id}}.png'")
        return self


AnySubmission = Annotated[WideCsv | LabelCsv | RleCsv | PngZip | ModelZip, Field(discriminator="format")]
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


def _misfit_runs(settings: RleCsv, classes: Sequence[str], unscored: str | None) -> str | None:
    name = settings.class_
    if name is not None and name not in classes:
        return f"submission.class: '{name}' is not a class; {did_you_mean(name, classes)}"
    if name is not None and name == unscored:
        return f"submission.class: '{name}' is the unscored class, which is never predicted; name another"
    if settings.per is not None:
        return _unwritable(classes)
    if name is None and len(classes) > 2:
        return (
            f"submission.class: missing; with {len(classes)} classes say whose pixels are meant, or set per: class for "
            f"a row of each"
        )
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


def _unwritable(classes: Sequence[str]) -> str | None:
    broken = [name for name in classes if LINE_BREAKS.search(name)]
    return f"classes: {broken[0]!r} holds a line break, which no csv carries safely; rename it" if broken else None


def _background(classes: Sequence[str], unscored: str | None) -> str:
    return classes[0] if unscored is None else unscored


def _check_template(key: str, template: str, needed: tuple[str, ...]) -> None:
    found = BRACES.findall(template)
    braces = " and ".join(f"{{{name}}}" for name in needed)
    for name in found:
        if name not in needed:
            raise ValueError(f"{key}: {{{name}}} is no placeholder here; use {braces}")
    for name in needed:
        if found.count(name) != 1:
            raise ValueError(f"{key}: '{template}' has {{{name}}} {found.count(name)} times; put it there once")
    if LINE_BREAKS.search(template):
        raise ValueError(f"{key}: {template!r} holds a line break, which no file carries safely; remove it")
