"""``podium blend``, ``import-oof`` and ``board``: their options, and how they print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from podium.cli_options import Data, Json, Name, Out, Sample, Set
from podium.cli_output import print_json, results, say
from podium.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from podium.prepare import Options

METHODS = ("auto", "uniform", "single", "greedy", "simplex")
MEANS = ("auto", "arithmetic", "geometric")


def blend(
    name: Name,
    models: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--models",
            metavar="A,B",
            help="Any models with out-of-fold predictions; default: the last run's and imported ones.",
        ),
    ] = None,
    method: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--method", help="auto, uniform, single, greedy or simplex; auto: the simplest within noise of the best."
        ),
    ] = None,
    mean: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--mean", help="auto, arithmetic or geometric, of probabilities."),
    ] = None,
    decode: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option("--decode/--no-decode", help="Choose thresholds, factors of classes and steps on shapes too."),
    ] = None,
    pack: Annotated[bool, typer.Option("--pack", help="Also write the submission file of this blend.")] = False,
    data: Data = None,
    sample: Sample = False,
    override: Set = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Choose weights and decoding on out-of-fold predictions."""
    from podium import blending
    from podium.config_blend import BlendSettings
    from podium.prepare import read_competition
    from podium.report.text import print_board

    for option, value, allowed in (("--method", method, METHODS), ("--mean", mean, MEANS)):
        if value is not None and value not in allowed:
            raise UserError(f"{option} {value}: not known; {did_you_mean(value, allowed)}")
    options = _options(name, data, sample, override, out)
    given = {"method": method, "mean": mean, "decode": decode}
    settings = read_competition(name, options)[1].blend.model_dump()
    settings |= {key: value for key, value in given.items() if value is not None}
    names = [part.strip() for part in models.split(",") if part.strip()] if models else []
    found = blending.blend(name, options, names, BlendSettings(**settings), pack, say())
    print_json(found) if as_json else print_board(found, results())


def import_oof(
    name: Name,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="What to call it, for example teammate_unet.")],
    oof: Annotated[
        Path,
        typer.Option("--oof", metavar="FILE", help="npz with ids, folds (of each id) and probabilities, out of fold."),
    ],
    test: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--test", metavar="FILE", help="npz with ids and probabilities of the test images."),
    ] = None,
    data: Data = None,
    sample: Sample = False,
    override: Set = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Take over predictions that were made elsewhere."""
    from podium.imported import import_predictions
    from podium.prepare import prepare
    from podium.report.text import print_rows
    from podium.standing import Model, score_model

    prepared = prepare(name, _options(name, data, sample, override, out), say())
    member = import_predictions(prepared, model, oof, test)
    row = score_model(prepared, Model(member), None).row
    if as_json:
        print_json({"model": member.name, "run": member.run, "folds": sorted(member.oof), "row": row})
        return
    title = f"{prepared.name}: imported, out-of-fold {prepared.competition.metric}"
    print_rows(title, [row], results())


def board(
    name: Name,
    compare: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--compare", metavar="A,B", help="Two rows, paired on the same images: by how much A is better."),
    ] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Show the scores of every model and blend."""
    from podium import blending
    from podium.report.text import print_board, print_comparison

    options = _options(name, None, False, None, out)
    if compare is None:
        found = blending.whole_board(name, options, lambda text: None)
        print_json(found) if as_json else print_board(found, results())
        return
    pair = [part.strip() for text in compare for part in text.split(",") if part.strip()]
    if len(pair) != 2:
        raise UserError(f"--compare {','.join(pair)}: two rows are compared; write --compare A,B")
    compared = blending.compare(name, options, pair[0], pair[1], lambda text: None)
    print_json(compared) if as_json else print_comparison(compared, results())


def _options(name: str, data: Path | None, sample: bool, override: list[str] | None, out: Path | None) -> Options:
    """What was asked for last, with what is asked for now."""
    from dataclasses import replace

    from podium.prepare import Options
    from podium.remembered import last_options

    given = Options(data=data, sample=sample, overrides=tuple(override or ()), out=out)
    last = last_options(name, Options(out=out))
    if not given.asks:
        return last
    kept = replace(last, sample=sample or (last.sample and data is None), overrides=(*last.overrides, *given.overrides))
    return replace(kept, data=data or last.data)
