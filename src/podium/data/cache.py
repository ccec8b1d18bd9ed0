"""A decoded copy of a dataset on disk: made once, checked, memory-mapped by every process that needs it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from podium.data.part import Dataset, Part
from podium.data.ragged import Ragged, index_of
from podium.errors import UserError
from podium.store import sha256_of

FILES = ("train_images.npy", "train_targets.npy", "test_images.npy")
STALE_SECONDS = 6 * 3600


def cached(cache: Path, data_id: str, build: Callable[[], Dataset], notify: Callable[[str], None]) -> Dataset:
    """The dataset in ``cache``/``data_id``, made with ``build`` where it is missing or damaged.

    It is written beside and renamed: a kill or a second process never leaves half of one. ``notify`` is told
    when a damaged copy is replaced. A cache that cannot be written is a UserError.
    """
    folder = cache / data_id
    if folder.exists():
        fault = _fault(folder, thorough=True)
        if fault is None:
            return _open(folder, data_id)
        notify(f"{folder}: {fault}; decoding the competition's file again")
    dataset = build()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _sweep(cache)
        beside = cache / f".{data_id}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            _write(dataset, beside)
            _put(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        said = error.strerror or error
        raise UserError(f"{folder}: cannot be written ({said}); make room or change permissions") from error
    return _open(folder, data_id)


def open_cached(cache: Path, data_id: str) -> Dataset:
    """What ``cached`` made, for a worker that is told only the ``data_id``; sizes are checked, checksums are not."""
    folder = cache / data_id
    fault = _fault(folder, thorough=False)
    if fault is not None:
        raise UserError(f"{folder}: {fault}; run the command again, it is made anew")
    return _open(folder, data_id)


def _open(folder: Path, data_id: str) -> Dataset:
    train, targets, test = (Ragged.open(folder / name) for name in FILES)
    return Dataset(Part("train", train, targets, data_id), Part("test", test, None, data_id))


def _write(dataset: Dataset, folder: Path) -> None:
    if dataset.train.targets is None:
        raise ValueError("a training part without targets cannot be cached")
    folder.mkdir()
    files: dict[str, dict[str, int | str]] = {}
    for name, part in zip(FILES, (dataset.train.images, dataset.train.targets, dataset.test.images), strict=True):
        part.save(folder / name)
        for path in (folder / name, index_of(folder / name)):
            files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    with (folder / "done.json").open("w", encoding="utf-8") as file:  # last, and in a folder nobody looks into yet
        json.dump({"data_id": dataset.data_id, "files": files}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _put(beside: Path, folder: Path) -> None:
    """Rename ``beside`` to ``folder``; a good copy that another process put there meanwhile stays."""
    if folder.exists():
        if _fault(folder, thorough=True) is None:
            return
        away = beside.with_name(f"{beside.name}-damaged")
        os.rename(folder, away)
        shutil.rmtree(away, ignore_errors=True)
    try:
        os.rename(beside, folder)
    except OSError:
        if _fault(folder, thorough=False) is not None:  # not a race that another process won
            raise


def _fault(folder: Path, thorough: bool) -> str | None:
    """What is wrong with a cached copy, None where nothing is; ``thorough`` reads every byte."""
    try:
        record = json.loads((folder / "done.json").read_text(encoding="utf-8"))
        if record["data_id"] != folder.name:
            return f"done.json belongs to {record['data_id']}"
        expected = [path for name in FILES for path in (folder / name, index_of(folder / name))]
        for path in expected:
            wanted = record["files"][path.name]
            if path.stat().st_size != wanted["bytes"]:
                return f"{path.name} has {path.stat().st_size} bytes where {wanted['bytes']} were written"
            if thorough and sha256_of(path) != wanted["sha256"]:
                return f"{path.name} is damaged (its checksum differs)"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"cannot be read ({type(error).__name__}: {error})"
    return None


def _sweep(cache: Path) -> None:
    """Remove what killed processes left beside, once it is hours old."""
    for path in cache.glob(".*-*-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
