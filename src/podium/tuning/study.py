"""A study: its identity, how it samples and prunes, and what its trials say of themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from podium import metrics
from podium.config import Competition, Recipe
from podium.config_tuning import Tuning
from podium.jobs import Site, run_key
from podium.randomness import stream
from podium.scoring import scored_by
from podium.store import Key

VERSION = 1
"""Raised by hand when trials of the same settings would mean something else."""
REDUCTION = 3
"""Of so many trials that reach a rung one goes on (Li et al. 2018, arXiv:1603.06560)."""
STARTUP = 8
"""Trials at random before the sampler goes by what it has seen: tunings here are short."""
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
# what trials say of themselves, as attributes in the storage
WORKER, ENDED, ERROR, RETRY_OF, DEATHS, DEFAULTS = "worker", "ended", "error", "retry_of", "deaths", "defaults"
SECONDS, SCORES = "seconds", "scores"


@dataclass(frozen=True)
class Brief:
    """All that a worker needs to take part in a study.

    recipe: with the length of a trial. folder: of the study. storage: address of a database, None for the journal in ``folder``.
    trials: how many shall be finished in the end, None for as many as the time allows. budget: seconds for all of it, None
    for no bound, from ``started`` (time.time()) on. confirmation: epochs of one fold that confirming takes, over all its
    trainings and workers. failed_before: trainings that had failed when this command began.
    """

    competition: Competition
    recipe: Recipe
    tuning: Tuning
    site: Site
    folder: Path
    name: str
    storage: str | None
    seed: int
    folds_id: str
    trials: int | None
    budget: float | None = None
    started: float = 0.0
    confirmation: float = 0.0
    failed_before: int = 0

    @property
    def epochs(self) -> int:
        """Length of a whole trial."""
        return self.recipe.train.epochs


def study_key(
    competition: Competition,
    recipe: Recipe,
    tuning: Tuning,
    seed: int,
    data_id: str,
    folds_id: str,
    judged_on: str | None,
) -> Key:
    """Identity of a study: what its trials' values depend on. recipe: with the length of a trial. judged_on: data_id of the
    corrupted copies that it goes by, None for the images as they are."""
    run = run_key(competition, recipe, seed + recipe.seed, None, data_id, folds_id)
    settings = {
        "space": {key: setting.model_dump(mode="json") for key, setting in tuning.space.items()},
        "folds": list(tuning.folds),
        "shortest": tuning.shortest,
        "predict": [list(recipe.predict.views), recipe.train.keep],
        "scored_by": scored_by(competition),
        "judged_on": judged_on,
    }
    return Key("study", VERSION, settings, (run.hash,))


def trial_key(brief: Brief, recipe: Recipe) -> tuple[Key, Key]:
    """Identity of a trial's training, and of the trial: its folder is called after the latter."""
    site = brief.site
    run = run_key(brief.competition, recipe, brief.seed + recipe.seed, None, site.data_id, brief.folds_id)
    settings = {"predict": [list(recipe.predict.views), recipe.train.keep], "judged_on": judged_on(brief)}
    return run, Key("trial", VERSION, settings | {"scored_by": scored_by(brief.competition)}, (run.hash,))


def judged_on(brief: Brief) -> str | None:
    """The data_id of the corrupted copies that models are chosen by, None where they are chosen by the images as they are."""
    return brief.site.corrupted if brief.competition.validation.choose_by == "corrupted" else None


def rungs(epochs: int, shortest: float) -> list[int]:
    """The epochs after which a trial may be given up: a share of its length, and every third part of what is left to grow."""
    found, rung = [], first_rung(epochs, shortest)
    while rung < epochs:
        found.append(rung)
        rung *= REDUCTION
    return found


def first_rung(epochs: int, shortest: float) -> int:
    """The earliest epoch after which a trial may be given up; that of the last epoch never is."""
    return min(epochs, max(1, math.ceil(epochs * shortest - 1e-9)))


def open_study(brief: Brief, storage: BaseStorage) -> optuna.Study:
    """The study in its storage, made there where it is new."""
    epochs = brief.epochs
    pruner = optuna.pruners.HyperbandPruner(first_rung(epochs, brief.tuning.shortest), epochs, REDUCTION)
    direction = "maximize" if metrics.of(brief.competition).higher_is_better else "minimize"
    return optuna.create_study(
        storage=storage, study_name=brief.name, direction=direction, pruner=pruner, load_if_exists=True
    )


def sampler(seed: int, trials: int) -> optuna.samplers.BaseSampler:
    """Tree-structured Parzen estimator (Bergstra et al. 2011); what it draws depends on the seed and on how many trials there
    are, so that a study that goes on does not draw the same again. Running trials count as bad ones, so that workers side by
    side look at different places."""
    return optuna.samplers.TPESampler(
        seed=stream("tune", seed, trials) % 2**32, n_startup_trials=STARTUP, constant_liar=True
    )


def shared(storage: BaseStorage) -> bool:
    """Whether other machines may work on it too."""
    return isinstance(storage, RDBStorage)


def finished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that ended as they should: to the end, or given up at a rung."""
    return [trial for trial in trials if trial.state in FINISHED]


def failures(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials whose training failed."""
    return [trial for trial in trials if trial.state == TrialState.FAIL and ERROR in trial.user_attrs]


def mean_seconds(trials: Sequence[FrozenTrial]) -> float | None:
    """What a trial takes that is trained to its end."""
    known: list[Any] = [t.user_attrs.get(SECONDS) for t in trials if t.state == TrialState.COMPLETE]
    spent = [float(value) for value in known if value is not None]
    return sum(spent) / len(spent) if spent else None
