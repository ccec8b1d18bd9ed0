"""``podium kernel``: a blend's models bundled, the script written, rehearsed, and only then put in its place."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from podium import packing, standing
from podium.blend.make import Blend, make, open_blend
from podium.blend.members import predictions_of_test
from podium.catalogue import Entry, entries, pick
from podium.config import Competition
from podium.data.fit import plan_fit
from podium.errors import UserError
from podium.kernel import bundle as bundles
from podium.kernel import packages
from podium.kernel.bundle import Names
from podium.kernel.rehearse import MOST, different, rehearse
from podium.prepare import Options, Prepared, Say, prepare, read_competition
from podium.standing import Model
from podium.store import read_json, write_atomically, write_json
from podium.submission.pack import WRITERS, ending_of

RECORD = "rehearsal.json"


@dataclass(frozen=True)
class Kernel:
    """A kernel that passed its rehearsal.

    folder: holds dataset/, kernel/, README.md. packed: the submission file that it was compared with. images: of the test set.
    different: the share of labels in which its file differs from that one; 0 means that both have the same bytes. wheels: what
    Kaggle's image lacks. commands: to be typed, in this order. notes: what is to be said.
    """

    folder: str
    models: tuple[str, ...]
    packed: str
    images: int
    different: float
    seconds: float
    wheels: tuple[str, ...]
    commands: tuple[str, ...]
    notes: tuple[str, ...]


def make_kernel(name: str, options: Options, models: Sequence[str], names: Names, say: Say) -> Kernel:
    """Bundle the last board's blend, or one of the ``models`` named, for a code competition; rehearsed before it is there.

    options: the last run's. The folder is submissions/kernel-<name>-<id>; one that is there already was rehearsed then.
    """
    _, competition = read_competition(name, options)
    slug = _check(competition)
    names.check()
    prepared = prepare(name, options, say)
    test = prepared.dataset.test
    if test is None:
        raise UserError(f"{name}: its configuration names no test images, a rehearsal needs some; add data.test")
    blend, chosen = _blend(prepared, models, say)
    used = [_usable(entry, name) for entry in chosen if blend.weights[entry.name]]
    members = [entry.model.member for entry in chosen]
    row = standing.blend_row(prepared, blend, None)
    packed = Path(packing.submit_file(prepared, members, blend, row))
    fit = plan_fit(prepared.dataset.parts, prepared.competition.data.fit)
    bundle = bundles.collect(prepared, blend.folder, used, fit, names)
    folder = prepared.workspace.submissions / f"kernel-{prepared.name}-{bundle.id[:8]}"
    if (done := read_json(folder / RECORD)) is not None:
        say(f"{folder}: is there already, rehearsed")
        return Kernel(**(done | {key: tuple(done[key]) for key in ("models", "wheels", "commands", "notes")}))
    beside = folder.with_name(f".{folder.name}-{os.getpid()}")
    log = folder.with_name(f"{folder.name}.log")
    try:
        bundles.write(beside, bundle, names, slug)
        say(f"rehearsing the script on {len(test)} test images, in a clean process without network")
        started = time.monotonic()
        seen = rehearse(beside, prepared.origin.folder, slug, names.dataset.partition("/")[2], log)
        seconds = time.monotonic() - started
        share = different(predictions_of_test(members, blend.decision, prepared.competition), seen.labels)
        same = seen.content == packed.read_bytes()
        if share > MOST or (share == 0 and not same):
            what = f"{share:.2%} of its labels differ" if share else "the labels are the same, the bytes are not"
            raise UserError(f"the kernel's file is not what was packed, {packed}: {what}; what it said is in {log}")
        needed = packages.needs(seen.loaded)
        kernel = _kernel(
            prepared, folder, packed, len(test), share, seconds, used, packages.wheels(needed), names, slug
        )
        _finish(beside, needed, kernel)
        os.rename(beside, folder)
        log.unlink()
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return kernel


def _check(competition: Competition) -> str:
    """The competition's slug; a UserError where no kernel can be made for it."""
    if competition.kaggle is None:
        raise UserError(
            f"{competition.name}: its configuration has no 'kaggle', the competition's name in its address; add it, a kernel "
            "needs to know what to attach"
        )
    if competition.submission is None or competition.submission.format not in WRITERS:
        raise UserError(
            f"{competition.name}: its configuration has no 'submission' in a format of labels or masks; add it, a kernel writes "
            "such a file"
        )
    return competition.kaggle


