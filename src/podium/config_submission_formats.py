"""Settings of the file that a competition wants: one class per format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from podium.config_base import Count, Settings

Column = Annotated[str, Field(min_length=1)]
Template = Annotated[str, Field(min_length=1)]
"""How an image is called in the file: a text in which ``{id}``, and where it says so ``{class}``, stand for its own."""
Grey = Annotated[int, Field(ge=0, le=255)]
Needs = Literal["labels", "probabilities"]
"""What a file is made of: the blend's decoded labels (or numbers), or its probabilities."""
BRACES = re.compile(r"\{([^{}]*)\}")
LINE_BREAKS = re.compile(r"[\n\r\0]")


class SubmissionFormat(Settings):
    """What every format shares.

    first_id: the number of the first test image, where its data give no ids. size_limit: most that the file may have, in MB of
    1,000,000 bytes; left out, there is no limit.
    """

    first_id: Count = 0
    size_limit: Annotated[float | None, Field(gt=0)] = None

    @property
    def needs(self) -> Needs:
        """What the file is made of."""
        return "labels"


class CsvFormat(SubmissionFormat):
    """What every csv shares.

    id: name of the column of ids. compress: the csv lies in a gzip file or in a zip archive. sample: the competition's
    sample_submission, a file beside its data; left out, it is looked for by that name.
    """

    id: Column = "id"
    sample: str | None = None
    compress: Literal["gzip", "zip"] | None = None


class WideCsv(CsvFormat):
    """Masks of one size: a row per image, a column per pixel, row by row; values are class indices."""

    format: Literal["wide_csv"]


class LabelCsv(CsvFormat):
    """Labels or numbers: a row per image.

    label: name of the column of answers, ``label`` where it is left out. names: classes are written by name, not as
    indices.
    style: of ``task: multilabel`` only; ``columns`` (where it is left out) is a column of 0 and 1 per question, called
    as that; ``joined`` is one column with the questions that are answered yes, joined by blanks, empty where none is.
    """

    format: Literal["label_csv"]
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


class ProbabilityCsv(CsvFormat):
    """Probabilities: a row per image, a column per class, or per question with the probability of yes.

    columns: what they are called; ``{class}``, the class's name, where it is left out. A text with ``{class}`` or
    ``{index}`` in it, as in ``class_{index}``, or class → column; of two classes one may be left out there, and has no
    column. They stand in the order of the classes.
    """

    format: Literal["probability_csv"]
    columns: Template | dict[str, Column] | None = None

    @property
    def needs(self) -> Needs:
        """What the file is made of."""
        return "probabilities"

    def wanted(self, classes: Sequence[str]) -> dict[str, str]:
        """Class → its column, of those that have one, in the order of ``classes``."""
        if isinstance(self.columns, dict):
            return {name: self.columns[name] for name in classes if name in self.columns}
        before, mark, after = re.split(r"(\{class\}|\{index\})", self.columns or "{class}")
        return {name: f"{before}{name if mark == '{class}' else i}{after}" for i, name in enumerate(classes)}

    @model_validator(mode="after")
    def _check(self) -> ProbabilityCsv:
        if isinstance(self.columns, str):
            found = BRACES.findall(self.columns)
            if found not in (["class"], ["index"]):
                raise ValueError(
                    f"columns: '{self.columns}' needs {{class}} or {{index}} in it, once, and no other braces"
                )
        return self


