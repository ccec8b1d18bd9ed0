"""The check of format probability_csv: one row per image, an id and a column per class with its probability."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from podium.config import Competition
from podium.config_submission_formats import ProbabilityCsv
from podium.data.ragged import Ragged
from podium.submission.checks.csv_file import CsvFile, longest_of, place
from podium.submission.checks.probabilities import judge_sums, tolerance
from podium.submission.checks.report import Report, Tally, judge_differing, judge_meant

DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def check_probability_csv(
    path: Path,
    competition: Competition,
    ids: np.ndarray,
    shapes: np.ndarray,
    meant: Ragged | None = None,
    own: bool = True,
) -> Report:
    """Read a probability_csv submission from disk and hold it against the test set, line by line.

    Checked are the header, the ids (missing, unknown, twice, out of order), the number of columns of each row, that
    every value is a number from 0 to 1, that those of the classes sum to 1, the end of the file, and, where ``meant`` is
    given (float32, (C, 1, 1) per id, of questions (2, K, 1), joined by id), every probability as float32.

    ids: the test set's, in order. shapes: of its images; probabilities do not depend on them.
    own: the file was made here, so that a sum that is not 1 and a missing last line break are errors; in a file from
    elsewhere they are warnings, and a sum may be further off.
    A file that cannot be read at all is a UserError.
    """
    check = _Check(competition, ids, meant, own)
    check.file.read(path, check.row)
    return check.result(ids)


class _Check:
    """What is known after the rows read so far."""

    def __init__(self, competition: Competition, ids: np.ndarray, meant: Ragged | None, own: bool) -> None:
        settings = competition.submission
        if not isinstance(settings, ProbabilityCsv):
            raise ValueError(f"{competition.name}: its submission is not a probability_csv")
        self.classes, self.meant, self.own = competition.classes, meant, own
        self.several = competition.task == "multilabel"
        columns = settings.wanted(competition.classes)
        self.wanted = [competition.classes.index(name) for name in columns]
        names, texts = ids.tolist(), list(columns.values())
        longest = 1024 + longest_of(names) + sum(longest_of([text]) + 32 for text in texts)
        self.file = CsvFile(settings, [settings.id, *texts], names, longest, own)
        self.counts = np.zeros(len(self.classes), np.int64)
        self.sums, self.differing = Tally(None), Tally(None)
        self.good = 0
        self.first: np.ndarray | None = None
        self.same = True  # whether all rows say what the first one does

    def row(self, number: int, line: bytes) -> None:
        """Take in one row."""
        fields = self.file.fields(number, line)
        if fields is None:
            return
        name, *cells = fields
        values = self._values(number, name, cells)
        if not self.file.take(number, name) or values is None:
            return
        self.good += 1
        if self.first is None:
            self.first = values
        self.same = self.same and bool((values == self.first).all())
        self._count(values)
        if not self.several and len(values) == len(self.classes) and abs(values.sum() - 1) > tolerance(self.own):
            self.sums.add(f"{place(number, name)} sums to {values.sum():.6g}")
        self._compare(number, name, values)

    def _values(self, number: int, name: str, cells: list[str]) -> np.ndarray | None:
        """float64 (K,): the probabilities in a row; None after a complaint."""
        values = np.zeros(len(cells))
        for at, (column, text) in enumerate(zip(self.file.columns[1:], cells, strict=True)):
            values[at] = float(text) if DECIMAL.fullmatch(text) else np.nan
            if not 0 <= values[at] <= 1:
                self.file.bad(number, name, column, text, "a probability, a number from 0 to 1")
                return None
        return values

    def _count(self, values: np.ndarray) -> None:
        """The most probable class, or the questions that are more likely yes than no."""
        if self.several:
            self.counts[self.wanted] += values > 0.5
        elif len(values) == len(self.classes):
            self.counts[int(values.argmax())] += 1
        else:  # of two classes one, whose probability says the other's
            (one,) = self.wanted
            self.counts[one if values[0] > 0.5 else 1 - one] += 1

    def _compare(self, number: int, name: str, values: np.ndarray) -> None:
        if self.meant is None or name not in self.meant.index:
            return
        meant = self.meant[self.meant.index[name]]
        shape = (2, len(self.classes), 1) if self.several else (len(self.classes), 1, 1)
        if meant.shape != shape:
            self.file.findings.error(f"{place(number, name)}: meant were {meant.shape}, expected {shape}")
            return
        wanted = (meant[1] if self.several else meant[:, 0]).reshape(-1)[self.wanted]
        differs = values.astype(np.float32) != wanted
        if differs.any():
            at = int(differs.argmax())
            where = f"{place(number, name)}, column '{self.file.columns[1 + at]}'"
            self.differing.add(f"{where} is {values[at]!s}, meant was {wanted[at]!s}")

    def result(self, ids: np.ndarray) -> Report:
        """The verdict after the last line."""
        findings = self.file.findings
        if not self.file.opened:
            return self.file.report(self.counts)
        self.file.close()
        judge_sums(findings, self.sums, self.own)
        judge_differing(findings, self.differing)
        judge_meant(findings, ids, self.meant)
        if self.same and self.good > 1:
            findings.warnings.append("every image has the same probabilities")
        return self.file.report(self.counts)
