"""What a tuning found, trained anew beside the defaults on all folds of another split: only there does a gain count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console

from podium import metrics
from podium.blend.oof import Oof, merge
from podium.config import Recipe
from podium.engines import local
from podium.errors import UserError
from podium.estimate import Repeats, over_repeats, paired
from podium.jobs import open_copies
from podium.pipeline import make_plan
from podium.plan import Plan, Run
from podium.prepare import Options, Prepared, prepare
from podium.report.progress import Display

RESAMPLES = 2000


@dataclass(frozen=True)
class Confirmed:
    """A candidate on the other split: its score, the defaults', and what it gains, with the 90 % interval of the gain."""

    name: str
    trial: int
    score: float
    defaults: float
    gain: float
    low: float
    high: float

    @property
    def wins(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0


def other_split(options: Options, seed: int) -> Options:
    """The options of the confirmation: folds made with ``seed``, even where the competition names a file of its own."""
    overrides = (*options.overrides, f"folds.seed={seed}", "folds.file=null")
    return replace(options, overrides=overrides, folds=(), budget=None)


def confirm(
    name: str, options: Options, base: Recipe, candidates: Sequence[tuple[int, Recipe]], seed: int, console: Console
) -> list[Confirmed]:
    """Train ``base`` and the ``candidates``, each with the number of its trial, on all folds of the split made with ``seed``.

    The trainings are ordinary results below runs/: those that are there already are not repeated.
    """

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    chosen = other_split(options, seed)
    prepared = replace(prepare(name, chosen, say), recipes=(base, *(recipe for _, recipe in candidates)))
    plan = make_plan(prepared, chosen, say, measure=False)
    jobs = [job for job in plan.jobs if job.kind != "test"]
    with Display(jobs, console, plan.workers, None) as display:
        outcomes = local.run(jobs, plan.workers, display)
    for job, outcome in outcomes.items():
        if outcome.trace:
            say(f"--- {job}\n{outcome.trace}")
    failed = {job: outcome.error for job, outcome in outcomes.items() if outcome.status == "failed"}
    if failed:
        job, error = next(iter(failed.items()))
        raise UserError(f"{job}: {error}; the tuning is kept: run the same command again to confirm what it found")
    scored = [_scored(prepared, plan, run) for run in plan.runs]
    scorer = Repeats(metrics.of(prepared.competition))
    first, groups = scored[0]
    own = over_repeats(scorer.metric, first.stats)
    found = []
    for (trial, recipe), (oof, _) in zip(candidates, scored[1:], strict=True):
        gain = paired(scorer, oof.stats, first.stats, groups[first.rows], RESAMPLES)
        score = over_repeats(scorer.metric, oof.stats)
        difference = score - own if scorer.higher_is_better else own - score
        found.append(Confirmed(recipe.name, trial, score, own, difference, gain.low, gain.high))
    return found


def _scored(prepared: Prepared, plan: Plan, run: Run) -> tuple[Oof, np.ndarray]:
    """A recipe's merged statistics, of corrupted copies where models are chosen by those, and the groups of all their rows."""
    competition, folds, train = prepared.competition, prepared.folds, prepared.dataset.train
    if competition.validation.choose_by == "corrupted":
        copies, their_folds = open_copies(plan.site, prepared.dataset, folds)
        return merge(run.recipe.name, run.corrupted, their_folds, competition, copies.part), their_folds.groups
    return merge(run.recipe.name, run.oof, folds, competition, train), folds.groups


def winner(confirmed: Sequence[Confirmed]) -> Confirmed | None:
    """The one that gains most among those whose gain is certain enough, None where there is none."""
    certain = [one for one in confirmed if one.wins]
    return max(certain, key=lambda one: one.gain, default=None)
