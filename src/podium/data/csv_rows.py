"""Tables in csv, packed with gzip or not, as rows of text that know their line."""

from __future__ import annotations

import csv
import difflib
import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple

from podium.errors import UserError, did_you_mean

BOM = b"\xef\xbb\xbf"
SHOWN = 12
"""Column names that an error message lists at most."""


class Row(NamedTuple):
    """One row: the number of its first line, counted from 1, and its cells as they stand."""

    line: int
    cells: list[str]


@dataclass(frozen=True, eq=False)
class Table:
    """An opened table whose header has been read; ``stream`` stands at the line after it."""

    path: Path
    stream: IO[bytes]
    packed: IO[bytes]
    header: tuple[str, ...]
    first_line: int

    def column(self, name: str, key: str) -> int:
        """Position of a column that must be there exactly once; ``key`` is the setting that names it."""
        found = [i for i, other in enumerate(self.header) if other == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"{self.path}: {len(found)} columns are called '{name}'; leave the one that is meant")
        near = difflib.get_close_matches(name, self.header, n=1, cutoff=0.5)
        shown = self.header if len(self.header) <= SHOWN else (*near, *self.header[:SHOWN], "…")
        raise UserError(f"{self.path}: has no column '{name}'; correct {key}; {did_you_mean(name, shown)}")

    def rows(self) -> Iterator[Row]:
        """All rows behind the header; empty lines are none. Too few or too many cells are the caller's affair."""
        return read_rows(self.path, self.stream, self.first_line)

    def estimate(self, done: int) -> int:
        """About how many rows there are in all, when ``done`` of them have been read."""
        return max(done, round(done * self.path.stat().st_size / max(1, self.packed.tell())))


def table_path(folder: Path, file: str) -> Path:
    """Where the table ``file`` lies: also packed where its plain name is given, and unpacked where ``.gz`` is."""
    path = folder / file
    other = path.with_name(path.name.removesuffix(".gz") if path.name.endswith(".gz") else f"{path.name}.gz")
    return other if other.is_file() and not path.exists() else path


@contextmanager
def opened(path: Path) -> Iterator[Table]:
    """Open a csv, whether packed with gzip or not, which its first bytes tell, not its name, and read its header.

    Until it is closed, a file that is missing, damaged or something else becomes a UserError of one sentence.
    """
    try:
        with path.open("rb") as packed:
            start = packed.read(2)
            packed.seek(0)
            stream: IO[bytes] = gzip.GzipFile(fileobj=packed) if start == b"\x1f\x8b" else packed  # type: ignore[assignment]
            yield _table(path, stream, packed)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; put it there or name its folder with --data") from None
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); change its permissions") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder where a csv file is expected; move it away") from None
    except (EOFError, OSError, zlib.error) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: is damaged or cut short ({said}); fetch it again") from error


def read_rows(path: Path, lines: Iterable[bytes], first_line: int) -> Iterator[Row]:
    """Rows of ``lines``, the first of which has the number ``first_line``; a quoted cell may go over several."""
    csv.field_size_limit(2**31 - 1)  # the module's own limit of 131,072 characters is less than a mask may need
    reader = csv.reader(_decoded(path, lines, first_line), strict=True)
    line = first_line
    try:
        for cells in reader:
            if cells:
                yield Row(line, cells)
            line = first_line + reader.line_num
    except csv.Error as error:
        raise UserError(f"{path}, line {line}: is no csv ({error}); correct its quotes or line ends") from None


def miscounted(table: Table, row: Row) -> str | None:
    """The sentence about a row with too few or too many cells; None where there are as many as columns."""
    have, wanted = len(row.cells), len(table.header)
    if have == wanted:
        return None
    few = "few" if have < wanted else "many"
    return (
        f"{table.path}, line {row.line}: too {few} values, {have} for {wanted} columns; correct the line or remove it"
    )


def _table(path: Path, stream: IO[bytes], packed: IO[bytes]) -> Table:
    first = stream.readline()
    if not first:
        raise UserError(f"{path}: is empty; fetch it again")
    if b"\0" in first or first.startswith(b"PK\3\4"):
        raise UserError(f"{path}: is no csv; unpack it, or save it as a csv in UTF-8")
    lines = chain([first.removeprefix(BOM)], iter(stream.readline, b""))
    count = 0

    def counted() -> Iterator[bytes]:
        nonlocal count
        for line in lines:
            count += 1
            yield line

    row = next(read_rows(path, counted(), 1), None)
    header = tuple(name.strip() for name in row.cells) if row else ()
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            shown = header[0] if len(header[0]) <= 60 else header[0][:60] + "…"
            raise UserError(f"{path}: holds one column '{shown}', cells parted by {name}; save it with commas")
    return Table(path, stream, packed, header, count + 1)


def _decoded(path: Path, lines: Iterable[bytes], first_line: int) -> Iterator[str]:
    for number, line in enumerate(lines, first_line):
        try:
            yield line.decode()
        except UnicodeDecodeError:
            raise UserError(f"{path}, line {number}: is not written in UTF-8; save the file as UTF-8") from None
