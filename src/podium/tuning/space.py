"""Values from a search space: asked of Optuna, drawn at random, checked, and put into a recipe."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from podium.config import Competition, Recipe, check_rules
from podium.config_file import override_recipe
from podium.config_tuning import Choices, Range, Tuning, meets
from podium.errors import UserError
from podium.randomness import stream
from podium.store import canonical

Values = dict[str, Any]
"""What a trial changes of a recipe: dotted key → value; keys whose ``when`` is not met are not there."""
CORNERS = 64
"""Corners of a space in which recipes are built before the first trial."""
_MISSING = object()


def suggest(trial: optuna.trial.Trial, tuning: Tuning) -> Values:
    """Ask Optuna for a value of every key that is to be chosen."""
    values: Values = {}
    for key, setting in tuning.space.items():
        if not meets(setting, values):
            continue
        if isinstance(setting, Choices):
            plain = trial.suggest_categorical(key, plain_choices(setting))
            values[key] = _value(setting, plain)
        elif setting.whole:
            step = int(setting.step or 1)
            values[key] = trial.suggest_int(key, int(setting.low), int(setting.high), step=step, log=setting.log)
        else:
            values[key] = trial.suggest_float(key, setting.low, setting.high, step=setting.step, log=setting.log)
    return values


def draw(tuning: Tuning, random: np.random.Generator) -> Values:
    """Values drawn evenly, or evenly in their logarithm."""
    values: Values = {}
    for key, setting in tuning.space.items():
        if meets(setting, values):
            values[key] = _drawn(setting, random)
    return values


def _drawn(setting: Range | Choices, random: np.random.Generator) -> Any:
    if isinstance(setting, Choices):
        return setting.choices[random.integers(len(setting.choices))]
    step = setting.step or (1.0 if setting.whole and not setting.log else None)
    if step is not None:
        value = setting.low + step * int(random.integers(round((setting.high - setting.low) / step) + 1))
    elif setting.log:
        value = math.exp(random.uniform(math.log(setting.low), math.log(setting.high)))
    else:
        value = random.uniform(setting.low, setting.high)
    value = min(setting.high, max(setting.low, value))
    return round(value) if setting.whole else value


def plain_choices(setting: Choices) -> list[Any]:
    """Choices as Optuna stores them: lists and mappings as JSON text."""
    return [
        value if value is None or isinstance(value, str | int | float) else canonical(value)
        for value in setting.choices
    ]


def params(tuning: Tuning, values: Values) -> dict[str, Any]:
    """Values as Optuna stores them."""
    found = {}
    for key, value in values.items():
        setting = tuning.space[key]
        if isinstance(setting, Choices):
            place = setting.place(value)
            assert place is not None
            value = plain_choices(setting)[place]
        found[key] = value
    return found


def values_of(tuning: Tuning, stored: Mapping[str, Any]) -> Values:
    """The inverse of ``params``, in the order of the space."""
    return {
        key: _value(setting, stored[key]) if isinstance(setting, Choices) else stored[key]
        for key, setting in tuning.space.items()
        if key in stored
    }


def _value(setting: Choices, plain: Any) -> Any:
    """The choice that Optuna stores as ``plain``."""
    kept = plain_choices(setting)
    place = next(i for i, choice in enumerate(kept) if choice == plain and type(choice) is type(plain))
    return setting.choices[place]


def recipe_of(base: Recipe, values: Values, epochs: int | None = None) -> Recipe:
    """``base`` with a trial's values, in the order of the space, and another length; validated as every recipe is."""
    texts = [f"{key}={canonical(value)}" for key, value in values.items()]
    if epochs is not None:
        texts.append(f"train.epochs={epochs}")
    return override_recipe(base, texts, f"recipe '{base.name}'")


