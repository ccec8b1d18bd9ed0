"""The verbs about Kaggle: ``submit``, ``download`` and ``final``."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from podium.cli_options import Data, Json, Name, Out, seconds_of
from podium.cli_output import print_json, results, say
from podium.errors import UserError

if TYPE_CHECKING:
    from podium.submission.history import Attempt

Message = Annotated[str, typer.Option("--message", "-m", metavar="TEXT", help="For Kaggle's list; default: the CV.")]
Keep = Annotated[int, typer.Option("--keep", min=0, metavar="N", help="Leave so many of today's submissions alone.")]
Again = Annotated[bool, typer.Option("--again", help="Send a file that was sent before.")]
Wait = Annotated[str, typer.Option("--wait", metavar="1h", help="How long to wait for the score.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the score; --resume fetches it later.")]
Every = Annotated[str, typer.Option("--every", metavar="10s", help="Time between the first looks for the score.")]
Resume = Annotated[bool, typer.Option("--resume", help="Send nothing; fetch the scores of what was sent before.")]


def submit(
    name: Name,
    file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(metavar="[FILE]", help="The file to send; default: the one that was packed last."),
    ] = None,
    message: Message = "",
    keep: Keep = 0,
    again: Again = False,
    wait: Wait = "1h",
    no_wait: NoWait = False,
    every: Every = "10s",
    resume: Resume = False,
    data: Data = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Send a checked file to Kaggle and follow it to its score."""
    from podium.submission.send import Patience
    from podium.submitting import resume_all, send_and_follow

    patience = Patience(0.0 if no_wait else seconds_of(wait, "--wait"), seconds_of(every, "--every"))
    if resume:
        if file is not None or message or again:
            raise UserError("--resume sends nothing; leave out FILE, --message and --again")
        found = resume_all(name, out, patience, say())
    else:
        found = send_and_follow(name, file, patience, say(), message, keep, again, data, out)
    if as_json:
        print_json([asdict(each) for each in found])
    show(found, as_json)


def show(attempts: list[Attempt], as_json: bool) -> None:
    """Print how submissions stand, unless they stand in a JSON object already; one that could not be scored is exit code 2."""
    for each in attempts if not as_json else ():
        told = {
            "scored": f"public score {each.public or 'not shown'}"
            + (f", private {each.private}" if each.private else ""),
            "pending": "has no score yet; podium submit --resume fetches it",
            "uploading": "is not on Kaggle's list yet; podium submit --resume looks again",
            "failed": "could not be scored by Kaggle; look at the competition's page",
            "not counted": "did not arrive, and nothing was counted; send it again",
        }[each.state]
        results().print(f"{each.file} ({each.reference or 'no reference'}): {told}", markup=False, soft_wrap=True)
    if any(each.state in ("failed", "not counted") for each in attempts):
        raise typer.Exit(2)


def download(
    name: Name,
    to: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--to", metavar="DIR", help="Where to; default: data/COMPETITION of the project."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch a competition's files from Kaggle and unpack them."""
    from podium.submitting import fetch

    folder = fetch(name, to, say())
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    if as_json:
        print_json({"folder": str(folder), "files": files})
        return
    results().print(f"{folder}: {len(files)} files", markup=False, soft_wrap=True)


def final(name: Name, data: Data = None, out: Out = None, as_json: Json = False) -> None:
    """Propose the two submissions to select at the end."""
    from podium.final import propose
    from podium.prepare import Options, prepare
    from podium.remembered import last_board, last_options
    from podium.report.text import print_table

    last_board(name, out)  # without a finished run there is nothing to propose, and nothing is begun
    last = last_options(name, Options(out=out))
    found = propose(prepare(name, replace(last, data=data or last.data, out=out), say()))
    if as_json:
        print_json(found)
        return
    rows = []
    for each in (found.first, *([found.second] if found.second else []), *found.others):
        gain = each.behind
        behind = "" if gain is None else f"{gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
        interval = f"{each.low:.3f}–{each.high:.3f}"
        differs = "" if gain is None else f"{each.differs:.2%}"
        told = [
            each.blend,
            ", ".join(each.models),
            f"{each.score:.4f}",
            interval,
            behind,
            differs,
            each.file,
            each.public,
        ]
        rows.append(told)
    columns = ["blend", "models", "nested", "90 % interval", "first is better by", "differs", "file", "public"]
    print_table(f"{found.competition}: nested {found.metric}", columns, rows, results())
    for text in found.sentences():
        results().print(text, markup=False, highlight=False, soft_wrap=True)
