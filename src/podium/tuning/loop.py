"""The loop of a worker: take a trial, train it, say how it went, until there are enough."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import optuna
from optuna.storages import BaseStorage, RDBStorage

from podium.config import Recipe
from podium.errors import UserError
from podium.tuning.queue import Claim, Stop, claim, give_up
from podium.tuning.space import recipe_of, sentence
from podium.tuning.storage import BEAT
from podium.tuning.study import SCORES, SECONDS, Brief
from podium.tuning.workers import enrolled

WAIT = 0.5
"""Seconds between two looks at whether the others' last trials have ended well."""
Report = Callable[[int, float], None]
Train = Callable[[Recipe, Report], list[float]]
"""Trains a recipe and returns its score on each fold; may call the report, which may raise ``optuna.TrialPruned``."""
Say = Callable[[str], None]


def work(
    study: optuna.Study,
    storage: BaseStorage,
    brief: Brief,
    train: Train,
    clear: Callable[[Recipe], None],
    say: Say,
) -> Stop:
    """Train trials until there are enough, no time is left, or nothing new can be drawn; says which.

    clear: deletes what a trial that has ended no longer needs.
    """
    with enrolled(brief.folder) as worker:
        while True:
            taken = claim(study, storage, brief, worker)
            if isinstance(taken, str):
                return taken
            if taken is None:
                time.sleep(WAIT)
                continue
            _carry_out(study, storage, brief, taken, train, clear, say)


def _carry_out(
    study: optuna.Study,
    storage: BaseStorage,
    brief: Brief,
    taken: Claim,
    train: Train,
    clear: Callable[[Recipe], None],
    say: Say,
) -> None:
    number, start = taken.trial.number, time.monotonic()
    name = f"trial {number}" + (" (the recipe as it is)" if taken.defaults else "")
    at = 0

    def report(epoch: int, score: float) -> None:
        nonlocal at
        at = epoch
        taken.trial.report(score, epoch)
        if taken.trial.should_prune() and not taken.defaults:
            raise optuna.TrialPruned

    try:
        recipe = recipe_of(brief.recipe, taken.values)
        with beating(storage, taken.trial):
            scores = train(recipe, report)
        value = sum(scores) / len(scores)
        if not math.isfinite(value):
            raise UserError(f"its score is {value}")
    except optuna.TrialPruned:
        study.tell(taken.trial, state=optuna.trial.TrialState.PRUNED)
        say(f"{name}: given up after epoch {at} of {brief.epochs}; {sentence(taken.values)}")
    except UserError as error:
        give_up(study, storage, taken, str(error))
        say(f"{name}: failed: {error}; {sentence(taken.values)}")
        return
    else:
        taken.trial.set_user_attr(SECONDS, time.monotonic() - start)
        taken.trial.set_user_attr(SCORES, scores)
        study.tell(taken.trial, value)
        say(f"{name}: {value:.4f} in {time.monotonic() - start:.0f} s; {sentence(taken.values)}")
    clear(recipe)


@contextmanager
def beating(storage: BaseStorage, trial: optuna.trial.Trial) -> Iterator[None]:
    """Leave signs of life in a database while a trial runs, by which other machines know that it does."""
    if not isinstance(storage, RDBStorage):
        yield
        return
    over = threading.Event()

    def beat() -> None:
        while True:
            storage.record_heartbeat(trial._trial_id)
            if over.wait(BEAT):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
