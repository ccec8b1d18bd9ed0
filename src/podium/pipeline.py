"""The stages one after the other: plan, train, predict, blend, pack; each is skipped when its result is there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from podium import hosted, packing, remembered, standing
from podium import plan as planning
from podium.calibrate import find_means
from podium.config_preprocess import image_steps
from podium.cores import cores
from podium.corruptions.copies import Corrupted, open_or_make
from podium.data.fit import plan_fit
from podium.engines import local
from podium.errors import UserError
from podium.former import take_over
from podium.jobs import Job, Site, open_copies
from podium.plan import Plan, Run, Sizes
from podium.prepare import Options, Prepared, Say, prepare
from podium.report.board import Board
from podium.report.progress import Display
from podium.store import write_json

SAMPLE_BUDGET = 200.0
"""Seconds for a run on the built-in sample where neither a budget nor epochs are asked for: it is there to be tried."""
TAIL_SECONDS = 8.0
"""What packing is left at the end of a budget."""
DECODING_SECONDS, WEIGHTS_SECONDS = 5e-6, 1.5e-6
"""What choosing the decoding takes per pixel on one core, and choosing weights per pixel and model; see docs/performance.md."""

CODE_SECONDS, NET_SECONDS = 10.0, 3.0
"""What packing a model_zip takes: a process with torch and one without, and each net to be written and tried out."""


@dataclass(frozen=True)
class Done:
    """How far a command came: its plan, how its jobs ended, and the board as far as there is one."""

    plan: Plan
    board: Board | None
    failures: dict[str, str] = field(default_factory=dict)
    user_errors: bool = True


def make_plan(prepared: Prepared, options: Options, say: Say, measure: bool) -> Plan:
    """The plan of a run. measure: probe the machine where a budget needs it, instead of assuming that all recipes fit."""
    competition, dataset, folds = prepared.competition, prepared.dataset, prepared.folds
    copies = copies_of(prepared, say)
    site = Site(
        prepared.name,
        str(prepared.workspace.cache(prepared.name)),
        dataset.data_id,
        dataset.source_id,
        str(prepared.folds_path),
        options.device,
        options.precision,
        options.source,
        options.threads,
        options.compile,
        corrupted=copies.part.data_id if copies else None,
    )
    fit = plan_fit(dataset.parts, competition.data.fit)
    train = dataset.train
    pixels = int(np.prod(fit.size))
    image_bytes = pixels * (train.channels * train.images.values.itemsize + 1)
    sides = train.images.shapes[:, 1:] if competition.masks else np.array([competition.column])
    answers = float(sides.prod(axis=1).mean())
    pieces = fit.count(train, np.flatnonzero(folds.kept)) / int(folds.kept.sum())
    images = int(folds.kept.sum()), len(dataset.test) if dataset.test else 0
    sizes = Sizes(*images, image_bytes, answers, pieces, len(copies.part) if copies else 0)
    chosen = options.folds or tuple(range(folds.total))

    def plan_with(means: planning.Means) -> Plan:
        return planning.plan(
            competition,
            prepared.recipes,
            chosen,
            site,
            sizes,
            prepared.workspace.runs(prepared.name),
            dataset.data_id,
            folds.folds_id,
            options.seed,
            options.budget,
            means,
        )

    def with_former(made: Plan) -> Plan:
        """The plan, with what a former run has of it in place."""
        if prepared.former is not None and measure:
            taken = take_over(prepared.former, prepared.workspace.out, made.jobs)
            for sentence in taken.sentences(prepared.former):
                say(sentence)
        return made

    # without a budget results do not depend on the machine, and what is finished need not be measured
    finished = options.budget is None and all(job.done is not None for job in with_former(plan_with(planning.ONE)).jobs)
    means = find_means(
        competition,
        prepared.recipes,
        site,
        sizes,
        (train.channels, *fit.size),
        chosen,
        prepared.workspace.out / "runs" / "machine.json",
        say,
        options.workers,
        options.budget,
        measure and not finished,
    )
    made = plan_with(means) if options.budget is None else with_former(plan_with(means))
    for note in made.notes:
        say(f"note: {note}")
    return made


def copies_of(prepared: Prepared, say: Say) -> Corrupted | None:
    """The corrupted copies that the competition's validation asks for, made where they are not there yet."""
    competition, folds = prepared.competition, prepared.folds
    settings = competition.validation.corruptions
    if settings is None:
        return None
    cache = prepared.workspace.cache(prepared.name)
    rows, steps = np.flatnonzero(folds.kept), image_steps(competition.preprocess)
    found = open_or_make(cache, prepared.source.train, settings, competition.masks, say, rows, steps)
    for fold in range(folds.total):
        if not np.isin(found.base_row, folds.rows(fold)[1]).any():
            raise UserError(
                f"validation.corruptions.at_most: {settings.at_most} images are drawn, none of fold {fold}; raise it"
            )
    return found


