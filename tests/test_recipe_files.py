"""configs/models says everything once: no recipe repeats what it inherits, or what a relative says."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from podium.config_file import load_recipe, read_yaml, write_yaml
from podium.errors import UserError

RECIPES = Path(__file__).resolve().parents[1] / "configs" / "models"
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))


def values(raw: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value with its keys; a list is one value."""
    for key, value in raw.items():
        if isinstance(value, dict):
            yield from values(value, (*path, key))
        elif (*path, key) != ("like",):
            yield (*path, key), value


def without(raw: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    key, *rest = path
    left = {name: value for name, value in raw.items() if name != key or rest}
    return left | {key: without(raw[key], tuple(rest))} if rest else left


@pytest.mark.parametrize("name", NAMES)
def test_every_value_that_is_written_says_something(name: str, tmp_path: Path) -> None:
    """Without it the recipe would be another, or none: it repeats neither a default nor what it inherits."""
    shutil.copytree(RECIPES, tmp_path / "models")
    path = tmp_path / "models" / f"{name}.yaml"
    whole, raw = load_recipe(path), read_yaml(path)
    for keys, value in values(raw):
        write_yaml(path, without(raw, keys))
        with suppress(UserError):  # it cannot do without
            assert load_recipe(path) != whole, f"{'.'.join(keys)}: {value} is so anyway"


def test_relatives_do_not_repeat_one_another() -> None:
    raws = {name: read_yaml(RECIPES / f"{name}.yaml") for name in NAMES}

    def root(name: str) -> str:
        return root(raws[name]["like"]) if "like" in raws[name] else name

    said = Counter((root(name), keys, str(value)) for name, raw in raws.items() for keys, value in values(raw))
    assert [key for key, count in said.items() if count > 1] == []
