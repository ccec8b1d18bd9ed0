"""``podium tune``: its options, and how it prints what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from podium.cli_options import (
    Budget,
    Data,
    Device,
    FoldList,
    Json,
    Name,
    Out,
    Precision,
    Sample,
    Seed,
    Set,
    Threads,
    options_of,
    seconds_of,
)
from podium.cli_output import messages, print_json, results

if TYPE_CHECKING:
    from podium.tuning.tune import Tuned

HELP = (
    "Search a recipe's settings (a space in tuning/), confirm the best on another split, and offer a recipe that wins."
)


def tune(
    name: Name,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--model", metavar="RECIPE", help="The recipe to tune; default: the competition's first."),
    ] = None,
    trials: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--trials", min=1, help="Trials that shall be finished in the end; default: 20 without a budget."),
    ] = None,
    budget: Budget = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Trials that are trained side by side.")] = 1,
    storage: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--storage", metavar="URL", help="A database for several machines; default: a journal file."),
    ] = None,
    folds: FoldList = None,
    data: Data = None,
    sample: Sample = False,
    override: Set = None,
    out: Out = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    seed: Seed = 0,
    no_confirm: Annotated[bool, typer.Option("--no-confirm", help="Only search; confirm and offer nothing.")] = False,
    as_json: Json = False,
) -> None:
    """The verb."""
    options = options_of(
        None,
        folds,
        None,
        seed,
        1,
        data,
        sample,
        False,
        override,
        out,
        device,
        precision,
        "auto",
        threads,
        workers,
        "auto",
    )
    from podium.tuning.begin import Request
    from podium.tuning.tune import tune as search

    request = Request(model, trials, seconds_of(budget) if budget else None, storage, not no_confirm)
    tuned = search(name, options, request, messages())
    print_json(tuned) if as_json else _print(tuned)


def _print(tuned: Tuned) -> None:
    from podium.report.text import print_table
    from podium.tuning.space import sentence

    console = results()

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    rows = [[f"trial {one.trial}", f"{one.value:.4f}", sentence(one.changes)] for one in tuned.best]
    if tuned.defaults is not None:
        rows.append(["the recipe as it is", f"{tuned.defaults:.4f}", ""])
    folds = ", ".join(map(str, tuned.folds))
    title = (
        f"{tuned.study}: {tuned.finished} trials, {tuned.pruned} of them given up early; {tuned.metric} on fold {folds}"
    )
    print_table(title, ["", "score", "settings"], rows, console)
    if tuned.confirmed:
        gains = [
            [one.name, f"{one.score:.4f}", f"{one.gain:+.4f}", f"{one.low:+.4f} to {one.high:+.4f}"]
            for one in tuned.confirmed
        ]
        gains.append(["the recipe as it is", f"{tuned.confirmed[0].defaults:.4f}", "", ""])
        print_table("All folds of another split", ["", "score", "gain", "90 % interval"], gains, console)
        if tuned.offered:
            line(f"offered: {tuned.offered}")
        else:
            line("nothing is offered: no gain is certain on another split; the recipe as it is stays the one to use")
    for note in tuned.notes:
        line(f"note: {note}")
    for path in tuned.plots:
        line(f"plot: {path}")
    line(f"to look at the study: {tuned.dashboard} (pip install optuna-dashboard)")
