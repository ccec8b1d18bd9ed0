"""The command line: thin, and light to import; what works is imported inside the commands."""

from __future__ import annotations

import inspect
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from podium.cli_blend import blend, board, import_oof
from podium.cli_kernel import HELP as KERNEL_HELP
from podium.cli_kernel import kernel
from podium.cli_options import (
    Budget,
    Compile,
    ContinueFrom,
    Data,
    Device,
    DryRun,
    FoldList,
    From,
    Json,
    Models,
    Name,
    Out,
    Overlays,
    Precision,
    Sample,
    Seed,
    Seeds,
    Set,
    SkipBad,
    Threads,
    WithObjects,
    Workers,
    options_of,
)
from podium.cli_output import messages, print_json, results, say
from podium.cli_submit import download, final, show, submit
from podium.cli_tune import HELP, tune
from podium.errors import UserError

if TYPE_CHECKING:
    from podium.prepare import Options

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="podium: from an image competition's raw file to a checked submission, with a score that can be believed.",
)


@app.callback()
def _podium() -> None:
    """Needed by typer, so that a single command keeps its name."""


def _work(until: str, go_on: bool) -> Callable[..., None]:
    """A verb that works up to a stage; ``go_on``: without options it goes on from what the last run asked for."""

    def verb(
        name: Name,
        models: Models = None,
        folds: FoldList = None,
        budget: Budget = None,
        seed: Seed = 0,
        seeds: Seeds = 1,
        data: Data = None,
        sample: Sample = False,
        skip_bad: SkipBad = False,
        override: Set = None,
        out: Out = None,
        former: ContinueFrom = None,
        device: Device = "auto",
        precision: Precision = "auto",
        source: From = "auto",
        threads: Threads = None,
        workers: Workers = None,
        compile: Compile = "auto",
        dry_run: DryRun = False,
        as_json: Json = False,
    ) -> None:
        options = options_of(
            models,
            folds,
            budget,
            seed,
            seeds,
            data,
            sample,
            skip_bad,
            override,
            out,
            device,
            precision,
            source,
            threads,
            workers,
            compile,
            former,
        )
        _run(name, options, until, go_on, dry_run, as_json)

    return verb


def _and_objects(work: Callable[..., None]) -> Callable[..., None]:
    """``work`` with options of its own for the objects in what it predicts."""

    def verb(name: str, objects: WithObjects = False, overlays: Overlays = None, **given: Any) -> None:
        if overlays is not None and not objects:
            raise UserError("--overlays: does nothing without --objects; add it")
        if not objects:
            work(name=name, **given)
            return
        from podium.objects_of_run import report_objects

        with _kept_back(given["as_json"]) as told:
            work(name=name, **given)
            found = report_objects(name, given["out"], overlays)
        if given["as_json"]:
            print_json(json.loads(told.getvalue()) | {"objects": asdict(found.report)})
        else:
            results().print(found.sentence(), markup=False, highlight=False, soft_wrap=True)

    return _with_options(work, verb, ("objects", "overlays"))


@contextmanager
def _kept_back(wanted: bool) -> Iterator[io.StringIO]:
    """Where ``wanted``, what is printed to stdout inside, so that more can be added; printed as it is where it ends early."""
    told = io.StringIO()
    try:
        with redirect_stdout(told) if wanted else nullcontext():
            yield told
    except BaseException:
        sys.stdout.write(told.getvalue())
        raise


def _and_submit(work: Callable[..., None]) -> Callable[..., None]:
    """``work`` with an option that sends the file it packs."""

    def verb(
        name: str,
        submit: Annotated[
            bool, typer.Option("--submit", help="Send the packed file to Kaggle and wait for its score.")
        ] = False,
        **given: Any,
    ) -> None:
        if not submit or given["dry_run"]:
            work(name=name, **given)
            return
        from podium.submitting import ready, send_packed

        ready(name, given["out"], given["sample"])
        with _kept_back(given["as_json"]) as told:
            work(name=name, **given)
            sent = send_packed(name, given["out"], say())
        if given["as_json"]:
            print_json(json.loads(told.getvalue()) | {"sent": [asdict(each) for each in sent]})
        show(sent, given["as_json"])

    return _with_options(work, verb, ("submit",))


