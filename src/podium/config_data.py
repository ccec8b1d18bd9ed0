"""How a competition's files are laid out: one settings class per format, and what all formats share."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, model_validator

from podium.config_base import Count, PositiveInt, Settings

PLACEHOLDER = re.compile(r"\{([a-z]+)\}")
Template = Annotated[str, Field(min_length=1)]
"""A path below the data folder in which ``{id}`` and ``{class}`` stand for an image's id and class, ``*`` for anything."""
Label = str | int
GreyValues = dict[str, Count | tuple[Count, ...]]
"""Class name → the grey value, or values, that stand for it in masks."""


class GroupColumn(Settings):
    """Which images belong together (a patient, a site), from a column of a table.

    column: the table's column that names the group. file: a csv below the data folder; with ``format: table`` it may
    be left out, the training table itself is meant. id: the csv's column of ids. pattern: how an id is written there,
    for example ``image_{id}.png``.
    """

    column: str
    file: str | None = None
    id: str = "id"
    pattern: Template = "{id}"

    @model_validator(mode="after")
    def _check(self) -> GroupColumn:
        _placeholders("pattern", self.pattern, needed={"id"})
        return self


class FitSettings(Settings):
    """How images of different sizes become the one size that a net is trained on; predictions go back to each own size.

    size: height and width that the net works on.
    how: ``resize`` stretches each image; ``pad`` leaves its pixels as they are and fills the rest (an image that is
    larger is an error); ``tiles`` cuts it into overlapping pieces, whose predictions are merged with a smooth window.
    overlap: share of a tile that neighbours have in common at least.
    """

    size: tuple[PositiveInt, PositiveInt]
    how: Literal["resize", "pad", "tiles"] = "resize"
    overlap: Annotated[float, Field(ge=0, lt=0.9)] | None = None

    @model_validator(mode="after")
    def _check(self) -> FitSettings:
        if self.overlap is not None and self.how != "tiles":
            raise ValueError(f"overlap: does nothing with how: {self.how}; remove it or set how: tiles")
        return self


class DataSettings(Settings):
    """What every format shares.

    dtype: what pixel values are kept as: whole numbers 0..255 (``uint8``) or 0..65535 (``uint16``), or any numbers
    (``float32``), whatever the file stores them in. shape: height and width that every image must have; not checked
    where absent. drop: ``auto`` leaves out what is beyond doubt no training image, ``none`` nothing, and a csv file
    with a column ``id`` the rows that it names.
    """

    dtype: Literal["uint8", "uint16", "float32"] = "uint8"
    shape: tuple[PositiveInt, PositiveInt] | None = None
    drop: str = "auto"
    groups: GroupColumn | None = None
    fit: FitSettings | None = None

    @property
    def expects(self) -> str:
        """The file or folder, below the data folder, by which the competition's data are recognised."""
        raise NotImplementedError

    @property
    def reading(self) -> dict[str, object]:
        """What of these settings changes the images and targets that are read."""
        return self.model_dump(mode="json", exclude={"drop", "fit"})


# ---------------------------------------------------------------- npz


class NpzArray(Settings):
    """One role's array: its key, and the index or the slice (from, to) along axis 1 where several are stacked there."""

    key: str | None = None
    index: Count | None = None
    slice: tuple[Count, PositiveInt] | None = None

    @model_validator(mode="after")
    def _check(self) -> NpzArray:
        if self.index is not None and self.slice is not None:
            raise ValueError("slice: stands beside an index; name one of them")
        if self.slice is not None and self.slice[0] >= self.slice[1]:
            raise ValueError(f"slice: {list(self.slice)} is empty; name the first index and the one after the last")
        return self


class NpzRole(Settings):
    """Where in an npz file a part lies.

    key: the array of all its roles; or one for each, as in ``image: {key: images}, target: {key: labels}``. image,
    target: a number is short for ``{index: number}`` along axis 1; without, the whole array is meant.
    """

    key: str | None = None
    image: Count | NpzArray | None = None
    target: Count | NpzArray | None = None

    def array(self, role: Literal["image", "target"]) -> NpzArray | None:
        """The array of a role, its key filled in; None for a target that is not there."""
        given = getattr(self, role)
        if given is None and role == "target":
            return None
        item = NpzArray(index=given) if isinstance(given, int) else given or NpzArray()
        return item.model_copy(update={"key": item.key or self.key})

    @model_validator(mode="after")
    def _check(self) -> NpzRole:
        for role in ("image", "target"):
            item = self.array(role)
            if item is not None and item.key is None:
                raise ValueError(f"{role}: names no key of the file; add key, or {role}: {{key: ...}}")
        return self


class NpzData(DataSettings):
    """Arrays in one npz file; ids are row numbers, of test images from ``submission.first_id`` on."""

    format: Literal["npz"]
    file: str
    train: NpzRole
    test: NpzRole | None = None

    @model_validator(mode="after")
    def _check(self) -> NpzData:
        if self.train.target is None:
            raise ValueError("train.target: missing; it is the index or the key of the masks or labels")
        return self

    @property
    def expects(self) -> str:
        return self.file

    @property
    def reading(self) -> dict[str, object]:
        return {key: value for key, value in super().reading.items() if key != "file"}


# ---------------------------------------------------------------- folder


class FolderRole(Settings):
    """Templates of a part's files.

    image: ``train/images/{id}.png``, or ``train/{class}/{id}.jpg`` where folders are classes; ids are then ``class/id``.
    target: of the masks, with the same ``{id}``.
    """

    image: Template
    target: Template | None = None


