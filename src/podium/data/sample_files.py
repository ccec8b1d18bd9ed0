"""How samples come to disk, whole or not at all, and how a copy of one is known as a sample."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import re
import secrets
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from podium.errors import UserError
from podium.store import read_json, sha256_of, write_json

MARKER = "podium-sample.json"
"""In a sample's folder; not a hidden file, which ``cp folder/*`` would leave behind."""

Content = Mapping[str, np.ndarray | str]
"""Arrays of an npz file by key; or, by path below the folder, pictures (uint8, (H, W) or (H, W, 3)) and texts."""


def write_npz(path: Path, arrays: Content, mark: str) -> None:
    """Write one npz file with ``mark`` in its zip comment."""
    beside = path.with_name(f".{path.stem}-{os.getpid()}-{secrets.token_hex(4)}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            np.savez_compressed(beside, allow_pickle=False, **{key: np.asarray(value) for key, value in arrays.items()})
            with zipfile.ZipFile(beside, "a") as archive:
                archive.comment = mark.encode()
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def write_folder(folder: Path, content: Content, mark: str, what: str) -> None:
    """Write pictures and texts with a marker beside them, which holds ``mark``, ``what`` and all checksums.

    An untouched sample is replaced, or left alone where it is the very same. A folder that holds anything else is left
    as it is, with a UserError.
    """
    files = {name: value.encode() if isinstance(value, str) else _png(value) for name, value in content.items()}
    sums = {name: hashlib.sha256(held).hexdigest() for name, held in files.items()}
    record = {"mark": mark, "what": what, "files": sums}
    beside = folder.with_name(f".{folder.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            try:
                if _untouched(folder) and _record(folder) == record:
                    return
                for name, held in files.items():
                    path = beside / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(held)
                write_json(beside / MARKER, record, sync=False)
                _put(beside, folder)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def mark_of(path: Path) -> str:
    """The mark that a sample was written with, a file or a folder; empty where ``path`` is none, or is damaged.

    A folder whose files have all been replaced by others is no sample any more.
    """
    if path.is_dir():
        record = _record(path)
        if record is None:
            return ""
        there = {name: found for name in record["files"] if (found := path / name).is_file()}
        ours = not there or any(sha256_of(found) == record["files"][name] for name, found in there.items())
        return str(record["mark"]) if ours else ""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.comment.decode(errors="replace")
    except (OSError, zipfile.BadZipFile):
        return ""


def _record(folder: Path) -> dict[str, Any] | None:
    """What the marker says; None where there is none that can be read."""
    try:
        record = read_json(folder / MARKER)
    except UserError:
        return None
    whole = isinstance(record, dict) and isinstance(record.get("mark"), str) and isinstance(record.get("files"), dict)
    return record if whole else None


def _untouched(folder: Path) -> bool:
    """Whether a folder holds a sample's files, all as they were written, and nothing else."""
    record = _record(folder)
    if record is None:
        return False
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    return there.keys() == {*record["files"], MARKER} and all(
        sha256_of(there[name]) == digest for name, digest in record["files"].items()
    )


def _put(beside: Path, folder: Path) -> None:
    """Rename ``beside`` to ``folder``, in the place of an untouched sample or of nothing."""
    if _untouched(folder):
        away = beside.with_name(f"{beside.name}-old")
        os.rename(folder, away)
        os.rename(beside, folder)
        shutil.rmtree(away, ignore_errors=True)
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(
            f"{folder}: holds other files than the built-in sample, and is not overwritten; move it away, or name another "
            "folder with --data"
        )
    os.rename(beside, folder)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time writes ``folder``; what killed ones left beside it is removed."""
    handle = os.open(folder.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a network's disk may have no locks: two writers then just both write
            fcntl.flock(handle, fcntl.LOCK_EX)
            for entry in folder.parent.iterdir():
                if re.fullmatch(rf"\.{re.escape(folder.name)}-[0-9]+-[0-9a-f]{{8}}(-old)?", entry.name):
                    shutil.rmtree(entry, ignore_errors=True)
        yield
    finally:
        os.close(handle)


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be written ({error.strerror or error}); make room or use --data")
