"""The ledger: what was packed, sent and scored; one row per event, only ever appended to."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import subprocess
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from podium.errors import UserError

Kind = Literal["packed", "sent", "scored", "failed"]


def now() -> str:
    """The time, ISO 8601, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class About:
    """What is known of a submission when it is packed.

    models: the recipes with their keys, ``residual_unet@1a2b3c4d unet_resnet18@...``. blend: how they were joined.
    cv, cv_low, cv_high: the cross-validated score and its interval; of a blend of which something was chosen, nested.
    in_sample: its score where that was chosen. commit, dirty: the code, see ``git_state``. message: whatever is to be said.
    """

    models: str = ""
    blend: str = ""
    cv: float | None = None
    cv_low: float | None = None
    cv_high: float | None = None
    in_sample: float | None = None
    commit: str = ""
    dirty: str = ""
    message: str = ""


NOTHING = About()
"""Nothing is known."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a submission; the fields are the ledger's columns, in order.

    file, sha256: the submission. competition: the name its results live under, ``-sample`` included. models ... message: see
    ``About``. message, reference, status, public, private: what was said to the competition's site and what it answered.
    """

    event: Kind
    file: str
    sha256: str
    competition: str
    models: str = ""
    blend: str = ""
    cv: float | None = None
    cv_low: float | None = None
    cv_high: float | None = None
    in_sample: float | None = None
    commit: str = ""
    dirty: str = ""
    message: str = ""
    reference: str = ""
    status: str = ""
    public: str = ""
    private: str = ""
    time: str = field(default_factory=now)


def event(kind: Kind, file: str, sha256: str, competition: str, about: About) -> Event:
    """A row about a submission of which ``about`` is known."""
    return Event(kind, file, sha256, competition, **asdict(about))


COLUMNS = ("time", *(column.name for column in fields(Event) if column.name != "time"))
HEADER = (",".join(COLUMNS) + "\n").encode()
LAYOUTS = (COLUMNS, tuple(column for column in COLUMNS if column != "in_sample"))
"""The columns of a new ledger, and those of older ones, which are gone on with as they are."""


def append(path: Path, event: Event) -> None:
    """Add a row, creating the file with its header where it is missing; on the disk when this returns.

    Processes take turns. A last line that a kill cut off is moved to ``ledger.torn`` beside it first. Line breaks in
    texts become blanks, so that a row is always one line. A file of another layout, or a place that cannot be written
    to, is a UserError, and the file stays as it was.
    """
    values = {name: " ".join(_text(value).split()) for name, value in asdict(event).items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            _append_locked(path, handle, values)
        finally:
            os.close(handle)  # lets go of the lock too
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); free space or mend its permissions"
        ) from error


def read(path: Path) -> list[dict[str, str]]:
    """All events, oldest first, as texts by column; empty without a file. A last line that was cut off is left out."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    whole = content[: content.rfind(b"\n") + 1]
    if not whole and HEADER.startswith(content):
        return []
    columns = _columns(path, whole or content)
    try:
        rows = list(csv.reader(io.StringIO(whole.decode(), newline=""), strict=True))[1:]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as csv ({error}); mend it or move it away") from error
    for number, row in enumerate(rows, start=2):
        if row and len(row) != len(columns):
            raise UserError(
                f"{path}: line {number} has {len(row)} columns, expected {len(columns)}; mend it or move it away"
            )
    found = [dict(zip(columns, row, strict=True)) for row in rows if row]
    return [{name: row.get(name, "") for name in COLUMNS} for row in found]


def git_state(root: Path) -> tuple[str, str]:
    """The commit of the code in ``root`` and whether it has changes, "yes" or "no"; empty where git knows nothing.

    Files under submissions/ and folds/ do not count: a run itself writes them.
    """
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", ".", ":(exclude)submissions", ":(exclude)folds")
    if commit is None or changes is None:
        return "", ""
    return commit, "yes" if changes else "no"


def _append_locked(path: Path, handle: int, values: dict[str, str]) -> None:
    content = _read_all(handle)
    size = content.rfind(b"\n") + 1  # of the whole lines
    torn = content[size:]
    columns = COLUMNS
    if size or not HEADER.startswith(torn):
        columns = _columns(path, content[:size] or content)
    row = _csv_line([values[name] for name in columns])
    if torn:
        _keep(path.with_suffix(".torn"), torn)
        os.ftruncate(handle, size)
    text = row if size else HEADER + row
    try:
        written = os.write(handle, text)
        if written != len(text):
            raise OSError(f"{written} of {len(text)} bytes written, the disk may be full")
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, size)
        raise


def _columns(path: Path, content: bytes) -> tuple[str, ...]:
    """The columns that a ledger has; a UserError where these are none of ours."""
    found = content.split(b"\n", 1)[0].rstrip(b"\r")
    for layout in LAYOUTS:
        if found == ",".join(layout).encode():
            return layout
    raise UserError(
        f"{path}: its header is not this version's ledger ({found[:60].decode(errors='replace')!r}, expected "
        f"'{','.join(COLUMNS[:4])},...'); move the file away, a new one will be started"
    )


def _keep(path: Path, torn: bytes) -> None:
    """Set a torn line aside, on the disk before it leaves the ledger."""
    with path.open("ab") as file:
        file.write(torn + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _read_all(handle: int) -> bytes:
    with os.fdopen(os.dup(handle), "rb") as file:
        file.seek(0)
        return file.read()


def _text(value: object) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def _csv_line(values: list[str]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue().encode(errors="backslashreplace")


def _git(root: Path, *words: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(root), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