def defaults(base: Recipe, tuning: Tuning, path: Path) -> Values:
    """The recipe's own values of all keys; a UserError where one of them lies outside the space."""
    raw, values = base.model_dump(mode="json"), Values()
    for key, setting in tuning.space.items():
        if not meets(setting, values):
            continue
        own = _look_up(raw, key)
        found = _held(base, setting, key, own)
        if found is _MISSING:
            said = "nothing" if own is _MISSING or own is None else canonical(own)
            raise UserError(
                f"{path}: key 'space.{key}': the recipe '{base.name}' itself has {said}, which is not among {setting}; the "
                "search begins with the recipe as it is, so let the space hold its value, or --set one"
            )
        values[key] = found
    return values


def _held(base: Recipe, setting: Range | Choices, key: str, own: Any) -> Any:
    """The recipe's ``own`` value as the space says it; what a choice leaves out, and validation fills in, counts as equal."""
    if own is _MISSING or isinstance(setting, Range):
        return own if own is not _MISSING and setting.holds(own) else _MISSING
    place = setting.place(own)
    if place is not None:
        return setting.choices[place]
    for choice in setting.choices if isinstance(own, list | dict) else ():
        with suppress(UserError):
            if _look_up(recipe_of(base, {key: choice}).model_dump(mode="json"), key) == own:
                return choice
    return _MISSING


def check(base: Recipe, tuning: Tuning, competition: Competition, path: Path) -> None:
    """Build recipes at both ends of every key, and at corners of the whole space; a UserError where one is refused."""
    raw = base.model_dump(mode="json")
    for key, setting in tuning.space.items():
        needed = _needed(tuning, key)
        for end in _ends(setting):
            values = _completed(base, raw, tuning, needed | {key: end})
            _try(base, values, competition, f"{path}: key 'space.{key}': {text(end)}")
    for values in _corners(tuning):
        _try(base, values, competition, f"{path}: key 'space': {sentence(values)} together")


def _try(base: Recipe, values: Values, competition: Competition, what: str) -> None:
    try:
        check_rules(competition, recipe_of(base, values))
    except UserError as error:
        raise UserError(f"{what} is refused ({error}); change the space") from None


def _corners(tuning: Tuning) -> Iterator[Values]:
    """All corners of a small space, some of a large one."""
    ends = [_ends(setting) for setting in tuning.space.values()]
    picks: Any
    if math.prod(map(len, ends)) <= CORNERS:
        picks = itertools.product(*ends)
    else:
        random = np.random.default_rng(stream("corners", len(ends)))
        picks = ([end[random.integers(len(end))] for end in ends] for _ in range(CORNERS))
    for pick in picks:
        values: Values = {}
        for (key, setting), value in zip(tuning.space.items(), pick, strict=True):
            if meets(setting, values):
                values[key] = value
        yield values


def _needed(tuning: Tuning, key: str) -> Values:
    """What must be chosen before so that ``key`` is there."""
    needed: Values = {}
    for name, wanted in tuning.space[key].when.items():
        needed |= _needed(tuning, name) | {name: wanted[0] if isinstance(wanted, list | tuple) else wanted}
    return needed


def _completed(base: Recipe, raw: dict[str, Any], tuning: Tuning, given: Values) -> Values:
    """``given``, and for all other keys the recipe's own values, or an end of what it has none of."""
    values: Values = {}
    for key, setting in tuning.space.items():
        if meets(setting, values):
            own = given[key] if key in given else _held(base, setting, key, _look_up(raw, key))
            values[key] = _ends(setting)[0] if own is _MISSING else own
    return values


def _ends(setting: Range | Choices) -> list[Any]:
    if isinstance(setting, Choices):
        return list(setting.choices)
    return [int(end) if setting.whole else end for end in (setting.low, setting.high)]


def _look_up(raw: Any, key: str) -> Any:
    """A value by its dotted key, list entries by their place."""
    for part in key.split("."):
        if isinstance(raw, dict) and part in raw:
            raw = raw[part]
        elif isinstance(raw, list) and part.isdecimal() and int(part) < len(raw):
            raw = raw[int(part)]
        else:
            return _MISSING
    return raw


def text(value: Any) -> str:
    """A value for people: numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else canonical(value)


def sentence(values: Values) -> str:
    """All values of a trial in one line."""
    return ", ".join(f"{key}={text(value)}" for key, value in values.items())
