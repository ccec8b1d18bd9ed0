"""Search spaces: what a file may say, what is refused with which words, and how values come into a recipe."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from conftest import Tiny
from podium.config import Recipe
from podium.config_file import load_recipe, override_recipe
from podium.config_tuning import Tuning, load_tuning
from podium.errors import UserError
from podium.tuning import space

WHOLE = """
folds: [0, 2]
epochs: 6
space:
  train.momentum: {low: 0.8, high: 0.99, when: {train.optimiser: sgd}}
  train.lr: {low: 1e-4, high: 1e-2, log: true}
  train.optimiser: {choices: [adamw, sgd]}
  loss.weight_power: {low: 0.0, high: 0.75, step: 0.25}
  train.rarest_rate: {low: 1, high: 4, int: true}
  loss.terms: {choices: [[cross_entropy], [cross_entropy, {name: dice, weight: 0.5}]]}
  augment.batch.2.p: {low: 0.5, high: 1.0}
"""


def read(tmp_path: Path, text: str) -> Tuning:
    path = tmp_path / "tiny-small.yaml"
    path.write_text(text)
    return load_tuning(path)


def test_conditions_come_before_what_hangs_on_them(tmp_path: Path) -> None:
    tuning = read(tmp_path, WHOLE)
    keys = list(tuning.space)
    assert keys.index("train.optimiser") < keys.index("train.momentum")
    assert tuning.folds == (0, 2) and tuning.epochs == 6


def test_drawn_values_lie_in_the_space_and_every_one_makes_a_recipe(tiny: Tiny, tmp_path: Path) -> None:
    tuning = read(tmp_path, WHOLE)
    random = np.random.default_rng(0)
    drawn = [space.draw(tuning, random) for _ in range(200)]
    rates = np.log10([values["train.lr"] for values in drawn])
    assert -4 <= rates.min() < -3.7 and -2.3 < rates.max() <= -2 and abs(rates.mean() + 3) < 0.15
    assert {values["train.rarest_rate"] for values in drawn} == {1, 2, 3, 4}
    assert {values["loss.weight_power"] for values in drawn} == {0.0, 0.25, 0.5, 0.75}
    assert {values["train.optimiser"] == "sgd" for values in drawn} == {True, False}
    for values in drawn:
        assert ("train.momentum" in values) == (values["train.optimiser"] == "sgd")
        recipe = space.recipe_of(tiny.recipe, values)
        assert recipe.train.lr == values["train.lr"] and recipe.train.momentum == values.get("train.momentum")
        assert len(recipe.loss.terms) == len(values["loss.terms"])
        assert recipe.augment.batch[2].p == values["augment.batch.2.p"]
        assert recipe.augment.batch[:2] == tiny.recipe.augment.batch[:2]


def test_optuna_suggests_what_was_queued_and_gives_it_back(tiny: Tiny, tmp_path: Path) -> None:
    tuning = read(tmp_path, WHOLE)
    study = optuna.create_study()
    random = np.random.default_rng(1)
    for _ in range(20):
        values = space.draw(tuning, random)
        study.enqueue_trial(space.params(tuning, values))
        trial = study.ask()
        assert space.suggest(trial, tuning) == values
        assert space.values_of(tuning, trial.params) == values


def test_the_defaults_are_the_recipe_itself(tiny: Tiny, tmp_path: Path) -> None:
    tuning = read(tmp_path, WHOLE.replace("low: 0.0, high: 0.75, step: 0.25", "low: 0.0, high: 1.0, step: 0.25"))
    values = space.defaults(tiny.recipe, tuning, tmp_path)
    assert values["train.lr"] == 5e-3 and values["loss.terms"] == ["cross_entropy"]
    assert "train.momentum" not in values
    assert space.recipe_of(tiny.recipe, values) == tiny.recipe


def test_options_that_a_net_fills_in_follow_its_other_options(tmp_path: Path) -> None:
    """attention_unet has two deep outputs with four widths, and room for one with three."""
    recipe = Recipe.model_validate({"name": "a", "net": {"name": "attention_unet"}})
    assert recipe.net.deep == 2
    assert space.recipe_of(recipe, {"net.widths": [4, 8, 16]}).net.deep == 1


def test_a_list_entry_is_changed_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("net: {name: plain_unet}\naugment: {batch: [flip_h, {name: noise, p: 0.5}]}\n")
    changed = load_recipe(path, ["augment.batch.0.p=0.25", "augment.batch.1.p=1.0"])
    assert [(item.name, item.p) for item in changed.augment.batch] == [("flip_h", 0.25), ("noise", 1.0)]
    with pytest.raises(UserError, match=r"batch\.2.*2 entries"):
        override_recipe(changed, ["augment.batch.2.p=1.0"], "here")


BAD: list[tuple[str, list[str]]] = [
    ("space: {}", ["'space'", "names nothing"]),
    ("folds: [0]", ["'space'", "names nothing"]),
    ("space: {train.lr: {low: 1e-2, high: 1e-3}}", ["space.train.lr", "0.01 is not below", "swap"]),
    ("space: {train.lr: {low: 0, high: 1e-3, log: true}}", ["space.train.lr", "logarithm"]),
    ("space: {train.lr: {low: 1, high: 2, log: true, step: 0.1}}", ["space.train.lr", "step"]),
    ("space: {train.batch: {low: 1, high: 2.5, int: true}}", ["space.train.batch", "whole"]),
    ("space: {train.lr: {low: 0, high: 1, step: 0.3}}", ["space.train.lr", "0.3"]),
    ("space: {train.lr: {low: 0, high: 1, lgo: true}}", ["space.train.lr", "'lgo'", "log"]),
    ("space: {train.lr: 3}", ["space.train.lr", "low, high", "choices"]),
    ("space: {train.batch: {choices: [8]}}", ["space.train.batch", "choices"]),
    ("space: {train.batch: {choices: [8, 8.0]}}", ["space.train.batch", "once"]),
    ("space: {train.epochs: {low: 1, high: 3, int: true}}", ["space.train.epochs", "'epochs'"]),
    ("space: {seed: {low: 1, high: 3, int: true}}", ["space.seed", "remove"]),
    ("spaces: {train.lr: {low: 0, high: 1}}", ["'space'"]),
    ("fold: [0]\nspace: {train.lr: {low: 0, high: 1}}", ["'fold'", "folds"]),
    ("folds: [0, 1, 2]\nspace: {train.lr: {low: 0, high: 1}}", ["'folds'", "2"]),
    ("folds: [1, 1]\nspace: {train.lr: {low: 0, high: 1}}", ["folds", "once"]),
    ("space: {train.lr: {low: 0, high: 1, when: {net.nmae: x}}}", ["train.lr.when", "net.nmae"]),
    (
        "space: {train.lr: {low: 0, high: 1, when: {train.batch: 9}}, train.batch: {choices: [8, 16]}}",
        ["train.lr.when", "never 9", "8, 16"],
    ),
    (
        "space: {train.lr: {low: 0, high: 1, when: {train.ema: 0.5}}, train.ema: {low: 0, high: 1, when: {train.lr: 0.5}}}",
        ["wait for one another"],
    ),
    (
        "space: {net: {choices: [{name: cnn5}, {name: small_cnn}]}, net.dropout: {low: 0, high: 0.5}}",
        ["space.net.dropout", "inside", "when"],
    ),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_a_space_that_says_nonsense_is_refused(text: str, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    said = str(caught.value)
    assert said.startswith(str(tmp_path / "tiny-small.yaml")) and all(word in said for word in words), said


REFUSED: list[tuple[str, list[str]]] = [
    ("train.lrr: {low: 1e-4, high: 1e-2}", ["space.train.lrr", "unknown key", "did you mean 'lr'"]),
    ("train.lr: {low: 0.0, high: 1e-2}", ["space.train.lr", "0 is refused", "greater than 0"]),
    ("train.keep: {choices: [ema, newest]}", ["space.train.keep", "newest", "last"]),
    ("net.widths: {choices: [[4, 8], [4]]}", ["space.net.widths", "[4]"]),
    ("mix.0.p: {low: 0.1, high: 0.5}", ["space.mix.0.p", "0 entries"]),
    ("net: {choices: [{name: residual_unet, widths: [4, 8]}, {name: cnn5}]}", ["space.net", "cnn5", "predicts labels"]),
    ("train.momentum: {low: 0.8, high: 0.9}", ["space.train.momentum", "does nothing with adamw"]),
    (
        "train.batch: {choices: [4, 16]}\n  train.accumulate: {low: 1, high: 8, int: true}",
        ["accumulate", "8"],
    ),
]


@pytest.mark.parametrize(("line", "words"), REFUSED)
def test_values_that_no_recipe_takes_are_found_before_the_first_trial(
    line: str, words: list[str], tiny: Tiny, tmp_path: Path
) -> None:
    path = tmp_path / "tiny-small.yaml"
    with pytest.raises(UserError) as caught:
        space.check(tiny.recipe, read(tmp_path, f"space:\n  {line}\n"), tiny.competition, path)
    said = str(caught.value)
    assert said.startswith(str(path)) and all(word in said for word in words), said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train.lr: {low: 1e-4, high: 1e-3}", ["space.train.lr", "0.005", "0.0001 to 0.001"]),
        ("train.batch: {choices: [8, 16]}", ["space.train.batch", "has 4", "8, 16"]),
        ("train.weight_decay: {low: 0.0, high: 0.1}", ["space.train.weight_decay", "has nothing"]),
        ("net.dropout: {low: 0.0, high: 0.3, step: 0.15}", ["space.net.dropout", "has 0.1", "steps of 0.15"]),
    ],
)
def test_a_recipe_outside_its_space_is_refused(line: str, words: list[str], tiny: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "tiny-small.yaml"
    with pytest.raises(UserError) as caught:
        space.defaults(tiny.recipe, read(tmp_path, f"space:\n  {line}\n"), path)
    said = str(caught.value)
    assert said.startswith(str(path)) and all(word in said for word in words), said


def shipped() -> list[Any]:
    root = Path(__file__).resolve().parents[1]
    return [pytest.param(path, id=path.stem) for path in sorted((root / "tuning").glob("*.yaml"))]


@pytest.mark.parametrize("path", shipped())
def test_the_spaces_that_are_there_fit_their_recipes(path: Path) -> None:
    from podium.config_file import load_competition

    name, _, model = path.stem.partition("-")
    configs = path.parents[1] / "configs"
    competition = load_competition(configs / "competitions" / f"{name}.yaml")
    recipe = load_recipe(configs / "models" / f"{model}.yaml")
    tuning = load_tuning(path)
    space.check(recipe, tuning, competition, path)
    assert space.recipe_of(recipe, space.defaults(recipe, tuning, path)) == recipe
    assert math.isfinite(tuning.shortest) and (tuning.epochs or 1) <= recipe.train.epochs
