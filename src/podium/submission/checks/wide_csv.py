"""The check of format wide_csv: one row per image, an id and one column per pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from podium.config import Competition
from podium.config_submission_formats import WideCsv
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.submission.checks.csv_file import CsvFile, longest_of, place
from podium.submission.checks.report import Report, Tally, judge_differing, judge_meant, judge_unscored


def check_wide_csv(
    path: Path,
    competition: Competition,
    ids: np.ndarray,
    shapes: np.ndarray,
    meant: Ragged | None = None,
    own: bool = True,
) -> Report:
    """Read a wide_csv submission from disk and hold it against the test set, line by line.

    Checked are the header (names, number, order, byte order mark), the ids (missing, unknown, twice, out of order), the
    number of columns of each row, that every value is the index of a class, the end of the file, and, where ``meant``
    is given (uint8, (1, H, W) per id, joined by id), every pixel.

    ids: the test set's, in order. shapes: (N, 3), the C, H, W of its images, all of one size.
    own: the file was made here, so that predicting the unscored class or a missing last line break is an error; in a
    file from elsewhere both are warnings that name their cost.
    A file that cannot be read at all, and test images of several sizes, are a UserError.
    """
    sizes = {height * width for _, height, width in shapes.tolist()}
    if len(shapes) != len(ids) or min(sizes, default=0) < 1:
        raise ValueError("a submission has at least one pixel per image, and every id a shape")
    if len(sizes) > 1:
        raise UserError(
            f"{competition.name}: submission.format wide_csv needs test images of one size, these have several; correct "
            f"the format"
        )
    check = _Check(competition, ids, sizes.pop(), meant, own)
    check.file.read(path, check.row)
    return check.result(ids)


class _Check:
    """What is known after the rows read so far."""

    def __init__(self, competition: Competition, ids: np.ndarray, pixels: int, meant: Ragged | None, own: bool) -> None:
        settings = competition.submission
        if not isinstance(settings, WideCsv):
            raise ValueError(f"{competition.name}: its submission is not a wide_csv")
        self.competition, self.pixels, self.meant, self.own = competition, pixels, meant, own
        names = ids.tolist()
        columns = [settings.id, *map(str, range(pixels))]
        self.file = CsvFile(settings, columns, names, 1024 + 32 * pixels + longest_of(names), own)
        self.number_of = {str(i): i for i in range(len(competition.classes))}
        self.counts = np.zeros(len(competition.classes), np.int64)
        self.forbidden = Tally()
        self.differing = Tally()

    def row(self, number: int, line: bytes) -> None:
        """Take in one row."""
        read = self._read_fast(line) or self._read(number, line)
        if read is not None:
            name, values = read
            if self.file.take(number, name) and values is not None:
                self._pixels(number, name, values)

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
        fields = self.file.fields(number, line)
        if fields is None:
            return None
        values = np.array([self.number_of.get(field, -1) for field in fields[1:]], np.int16)
        wrong = np.flatnonzero(values < 0)
        if len(wrong):
            self._bad_value(number, fields[0], int(wrong[0]), fields[1 + wrong[0]], len(wrong))
            return fields[0], None
        return fields[0], values

    def _bad_value(self, number: int, name: str, column: int, text: str, times: int) -> None:
        more = f", and {times - 1} more such values in this line" if times > 1 else ""
        expected = f"an integer from 0 to {len(self.counts) - 1}"
        self.file.bad(number, name, str(column), text, expected, more)

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
        where = place(number, name)
        if unscored is not None and counts[unscored]:
            first = int((values == unscored).argmax())
            self.forbidden.add(f"{where}, column '{first}'", int(counts[unscored]))
        if self.meant is not None and name in self.meant.index:
            meant = self.meant[self.meant.index[name]].reshape(-1)
            if len(meant) != len(values):
                self.file.findings.error(f"{where}: {len(values)} pixels, meant were {len(meant)}")
            elif (differs := values != meant).any():
                first = int(differs.argmax())
                said = f"{where}, column '{first}' is {values[first]}, meant was {meant[first]}"
                self.differing.add(said, int(np.count_nonzero(differs)))

    def result(self, ids: np.ndarray) -> Report:
        """The verdict after the last line."""
        findings = self.file.findings
        if not self.file.opened:
            return self.file.report(self.counts)
        self.file.close()
        if self.forbidden:
            judge_unscored(findings, self.competition, self.forbidden, self.own)
        judge_differing(findings, self.differing)
        judge_meant(findings, ids, self.meant)
        predicted = np.flatnonzero(self.counts)
        if len(predicted) == 1:
            findings.warnings.append(f"every pixel is predicted '{self.competition.classes[predicted[0]]}'")
        return self.file.report(self.counts)