class FolderData(DataSettings):
    """Pictures in folders, paired with masks by name, or sorted into a folder per class.

    values: class name → its grey value in the masks, or several of them; ``no_label`` names those that carry no label.
    Without, masks hold class indices, and 255 for no label. colour: what images are read as; ``grey`` and ``rgb``
    convert, ``keep`` refuses a mixture.
    """

    format: Literal["folder"]
    train: FolderRole
    test: FolderRole | None = None
    values: GreyValues | None = None
    colour: Literal["keep", "grey", "rgb"] = "keep"

    @model_validator(mode="after")
    def _check(self) -> FolderData:
        by_class = "{class}" in self.train.image
        _placeholders("train.image", self.train.image, needed={"id"}, allowed={"class"})
        if by_class == (self.train.target is not None):
            raise ValueError(
                "train.target: names the masks, unless train.image has a {class}; exactly one of them is needed"
            )
        if self.train.target is not None:
            _placeholders("train.target", self.train.target, needed={"id"})
        if by_class and self.values is not None:
            raise ValueError("values: does nothing where folders are classes; remove it")
        if self.test is not None:
            _placeholders("test.image", self.test.image, needed={"id"})
            if self.test.target is not None:
                raise ValueError("test.target: test images have no masks here; remove it")
        return self

    @property
    def expects(self) -> str:
        return fixed_part(self.train.image)


# ---------------------------------------------------------------- table


class TableRole(Settings):
    """A table and what its columns mean; pixels in columns, or pictures beside it.

    file: csv or csv.gz below the data folder. id: column of ids; without, ids are row numbers (of test rows from
    ``submission.first_id`` on). target: column of labels, of numbers, or of the names of the questions that are answered
    with yes, with blanks or commas between; left out with ``task: multilabel``, every question has a column of 0 and 1
    with its name. rle: column of run-length masks (Kaggle's: column by column,
    counted from 1, empty for none); several rows of one id are joined. mask_class: column that says which class a
    row's mask is of; without, all are of class 1. pixels: the common beginning of the pixel columns' names. image:
    template of the pictures, ``train/{id}.png``.
    """

    file: str
    id: str | None = None
    target: str | None = None
    rle: str | None = None
    mask_class: str | None = None
    pixels: str | None = None
    image: Template | None = None


class TableData(DataSettings):
    """A table of labels or masks, with the pixels in its columns or in pictures beside it.

    Pixels in columns need ``shape``. values: class name → what the class is called in the table, one text or number or
    several of them; without, classes are called as in ``classes`` or are indices. colour: as with ``format: folder``.
    """

    format: Literal["table"]
    train: TableRole
    test: TableRole | None = None
    values: dict[str, Label | tuple[Label, ...]] | None = None
    colour: Literal["keep", "grey", "rgb"] = "keep"

    @model_validator(mode="after")
    def _check(self) -> TableData:
        for part, role in (("train", self.train), ("test", self.test)):
            if role is None:
                continue
            if (role.pixels is None) == (role.image is None):
                raise ValueError(f"{part}.pixels: exactly one of pixels and image is needed; name one of them")
            if role.pixels is not None and self.shape is None:
                raise ValueError("shape: missing; pixels in columns need [height, width]")
            if role.image is not None:
                _placeholders(f"{part}.image", role.image, needed={"id"})
                if role.id is None:
                    raise ValueError(f"{part}.id: missing; it names the column that image's {{id}} stands for")
            if role.mask_class is not None and role.rle is None:
                raise ValueError(f"{part}.mask_class: does nothing without rle; remove it or add rle")
            if role.rle is not None and role.pixels is not None:
                raise ValueError(f"{part}.rle: run-length masks need pictures beside the table; set image, not pixels")
        if self.train.target is not None and self.train.rle is not None:
            raise ValueError("train.target: exactly one of target and rle is needed; name one of them")
        if self.test is not None and (self.test.target or self.test.rle):
            raise ValueError("test.target: test rows have no targets here; remove it")
        return self

    @property
    def expects(self) -> str:
        return self.train.file


AnyData = Annotated[NpzData | FolderData | TableData, Field(discriminator="format")]


def fixed_part(template: str) -> str:
    """The folders of a template before its first placeholder or wildcard; ``.`` where there are none."""
    parts = PurePosixPath(template).parts[:-1]
    fixed = []
    for part in parts:
        if "{" in part or "*" in part:
            break
        fixed.append(part)
    return str(PurePosixPath(*fixed)) if fixed else "."


NO_LABEL_NAME = "no_label"
"""The key of ``values`` for what carries no label."""


def _placeholders(key: str, template: str, needed: set[str], allowed: set[str] | None = None) -> None:
    if template.startswith("/") or ".." in PurePosixPath(template).parts:
        raise ValueError(f"{key}: '{template}' leads out of the data folder; name a path below it")
    found = PLACEHOLDER.findall(template)
    for name in found:
        if name not in needed | (allowed or set()):
            raise ValueError(f"{key}: {{{name}}} is no placeholder here; use {', '.join(f'{{{n}}}' for n in needed)}")
    missing = needed - set(found)
    if missing:
        raise ValueError(f"{key}: '{template}' has no {{{missing.pop()}}}; put it where the id stands")
    if len(set(found)) != len(found):
        raise ValueError(f"{key}: '{template}' names a placeholder twice; once is enough")
