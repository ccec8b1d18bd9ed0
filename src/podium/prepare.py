"""Before the first training: what is asked for, the settings, the data, and the fold file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from podium.audit.drops import read_drops
from podium.audit.screen import join, screen, screen_key
from podium.config import Competition, Recipe, check_rules
from podium.config_file import find, load_competition, load_recipe, split_overrides
from podium.config_net import with_checksum
from podium.data.fit import Fit, plan_fit
from podium.data.kinds import kinds
from podium.data.locate import Origin, locate
from podium.data.part import Dataset, Part
from podium.data.reading import Opened, open_dataset
from podium.errors import UserError
from podium.fold_file import file_name
from podium.fold_file import load as load_folds
from podium.fold_file import save as save_folds
from podium.folds import Folds
from podium.folds import make as make_folds
from podium.former import SMALL, find_former, take_file
from podium.store import sha256_of
from podium.workspace import Workspace, find_workspace

SEED = "_seed"
"""What stands between a recipe's name and the number of a further seed of ``--seeds``."""
MOST = 20
"""Rows left out by ``--skip-bad`` that are listed one by one."""
MACHINE = ("device", "precision", "source", "threads", "workers", "compile")
"""Options that say how the machine is used, and nothing about what is asked for."""
PLACES = ("out", "former")
"""Options that say where results lie."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What a command line may ask for; all but the folders ``out`` and ``former`` is kept for later verbs.

    session: the budget is what is left of a notebook's session; ``budget`` then says what that was when the run was planned.
    former: a folder of a former run, to go on from.
    """

    models: tuple[str, ...] = ()
    folds: tuple[int, ...] = ()
    budget: float | None = None
    seed: int = 0
    data: Path | None = None
    sample: bool = False
    overrides: tuple[str, ...] = ()
    skip_bad: bool = False
    out: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    source: str = "auto"
    threads: int | None = None
    workers: int | None = None
    compile: str = "auto"
    seeds: int = 1
    session: bool = False
    former: Path | None = None

    @property
    def asks(self) -> bool:
        """Whether anything but the folders and the machine's settings is asked for."""
        default = Options()
        return any(
            getattr(self, key) != getattr(default, key) for key in asdict(self) if key not in (*PLACES, *MACHINE)
        )

    def asks_as(self, other: Options) -> bool:
        """Whether both ask for the same results, wherever the data and the results lie and whatever the machine."""
        skipped = (*PLACES, *MACHINE, "data", *(["budget"] if self.session and self.budget is None else []))
        return all(getattr(self, key) == getattr(other, key) for key in asdict(self) if key not in skipped)

    def to_json(self) -> dict[str, Any]:
        """All but the folders of results. The machine's settings too: with a budget they decide what has room."""
        asked = {key: value for key, value in asdict(self).items() if key not in PLACES}
        return asked | {"data": str(self.data.resolve()) if self.data else None}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Options:
        """The inverse of ``to_json``."""
        tuples = {key: tuple(raw[key]) for key in ("models", "folds", "overrides")}
        return cls(**(raw | tuples | {"data": Path(raw["data"]) if raw["data"] else None}))


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything before the first training: settings, data and folds.

    source: the data as the files hold them. dataset: after the competition's preprocessing. former: the folder of a former
    run to go on from, None where there is none.
    """

    workspace: Workspace
    competition: Competition
    recipes: tuple[Recipe, ...]
    origin: Origin
    source: Dataset
    dataset: Dataset
    folds: Folds
    folds_path: Path
    former: Path | None = None

    @property
    def name(self) -> str:
        """Under which results lie: the competition's name, or ``<name>-sample``."""
        return self.origin.name


def read_competition(name: str, options: Options) -> tuple[Workspace, Competition]:
    """The workspace and the competition, ``--set`` applied."""
    workspace = find_workspace(options.out)
    ours, _ = split_overrides(options.overrides)
    competition = load_competition(find(workspace.competitions, name, "competition"), ours)
    if competition.name != name:
        raise UserError(f"configs/competitions/{name}.yaml: key 'name' says '{competition.name}'; call both alike")
    return workspace, competition


