"""The board: every model's out-of-fold score with its interval, the blend, and what a choice among them is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from podium.blend.oof import Oof
from podium.estimate import best_of, bootstrap, nested
from podium.metrics import MeanIoU

RESAMPLES = 2000


@dataclass(frozen=True)
class Row:
    """One line: the official metric on the merged out-of-fold predictions, with a 90 % bootstrap interval over groups."""

    name: str
    kind: str
    score: float
    low: float
    high: float
    per_class: dict[str, float | None]
    images: int
    minutes: float | None = None
    epochs: float | None = None
    run: str = ""


@dataclass(frozen=True)
class Choice:
    """What "take the model with the best out-of-fold score" would be worth: its score, and the honest one."""

    model: str
    in_sample: float
    nested: float


@dataclass(frozen=True)
class Board:
    """All that the end of a run says; what ``--json`` prints."""

    competition: str
    data: str
    metric: str
    folds: tuple[int, ...]
    of_folds: int
    rows: tuple[Row, ...]
    choice: Choice | None
    weights: dict[str, float]
    failures: dict[str, str]
    notes: tuple[str, ...]
    minutes: float
    submission: str | None
    upload: str | None


def row(
    oof: Oof,
    kind: str,
    metric: MeanIoU,
    groups: np.ndarray,
    classes: Sequence[str],
    facts: Mapping[str, Any] | None = None,
) -> Row:
    """Score a model or a blend; groups: of all rows of the fold file."""
    score = metric.score(oof.stats)
    interval = bootstrap(metric.values, oof.stats, groups[oof.rows], RESAMPLES)
    per_class = dict(zip(classes, score.per_class, strict=True))
    return Row(oof.name, kind, score.value, interval.low, interval.high, per_class, len(oof.rows), **(facts or {}))


def choice(models: Sequence[Oof], metric: MeanIoU, fold_of: np.ndarray) -> Choice | None:
    """Best single model, chosen on all rows and honestly; None with one model or one fold, where nothing is chosen."""
    if len(models) < 2 or len(np.unique(fold_of[models[0].rows])) < 2:
        return None
    candidates = np.stack([model.stats for model in models])
    choose, apply = best_of(candidates, metric.values)
    found = nested(choose, apply, fold_of[models[0].rows], metric.value)
    return Choice(models[found.choice].name, found.in_sample, found.nested)
