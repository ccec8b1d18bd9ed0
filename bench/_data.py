"""What benchmarks run on: a competition's own data where it is found, else its built-in sample; nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from podium.config import Competition, Recipe
from podium.config_file import find, load_competition, load_recipe
from podium.data.fit import Fit, plan_fit
from podium.data.locate import Origin, locate
from podium.data.part import Dataset
from podium.data.reading import open_dataset
from podium.workspace import find_workspace


class _NoDownload(Exception):
    """Raised where ``locate`` would ask Kaggle."""


@dataclass(frozen=True, eq=False)
class Given:
    """A competition, its data, and how its images come to the net's size."""

    competition: Competition
    origin: Origin
    dataset: Dataset
    fit: Fit


def competition(name: str) -> Competition:
    """The project's competition of that name; an unknown one is a UserError."""
    return load_competition(find(find_workspace().competitions, name, "competition"))


def recipe(name: str, *overrides: str) -> Recipe:
    """The project's recipe of that name, with ``key.key=value`` texts over it."""
    return load_recipe(find(find_workspace().recipes, name, "model"), overrides)


def place(wanted: Competition, data: Path | None) -> Origin:
    """Where its data is: below ``data``, else in the usual places, else the sample; UserError where there is none of them."""

    def refuse(slug: str, folder: Path) -> None:
        raise _NoDownload

    root = find_workspace().root
    try:
        return locate(wanted, root, data, download=refuse, notify=lambda text: None)
    except _NoDownload:
        return locate(wanted, root, sample=True)


def given(name: str, data: Path | None, cache: Path) -> Given:
    """A competition's data, decoded to ``cache``; which it is, is printed."""
    wanted = competition(name)
    origin = place(wanted, data)
    print(origin.sentence())
    dataset = open_dataset(wanted, origin.folder, cache, lambda text: None).dataset
    return Given(wanted, origin, dataset, plan_fit(dataset.parts, wanted.data.fit))
