"""Every recipe on the built-in sample of its competition: two epochs along the whole path, and eight images learnt by heart.

Recipes are taken as they are. The first test changes the length only, and the batch where the sample has no room for it.
The second asks whether net, loss and target fit together: without augmentation, mixing and dropout, from scratch, with
the same eight images in every step and a rate that falls to nothing, so that batch norm's statistics are those of the
final weights; the score is the competition's, from predictions as they are made for a submission.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from podium.config import Recipe
from podium.config_augment import AugmentSettings
from podium.config_file import load_competition, load_recipe
from podium.data.fit import plan_fit
from podium.data.ragged import Ragged
from podium.data.sample import place, write_sample
from podium.jobs import execute, weights_file
from podium.pipeline import SAMPLE_BUDGET, make_plan, run
from podium.prepare import Options, Prepared, prepare
from podium.training.choose import make_source
from podium.training.inner import Inner
from podium.training.machine import Machine
from podium.training.trainer import Trainer

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FOR: dict[str, tuple[str, ...]] = {
    "residual_unet": ("mars",),
    "residual_unet_plateau": ("mars",),
    "attention_unet": ("mars",),
    "transformer_unet": ("mars",),
    "small_object_unet": ("mars",),
    "gated_unet": ("mars",),
    "unet_resnet18": ("mars",),
    "segformer_b0": ("mars",),
    "fpn_convnext_atto": ("mars",),
    "baseline_cnn": ("blood",),
    "small_cnn": ("blood",),
    "convnext_base": ("blood",),
    "resnet50v2": ("blood",),
    "efficientnetv2_b0": ("blood",),
    "unet_bce_dice": ("wbc",),
    "unet_glands": ("warwick",),
    "cnn5": ("mnist",),
}
"""The competitions that each recipe is for."""
PAIRS = [(recipe, name) for recipe, names in FOR.items() for name in names]
ROWS = {"mars": (24, 3), "blood": (20, None), "wbc": (15, 2), "warwick": (20, 2), "mnist": (60, 5)}
"""Training and test images: as few as leave something to train, to score on and to set aside."""
OTHERS = {"convnext_base": 12, "efficientnetv2_b0": 40}
"""Training images for a net of 88 million weights, and for one whose many norms need more steps to settle."""
BATCH, EIGHT = 4, 8
"""Images of a step in the first test, so that two epochs are some steps even there; and in the second."""
CPU = Machine("cpu", "a test", 1, "fp32")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the real configurations, and small samples in data/<competition> and in data/<recipe> for ``OTHERS``."""
    root = tmp_path_factory.mktemp("project")
    (root / "configs").symlink_to(CONFIGS)
    for key, name in [*((name, name) for name in ROWS), *((recipe, FOR[recipe][0]) for recipe in OTHERS)]:
        competition = load_competition(CONFIGS / "competitions" / f"{name}.yaml")
        planted = 0 if name in ("mars", "blood") else None
        rows, test_rows = OTHERS.get(key, ROWS[name][0]), ROWS[name][1]
        write_sample(name, place(competition, root / "data" / key), 0, rows, planted, test_rows)
    return root


