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
from podium.config_file import find, override_recipe
from podium.config_tuning import Tuning, load_tuning
from podium.cores import cores
from podium.errors import UserError
from podium.pipeline import make_plan
from podium.prepare import Options, Prepared, Say, prepare, read_competition
from podium.tuning import crew, plots, space
from podium.tuning.confirm import Confirmed, confirm, winner
from podium.tuning.offer import write_recipe
from podium.tuning.queue import best, confirmation_seconds, queue_defaults, settle
from podium.tuning.storage import advice, dashboard, open_storage
from podium.tuning.study import DEFAULTS, Brief, failures, finished, judged_on, mean_seconds, open_study, study_key
from podium.tuning.workers import together

TRIALS = 20
"""Where neither trials nor time are given."""
CANDIDATES = 3
"""Best trials that are confirmed beside the defaults."""
SAMPLE_EPOCHS = 3
"""Length of every training on the built-in sample where none is given: it is there to be tried."""


@dataclass(frozen=True)
class Request:
    """What is asked for beside the options that all verbs share. budget: seconds for all of it."""

    model: str | None = None
    trials: int | None = None
    budget: float | None = None
    storage: str | None = None
    confirm: bool = True


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

    brief, base, prepared, asked = _begin(name, options, request, started, say)
    storage = open_storage(brief.storage, brief.folder, say)
    study = open_study(brief, storage)
    brief = _take_up(study, storage, brief, base, say)
    stop = crew.run(brief, asked.workers or 1, say)
    notes = [_why(stop, brief)] if stop != "enough" else []
    found = best(study, brief, CANDIDATES)
    confirmed: list[Confirmed] = []
    offered: str | None = None
    lacking = _why_not_confirm(study, brief, request, found)
    if lacking is None:
        length = brief.tuning.confirm_epochs or base.train.epochs
        whole = override_recipe(base, [f"train.epochs={length}"], f"recipe '{base.name}'")
        candidates = [
            (trial.number, space.recipe_of(whole, values).model_copy(update={"name": f"{base.name}_t{trial.number}"}))
            for trial, values in found
        ]
        seed = prepared.competition.folds.seed + 1
        say(
            f"confirming: trials {', '.join(str(number) for number, _ in candidates)} and the recipe as it is on the split of seed {seed}"
        )
        confirmed = confirm(name, asked, whole, candidates, seed, console)
        won = winner(confirmed)
        if won is not None:
            tuned = next(recipe for number, recipe in candidates if number == won.trial)
            offered = str(_offer(prepared, brief, base, study, won, len(confirmed), tuned, seed))
    else:
        notes.append(lacking)
    return _summary(study, brief, found, confirmed, offered, notes)


