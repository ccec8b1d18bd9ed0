"""Results on disk: what identifies them (Key) and how they are written so that nothing half-done is ever read (Folder)."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from podium.errors import UserError

DONE = "done.json"


@dataclass(frozen=True)
class Key:
    """What made a result: its kind, the version of the code that makes that kind, its settings, and the keys before it.

    Only what changes a result's meaning belongs here. Device, threads and precision are recorded elsewhere, never hashed.
    """

    kind: str
    version: int
    settings: Mapping[str, Any]
    inputs: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """16 hexadecimal digits of the SHA-256 over the canonical JSON of all fields."""
        return hashlib.sha256(canonical(asdict(self)).encode()).hexdigest()[:16]

    @property
    def short(self) -> str:
        """The 8 digits that name folders."""
        return self.hash[:8]


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: bytes | str | Callable[[Path], None], sync: bool = True) -> None:
    """Write beside ``path``, flush to disk, rename: readers see the old file or the new one, never a part.

    ``content`` may be a function that writes to the path it is given. An unwritable place is a UserError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=f".tmp{path.suffix}", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            if callable(content):
                content(temporary)
            else:
                temporary.write_bytes(content.encode() if isinstance(content, str) else content)
            if sync:
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); free space or choose another place with --out"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, value: Any, sync: bool = True) -> None:
    """Write JSON for people to read, atomically."""
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n", sync)


def read_json(path: Path) -> Any:
    """Read JSON; None where there is no file, a UserError where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); delete it and run the command again") from error


def read_done(path: Path) -> dict[str, Any]:
    """The done.json of a finished result, whatever its key; a UserError where it is not finished."""
    record: dict[str, Any] | None = read_json(path / DONE)
    if record is None:
        raise UserError(f"{path}: is not finished; run the command again")
    return record


def verify(path: Path, *names: str) -> dict[str, Any]:
    """Compare files of a finished result (all of them, where none is named) with the checksums in its done.json.

    Returns what done.json says. A changed or missing file is a UserError with the way out.
    """
    record = read_done(path)
    for name in names or tuple(record["files"]):
        file = path / name
        wanted = record["files"].get(name)
        if (
            wanted is None
            or not file.is_file()
            or file.stat().st_size != wanted["bytes"]
            or sha256_of(file) != wanted["sha256"]
        ):
            raise UserError(
                f"{file}: is missing or was changed after it was written; delete {path} and run the command again"
            )
    return record


@dataclass(frozen=True)
class Folder:
    """A result on disk. It is finished when done.json is there, which is written last and holds the checksums of its files."""

    path: Path
    key: Key

    def file(self, name: str) -> Path:
        """The path of one of its files."""
        return self.path / name

    @property
    def done(self) -> dict[str, Any] | None:
        """What ``finish`` recorded, None while unfinished; a result of another key is an error, never used."""
        record = read_json(self.path / DONE)
        if record is None:
            return None
        if record.get("key") != self.key.hash:
            raise UserError(
                f"{self.path}: holds the result of key {record.get('key')}, expected {self.key.hash}; "
                "move it away and run the command again"
            )
        return record

    def finish(self, files: tuple[str, ...], **facts: Any) -> dict[str, Any]:
        """Record the checksums of ``files`` and whatever ``facts`` are worth keeping; from now on the result is valid."""
        sums = {
            name: {"sha256": sha256_of(self.path / name), "bytes": (self.path / name).stat().st_size} for name in files
        }
        record = {"kind": self.key.kind, "key": self.key.hash, "files": sums} | facts
        write_json(self.path / DONE, record)
        return record

    def file_sum(self, name: str) -> str:
        """The checksum of one of its files, as ``finish`` recorded it."""
        return str(read_done(self.path)["files"][name]["sha256"])

    def verify(self, *names: str) -> None:
        """``verify`` its files, after comparing its key."""
        _ = self.done
        verify(self.path, *names)

    @contextmanager
    def lock(self, name: str = ".lock") -> Iterator[None]:
        """Hold this result for one process; a second one gets a UserError at once. The lock dies with its process.

        A command claims what it plans to make under another ``name`` than the worker that makes it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / name, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); choose another place with --out"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise UserError(f"{self.path}: another process is working on it; wait for it or stop it") from None
        try:
            for left_over in self.path.glob(".*.tmp*"):  # of a write that a kill interrupted
                left_over.unlink(missing_ok=True)
            yield
        finally:
            os.close(handle)
