"""What choices are made on: one repeat's out-of-fold predictions of all models, fold by fold."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from podium.combine import Mean
from podium.config import Competition
from podium.data.ragged import Ragged
from podium.decode import Decision
from podium.metrics import Metric
from podium.scoring import stats_of

T = TypeVar("T")
FoldSet = tuple[int, ...]
"""Numbers of folds, ascending: the rows that something is chosen or scored on."""


@dataclass(frozen=True, eq=False)
class Table:
    """Predictions of M models on rows that each belong to one fold.

    volumes: fold → one volume per model, of the same ids. rows: fold → where the ids of its first volume stand in the fold
    file. groups: of all rows of the fold file. known: what was calculated before, see ``once``.
    """

    competition: Competition
    metric: Metric
    targets: Ragged
    volumes: Mapping[int, Sequence[Ragged]]
    rows: Mapping[int, np.ndarray]
    groups: np.ndarray
    known: dict[Hashable, Any] = field(default_factory=dict)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` gives, made once: sets of folds that overlap ask for the same things of a fold."""
        if key not in self.known:
            self.known[key] = make()
        found: T = self.known[key]
        return found

    @property
    def folds(self) -> FoldSet:
        """All folds."""
        return tuple(self.volumes)

    @property
    def models(self) -> int:
        """How many."""
        return len(next(iter(self.volumes.values())))

    def groups_of(self, folds: FoldSet) -> np.ndarray:
        """Groups of the folds' rows, in the order in which ``stacked`` has them."""
        return np.concatenate([self.groups[self.rows[k]] for k in folds])

    def stats(self, decision: Decision, fold: int, metric: Metric | None = None) -> np.ndarray:
        """Statistics (n, ...) of a fold's images, in the order of its first volume, decoded as ``decision`` says."""
        given = metric or self.metric
        return stats_of(given, self.competition, self.targets, self.volumes[fold], decision)[1]

    def plain(self, volumes: Sequence[Ragged], weights: Sequence[float], mean: Mean) -> np.ndarray:
        """Statistics of a blend that is decoded without steps."""
        return stats_of(self.metric, self.competition, self.targets, volumes, Decision(tuple(weights), mean))[1]


def without(folds: FoldSet, *left_out: int) -> FoldSet:
    """The folds but some."""
    return tuple(k for k in folds if k not in left_out)
