"""What all checks share: the verdict, and how complaints are collected and worded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from podium.config import Competition
from podium.data.ragged import Ragged

MOST = 20
"""Errors that are listed; of the others only the number is given."""


@dataclass(frozen=True)
class Report:
    """What the check of a submission found.

    errors: sentences, each naming the line (1-based) or the entry, the id and the column where there is one; empty for
    a good file. warnings: what is allowed and yet strange or costly.
    rows: rows below the header, pictures in an archive, or images in arrays.
    counts: per class, over the rows that could be read: pixels or images predicted, or images answered yes, of
    probabilities what is more probable than the others; empty where numbers are predicted. What a mask of runs does not
    cover counts as background; of classes that share a grey value the first is counted.
    """

    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    rows: int
    counts: tuple[int, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors


class Findings:
    """Errors and warnings so far. Those of the head and of the whole file are all kept, of those of rows the first."""

    def __init__(self) -> None:
        self.head: list[str] = []
        self.whole: list[str] = []
        self.warnings: list[str] = []
        self._rows: list[str] = []
        self._more = 0

    def error(self, text: str) -> None:
        """Note an error of one row or one entry."""
        if len(self._rows) < MOST:
            self._rows.append(text)
        else:
            self._more += 1

    @property
    def clean(self) -> bool:
        """Whether no row and no entry had an error so far."""
        return not self._rows

    def report(self, rows: int, counts: Sequence[int] | np.ndarray) -> Report:
        """The verdict."""
        room = max(0, MOST - len(self.head) - len(self.whole))
        listed = [*self.head, *self._rows[:room], *self.whole]
        more = self._more + max(0, len(self._rows) - room)
        if more:
            listed.append(f"and {more} more")
        return Report(tuple(listed), tuple(self.warnings), rows, tuple(int(count) for count in counts))


class Ids:
    """Which of the expected names were met, and where: rows' ids, or entries of an archive.

    names: all that are expected, in the test set's order. ordered: whether another order is an error.
    """

    def __init__(self, names: Sequence[str], findings: Findings, what: str = "ids", ordered: bool = True) -> None:
        self.position = {name: i for i, name in enumerate(names)}
        self.findings, self.what, self.ordered = findings, what, ordered
        self._place: dict[str, str] = {}
        self._last = ""  # the name that is furthest down the test set's order so far
        if len(self.position) < len(names):
            twice = next(name for i, name in enumerate(names) if self.position[name] != i)
            findings.head.append(
                f"submission.name calls two rows {short(twice)}; put a mark between its parts that no id and no class holds"
            )

    def take(self, subject: str, name: str, place: str) -> bool:
        """Whether ``name`` is expected and new. subject begins a complaint, place is where it was: ``in line 3``."""
        if name not in self.position:
            first = next(iter(self.position), "")
            self.findings.error(f"{subject} is not in the test set, whose first is {short(first)}")
            return False
        if name in self._place:
            self.findings.error(f"{subject} was already {self._place[name]}")
            return False
        self._place[name] = place
        if self.ordered and self._last and self.position[name] < self.position[self._last]:
            self.findings.error(f"{subject} comes after {self.one} {short(self._last)}, expected the test set's order")
        else:
            self._last = name
        return True

    def met(self, name: str) -> bool:
        """Whether ``name`` was taken."""
        return name in self._place

    @property
    def one(self) -> str:
        """What one of them is called."""
        return self.what.removesuffix("s")

    def close(self) -> None:
        """Note what is missing."""
        missing = [name for name in self.position if name not in self._place]
        if missing:
            self.findings.whole.append(
                f"{len(missing)} of {len(self.position)} {self.what} are missing, the first is {short(missing[0])}"
            )


class Tally:
    """How often something is so, in how many rows, and where first; None for what stands once in a row."""

    def __init__(self, what: str | None = "pixel", holder: str = "row") -> None:
        self.what, self.holder = what, holder
        self.times = self.holders = 0
        self.first = ""

    def add(self, first: str, times: int = 1) -> None:
        """Count a row in which it is so ``times`` times; first: where in it."""
        self.first = self.first or first
        self.holders += 1
        self.times += times

    def __bool__(self) -> bool:
        return self.holders > 0

    def __str__(self) -> str:
        holders = _number(self.holders, self.holder)
        return f"{self.first} ({holders if self.what is None else f'{_number(self.times, self.what)} in {holders}'})"


def judge_unscored(findings: Findings, competition: Competition, where: object, own: bool) -> None:
    """Note that the unscored class is predicted: an error in a file made here, else a warning that names its cost."""
    label = f"label {competition.unscored_index} ({competition.unscored})"
    text = f"{where}: {label} is never scored and must not be predicted"
    if own:
        findings.whole.append(text)
    elif getattr(competition.metric, "convention", None) == "keras":
        scored = len(competition.scored)
        findings.warnings.append(
            f"{text}: under the keras convention one such pixel brings the class into the mean with IoU 0, which "
            f"multiplies the score by {scored}/{scored + 1}"
        )
    else:
        findings.warnings.append(f"{text}: every such pixel that has a label is a miss")


def judge_differing(findings: Findings, differing: Tally) -> None:
    """Note what was meant otherwise."""
    if differing:
        findings.whole.append(f"{differing}: not what was meant")


def judge_meant(findings: Findings, ids: np.ndarray, meant: Ragged | None) -> None:
    """Note the images of the test set that ``meant`` does not hold."""
    lacking = [name for name in ids.tolist() if name not in meant.index] if meant is not None else []
    if lacking:
        findings.whole.append(f"{len(lacking)} ids of the test set have no labels, first {short(lacking[0])}")


def short(text: str) -> str:
    """A foreign text for a message: quoted, of bounded length, without control characters."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _number(times: int, what: str) -> str:
    return f"one {what}" if times == 1 else f"{times} {what}s"
