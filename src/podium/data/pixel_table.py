"""Tables with an image's pixels in columns, as MNIST comes: a block of lines at a time, by arithmetic on its bytes.

A block that holds nothing but whole numbers where the pixels are is never split into texts: the ends of its cells are
found at once, and the digits before them added up with their weights. Whatever else a block holds (quotes, decimals,
empty lines, mistakes) sends it through the csv module, cell by cell, which also finds what to complain about.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import itemgetter
from pathlib import Path

import numpy as np

from podium.data.chunk import PIXELS, Bad
from podium.data.csv_rows import Row, Table, miscounted, opened, read_rows
from podium.errors import UserError

BLOCK_BYTES = 1 << 18
"""Enough for numpy's overheads to vanish, little enough for a processor's cache."""
COMMA, NEWLINE, ZERO = (np.uint8(ord(c)) for c in ",\n0")
DIGITS = {"uint8": 3, "uint16": 5, "float32": 7}
"""The longest whole numbers that are read by arithmetic; float32 holds those of seven digits exactly."""
TOPS = {"uint8": 255, "uint16": 65535}


@dataclass(frozen=True, eq=False)
class PixelRows:
    """Some rows of a table, in order.

    numbers: of the rows, from 0, bad ones counted. lines: in the file, from 1. texts: of each column that was asked
    for, a text per row. pixels: (n, P) in the order of the pixels' numbers.
    """

    numbers: Sequence[int]
    lines: Sequence[int]
    texts: dict[str, list[str]]
    pixels: np.ndarray
    of: int
    """About how many rows there are in all."""


def read_pixels(
    path: Path, prefix: str, columns: dict[str, str], count: int, dtype: str, bad: Bad
) -> Iterator[PixelRows]:
    """The rows of a csv or csv.gz that has ``count`` pixels in columns called ``prefix`` and a number.

    columns: further columns that are wanted, each with the setting that names it. dtype: ``uint8``, ``uint16`` or
    ``float32``; every pixel must be a whole number in its range, or any finite number. A row that is not so, or has
    too few or too many cells, is bad, with its line. Memory does not grow with the file.
    """
    with opened(path) as table:
        wanted = {name: table.column(name, key) for name, key in columns.items()}
        reader = _Reader(table, _pixel_columns(table, prefix, count), wanted, dtype, bad)
        number, line = 0, table.first_line
        while block := table.stream.read(BLOCK_BYTES):
            block += table.stream.readline()
            rows = reader.plain(block, number, line)
            if rows is None:
                rows, seen, lines = reader.careful(block, number, line)
            else:
                seen = lines = len(rows.lines)
            number, line = number + seen, line + lines
            if len(rows.lines):
                yield rows


def _pixel_columns(table: Table, prefix: str, count: int) -> np.ndarray:
    """int64 (count,): where the pixels' columns are, by their numbers, which must follow one another."""
    found: dict[int, int] = {}
    for position, name in enumerate(table.header):
        suffix = name.removeprefix(prefix)
        if name.startswith(prefix) and suffix.isascii() and suffix.isdigit():
            other = found.setdefault(int(suffix), position)
            if other != position:
                raise UserError(
                    f"{table.path}: columns '{table.header[other]}' and '{name}' are the same pixel; leave one of them"
                )
    if not found:
        raise UserError(
            f"{table.path}: no column is called '{prefix}' and a number, the first are "
            f"{', '.join(table.header[:4])}; correct pixels"
        )
    first, last = min(found), max(found)
    missing = next((number for number in range(first, last) if number not in found), None)
    if missing is not None:
        raise UserError(
            f"{table.path}: has columns {prefix}{first} to {prefix}{last}, but no {prefix}{missing}; fetch it again"
        )
    if len(found) != count:
        raise UserError(
            f"{table.path}: has {len(found)} pixel columns, {prefix}{first} to {prefix}{last}, where data.shape asks "
            f"for {count}; correct data.shape"
        )
    return np.array([found[number] for number in range(first, last + 1)], np.int64)


