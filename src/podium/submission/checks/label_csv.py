"""The check of format label_csv: one row per image, an id and its class, its number or its yes and no."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from podium.config import Competition
from podium.config_submission_formats import LabelCsv
from podium.data.ragged import Ragged
from podium.submission.checks.csv_file import CsvFile, longest_of, place
from podium.submission.checks.report import Report, Tally, judge_differing, judge_meant, short

DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
LISTED = 12
"""Classes that a message lists; of more it gives the number."""


def check_label_csv(
    path: Path,
    competition: Competition,
    ids: np.ndarray,
    shapes: np.ndarray,
    meant: Ragged | None = None,
    own: bool = True,
) -> Report:
    """Read a label_csv submission from disk and hold it against the test set, line by line.

    Checked are the header, the ids (missing, unknown, twice, out of order), the number of columns of each row, that
    every value is a class, 0 or 1, classes joined by one blank without repetition, or a finite number, as the task and
    the format's options say, the end of the file, and, where ``meant`` is given (uint8, or float32 of numbers, joined
    by id), every label; numbers must be the same float32.

    ids: the test set's, in order. shapes: of its images; labels do not depend on them.
    own: the file was made here, so that a missing last line break is an error and not a warning.
    A file that cannot be read at all is a UserError.
    """
    check = _Check(competition, ids, meant, own)
    check.file.read(path, check.row)
    return check.result(ids)


class _Check:
    """What is known after the rows read so far."""

    def __init__(self, competition: Competition, ids: np.ndarray, meant: Ragged | None, own: bool) -> None:
        settings = competition.submission
        if not isinstance(settings, LabelCsv):
            raise ValueError(f"{competition.name}: its submission is not a label_csv")
        self.classes, self.meant = competition.classes, meant
        self.several = competition.task == "multilabel"
        self.joined = self.several and settings.style == "joined"
        self.real = competition.task == "regression" and not competition.classes
        self.texts = [name if settings.names else str(i) for i, name in enumerate(competition.classes)]
        self.number_of = {text: i for i, text in enumerate(self.texts)}
        columns = competition.classes if self.several and not self.joined else (settings.label_column,)
        names = ids.tolist()
        longest = 1024 + longest_of(names) + sum(longest_of([text]) + 32 for text in self.texts)
        self.file = CsvFile(settings, [settings.id, *columns], names, longest, own)
        self.counts = np.zeros(len(competition.classes), np.int64)
        self.differing = Tally(None)
        self.answers: set[str] = set()  # the different answers, two of them at most
        self.good = 0

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
        if len(self.answers) < 2:
            self.answers.add(self._said(values))
        if self.several:
            self.counts += values.astype(np.int64)
        elif not self.real:
            self.counts[int(values[0])] += 1
        self._compare(number, name, values)

    # ------------------------------------------------------------ what a row says

    def _values(self, number: int, name: str, cells: list[str]) -> np.ndarray | None:
        """The answer in a row: a class' index (1,), a number (1,), or 0 and 1 (K,); None after a complaint."""
        if self.joined:
            return self._joined(number, name, cells[0])
        if self.several:
            for column, text in zip(self.file.columns[1:], cells, strict=True):
                if text not in ("0", "1"):
                    self.file.bad(number, name, column, text, "0 or 1")
                    return None
            return np.array([text == "1" for text in cells], np.uint8)
        column, text = self.file.columns[1], cells[0]
        if self.real:
            if not DECIMAL.fullmatch(text) or not math.isfinite(float(text)):
                self.file.bad(number, name, column, text, "a number such as 0.5 or -2e-05")
                return None
            return np.array([float(text)])
        if text not in self.number_of:
            self.file.bad(number, name, column, text, self._expected())
            return None
        return np.array([self.number_of[text]], np.uint8)

    def _joined(self, number: int, name: str, text: str) -> np.ndarray | None:
        values = np.zeros(len(self.classes), np.uint8)
        for word in text.split(" ") if text else ():
            at = self.number_of.get(word)
            if at is None or values[at]:
                again = f"{short(word)} twice, expected each class once" if at is not None else ""
                wrong = f"{short(word)} in {short(text)}, expected {self._expected()}, joined by one blank each"
                self.file.findings.error(
                    f"{place(number, name)}, column '{self.file.columns[1]}' holds {again or wrong}"
                )
                return None
            values[at] = 1
        return values

    def _expected(self) -> str:
        if self.texts == [str(i) for i in range(len(self.texts))]:
            return f"an integer from 0 to {len(self.texts) - 1}"
        if len(self.texts) > LISTED:
            return f"one of the {len(self.texts)} classes' names, the first is {short(self.texts[0])}"
        return f"one of {', '.join(self.texts)}"

    def _said(self, values: np.ndarray) -> str:
        """An answer in words."""
        if self.several:
            return " ".join(self.classes[i] for i in np.flatnonzero(values))
        return repr(float(values[0])) if self.real else self.classes[int(values[0])]

    # ------------------------------------------------------------ against what was meant

    def _compare(self, number: int, name: str, values: np.ndarray) -> None:
        if self.meant is None or name not in self.meant.index:
            return
        meant = self.meant[self.meant.index[name]].reshape(-1)
        if len(meant) != len(values):
            found = f"{len(values)} values, meant were {len(meant)}"
            self.file.findings.error(f"{place(number, name)}: {found}")
            return
        with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite, which was never meant
            differs = values.astype(np.float32 if self.real else np.uint8) != meant
        if not differs.any():
            return
        at = int(differs.argmax())
        column = self.file.columns[1 if self.joined or not self.several else 1 + at]
        where = f"{place(number, name)}, column '{column}'"
        if self.joined:
            said = f"class '{self.classes[at]}' is {_yes(values[at])}, meant was {_yes(meant[at])}"
            self.differing.add(f"{where}: {said}")
        elif self.real or self.several:
            self.differing.add(f"{where} is {values[at]!s}, meant was {meant[at]!s}")
        else:
            wanted = self.texts[int(meant[0])] if meant[0] < len(self.texts) else str(meant[0])
            self.differing.add(f"{where} is {self.texts[int(values[0])]}, meant was {wanted}")

    def result(self, ids: np.ndarray) -> Report:
        """The verdict after the last line."""
        findings = self.file.findings
        if not self.file.opened:
            return self.file.report(self.counts)
        self.file.close()
        judge_differing(findings, self.differing)
        judge_meant(findings, ids, self.meant)
        if len(self.answers) == 1 and self.good > 1:
            (answer,) = self.answers
            if self.real:
                findings.warnings.append(f"every prediction is {answer}")
            else:
                findings.warnings.append(f"every image is predicted '{answer}'" if answer else "no answer is yes")
        return self.file.report(self.counts)


def _yes(value: int) -> str:
    return "yes" if value else "no"
