"""What the checks of csv formats share: reading line by line, the header, the ids, the end of the file."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from podium.config_submission_formats import CsvFormat
from podium.errors import UserError
from podium.submission.checks.archives import BadArchive, Unpacked, csv_inside
from podium.submission.checks.report import Findings, Ids, Report, short


class CsvFile:
    """What is known of a csv file after the lines read so far.

    settings: of its format. columns: of the header. names: of the rows, in order. longest: bytes that a row may have; of
    longer ones only the beginning is ever held. own: the file was made here, so that a missing last line break is an
    error, not a warning. room: bytes that all rows may have, where rows share names; else each name has one row.
    """

    def __init__(
        self,
        settings: CsvFormat,
        columns: Sequence[str],
        names: Sequence[str],
        longest: int,
        own: bool,
        room: int | None = None,
    ) -> None:
        self.compress, self.columns, self.longest, self.own = settings.compress, list(columns), longest, own
        self.shared = room is not None
        self.room = longest + (longest * len(names) if room is None else room)
        """Bytes that such a file can have: what more comes out of an archive is not looked at."""
        self.findings = Findings()
        self.ids = Ids(names, self.findings)
        self.rows = self.crlf = 0
        self.opened = False
        self._latest = ("", False)  # the id of the row before and whether it was good, where rows may share one
        self._ended = True

    def read(self, path: Path, row: Callable[[int, bytes], None]) -> None:
        """Hold the header against ``columns`` and hand over each row's line number and bytes, without its end.

        A file that cannot be read at all is a UserError; one that is packed otherwise than ``compress`` says, is damaged or
        unpacks to more than such a csv can be is an error of the file.
        """
        try:
            with path.open("rb", buffering=1 << 20) as file, csv_inside(file, self.compress) as content:
                self.opened = True
                for number, (line, complete) in enumerate(_lines(content, self.longest, self.room), start=1):
                    self._line(number, line, complete, row)
        except BadArchive as error:
            self.findings.head.append(str(error))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error}); name an existing csv file") from error

    def fields(self, number: int, line: bytes) -> list[str] | None:
        """The fields of a row; None, after a complaint, where it has not as many as the header should."""
        try:
            fields = _fields(line)
        except (csv.Error, UnicodeDecodeError) as error:
            self.findings.error(f"line {number} cannot be read ({error})")
            return None
        if not fields:
            self.findings.error(f"line {number} is blank")
            return None
        if len(fields) != len(self.columns):
            found, expected = len(fields), len(self.columns)
            self.findings.error(f"{place(number, fields[0])}: {found} columns, expected {expected}")
            self.take(number, fields[0])
            return None
        return fields

    def take(self, number: int, name: str) -> bool:
        """Whether a row's id is of the test set and new, or shared with the row before; complains where it is not, or out of
        order.
        """
        if not self.shared or name != self._latest[0]:
            good = self.ids.take(f"line {number}: id {short(name)}", name, f"in line {number}")
            self._latest = name, good
        return self._latest[1]

    def bad(self, number: int, name: str, column: str, text: str, expected: str, more: str = "") -> None:
        """Complain about the value in a column."""
        found = f"holds {short(text)}" if text.strip() else "is empty"
        self.findings.error(f"{place(number, name)}, column '{column}' {found}, expected {expected}{more}")

    def close(self, all_needed: bool = True) -> None:
        """Note what concerns the file and not one of its lines. all_needed: whether every name has a row."""
        if all_needed:
            self.ids.close()
        if not self.shared and self.rows != len(self.ids.position):
            self.findings.whole.append(f"{self.rows} rows below the header, expected {len(self.ids.position)}")
        if not self._ended:
            text = "the last line has no line break at its end: the file may be cut off"
            (self.findings.whole if self.own else self.findings.warnings).append(text)

    def report(self, counts: Sequence[int] | np.ndarray) -> Report:
        """The verdict."""
        if self.crlf:
            self.findings.warnings.append(f"{self.crlf} lines end with CRLF, expected LF")
        return self.findings.report(self.rows, counts)

    def _line(self, number: int, line: bytes, complete: bool, row: Callable[[int, bytes], None]) -> None:
        if line.endswith(b"\r\n"):
            self.crlf += 1
            line = line[:-2]
        elif line.endswith(b"\n"):
            line = line[:-1]
        elif complete:
            self._ended = False
        if number == 1:
            self._header(line, complete)
            return
        self.rows += 1
        if complete:
            row(number, line)
        else:
            self.findings.error(f"line {number} is longer than a row of {len(self.columns)} columns can be")

    def _header(self, line: bytes, complete: bool) -> None:
        errors, expected = self.findings.head, self.columns
        if line.startswith(b"\xef\xbb\xbf"):
            errors.append("line 1: the file begins with a byte order mark; save it as UTF-8 without one")
            line = line[3:]
        if not complete:
            errors.append(f"line 1 is longer than a header of {len(expected)} columns can be")
            return
        try:
            fields = _fields(line)
        except (csv.Error, UnicodeDecodeError) as error:
            errors.append(f"line 1: the header cannot be read ({error})")
            return
        if len(fields) != len(expected):
            errors.append(f"line 1: the header has {len(fields)} columns, expected {len(expected)}")
        for at, (found, wanted) in enumerate(zip(fields, expected, strict=False), start=1):
            if found != wanted:
                errors.append(f"line 1: the header's column {at} is {short(found)}, expected '{wanted}'")
                break


def place(number: int, name: str) -> str:
    """The beginning of a sentence about a row."""
    return f"line {number} (id {short(name)})"


def longest_of(names: Sequence[str]) -> int:
    """Bytes that the longest of some texts may take in a row, quoted."""
    return 2 + 2 * max((len(name.encode(errors="replace")) for name in names), default=0)


def _lines(file: BinaryIO | Unpacked, longest: int, room: int) -> Iterator[tuple[bytes, bool]]:
    """The lines of a file, and whether each is complete: of one longer than ``longest`` only the beginning is given.

    A BadArchive after ``room`` bytes.
    """
    read = 0
    while line := file.readline(longest):
        read += len(line)
        complete = line.endswith(b"\n") or len(line) < longest
        if not complete:
            while read <= room and (rest := file.readline(1 << 20)):
                read += len(rest)
                if rest.endswith(b"\n"):
                    break
        yield line, complete
        if read > room:
            raise BadArchive(f"the file has more than {room} bytes of text, which no csv of its rows can have")


def _fields(line: bytes) -> list[str]:
    """The fields of one line by the rules of csv."""
    return next(csv.reader([line.decode()], strict=True), [])
