"""The board: every model's out-of-fold score with its interval, the blend, and what a choice among them is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from podium.blend.oof import Oof
from podium.estimate import Repeats, best, best_of, bootstrap, nested, over_repeats
from podium.metrics import Metric
from podium.report.leaderboard import Agreement

RESAMPLES = 2000


@dataclass(frozen=True)
class Row:
    """One line: the official metric on the merged out-of-fold predictions, with a 90 % bootstrap interval over groups.

    With repeated folds the score is the mean over the repeats, each merged and scored by itself, and std their
    standard deviation: what another split would change. The interval says what other images would change. weights: which
    of a model's weights predicted: ``ema``, ``last`` or ``best``. corrupted: the same metric on corrupted copies of the
    images, with its interval. also: further metrics by name. in_sample: of a
    blend of which something was chosen, the score where it was; its score is then of choices made without each fold.
    parameters: of one net. public, private: what the leaderboard said of a file made of it, the last time.
    """

    name: str
    kind: str
    score: float
    low: float
    high: float
    parts: dict[str, float | None]
    images: int
    minutes: float | None = None
    epochs: float | None = None
    run: str = ""
    weights: str = ""
    std: float | None = None
    corrupted: float | None = None
    corrupted_low: float | None = None
    corrupted_high: float | None = None
    also: dict[str, float] = field(default_factory=dict)
    in_sample: float | None = None
    parameters: int | None = None
    public: float | None = None
    private: float | None = None


@dataclass(frozen=True)
class Choice:
    """What "take the model with the best out-of-fold score" would be worth: its score, and the honest one.

    by: which scores are meant, those on the images as they are or on ``corrupted`` copies.
    """

    model: str
    in_sample: float
    nested: float
    by: str = "clean"


@dataclass(frozen=True)
class Board:
    """All that the end of a run says; what ``--json`` prints.

    tuned: whether anything of the blend was chosen on its scores. leaderboard: what became of the submissions, on
    ``podium board``.
    """

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
    tuned: bool = False
    leaderboard: Agreement | None = None


def row(
    oof: Oof,
    kind: str,
    metric: Metric,
    groups: np.ndarray,
    facts: Mapping[str, Any] | None = None,
) -> Row:
    """Score a model or a blend; groups: of all rows of the fold file."""
    scores = [metric.score(oof.stats[:, repeat]) for repeat in range(oof.stats.shape[1])]
    interval = bootstrap(Repeats(metric), oof.stats, groups[oof.rows], RESAMPLES)
    parts: dict[str, float | None] = {}
    for i, name in enumerate(metric.parts):
        known = [part for score in scores if (part := score.parts[i]) is not None]
        parts[name] = float(np.mean(known)) if known else None
    values = [score.value for score in scores]
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    value = float(np.mean(values))
    return Row(oof.name, kind, value, interval.low, interval.high, parts, len(oof.rows), std=std, **(facts or {}))


def on_corrupted(oof: Oof, metric: Metric, groups: np.ndarray) -> dict[str, float]:
    """The facts of a row about corrupted copies; oof, groups: of the copies and their folds."""
    found = row(oof, "", metric, groups)
    return {"corrupted": found.score, "corrupted_low": found.low, "corrupted_high": found.high}


def ranked(rows: Sequence[Row], metric: Metric, by: str = "clean") -> list[Row]:
    """The rows, the best score first, or the best one on ``corrupted`` copies; equals stay as they were."""

    def score(row: Row) -> float:
        return row.score if by == "clean" or row.corrupted is None else row.corrupted

    return sorted(rows, key=score, reverse=metric.higher_is_better)


def choice(models: Sequence[Oof], metric: Metric, by: str = "clean") -> Choice | None:
    """Best single model, chosen on all rows and honestly; None with one model or one fold, where nothing is chosen.

    With repeated folds the honest score is the mean over the repeats, within each of which the choice is made anew.
    """
    folds = models[0].folds
    if len(models) < 2 or any(len(set(column[column >= 0].tolist())) < 2 for column in folds.T):
        return None
    candidates = np.stack([model.stats for model in models])
    honest = []
    for repeat, column in enumerate(folds.T):
        choose, apply = best_of(candidates[:, :, repeat], metric)
        honest.append(nested(choose, apply, column, metric.value).nested)
    scores = [over_repeats(metric, model.stats) for model in models]
    chosen = best(scores, metric)
    return Choice(models[chosen].name, scores[chosen], float(np.mean(honest)), by)