class RleCsv(CsvFormat):
    """Masks as runs of pixels: ``start length start length ...``, counted from 1 down the columns, left to right.

    rle: name of the column of runs. name: what stands in the column of ids, as in ``image_{id}.png``; where it is left
    out, ``{id}``, and ``{id}_{class}`` with a row per class.
    class: whose pixels are meant; with two classes it may be left out, it is the one that is not the background.
    per: ``class`` makes a row of each image and each class that is not the background. The background is the unscored
    class, or else the first. ``object`` makes a row of each connected piece (8 neighbours) of a class, so that rows
    share a name; of several classes where ``{class}`` is in the name.
    empty: of ``per: object`` only, what becomes of an image without objects: one row with an empty mask (``row``, where
    it is left out), or none (``skip``).
    """

    format: Literal["rle_csv"]
    rle: Column = "rle"
    name: Template | None = None
    class_: Annotated[str | None, Field(alias="class")] = None
    per: Literal["class", "object"] | None = None
    empty: Literal["row", "skip"] | None = None

    @property
    def template(self) -> str:
        """``name`` with its default."""
        return self.name or ("{id}_{class}" if self.per == "class" else "{id}")

    def wanted(self, classes: Sequence[str], unscored: str | None) -> tuple[str, ...]:
        """The classes whose masks are written, in their order."""
        if self.class_ is not None:
            return (self.class_,)
        return tuple(name for name in classes if name != _background(classes, unscored))

    @model_validator(mode="after")
    def _check(self) -> RleCsv:
        if self.class_ is not None and self.per == "class":
            raise ValueError("class: stands beside per: class, a row of every class; name one of them")
        if self.empty is not None and self.per != "object":
            raise ValueError("empty: is for per: object, elsewhere every image has its rows; remove it")
        if self.id == self.rle:
            raise ValueError(f"rle: '{self.rle}' is the name of the column of ids too; give it another")
        several = self.per == "class" or (self.per == "object" and "{class}" in self.template)
        if several and self.class_ is not None:
            raise ValueError(f"name: '{self.template}' has {{class}} in it, and class: names the only one; remove one")
        _check_template("name", self.template, ("id", "class") if several else ("id",))
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
        _check_path("name", self.name)
        if self.name.endswith("/"):
            raise ValueError(f"name: '{self.name}' is a folder; add the picture's name, as in '{self.name}{{id}}.png'")
        return self


ArrayType = Literal["uint8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64"]


class ArrayFormat(SubmissionFormat):
    """Arrays of numpy, of any task, in the order of the test set, row by row (C order), never with Python objects.

    of: ``labels`` are class indices, (N, H, W) of masks, (N,) of classes and grades, (N, K) zeros and ones of K
    questions, (N,) numbers of ``task: regression`` without classes; ``probabilities`` (N, C, H, W) of masks, (N, C) of
    classes, (N, K) of yes to each question.
    dtype: of the values; where it is left out, uint8 of indices, float32 of probabilities and numbers.
    """

    of: Needs = "labels"
    dtype: ArrayType | None = None

    @property
    def needs(self) -> Needs:
        """What the file is made of."""
        return self.of

    def stored(self, numbers: bool) -> str:
        """``dtype`` with its default; numbers: whether labels are numbers."""
        return self.dtype or ("float32" if numbers or self.of == "probabilities" else "uint8")


class Npy(ArrayFormat):
    """One array, of images of one size where they are masks."""

    format: Literal["npy"]


class Npz(ArrayFormat):
    """Named arrays in one file.

    key: the array's name; with ``{id}`` in it, an array of every image, without the N, in its own size. ids_key: name of
    an array of the ids, as texts, where there shall be one. compress: deflated, or stored as they are.
    """

    format: Literal["npz"]
    key: Template = "predictions"
    ids_key: Column | None = None
    compress: bool = True

    @property
    def per_image(self) -> bool:
        """Whether every image has an array of its own."""
        return "{id}" in self.key

    @model_validator(mode="after")
    def _check(self) -> Npz:
        _check_template("key", self.key, ("id",) if self.per_image else ())
        for name, text in (("key", self.key), ("ids_key", self.ids_key)):
            if text is not None:
                _check_path(name, text)
                if LINE_BREAKS.search(text) or text.endswith((".npy", "/")):
                    raise ValueError(
                        f"{name}: {text!r} is no array's name, which has no line break and no .npy at its end"
                    )
        if self.key == self.ids_key:
            raise ValueError(f"ids_key: '{self.ids_key}' is the name of the predictions too; give it another")
        return self


def _background(classes: Sequence[str], unscored: str | None) -> str:
    return classes[0] if unscored is None else unscored


def _check_path(key: str, text: str) -> None:
    if text.startswith("/") or "\\" in text or ".." in PurePosixPath(text).parts:
        raise ValueError(f"{key}: '{text}' leads out of the archive; name a path inside it, with /")


def _check_template(key: str, template: str, needed: tuple[str, ...]) -> None:
    found = BRACES.findall(template)
    braces = " and ".join(f"{{{name}}}" for name in needed)
    for name in found:
        if name not in needed:
            raise ValueError(f"{key}: {{{name}}} is no placeholder here; use {braces or '{id} or no braces'}")
    for name in needed:
        if found.count(name) != 1:
            raise ValueError(f"{key}: '{template}' has {{{name}}} {found.count(name)} times; put it there once")
    if LINE_BREAKS.search(template):
        raise ValueError(f"{key}: {template!r} holds a line break, which no file carries safely; remove it")
