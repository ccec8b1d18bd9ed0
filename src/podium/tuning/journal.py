"""A study's journal file: locked so that a killed process leaves no lock behind, and mended where it was torn."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

_TAIL = 1 << 20


class Flock:
    """``flock`` on a file beside the journal: it dies with its process, where Optuna's own locks stay until they are old.

    It is what Optuna's ``JournalFileBackend`` asks of a ``lock_obj``: something to acquire and to release.

    Whoever takes it cuts off what another process, killed while it wrote, had left of a line.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._handle: int | None = None

    def acquire(self) -> bool:
        """Wait for the lock."""
        handle = os.open(self._journal.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(handle, fcntl.LOCK_EX)
        self._handle = handle
        cut_torn(self._journal)
        return True

    def release(self) -> None:
        """Let go of it."""
        assert self._handle is not None
        os.close(self._handle)
        self._handle = None


def cut_torn(journal: Path) -> int:
    """Cut off a last line without an end, the lock being held; returns the bytes that are gone."""
    try:
        file = journal.open("r+b")
    except FileNotFoundError:
        return 0
    with file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return 0
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return 0
        keep = _line_starts_at(file.fileno(), size)
        _cut(file.fileno(), keep)
        return size - keep


def mend(journal: Path) -> int:
    """Cut off all last lines that are not whole JSON; returns the bytes that are gone, 0 where all was in order."""
    lock = Flock(journal)
    if not journal.exists():
        return 0
    before = journal.stat().st_size
    lock.acquire()  # cuts off what has no end
    try:
        with journal.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            while size:
                start = _line_starts_at(file.fileno(), size - 1)
                file.seek(start)
                if _whole(file.read(size - start)):
                    break
                _cut(file.fileno(), start)
                size = start
    finally:
        lock.release()
    return before - size


def _whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _line_starts_at(handle: int, end: int) -> int:
    """Where the line begins that ends before ``end``: behind the line break before it."""
    while end > 0:
        start = max(0, end - _TAIL)
        found = os.pread(handle, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _cut(handle: int, size: int) -> None:
    os.ftruncate(handle, size)
    os.fsync(handle)
