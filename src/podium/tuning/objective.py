"""One trial: a recipe trained on its folds by ``train_fold``, scored at Hyperband's rungs and at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from podium import metrics
from podium.config import Competition, Recipe
from podium.data.fit import Fit, plan_fit
from podium.data.part import Dataset, Part
from podium.folds import Folds
from podium.inference.predict import load
from podium.jobs import fold_key, open_copies, open_site, weights_file
from podium.store import Folder, Key, read_json, write_json
from podium.training.fold import train_fold
from podium.training.inner import Inner
from podium.training.machine import Machine, detect
from podium.training.trainer import Trainer
from podium.tuning.study import Brief, judged_on, rungs, trial_key

RESULT, RUNGS = "result.json", "rungs.json"
Report = Callable[[int, float], None]
"""Told of the score at a rung; raises what ends the training where the trial is given up."""
Emit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, eq=False)
class Bench:
    """What all trials of a study have in common in this process. judged: the part that is scored, with its folds."""

    brief: Brief
    dataset: Dataset
    folds: Folds
    judged: tuple[Part, Folds]
    fit: Fit
    machine: Machine

    @property
    def competition(self) -> Competition:
        """The competition."""
        return self.brief.competition


def open_bench(brief: Brief) -> Bench:
    """The data, folds and machine of a study."""
    site = brief.site
    compile = "on" if site.compile == "on" else "off"
    machine = detect(site.device, site.precision, site.threads, site.source, compile, site.micro_batch)
    dataset, folds = open_site(site)
    judged = (dataset.train, folds)
    if judged_on(brief) is not None:
        copies, their_folds = open_copies(site, dataset, folds)
        judged = (copies.part, their_folds)
    return Bench(brief, dataset, folds, judged, plan_fit(dataset.parts, brief.competition.data.fit), machine)


def train_trial(bench: Bench, recipe: Recipe, report: Report, emit: Emit = lambda event: None) -> list[float]:
    """Train ``recipe`` on the study's folds and return its score on each, by the competition's metric.

    Its folder is called after what it is made of: a training that was interrupted goes on from its checkpoint, and a finished
    one is not repeated. It may be given up on the first fold only; the others follow for those that were not.
    """
    brief = bench.brief
    run, key = trial_key(brief, recipe)
    home = folder_of(brief, key)
    known = read_json(home / RESULT)
    if known is not None:
        return [float(score) for score in known["scores"]]
    scores = []
    for place, fold in enumerate(brief.tuning.folds):
        folder = Folder(home / f"fold{fold}", fold_key(run, fold))
        with folder.lock():
            inner = _inner(bench, recipe, fold)
            if place == 0:
                _replay(folder, report)
                watch = partial(_at_rungs, folder, inner, bench, recipe, report)
            train_fold(
                bench.competition,
                recipe,
                fold,
                brief.seed + recipe.seed,
                bench.dataset.train,
                bench.fit,
                bench.folds,
                folder,
                bench.machine,
                emit=emit,
                watch=watch if place == 0 else None,
            )
            scores.append(_score_of_weights(bench, recipe, folder, inner))
    write_json(home / RESULT, {"scores": scores})
    return scores


def folder_of(brief: Brief, key: Key) -> Path:
    """Where a trial's training lies."""
    return brief.folder / "trials" / key.short


def clear(brief: Brief, recipe: Recipe) -> None:
    """Delete the weights and checkpoints of a trial that has ended; what it did, and how it went, stays."""
    home = folder_of(brief, trial_key(brief, recipe)[1])
    for path in (*home.glob("fold*/*.safetensors"), *home.glob("fold*/last.pt"), *home.glob("fold*/.*.tmp*")):
        path.unlink(missing_ok=True)


def _inner(bench: Bench, recipe: Recipe, fold: int) -> Inner:
    """Scores a net on a fold, or on the corrupted copies of its images where models are chosen by those."""
    part, folds = bench.judged
    _, rows = folds.rows(fold)
    return Inner(bench.competition, part, rows, bench.fit, recipe.predict.views, bench.machine)


def _replay(folder: Folder, report: Report) -> None:
    """A trial that is continued reports what it had scored before, as if it had never been interrupted."""
    for epoch, score in (read_json(folder.file(RUNGS)) or {}).items():
        report(int(epoch), score)


def _at_rungs(
    folder: Folder, inner: Inner, bench: Bench, recipe: Recipe, report: Report, epoch: int, trainer: Trainer
) -> None:
    """Score the net at a rung, write that down, and report it, unless that was done before an interruption."""
    known = read_json(folder.file(RUNGS)) or {}
    if epoch not in rungs(bench.brief.epochs, bench.brief.tuning.shortest) or str(epoch) in known:
        return
    weights = trainer.average.state if recipe.train.ema else trainer.model.state_dict()
    score = _unsigned(bench.competition, inner.score(trainer.model, weights))
    write_json(folder.file(RUNGS), known | {str(epoch): score})
    report(epoch, score)


def _score_of_weights(bench: Bench, recipe: Recipe, folder: Folder, inner: Inner) -> float:
    """The score of the weights that predict, once a fold is trained."""
    name = weights_file(recipe.train.keep)
    folder.verify(name)
    channels = bench.dataset.train.channels
    model = load(recipe, bench.competition, channels, folder.file(name), bench.machine, bench.fit.size)
    return _unsigned(bench.competition, inner.score(model, model.state_dict()))


def _unsigned(competition: Competition, score: float) -> float:
    """The metric itself, out of what is larger where it is better."""
    return score if metrics.of(competition).higher_is_better else -score


def mean(scores: list[float]) -> float:
    """A trial's value."""
    return float(np.mean(scores))
