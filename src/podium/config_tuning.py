"""Search spaces: what a tuning may change of a recipe, as files ``tuning/<competition>-<recipe>.yaml`` say it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from podium.config_base import Count, PositiveInt, Settings
from podium.config_file import read_yaml, validate
from podium.errors import UserError, did_you_mean
from podium.store import canonical

FIXED = {
    "name": "is the recipe's own",
    "like": "is the recipe's own",
    "seed": "is no setting to choose by its score",
    "train.epochs": "is the length of a trial, which 'epochs' says beside 'space'",
}
"""Keys of a recipe that are not searched, and why."""
When = Mapping[str, Any]


class Range(Settings):
    """Numbers from ``low`` to ``high``, both included.

    log: even in their logarithm. int: whole numbers. step: only low, low + step, ... when: the values, one or a list, that
    other keys of the space must have for this one to be there at all.
    """

    low: float
    high: float
    log: bool = False
    whole: Annotated[bool, Field(alias="int")] = False
    step: Annotated[float, Field(gt=0)] | None = None
    when: When = Field(default_factory=dict)

    @model_validator(mode="after")
    def _runs_upwards(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low: {self.low:g} is not below high: {self.high:g}; swap them")
        if self.log and self.low <= 0:
            raise ValueError(f"low: {self.low:g} has no logarithm; raise it above 0 or leave log out")
        if self.log and self.step is not None:
            raise ValueError("step: even steps and even logarithms exclude each other; leave one of them out")
        if self.whole and not all(value.is_integer() for value in (self.low, self.high, self.step or 1.0)):
            raise ValueError("int: low, high and step of whole numbers are whole; correct them")
        if self.step is not None and not _even((self.high - self.low) / self.step):
            raise ValueError(
                f"step: {self.step:g} does not lead from {self.low:g} to {self.high:g}; correct one of them"
            )
        return self

    def holds(self, value: Any) -> bool:
        """Whether a recipe's value is one of these numbers."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        step = self.step or (1.0 if self.whole else None)
        return step is None or _even((value - self.low) / step)

    def __str__(self) -> str:
        """For people."""
        steps = f" in steps of {self.step:g}" if self.step else ", whole" if self.whole else ""
        return f"{self.low:g} to {self.high:g}{steps}"


class Choices(Settings):
    """One of several values, which may be lists or mappings. when: as of a range."""

    choices: Annotated[tuple[Any, ...], Field(min_length=2)]
    when: When = Field(default_factory=dict)

    @model_validator(mode="after")
    def _differ(self) -> Choices:
        if any(same(a, b) for place, a in enumerate(self.choices) for b in self.choices[:place]):
            raise ValueError("choices: every value is named once")
        return self

    def holds(self, value: Any) -> bool:
        """Whether a recipe's value is one of them; 1 and 1.0 are the same."""
        return self.place(value) is not None

    def place(self, value: Any) -> int | None:
        """Which of them a value is, None where it is none of them."""
        for place, choice in enumerate(self.choices):
            if same(choice, value):
                return place
        return None

    def __str__(self) -> str:
        """For people."""
        return ", ".join(canonical(value) for value in self.choices)


class Tuning(Settings):
    """A search space and how its trials are trained.

    folds: one or two, on which a trial is scored. epochs: length of a whole trial, the recipe's own where left out. shortest: the
    share of it after which a trial may first be given up. confirm_epochs: length of the trainings that confirm, likewise the
    recipe's own. space: by the recipe's dotted keys.
    """

    folds: Annotated[tuple[Count, ...], Field(min_length=1, max_length=2)] = (0,)
    epochs: PositiveInt | None = None
    shortest: Annotated[float, Field(gt=0, le=1)] = 1 / 9
    confirm_epochs: PositiveInt | None = None
    space: Mapping[str, Range | Choices]

    @model_validator(mode="after")
    def _different_folds(self) -> Tuning:
        if len(set(self.folds)) < len(self.folds):
            raise ValueError("folds: every fold is named once")
        return self


def load_tuning(path: Path) -> Tuning:
    """Read a search space; its keys come in an order in which those that a ``when`` asks for stand before."""
    raw = read_yaml(path)
    space = raw.get("space")
    if not isinstance(space, dict) or not space:
        raise UserError(
            f"{path}: key 'space': names nothing to search; write for example train.lr: {{low: 1e-4, high: 1e-2}}"
        )
    parsed: dict[str, Range | Choices] = {}
    for key, value in space.items():
        for fixed, why in FIXED.items():
            if key == fixed or fixed.startswith(f"{key}."):
                raise UserError(f"{path}: key 'space.{key}': {fixed} {why}; remove the key")
        if not isinstance(value, dict):
            raise UserError(
                f"{path}: key 'space.{key}': {value!r} is neither {{low, high}} nor {{choices}}; write one of them"
            )
        where = f"{path}: space.{key}"
        parsed[key] = validate(Choices, value, where) if "choices" in value else validate(Range, value, where)
    _check_apart(path, parsed)
    tuning = validate(Tuning, raw | {"space": {}}, path)
    return tuning.model_copy(update={"space": _ordered(path, parsed)})


def same(a: Any, b: Any) -> bool:
    """Whether two values of a YAML file mean the same."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


def meets(setting: Range | Choices, values: Mapping[str, Any]) -> bool:
    """Whether what is chosen already lets this setting be chosen too."""
    for key, wanted in setting.when.items():
        allowed = wanted if isinstance(wanted, list | tuple) else [wanted]
        if key not in values or not any(same(values[key], value) for value in allowed):
            return False
    return True


def _check_apart(path: Path, space: Mapping[str, Range | Choices]) -> None:
    for inner in space:
        for outer in space:
            if inner.startswith(f"{outer}.") and outer not in space[inner].when:
                raise UserError(
                    f"{path}: key 'space.{inner}': lies inside 'space.{outer}', which is chosen as a whole; search one of them, "
                    f"or say with 'when' to which value of {outer} it belongs"
                )


def _ordered(path: Path, space: Mapping[str, Range | Choices]) -> dict[str, Range | Choices]:
    """Conditions before what depends on them, otherwise as written."""
    for key, setting in space.items():
        for name, wanted in setting.when.items():
            if name not in space:
                raise UserError(
                    f"{path}: key 'space.{key}.when': '{name}' is not searched; {did_you_mean(name, space)}"
                )
            for value in wanted if isinstance(wanted, list) else [wanted]:
                if not space[name].holds(value):
                    raise UserError(
                        f"{path}: key 'space.{key}.when': {name} is never {canonical(value)}; allowed: {space[name]}"
                    )
    ordered: dict[str, Range | Choices] = {}
    while len(ordered) < len(space):
        free = [k for k, s in space.items() if k not in ordered and all(name in ordered for name in s.when)]
        if not free:
            left = ", ".join(k for k in space if k not in ordered)
            raise UserError(f"{path}: key 'space': {left} wait for one another with 'when'; take one 'when' out")
        ordered |= {key: space[key] for key in free}
    return ordered


def _even(steps: float) -> bool:
    return math.isclose(steps, round(steps), abs_tol=1e-6)
