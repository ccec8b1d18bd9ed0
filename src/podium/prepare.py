"""Before the first training: what is asked for, the settings, the data, and the fold file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from podium.config import Competition, Recipe, check_rules
from podium.config_file import find, load_competition, load_recipe, split_overrides
from podium.data.locate import Origin, locate
from podium.data.npz import open_dataset
from podium.data.outliers import duplicate_groups, find_outliers
from podium.data.part import Dataset
from podium.errors import UserError
from podium.fold_file import file_name
from podium.fold_file import load as load_folds
from podium.fold_file import save as save_folds
from podium.folds import Folds
from podium.folds import make as make_folds
from podium.workspace import Workspace, find_workspace

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What a command line may ask for; all but ``out`` is kept for later verbs."""

    models: tuple[str, ...] = ()
    folds: tuple[int, ...] = ()
    budget: float | None = None
    seed: int = 0
    data: Path | None = None
    sample: bool = False
    overrides: tuple[str, ...] = ()
    out: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    workers: int = 1

    @property
    def asks(self) -> bool:
        """Whether anything but the folder and the machine's settings is asked for."""
        machine = ("out", "device", "precision", "threads", "workers")
        default = Options()
        return any(getattr(self, key) != getattr(default, key) for key in asdict(self) if key not in machine)

    def to_json(self) -> dict[str, Any]:
        """All but the folder of the results. The machine's settings too: with a budget they decide what has room."""
        asked = {key: value for key, value in asdict(self).items() if key != "out"}
        return asked | {"data": str(self.data.resolve()) if self.data else None}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Options:
        """The inverse of ``to_json``."""
        tuples = {key: tuple(raw[key]) for key in ("models", "folds", "overrides")}
        return cls(**(raw | tuples | {"data": Path(raw["data"]) if raw["data"] else None}))


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything before the first training: settings, data and folds."""

    workspace: Workspace
    competition: Competition
    recipes: tuple[Recipe, ...]
    origin: Origin
    dataset: Dataset
    folds: Folds
    folds_path: Path

    @property
    def name(self) -> str:
        """Under which results lie: the competition's name, or ``<name>-sample``."""
        return self.origin.name


def read_settings(name: str, options: Options) -> tuple[Workspace, Competition, tuple[Recipe, ...]]:
    """The workspace, the competition and its recipes, checked against each other."""
    workspace = find_workspace(options.out)
    ours, theirs = split_overrides(options.overrides)
    competition = load_competition(find(workspace.competitions, name, "competition"), ours)
    if competition.name != name:
        raise UserError(f"configs/competitions/{name}.yaml: key 'name' says '{competition.name}'; call both alike")
    names = options.models or competition.models
    if len(set(names)) != len(names):
        raise UserError(f"--models {','.join(names)}: every model is named once")
    recipes = tuple(load_recipe(find(workspace.recipes, model, "model"), theirs) for model in names)
    for recipe in recipes:
        check_rules(competition, recipe)
    bad = [fold for fold in options.folds if not 0 <= fold < competition.folds.count]
    if bad:
        raise UserError(f"--folds: there is no fold {bad[0]}; {name} has folds 0 to {competition.folds.count - 1}")
    return workspace, competition, recipes


def prepare(name: str, options: Options, say: Say) -> Prepared:
    """Read settings and data, and make or load the fold file."""
    workspace, competition, recipes = read_settings(name, options)
    origin = locate(competition, workspace.root, options.data, options.sample, notify=say)
    say(origin.sentence())
    dataset = open_dataset(competition, origin.folder, workspace.cache(origin.name), say)
    folds, path = _folds(workspace, competition, origin, dataset, say)
    return Prepared(workspace, competition, recipes, origin, dataset, folds, path)


def _folds(
    workspace: Workspace, competition: Competition, origin: Origin, dataset: Dataset, say: Say
) -> tuple[Folds, Path]:
    train = dataset.train
    assert train.targets is not None
    rows_id = dataset.data_id if competition.data.drop == "auto" else f"{dataset.data_id}-undropped"
    path = workspace.folds / file_name(origin.name, rows_id, competition.folds)
    if not path.exists():
        unscored = competition.unscored_index
        dropped = find_outliers(train, competition.classes, unscored) if competition.data.drop == "auto" else {}
        groups = duplicate_groups(train)
        if competition.folds.groups == "none":
            groups = groups * 0 + range(len(groups))
        folds = make_folds(
            train.images.ids,
            train.targets,
            groups,
            dropped,
            competition.classes,
            unscored,
            competition.folds,
            dataset.data_id,
        )
        save_folds(folds, path)
        say(f"folds: made {path}")
    folds = load_folds(path, train.images.ids, dataset.data_id)
    if folds.count != competition.folds.count:
        raise UserError(
            f"{path}: has {folds.count} folds, {competition.name} asks for {competition.folds.count}; set folds.count or delete the file"
        )
    say(
        f"folds: {int(folds.kept.sum())} images in {folds.count} folds, {int((~folds.kept).sum())} dropped ({path.name})"
    )
    return folds, path
