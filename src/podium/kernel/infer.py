"""What runs inside a code competition: the test images that are there predicted, blended, decoded, written and checked.

Nothing here is about how the bundle came to be; what it needs lies in the bundle, and of the machine nothing is assumed.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from podium.config import Competition, Recipe
from podium.data.fit import Fit, plan_fit
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.data.reading import read_test
from podium.decode import Decision
from podium.decode_steps import Step
from podium.errors import UserError
from podium.hosted import kaggle_input
from podium.inference.predict import load, predict_to
from podium.kernel.script import BLEND, BUNDLE, DECODE
from podium.scoring import submitted
from podium.store import read_json
from podium.submission.pack import WRITERS
from podium.submission.validate import CHECKS
from podium.training.machine import Machine, detect


def main(bundle: Path, working: Path, arguments: Sequence[str] = ()) -> int:
    """Write the submission file to ``working``; the exit code. A user's error is one sentence.

    arguments: ``--as-recorded`` uses device, precision and threads of the local prediction; ``--report DIR`` leaves there the
    labels (labels.npy with its index) and loaded.json, the versions of all packages that were imported.
    """
    report = Path(arguments[arguments.index("--report") + 1]) if "--report" in arguments else None
    try:
        path, labels = submit(bundle, working, "--as-recorded" in arguments)
    except UserError as error:
        print(f"podium: {error}", file=sys.stderr)
        return 2
    print(f"{path}: {len(labels)} test images", flush=True)
    if report is not None:
        labels.save(report / "labels.npy")
        (report / "loaded.json").write_text(json.dumps(_loaded()), encoding="utf-8")
    return 0


def submit(bundle: Path, working: Path, as_recorded: bool = False) -> tuple[Path, Ragged]:
    """Predict the test images below Kaggle's input and write them to ``working``; the file, checked, and what is in it."""
    told = read_json(bundle / BUNDLE)
    competition = Competition.model_validate(told["competition"])
    assert competition.submission is not None
    with tempfile.TemporaryDirectory(prefix="podium-") as name:
        scratch = Path(name)
        test = read_test(competition, data_folder(competition), scratch / "images.npy")
        if test.channels != told["channels"]:
            raise UserError(f"test images have {test.channels} channels, the nets were trained on {told['channels']}")
        names, decision = _decision(bundle, competition)
        volumes = []
        for i, model in enumerate(names):
            path = scratch / f"{i}.npy"
            _predict(bundle, told["models"][model], competition, test, told["fit"], path, as_recorded)
            volumes.append(Ragged.open(path))
        labels = submitted(volumes, decision, competition)
        part = working / f".{told['file']}"
        WRITERS[competition.submission.format](part, labels, competition)
        check = CHECKS[competition.submission.format]
        found = check(part, competition, test.images.ids, test.images.shapes, meant=labels)
        if not found.ok:
            raise UserError(f"{part}: refused when read back: {found.errors[0]}")
        os.replace(part, working / told["file"])
        return working / told["file"], labels


def data_folder(competition: Competition) -> Path:
    """Where Kaggle attaches the competition's files."""
    assert competition.kaggle is not None
    places = [kaggle_input() / competition.kaggle, kaggle_input() / "competitions" / competition.kaggle]
    for folder in places:
        if folder.is_dir():
            return folder
    looked = " nor ".join(map(str, places))
    raise UserError(f"there is neither {looked}; add the competition's data to the notebook")


def _decision(bundle: Path, competition: Competition) -> tuple[tuple[str, ...], Decision]:
    """The models of the blend that weigh anything, in its order, and what was chosen for them."""
    blend, decode = read_json(bundle / BLEND), read_json(bundle / DECODE)
    weights = {name: model["weight"] for name, model in blend["models"].items() if model["weight"]}
    steps = tuple(Step.from_json(step, competition.classes) for step in decode["steps"])
    return tuple(weights), Decision(tuple(weights.values()), blend["mean"], steps, blend["method"])


def _predict(
    bundle: Path,
    model: Mapping[str, Any],
    competition: Competition,
    test: Part,
    fit: Mapping[str, Any],
    path: Path,
    as_recorded: bool,
) -> None:
    """The mean over one model's folds, as the local run predicted its test set."""
    recipe = Recipe.model_validate(model["recipe"])
    machine = _machine(model["machine"], as_recorded)
    torch.set_num_threads(machine.threads)
    planned = _fit(fit, competition, test)
    files = [bundle / name for name in model["files"]]
    nets = [load(recipe, competition, test.channels, file, machine, planned.size) for file in files]
    rows = np.arange(len(test))

    def say(event: dict[str, Any]) -> None:
        if event["event"] == "note":
            print(f"podium: {recipe.name}: {event['text']}", file=sys.stderr, flush=True)

    predict_to(path, nets, competition, test, rows, planned, recipe.predict.views, machine, say)


def _machine(recorded: Mapping[str, Any], as_recorded: bool) -> Machine:
    """This machine, or as much of the one that predicted locally as is here; full precision where that had it."""
    if as_recorded and (recorded["device"] == "cpu" or torch.cuda.is_available()):
        same = detect(recorded["device"], recorded["precision"], recorded["threads"])
        return replace(same, compile=recorded["compile"])
    return detect(precision="fp32" if recorded["precision"] == "fp32" else "auto")


def _fit(told: Mapping[str, Any], competition: Competition, test: Part) -> Fit:
    """How images come to the nets' size: as it was planned for all local images, unless these have other sizes."""
    fit = Fit(tuple(told["size"]), told["how"], told["overlap"])  # type: ignore[arg-type]  # of two numbers
    alike = bool((test.images.shapes[:, 1:] == fit.size).all())
    if fit.how != "same" or alike:
        return fit
    if competition.data.fit is None:
        at = int(np.flatnonzero((test.images.shapes[:, 1:] != fit.size).any(axis=1))[0])
        _, height, width = test.images.shapes[at].tolist()
        raise UserError(
            f"test image '{test.images.ids[at]}' is {height} x {width}, the nets were trained on {fit.size[0]} x {fit.size[1]}; "
            "set data.fit in the competition's configuration and make the kernel again"
        )
    return plan_fit((test,), competition.data.fit)


def _loaded() -> dict[str, str]:
    """Distributions of which anything is imported, with their versions."""
    top = {name.partition(".")[0] for name in list(sys.modules)}
    named = {each for package, held in metadata.packages_distributions().items() if package in top for each in held}
    return {name: metadata.version(name) for name in sorted(named)}
