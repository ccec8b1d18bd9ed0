"""Settings from YAML files, with errors that name file, key and way out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from podium.config import Competition, Recipe, Settings
from podium.errors import UserError, did_you_mean
from podium.store import write_atomically


def load_competition(path: Path, overrides: Sequence[str] = ()) -> Competition:
    """Read a competition's YAML; ``overrides`` are ``key.key=value`` texts."""
    return validate(Competition, _override(read_yaml(path), overrides), path)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe's YAML; ``like: other`` takes another recipe of the same folder as its defaults, which may do so too.

    A section that has a name, such as ``net``, is inherited only where that stays the same.
    """
    raw = {"name": path.stem} | _with_defaults(path, ())
    if raw["name"] != path.stem:
        raise UserError(f"{path}: key 'name': a recipe is called as its file, '{path.stem}'; remove the key")
    return validate(Recipe, _override(raw, overrides), path)


def override_recipe(recipe: Recipe, overrides: Sequence[str], where: Path | str) -> Recipe:
    """``recipe`` with other values, texts as ``--set`` takes them; where: what an error begins with."""
    # what validation filled in may follow from the rest, and is filled in anew; but lists, whose entries may be meant
    raw = _with_lists(recipe.model_dump(mode="json", exclude_unset=True), recipe.model_dump(mode="json"))
    return validate(Recipe, _override(raw, overrides), where)


def _with_lists(given: dict[str, Any], full: dict[str, Any]) -> dict[str, Any]:
    """``given`` with the lists of ``full`` that it lacks."""
    lists = {key: value for key, value in full.items() if isinstance(value, list)}
    inner = {key: _with_lists(given.get(key) or {}, value) for key, value in full.items() if isinstance(value, dict)}
    return lists | given | {key: value for key, value in inner.items() if value}


def _with_defaults(path: Path, heirs: tuple[Path, ...]) -> dict[str, Any]:
    """A recipe's YAML over that which it is like; heirs: the recipes that led here."""
    if path in heirs:
        names = " → ".join(heir.stem for heir in (*heirs, path))
        raise UserError(f"{heirs[0]}: key 'like': the recipes inherit in a circle ({names}); take one 'like' out")
    raw = read_yaml(path)
    like = raw.pop("like", None)
    if like is None:
        return raw
    parent_path = path.parent / f"{like}.yaml"
    if not parent_path.is_file():
        raise UserError(
            f"{path}: key 'like': there is no recipe '{like}'; {did_you_mean(str(like), _names(path.parent))}"
        )
    parent = _with_defaults(parent_path, (*heirs, path))
    parent.pop("name", None)  # it is called as its file
    return _merge(parent, raw)


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Sort ``--set`` texts into those for the competition and those for the recipes, by their first key."""
    ours: dict[str, list[str]] = {"competition": [], "recipe": []}
    for text in overrides:
        key = text.partition("=")[0].strip().split(".")[0]
        if key in Competition.model_fields and key != "name":
            ours["competition"].append(text)
        elif key in Recipe.model_fields and key != "name":
            ours["recipe"].append(text)
        else:
            allowed = [k for k in (*Recipe.model_fields, *Competition.model_fields) if k != "name"]
            raise UserError(f"--set {text}: unknown key '{key}'; {did_you_mean(key, allowed)}")
    return ours["competition"], ours["recipe"]


def find(folder: Path, name: str, what: str) -> Path:
    """The file ``name``.yaml in ``folder``, or an error with the nearest spelling."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"no {what} '{name}' in {folder}; {did_you_mean(name, _names(folder))}")
    return path


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping; a key given twice is an error."""
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: holds {type(raw).__name__} where a mapping of keys to values is expected")
    return raw


def write_yaml(path: Path, value: dict[str, Any]) -> None:
    """Write settings as they were resolved: over defaults, ``like`` and ``--set``."""
    write_atomically(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


class _StrictLoader(yaml.SafeLoader):
    """yaml.safe_load, except that a key given twice is refused instead of the last one winning, and so is one that is not text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # <<: *anchor
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is not text; quote it", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-3 as text; people mean the number.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``; what goes by another name, a net or a schedule, shares none of its options.

    A list's entries go by their places: ``mix.0.p``.
    """
    merged = dict(base)
    for key, value in over.items():
        theirs = merged.get(key)
        if isinstance(theirs, list) and isinstance(value, dict) and value and all(map(str.isdecimal, value)):
            merged[key] = _merge_entries(key, theirs, value)
        elif (
            isinstance(value, dict)
            and isinstance(theirs, dict)
            and value.get("name", theirs.get("name")) == theirs.get("name")
        ):
            merged[key] = _merge(theirs, value)
        else:
            merged[key] = value
    return merged


def _merge_entries(key: str, entries: list[Any], over: dict[str, Any]) -> list[Any]:
    merged = list(entries)
    for place, value in over.items():
        if int(place) >= len(merged):
            raise UserError(
                f"key '{key}.{place}': the list has {len(merged)} entries, counted from 0; correct the number"
            )
        theirs = merged[int(place)]
        if isinstance(value, dict) and isinstance(theirs, str):  # a name alone is an entry without options
            theirs = {"name": theirs}
        both = isinstance(value, dict) and isinstance(theirs, dict)
        merged[int(place)] = _merge({"": theirs}, {"": value})[""] if both else value
    return merged


def _override(raw: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    for text in overrides:
        dotted, equals, value = text.partition("=")
        keys = [key.strip() for key in dotted.split(".")]
        if not equals or not all(keys):
            raise UserError(f"--set {text}: expected key.key=value, for example train.epochs=5")
        try:
            parsed = yaml.load(value, Loader=_StrictLoader)
        except (yaml.YAMLError, ValueError):
            raise UserError(f"--set {text}: '{value}' is not a YAML value; quote it") from None
        for key in reversed(keys):
            parsed = {key: parsed}
        raw = _merge(raw, parsed)
    return raw


Model = TypeVar("Model", bound=Settings)


def validate(model: type[Model], raw: dict[str, Any], where: Path | str) -> Model:
    """Settings from what a file says, or the first problem as one sentence that begins with ``where``."""
    try:
        # strict, so that "5" or true is no number; by way of JSON, whose lists may become tuples all the same
        return model.model_validate_json(json.dumps(raw, default=str), strict=True)
    except ValidationError as error:
        raise UserError(f"{where}: {_explain(model, error)}") from None


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    """The first problem of a validation as one sentence: key, what is wrong, what is allowed."""
    problem, *others = error.errors()
    where = _keys(model, problem["loc"])
    for other in others:  # a section that may be a number too: what is wrong inside it says more
        deeper = _keys(model, other["loc"])
        if deeper[: len(where)] == where and len(deeper) > len(where):
            problem, where = other, deeper
            break
    key = ".".join(str(part) for part in where)
    if problem["type"] == "extra_forbidden":
        allowed = _fields(model, problem["loc"][:-1])
        return f"unknown key '{key}'; {did_you_mean(str(where[-1]), allowed)}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    if problem["type"] == "value_error":
        name, _, text = problem["msg"].removeprefix("Value error, ").partition(":")
        return f"key '{key}.{name}':{text}" if key else f"key '{name}':{text}"
    if problem["type"] == "literal_error":
        allowed = [word.strip(" '") for word in problem["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return f"key '{key}': '{problem['input']}' is not allowed; {did_you_mean(str(problem['input']), allowed)}"
    if problem["type"] in ("union_tag_not_found", "union_tag_invalid"):
        tag = str(problem["ctx"]["discriminator"]).strip("'")
        if problem["type"] == "union_tag_not_found":
            return f"key '{key}.{tag}' is missing; allowed: {', '.join(_tags(model, problem['loc']))}"
        allowed = [word.strip(" '") for word in problem["ctx"]["expected_tags"].split(",")]
        found = str(problem["ctx"]["tag"])
        return f"key '{key}.{tag}': '{found}' is not allowed; {did_you_mean(found, allowed)}"
    said = problem["msg"][0].lower() + problem["msg"][1:]
    return f"key '{key}': {said}, found {problem['input']!r}"


def _keys(model: type[BaseModel], where: Sequence[str | int]) -> list[str | int]:
    """``where`` without pydantic's own words: which branch of a union it was in, and which function it had called."""
    keys: list[str | int] = []
    branches: tuple[Any, ...] = (model,)
    for part in where:
        fields = [branch.model_fields[str(part)] for branch in branches if str(part) in branch.model_fields]
        if fields:
            keys.append(part)
            branches = tuple(item for field in fields for item in _models(field.annotation))
        elif isinstance(part, int) or not _is_branch(str(part), branches):
            keys.append(part)
            if isinstance(part, str):
                branches = ()
        else:
            narrowed = tuple(branch for branch in branches if str(part) in _names_of(branch))
            branches = narrowed or branches
    return keys


