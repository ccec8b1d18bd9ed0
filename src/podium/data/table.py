"""Tables of labels or run-length masks, with the pixels in their columns or in pictures beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from podium.config_data import TableData, TableRole
from podium.data.answers import Answers, answers_of
from podium.data.chunk import Chunk, Chunks, Reading
from podium.data.class_names import ClassNames, class_names
from podium.data.csv_rows import miscounted, opened, table_path
from podium.data.folder import Row, decoded
from podium.data.picture import BadPicture
from podium.data.pictures_by_id import PicturesById
from podium.data.pixel_table import read_pixels
from podium.data.rle import decode
from podium.errors import UserError

Part = Literal["train", "test"]
QUESTION = "?"
"""What the columns of questions begin with where they stand beside columns of other meanings."""


def files(data: TableData, folder: Path) -> list[Path]:
    """Every file that reading depends on, sorted: the tables, and of the pictures that they name those that are there."""
    found: set[Path] = set()
    for table in [_Table.train(data, folder), *([_Table.test(data, folder)] if data.test else [])]:
        found.add(table.path)
        if table.role.image is not None:
            pictures = PicturesById(folder, table.role.image)
            for cells in table.read(lambda sentence: None):
                try:
                    found.add(pictures.find(cells.id))
                except ValueError:
                    continue  # the reader tells
    return sorted(found, key=lambda path: path.as_posix())


def read_train(data: TableData, reading: Reading) -> Chunks:
    """The training rows in the table's order; several rows of one id, as run-length masks may have, where its first is.

    Targets are labels (1, 1, 1), answers to questions (1, K, 1), numbers, or masks (1, H, W) of each
    picture's size in which 0 is what no run covers. Groups come
    from the column of ``data.groups`` where that names no file. Told to ``reading.bad``, with the line: too few or
    too many cells, a pixel that does not fit, a label that is no class, an id that is empty or there twice, an id without
    its picture, a picture that cannot be used, runs that cannot be a mask, masks of two classes that overlap.
    """
    table = _Table.train(data, reading.folder)
    if data.train.rle is not None:
        found = list(_masked(table, class_names(reading.classes, data.values), reading))
    else:
        answers = answers_of(reading, data.train.target, data.values)
        table = replace(table, questions=answers.columns)
        if data.train.pixels is not None:
            yield from _pixels(table, data, answers, 0, reading)
            return
        found = list(_labelled(table, answers, reading))
    groups = {row.id: cells.group for cells, row in found}
    for chunk in decoded("data.train.image", [row for _, row in found], data, reading):
        yield replace(chunk, groups=[groups[name] for name in chunk.ids]) if table.group is not None else chunk


def read_test(data: TableData, reading: Reading) -> Chunks:
    """The test rows, as ``read_train`` but without targets and groups."""
    table = _Table.test(data, reading.folder)
    if table.role.pixels is not None:
        yield from _pixels(table, data, None, reading.first_id, reading)
    else:
        rows = [row for _, row in _labelled(table, None, reading)]
        yield from decoded("data.test.image", rows, data, reading)


# ---------------------------------------------------------------- the cells of a row


class _BadRow(ValueError):
    """A row that cannot be used, said in one sentence with the file, the line and the way out."""


class _Cells(NamedTuple):
    """What the columns that are asked for hold in one row; "" for the others."""

    line: int
    id: str
    target: str = ""
    rle: str = ""
    mask_class: str = ""
    group: str = ""
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Table:
    """One part's table; group: its column of groups, where it holds them. questions: columns of one answer each.
    first_lines: where each id was met. broken: ids of rows that could not be read."""

    path: Path
    role: TableRole
    part: Part
    group: str | None = None
    questions: tuple[str, ...] = ()
    first_lines: dict[str, int] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)

    @classmethod
    def train(cls, data: TableData, folder: Path) -> _Table:
        group = data.groups.column if data.groups is not None and data.groups.file is None else None
        return cls(table_path(folder, data.train.file), data.train, "train", group)

    @classmethod
    def test(cls, data: TableData, folder: Path) -> _Table:
        if data.test is None:
            raise ValueError("the competition has no test images")
        return cls(table_path(folder, data.test.file), data.test, "test")

    @cached_property
    def columns(self) -> dict[str, tuple[str, str]]:
        """Field of ``_Cells`` → the column's name and the setting that says so."""
        role = {
            "id": self.role.id,
            "target": self.role.target,
            "rle": self.role.rle,
            "mask_class": self.role.mask_class,
        }
        named = {name: (column, f"data.{self.part}.{name}") for name, column in role.items() if column is not None}
        named |= {"group": (self.group, "data.groups.column")} if self.group is not None else {}
        return named | {f"{QUESTION}{name}": (name, "classes") for name in self.questions}

    def cells(self, line: int, found: Mapping[str, str]) -> _Cells:
        """A row's cells, given what stands in ``columns``."""
        answers = tuple(found[f"{QUESTION}{name}"] for name in self.questions)
        return _Cells(line, answers=answers, **{k: text for k, text in found.items() if not k.startswith(QUESTION)})

    def read(self, bad: Callable[[str], None]) -> Iterator[_Cells]:
        """The rows' cells; ``bad`` is told of rows that have too few or too many."""
        with opened(self.path) as table:
            at = {name: table.column(column, key) for name, (column, key) in self.columns.items()}
            for row in table.rows():
                complaint = miscounted(table, row)
                if complaint is None:
                    yield self.cells(row.line, {name: row.cells[i].strip() for name, i in at.items()})
                    continue
                bad(complaint)
                if "id" in at and at["id"] < len(row.cells):  # of several masks of one image none may be lost unseen
                    self.broken.add(row.cells[at["id"]].strip())

    def where(self, cells: _Cells, name: str | None = None) -> str:
        """The beginning of a complaint about a row, or about its cell ``name``."""
        return f"{self.path}, line {cells.line}, id '{cells.id}'" + (
            f": column '{self.columns[name][0]}'" if name else ""
        )

    def check(self, cells: _Cells, first: bool = True) -> None:
        """Raise where the id or the group is missing, or, unless not the ``first`` row is meant, the id is not new."""
        if not cells.id:
            raise _BadRow(f"{self.path}, line {cells.line}: column '{self.role.id}' is empty; every row needs an id")
        if self.group is not None and not cells.group:
            raise _BadRow(f"{self.where(cells, 'group')} is empty; every row needs a group")
        line = self.first_lines.setdefault(cells.id, cells.line)
        if first and line != cells.line:
            raise _BadRow(f"{self.where(cells)}: the id stands on line {line} already; remove one of the rows")

    def class_in(self, name: str, cells: _Cells, names: ClassNames) -> int:
        """The index of the class that the cell ``name`` means."""
        try:
            return names.index(getattr(cells, name))
        except ValueError as error:
            raise _BadRow(f"{self.where(cells, name)} {error}") from None

    def target_of(self, cells: _Cells, answers: Answers) -> np.ndarray:
        """The target (1, K, 1) that a row gives its image."""
        try:
            return answers.target(cells.target, cells.answers)
        except ValueError as error:
            raise _BadRow(f"{self.where(cells, 'target' if 'target' in self.columns else None)} {error}") from None

    def picture(self, cells: _Cells, pictures: PicturesById) -> Path:
        """The picture of a row's id."""
        try:
            return pictures.find(cells.id)
        except ValueError as error:
            raise _BadRow(f"{self.where(cells)}: {error}") from None


