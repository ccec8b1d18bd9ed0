"""Who trains which trial: exactly as many as asked for, none twice, and those again whose process has died."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from podium.errors import UserError
from podium.randomness import stream
from podium.tuning.space import Values, draw, params, suggest, values_of
from podium.tuning.storage import GRACE
from podium.tuning.study import (
    DEATHS,
    DEFAULTS,
    ENDED,
    ERROR,
    FINISHED,
    RETRY_OF,
    WORKER,
    Brief,
    failures,
    finished,
    mean_seconds,
    sampler,
    shared,
)
from podium.tuning.workers import alive, is_here, together

MOST_FAILURES = 5
"""Trainings that may fail in one command before it stops."""
MOST_DEATHS = 10
"""Processes that may die over one trial before it counts as failed."""
DRAWS = 1000
"""Values drawn at random where the sampler comes back to old ones; a space in which none of them is new is tried out."""
START_SECONDS = 10.0
"""What a confirmation takes to begin with."""
Stop = Literal["enough", "time", "exhausted"]


@dataclass(frozen=True)
class Claim:
    """A trial that this worker is to train."""

    trial: Trial
    values: Values
    defaults: bool


def claim(study: optuna.Study, storage: BaseStorage, brief: Brief, worker: str) -> Claim | Stop | None:
    """Take the next trial; why there is none any more; or None where others are at the last ones and may fail yet."""
    with together(brief.folder):
        settle(study, storage, brief)
        for _ in range(DRAWS):
            trials = study.get_trials(deepcopy=False)
            _check_failures(brief, trials)
            running = sum(trial.state == TrialState.RUNNING for trial in trials)
            if brief.trials is not None and len(finished(trials)) + running >= brief.trials:
                return None if running else "enough"
            if not _has_time(brief, trials):
                return "time"
            taken = _ask(study, storage, brief, worker, len(trials))
            if taken != "again":
                return taken
    return "exhausted"


def settle(study: optuna.Study, storage: BaseStorage, brief: Brief) -> None:
    """End the trials whose process has died and put them back into the queue, once each; ``together`` being held.

    The new trial is queued before the old one is ended: a kill in between leaves both, and the next call only ends the old.
    """
    if shared(storage):
        fail_stale_trials(study)
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs[RETRY_OF] for trial in trials if RETRY_OF in trial.user_attrs}
    for trial in trials:
        lost = trial.state == TrialState.RUNNING and _is_dead(trial, storage, brief)
        stale = trial.state == TrialState.FAIL and ENDED not in trial.user_attrs  # a database's own verdict
        if not lost and not stale:
            continue
        deaths = trial.user_attrs.get(DEATHS, 0) + 1
        if trial.number not in again and deaths <= MOST_DEATHS:
            _queue_again(study, trial, deaths)
        if lost:
            reason = {} if deaths <= MOST_DEATHS else {ERROR: f"its process died {deaths} times"}
            _fail(study, storage, trial, {ENDED: "its process died", **reason})


def queue_defaults(study: optuna.Study, brief: Brief, values: Values) -> None:
    """The recipe as it is comes first, unless it has been tried or is about to be; ``together`` being held."""
    there = (*FINISHED, TrialState.RUNNING, TrialState.WAITING)
    if not any(DEFAULTS in trial.user_attrs for trial in study.get_trials(deepcopy=False, states=there)):
        study.enqueue_trial(params(brief.tuning, values), user_attrs={DEFAULTS: True})


def _queue_again(study: optuna.Study, trial: FrozenTrial, deaths: int) -> None:
    """The same trial once more; values that it had not been given yet are chosen then."""
    attributes = {RETRY_OF: trial.number, DEATHS: deaths}
    if DEFAULTS in trial.user_attrs:
        attributes[DEFAULTS] = trial.user_attrs[DEFAULTS]
    fixed = trial.system_attrs.get("fixed_params", {}) | trial.params
    if fixed:
        system = {"fixed_params": fixed}
        study.add_trial(create_trial(state=TrialState.WAITING, user_attrs=attributes, system_attrs=system))


def _is_dead(trial: FrozenTrial, storage: BaseStorage, brief: Brief) -> bool:
    worker = trial.user_attrs.get(WORKER)
    if not shared(storage):
        return worker is None or not alive(brief.folder, worker)  # who takes a trial signs it before others may look
    if worker is None:  # another machine may be about to sign it
        started = trial.datetime_start or datetime.now()
        return (datetime.now() - started).total_seconds() > GRACE
    return is_here(worker) and not alive(brief.folder, worker)


def _check_failures(brief: Brief, trials: Sequence[FrozenTrial]) -> None:
    failed = failures(trials)
    if not failed:
        return
    new = failed[brief.failed_before :]
    of_defaults = [trial for trial in new if DEFAULTS in trial.user_attrs]
    if of_defaults:
        raise UserError(f"{brief.name}: the recipe as it is fails already: {of_defaults[-1].user_attrs[ERROR]}")
    if len(new) >= MOST_FAILURES:
        raise UserError(
            f"{brief.name}: {len(new)} trainings have failed, the last one since {new[-1].user_attrs[ERROR]}; narrow the space, then "
            "run the command again"
        )


def _has_time(brief: Brief, trials: Sequence[FrozenTrial]) -> bool:
    """Whether another trial and all that comes after it will have ended in time; the first one is always begun.

    Where confirming would take more than half of the budget, the search may have all of it, and is confirmed another time.
    """
    one, left = mean_seconds(trials), seconds_left(brief)
    if one is None or brief.budget is None:
        return left > 0 or not finished(trials)
    after = 1.2 * confirmation_seconds(brief, one) + START_SECONDS if brief.confirmation else 0.0
    return one + (after if after <= brief.budget / 2 else 0.0) <= left


def seconds_left(brief: Brief) -> float:
    """What is left of the budget; without one, no end."""
    return math.inf if brief.budget is None else max(0.0, brief.started + brief.budget - time.time())


def confirmation_seconds(brief: Brief, trial_seconds: float) -> float:
    """What confirming will take, where a whole trial takes ``trial_seconds``."""
    return trial_seconds / (brief.epochs * len(brief.tuning.folds)) * brief.confirmation


def _ask(
    study: optuna.Study, storage: BaseStorage, brief: Brief, worker: str, trials: int
) -> Claim | Stop | Literal["again"]:
    study.sampler = sampler(brief.seed, trials)
    trial = study.ask()
    trial.set_user_attr(WORKER, worker)
    values = suggest(trial, brief.tuning)
    others = study.get_trials(deepcopy=False)
    if brief.trials is not None and shared(storage):  # another machine may have taken the last one at the same moment
        held = [other.number for other in others if other.state in (*FINISHED, TrialState.RUNNING)]
        if sorted(held).index(trial.number) >= brief.trials:
            _fail(study, storage, others[trial.number], {ENDED: "one too many"})
            return "again"
    stored = params(brief.tuning, values)
    earlier = [t for t in others if t.state in FINISHED or (t.state == TrialState.RUNNING and t.number < trial.number)]
    twin = next((t.number for t in earlier if t.params == stored and t.number != trial.number), None)
    if twin is None:
        return Claim(trial, values, DEFAULTS in trial.user_attrs)
    _fail(study, storage, others[trial.number], {ENDED: f"the same as trial {twin}"})
    fresh = _fresh(brief, others, trials)
    if fresh is None:
        return "exhausted"
    if not any(other.state == TrialState.WAITING for other in others):
        study.enqueue_trial(fresh)
    return "again"


def _fresh(brief: Brief, trials: Sequence[FrozenTrial], count: int) -> dict[str, object] | None:
    """Values that no trial has, drawn at random; None where there are none."""
    random = np.random.default_rng(stream("fresh", brief.seed, count))
    known = [trial.params for trial in trials if trial.state in (*FINISHED, TrialState.RUNNING, TrialState.WAITING)]
    for _ in range(DRAWS):
        stored = params(brief.tuning, draw(brief.tuning, random))
        if stored not in known:
            return stored
    return None


def _fail(study: optuna.Study, storage: BaseStorage, trial: FrozenTrial, why: dict[str, str]) -> None:
    with suppress(UpdateFinishedTrialError):  # another machine was quicker
        for key, value in why.items():
            storage.set_trial_user_attr(trial._trial_id, key, value)
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def give_up(study: optuna.Study, storage: BaseStorage, taken: Claim, error: str) -> None:
    """A training that failed, with what was said of it."""
    _fail(study, storage, study.get_trials(deepcopy=False)[taken.trial.number], {ENDED: "failed", ERROR: error})


def best(study: optuna.Study, brief: Brief, count: int) -> list[tuple[FrozenTrial, Values]]:
    """The best trials that were trained to their end, the recipe as it is left out; of equals the earlier."""
    whole = [t for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if DEFAULTS not in t.user_attrs]
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    ordered = sorted(whole, key=lambda trial: (sign * (trial.value or 0.0), trial.number))
    return [(trial, values_of(brief.tuning, trial.params)) for trial in ordered[:count]]