def _with_options(work: Callable[..., None], verb: Callable[..., None], added: tuple[str, ...]) -> Callable[..., None]:
    """``verb`` with the signature of ``work`` and options of its own."""
    # with annotations as objects: typer does not look up names in a signature that is given to it
    given, more = (inspect.signature(function, eval_str=True).parameters for function in (work, verb))
    first, *others = given.values()
    verb.__signature__ = inspect.Signature([first, *others, *(more[key] for key in added)])  # type: ignore[attr-defined]
    verb.__annotations__ = work.__annotations__ | verb.__annotations__
    return verb


for _verb, _until, _go_on, _help in (
    ("run", "pack", False, "All stages: data, folds, training, prediction, blend, submission file, board."),
    ("train", "train", False, "Train the models and score them on the folds they have not seen."),
    ("predict", "predict", True, "Predict the test set with what was trained; trains what is missing."),
    ("pack", "pack", True, "Blend, write the submission file and read it back; predicts what is missing."),
):
    _works = _work(_until, _go_on)
    if _verb == "predict":
        _works = _and_objects(_works)
    elif _until == "pack":
        _works = _and_submit(_works)
    app.command(_verb, help=_help)(_works)


app.command(help=HELP)(tune)


@app.command(help="Make the fold file and show how alike the folds are.")
def fold(
    name: Name,
    data: Data = None,
    sample: Sample = False,
    skip_bad: SkipBad = False,
    override: Set = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    from podium.audit.drops import in_short
    from podium.data.kinds import kinds
    from podium.folds import table
    from podium.prepare import Options, prepare
    from podium.report.text import print_table

    options = Options(data=data, sample=sample, overrides=tuple(override or ()), skip_bad=skip_bad, out=out)
    prepared = prepare(name, options, say())
    folds, targets = prepared.folds, prepared.dataset.train.targets
    assert targets is not None
    of_classes, classes = kinds(targets, prepared.competition)
    rows = table(folds, of_classes, classes)
    reasons: dict[str, int] = {}
    for reason in map(in_short, folds.reasons[~folds.kept].tolist()):
        reasons[reason] = reasons.get(reason, 0) + 1
    if as_json:
        print_json({"file": str(prepared.folds_path), "dropped": reasons, "folds": rows, "classes": classes})
        return
    masks, repeats = prepared.competition.masks, folds.repeats
    lines = []
    for r in rows:
        number = f"{r.fold}" if repeats == 1 else f"{r.fold} (repeat {r.fold // folds.count})"
        amounts = [f"{share:.3%} in {n}" if masks else f"{n}" for share, n in zip(r.shares, r.counts, strict=True)]
        lines.append([number, r.images, r.groups, *amounts])
    unit = ": pixels in images" if masks else ": images"
    print_table(
        str(prepared.folds_path),
        ["fold", "images", "groups", *(f"{c}{unit}" for c in classes)],
        lines,
        results(),
    )
    for reason, count in reasons.items():
        results().print(f"dropped: {count} images: {reason}", highlight=False)


@app.command(
    help="Search the data for what spoils a score: copies, jokes, outliers, odd masks, a test set that differs."
)
def audit(
    name: Name,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Also an autoencoder, and repeated content inside other images.")
    ] = False,
    labels: Annotated[
        bool, typer.Option("--labels", help="Rank probable label errors from the last run's predictions instead.")
    ] = False,
    data: Data = None,
    sample: Sample = False,
    skip_bad: SkipBad = False,
    override: Set = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    from podium.prepare import Options, open_data, read_competition

    if labels and thorough:
        raise UserError("--labels and --thorough exclude each other: one looks at predictions, the other at images")
    options = Options(data=data, sample=sample, overrides=tuple(override or ()), skip_bad=skip_bad, out=out)
    if labels:
        from podium.audit.label_report import audit_labels
        from podium.audit.page import print_labels

        ranked = audit_labels(name, options, say())
        print_json(ranked) if as_json else print_labels(ranked, results())
        return
    from podium.audit.page import print_report
    from podium.audit.report import audit as search

    workspace, competition = read_competition(name, options)
    origin, opened = open_data(workspace, competition, options, say())
    folder = workspace.audit(origin.name)
    report = search(competition, origin.sentence(), opened.source, folder, say(), thorough)
    print_json(report) if as_json else print_report(report, folder, results())


@app.command(help="Check a submission file, also one made elsewhere, against what the competition asks for.")
def check(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to check.")],
    truth: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--truth", metavar="FILE", help="The right answers in the same format: score the file."),
    ] = None,
    data: Data = None,
    sample: Sample = False,
    out: Out = None,
    as_json: Json = False,
) -> None:
    from podium.checking import check as hold
    from podium.prepare import Options

    found = hold(name, file, Options(data=data, sample=sample, out=out), say(), truth)
    report = found.report
    if as_json:
        print_json({"file": str(file), "valid": report.ok, **asdict(found)})
    else:
        for text in report.errors:
            results().print(f"error: {text}", style="red", markup=False)
        for text in report.warnings:
            results().print(f"warning: {text}", style="yellow", markup=False)
        verdict = "would be refused" if report.errors else "is in order"
        if file.suffix == ".zip" and not report.counts:
            verdict += "; its code was not run"
        what = "files" if file.suffix == ".zip" else "rows"
        results().print(f"{file}: {report.rows} {what}; {verdict}", markup=False, soft_wrap=True)
        if found.score is not None:
            parts = ", ".join(f"{part} {value:.4f}" for part, value in (found.parts or {}).items() if value is not None)
            results().print(f"{found.metric}: {found.score:.4f} ({parts})", markup=False, soft_wrap=True)
    if report.errors:
        raise typer.Exit(2)


