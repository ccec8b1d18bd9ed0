"""What the ledger tells of the submissions that were sent: one attempt each, up to its score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from podium.submission import ledger

State = Literal["uploading", "pending", "scored", "failed", "not counted"]


@dataclass(frozen=True)
class Attempt:
    """One sending of a file. state: ``uploading`` until Kaggle lists it, then ``pending`` until it is ``scored`` or ``failed``;
    ``not counted`` where it never arrived. reference: Kaggle's, empty before it is listed."""

    time: str
    file: str
    sha256: str
    message: str
    reference: str
    state: State
    public: str = ""
    private: str = ""

    @property
    def open(self) -> bool:
        """Whether there is still something to be learnt of it."""
        return self.state in ("uploading", "pending")


def attempts(book: Path, competition: str) -> list[Attempt]:
    """All that were made for a competition, oldest first.

    An attempt is a row ``sent`` with status ``uploading``, another with Kaggle's reference once that is known, and a row ``scored``
    or ``failed`` at its end.
    """
    found: list[Attempt] = []
    for row in ledger.read(book):
        if row["competition"] != competition or row["event"] == "packed":
            continue
        at = _place(found, row)
        if row["event"] == "sent" and (at is None or row["status"] == "uploading"):
            state: State = "pending" if row["reference"] else "uploading"
            found.append(Attempt(row["time"], row["file"], row["sha256"], row["message"], row["reference"], state))
        elif at is not None:
            found[at] = _after(found[at], row)
    return found


def _place(found: Sequence[Attempt], row: dict[str, str]) -> int | None:
    """Which attempt a row is about: that of its reference, else the latest one of its file that has none yet."""
    for at in range(len(found) - 1, -1, -1):
        each = found[at]
        if row["reference"] and each.reference == row["reference"]:
            return at
    for at in range(len(found) - 1, -1, -1):
        if found[at].sha256 == row["sha256"] and found[at].state == "uploading":
            return at
    return None


def _after(attempt: Attempt, row: dict[str, str]) -> Attempt:
    if row["event"] == "sent":
        return replace(attempt, reference=row["reference"], state="pending")
    if row["event"] == "scored":
        return replace(attempt, state="scored", public=row["public"], private=row["private"])
    return replace(attempt, state="failed" if row["reference"] else "not counted")


def packed(book: Path, competition: str) -> list[dict[str, str]]:
    """The rows of files that were packed for a competition, oldest first."""
    return [row for row in ledger.read(book) if row["event"] == "packed" and row["competition"] == competition]
