"""Kaggle's command line run as a program, and what it says understood: its exit code alone does not tell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from podium.errors import UserError
from podium.kaggle.credentials import environment, redact

FAILURE = re.compile(
    r"\b[45]\d\d\b.{0,20}\b(error|forbidden|unauthori[sz]ed|not found)|forbidden|unauthori[sz]ed|"
    r"\bcould not\b|\bpermission\b.*\bdenied|\binvalid credentials|\bauthentication required",
    re.IGNORECASE,
)
"""What the command line prints when it failed; its exit code can be 0 all the same."""
STATUS = re.compile(r"\b([45]\d\d)\b (?:client|server) error", re.IGNORECASE)
SAID = {
    401: re.compile(
        r"authentication required|unauthori[sz]ed|unauthenticated|generate new token|invalid credentials", re.I
    ),
    403: re.compile(r"\b403\b|forbidden|permission\b.*\bdenied|accept\b.*\brules", re.I),
    404: re.compile(r"\b404\b|not found|could not find competition", re.I),
}
"""What it prints of a refusal instead of its HTTP status."""
ANSWER = 120.0
"""Seconds that a question may take."""
PROGRESS = re.compile(r"^\s*\d+%\|")
"""Lines of a progress bar."""


@dataclass(frozen=True)
class Said:
    """How the command line ended: its exit code (None where it took too long and was stopped), and all that it printed,
    without secrets."""

    code: int | None
    out: str
    err: str

    @cached_property
    def lines(self) -> list[str]:
        """All that was printed, without blank lines and progress bars."""
        lines = [line.strip() for line in re.split(r"[\r\n]+", f"{self.out}\n{self.err}")]
        return [line for line in lines if line and not PROGRESS.match(line)]

    @cached_property
    def problem(self) -> str | None:
        """What went wrong, in its own words; None where nothing did."""
        telling = [line for line in self.lines if FAILURE.search(line)]
        if self.code == 0 and not telling:
            return None
        if self.code is None:
            return "it did not end in time"
        return (telling or self.lines[-1:] or ["it said nothing"])[0][:300]

    @property
    def status(self) -> int | None:
        """The HTTP status that it failed with, where it tells, 401, 403 and 404 also by other words."""
        if self.problem is None:
            return None
        found = [int(match[1]) for line in self.lines if (match := STATUS.search(line))]
        text = " ".join(self.lines)
        return found[-1] if found else next((status for status, said in SAID.items() if said.search(text)), None)

    @property
    def forbidden(self) -> bool:
        """Whether the rules are not accepted yet, most likely."""
        return self.status == 403


def executable() -> Path | None:
    """Kaggle's command line: the one beside this Python, else on PATH, else None."""
    beside = Path(sys.executable).parent / "kaggle"
    if beside.is_file() and os.access(beside, os.X_OK):
        return beside
    found = shutil.which("kaggle")
    return Path(found) if found else None


def run(words: Sequence[str], timeout: float | None = None) -> Said:
    """Run ``kaggle`` with ``words``; longer than ``timeout`` seconds and it is stopped. Without the program a UserError."""
    program = executable()
    if program is None:
        raise UserError(
            "there is no 'kaggle' command; install it with 'pip install kaggle six', or go without it: --data names the "
            "data's folder, --sample is the built-in sample, and files can be uploaded in a browser"
        )
    try:
        done = subprocess.run(
            [str(program), *words],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as expired:
        return Said(None, *(redact(_text(part)) for part in (expired.stdout, expired.stderr)))
    return Said(done.returncode, redact(done.stdout), redact(done.stderr))


def accept_rules(slug: str) -> str:
    """What is to be done where a competition's rules are not accepted yet."""
    return f"accept the rules at https://www.kaggle.com/competitions/{slug}/rules"


def _text(part: bytes | str | None) -> str:
    return part.decode(errors="replace") if isinstance(part, bytes) else part or ""