def run(name: str, options: Options, until: str, console: Console, dry_run: bool = False) -> Done:
    """Carry out all stages up to ``until``: train, predict or pack. The one function behind every verb that works."""
    started = time.monotonic()

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    prepared = prepare(name, options, say)
    options = remembered.as_before(prepared, options)
    ends = None
    if options.session and (options.budget is None or hosted.on_kaggle()):  # elsewhere nothing ends it
        left = hosted.session_left() + time.monotonic() - started  # as it was when the command began
        ends, options = started + left, replace(options, budget=options.budget or left)
        assert options.budget is not None
        as_before = f", planned as before for {options.budget / 60:.0f}" if options.budget != left else ""
        say(f"this session leaves the run {left / 60:.0f} minutes{as_before}")
    if (
        prepared.origin.sample
        and options.budget is None
        and not any(text.startswith("train.epochs") for text in options.overrides)
        and not any(recipe.train.by_epochs for recipe in prepared.recipes)
    ):
        say(f"the sample gets a budget of {SAMPLE_BUDGET:.0f} s unless --budget or --set train.epochs=N says otherwise")
        options = replace(options, budget=SAMPLE_BUDGET)
    plan = make_plan(prepared, options, say, measure=not dry_run)
    if dry_run:
        return Done(plan, None)
    jobs = [job for job in plan.jobs if until != "train" or job.kind != "test"]
    _check_room(plan, jobs, prepared.workspace.out)
    with _claimed(jobs):
        remembered.remember(prepared, plan, options)
        outcomes = _work(plan, jobs, options, started, ends, console, _tail(prepared, plan))
    failures = {name: outcome.error for name, outcome in outcomes.items() if outcome.status == "failed"}
    for job_name, outcome in outcomes.items():
        if outcome.trace:
            say(f"--- {job_name}\n{outcome.trace}")
    user_errors = all(outcome.user for outcome in outcomes.values() if outcome.status == "failed")
    whole = [run for run in plan.runs if all(outcomes[name].status in ("done", "cached") for name in _names(run, jobs))]
    if not whole:
        return Done(plan, None, failures, user_errors)
    board = _finish(prepared, plan, whole, failures, until, started, say)
    return Done(plan, board, failures, user_errors)


