"""What the checks of csv formats share: reading line by line, the header, the ids, the end of the file."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from podium.errors import UserError
from podium.submission.checks.report import Findings, Ids, Report, short

ARCHIVES = {b"PK\x03\x04": "zip", b"\x1f\x8b": "gzip"}


class CsvFile:
    """What is known of a csv file after the lines read so far.

    columns: of the header. names: of the rows, in order. longest: bytes that a row may have; of longer ones only the
    beginning is ever held. own: the file was made here, so that a missing last line break is an error, not a warning.
    """

    def __init__(self, columns: Sequence[str], names: Sequence[str], longest: int, own: bool) -> None:
        self.columns, self.longest, self.own = list(columns), longest, own
        self.findings = Findings()
        self.ids = Ids(names, self.findings)
        self.rows = self.crlf = 0
        self.archive = False
        self._ended = True

    def read(self, path: Path, row: Callable[[int, bytes], None]) -> None:
        """Hold the header against ``columns`` and hand over each row's line number and bytes, without its end.

        A file that cannot be read at all is a UserError, an archive is an error of the file.
        """
        try:
            with path.open("rb", buffering=1 << 20) as file:
                start = file.read(4)
                for magic, kind in ARCHIVES.items():
                    if start.startswith(magic):
                        self.findings.head.append(f"the file is a {kind} archive, expected the csv inside it")
                        self.archive = True
                        return
                file.seek(0)
                for number, (line, complete) in enumerate(_lines(file, self.longest), start=1):
                    self._line(number, line, complete, row)
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
        """Whether a row's id is of the test set and new; complains where it is not, or out of order."""
        return self.ids.take(f"line {number}: id {short(name)}", name, f"in line {number}")

    def bad(self, number: int, name: str, column: str, text: str, expected: str, more: str = "") -> None:
        """Complain about the value in a column."""
        found = f"holds {short(text)}" if text.strip() else "is empty"
        self.findings.error(f"{place(number, name)}, column '{column}' {found}, expected {expected}{more}")

    def close(self) -> None:
        """Note what concerns the file and not one of its lines."""
        if self.archive:
            return
        self.ids.close()
        if self.rows != len(self.ids.position):
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


def _lines(file: BinaryIO, longest: int) -> Iterator[tuple[bytes, bool]]:
    """The lines of a file, and whether each is complete: of one longer than ``longest`` only the beginning is given."""
    while line := file.readline(longest):
        complete = line.endswith(b"\n") or len(line) < longest
        if not complete:
            while (rest := file.readline(1 << 20)) and not rest.endswith(b"\n"):
                pass
        yield line, complete


def _fields(line: bytes) -> list[str]:
    """The fields of one line by the rules of csv."""
    return next(csv.reader([line.decode()], strict=True), [])
