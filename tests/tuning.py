"""A study whose trainings are stand-ins that take no time: what can go wrong around them is the same."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import optuna
from optuna.trial import TrialState

from podium.config import Competition, Recipe
from podium.config_file import load_competition, load_recipe
from podium.config_tuning import load_tuning
from podium.jobs import Site
from podium.store import write_atomically
from podium.tuning.loop import Report, work
from podium.tuning.queue import queue_defaults, settle
from podium.tuning.space import defaults
from podium.tuning.storage import open_storage
from podium.tuning.study import ENDED, Brief, failures, finished, open_study
from podium.tuning.workers import together
from project import COMPETITION, SMALL

SPACE = """
epochs: 9
space:
  train.lr: {low: 1e-4, high: 1e-1, log: true}
  train.batch: {choices: [4, 8, 16]}
  train.optimiser: {choices: [adamw, sgd]}
  train.momentum: {low: 0.8, high: 0.99, when: {train.optimiser: sgd}}
"""


def brief_in(folder: Path, trials: int | None = 12, storage: str | None = None, space: str = SPACE) -> Brief:
    """The brief of a study in ``folder``, with a competition and a recipe that are nowhere else."""
    competition, recipe = settings_in(folder)
    path = folder / "space.yaml"
    write_atomically(path, space)
    site = Site("tiny", "", "data", "source", "")
    home, name = folder / "study", "tiny-small"
    return Brief(competition, recipe, load_tuning(path), site, home, name, storage, 0, "folds", trials)


def settings_in(folder: Path) -> tuple[Competition, Recipe]:
    """The tiny competition and its recipe, nine epochs long."""
    for name, text in (("tiny", COMPETITION), ("small", SMALL)):
        path = folder / "settings" / f"{name}.yaml"
        write_atomically(path, text)  # several processes do this at once
    return load_competition(folder / "settings" / "tiny.yaml"), load_recipe(
        folder / "settings" / "small.yaml", ["train.epochs=9"]
    )


def opened(brief: Brief) -> tuple[optuna.Study, optuna.storages.BaseStorage, Brief]:
    """The study, taken up as the command does."""
    storage = open_storage(brief.storage, brief.folder)
    study = open_study(brief, storage)
    with together(brief.folder):
        settle(study, storage, brief)
        queue_defaults(study, brief, defaults(brief.recipe, brief.tuning, brief.folder))
    return study, storage, replace(brief, failed_before=len(failures(study.trials)))


def quality(recipe: Recipe) -> float:
    """What a stand-in training comes to: best at a rate of 1e-2."""
    return 1.0 / (1.0 + (math.log10(recipe.train.lr) + 2.0) ** 2)


def stand_in(log: Path, seconds: float = 0.0):
    """A training that writes its beginning into ``log`` and scores as well after a third of its time as at its end."""

    def train(recipe: Recipe, report: Report) -> list[float]:
        with log.open("a") as file:
            file.write(json.dumps([os.getpid(), recipe.train.lr]) + "\n")
        time.sleep(seconds)
        for epoch in (1, 3):
            report(epoch, quality(recipe))
        return [quality(recipe)]

    return train


def check_whole(brief: Brief, trials: int) -> None:
    """As many finished trials as asked for, none twice, nothing left running, and every other one explained."""
    study, _, _ = opened(brief)
    ended = finished(study.trials)
    assert len(ended) == trials
    params = [json.dumps(trial.params, sort_keys=True) for trial in ended]
    assert len(set(params)) == trials
    others = [trial for trial in study.trials if trial not in ended]
    assert all(trial.state == TrialState.FAIL and ENDED in trial.user_attrs for trial in others), others


if __name__ == "__main__":
    folder, number, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    url = sys.argv[4] if len(sys.argv) > 4 else None
    taken_up = opened(brief_in(folder, number, url))
    why = work(*taken_up, stand_in(folder / "begun.log", seconds), lambda recipe: None, print)
    print(why)