def read_recipes(workspace: Workspace, competition: Competition, options: Options) -> tuple[Recipe, ...]:
    """The recipes that are asked for, else the competition's, checked against its rules."""
    _, theirs = split_overrides(options.overrides)
    names = options.models or competition.models
    if len(set(names)) != len(names):
        raise UserError(f"--models {','.join(names)}: every model is named once")
    recipes = tuple(load_recipe(find(workspace.recipes, model, "model"), theirs) for model in names)
    for recipe in recipes:
        check_rules(competition, recipe)
    nets = [with_checksum(recipe.net, workspace.root) for recipe in recipes]
    checked = [recipe.model_copy(update={"net": net}) for recipe, net in zip(recipes, nets, strict=True)]
    return tuple(again for recipe in checked for again in _repeated(recipe, options.seeds))


def _repeated(recipe: Recipe, seeds: int) -> list[Recipe]:
    """The recipe once per seed; the first keeps its name, the others are called after their number."""
    more = [{"name": f"{recipe.name}{SEED}{number}", "seed": recipe.seed + number} for number in range(1, seeds)]
    return [recipe, *(recipe.model_copy(update=change) for change in more)]


def open_data(workspace: Workspace, competition: Competition, options: Options, say: Say) -> tuple[Origin, Opened]:
    """Find and read the competition's data; what ``--skip-bad`` left out is listed."""
    origin = locate(competition, workspace.root, options.data, options.sample, notify=say, keeps=workspace.keeps)
    say(origin.sentence())
    opened = open_dataset(competition, origin.folder, workspace.cache(origin.name), say, options.skip_bad)
    skipped = opened.source.skipped
    for sentence in skipped[:MOST]:
        say(f"left out: {sentence}")
    if len(skipped) > MOST:
        say(f"left out: {len(skipped) - MOST} more")
    return origin, opened


def prepare(name: str, options: Options, say: Say) -> Prepared:
    """Read settings and data, and make or load the fold file."""
    workspace, competition = read_competition(name, options)
    recipes = read_recipes(workspace, competition, options)
    origin, opened = open_data(workspace, competition, options, say)
    fit = plan_fit(opened.dataset.parts, competition.data.fit)
    _check_images(recipes, competition, opened.dataset.train, fit)
    corruptions = competition.validation.corruptions
    if corruptions is not None and (problem := corruptions.misfit(opened.dataset.train.channels)):
        raise UserError(f"{name}: {problem}")
    submission, test = competition.submission, opened.dataset.test
    if submission is not None and submission.format == "wide_csv" and test is not None and not test.images.uniform:
        raise UserError(
            f"{name}: submission.format wide_csv needs test images of one size, these have several; use format rle_csv or "
            "png_zip, or leave the submission section out of the configuration"
        )
    former = find_former(options.former, workspace.out, origin.name)
    for small in SMALL:
        take_file(former, workspace.out / small, workspace.out)
    folds, path = _folds(workspace, competition, origin, opened.source, former, say)
    bad = [fold for fold in options.folds if not 0 <= fold < folds.total]
    if bad:
        raise UserError(f"--folds: there is no fold {bad[0]}; {name} has folds 0 to {folds.total - 1}")
    return Prepared(workspace, competition, recipes, origin, opened.source, opened.dataset, folds, path, former)


def _check_images(recipes: tuple[Recipe, ...], competition: Competition, part: Part, fit: Fit) -> None:
    """Refuse what cannot be done to images of this size before anything is trained."""
    shape = (part.channels, *fit.size)
    for recipe in recipes:
        problem = recipe.augment.misfit(shape) or recipe.predict.misfit(fit.size)
        if problem is not None:
            raise UserError(f"recipe '{recipe.name}': {problem}")
        if recipe.augment.per_image:
            from podium.augment_per_image import check_per_image

            check_per_image(recipe.augment.per_image, shape, part.images.values.dtype, competition.masks)


