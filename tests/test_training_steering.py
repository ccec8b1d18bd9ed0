"""What steers a training: the inner split, plateaus, early stopping, frozen backbones, and which weights are kept."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from conftest import SIZE, Tiny
from podium.config import Recipe
from podium.data.fit import Fit
from podium.folds import Folds
from podium.jobs import fold_key, oof_key, run_key
from podium.store import Folder, Key
from podium.training import checkpoint
from podium.training.choose import make_source
from podium.training.fold import train_fold
from podium.training.inner import Inner, set_aside
from podium.training.trainer import Trainer

SAME = Fit(SIZE, "same")
KEY = Key("fold", 1, {})


class Stop(Exception):
    """What interrupts a training here."""


def train(tiny: Tiny, path: Path, recipe: Recipe, emit: Any = lambda event: None) -> list[dict[str, str]]:
    """Train fold 1 and give its history."""
    part = tiny.dataset.train
    train_fold(tiny.competition, recipe, 1, 3, part, SAME, tiny.folds, Folder(path, KEY), tiny.machine, emit=emit)
    with (path / "history.csv").open() as file:
        return list(csv.DictReader(file))


def scripted(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """Let epochs score as written, whatever the net has learnt."""
    given = iter(scores)
    monkeypatch.setattr(Inner, "score", lambda self, model, weights: next(given))


# ---------------------------------------------------------------- the inner split


def folds_of(groups: list[int], strata: list[str]) -> Folds:
    count = len(groups)
    ids = np.array([f"{i:03d}" for i in range(count)])
    reasons = np.full(count, "")
    return Folds(ids, np.array(groups), np.array(strata), np.zeros(count, int), reasons, "d", 2)


def test_the_inner_split_takes_whole_groups_and_its_share_of_every_stratum() -> None:
    groups = np.repeat(np.arange(100), 2)
    strata = np.where(groups < 80, "common", "rare")
    folds, rows = folds_of(groups.tolist(), strata.tolist()), np.arange(200)
    kept, aside = set_aside(folds, rows, 0.2, 5)
    assert sorted([*kept, *aside]) == list(rows) and not set(groups[kept]) & set(groups[aside])
    assert len(aside) == 40 and (strata[aside] == "rare").sum() == 8
    again, other = set_aside(folds, rows, 0.2, 5)[1], set_aside(folds, rows, 0.2, 6)[1]
    assert np.array_equal(aside, again) and not np.array_equal(aside, other)


def test_the_inner_split_is_never_empty_and_stays_within_its_rows() -> None:
    folds = folds_of([0, 1, 2, 3, 4, 5], ["a"] * 6)
    kept, aside = set_aside(folds, np.array([1, 2, 5]), 0.01, 0)
    assert len(aside) == 1 and len(kept) == 2 and set(kept) | set(aside) == {1, 2, 5}


def test_what_is_set_aside_is_not_trained_on_and_is_what_is_scored(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, np.ndarray] = {}

    class Spy(Inner):
        def __init__(self, competition: Any, part: Any, rows: np.ndarray, *rest: Any) -> None:
            seen["scored"] = rows
            super().__init__(competition, part, rows, *rest)

    from podium.training import fold

    def source(part: Any, rows: np.ndarray, *rest: Any) -> Any:
        seen["trained"] = rows
        return make_source(part, rows, *rest)

    monkeypatch.setattr(fold, "Inner", Spy)
    monkeypatch.setattr(fold, "make_source", source)
    history = train(tiny, tmp_path, tiny.changed(train={"keep": "best", "inner": 0.25, "epochs": 2}))
    rows, validation = tiny.folds.rows(1)
    assert set(seen["scored"]) | set(seen["trained"]) == set(rows) and not set(seen["scored"]) & set(seen["trained"])
    assert len(seen["scored"]) == round(0.25 * len(rows)) and not set(validation) & set(seen["scored"])
    assert all(0 <= float(row["score"]) <= 1 for row in history)
    train(tiny, tmp_path / "without", tiny.changed(train={"epochs": 1}))
    assert np.array_equal(seen["trained"], rows)


def test_scoring_leaves_the_training_as_it_was(tiny: Tiny) -> None:
    rows, aside = tiny.folds.rows(0)
    source = make_source(tiny.dataset.train, rows, SAME, tiny.competition, tiny.recipe, tiny.machine)
    trainer = Trainer(tiny.competition, tiny.recipe, source, tiny.machine, 10, 0)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    other = {name: value + 0.1 * torch.ones_like(value) for name, value in before.items()}
    judge = Inner(tiny.competition, tiny.dataset.train, aside, SAME, ("identity",), tiny.machine)
    first, second = judge.score(trainer.model, before), judge.score(trainer.model, other)
    assert first != second and trainer.model.training
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


# ---------------------------------------------------------------- stopping, plateaus, the best


def test_a_training_stops_when_the_score_stands_still(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [0.1, 0.5, 0.4, 0.5, 0.9, 0.9])
    history = train(tiny, tmp_path, tiny.changed(train={"epochs": 6, "early_stopping": 2, "keep": "best"}))
    assert [float(row["score"]) for row in history] == [0.1, 0.5, 0.4, 0.5]
    done = json.loads((tmp_path / "done.json").read_text())
    assert done["result"]["epochs"] == 4 and done["result"]["steps"] == int(history[-1]["step"])


def test_the_best_weights_are_those_of_the_best_epoch(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[dict[str, torch.Tensor]] = []
    given = iter([0.1, 0.5, 0.4])

    def score(self: Inner, model: nn.Module, weights: dict[str, torch.Tensor]) -> float:
        taken.append({name: value.clone() for name, value in weights.items()})
        return next(given)

    monkeypatch.setattr(Inner, "score", score)
    train(tiny, tmp_path, tiny.changed(train={"epochs": 3, "keep": "best"}))
    best = load_file(tmp_path / "best.safetensors")
    assert all(torch.equal(best[name], taken[1][name]) for name in best)
    assert not torch.equal(best["net.head.weight"], load_file(tmp_path / "ema.safetensors")["net.head.weight"])


def test_a_steered_training_that_is_killed_ends_in_the_same_bits(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "WORTH", float("inf"))
    recipe = tiny.changed(
        train={
            "epochs": 5,
            "keep": "best",
            "early_stopping": 4,
            "schedule": {"name": "plateau", "patience": 1, "factor": 0.5},
        }
    )
    train(tiny, tmp_path / "whole", recipe)

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "epoch" and event["epoch"] in stops:
            stops.remove(event["epoch"])
            raise Stop

    for last in (2, 4):
        stops = [last]
        with pytest.raises(Stop):
            train(tiny, tmp_path / "cut", recipe, stop)
    train(tiny, tmp_path / "cut", recipe)
    for name in ("ema", "last", "best"):
        whole, cut = ((tmp_path / how / f"{name}.safetensors").read_bytes() for how in ("whole", "cut"))
        assert whole == cut


def test_which_weights_predict_is_chosen_after_the_training(tiny: Tiny) -> None:
    """Other weights of the same training are predicted with, not trained anew; a training with an inner split is another."""

    def keys(**values: Any) -> tuple[str, str]:
        recipe = tiny.changed(train=values)
        weights = fold_key(run_key(tiny.competition, recipe, 0, None, "data", "folds"), 0)
        return weights.hash, oof_key(weights, recipe, 5).hash

    ema, last, best = keys(keep="ema"), keys(keep="last"), keys(keep="best")
    assert ema[0] == last[0] != best[0] and ema[1] != last[1]
    assert keys(keep="ema", inner=0.3)[0] == ema[0] and keys(keep="best", inner=0.3)[0] != best[0]
    assert keys(early_stopping=5)[0] != ema[0]


# ---------------------------------------------------------------- backbones, pieces, norms


def trainer_of(tiny: Tiny, recipe: Recipe) -> Trainer:
    rows, _ = tiny.folds.rows(0)
    source = make_source(tiny.dataset.train, rows, SAME, tiny.competition, recipe, tiny.machine)
    return Trainer(tiny.competition, recipe, source, tiny.machine, 10, 0)


def test_a_frozen_backbone_stays_as_it_is_until_it_is_freed(tiny: Tiny) -> None:
    raw = tiny.recipe.model_dump(mode="json")
    recipe = Recipe.model_validate(
        raw | {"net": {"name": "unet", "encoder": "resnet10t"}, "train": raw["train"] | {"freeze_epochs": 1}}
    )
    trainer = trainer_of(tiny, recipe)
    rows, _ = tiny.folds.rows(0)
    source = make_source(tiny.dataset.train, rows, SAME, tiny.competition, recipe, tiny.machine)
    batch = next(iter(source.epoch(0, 0, 0, recipe.augment)))

    def changed() -> set[str]:
        before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        trainer.step(batch, 3)
        after = trainer.model.state_dict()
        return {name for name in after if not torch.equal(after[name], before[name])}

    trainer.begin(0)
    assert not any("encoder" in name for name in changed()) and changed()
    trainer.begin(1)
    assert {"net.encoder.model.conv1.0.weight", "net.encoder.model.bn1.running_mean"} <= changed()


def test_own_nets_have_nothing_to_freeze(tiny: Tiny) -> None:
    given: list[dict[str, object]] = [{"freeze_epochs": 2}, {"layer_decay": 0.8}]
    for values in given:
        with pytest.raises(ValueError, match="is for a backbone, which a net 'residual_unet' has not"):
            tiny.changed(train=values)


def test_accumulating_sends_the_batch_through_in_pieces(tiny: Tiny) -> None:
    assert [trainer_of(tiny, tiny.changed(train={"accumulate": k})).micro for k in (1, 2, 3, 4)] == [4, 2, 2, 1]
    machine = replace(tiny.machine, micro_batch=1)
    assert trainer_of(replace(tiny, machine=machine), tiny.changed(train={"accumulate": 2})).micro == 1


def test_norms_are_measured_for_the_weights_that_are_kept(tiny: Tiny) -> None:
    """The mean and variance after the first convolution of the averaged weights, over the same images, by hand."""
    trainer = trainer_of(tiny, tiny.changed(net={"dropout": 0.0}))
    rows, _ = tiny.folds.rows(0)
    source = make_source(tiny.dataset.train, rows, SAME, tiny.competition, tiny.recipe, tiny.machine)
    batches = list(source.epoch(0, 0, 0, tiny.recipe.augment))
    for step, batch in enumerate(batches):
        trainer.step(batch, step)
    live = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    averaged = trainer.average.state["net.first.body.0.weight"].clone()
    trainer.refresh_norms(batches)
    images = torch.cat([batch.images for batch in batches])
    model = trainer.model
    first = torch.nn.functional.conv2d((images - model.mean) / model.std, averaged, padding=1)
    state = trainer.average.state
    torch.testing.assert_close(state["net.first.body.1.running_mean"], first.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(state["net.first.body.1.running_var"], first.var((0, 2, 3)), rtol=2e-2, atol=1e-3)
    assert torch.equal(state["net.first.body.0.weight"], averaged)
    assert all(torch.equal(value, live[name]) for name, value in model.state_dict().items()) and model.training
    assert next(m.momentum for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)) == 0.1