def _begin(
    name: str, options: Options, request: Request, started: float, say: Say
) -> tuple[Brief, Recipe, Prepared, Options]:
    """Read and check everything before the first trial: settings, space, data, folds."""
    workspace, competition = read_competition(name, options)
    model = request.model or competition.models[0]
    find(workspace.recipes, model, "model")
    path = workspace.root / "tuning" / f"{name}-{model}.yaml"
    if not path.is_file():
        others = sorted(p.stem.removeprefix(f"{name}-") for p in path.parent.glob(f"{name}-*.yaml"))
        there = f"there are spaces for {', '.join(others)}" if others else "docs/tuning.md says how to write one"
        raise UserError(f"{path}: there is no search space for '{model}' of {name}; {there}")
    tuning = load_tuning(path)
    if options.folds:
        if len(options.folds) > 2:
            raise UserError(
                f"--folds: a trial is trained on one or two folds, {len(options.folds)} are named; name fewer"
            )
        tuning = tuning.model_copy(update={"folds": options.folds})
    asked = replace(options, models=(model,), folds=tuning.folds, budget=None, workers=options.workers or 1)
    if request.storage and (said := advice(request.storage)):
        say(f"note: {said}")
    prepared = prepare(name, asked, say)
    base = prepared.recipes[0]
    if prepared.origin.sample and not any(text.startswith("train.epochs") for text in options.overrides):
        say(f"on the sample all trainings take {SAMPLE_EPOCHS} epochs unless --set train.epochs=N says otherwise")
        base = override_recipe(base, [f"train.epochs={SAMPLE_EPOCHS}"], f"recipe '{base.name}'")
        tuning = tuning.model_copy(update={"confirm_epochs": None})
        prepared = replace(prepared, recipes=(base,))
    epochs = min(tuning.epochs or base.train.epochs, base.train.epochs)
    short = override_recipe(base, [f"train.epochs={epochs}"], f"{path}: key 'epochs': recipe '{base.name}'")
    space.check(short, tuning, prepared.competition, path)
    space.defaults(short, tuning, path)
    site = make_plan(prepared, asked, say, measure=False).site
    if site.threads is None:
        site = replace(site, threads=max(1, cores() // (asked.workers or 1)))
    folds = prepared.folds
    judged = site.corrupted if prepared.competition.validation.choose_by == "corrupted" else None
    key = study_key(prepared.competition, short, tuning, options.seed, site.data_id, folds.folds_id, judged)
    studies = workspace.out / "tuning" / "studies"
    study = f"{prepared.name}-{model}-{key.short}"
    brief = Brief(
        prepared.competition,
        short,
        tuning,
        site,
        studies / study,
        study,
        request.storage,
        options.seed,
        folds.folds_id,
        request.trials if request.trials or request.budget else TRIALS,
        started + request.budget if request.budget else None,
        _confirmation(tuning, base, folds.total, asked) if request.confirm else 0.0,
    )
    _say_which(brief, studies, f"{prepared.name}-{model}-", say)
    return brief, base, prepared, asked


def _confirmation(tuning: Tuning, base: Recipe, folds: int, options: Options) -> float:
    """Epochs of one fold that confirming takes, shared by the workers."""
    return (tuning.confirm_epochs or base.train.epochs) * folds * (1 + CANDIDATES) / (options.workers or 1)


def _say_which(brief: Brief, studies: Path, prefix: str, say: Say) -> None:
    if brief.folder.is_dir():
        say(f"study {brief.name} goes on ({brief.folder})")
        return
    others = sorted(path.name for path in studies.glob(f"{prefix}*") if path.is_dir())
    more = f"; {others[-1]} was of another space, recipe, split or seed and is left as it is" if others else ""
    say(f"study {brief.name} begins ({brief.folder}){more}")


def _take_up(study: optuna.Study, storage: BaseStorage, brief: Brief, base: Recipe, say: Say) -> Brief:
    """Queue the defaults and what a kill interrupted; how many trainings had failed before is not held against this command."""
    path = brief.folder  # names the study in what is said of it
    with together(brief.folder):
        settle(study, storage, brief)
        queue_defaults(study, brief, space.defaults(brief.recipe, brief.tuning, path))
        trials = study.get_trials(deepcopy=False)
    done = len(finished(trials))
    if done:
        waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        again = f", {waiting} to be trained again" if waiting else ""
        say(f"{done} trials are finished{again}")
    brief = replace(brief, failed_before=len(failures(trials)))
    return _with_reserve(brief, say)


def _with_reserve(brief: Brief, say: Say) -> Brief:
    """As it is; said where a budget is given: how it is divided shows only once a trial has been trained."""
    if brief.until is not None and brief.confirmation:
        say("the budget covers the confirmation too, as far as the trials show what it will take")
    return brief


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
    one = mean_seconds(study.get_trials(deepcopy=False))
    if brief.until is not None and one is not None:
        takes, left = confirmation_seconds(brief, one), max(0.0, brief.until - time.time())
        if takes > left:
            return (
                f"nothing was confirmed: it would take about {takes / 60:.1f} min, and {left / 60:.1f} are left of the budget; the same "
                "command with --trials as many as there are, and no --budget, confirms"
            )
    return None


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
