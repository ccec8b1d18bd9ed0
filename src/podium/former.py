"""A run continued elsewhere: results of a former run, in a folder that is only read, taken over where they are still valid."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podium import hosted
from podium.errors import UserError
from podium.jobs import Job
from podium.store import DONE, read_json, sha256_of, write_atomically

SMALL = ("runs/machine.json", "submissions/ledger.csv")
"""What the plan of a run rests on beside its folds, and what it adds to."""


@dataclass(frozen=True)
class Taken:
    """What was taken over: names of finished jobs and of interrupted trainings; what was left, a sentence each."""

    finished: tuple[str, ...]
    begun: tuple[str, ...]
    left: tuple[str, ...]

    def sentences(self, former: Path) -> list[str]:
        """What a run says of it; nothing where there was nothing to take."""
        parts = [f"{len(self.finished)} finished results"] if self.finished else []
        parts += [f"{len(self.begun)} interrupted trainings with their checkpoints"] if self.begun else []
        said = [f"continuing from {former}: {' and '.join(parts)} taken over"] if parts else []
        return said + [f"left where it is: {sentence}" for sentence in self.left]


def find_former(given: Path | None, out: Path, name: str) -> Path | None:
    """The folder of a former run that holds runs/``name``: the one that is ``given``, else on Kaggle the only attached one.

    A given folder without such results is a UserError, and so are several attached ones of which none is given.
    """
    if given is None:
        found = [folder for folder in hosted.attached(f"runs/{name}") if folder != out] if hosted.on_kaggle() else []
        if len(found) > 1:
            some = ", ".join(map(str, found))
            raise UserError(
                f"several attached folders hold runs/{name} ({some}); name the one to go on from with --continue-from, or "
                "detach the others"
            )
        return found[0] if found else None
    folder = given.expanduser().resolve()
    if folder == out:
        raise UserError(f"--continue-from {given}: is the folder of the results itself, which is gone on from anyway")
    if not (folder / "runs" / name).is_dir():
        there = sorted(path.name for path in (folder / "runs").glob("*/")) if folder.is_dir() else []
        held = f"holds runs of {', '.join(there)}, not of {name}" if there else f"holds no runs/{name}"
        raise UserError(f"--continue-from {given}: {held}; name the folder that a former run had as --out")
    return folder


def take_file(former: Path | None, path: Path, out: Path) -> bool:
    """Copy one file of a former run to its place in ``out``, unless something is there; whether it was copied."""
    theirs = None if former is None else former / path.relative_to(out)
    if theirs is None or not theirs.is_file() or path.exists():
        return False
    write_atomically(path, theirs.read_bytes())
    return True


def earlier_plan(folders: Sequence[Path]) -> tuple[dict[str, Any], Path] | None:
    """The plan.json of the first of some folders that has one, and the folder."""
    for folder in folders:
        if (record := read_json(folder / "plan.json")) is not None:
            return record, folder
    return None


def take_over(former: Path, out: Path, jobs: Sequence[Job]) -> Taken:
    """Copy what ``former`` has of the jobs' results to their places in ``out``; nothing that is there is touched.

    jobs: in the order of a plan, trainings before what is predicted with them. Finished results are taken where their key is
    the job's, their files are as they were recorded, and the weights that they were made with are those that are here; of an
    interrupted training its fixed length and its checkpoint. A copy gets its name when it is whole.
    """
    finished, begun, left = [], [], []
    for job in jobs:
        mine = Path(job.folder)
        theirs = former / mine.relative_to(out)
        if not theirs.is_dir() or _occupied(mine):
            continue
        record = _record(theirs / DONE)
        if record is None:
            names = _interrupted(theirs, job)
            if names:
                _copy(theirs, mine, names, {})
                begun += [job.name] if "last.pt" in names else []
        elif record.get("key") != job.key.hash:
            left.append(f"{theirs}: is of key {record.get('key')}, {job.name} needs {job.key.hash}")
        elif record.get("weights", []) != job.weights_now():
            left.append(f"{theirs}: was made with other weights than those that are here")
        else:
            files: dict[str, dict[str, Any]] = record["files"]
            more = [name for name in ("job.json", "state.json") if (theirs / name).is_file()]
            if problem := _copy(theirs, mine, [*files, *more, DONE], files):
                left.append(problem)
            else:
                finished.append(job.name)
    return Taken(tuple(finished), tuple(begun), tuple(left))


def _record(path: Path) -> dict[str, Any] | None:
    """A done.json; one that cannot be read counts as not there, since the folder cannot be mended."""
    try:
        found: dict[str, Any] | None = read_json(path)
    except UserError:
        return None
    return found if found is None or isinstance(found.get("files"), dict) else None


def _interrupted(theirs: Path, job: Job) -> list[str]:
    """The files by which an interrupted training goes on; none where it is another one's, or had not begun."""
    asked = _job(theirs / "job.json")
    if job.kind != "train" or asked is None or asked != job.key.hash:
        return []
    return [name for name in ("last.pt", "state.json") if (theirs / name).is_file()]


def _job(path: Path) -> str | None:
    """The key of a job.json; None where there is none, or of another version."""
    try:
        raw = read_json(path)
        return None if raw is None else Job.from_json(raw).key.hash
    except (UserError, KeyError, TypeError):
        return None


def _occupied(folder: Path) -> bool:
    return folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())


def _copy(theirs: Path, mine: Path, names: Sequence[str], sums: dict[str, dict[str, Any]]) -> str | None:
    """Copy files to the folder ``mine``, done.json last, and only where all are as ``sums`` say; a sentence where not."""
    beside = mine.parent / f".taken-{os.getpid()}-{mine.name}"
    try:
        beside.mkdir(parents=True)
        for name in names:
            if not (theirs / name).is_file():
                return f"{theirs / name}: is missing"
            shutil.copyfile(theirs / name, beside / name)
            if name in sums and sha256_of(beside / name) != sums[name]["sha256"]:
                return f"{theirs / name}: was changed after it was written"
        if not mine.exists():
            os.rename(beside, mine)
            return None
        for name in names:
            os.rename(beside / name, mine / name)
    except OSError as error:
        if _occupied(mine):  # another command was faster
            return None
        raise UserError(
            f"{theirs}: cannot be copied to {mine} ({error.strerror or error}); make room, or choose another place with --out"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return None
