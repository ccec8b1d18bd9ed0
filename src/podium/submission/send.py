"""Sending a file to Kaggle and following it to its score, every step in the ledger before the next one is taken."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from podium.errors import UserError
from podium.kaggle import submissions as remote
from podium.kaggle.command import Said
from podium.kaggle.credentials import needed
from podium.kaggle.submissions import Remote
from podium.store import sha256_of
from podium.submission import ledger
from podium.submission.history import Attempt, attempts, packed

OF_SAMPLE = "-sample"
"""Behind a competition's name where results are of its sample."""
BACK_OFF = (2.0, 8.0, 30.0)
"""Seconds before each further try of an upload of which nothing was counted."""
LOOKS = (0.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each look at the list for a submission that Kaggle says it took."""
SLOWER = 1.3
"""By how much the time between two looks for a score grows, up to ten times the first."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Desk:
    """Where submissions of a competition are sent and noted down.

    slug: its name on Kaggle. name: what its results live under. book: the ledger. root: the code, for its commit.
    """

    slug: str
    name: str
    book: Path
    root: Path


@dataclass(frozen=True)
class Patience:
    """wait: seconds to wait for a score, 0 not to wait. every: seconds between the first two looks."""

    wait: float = 3600.0
    every: float = 10.0


def newest(desk: Desk) -> Path:
    """The file that was packed last; a UserError where there is none, or it is gone."""
    rows = packed(desk.book, desk.name)
    if not rows and packed(desk.book, f"{desk.name}{OF_SAMPLE}"):
        raise UserError(
            f"{desk.name}: only files about the built-in sample were packed, and they are not for uploading; run: bash run_cv.sh "
            f"{desk.name} --data FOLDER"
        )
    if not rows:
        raise UserError(f"{desk.name}: nothing was packed yet; run: podium pack {desk.name}, or name a file")
    path = desk.book.parent / rows[-1]["file"]
    if not path.is_file():
        raise UserError(f"{path}: was packed last and is gone; run: podium pack {desk.name}, or name a file")
    return path


def was_packed(desk: Desk, sha256: str) -> bool:
    """Whether exactly this file was packed, and so read back and compared."""
    return any(row["sha256"] == sha256 for row in packed(desk.book, desk.name))


def check_real(desk: Desk, file: Path, sha256: str) -> None:
    """Refuse a file that was packed of the built-in sample."""
    if any(row["sha256"] == sha256 for row in packed(desk.book, f"{desk.name}{OF_SAMPLE}")):
        raise UserError(
            f"{file}: is about the built-in sample and not for uploading; pack one of the competition's data"
        )


def sent_before(desk: Desk, sha256: str) -> Attempt | None:
    """The latest attempt with exactly this file that counted, or may have."""
    found = [each for each in attempts(desk.book, desk.name) if each.sha256 == sha256 and each.state != "not counted"]
    return found[-1] if found else None


def send(
    desk: Desk, file: Path, message: str, keep: int = 0, again: bool = False, say: Say = lambda text: None
) -> Attempt:
    """Upload ``file``, once: until Kaggle lists it, or a UserError says why not and what was counted.

    keep: of the day's submissions so many are left alone. again: although this very file was sent before. Processes take
    turns. What the command line says of its success is not believed: the list of submissions decides. An upload is tried
    again only where the list shows that nothing was counted.
    """
    needed()
    digest = sha256_of(file)
    with _turn(desk.book, say):
        before = sent_before(desk, digest)
        if before is not None and not again:
            raise UserError(_known(desk, file, before))
        _check_quota(desk, keep, say)
        known = {each.reference for each in remote.submissions(desk.slug)}
        event = _event(desk, file, digest, message)
        ledger.append(desk.book, event)
        try:
            found = _upload(desk, file, event.message, known, say)
        except _NotCounted as error:
            ledger.append(
                desk.book, replace(event, event="failed", status="not counted", message=str(error), time=ledger.now())
            )
            raise
        ledger.append(desk.book, replace(event, reference=found.reference, status=found.status, time=ledger.now()))
    say(f"{file.name}: sent to {desk.slug}, Kaggle's reference is {found.reference}")
    return Attempt(event.time, event.file, digest, event.message, found.reference, "pending")


def follow(desk: Desk, patience: Patience, say: Say = lambda text: None) -> list[Attempt]:
    """Look for what became of all that was sent and has no score yet; returns these attempts as they stand at the end.

    An upload that was cut short is found on the list or noted as not counted. A list that cannot be had is asked for again
    until the time is up.
    """
    needed()
    now = attempts(desk.book, desk.name)
    places = [place for place, each in enumerate(now) if each.open]
    waiting = [now[place] for place in places]
    end, pause = time.monotonic() + patience.wait, patience.every
    while any(each.open for each in waiting):
        try:
            _look(desk, say)
        except UserError as error:
            if time.monotonic() + pause > end:
                raise
            say(f"{error}; asking again in {pause:.0f} s")
        now = attempts(desk.book, desk.name)  # whose places do not change: rows are only appended
        waiting = [now[place] for place in places]
        if not any(each.open for each in waiting) or time.monotonic() + pause > end:
            break
        time.sleep(pause)
        pause = min(pause * SLOWER, 10 * patience.every)
    return waiting


# ---------------------------------------------------------------- before an upload


@contextmanager
def _turn(book: Path, say: Say) -> Iterator[None]:
    """Only one process of a folder sends at a time, or two could send one file, or both take the last submission of the day."""
    path = book.with_name(".sending.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another command is sending a file; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _known(desk: Desk, file: Path, before: Attempt) -> str:
    if before.state == "uploading":
        return (
            f"{file.name}: an upload of it was begun at {before.time} and did not end here; "
            f"podium submit {desk.name} --resume finds out whether it counted"
        )
    what = {"scored": f"scored {before.public}", "failed": "could not be scored", "pending": "has no score yet"}
    return (
        f"{file.name}: exactly this file was sent at {before.time} (reference {before.reference}, "
        f"{what[before.state]}); --again sends it all the same"
    )


def _check_quota(desk: Desk, keep: int, say: Say) -> None:
    limits = remote.limits(desk.slug)
    if limits.left is None:
        return
    if limits.left == 0:
        what = "of the whole competition" if limits.by_total else "of today"
        raise UserError(f"{desk.slug}: all submissions {what} are used up; try again after midnight UTC")
    if limits.left <= keep:
        raise UserError(
            f"{desk.slug}: {limits.left} submissions are left today and --keep {keep} leaves them alone; wait until "
            f"midnight UTC or keep fewer"
        )
    say(f"{desk.slug}: {limits.left} submissions are left today")


def _event(desk: Desk, file: Path, digest: str, message: str) -> ledger.Event:
    """The row of an upload that begins."""
    row = _row(desk, file.name, digest)
    score = "" if row.cv is None else f"CV {row.cv:.4f}"
    # the file's hash in it makes a submission known again on Kaggle's list
    said = " ".join([*(message.split() or score.split()), f"[{digest[:8]}]"])
    commit, dirty = ledger.git_state(desk.root)
    return replace(row, message=said, status="uploading", commit=commit, dirty=dirty)


def _row(desk: Desk, file: str, digest: str) -> ledger.Event:
    """A row about a file, with all that the ledger knows of it: models, blend, scores."""
    of_file = [row for row in ledger.read(desk.book) if row["sha256"] == digest and row["competition"] == desk.name]
    known = next((row for row in of_file if row["models"]), dict.fromkeys(ledger.COLUMNS, ""))

    def number(key: str) -> float | None:
        return float(known[key]) if known[key] else None

    about = ledger.About(
        known["models"],
        known["blend"],
        number("cv"),
        number("cv_low"),
        number("cv_high"),
        number("in_sample"),
        known["commit"],
        known["dirty"],
    )
    return ledger.event("sent", file, digest, desk.name, about)


# ---------------------------------------------------------------- the upload


class _NotCounted(UserError):
    """An upload that failed and of which the list shows nothing."""


def _upload(desk: Desk, file: Path, description: str, known: set[str], say: Say) -> Remote:
    """Upload until the list shows it; _NotCounted where it is certain that nothing arrived."""
    for pause in (*BACK_OFF, None):
        said = remote.upload(desk.slug, file, description)
        failed = said.problem is not None
        try:
            found = _find(desk.slug, file.name, description, known, LOOKS[:1] if failed else LOOKS)
        except UserError as error:
            raise UserError(
                f"{file.name}: whether it arrived is not known ({error}); podium submit {desk.name} --resume finds out"
            ) from error
        if found is not None:
            return found
        if not failed:
            raise UserError(
                f"{file.name}: Kaggle says that it took it and does not list it; podium submit {desk.name} --resume looks "
                f"again"
            )
        if pause is None or _final(said):
            refused = remote.refusal(desk.slug, said, "the file was not taken")
            raise _NotCounted(f"{refused}; nothing was counted")
        say(f"the upload failed ({said.problem}), nothing was counted; trying again in {pause:.0f} s")
        time.sleep(pause)
    raise AssertionError("the last try has no pause")


def _final(said: Said) -> bool:
    """Whether another try would be refused in the same way; what failed in the upload itself is tried again."""
    if any(remote.UPLOAD_FAILED.search(line) for line in said.lines):
        return False
    return said.status in (401, 403, 404) or remote.out_of_quota(said)


def _find(slug: str, name: str, description: str, known: set[str], pauses: tuple[float, ...]) -> Remote | None:
    """A submission on the list that was not there before; None where it does not appear."""
    for pause in pauses:
        time.sleep(pause)
        for each in remote.submissions(slug):
            if each.reference not in known and each.file == name and each.description == description:
                return each
    return None


# ---------------------------------------------------------------- after it


def _look(desk: Desk, say: Say) -> None:
    """One look at the list: note in the ledger what has changed of the open attempts."""
    listed = remote.submissions(desk.slug)
    every = attempts(desk.book, desk.name)
    known = {each.reference for each in every if each.reference}
    for attempt in (each for each in every if each.open):
        found = _listed(attempt, listed, known)
        row = replace(_row(desk, attempt.file, attempt.sha256), message=attempt.message)
        if found is None:
            if attempt.state == "uploading" and not _being_sent(desk.book):
                ledger.append(desk.book, replace(row, event="failed", status="not counted"))
                say(f"{attempt.file}: the upload begun at {attempt.time} did not arrive; nothing was counted")
            continue
        known.add(found.reference)
        row = replace(row, reference=found.reference, status=found.status)
        if attempt.state == "uploading":
            ledger.append(desk.book, row)
        if found.status == "complete":
            ledger.append(desk.book, replace(row, event="scored", public=found.public, private=found.private))
            shown = found.public or "not shown"
            say(f"{attempt.file}: scored {shown}" + (f", private {found.private}" if found.private else ""))
        elif found.status == "error":
            why = remote.reason(found.reference, desk.slug)
            ledger.append(desk.book, replace(row, event="failed", message=why or attempt.message))
            say(f"{attempt.file}: Kaggle could not score it" + (f": {why}" if why else ""))


def _listed(attempt: Attempt, listed: list[Remote], known: set[str]) -> Remote | None:
    """An attempt on the list, by its reference or else by what makes it known."""
    for each in listed:
        if attempt.reference:
            if each.reference == attempt.reference:
                return each
        elif each.reference not in known and (each.file, each.description) == (attempt.file, attempt.message):
            return each
    return None


def _being_sent(book: Path) -> bool:
    """Whether a process is at this moment sending a file, so that one that is not listed yet may still arrive."""
    handle = os.open(book.with_name(".sending.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