# ---------------------------------------------------------------- pixels in the table


def _pixels(table: _Table, data: TableData, answers: Answers | None, first_id: int, reading: Reading) -> Chunks:
    assert table.role.pixels is not None and data.shape is not None
    height, width = data.shape
    wanted = dict(table.columns.values())
    good = 0
    for rows in read_pixels(table.path, table.role.pixels, wanted, height * width, data.dtype, reading.bad):
        columns = {name: rows.texts[column] for name, (column, _) in table.columns.items()}
        if table.role.id is None:
            columns["id"] = [str(number + first_id) for number in rows.numbers]
        kept: list[tuple[int, _Cells, np.ndarray | None]] = []
        for i, (line, *texts) in enumerate(zip(rows.lines, *columns.values(), strict=True)):
            cells = table.cells(line, dict(zip(columns, texts, strict=True)))
            try:
                table.check(cells)
                kept.append((i, cells, None if answers is None else table.target_of(cells, answers)))
            except _BadRow as error:
                reading.bad(str(error))
        reading.progress(rows.numbers[-1] + 1, rows.of)
        if kept:
            good += len(kept)
            at, found, targets = zip(*kept, strict=True)
            pixels = rows.pixels if len(kept) == len(rows.pixels) else rows.pixels[list(at)]
            yield Chunk(
                [cells.id for cells in found],
                pixels.reshape(-1, 1, height, width),
                None if answers is None else np.stack(targets),
                None if table.group is None else [cells.group for cells in found],
            )
    if not good:
        why = reading.bad.skipped[-1] if reading.bad.skipped else "there are none"
        raise UserError(f"{table.path}: no row can be used, the last because {why}")


