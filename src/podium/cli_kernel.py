"""``podium kernel``: its options, and how it prints."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from podium.cli_options import Json, Name, Out
from podium.cli_output import print_json, results, say
from podium.errors import UserError

HELP = "Bundle the blend for a code competition: weights and code as a data set, a script that runs offline, rehearsed here."


def kernel(
    name: Name,
    models: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--models", metavar="A,B", help="Models trained here; default: the blend of the last run."),
    ] = None,
    user: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--user", help="Your name on Kaggle; default: $KAGGLE_USERNAME, else kaggle.json's."),
    ] = None,
    title: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--title", help="Of the kernel; its data set is called after it. Default: podium COMPETITION."),
    ] = None,
    gpu: Annotated[bool, typer.Option("--gpu/--no-gpu", help="Whether the kernel asks for a GPU.")] = True,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Make a kernel of what the last run trained."""
    from podium import remembered
    from podium.kaggle.credentials import user_name
    from podium.kernel.bundle import Names
    from podium.prepare import Options

    remembered.last_board(name, out)  # without a finished run there is nothing to bundle, and nothing is begun
    who = user or user_name()
    if who is None:
        raise UserError(
            "--user: there is neither $KAGGLE_USERNAME nor a kaggle.json; give your name on Kaggle with --user"
        )
    from podium.kernel.make import make_kernel

    names = Names(who, title or f"podium {name.replace('_', ' ')}", gpu)
    wanted = [part.strip() for part in models.split(",") if part.strip()] if models else []
    made = make_kernel(name, remembered.last_options(name, Options(out=out)), wanted, names, say())
    if as_json:
        print_json(made)
        return
    console = results()

    def tell(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    alike = "the very bytes of" if not made.different else f"{1 - made.different:.4%} of the labels of"
    tell(f"{made.folder}: {', '.join(made.models)}")
    tell(f"rehearsed on {made.images} test images in {made.seconds:.0f} s: its file has {alike} {made.packed}")
    for note in made.notes:
        tell(f"note: {note}")
    tell("in this order (README.md there says more):")
    for command in made.commands:
        tell(f"    {command}")
