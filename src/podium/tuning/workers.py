"""Which worker processes are alive: each holds a lock on a file of its own, which dies with it whatever it dies of."""

from __future__ import annotations

import fcntl
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from podium.errors import UserError

FOLDER = "workers"


@contextmanager
def enrolled(folder: Path) -> Iterator[str]:
    """Be one of a study's workers for as long as this lasts; yields the name by which others ask whether it is alive."""
    path = folder / FOLDER / f"{socket.gethostname()}-{uuid.uuid4().hex}"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield path.name
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def alive(folder: Path, worker: str) -> bool:
    """Whether a worker of this machine still runs; the file of one that does not is taken away."""
    path = folder / FOLDER / worker
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        path.unlink(missing_ok=True)
        return False
    finally:
        os.close(handle)


def is_here(worker: str) -> bool:
    """Whether a worker was started on this machine."""
    return worker.rpartition("-")[0] == socket.gethostname()


@contextmanager
def together(folder: Path) -> Iterator[None]:
    """One process of this machine at a time looks at what a study has and takes from it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / "study.lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another place with --out") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
