"""Out-of-fold predictions of a recipe, put together from its folds with every check that joining by id allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from podium.config import Competition
from podium.config_metric import AnyMetric
from podium.data.part import Part
from podium.data.ragged import Ragged, index_of
from podium.errors import UserError
from podium.folds import Folds
from podium.jobs import OOF
from podium.scoring import fold_stats
from podium.store import Folder, Key


@dataclass(frozen=True, eq=False)
class Oof:
    """One model's out-of-fold statistics on the rows of the chosen folds.

    rows: positions in the fold file, ascending. folds: (n, R), the fold in which each repeat predicted the row, -1 where
    that fold was not chosen. stats: (n, R, ...) the metric's statistics, 0 where there is no prediction.
    """

    name: str
    rows: np.ndarray
    folds: np.ndarray
    stats: np.ndarray


def merge(
    name: str,
    parts: Mapping[int, tuple[Path, Key]],
    folds: Folds,
    competition: Competition,
    part: Part,
    metric: AnyMetric | None = None,
) -> Oof:
    """Merge the statistics of a recipe's folds; parts: fold → (folder, key) of its out-of-fold result.

    Every id must occur once per repeat, in the fold that the fold file gives it, with all classes. part: the training
    part, whose targets it is scored with. metric: another than the competition's own.
    """
    pieces = {}
    for fold, (path, key) in parts.items():
        folder = Folder(path, key)
        folder.verify(index_of(path / OOF).name)
        with np.load(index_of(path / OOF), allow_pickle=False) as index:
            ids, shapes = index["ids"], index["shapes"]
        check(path, ids, shapes, fold, folds, competition.answers)
        pieces[fold] = fold_stats(folder, competition, part, metric)
    return gather(name, pieces, folds)


def gather(name: str, pieces: Mapping[int, tuple[np.ndarray, np.ndarray]], folds: Folds) -> Oof:
    """Put folds together; pieces: fold → its ids (n,) and their statistics (n, ...), in the same order."""
    rows, fold_of = layout(tuple(pieces), folds)
    repeats = sorted({fold // folds.count for fold in pieces})
    first = next(iter(pieces.values()))[1]
    stats = np.zeros((*fold_of.shape, *first.shape[1:]), first.dtype)
    for fold, (ids, values) in pieces.items():
        where = [folds.index[name] for name in ids.tolist()]
        if sorted(where) != folds.rows(fold)[1].tolist():
            raise ValueError(f"{name}: predictions of fold {fold} are not one per row of it")
        at = np.searchsorted(rows, where)
        stats[at, repeats.index(fold // folds.count)] = values
    return Oof(name, rows, fold_of, stats)


def together(a: Oof, b: Oof) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows that both have, ascending (n,), and the statistics of each there, (n, R, ...); none where their repeats differ."""
    rows = np.intersect1d(a.rows, b.rows) if a.stats.shape[1:] == b.stats.shape[1:] else a.rows[:0]
    return rows, a.stats[np.searchsorted(a.rows, rows)], b.stats[np.searchsorted(b.rows, rows)]


def layout(chosen: Sequence[int], folds: Folds) -> tuple[np.ndarray, np.ndarray]:
    """The rows that the chosen folds validate on, ascending (n,), and the fold of each in each repeat (n, R), -1 for none."""
    repeats = sorted({fold // folds.count for fold in chosen})
    whole = np.full((len(folds), len(repeats)), -1, np.int64)
    for fold in chosen:
        whole[folds.rows(fold)[1], repeats.index(fold // folds.count)] = fold
    rows = np.flatnonzero((whole >= 0).any(axis=1))
    return rows, whole[rows]


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