def _folds(
    workspace: Workspace, competition: Competition, origin: Origin, source: Dataset, former: Path | None, say: Say
) -> tuple[Folds, Path]:
    train, settings = source.train, competition.folds
    given = _given_file(workspace, origin, settings.file) if settings.file else None
    path = given or workspace.folds / _name(workspace, competition, origin, source)
    if given is None and take_file(former, path, workspace.out):
        say(f"folds: took over {path}")
    if not path.exists():
        dropped, groups = _screened(workspace, competition, origin, train, say)
        assert train.targets is not None
        targets, classes = kinds(train.targets, competition)
        folds = make_folds(
            train.images.ids,
            targets,
            groups,
            dropped,
            classes,
            competition.unscored_index,
            settings,
            source.source_id,
            competition.strata,
        )
        save_folds(folds, path)
        say(f"folds: made {path}")
    folds = load_folds(path, train.images.ids, source.source_id, by_hand=given is not None)
    if given is not None:
        _say_what_it_overrules(workspace, competition, origin, train, folds, say)
    if given is None and (folds.count, folds.repeats) != (settings.count, settings.repeats):
        raise UserError(
            f"{path}: has {folds.count} folds in {folds.repeats} repeats, {competition.name} asks for {settings.count} in "
            f"{settings.repeats}; delete the file, it is made anew, or name it as folds.file"
        )
    times = f" {folds.repeats} times" if folds.repeats > 1 else ""
    say(
        f"folds: {int(folds.kept.sum())} images in {folds.count} folds{times}, {int((~folds.kept).sum())} dropped ({path.name})"
    )
    return folds, path


def _say_what_it_overrules(
    workspace: Workspace, competition: Competition, origin: Origin, train: Part, folds: Folds, say: Say
) -> None:
    """A fold file made by hand is taken as it is; where it goes against the configuration and the audit, that is said."""
    settings = competition.folds
    if (folds.count, folds.repeats) != (settings.count, settings.repeats):
        say(
            f"note: folds.file has {folds.count} folds in {folds.repeats} repeats, folds.count and folds.repeats say "
            f"{settings.count} and {settings.repeats}; the file is taken"
        )
    dropped, groups = _screened(workspace, competition, origin, train, say)
    used = [name for name in folds.ids[folds.kept].tolist() if name in dropped]
    if used:
        say(f"note: folds.file uses {len(used)} images that data.drop would leave out, the first is '{used[0]}'")
    apart = 0
    for column in folds.table.T:
        pairs = np.unique(np.stack([groups[folds.kept], column[folds.kept]]), axis=1)
        apart += len(pairs[0]) - len(np.unique(pairs[0]))
    if apart:
        say(
            "note: folds.file has copies, or images of one group, on two sides of a fold; scores will be too good. "
            "Leave folds.file out, or give such images one fold (groups.csv of the audit names copies)"
        )


def _name(workspace: Workspace, competition: Competition, origin: Origin, source: Dataset) -> str:
    """The fold file's name: a hash of all that decides what stands in it."""
    drop = competition.data.drop
    dropping = drop if drop in ("auto", "none") else sha256_of(_given_file(workspace, origin, drop))
    screened = screen_key(source.train, competition).hash
    inputs = (source.source_id, dropping, screened, competition.strata, *sorted(competition.grouping))
    return file_name(origin.name, inputs, competition.folds)


def _screened(
    workspace: Workspace, competition: Competition, origin: Origin, train: Part, say: Say
) -> tuple[dict[str, str], np.ndarray]:
    """The rows that are left out, with reasons, and who belongs together, int64 (N,)."""
    grouping, drop = competition.grouping, competition.data.drop
    dropped: dict[str, str] = {}
    groups = [np.arange(len(train))]
    if drop == "auto" or "duplicates" in grouping:
        if len(train) > 1000:
            say("searching the training images for copies and near copies")
        found = screen(train, competition, workspace.audit(origin.name))
        dropped = found.reasons if drop == "auto" else {}
        groups += [found.groups] if "duplicates" in grouping else []
    if drop not in ("auto", "none"):
        dropped = read_drops(_given_file(workspace, origin, drop), train.images.ids)
    if "column" in grouping:
        assert train.groups is not None
        groups.append(np.unique(train.groups, return_inverse=True)[1])
    return dropped, join(groups)


def _given_file(workspace: Workspace, origin: Origin, name: str) -> Path:
    """A file that the configuration names: below the project's folder, else below the data's."""
    places = [workspace.root / name, origin.folder / name]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise UserError(f"{name}: there is no such file in {workspace.root} or {origin.folder}; correct its path")
    return found
