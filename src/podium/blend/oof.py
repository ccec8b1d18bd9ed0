"""Out-of-fold predictions of a recipe, put together from its folds with every check that joining by id allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from podium.data.ragged import Ragged, index_of
from podium.errors import UserError
from podium.folds import Folds
from podium.jobs import OOF, STATS
from podium.store import Folder, Key


@dataclass(frozen=True, eq=False)
class Oof:
    """One model's out-of-fold statistics on the rows of the chosen folds.

    rows: positions in the fold file, ascending. stats: (n, ...) the metric's statistics of each row.
    """

    name: str
    rows: np.ndarray
    stats: np.ndarray


def merge(name: str, parts: Mapping[int, tuple[Path, Key]], folds: Folds, classes: int) -> Oof:
    """Merge the statistics of a recipe's folds; parts: fold → (folder, key) of its out-of-fold result.

    Every id must occur once, in the fold that the fold file gives it, with all classes.
    """
    rows, stats = [], []
    for fold, (path, key) in parts.items():
        folder = Folder(path, key)
        folder.verify(STATS, index_of(path / OOF).name)
        with np.load(index_of(path / OOF), allow_pickle=False) as index:
            ids, shapes = index["ids"], index["shapes"]
        check(path, ids, shapes, fold, folds, classes)
        rows.append(positions(ids, folds))
        stats.append(np.load(path / STATS, allow_pickle=False))
    order = np.argsort(np.concatenate(rows), kind="stable")
    return Oof(name, np.concatenate(rows)[order], np.concatenate(stats)[order])


def positions(ids: np.ndarray, folds: Folds) -> np.ndarray:
    """Rows of the fold file that hold ``ids``, int (n,)."""
    return np.array([folds.index[name] for name in ids.tolist()], np.int64)


def volume(path: Path, key: Key, fold: int, folds: Folds, classes: int) -> Ragged:
    """The probabilities of one fold, memory-mapped, after the same checks."""
    Folder(path, key).verify(OOF, index_of(path / OOF).name)
    opened = Ragged.open(path / OOF)
    check(path, opened.ids, opened.shapes, fold, folds, classes)
    return opened


def check(path: Path, ids: np.ndarray, shapes: np.ndarray, fold: int, folds: Folds, classes: int) -> None:
    """Predictions of a fold hold each of its ids once, no others, and every class."""
    _, validation = folds.rows(fold)
    wanted = folds.ids[validation]
    odd = sorted(set(ids.tolist()) ^ set(wanted.tolist()))
    if odd or len(ids) != len(wanted):
        what = f"id '{odd[0]}' is on one side only" if odd else "an id occurs twice"
        raise UserError(
            f"{path}: its ids are not those of fold {fold} in the fold file ({what}); delete {path} and run the command again"
        )
    if (shapes[:, 0] != classes).any():
        raise UserError(
            f"{path}: holds {shapes[0, 0]} classes, the competition has {classes}; delete {path} and run the command again"
        )
