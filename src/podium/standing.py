"""Where a run stands: every model and the blend scored, clean and corrupted, and what is to be said of them."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from podium import metrics
from podium.blend.make import Blend, make
from podium.blend.members import Member
from podium.blend.oof import Oof, merge
from podium.config import Competition
from podium.corruptions.copies import Corrupted
from podium.data.part import Part
from podium.decode_steps import Step
from podium.estimate import over_repeats
from podium.folds import Folds
from podium.jobs import open_copies
from podium.plan import Plan, Run
from podium.prepare import SEED, Prepared, Say
from podium.report import board as boards
from podium.report import starts
from podium.report.board import Choice, Row
from podium.report.corrupted import write_corrupted
from podium.store import read_json


@dataclass(frozen=True, eq=False)
class Standing:
    """The board's rows, the models by rank and the blend last; what a choice among the models is worth; what to note."""

    rows: tuple[Row, ...]
    blend: Blend
    choice: Choice | None
    notes: tuple[str, ...]


def score(prepared: Prepared, plan: Plan, runs: list[Run], say: Say = lambda text: None) -> Standing:
    """Score the ``runs`` of a plan, all of whose folds are predicted, and their blend."""
    competition, folds, train = prepared.competition, prepared.folds, prepared.dataset.train
    metric, by = metrics.of(competition), competition.validation.choose_by
    models = [merge(run.recipe.name, run.oof, folds, competition, train) for run in runs]
    copies: tuple[Corrupted, Folds] | None = None
    judged: list[Oof] = []
    if plan.site.corrupted is not None:
        copies = open_copies(plan.site, prepared.dataset, folds)
        judged = [merge(run.recipe.name, run.corrupted, copies[1], competition, copies[0].part) for run in runs]
    of_copies = (copies[0].part, copies[1]) if copies else None
    runs_folder = prepared.workspace.runs(prepared.name)
    members = [Member.of(run) for run in runs]
    blend = make(members, competition, folds, train, runs_folder, of_copies, say)

    def corrupted(oof: Oof | None) -> dict[str, float]:
        return boards.on_corrupted(oof, metric, copies[1].groups) if copies and oof else {}

    rows = []
    for place, (run, oof) in enumerate(zip(runs, models, strict=True)):
        facts = _facts(run) | {"also": _also(run, competition, folds, train)}
        facts |= corrupted(judged[place]) if judged else {}
        rows.append(boards.row(oof, "model", metric, folds.groups, facts))
    facts = {"also": blend.also, "in_sample": blend.in_sample if blend.tuned else None, "run": blend.key[:8]}
    last = boards.row(blend.oof, "blend", metric, folds.groups, facts | corrupted(blend.corrupted))
    if copies and blend.corrupted:
        recipes = {run.recipe.name: run.recipe for run in runs}
        write_corrupted(runs_folder / "corrupted.csv", metric, copies[0], [*judged, blend.corrupted], recipes)
    notes = [*plan.notes, *(text for run in runs if (text := _start_note(run))), *_spread(runs, rows)]
    notes += blend_notes(blend, last, competition.classes)
    choice = boards.choice(judged if by == "corrupted" else models, metric, by)
    return Standing((*boards.ranked(rows, metric, by), last), blend, choice, tuple(notes))


def _also(run: Run, competition: Competition, folds: Folds, train: Part) -> dict[str, float]:
    """A recipe's scores by the further metrics."""
    found = {}
    for settings in competition.also:
        oof = merge(run.recipe.name, run.oof, folds, competition, train, settings)
        found[str(settings)] = over_repeats(metrics.of(competition, settings), oof.stats)
    return found


def _facts(run: Run) -> dict[str, Any]:
    """Minutes and mean epochs of a recipe's trainings."""
    records = [read_json(path / "done.json")["result"] for path in run.weights.values()]
    minutes = sum(record["seconds"] for record in records) / 60
    return {
        "minutes": minutes,
        "epochs": sum(record["epochs"] for record in records) / len(records),
        "run": run.key.short,
        "weights": run.recipe.train.keep,
    }


def _start_note(run: Run) -> str | None:
    """What is to be said of the weights that a recipe's folds began with."""
    return starts.note(
        run.recipe.name, {fold: read_json(path / "done.json")["net"] for fold, path in run.weights.items()}
    )


def blend_notes(blend: Blend, row: Row, classes: tuple[str, ...]) -> list[str]:
    """What was chosen for the blend, what that choice is worth, and what it gains."""
    notes = list(blend.notes)
    if not blend.tuned:
        return notes
    decision = blend.decision
    chosen = [f"{name} {weight:.3g}" for name, weight in blend.weights.items() if weight]
    steps = [_step(step, classes) for step in decision.steps]
    what = [f"{decision.method} weights, {decision.mean} mean: {', '.join(chosen)}"] if len(blend.models) > 1 else []
    what += [f"decoding: {'; '.join(steps)}"] if steps else []
    notes.append(
        f"of the blend was chosen on the out-of-fold predictions: {'; '.join(what)}. Score {blend.in_sample:.4f} where that was "
        f"chosen, {row.score:.4f} with the whole choice made anew without each fold (the one above)"
    )
    notes += [
        f"gain of the blend over {_other(name)}: {gain['mean']:+.4f} (90 % of paired resamples {gain['low']:+.4f} to "
        f"{gain['high']:+.4f}, {gain['share_above_zero']:.0%} above zero)"
        for name, gain in blend.gains.items()
    ]
    return notes


def _other(name: str) -> str:
    return {"decoding": "itself without decoding", "uniform": "the uniform blend"}.get(name, f"the {name}")


def _step(step: Step, classes: tuple[str, ...]) -> str:
    """A step of the decoding in words."""
    amounts = ", ".join(f"{amount:.3g}" for amount in step.value)
    if step.name == "points":
        return f"points {amounts}"
    if step.name == "bias":
        factors = (f"{name} × {math.exp(value):.2f}" for name, value in zip(classes, step.value, strict=True) if value)
        return f"factors {', '.join(factors)}"
    assert step.of is not None
    return f"{step.name.replace('_', ' ')} of {classes[step.of]}{f' {amounts}' if step.name != 'largest' else ''}"


def _spread(runs: list[Run], rows: list[Row]) -> list[str]:
    """Of recipes that were trained with several seeds, how much the seed changes."""
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for run, row in zip(runs, rows, strict=True):
        scores[run.recipe.name.rpartition(SEED)[0] or run.recipe.name].append(row.score)
    return [
        f"{name}: {mean(found):.4f} on average over {len(found)} seeds, standard deviation {stdev(found):.4f}"
        for name, found in scores.items()
        if len(found) > 1
    ]