app.command(help="Choose blend weights and decoding on out-of-fold predictions, scored where they were not chosen.")(
    blend
)
app.command("import-oof", help="Take over predictions made elsewhere, checked like our own, to blend them.")(import_oof)
app.command(help="Show the scores of every model and blend, or compare two of them.")(board)
app.command(help="Send a checked file to Kaggle and follow it to its score.")(submit)
app.command(help="Propose the two submissions to select at the end: the best, and one that insures against bad luck.")(
    final
)
app.command(help="Fetch a competition's files from Kaggle and unpack them.")(download)
app.command(help=KERNEL_HELP)(kernel)


@app.command(help="Run the benchmarks that fit this machine, each with its control, and sum up what they measured.")
def bench(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Scripts; default: all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Short forms, to see that they work.")] = False,
    data: Data = None,
    out: Annotated[Optional[Path], typer.Option("--out", metavar="DIR", help="Folder for the results.")] = None,  # noqa: UP045
    as_json: Json = False,
) -> None:
    from podium.benches import run

    results = run(tuple(names or ()), out, quick, data, say() if as_json else print)
    if as_json:
        print_json([asdict(result) for result in results])
    if any(result.status == "failed" for result in results):
        raise typer.Exit(1)


def main() -> None:
    """Entry point: user errors become one sentence and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"podium: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("podium: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _run(name: str, options: Options, until: str, go_on: bool, dry_run: bool, as_json: bool) -> None:
    from podium import pipeline, remembered
    from podium.report.text import print_board

    if go_on and not options.asks:
        options = remembered.last_options(name, options)
    done = pipeline.run(name, options, until, messages(), dry_run)
    if dry_run:
        _print_plan(done.plan, as_json)
    elif done.board is not None:
        print_json(done.board) if as_json else print_board(done.board, results())
    elif as_json:
        print_json({"failures": done.failures})
    if done.failures:
        jobs_of: dict[str, list[str]] = {}
        for job, error in done.failures.items():
            jobs_of.setdefault(error, []).append(job)
        for error, jobs in jobs_of.items():
            others = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
            print(f"podium: {jobs[0]}{others}: {error}", file=sys.stderr)
        raise typer.Exit(2 if done.user_errors else 1)


def _print_plan(plan: Any, as_json: bool) -> None:
    from podium.report.text import print_table

    if as_json:
        print_json(plan)
        return
    rows = [
        [
            job.name,
            job.kind,
            "done" if job.done else "to do",
            "" if job.seconds is None else f"{job.seconds:.0f}",
        ]
        for job in plan.jobs
    ]
    print_table(f"Plan for {plan.site.name}", ["job", "kind", "state", "seconds"], rows, results())
    side = f"{plan.workers} workers side by side; " if plan.workers > 1 else ""
    needs = f"{side}needs about {sum(plan.disk.values()) / 1e9:.1f} GB of disk and {plan.memory_bytes / 1e9:.1f} GB of memory"
    results().print(
        needs if plan.budget is None else f"{needs}; takes about {plan.budget / 60:.0f} minutes", highlight=False
    )
    for note in plan.notes:
        results().print(f"note: {note}", markup=False, highlight=False)


if __name__ == "__main__":
    main()
