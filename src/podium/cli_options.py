"""What a command line may say: options by name, and what is made of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from podium.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from podium.prepare import Options

SESSION = "session"
"""The budget that is what a hosted notebook's session has left."""
# typer reads these at run time, so they are written for every Python that podium supports
Name = Annotated[str, typer.Argument(metavar="COMPETITION", help="A file of configs/competitions, for example mars.")]
Models = Annotated[
    str | None,
    typer.Option("--models", metavar="A,B", help="Recipes of configs/models; default: the competition's."),
]
FoldList = Annotated[Optional[str], typer.Option("--folds", metavar="0,1", help="Only these folds; default: all.")]  # noqa: UP045
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="30m",
        help="Time for the WHOLE run, or in a Kaggle notebook 'session', what is left of it; default: the recipes' epochs.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the training; the folds have their own.")]
Seeds = Annotated[
    int, typer.Option("--seeds", min=1, help="Train every recipe so many times, from --seed on; all are blended.")
]
WithObjects = Annotated[
    bool, typer.Option("--objects", help="Also a table of the objects in the test masks, counts and overlays.")
]
Overlays = Annotated[
    int | None,
    typer.Option("--overlays", min=0, metavar="N", help="With --objects: draw the first N images; default: all."),
]
Data = Annotated[Optional[Path], typer.Option("--data", metavar="DIR", help="Where the competition's file lies.")]  # noqa: UP045
Sample = Annotated[bool, typer.Option("--sample", help="Use the built-in sample, whatever data there is.")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out images that cannot be used, and list them, instead of stopping.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. train.epochs=5; repeatable."),
]
Out = Annotated[Optional[Path], typer.Option("--out", metavar="DIR", help="Folder for runs/, folds/ and submissions/.")]  # noqa: UP045
ContinueFrom = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--continue-from",
        metavar="DIR",
        help="Take over what a former run left there, which is only read; default on Kaggle: the attached one.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
Precision = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or fp16.")]
From = Annotated[
    str,
    typer.Option(
        "--source", help="Training images: auto, resident (on the device) or streamed (read as they are drawn)."
    ),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Threads per worker; default: the cores, shared by the workers."),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Worker processes that train side by side; default: what is fastest."),
]
Compile = Annotated[str, typer.Option("--compile", help="torch.compile: auto (where it pays), on or off.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; messages go to stderr.")]


def options_of(
    models: str | None,
    folds: str | None,
    budget: str | None,
    seed: int,
    seeds: int,
    data: Path | None,
    sample: bool,
    skip_bad: bool,
    override: list[str] | None,
    out: Path | None,
    device: str,
    precision: str,
    source: str,
    threads: int | None,
    workers: int | None,
    compile: str,
    former: Path | None = None,
) -> Options:
    from podium.prepare import Options

    if precision not in ("auto", "fp32", "bf16", "fp16"):
        raise UserError(f"--precision {precision}: not a precision; allowed: auto, fp32, bf16, fp16")
    if source not in ("auto", "resident", "streamed"):
        raise UserError(f"--source {source}: not a source; {did_you_mean(source, ('auto', 'resident', 'streamed'))}")
    if compile not in ("auto", "on", "off"):
        raise UserError(
            f"--compile {compile}: neither auto, on nor off; {did_you_mean(compile, ('auto', 'on', 'off'))}"
        )
    names = tuple(part.strip() for part in models.split(",") if part.strip()) if models else ()
    try:
        numbers = tuple(sorted({int(part) for part in folds.split(",")})) if folds else ()
    except ValueError:
        raise UserError(f"--folds {folds}: not a list of numbers; write for example --folds 0,1") from None
    seconds = seconds_of(budget) if budget else None
    session = budget == SESSION
    return Options(
        names,
        numbers,
        None if session else seconds,
        seed,
        data,
        sample,
        tuple(override or ()),
        skip_bad,
        out,
        device,
        precision,
        source,
        threads,
        workers,
        compile,
        seeds,
        session,
        former,
    )


def seconds_of(text: str, option: str = "--budget") -> float:
    """Seconds of a time like ``90s``, ``30m``, ``1h30m``; of a budget also of what ``session`` leaves in a Kaggle notebook.

    option: whose value it is.
    """
    budget = option == "--budget"
    if budget and text == SESSION:
        from podium.hosted import session_left

        return session_left()
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip())
    if not found or not any(found.groups()):
        session = ", or session in a Kaggle notebook" if budget else ""
        raise UserError(f"{option} {text}: not a time; write for example 30m, 1h30m or 90s{session}")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    total = hours * 3600 + minutes * 60 + seconds
    if total <= 0:
        raise UserError(f"{option} {text}: must be longer than nothing")
    return total
