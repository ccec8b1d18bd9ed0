"""What the last run was asked for and what came of it, for the verbs that go on from there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from podium.config_file import find, write_yaml
from podium.errors import UserError
from podium.former import earlier_plan, find_former
from podium.plan import Plan
from podium.prepare import MACHINE, Options, Prepared
from podium.store import read_json, write_json
from podium.workspace import find_workspace


def remember(prepared: Prepared, plan: Plan, options: Options) -> None:
    """Write down what was asked for, for later verbs, and the settings as they were resolved, for people."""
    plan_path = prepared.workspace.runs(prepared.name) / "plan.json"
    write_json(
        plan_path,
        {
            "competition": prepared.competition.name,
            "options": options.to_json(),
            "left_out": plan.left_out,
            "workers": plan.workers,
            "notes": plan.notes,
        },
    )
    for planned in plan.runs:
        settings = {"competition": prepared.competition, "recipe": planned.recipe}
        write_yaml(
            planned.folder / "settings.yaml", {key: value.model_dump(mode="json") for key, value in settings.items()}
        )


def last_options(name: str, options: Options) -> Options:
    """The options of the last run, for verbs that go on from it; only what is given now replaces them."""
    kept = _newest(name, options.out, "plan.json", options.former)
    if kept is None:
        return options
    old, default = Options.from_json(kept["options"]), Options()
    machine = MACHINE
    now = {key: getattr(options, key) for key in machine if getattr(options, key) != getattr(default, key)}
    return replace(old, out=options.out, former=options.former, **now)


def last_board(name: str, out: Path | None) -> dict[str, Any]:
    """The board of the last finished run, on real data or on the sample."""
    workspace = find_workspace(out)
    find(workspace.competitions, name, "competition")
    kept = _newest(name, out, "board.json")
    if kept is None:
        raise UserError(
            f"{name}: there is no finished run in {workspace.out / 'runs'}; start one with: bash run_cv.sh {name}"
        )
    return kept


def as_before(prepared: Prepared, options: Options) -> Options:
    """``options`` with what follows from the clock and the machine as it was when the same was asked for before.

    The seconds of a training belong to its identity: a budget that is what a session has left is taken from the first plan,
    and so are the workers that a former run had on its machine.
    """
    folders = [prepared.workspace.runs(prepared.name)]
    folders += [prepared.former / "runs" / prepared.name] if prepared.former is not None else []
    found = earlier_plan(folders)
    if found is None or (options.budget is None and not options.session):
        return options
    record, folder = found
    old = Options.from_json(record["options"])
    if not options.asks_as(old):
        return options
    elsewhere = folder != folders[0] and options.workers is None
    return replace(options, budget=old.budget, workers=record.get("workers") if elsewhere else options.workers)


def _newest(name: str, out: Path | None, file: str, given: Path | None = None) -> dict[str, Any] | None:
    """The newer one of the real data's and the sample's file; where there is neither, that of a former run.

    given: the folder of a former run where one is named.
    """
    workspace, names = find_workspace(out), (name, f"{name}-sample")
    there = [path for each in names if (path := workspace.runs(each) / file).is_file()]
    if not there:
        formers = [given] if given is not None else [find_former(None, workspace.out, each) for each in names]
        places = [former / "runs" / each / file for former in formers if former is not None for each in names]
        there = [path for path in places if path.is_file()]
    found: dict[str, Any] | None = read_json(max(there, key=lambda path: path.stat().st_mtime_ns)) if there else None
    return found