# ---------------------------------------------------------------- pictures beside the table


def _labelled(table: _Table, answers: Answers | None, reading: Reading) -> Iterator[tuple[_Cells, Row]]:
    """The good rows of a table with one row per picture; without ``answers``, rows without targets."""
    assert table.role.image is not None
    pictures = PicturesById(reading.folder, table.role.image)
    for cells in table.read(reading.bad):
        try:
            table.check(cells)
            target = None if answers is None else partial(_whole, table.target_of(cells, answers))
            yield cells, Row(cells.id, table.picture(cells, pictures), target)
        except _BadRow as error:
            reading.bad(str(error))


def _whole(target: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return target


def _masked(table: _Table, names: ClassNames, reading: Reading) -> Iterator[tuple[_Cells, Row]]:
    """One row per picture, of all the table's rows with its id; one of them that is bad takes the others along."""
    assert table.role.image is not None
    pictures = PicturesById(reading.folder, table.role.image)
    by_id: dict[str, list[_Cells]] = {}
    for cells in table.read(reading.bad):
        by_id.setdefault(cells.id, []).append(cells)
    for name, rows in by_id.items():
        if name in table.broken:
            reading.bad(f"{table.where(rows[0])}: another row of this id cannot be read; correct that row")
            continue
        try:
            runs = [(cells, _class_of(table, cells, rows[0], names)) for cells in rows]
            path = table.picture(rows[0], pictures)
        except _BadRow as error:
            reading.bad(str(error))
            continue
        yield rows[0], Row(rows[0].id, path, partial(_mask, table, runs, reading.classes))


def _class_of(table: _Table, cells: _Cells, first: _Cells, names: ClassNames) -> int:
    """The class of a row's runs; raises where it is none, or where the row is not of the id's ``first`` row's group."""
    table.check(cells, first=False)
    if cells.group != first.group:
        raise _BadRow(
            f"{table.where(cells, 'group')} is '{cells.group}' here and '{first.group}' on line {first.line}; "
            f"an image is of one group"
        )
    if table.role.mask_class is None or not (cells.rle or cells.mask_class):
        return 1
    return table.class_in("mask_class", cells, names)


def _mask(
    table: _Table, runs: Sequence[tuple[_Cells, int]], classes: Sequence[str], size: tuple[int, int]
) -> np.ndarray:
    """The mask (1, H, W) of a picture of ``size``: the class of the runs that cover a pixel, 0 where there is none."""
    mask, covered = np.zeros(size, np.uint8), np.zeros(size, np.bool_)
    for cells, index in runs:
        try:
            inside = decode(cells.rle, *size)
        except ValueError as error:
            raise BadPicture(f"{table.where(cells, 'rle')} {error}; correct the mask or remove its rows") from None
        clash = inside & covered & (mask != index)
        if clash.any():
            y, x = np.unravel_index(int(clash.argmax()), size)
            raise BadPicture(
                f"{table.where(cells)}: the mask of class '{classes[index]}' overlaps one of '{classes[mask[y, x]]}', "
                f"first in pixel ({y}, {x}); a pixel is of one class, correct the masks or remove their rows"
            )
        mask[inside] = index
        covered |= inside
    return mask[None]
