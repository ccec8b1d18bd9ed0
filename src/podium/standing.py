"""Where a run stands: every model and the blend scored, clean and corrupted, and what is to be said of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from podium import metrics
from podium.blend.make import Blend, make
from podium.blend.members import Member
from podium.blend.oof import Oof, merge
from podium.config import Recipe
from podium.corruptions.copies import Corrupted
from podium.decode_steps import Step
from podium.estimate import over_repeats
from podium.folds import Folds
from podium.plan import Run
from podium.prepare import SEED, Prepared, Say
from podium.report import board as boards
from podium.report import starts
from podium.report.board import Choice, Row
from podium.report.corrupted import write_corrupted
from podium.store import DONE, read_json


@dataclass(frozen=True, eq=False)
class Standing:
    """The board's rows, the models by rank and the blend last; what a choice among the models is worth; what to note."""

    rows: tuple[Row, ...]
    blend: Blend
    choice: Choice | None
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Model:
    """A model whose folds are predicted. recipe: None of an imported one. weights: folders of its trained folds."""

    member: Member
    recipe: Recipe | None = None
    weights: Mapping[int, Path] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As on the board."""
        return self.member.name

    @classmethod
    def of(cls, run: Run) -> Model:
        """A recipe of a plan."""
        return cls(Member.of(run), run.recipe, run.weights)


@dataclass(frozen=True, eq=False)
class Scored:
    """A model's row with the statistics behind it; judged: those of corrupted copies, where it predicted them."""

    row: Row
    oof: Oof
    judged: Oof | None


Copies = tuple[Corrupted, Folds]
"""Corrupted copies of the training images, and their folds."""


def score_model(prepared: Prepared, model: Model, copies: Copies | None) -> Scored:
    """Score one model."""
    competition, folds, train = prepared.competition, prepared.folds, prepared.dataset.train
    metric, member = metrics.of(competition), model.member
    oof = merge(member.name, member.oof, folds, competition, train)
    facts = _facts(model) | {"also": _also(member, prepared)}
    judged = None
    if copies is not None and member.corrupted:
        judged = merge(member.name, member.corrupted, copies[1], competition, copies[0].part)
        facts |= boards.on_corrupted(judged, metric, copies[1].groups)
    return Scored(boards.row(oof, "model", metric, folds.groups, facts), oof, judged)


def score(
    prepared: Prepared,
    models: Sequence[Model],
    copies: Copies | None,
    notes: Sequence[str] = (),
    say: Say = lambda text: None,
) -> Standing:
    """Score models and their blend. notes: what is to be said before anything that follows from the scores."""
    competition, folds = prepared.competition, prepared.folds
    metric, by = metrics.of(competition), competition.validation.choose_by
    scored = [score_model(prepared, model, copies) for model in models]
    rows, judged = [each.row for each in scored], [each.judged for each in scored if each.judged is not None]
    all_judged = copies is not None and len(judged) == len(scored)
    of_copies = (copies[0].part, copies[1]) if copies and all_judged else None
    runs_folder = prepared.workspace.runs(prepared.name)
    members = [model.member for model in models]
    blend = make(members, competition, folds, prepared.dataset.train, runs_folder, of_copies, say)
    last = blend_row(prepared, blend, copies)
    if copies and blend.corrupted:
        recipes = {model.name: model.recipe for model in models if model.recipe is not None}
        write_corrupted(runs_folder / "corrupted.csv", metric, copies[0], [*judged, blend.corrupted], recipes)
    said = [*notes, *(text for model in models if (text := _start_note(model))), *_spread(models, rows)]
    said += blend_notes(blend, last, competition.classes)
    by_copies = by == "corrupted" and all_judged
    choice = boards.choice(judged if by_copies else [each.oof for each in scored], metric, by if by_copies else "clean")
    return Standing((*boards.ranked(rows, metric, by), last), blend, choice, tuple(said))


def blend_row(prepared: Prepared, blend: Blend, copies: Copies | None) -> Row:
    """The board's row of a blend."""
    metric = metrics.of(prepared.competition)
    facts: dict[str, Any] = {"also": blend.also, "in_sample": blend.in_sample if blend.tuned else None}
    facts["run"] = blend.key[:8]
    if copies and blend.corrupted:
        facts |= boards.on_corrupted(blend.corrupted, metric, copies[1].groups)
    return boards.row(blend.oof, "blend", metric, prepared.folds.groups, facts)


def _also(member: Member, prepared: Prepared) -> dict[str, float]:
    """A model's scores by the further metrics."""
    found, competition = {}, prepared.competition
    for settings in competition.also:
        oof = merge(member.name, member.oof, prepared.folds, competition, prepared.dataset.train, settings)
        found[str(settings)] = over_repeats(metrics.of(competition, settings), oof.stats)
    return found


def _facts(model: Model) -> dict[str, Any]:
    """Minutes, mean epochs and parameters of a model's trainings, as far as it was trained here."""
    facts: dict[str, Any] = {"run": model.member.run[:8]}
    records = [read_json(path / DONE) for path in model.weights.values()]
    if not records or model.recipe is None or None in records:
        return facts
    results = [record["result"] for record in records]
    return facts | {
        "minutes": sum(result["seconds"] for result in results) / 60,
        "epochs": sum(result["epochs"] for result in results) / len(results),
        "weights": model.recipe.train.keep,
        "parameters": records[0].get("parameters"),
    }


def _start_note(model: Model) -> str | None:
    """What is to be said of the weights that a recipe's folds began with."""
    return starts.note(model.name, {fold: read_json(path / DONE)["net"] for fold, path in model.weights.items()})


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


def _spread(models: Sequence[Model], rows: Sequence[Row]) -> list[str]:
    """Of recipes that were trained with several seeds, how much the seed changes."""
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for model, row in zip(models, rows, strict=True):
        scores[model.name.rpartition(SEED)[0] or model.name].append(row.score)
    return [
        f"{name}: {mean(found):.4f} on average over {len(found)} seeds, standard deviation {stdev(found):.4f}"
        for name, found in scores.items()
        if len(found) > 1
    ]