@pytest.fixture(autouse=True)
def _no_hub(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No weights can be had, one thread, and no checkpoints of trainings that nobody interrupts."""
    monkeypatch.setenv("PODIUM_ROOT", str(root))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("podium.training.checkpoint.Checkpoints.due", lambda self: False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)  # weights of some nets are 350 MB


def data_of(recipe: str, name: str) -> Path:
    return Path(os.environ["PODIUM_ROOT"]) / "data" / (recipe if recipe in OTHERS else name)


def plain(recipe: Recipe, **train: object) -> Recipe:
    """The recipe's net and loss, with nothing random about the images."""
    raw = recipe.model_dump(mode="json")
    quiet = {"batch": EIGHT, "accumulate": 1, "rarest_rate": 1, "rarest_rate_end": None, "early_stopping": None}
    still = {"keep": "last", "ema": 0.0, "freeze_epochs": 0, "layer_decay": 1.0, "schedule": {"name": "cosine"}}
    changes = {
        "net": raw["net"] | {"pretrained": "never", "checksum": None},
        "augment": AugmentSettings(batch=()).model_dump(mode="json"),
        "mix": [],
        "train": raw["train"] | quiet | still | train,
    }
    if recipe.net.dropout is not None:
        changes["net"]["dropout"] = 0.0
    return Recipe.model_validate(raw | changes)


def trainer_on(given: Prepared, recipe: Recipe, rows: np.ndarray, steps: int) -> tuple[Trainer, Iterator]:
    """A trainer, and its batches without end, one of every image each where the batch has room for all."""
    fit = plan_fit(given.dataset.parts, given.competition.data.fit)
    source = make_source(given.dataset.train, rows, fit, given.competition, recipe, CPU)
    trainer = Trainer(given.competition, recipe, source, CPU, steps, 0)
    return trainer, (batch for epoch in range(10**6) for batch in source.epoch(0, 0, epoch, recipe.augment))


def test_every_recipe_is_tried_and_every_competition_has_one() -> None:
    assert FOR.keys() == {path.stem for path in (CONFIGS / "models").glob("*.yaml")}
    for path in (CONFIGS / "competitions").glob("*.yaml"):
        competition = load_competition(path)
        assert all((model, competition.name) in PAIRS for model in competition.models)
        assert any(competition.name in names for names in FOR.values())


def test_a_sample_gets_a_budget_unless_the_recipe_takes_none(tmp_path: Path) -> None:
    def budget(recipe: str, *overrides: str) -> float | None:
        options = Options(models=(recipe,), data=data_of(recipe, "mars"), overrides=overrides, out=tmp_path)
        return run("mars", options, "train", Console(quiet=True), dry_run=True).plan.budget

    assert budget("residual_unet") == SAMPLE_BUDGET
    assert budget("residual_unet", "train.epochs=3") is None
    assert budget("residual_unet_plateau") is None


@pytest.mark.parametrize(("recipe", "name"), PAIRS)
def test_two_epochs_along_the_whole_path(recipe: str, name: str, tmp_path: Path) -> None:
    options = Options(folds=(0,), overrides=("train.epochs=2",), out=tmp_path / "out")
    options = replace(options, device="cpu", precision="fp32", threads=1)
    options = replace(options, models=(recipe,), data=data_of(recipe, name))
    own = load_recipe(CONFIGS / "models" / f"{recipe}.yaml")
    if own.train.batch > BATCH:
        options = replace(options, overrides=(*options.overrides, f"train.batch={BATCH}"))
    given = prepare(name, options, lambda text: None)
    assert given.origin.sample
    plan = make_plan(given, options, lambda text: None, measure=False)
    for job in plan.jobs:
        execute(job, lambda event: None)
    (run,) = plan.runs

    with (run.weights[0] / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert [row["epoch"] for row in history] == ["1", "2"]
    assert all(np.isfinite(float(row["loss"])) for row in history)
    assert all(("score" in row) == given.recipes[0].train.needs_inner for row in history)

    train, validation = given.folds.rows(0)
    assert len(validation) >= 3
    oof = Ragged.open(run.oof[0][0] / "oof.npy")
    assert sorted(oof.ids.tolist()) == sorted(given.dataset.train.images.ids[validation].tolist())
    predictions = [oof]
    if given.dataset.test is not None:
        assert run.test is not None
        predictions.append(Ragged.open(run.test[0] / "test.npy"))
        assert predictions[1].ids.tolist() == given.dataset.test.images.ids.tolist()
    for volume in predictions:
        for image in volume:
            assert len(image) == len(given.competition.classes)
            np.testing.assert_allclose(image.astype(float).sum(0), 1, atol=5e-3)

    trainer, batches = trainer_on(given, plain(given.recipes[0], batch=len(train)), train, 1)
    batch = next(batches)

    def loss() -> float:
        with torch.no_grad():
            return float(trainer.loss(trainer.forward(batch.images), batch.targets))

    untrained = loss()
    trainer.model.load_state_dict(load_file(run.weights[0] / weights_file("last")))
    assert loss() < untrained


# ---------------------------------------------------------------- eight images


STEPS = {"convnext_base": 45, "resnet50v2": 75, "residual_unet_plateau": 150}
"""The heavy nets need no more than these, and a rate of 1e-2 needs longer; the others take 100."""


def eight(given: Prepared) -> np.ndarray:
    """Rows of eight images: two of every scored class as far as there is room, rare classes first, then any."""
    train = given.dataset.train
    assert train.targets is not None
    kept = np.flatnonzero(given.folds.kept)
    held = np.array([np.isin(given.competition.scored, np.unique(train.targets[row])) for row in kept.tolist()])
    chosen: list[int] = []
    for _ in range(2):
        for label in np.argsort(held.sum(0), kind="stable"):
            of_it = [row for row in kept[held[:, label]].tolist() if row not in chosen]
            chosen += of_it[:1] if len(chosen) < EIGHT else []
    chosen += [row for row in kept.tolist() if row not in chosen][: EIGHT - len(chosen)]
    return np.sort(np.array(chosen))


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "name"), PAIRS)
def test_eight_images_are_learnt_by_heart(recipe: str, name: str, tmp_path: Path) -> None:
    options = Options(models=(recipe,), data=data_of(recipe, name), out=tmp_path / "out")
    given = prepare(name, options, lambda text: None)
    steps, rows = STEPS.get(recipe, 100), eight(given)
    trainer, batches = trainer_on(given, plain(given.recipes[0]), rows, steps)
    assert trainer.per_epoch == 1
    for step in range(steps):
        trainer.step(next(batches), step)
    fit = plan_fit(given.dataset.parts, given.competition.data.fit)
    inner = Inner(given.competition, given.dataset.train, rows, fit, ("identity",), CPU)
    score = inner.score(trainer.model, trainer.model.state_dict())
    assert score > 0.95
