"""``podium blend`` and ``podium board``: any models that lie in a competition's folder, blended, ranked, compared."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from podium import metrics, packing, pipeline, remembered, standing
from podium.blend.make import open_blend
from podium.blend.oof import together
from podium.catalogue import Entry, entries, pick
from podium.config_blend import BlendSettings
from podium.errors import UserError
from podium.estimate import Gain, Repeats, paired
from podium.prepare import Options, Prepared, Say, prepare
from podium.report import board as boards
from podium.report.board import Board, Row
from podium.report.leaderboard import agreement
from podium.standing import Copies, Scored
from podium.store import read_json, write_json
from podium.submission import ledger
from podium.submission.pack import LEDGER

RESAMPLES = 2000


@dataclass(frozen=True)
class Comparison:
    """Two rows of the board on the same images. gain: of ``first`` over ``second``, resampled over groups."""

    competition: str
    metric: str
    first: str
    second: str
    scores: tuple[float, float]
    images: int
    gain: Gain


def blend(name: str, options: Options, models: Sequence[str], settings: BlendSettings, pack: bool, say: Say) -> Board:
    """Blend ``models``, those of the last run where none are named, as ``settings`` say; pack: write the submission too."""
    started = time.monotonic()
    prepared = prepare(name, options, say)
    competition = prepared.competition.model_copy(update={"blend": settings})
    prepared = replace(prepared, competition=competition)
    chosen = pick(models or _last_models(prepared), entries(prepared), prepared)
    scored = standing.score(prepared, [entry.model for entry in chosen], _copies(prepared, say), (), say)
    notes, submission = list(scored.notes), None
    members = [entry.model.member for entry in chosen]
    if pack:
        if (lacking := packing.lacks(prepared)) is not None:
            raise UserError(f"--pack: {name}'s configuration names no {lacking}; add it, or leave --pack out")
        models_of = [entry.model for entry in chosen]
        submission, told = packing.submit(prepared, models_of, scored.blend, scored.rows[-1], say)
        notes += told
        if prepared.origin.sample:
            notes.append(packing.SAMPLE_FILE)
    board = Board(
        prepared.name,
        prepared.origin.sentence(),
        str(competition.metric),
        tuple(sorted(members[0].oof)),
        prepared.folds.total,
        scored.rows,
        scored.choice,
        scored.blend.weights,
        {},
        tuple(notes),
        (time.monotonic() - started) / 60,
        submission,
        packing.upload_command(prepared, submission),
        tuned=scored.blend.tuned,
    )
    write_json(prepared.workspace.runs(prepared.name) / "board.json", asdict(board))
    return board


def whole_board(name: str, options: Options, say: Say) -> Board:
    """The board of the last run or blend with every other model and blend that is of the same data and folds, ranked."""
    last = _last_board(name, options.out)
    try:
        prepared = prepare(name, options, say)
    except UserError as error:  # moved data are no reason to hide what is known
        return replace(last, notes=(*last.notes, f"other models and blends are not shown: {error}"))
    known = {(row.name, row.run) for row in last.rows}
    more = [each.row for each in _everything(prepared, say) if (each.row.name, each.row.run) not in known]
    competition = prepared.competition
    rows = [*last.rows, *more]
    models = boards.ranked(rows, metrics.of(competition), competition.validation.choose_by) if more else rows
    told = _leaderboard(prepared)
    found = agreement(
        prepared.workspace.submissions / LEDGER,
        prepared.name,
        prepared.workspace.runs(prepared.name) / "leaderboard.png",
    )
    return replace(last, rows=tuple(_with_scores(row, told.get(row.run, {})) for row in models), leaderboard=found)


def compare(name: str, options: Options, first: str, second: str, say: Say) -> Comparison:
    """How much better one model or blend is than another, on the images that both predicted.

    They are named as on the board, ``name@run`` where a name alone does not tell them apart.
    """
    prepared = prepare(name, options, say)
    there = _everything(prepared, say)
    a, b = (_named(wanted, there) for wanted in (first, second))
    metric = metrics.of(prepared.competition)
    if a.oof.stats.shape[1] != b.oof.stats.shape[1]:
        raise UserError(
            f"--compare: {first} and {second} were predicted in a different number of repeats; train both alike"
        )
    rows, *stats = together(a.oof, b.oof)
    if not len(rows):
        raise UserError(f"--compare: no image was predicted by both {first} and {second}; train them on the same folds")
    gain = paired(Repeats(metric), stats[0], stats[1], prepared.folds.groups[rows], RESAMPLES)
    once = np.ones((1, len(rows)))
    scores = [float(Repeats(metric).weighted(each, once)[0]) for each in stats]
    name, both = str(prepared.competition.metric), (scores[0], scores[1])
    return Comparison(prepared.name, name, first, second, both, len(rows), gain)


def _everything(prepared: Prepared, say: Say) -> list[Scored]:
    """Every usable model, the newest run of each name last, and every blend of what is there."""
    copies = _copies(prepared, say)
    there = [entry for entry in entries(prepared) if entry.problem is None]
    found = [standing.score_model(prepared, entry.model, copies) for entry in reversed(there)]
    for path in sorted(prepared.workspace.runs(prepared.name).glob("blend-*")):
        made = open_blend(path, prepared.competition, prepared.folds, [entry.model.member for entry in there])
        if made is not None:
            row = standing.blend_row(prepared, made, None)
            found.append(Scored(row, made.oof, None))
    return found


def _named(wanted: str, there: Sequence[Scored]) -> Scored:
    name, _, run = wanted.partition("@")
    fitting = [each for each in there if each.row.name == name and each.row.run.startswith(run)]
    if not fitting:
        known = sorted({f"{each.row.name}@{each.row.run}" for each in there})
        raise UserError(f"--compare {wanted}: is not on the board, which has {', '.join(known) or 'nothing'}")
    if len(fitting) > 1:
        which = ", ".join(f"{each.row.name}@{each.row.run}" for each in fitting)
        raise UserError(f"--compare {wanted}: there are several; name one of {which}")
    return fitting[0]


def _last_models(prepared: Prepared) -> list[str]:
    """The models of the last board, by name and run, and all that was imported since."""
    board = read_json(prepared.workspace.runs(prepared.name) / "board.json")
    rows: list[dict[str, Any]] = board["rows"] if board else []
    named = [f"{row['name']}@{row['run']}" for row in rows if row["kind"] == "model"]
    there = [entry for entry in entries(prepared) if entry.problem is None]
    if not named:
        named = [f"{entry.name}@{entry.run[:8]}" for entry in _newest(there)]
    imported = [f"{entry.name}@{entry.run[:8]}" for entry in _newest(there) if entry.model.recipe is None]
    found = list(dict.fromkeys([*named, *imported]))
    if not found:
        raise UserError(
            f"{prepared.name}: no model has out-of-fold predictions yet; train one with: podium train "
            f"{prepared.competition.name}"
        )
    return found


def _newest(there: Sequence[Entry]) -> list[Entry]:
    """The first, which is the newest, of each name."""
    return list({entry.name: entry for entry in reversed(there)}.values())


def _copies(prepared: Prepared, say: Say) -> Copies | None:
    found = pipeline.copies_of(prepared, say)
    if found is None:
        return None
    return found, prepared.folds.of_copies(found.part.images.ids, found.base_row)


def _leaderboard(prepared: Prepared) -> dict[str, dict[str, float]]:
    """What the ledger says of blends, by the beginning of their key: public and private score, the last ones."""
    told: dict[str, dict[str, float]] = {}
    for event in ledger.read(prepared.workspace.submissions / LEDGER):
        if event["event"] == "scored" and event["competition"] == prepared.name and event["blend"]:
            key = event["blend"].rpartition("@")[2]
            told[key] = {kind: float(event[kind]) for kind in ("public", "private") if event[kind]}
    return told


def _with_scores(row: Row, told: dict[str, float]) -> Row:
    return replace(row, public=told.get("public"), private=told.get("private"))


def _last_board(name: str, out: Path | None) -> Board:
    raw = remembered.last_board(name, out)
    rows = tuple(Row(**row) for row in raw["rows"])
    choice = boards.Choice(**raw["choice"]) if raw["choice"] else None
    kept = {"rows": rows, "choice": choice, "folds": tuple(raw["folds"]), "notes": tuple(raw["notes"])}
    return Board(**(raw | kept | {"leaderboard": None}))