def _is_branch(part: str, branches: tuple[Any, ...]) -> bool:
    """Whether a part of an error's place is no key of the file: a union's branch or a validating function."""
    words = (
        "int",
        "str",
        "tuple",
        "dict",
        "constrained",
        "function-",
        "is-instance",
        "nullable",
        "list",
        "lax-or-strict",
    )
    return part.startswith(words) or any(part in _names_of(branch) for branch in branches)


def _names_of(model: type[BaseModel]) -> set[str]:
    """How a union calls one of its models: by its class or by the values of its Literal fields."""
    names = {model.__name__}
    for field in model.model_fields.values():
        if get_origin(field.annotation) is Literal:
            names |= {str(value) for value in get_args(field.annotation)}
    return names


def _tags(model: type[BaseModel], where: Sequence[str | int]) -> list[str]:
    """What a section of several kinds may be called: the Literal values of its branches' discriminating key."""
    branches = _models(model.model_fields[str(where[0])].annotation) if where else []
    tags = [get_args(field.annotation) for b in branches for field in b.model_fields.values()]
    return [str(tag[0]) for tag in tags if len(tag) == 1 and isinstance(tag[0], str)]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """All settings classes within a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _fields(model: type[BaseModel], where: Sequence[str | int]) -> list[str]:
    """The keys that are allowed in the section ``where`` of a file."""
    branches: list[type[BaseModel]] = [model]
    for part in where:
        if isinstance(part, int):
            continue
        narrowed = [branch for branch in branches if part in _names_of(branch) and part not in branch.model_fields]
        if narrowed:
            branches = narrowed
            continue
        fields = [branch.model_fields[part] for branch in branches if part in branch.model_fields]
        branches = [item for field in fields for item in _models(field.annotation)]
    found = (field.alias or name for branch in branches for name, field in branch.model_fields.items())
    return list(dict.fromkeys(found))
