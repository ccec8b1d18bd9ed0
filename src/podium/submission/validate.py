"""The independent check of a submission: what lies on the disk, byte by byte, against what the competition asks for.

Nothing here is shared with the writers: a mistake in one cannot hide in the other.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from podium.config import Competition
from podium.data.ragged import Ragged
from podium.errors import UserError

MOST = 20
"""Errors that are listed; of the others only the number is given."""
ARCHIVES = {b"PK\x03\x04": "zip", b"\x1f\x8b": "gzip"}


@dataclass(frozen=True)
class Report:
    """What the check of a submission found.

    errors: sentences, each naming the line (1-based), the id and the column where there is one; empty for a good file.
    warnings: what is allowed and yet strange or costly.
    rows: rows below the header. counts: pixels predicted per class, over the rows that could be read.
    """

    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    rows: int
    counts: tuple[int, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors


def check_wide_csv(
    path: Path, competition: Competition, ids: np.ndarray, pixels: int, meant: Ragged | None = None, own: bool = True
) -> Report:
    """Read a wide_csv submission from disk and hold it against the test set, line by line.

    Checked are the header (names, number, order, byte order mark), the ids (missing, unknown, twice, out of order), the
    number of columns of each row, that every value is the index of a class, the end of the file, and, where ``meant``
    is given (uint8, (1, H, W) per id, joined by id), every pixel.

    ids: the test set's, in order. pixels: H * W.
    own: the file was made here, so that predicting the unscored class or a missing last line break is an error; in a
    file from elsewhere both are warnings that name their cost.
    A file that cannot be read at all is a UserError.
    """
    if pixels < 1:
        raise ValueError("a submission has at least one pixel per image")
    check = _Check(competition, ids, pixels, meant, own)
    no_pixels = (0,) * len(competition.classes)
    try:
        with path.open("rb", buffering=1 << 20) as file:
            start = file.read(4)
            for magic, kind in ARCHIVES.items():
                if start.startswith(magic):
                    return Report((f"the file is a {kind} archive, expected the csv inside it",), (), 0, no_pixels)
            file.seek(0)
            for number, (line, complete) in enumerate(_lines(file, check.longest), start=1):
                check.line(number, line, complete)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); name an existing csv file") from error
    return check.result()


CHECKS = {"wide_csv": check_wide_csv}
"""The check of each submission format."""


def check_file(path: Path, competition: Competition, test_ids: np.ndarray, pixels: int) -> Report:
    """Check a submission that may come from anywhere; see ``check_wide_csv`` with ``own`` off."""
    if competition.submission is None:
        raise ValueError(f"{competition.name}: has no submission format")
    return CHECKS[competition.submission.format](path, competition, test_ids, pixels, own=False)


def _lines(file: BinaryIO, longest: int) -> Iterator[tuple[bytes, bool]]:
    """The lines of a file, and whether each is complete: of one longer than ``longest`` only the beginning is given."""
    while line := file.readline(longest):
        complete = line.endswith(b"\n") or len(line) < longest
        if not complete:
            while (rest := file.readline(1 << 20)) and not rest.endswith(b"\n"):
                pass
        yield line, complete


class _Check:
    """What is known after the lines read so far."""

    def __init__(self, competition: Competition, ids: np.ndarray, pixels: int, meant: Ragged | None, own: bool) -> None:
        self.competition, self.pixels, self.meant, self.own = competition, pixels, meant, own
        self.position = {name: i for i, name in enumerate(ids.tolist())}
        self.number_of = {str(i): i for i in range(len(competition.classes))}
        self.longest = 1024 + 32 * pixels + 2 * max((len(name.encode()) for name in self.position), default=0)
        self.header_errors: list[str] = []
        self.row_errors: list[str] = []
        self.more_errors = 0
        self.warnings: list[str] = []
        self.rows = self.crlf = 0
        self.line_of: dict[str, int] = {}
        self.last = ""  # the id that is furthest down the test set's order so far
        self.counts = np.zeros(len(competition.classes), np.int64)
        self.forbidden = _Tally()
        self.differing = _Tally()
        self.ended = True

    # ------------------------------------------------------------ line by line

    def line(self, number: int, line: bytes, complete: bool) -> None:
        """Take in one line, its end included."""
        if line.endswith(b"\r\n"):
            self.crlf += 1
            line = line[:-2]
        elif line.endswith(b"\n"):
            line = line[:-1]
        elif complete:
            self.ended = False
        if number == 1:
            self._header(line, complete)
            return
        self.rows += 1
        if not complete:
            self._error(f"line {number} is longer than a row of {1 + self.pixels} columns can be")
            return
        read = self._read_fast(line) or self._read(number, line)
        if read is not None:
            name, values = read
            if self._id(number, name) and values is not None:
                self._pixels(number, name, values)

    def _header(self, line: bytes, complete: bool) -> None:
        assert self.competition.submission is not None
        expected = [self.competition.submission.id, *map(str, range(self.pixels))]
        if line.startswith(b"\xef\xbb\xbf"):
            self.header_errors.append("line 1: the file begins with a byte order mark; save it as UTF-8 without one")
            line = line[3:]
        if not complete:
            self.header_errors.append(f"line 1 is longer than a header of {len(expected)} columns can be")
            return
        try:
            fields = _fields(line)
        except (csv.Error, UnicodeDecodeError) as error:
            self.header_errors.append(f"line 1: the header cannot be read ({error})")
            return
        if len(fields) != len(expected):
            self.header_errors.append(f"line 1: the header has {len(fields)} columns, expected {len(expected)}")
        for place, (found, wanted) in enumerate(zip(fields, expected, strict=False), start=1):
            if found != wanted:
                text = f"line 1: the header's column {place} is {_short(found)}, expected '{wanted}'"
                self.header_errors.append(text)
                break

    def _read_fast(self, line: bytes) -> tuple[str, np.ndarray] | None:
        """The id and values (P,) of a row in which each value is one digit; None where the row is of another kind."""
        cut = len(line) - 2 * self.pixels
        if cut < 0 or b'"' in line or b"," in line[:cut]:
            return None
        cells = np.frombuffer(line, np.uint8, offset=cut)
        digits = cells[1::2] - ord("0")  # whatever is no digit becomes 10 or more, by wrapping around
        if (cells[::2] != ord(",")).any() or digits.max() > 9:
            return None
        try:
            return line[:cut].decode(), digits
        except UnicodeDecodeError:
            return None

    def _read(self, number: int, line: bytes) -> tuple[str, np.ndarray | None] | None:
        """The id and values (P,) of any row, None for what cannot be read; complains about what is wrong with it."""
        try:
            fields = _fields(line)
        except (csv.Error, UnicodeDecodeError) as error:
            self._error(f"line {number} cannot be read ({error})")
            return None
        if not fields:
            self._error(f"line {number} is blank")
            return None
        if len(fields) != 1 + self.pixels:
            self._error(f"line {number} (id {_short(fields[0])}): {len(fields)} columns, expected {1 + self.pixels}")
            return fields[0], None
        values = np.array([self.number_of.get(field, -1) for field in fields[1:]], np.int16)
        wrong = np.flatnonzero(values < 0)
        if len(wrong):
            self._bad_value(number, fields[0], int(wrong[0]), fields[1 + wrong[0]], len(wrong))
            return fields[0], None
        return fields[0], values

    def _bad_value(self, number: int, name: str, column: int, text: str, times: int) -> None:
        more = f", and {times - 1} more such values in this line" if times > 1 else ""
        found = f"holds {_short(text)}" if text.strip() else "is empty"
        most = len(self.competition.classes) - 1
        where = f"line {number} (id {_short(name)}), column '{column}'"
        self._error(f"{where} {found}, expected an integer from 0 to {most}{more}")

    def _id(self, number: int, name: str) -> bool:
        """Whether this id is of the test set and new."""
        if name not in self.position:
            self._error(f"line {number}: id {_short(name)} is not in the test set")
            return False
        if name in self.line_of:
            self._error(f"line {number}: id {_short(name)} was already in line {self.line_of[name]}")
            return False
        self.line_of[name] = number
        if self.last and self.position[name] < self.position[self.last]:
            after = f"comes after id {_short(self.last)}, expected the test set's order"
            self._error(f"line {number}: id {_short(name)} {after}")
        else:
            self.last = name
        return True

    def _pixels(self, number: int, name: str, values: np.ndarray) -> None:
        """Count the classes of a row and compare it with what was meant."""
        classes = len(self.counts)
        if values.max() >= classes:
            wrong = np.flatnonzero(values >= classes)
            self._bad_value(number, name, int(wrong[0]), str(values[wrong[0]]), len(wrong))
            return
        counts = np.bincount(values, minlength=classes)
        self.counts += counts
        unscored = self.competition.unscored_index
        if unscored is not None and counts[unscored]:
            self.forbidden.add(number, name, values == unscored)
        if self.meant is not None and name in self.meant.index:
            meant = self.meant[self.meant.index[name]].reshape(-1)
            if len(meant) != len(values):
                self._error(f"line {number} (id {_short(name)}): {len(values)} pixels, meant were {len(meant)}")
            elif (differs := values != meant).any():
                self.differing.add(number, name, differs, f"is {values[differs][0]}, meant was {meant[differs][0]}")

    def _error(self, text: str) -> None:
        if len(self.row_errors) < MOST:
            self.row_errors.append(text)
        else:
            self.more_errors += 1

    # ------------------------------------------------------------ the whole

    def result(self) -> Report:
        """The verdict after the last line."""
        whole = self._whole()
        room = max(0, MOST - len(self.header_errors) - len(whole))
        listed = [*self.header_errors, *self.row_errors[:room], *whole]
        more = self.more_errors + max(0, len(self.row_errors) - room)
        if more:
            listed.append(f"and {more} more")
        predicted = np.flatnonzero(self.counts)
        if len(predicted) == 1:
            self.warnings.append(f"every pixel is predicted '{self.competition.classes[predicted[0]]}'")
        if self.crlf:
            self.warnings.append(f"{self.crlf} lines end with CRLF, expected LF")
        return Report(tuple(listed), tuple(self.warnings), self.rows, tuple(self.counts.tolist()))

    def _whole(self) -> list[str]:
        """Errors that concern the file and not one of its lines; adds to the warnings what is only one."""
        errors = []
        missing = [name for name in self.position if name not in self.line_of]
        if missing:
            errors.append(f"{len(missing)} of {len(self.position)} ids are missing, the first is {_short(missing[0])}")
        if self.rows != len(self.position):
            errors.append(f"{self.rows} rows below the header, expected {len(self.position)}")
        if not self.ended:
            text = "the last line has no line break at its end: the file may be cut off"
            (errors if self.own else self.warnings).append(text)
        if self.forbidden.pixels:
            self._judge_forbidden(errors)
        if self.differing.pixels:
            errors.append(f"{self.differing}: not what was meant")
        if self.meant is not None:
            not_meant = [name for name in self.position if name not in self.meant.index]
            if not_meant:
                errors.append(f"{len(not_meant)} ids of the test set have no labels, first {_short(not_meant[0])}")
        return errors

    def _judge_forbidden(self, errors: list[str]) -> None:
        unscored = self.competition.unscored_index
        label = f"label {unscored} ({self.competition.unscored})"
        text = f"{self.forbidden}: {label} is never scored and must not be predicted"
        if self.own:
            errors.append(text)
        elif self.competition.metric.convention == "keras":
            scored = len(self.competition.scored)
            self.warnings.append(
                f"{text}: under the keras convention one such pixel brings the class into the mean with IoU 0, which "
                f"multiplies the score by {scored}/{scored + 1}"
            )
        else:
            self.warnings.append(f"{text}: every such pixel that has a label is a miss")


class _Tally:
    """How many pixels of how many rows, and where the first is."""

    def __init__(self) -> None:
        self.pixels = self.rows = 0
        self.first = ""

    def add(self, number: int, name: str, where: np.ndarray, said: str = "") -> None:
        """Count a row in which ``where`` (P,) is true for some pixels."""
        if not self.rows:
            self.first = f"line {number} (id {_short(name)}), column '{int(where.argmax())}' {said}".rstrip()
        self.rows += 1
        self.pixels += int(np.count_nonzero(where))

    def __str__(self) -> str:
        pixels = "one pixel" if self.pixels == 1 else f"{self.pixels} pixels"
        rows = "one row" if self.rows == 1 else f"{self.rows} rows"
        return f"{self.first} ({pixels} in {rows})"


def _fields(line: bytes) -> list[str]:
    """The fields of one line by the rules of csv."""
    return next(csv.reader([line.decode()], strict=True), [])


def _short(text: str) -> str:
    """A foreign text for a message: quoted, of bounded length, without control characters."""
    return repr(text if len(text) <= 40 else text[:37] + "...")