def _check_room(plan: Plan, jobs: list[Job], out: Path) -> None:
    """A disk that fills up in the middle of a run costs hours; what predictions are still to come is known before."""
    needed = sum(plan.disk[job.name] for job in jobs if job.name in plan.disk and job.done is None)
    folder = next(path for path in (out, *out.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{out}: {needed / 1e9:.1f} GB will be needed for predictions and {free / 1e9:.1f} GB are "
            "free; make room, train fewer --models, or choose another disk with --out"
        )


@contextmanager
def _claimed(jobs: list[Job]) -> Iterator[None]:
    """Claim what is to be made: two commands that want the same results must not each take a half."""
    with ExitStack() as claims:
        for job in jobs:
            if job.kind not in ("oof", "robust") and job.done is None:
                claims.enter_context(job.result.lock(".claim"))
        yield


def _names(run: Run, jobs: Sequence[Job]) -> list[str]:
    return [job.name for job in jobs if job.recipe["name"] == run.recipe.name]


def _tail(prepared: Prepared, plan: Plan) -> float:
    """Seconds that the end of a budget is left for blending, decoding and packing; at most a fifth of it."""
    competition, shapes = prepared.competition, prepared.dataset.train.images.shapes[prepared.folds.kept]
    pixels = float(shapes[:, 1:].prod(axis=1).sum()) if competition.masks else float(len(shapes))
    each = DECODING_SECONDS if competition.blend.decode else 0.0
    if len(plan.runs) > 1 and competition.blend.method != "uniform":
        each += WEIGHTS_SECONDS * len(plan.runs)
    seconds = pixels * each / cores()
    if competition.submission is not None and competition.submission.format == "model_zip":
        seconds += CODE_SECONDS + NET_SECONDS * len(plan.runs) * len(plan.folds)
    return TAIL_SECONDS + min(seconds, 0.2 * (plan.budget or 0.0))


def _work(
    plan: Plan,
    jobs: list[Job],
    options: Options,
    started: float,
    ends: float | None,
    console: Console,
    tail: float,
) -> dict[str, local.Outcome]:
    deadline = None
    if plan.budget is not None:
        # a continued run has only what is left to do ahead of it
        to_do = [job for job in jobs if job.seconds is not None and job.done is None]
        finished = {job.name: local.Outcome("cached", done) for job in jobs if (done := job.done) is not None}
        owed = sum(local.owed(job, finished) for job in jobs if job.seconds is None and job.name not in finished)
        ahead = (plan.seconds or 0) * -(-len(to_do) // plan.workers) + owed
        deadline = min(started + plan.budget - tail, time.monotonic() + ahead)
        deadline = deadline if ends is None else min(deadline, ends - tail)
    with Display(jobs, console, plan.workers, deadline) as display:
        # with a budget all folds are given the same, or the last one would be the best trained
        alone = cores() if options.threads is None and plan.budget is None else None
        return local.run(jobs, plan.workers, display, deadline, alone)


def _finish(
    prepared: Prepared,
    plan: Plan,
    runs: list[Run],
    failures: dict[str, str],
    until: str,
    started: float,
    say: Say,
) -> Board:
    """Blend what is complete, pack it where asked to, and put everything on a board."""
    competition, folds = prepared.competition, prepared.folds
    models = [standing.Model.of(run) for run in runs]
    copies = open_copies(plan.site, prepared.dataset, folds) if plan.site.corrupted is not None else None
    scored = standing.score(prepared, models, copies, plan.notes, say)
    rows, blend, notes = scored.rows, scored.blend, list(scored.notes)
    submission = None
    if until == "pack" and (lacking := packing.lacks(prepared)) is None:
        submission, told = packing.submit(prepared, models, blend, rows[-1], say)
        notes += told
    elif until == "pack":
        notes.append(f"the competition's configuration names no {lacking}: nothing was packed")
    if submission and prepared.origin.sample:
        notes.append(packing.SAMPLE_FILE)
    if submission and len(plan.folds) < folds.total:
        notes.append(
            f"only folds {', '.join(map(str, plan.folds))} of {folds.total} were trained; the submission averages those"
        )
    board = Board(
        prepared.name,
        prepared.origin.sentence(),
        str(competition.metric),
        plan.folds,
        folds.total,
        rows,
        scored.choice,
        blend.weights,
        failures,
        tuple(notes),
        (time.monotonic() - started) / 60,
        submission,
        packing.upload_command(prepared, submission),
        tuned=blend.tuned,
    )
    write_json(prepared.workspace.runs(prepared.name) / "board.json", asdict(board))
    return board
