"""A recipe that won, written as a file of configs/models: ``like`` its parent plus the differences, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from podium.config import Recipe
from podium.config_file import load_recipe, override_recipe
from podium.config_net import with_checksum
from podium.store import write_atomically


def write_recipe(folder: Path, parents: Path, tuned: Recipe, parent: str, head: Sequence[str]) -> Path:
    """Write ``tuned`` as ``<parent>_tuned.yaml`` into ``folder``, or _tuned2, _tuned3, ...: nothing is written over.

    parents: the folder that ``parent`` lies in. head: lines of comment. Length and seed stay the parent's, since they were not
    searched. A file that says the same already is left as it is, and its path returned.
    """
    own = _read(parents / f"{parent}.yaml")
    unsought = [f"train.epochs={own.train.epochs}", f"seed={own.seed}"]
    kept = override_recipe(tuned, unsought, f"recipe '{parent}'")
    changes = differences(own.model_dump(mode="json"), kept.model_dump(mode="json"))
    changes.pop("name", None)
    number = 1
    while (path := folder / f"{parent}_tuned{number if number > 1 else ''}.yaml").exists():
        if folder == parents and _same(_read(path), kept):
            return path
        number += 1
    comments = "".join(f"# {line}\n" for line in head)
    body = yaml.safe_dump({"like": parent, **changes}, sort_keys=False, allow_unicode=True, default_flow_style=None)
    write_atomically(path, comments + body)
    if folder == parents and not _same(_read(path), kept):
        raise AssertionError(f"{path}: reads as another recipe than the one that won")
    return path


def differences(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    """What ``child`` says otherwise than ``parent``; a section that goes by another name is given whole."""
    found = {}
    for key, value in child.items():
        theirs = parent.get(key)
        if value == theirs and key in parent:
            continue
        inside = isinstance(value, dict) and isinstance(theirs, dict) and value.get("name") == theirs.get("name")
        found[key] = differences(theirs, value) if inside and isinstance(theirs, dict) else value
    return found


def _read(path: Path) -> Recipe:
    """A recipe of configs/models as a run would have it."""
    recipe = load_recipe(path)
    return recipe.model_copy(update={"net": with_checksum(recipe.net, path.parents[2])})


def _same(a: Recipe, b: Recipe) -> bool:
    return a.model_copy(update={"name": ""}) == b.model_copy(update={"name": ""})
