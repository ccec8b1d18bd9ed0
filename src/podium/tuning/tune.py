"""A tuning from its beginning to what it offers: prepare, search, confirm, write."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from podium.config import Recipe
from podium.prepare import Options, Prepared, Say
from podium.tuning import crew, plots, space
from podium.tuning.begin import CANDIDATES, Request, begin
from podium.tuning.confirm import Confirmed, confirm, winner
from podium.tuning.offer import write_recipe
from podium.tuning.queue import best, confirmation_seconds, queue_defaults, seconds_left, settle
from podium.tuning.storage import dashboard, open_storage
from podium.tuning.study import DEFAULTS, Brief, failures, finished, judged_on, mean_seconds, open_study
from podium.tuning.workers import together


@dataclass(frozen=True)
class Found:
    """A trial of the study: its value on the tuning's folds, and what it changes of the recipe."""

    trial: int
    value: float
    changes: dict[str, object]


@dataclass(frozen=True)
class Tuned:
    """All that a tuning has to say; what ``--json`` prints.

    finished, pruned, failed: numbers of trials, those given up being among the finished. defaults: the value of the recipe as it
    is on the same folds. confirmed: the candidates on another split; offered: the recipe that was written, where one won.
    """

    study: str
    metric: str
    folds: tuple[int, ...]
    epochs: int
    finished: int
    pruned: int
    failed: int
    defaults: float | None
    best: tuple[Found, ...]
    confirmed: tuple[Confirmed, ...]
    offered: str | None
    plots: tuple[str, ...]
    dashboard: str
    notes: tuple[str, ...]


def tune(name: str, options: Options, request: Request, console: Console) -> Tuned:
    """Search a recipe's settings and offer what proves better on another split. options.folds: instead of the space's."""
    started = time.time()

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    brief, base, prepared, asked = begin(name, options, request, started, say)
    storage = open_storage(brief.storage, brief.folder, say)
    study = open_study(brief, storage)
    brief = _take_up(study, storage, brief, say)
    stop = crew.run(brief, asked.workers or 1, say)
    notes = [_why(stop, brief)] if stop != "enough" else []
    found = best(study, brief, CANDIDATES)
    confirmed: list[Confirmed] = []
    offered: str | None = None
    lacking = _why_not_confirm(study, brief, request, found)
    if lacking is None:
        candidates = [
            (trial.number, space.recipe_of(base, values).model_copy(update={"name": f"{base.name}_t{trial.number}"}))
            for trial, values in found
        ]
        seed = prepared.competition.folds.seed + 1
        numbers = ", ".join(str(number) for number, _ in candidates)
        say(f"confirming trial {numbers} beside the recipe as it is, on all folds of the split with folds.seed {seed}")
        confirmed = confirm(name, asked, base, candidates, seed, console)
        won = winner(confirmed)
        if won is not None:
            tuned = next(recipe for number, recipe in candidates if number == won.trial)
            offered = str(_offer(prepared, brief, base, study, won, len(confirmed), tuned, seed))
    else:
        notes.append(lacking)
    return _summary(study, brief, found, confirmed, offered, notes)


def _take_up(study: optuna.Study, storage: BaseStorage, brief: Brief, say: Say) -> Brief:
    """Queue the defaults and what a kill interrupted; how many trainings had failed before is not held against this command."""
    with together(brief.folder):
        settle(study, storage, brief)
        queue_defaults(study, brief, space.defaults(brief.recipe, brief.tuning, brief.folder))
        trials = study.get_trials(deepcopy=False)
    done = len(finished(trials))
    if done:
        waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        again = f", {waiting} to be trained again" if waiting else ""
        say(f"{done} trials are finished{again}")
    return replace(brief, failed_before=len(failures(trials)))


def _why(stop: str, brief: Brief) -> str:
    if stop == "time":
        return "the time was up: the same command with a new --budget goes on"
    return f"nothing new could be drawn from {len(brief.tuning.space)} settings: the space is tried out"


def _why_not_confirm(
    study: optuna.Study, brief: Brief, request: Request, found: Sequence[tuple[FrozenTrial, space.Values]]
) -> str | None:
    """Why nothing can be confirmed now, None where it can."""
    if not request.confirm:
        return (
            "nothing was confirmed, as asked: what a tuning finds on its own folds is no proof; leave --no-confirm out"
        )
    if not found:
        return "nothing was confirmed: no trial but the recipe as it is was trained to its end; ask for more --trials"
    trials = study.get_trials(deepcopy=False)
    one = mean_seconds(trials)
    if one is not None:
        takes, left = confirmation_seconds(brief, one), seconds_left(brief)
        if takes > left:
            return (
                f"nothing was confirmed: it would take about {_time(takes)}, and {_time(left)} are left of the budget; the "
                f"same command with --trials {len(finished(trials))} and no --budget confirms"
            )
    return None


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _offer(
    prepared: Prepared,
    brief: Brief,
    base: Recipe,
    study: optuna.Study,
    won: Confirmed,
    compared: int,
    tuned: Recipe,
    seed: int,
) -> Path:
    """Write the recipe that won: into configs/models, or beside the study where it was found on the built-in sample."""
    workspace, trials = prepared.workspace, study.get_trials(deepcopy=False)
    own = next((t.value for t in trials if DEFAULTS in t.user_attrs and t.state == TrialState.COMPLETE), None)
    values = space.values_of(brief.tuning, trials[won.trial].params)
    folds = " and ".join(map(str, brief.tuning.folds))
    metric = prepared.competition.metric
    head = [
        f"{base.name} with other settings, found by 'podium tune {prepared.competition.name}': {space.sentence(values)}.",
        f"Study {brief.name}, trial {won.trial} of {len(finished(trials))}: {metric} {trials[won.trial].value:.4f} on fold {folds} after "
        f"{brief.epochs} epochs; the recipe as it is {'-' if own is None else f'{own:.4f}'}.",
        f"All folds of another split (folds.seed {seed}), {tuned.train.epochs} epochs: {won.score:.4f}, the recipe as it is "
        f"{won.defaults:.4f}; gain {won.gain:+.4f}, 90 % interval {won.low:+.4f} to {won.high:+.4f} (paired bootstrap over groups).",
        f"It is the best of {compared} compared there, which flatters the gain a little.",
    ]
    folder = brief.folder if prepared.origin.sample else workspace.recipes
    return write_recipe(folder, workspace.recipes, tuned, base.name, head)


def _summary(
    study: optuna.Study,
    brief: Brief,
    found: Sequence[tuple[FrozenTrial, space.Values]],
    confirmed: Sequence[Confirmed],
    offered: str | None,
    notes: Sequence[str],
) -> Tuned:
    trials = study.get_trials(deepcopy=False)
    own = next((t.value for t in trials if DEFAULTS in t.user_attrs and t.state == TrialState.COMPLETE), None)
    metric = str(brief.competition.metric)
    on = " of corrupted copies" if judged_on(brief) else ""
    return Tuned(
        brief.name,
        metric + on,
        brief.tuning.folds,
        brief.epochs,
        len(finished(trials)),
        sum(trial.state == TrialState.PRUNED for trial in trials),
        len(failures(trials)),
        own,
        tuple(Found(trial.number, trial.value or 0.0, values) for trial, values in found),
        tuple(confirmed),
        offered,
        tuple(str(path) for path in plots.save(study, brief.folder / "plots", metric)),
        dashboard(brief.storage, brief.folder),
        tuple(notes),
    )
