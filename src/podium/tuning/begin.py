"""Before the first trial: what is asked for, the search space, the data, the folds, and which study it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from podium.config import Competition, Recipe
from podium.config_file import find, override_recipe
from podium.config_tuning import Tuning, load_tuning
from podium.cores import cores
from podium.errors import UserError
from podium.pipeline import make_plan
from podium.prepare import Options, Prepared, Say, prepare, read_competition, read_recipes
from podium.tuning import space
from podium.tuning.storage import advice, masked
from podium.tuning.study import Brief, study_key
from podium.workspace import Workspace

TRIALS = 20
"""Where neither trials nor time are given."""
CANDIDATES = 3
"""Best trials that are confirmed beside the defaults."""
SAMPLE_EPOCHS = 3
"""Length of every training on the built-in sample where none is given: it is there to be tried."""


@dataclass(frozen=True)
class Request:
    """What is asked for beside the options that all verbs share. budget: seconds for all of it."""

    model: str | None = None
    trials: int | None = None
    budget: float | None = None
    storage: str | None = None
    confirm: bool = True


def begin(
    name: str, options: Options, request: Request, started: float, say: Say
) -> tuple[Brief, Recipe, Prepared, Options]:
    """Read and check everything: the brief of the study, the recipe with its own length, the data, and the options that a
    confirmation goes by."""
    workspace, competition = read_competition(name, options)
    path, tuning = _read_space(workspace, competition, options, request)
    model = path.stem.removeprefix(f"{name}-")
    asked = replace(options, models=(model,), folds=tuning.folds, workers=options.workers or 1)
    space.check(read_recipes(workspace, competition, asked)[0], tuning, competition, path)
    if request.storage and (said := advice(request.storage)):
        say(f"note: {said}")
    prepared = prepare(name, asked, say)
    base, given = prepared.recipes[0], any(text.startswith("train.epochs") for text in options.overrides)
    if prepared.origin.sample and not given:
        say(f"on the sample all trainings take {SAMPLE_EPOCHS} epochs unless --set train.epochs=N says otherwise")
        base, given = override_recipe(base, [f"train.epochs={SAMPLE_EPOCHS}"], f"recipe '{model}'"), True
    if not given and tuning.confirm_epochs is not None:
        base = override_recipe(base, [f"train.epochs={tuning.confirm_epochs}"], f"{path}: key 'confirm_epochs'")
    epochs = min(tuning.epochs or base.train.epochs, base.train.epochs)
    short = override_recipe(base, [f"train.epochs={epochs}"], f"{path}: key 'epochs': recipe '{model}'")
    space.defaults(short, tuning, path)
    site = make_plan(replace(prepared, recipes=(short,)), asked, say, measure=False).site
    site = replace(site, threads=site.threads or max(1, cores() // (asked.workers or 1)))
    folds, seed = prepared.folds, options.seed
    judged = site.corrupted if prepared.competition.validation.choose_by == "corrupted" else None
    key = study_key(prepared.competition, short, tuning, seed, site.data_id, folds.folds_id, judged)
    studies, prefix = workspace.out / "tuning" / "studies", f"{prepared.name}-{model}-"
    brief = Brief(
        prepared.competition,
        short,
        tuning,
        site,
        studies / f"{prefix}{key.short}",
        f"{prefix}{key.short}",
        request.storage,
        seed,
        folds.folds_id,
        request.trials if request.trials or request.budget else TRIALS,
        request.budget,
        started,
        base.train.epochs * folds.total * (1 + CANDIDATES) / (asked.workers or 1) if request.confirm else 0.0,
    )
    _say_which(brief, studies, prefix, say)
    return brief, base, prepared, asked


def _read_space(
    workspace: Workspace, competition: Competition, options: Options, request: Request
) -> tuple[Path, Tuning]:
    """The search space, and the folds that are asked for in it."""
    name, model = competition.name, request.model or competition.models[0]
    find(workspace.recipes, model, "model")
    path = workspace.root / "tuning" / f"{name}-{model}.yaml"
    if not path.is_file():
        others = sorted(p.stem.removeprefix(f"{name}-") for p in path.parent.glob(f"{name}-*.yaml"))
        there = f"there are spaces for {', '.join(others)}" if others else "docs/tuning.md says how to write one"
        raise UserError(f"{path}: there is no search space for '{model}' of {name}; {there}")
    tuning = load_tuning(path)
    if len(options.folds) > 2:
        raise UserError(f"--folds: a trial is trained on one or two folds, {len(options.folds)} are named; name fewer")
    total = competition.folds.count * competition.folds.repeats
    bad = [fold for fold in tuning.folds if fold >= total and not options.folds]
    if bad:
        raise UserError(f"{path}: key 'folds': there is no fold {bad[0]}; {name} has folds 0 to {total - 1}")
    return path, tuning.model_copy(update={"folds": options.folds}) if options.folds else tuning


def _say_which(brief: Brief, studies: Path, prefix: str, say: Say) -> None:
    if brief.storage is not None:
        say(f"study {brief.name} in {masked(brief.storage)}")
        return
    if brief.folder.is_dir():
        say(f"study {brief.name} goes on ({brief.folder})")
        return
    others = sorted(path.name for path in studies.glob(f"{prefix}*") if path.is_dir())
    more = f"; {others[-1]} was of another space, recipe, split or seed and is left as it is" if others else ""
    say(f"study {brief.name} begins ({brief.folder}){more}")