def _blend(prepared: Prepared, models: Sequence[str], say: Say) -> tuple[Blend, list[Entry]]:
    """The blend and its models' entries, in its order."""
    there = entries(prepared)
    if models:
        chosen = pick(models, there, prepared)
        members = [entry.model.member for entry in chosen]
        runs = prepared.workspace.runs(prepared.name)
        return make(members, prepared.competition, prepared.folds, prepared.dataset.train, runs, None, say), chosen
    usable = [entry for entry in there if entry.problem is None]
    board = read_json(prepared.workspace.runs(prepared.name) / "board.json")
    key = board["rows"][-1]["run"] if board else ""
    folder = prepared.workspace.runs(prepared.name) / f"blend-{key}"
    blend = open_blend(folder, prepared.competition, prepared.folds, [entry.model.member for entry in usable])
    if blend is None:
        raise UserError(
            f"{prepared.name}: the last run's blend is not there, or not of these data; run bash run_cv.sh "
            f"{prepared.competition.name}, or name models with --models"
        )
    of_run = {(entry.name, entry.run): entry for entry in usable}
    return blend, [of_run[member.name, member.run] for member in blend.members]


def _usable(entry: Entry, name: str) -> Model:
    """A model whose weights are here and which has predicted the test set; any other is a UserError."""
    model = entry.model
    if model.recipe is None or not model.weights:
        raise UserError(f"{model.name}: was imported, its weights are not here; blend without it: --models A,B")
    if model.member.test is None:
        raise UserError(f"{model.name}: has not predicted the test set; run podium predict {name} first")
    return model


def _kernel(
    prepared: Prepared,
    folder: Path,
    packed: Path,
    images: int,
    share: float,
    seconds: float,
    used: Sequence[Model],
    wheels: Sequence[str],
    names: Names,
    slug: str,
) -> Kernel:
    assert prepared.competition.submission is not None
    dataset, ending = folder / "dataset", ending_of(prepared.competition.submission)
    commands = [packages.download(dataset)] if wheels else []
    commands += [
        f"kaggle datasets create -p {dataset}",
        f"kaggle datasets status {names.dataset}",
        f"kaggle kernels push -p {folder / 'kernel'}",
        f'kaggle competitions submit -c {slug} -k {names.kernel} -v 1 -f submission{ending} -m "{folder.name}"',
    ]
    notes = []
    if share:
        notes.append(f"{share:.4%} of the labels differ from the packed file's: sums in another order on this device")
    if prepared.origin.sample:
        notes.append(
            "these nets were trained on the built-in sample: the kernel exercises the path and is not for a submission"
        )
    models = tuple(f"{model.name}@{model.member.run[:8]}" for model in used)
    return Kernel(
        str(folder), models, str(packed), images, share, seconds, tuple(wheels), tuple(commands), tuple(notes)
    )


def _finish(beside: Path, needed: Sequence[str], kernel: Kernel) -> None:
    """What is known only after the rehearsal."""
    dataset = beside / "dataset"
    write_atomically(dataset / "needs.txt", "".join(f"{line}\n" for line in needed))
    if kernel.wheels:
        write_atomically(dataset / "wheels.txt", "".join(f"{line}\n" for line in kernel.wheels))
    write_json(beside / RECORD, asdict(kernel))
    commands = "\n".join(f"    {command}" for command in kernel.commands)
    write_atomically(
        beside / "README.md",
        f"""# {Path(kernel.folder).name}

{", ".join(kernel.models)}, rehearsed on {kernel.images} test images: its file is that of {Path(kernel.packed).name}
({kernel.different:.4%} of the labels differ).

In this order; the second until it says `ready`, and the last when the kernel has run and with its version:

{commands}

Where the data set exists already: `kaggle datasets version -p {kernel.folder}/dataset -m "new weights"` instead of `create`.
Wheels of further packages that the image should lack go into dataset/ too; the script installs what it does not find.
""",
    )
