"""Predictions made elsewhere, a teammate's for one: checked like our own, and kept beside them as a model to blend."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from podium.blend.members import Member
from podium.config_base import NAME
from podium.data.ragged import Ragged, index_of
from podium.errors import UserError
from podium.jobs import OOF, TEST
from podium.predictions_file import Given, read
from podium.prepare import Prepared
from podium.store import DONE, Folder, Key, read_json, sha256_of, write_json

IMPORTED = "imported"
RECORD = "imported.json"


def import_predictions(prepared: Prepared, name: str, oof: Path, test: Path | None) -> Member:
    """Check a file of out-of-fold predictions, and one of the test set, and keep them as the model ``name``.

    For the files see ``predictions_file.read``. ``folds`` of out-of-fold ones is the fold that each id was predicted in,
    counted as in the fold file: without it nobody could tell whether they are out of fold. Every id of a fold must be there
    once. Nothing is taken over unless all fits; a UserError says what does not.
    """
    if not re.match(NAME, name):
        raise UserError(f"{name}: a model's name is made of letters, digits and underscores; choose another")
    train, trained = read(oof, prepared.competition), prepared.dataset.train.images
    numbers = _check_folds(oof, train, prepared)
    _check_sizes(oof, train, trained, prepared.competition.masks)
    sums, tested = {"oof": sha256_of(oof)}, None
    if test is not None:
        part = prepared.dataset.test
        if part is None:
            raise UserError(f"{test}: {prepared.competition.name} has no test images; leave --test out")
        tested = read(test, prepared.competition)
        _check_once(test, tested.ids, "the test set")
        odd = sorted(set(tested.ids.tolist()) ^ set(part.images.ids.tolist()))
        if odd:
            raise UserError(
                f"{test}: id '{odd[0]}' is in this file or in the test set, not in both; export every test image"
            )
        _check_sizes(test, tested, part.images, prepared.competition.masks)
        sums["test"] = sha256_of(test)
    of = prepared.dataset.data_id, prepared.folds.folds_id
    key = Key(IMPORTED, 1, {"name": name} | sums, of)
    root = prepared.workspace.runs(prepared.name) / f"{IMPORTED}-{name}-{key.short}"
    for k in numbers:
        assert train.folds is not None
        _keep(root / f"fold{k}", _key(key.hash, k), OOF, train, np.flatnonzero(train.folds == k))
    if tested is not None:
        _keep(root / "test", _key(key.hash, "test"), TEST, tested, np.arange(len(tested.ids)))
    files = {"oof": str(oof.resolve()), "test": str(test.resolve()) if test else None}
    record = {"name": name, "run": key.hash, "data_id": of[0], "folds_id": of[1], "folds": numbers, "files": files}
    write_json(root / RECORD, record)  # last: without it nothing was imported
    found = open_imported(root)
    assert found is not None
    return found[0]


def open_imported(root: Path) -> tuple[Member, tuple[str, str], int] | None:
    """An imported model, the data and folds that it is of, and when it was imported; None where that was not finished."""
    record = read_json(root / RECORD)
    if record is None:
        return None
    run = str(record["run"])
    oof = {int(k): (root / f"fold{k}", _key(run, int(k))) for k in record["folds"]}
    test = (root / "test", _key(run, "test")) if (root / "test" / DONE).is_file() else None
    when = (root / RECORD).stat().st_mtime_ns
    return Member(record["name"], run, oof, test), (record["data_id"], record["folds_id"]), when


def _check_folds(path: Path, given: Given, prepared: Prepared) -> list[int]:
    """The folds of the file, each of which holds all of its ids and no others, once."""
    folds, file = prepared.folds, prepared.folds_path
    if given.folds is None:
        raise UserError(
            f"{path}: has no array 'folds', the fold that each id was predicted in, so nobody can tell whether these are out "
            f"of fold; add it, counted as in {file}"
        )
    numbers = sorted(set(given.folds.tolist()))
    for k in numbers:
        if not 0 <= k < folds.total:
            raise UserError(
                f"{path}: fold {k} is not in {file}, which has folds 0 to {folds.total - 1}; use its numbers"
            )
        mine, wanted = given.ids[given.folds == k], set(folds.ids[folds.rows(k)[1]].tolist())
        _check_once(path, mine, f"fold {k}")
        if odd := sorted(set(mine.tolist()) - wanted):
            raise UserError(
                f"{path}: id '{odd[0]}' was predicted in fold {k}, where {file} does not have it; train on the folds of that file"
            )
        if lacking := sorted(wanted - set(mine.tolist())):
            raise UserError(
                f"{path}: lacks id '{lacking[0]}' of fold {k} ({len(lacking)} in all); predict all of {file}"
            )
    return numbers


def _check_once(path: Path, ids: np.ndarray, where: str) -> None:
    found, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise UserError(f"{path}: id '{found[counts.argmax()]}' occurs twice in {where}; predict every image once")


def _check_sizes(path: Path, given: Given, images: Ragged, masks: bool) -> None:
    """Masks are as large as their images."""
    for name, item in zip(given.ids.tolist(), given.items, strict=True) if masks else ():
        own = tuple(images.shapes[images.index[name], 1:].tolist())
        if item.shape[1:] != own:
            raise UserError(
                f"{path}: id '{name}' is {item.shape[1]} × {item.shape[2]}, its image {own[0]} × {own[1]}; predict each image "
                "in its own size"
            )


def _key(run: str, fold: int | str) -> Key:
    return Key("oof", 1, {IMPORTED: fold}, (run,))


def _keep(path: Path, key: Key, file: str, given: Given, rows: np.ndarray) -> None:
    folder = Folder(path, key)
    with folder.lock():
        if folder.done is None:
            items = [given.items[row] for row in rows]
            values = np.concatenate([item.reshape(-1) for item in items])
            Ragged(values, np.array([item.shape for item in items], np.int64), given.ids[rows]).save(folder.file(file))
            folder.finish((file, index_of(folder.file(file)).name))
