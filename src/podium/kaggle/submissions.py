"""A competition's submissions on Kaggle: the list, what is left of the day, an upload."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podium.errors import UserError
from podium.kaggle.command import ANSWER, Said, accept_rules, run
from podium.kaggle.credentials import REMEDY, credentials, environment, redact

NONE_YET = "No submissions found"
PAGE = 100
"""How many of the latest submissions are looked at."""
UPLOAD = 600.0
"""Seconds that an upload may take, and one more for every ``SLOWEST`` bytes."""
SLOWEST = 100_000
REASON = """
import sys
from kaggle.api.kaggle_api_extended import KaggleApi
api = KaggleApi()
api.authenticate()
for found in api.competition_submissions(sys.argv[1], page_size=100) or ():
    if str(found.ref) == sys.argv[2]:
        print(found.error_description or "")
"""
QUOTA = re.compile(
    r"daily|per day|submission limit|limit\b.{0,30}\b(reached|exceeded)|no more submissions", re.IGNORECASE
)
UNREACHABLE = re.compile(
    r"max retries exceeded|failed to resolve|name or service not known|connection (refused|aborted|reset)|timed? ?out|"
    r"did not end in time",
    re.IGNORECASE,
)
UPLOAD_FAILED = re.compile(r"could not submit to competition", re.IGNORECASE)


@dataclass(frozen=True)
class Remote:
    """A submission as Kaggle lists it. status: ``pending``, ``complete`` or ``error``; scores as texts, empty where none is
    shown."""

    reference: str
    file: str
    date: str
    description: str
    status: str
    public: str
    private: str


@dataclass(frozen=True)
class Limits:
    """Submissions: made today (UTC), left today, None where Kaggle does not say, as before a team's first one; by_total: whether
    a limit for the whole competition is the nearer one."""

    today: int
    left: int | None
    by_total: bool


def submissions(slug: str) -> list[Remote]:
    """The latest ones, newest first."""
    words = ["submissions", slug, "--format", "json", "--page-size", str(PAGE)]
    return [_remote(row) for row in _asked(slug, words, "its submissions cannot be listed", NONE_YET)]


def limits(slug: str) -> Limits:
    """How many submissions the team has left today."""
    told = _asked(
        slug, ["submission-limits", slug, "--json"], "what is left of today's submissions cannot be asked for"
    )
    # what is zero is left out, and all is zero for who is not on a team yet
    today, total, left = (int(told.get(key, 0)) for key in ("numToday", "numTotal", "numAllowedNow"))
    return Limits(today, left if left or total else None, bool(told.get("limitedByTotal", False)))


def upload(slug: str, file: Path, description: str) -> Said:
    """Upload a file and enter it; what was said is for the caller, who must not believe it (``counted`` looks)."""
    return run(
        # with an equals sign, since a message may begin with a dash
        ["competitions", "submit", slug, "-f", str(file.resolve()), f"--message={description}", "-q"],
        UPLOAD + file.stat().st_size / SLOWEST,
    )


def reason(reference: str, slug: str) -> str:
    """Why a submission could not be scored, in Kaggle's words; empty where it does not say.

    The command line does not print it, the library that it is made of knows it.
    """
    command = [sys.executable, "-c", REASON, slug, reference]
    try:
        done = subprocess.run(command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    return redact(" ".join(lines[-1].split()))[:500] if done.returncode == 0 and lines else ""


def refusal(slug: str, said: Said, what: str) -> UserError:
    """The sentence for a request that failed, with the remedy that fits."""
    if said.status == 401:
        return UserError(f"{slug}: Kaggle refuses the credentials in {credentials()}; {REMEDY}")
    if said.forbidden:
        return UserError(f"{slug}: {what}, Kaggle answers 'forbidden'; {accept_rules(slug)} and try again")
    if said.status == 404:
        return UserError(
            f"{slug}: Kaggle knows no such competition, or it takes no submissions any more; correct 'kaggle' in the "
            f"competition's configuration"
        )
    if UNREACHABLE.search(" ".join([*said.lines, said.problem or ""])):
        return UserError(f"{slug}: {what}, Kaggle cannot be reached; look at the connection and try again")
    if out_of_quota(said):
        return UserError(f"{slug}: today's submissions are used up ({said.problem}); try again after midnight UTC")
    return UserError(f"{slug}: {what} ({said.problem}); look at the connection and try again")


def out_of_quota(said: Said) -> bool:
    """Whether a submission was refused because the day's are used up."""
    return said.problem is not None and any(QUOTA.search(line) for line in said.lines)


def _remote(row: dict[str, Any]) -> Remote:
    def text(key: str) -> str:
        value = row.get(key)
        return "" if value is None else str(value)

    status = text("status").rpartition(".")[2].lower()
    return Remote(
        text("ref"),
        text("fileName"),
        text("date"),
        text("description"),
        status,
        text("publicScore"),
        text("privateScore"),
    )


def _asked(slug: str, words: list[str], what: str, nothing: str | None = None) -> Any:
    """The JSON that a question is answered with, whatever notices stand around it; an empty list where ``nothing`` is said."""
    said = run(["competitions", *words], ANSWER)
    if said.code == 0:  # what people wrote to their submissions may look like a failure
        starts = [at for at in (said.out.find("["), said.out.find("{")) if at >= 0]
        with suppress(ValueError):
            return json.JSONDecoder().raw_decode(said.out[min(starts, default=len(said.out)) :])[0]
        if nothing is not None and nothing in said.out:
            return []
    if said.problem is not None:
        raise refusal(slug, said, what)
    heard = said.lines[0][:200] if said.lines else "nothing"
    raise UserError(f"{slug}: {what}: 'kaggle' printed no JSON but {heard!r}; is it 2.2 or newer?")