@dataclass(frozen=True, eq=False)
class _Reader:
    """The two ways in which a block of whole lines becomes rows."""

    table: Table
    pixels: np.ndarray
    texts: dict[str, int]
    dtype: str
    bad: Bad

    @cached_property
    def pick(self) -> Callable[[Sequence[str]], Sequence[str]]:
        """Takes the pixels' cells out of a row's."""
        if len(self.pixels) == 1:
            return lambda cells: (cells[self.pixels[0]],)
        return itemgetter(*self.pixels.tolist())

    def plain(self, block: bytes, number: int, line: int) -> PixelRows | None:
        """The rows of a block in which nothing is unusual; None where something is."""
        if b'"' in block:
            return None
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        if not block.endswith(b"\n"):
            block += b"\n"
        width = len(self.table.header)
        text = np.frombuffer(block, np.uint8)
        digits = text - ZERO  # all but digits wrap around to more than 9
        separators = (text == COMMA) | (text == NEWLINE)
        ends = np.flatnonzero(separators)
        if len(ends) % width:
            return None
        kinds = text[ends].reshape(-1, width)
        if (kinds[:, -1] != NEWLINE).any() or (kinds[:, :-1] != COMMA).any():
            return None
        others = np.flatnonzero((digits > 9) ^ separators)
        if len(others):
            inside = np.zeros(width, np.bool_)
            inside[self.pixels] = True
            if inside[np.searchsorted(ends, others) % width].any():
                return None
        starts = np.empty_like(ends)
        starts[0], starts[1:] = 0, ends[:-1] + 1
        cells = starts.reshape(-1, width), ends.reshape(-1, width)
        pixels = _numbers(digits, *cells, self.pixels, self.dtype)
        if pixels is None:
            return None
        try:
            texts = {
                name: [
                    block[start:end].decode().strip()
                    for start, end in zip(*(edges[:, at].tolist() for edges in cells), strict=True)
                ]
                for name, at in self.texts.items()
            }
        except UnicodeDecodeError:
            return None
        rows = len(pixels)
        return PixelRows(
            range(number, number + rows), range(line, line + rows), texts, pixels, self.table.estimate(number + rows)
        )

    def careful(self, block: bytes, number: int, line: int) -> tuple[PixelRows, int, int]:
        """The good rows of a block, and how many rows and lines there were.

        Where the last line of the block ends within quotes, the row is read to its end from the file.
        """
        own = block.count(b"\n") + (not block.endswith(b"\n"))
        read = 0

        def lines() -> Iterator[bytes]:
            nonlocal read
            for one in chain(io.BytesIO(block), iter(self.table.stream.readline, b"")):
                read += 1
                yield one

        seen, numbers, at, kept, images = 0, [], [], [], []
        for row in read_rows(self.table.path, lines(), line):
            complaint = miscounted(self.table, row)
            if complaint is None:
                image, complaint = self._image(row)
            if complaint is None:
                numbers.append(number + seen)
                at.append(row.line)
                kept.append(row)
                images.append(image)
            else:
                self.bad(complaint)
            seen += 1
            if read >= own:
                break
        texts = {name: [row.cells[column].strip() for row in kept] for name, column in self.texts.items()}
        pixels = np.array(images, PIXELS[self.dtype]).reshape(len(kept), len(self.pixels))
        return PixelRows(numbers, at, texts, pixels, self.table.estimate(number + seen)), seen, read

    def _image(self, row: Row) -> tuple[np.ndarray | None, str | None]:
        """The pixels of a row, or what is wrong with them."""
        cells = self.pick(row.cells)
        joined = "".join(cells)
        try:
            if "_" in joined or not joined.isascii():  # Python would read 1_000 and the digits of other scripts
                raise ValueError
            values = np.fromiter(map(float, cells), np.float64, len(cells))
        except ValueError:
            return None, self._complaint(row)
        with np.errstate(invalid="ignore", over="ignore"):  # the comparison afterwards finds what does not fit
            cast = values.astype(PIXELS[self.dtype])
        good = np.isfinite(cast).all() if self.dtype == "float32" else (cast == values).all()
        return (cast, None) if good else (None, self._complaint(row))

    def _complaint(self, row: Row) -> str:
        """The sentence about the first cell of a row that does not fit."""
        for at in self.pixels:
            cell = row.cells[at].strip()
            fault = _fault(cell, self.dtype)
            if fault is not None:
                shown = cell if len(cell) <= 40 else cell[:40] + "…"
                said = f"is '{shown}', {fault}" if cell else "is empty; every pixel needs a value"
                return f"{self.table.path}, line {row.line}: column '{self.table.header[at]}' {said}"
        raise ValueError("a row without fault")


def _numbers(
    digits: np.ndarray, starts: np.ndarray, ends: np.ndarray, columns: np.ndarray, dtype: str
) -> np.ndarray | None:
    """Values (n, columns) of cells that hold digits only; None where one is empty or has too many, or is too large.

    digits: uint8, of every byte of a block. starts, ends: (n, all columns), of its cells.
    """
    first, last = int(columns[0]), int(columns[-1])
    span = slice(first, last + 1) if (np.diff(columns) == 1).all() else columns
    ends = ends[:, span]
    lengths = ends - starts[:, span]
    longest = int(lengths.max())
    if lengths.min() < 1 or longest > DIGITS[dtype]:
        return None
    places, sizes = ends.ravel(), lengths.ravel()
    values = digits[places - 1].astype(np.uint16 if dtype == "uint8" else np.uint32)
    for place in range(2, longest + 1):
        longer = np.flatnonzero(sizes >= place)
        values[longer] += digits[places[longer] - place] * values.dtype.type(10 ** (place - 1))
    if dtype in TOPS and values.max() > TOPS[dtype]:
        return None
    return values.astype(PIXELS[dtype]).reshape(ends.shape)


def _fault(cell: str, dtype: str) -> str | None:
    """What is wrong with a pixel's text, and the way out."""
    try:
        if "_" in cell or not cell.isascii():
            raise ValueError
        value = float(cell)
    except ValueError:
        return "not a number; correct it"
    if not math.isfinite(value):
        return "not a finite number; correct it"
    if dtype == "float32":
        return "beyond float32; scale the images" if abs(value) > float(np.finfo(np.float32).max) else None
    top = TOPS[dtype]
    if value < 0 or value > top:
        others = "uint16 or float32" if dtype == "uint8" else "float32"
        return f"outside 0 to {top}; scale the images, or set data.dtype: {others}"
    if value != int(value):
        return f"not a whole number; scale the images to 0 to {top} and round, or set data.dtype: float32"
    return None
