"""A decoded copy of a dataset on disk: made once, checked, memory-mapped by every process that needs it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from podium.data.chunk import Bad, Chunk
from podium.data.part import Dataset, Part
from podium.data.ragged import Ragged, RaggedWriter, index_of
from podium.errors import UserError
from podium.store import sha256_of

TRAIN, TARGETS, TEST, GROUPS = "train_images.npy", "train_targets.npy", "test_images.npy", "train_groups.npy"
UINT8 = np.dtype(np.uint8)
STALE_SECONDS = 6 * 3600
READ_BACK_BYTES = 1 << 30
"""Copies up to this size are read whole at every start to find damage; of larger ones only the sizes are compared."""


@dataclass(frozen=True)
class Recipe:
    """How a dataset is made: its parts, piece by piece, and what was found bad in them.

    test: None where the competition gives no test images. groups: which of some training ids belong together, from
    elsewhere than the chunks; None where they say so themselves or nothing does. targets: their dtype.
    """

    dtype: np.dtype
    train: Callable[[], Iterator[Chunk]]
    test: Callable[[], Iterator[Chunk]] | None
    bad: Bad
    groups: Callable[[list[str]], list[str]] | None = None
    source_id: str | None = None
    targets: np.dtype = UINT8


def cached(cache: Path, data_id: str, recipe: Recipe, notify: Callable[[str], None]) -> Dataset:
    """The dataset in ``cache``/``data_id``, made by ``recipe`` where it is missing or damaged.

    It is written beside and renamed: a kill or a second process never leaves half of one. Memory does not grow with
    its size. ``notify`` is told when a damaged copy is replaced. A cache that cannot be written is a UserError.
    """
    folder = cache / data_id
    if folder.exists():
        fault = _fault(folder, thorough=True)
        if fault is None:
            return _open(folder, data_id)
        notify(f"{folder}: {fault}; decoding the competition's data again")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _sweep(cache)
        beside = cache / f".{data_id}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            _write(recipe, beside, data_id)
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
    record = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    groups = np.load(folder / GROUPS, allow_pickle=False) if GROUPS in record["files"] else None
    train = Part("train", Ragged.open(folder / TRAIN), Ragged.open(folder / TARGETS), data_id, groups)
    test = Part("test", Ragged.open(folder / TEST), None, data_id) if TEST in record["files"] else None
    return Dataset(train, test, record["source_id"], tuple(record["skipped"]))


def _write(recipe: Recipe, folder: Path, data_id: str) -> None:
    folder.mkdir()
    names = [TRAIN, TARGETS]
    images, targets = RaggedWriter(folder / TRAIN, recipe.dtype), RaggedWriter(folder / TARGETS, recipe.targets)
    ids: list[str] = []
    groups: list[str] = []
    for chunk in recipe.train():
        if chunk.targets is None:
            raise ValueError("a training part without targets cannot be cached")
        images.append(chunk.images)
        targets.append(chunk.targets)
        ids += chunk.ids
        groups += chunk.groups or []
    images.close(ids)
    targets.close(ids)
    if recipe.groups is not None:
        groups = recipe.groups(ids)
    if groups:
        names.append(GROUPS)
        np.save(folder / GROUPS, np.array(groups, np.str_))
    if recipe.test is not None:
        names.append(TEST)
        tests = RaggedWriter(folder / TEST, recipe.dtype)
        test_ids: list[str] = []
        for chunk in recipe.test():
            tests.append(chunk.images)
            test_ids += chunk.ids
        tests.close(test_ids)
    files: dict[str, dict[str, int | str]] = {}
    for name in names:
        for path in (folder / name, *([index_of(folder / name)] if name != GROUPS else [])):
            files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    record = {
        "data_id": data_id,
        "source_id": recipe.source_id or data_id,
        "skipped": recipe.bad.skipped,
        "files": files,
    }
    with (folder / "done.json").open("w", encoding="utf-8") as file:  # last, and in a folder nobody looks into yet
        json.dump(record, file, indent=1)
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
        thorough = thorough and sum(wanted["bytes"] for wanted in record["files"].values()) <= READ_BACK_BYTES
        for name, wanted in record["files"].items():
            path = folder / name
            if path.stat().st_size != wanted["bytes"]:
                return f"{path.name} has {path.stat().st_size} bytes where {wanted['bytes']} were written"
            if thorough and sha256_of(path) != wanted["sha256"]:
                return f"{path.name} is damaged (its checksum differs)"
        if not {TRAIN, TARGETS} <= record["files"].keys() or not isinstance(record["skipped"], list):
            return "done.json is not complete"
        if not isinstance(record["source_id"], str):
            return "done.json is not complete"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"cannot be read ({type(error).__name__}: {error})"
    return None


def _sweep(cache: Path) -> None:
    """Remove what killed processes left beside, once it is hours old."""
    for path in cache.glob(".*-*-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
