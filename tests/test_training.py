"""train_fold: the same bits whatever interrupts it, the rows it may see, and lengths that stay."""

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

from conftest import SIZE, Tiny
from podium import metrics
from podium.config import Competition, Recipe
from podium.data.fit import Fit
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.decode import finish
from podium.errors import UserError
from podium.folds import Folds
from podium.inference.predict import load, predict_to
from podium.randomness import stream
from podium.store import Folder, Key, read_json
from podium.training import checkpoint, fold, machine
from podium.training import probe as training_probe
from podium.training.checkpoint import Checkpoints
from podium.training.fold import FoldResult, train_fold
from podium.training.inner import set_aside
from podium.training.machine import Machine, detect
from podium.training.optim import Average

KEY = Key("fold", 1, {})
SAME = Fit(SIZE, "same")


class Stop(Exception):
    """What interrupts a training in these tests."""


def train(tiny: Tiny, path: Path, recipe: Recipe | None = None, **options: Any) -> FoldResult:
    given = {
        "fold": 1,
        "seed": 3,
        "part": tiny.dataset.train,
        "fit": SAME,
        "folds": tiny.folds,
        "machine": tiny.machine,
    }
    return train_fold(
        tiny.competition,
        recipe or tiny.recipe,
        folder=Folder(path, KEY),
        **(given | options),  # type: ignore[arg-type]
    )


def stop_after(epochs: int) -> Any:
    """An ``emit`` that stops the training when this epoch is reported, which is before it is saved."""

    def emit(event: dict[str, Any]) -> None:
        if event["event"] == "epoch" and event["epoch"] == epochs:
            raise Stop

    return emit


@pytest.fixture
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints after every epoch, however short it was."""
    monkeypatch.setattr(checkpoint, "WORTH", float("inf"))


@pytest.fixture(scope="module")
def undisturbed(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("undisturbed")
    train(tiny, path)
    return path


def weights(path: Path) -> bytes:
    return (path / "ema.safetensors").read_bytes()


# ---------------------------------------------------------------- the same bits


def test_twice_is_the_same_bits_and_another_seed_or_fold_is_not(tiny, undisturbed, tmp_path):
    torch.rand(5)
    train(tiny, tmp_path / "again")
    assert weights(tmp_path / "again") == weights(undisturbed)
    train(tiny, tmp_path / "seed", seed=4)
    train(tiny, tmp_path / "fold", fold=0)
    assert len({weights(undisturbed), weights(tmp_path / "seed"), weights(tmp_path / "fold")}) == 3


@pytest.mark.parametrize("stops", [(1,), (2,), (4,), (2, 3, 3, 4)])
def test_interrupted_and_continued_is_the_same_bits(tiny, undisturbed, tmp_path, every_epoch, stops):
    for epoch in stops:
        with pytest.raises(Stop):
            train(tiny, tmp_path, emit=stop_after(epoch))
        assert not (tmp_path / "ema.safetensors").exists() and Folder(tmp_path, KEY).done is None
    events: list[dict[str, Any]] = []
    train(tiny, tmp_path, emit=events.append)
    assert weights(tmp_path) == weights(undisturbed)
    # at most one epoch is lost: the one that was reported and not saved
    expected = [] if stops[-1] == 1 else [{"event": "resumed", "epoch": stops[-1] - 1}]
    assert [event for event in events if event["event"] == "resumed"] == expected
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == list(range(stops[-1], 5))


def test_a_damaged_checkpoint_starts_again_and_ends_in_the_same_bits(tiny, undisturbed, tmp_path, every_epoch):
    with pytest.raises(Stop):
        train(tiny, tmp_path, emit=stop_after(3))
    saved = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(saved[: len(saved) // 2])
    train(tiny, tmp_path)
    assert weights(tmp_path) == weights(undisturbed)


def test_checkpoints_are_written_only_where_they_are_worth_it(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    checkpoints = Checkpoints(tmp_path / "last.pt")
    assert checkpoints.read() is None
    now[0] += 1
    assert checkpoints.due()  # nothing is known of its cost yet

    def slow(content: Any, path: Path) -> None:
        now[0] += 0.5
        path.write_bytes(b"half a second of writing")

    monkeypatch.setattr(checkpoint.torch, "save", slow)
    checkpoints.write({})
    now[0] += 24  # 2 % of it are 0.48
    assert not checkpoints.due()
    now[0] += 2
    assert checkpoints.due()
    checkpoints._cost = 1e9
    assert not checkpoints.due()
    now[0] += checkpoint.LONGEST
    assert checkpoints.due()
    assert checkpoints.read() is None and (tmp_path / "last.damaged").exists()


# ---------------------------------------------------------------- what it leaves


def test_what_a_finished_folder_holds(tiny, undisturbed):
    folder = Folder(undisturbed, KEY)
    folder.verify("ema.safetensors", "last.safetensors", "history.csv")
    done = folder.done
    assert done is not None
    assert not folder.file("last.pt").exists()
    state = read_json(folder.file("state.json"))
    # 15 rows outside fold 1, and those with the rarest class once more; 4 epochs of batches of 4
    train_rows, _ = tiny.folds.rows(1)
    masks = tiny.dataset.train.targets.stacked[train_rows, 0]
    assert np.bincount(masks.reshape(-1), minlength=5)[1:].argmin() == 3
    per_epoch = (len(train_rows) + int((masks == 4).any((1, 2)).sum())) // 4
    assert state["length"]["steps_per_epoch"] == per_epoch and state["length"]["steps"] == 4 * per_epoch
    result = done["result"]
    assert (result["steps"], result["epochs"], result["images"]) == (4 * per_epoch, 4.0, 16 * per_epoch)
    assert done["machine"]["precision"] == "fp32" and done["machine"]["torch"] == torch.__version__
    with folder.file("history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in history] == [1, 2, 3, 4]
    assert [int(row["step"]) for row in history] == [per_epoch * n for n in (1, 2, 3, 4)]
    assert float(history[-1]["loss"]) == result["loss"] < 0.9 * float(history[0]["loss"])


def test_the_average_of_the_weights_is_what_is_kept(tiny, undisturbed, tmp_path, monkeypatch):
    def copy(average: Average, step: int) -> None:
        for kept, live in zip(average._average, average._live, strict=True):
            kept.copy_(live)

    train(tiny, tmp_path / "last", tiny.changed(train={"ema": 0, "keep": "last"}))
    monkeypatch.setattr(Average, "update", copy)
    train(tiny, tmp_path / "copied")
    last, copied, average = (
        load_file(path)
        for path in (
            tmp_path / "last" / "last.safetensors",
            tmp_path / "copied" / "ema.safetensors",
            undisturbed / "ema.safetensors",
        )
    )
    assert last.keys() == average.keys()
    assert torch.equal(last["net.head.weight"], copied["net.head.weight"])  # the average does not change the training
    assert (last["net.head.weight"] - average["net.head.weight"]).abs().max() > 1e-4


def test_a_finished_folder_is_not_trained_again(tiny, undisturbed, monkeypatch):
    def never(*arguments: Any) -> None:
        raise AssertionError("trained although finished")

    monkeypatch.setattr(fold, "make_source", never)
    monkeypatch.setattr(fold, "Trainer", never)
    done = Folder(undisturbed, KEY).done
    assert done is not None
    assert train(tiny, undisturbed) == FoldResult(**done["result"])


def test_a_folder_of_another_key_is_refused(tiny, undisturbed):
    with pytest.raises(UserError, match="holds the result of key"):
        train_fold(
            tiny.competition,
            tiny.recipe,
            1,
            3,
            tiny.dataset.train,
            SAME,
            tiny.folds,
            Folder(undisturbed, replace(KEY, version=2)),
            tiny.machine,
        )


# ---------------------------------------------------------------- what it may see


def test_the_validation_fold_and_dropped_rows_leave_no_trace(tiny, undisturbed, tmp_path):
    images, masks = tiny.dataset.train.images.stacked.copy(), tiny.dataset.train.targets.stacked.copy()
    unseen = (tiny.folds.fold == 1) | (tiny.folds.fold == -1)
    images[unseen], masks[unseen] = 255, 4
    ids = tiny.dataset.train.images.ids
    part = Part("train", Ragged.stack(images, ids), Ragged.stack(masks, ids), "other")
    train(tiny, tmp_path, part=part)
    assert weights(tmp_path) == weights(undisturbed)
    mean = float(load_file(undisturbed / "ema.safetensors")["mean"])
    assert mean == pytest.approx(images[~unseen].mean() / 255, abs=1e-6)
    assert abs(mean - tiny.dataset.train.images.stacked.mean() / 255) > 1e-4


def test_in_a_second_repeat_it_is_that_repeats_fold(tiny, tmp_path):
    again = np.where(tiny.folds.fold < 0, -1, np.arange(24) // 8)
    folds = replace(tiny.folds, fold=np.stack([tiny.folds.fold, again], axis=1))
    recipe = tiny.changed(train={"epochs": 1})
    images = tiny.dataset.train.images.stacked.copy()
    for name, rows in (("as it is", []), ("fold 4", range(8, 16)), ("fold 1", range(1, 24, 3))):
        changed = images.copy()
        changed[list(rows)] = 255
        part = replace(tiny.dataset.train, images=Ragged.stack(changed, tiny.folds.ids))
        train(tiny, tmp_path / name, recipe, fold=4, folds=folds, part=part)
    assert weights(tmp_path / "fold 4") == weights(tmp_path / "as it is") != weights(tmp_path / "fold 1")


def test_labels_of_the_unscored_class_are_not_learnt(tiny, undisturbed, tmp_path):
    masks = tiny.dataset.train.targets.stacked.copy()
    masks[masks == 0] = 255
    ids = tiny.dataset.train.images.ids
    train(tiny, tmp_path, part=Part("train", tiny.dataset.train.images, Ragged.stack(masks, ids), "other"))
    assert weights(tmp_path) == weights(undisturbed)


def test_the_rules_are_kept(tiny, tmp_path):
    raw = tiny.recipe.model_dump(mode="json") | {
        "net": {"name": "unet", "encoder": "resnet18", "pretrained": "required"}
    }
    with pytest.raises(UserError, match="rules say 'pretrained: forbidden'"):
        train(tiny, tmp_path, Recipe.model_validate(raw))
    assert not list(tmp_path.iterdir())


def test_a_loss_that_explodes_says_so_at_once(tiny, tmp_path, every_epoch):
    events: list[dict[str, Any]] = []
    with pytest.raises(UserError, match=r"the loss became nan in epoch \d; set a lower train.lr"):
        train(tiny, tmp_path, tiny.changed(train={"lr": 1e30, "epochs": 50}), emit=events.append)
    assert len(events) < 5 and not (tmp_path / "ema.safetensors").exists()


# ---------------------------------------------------------------- a budget


def test_scoring_the_inner_split_after_every_epoch_is_part_of_the_budget(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(fold, "probe", lambda *arguments: (40.0, 100.0))
    rows, validation = tiny.folds.rows(1)
    recipe = tiny.changed(train={"keep": "best", "inner": 0.25, "ema": 0.0, "rarest_rate": 1})
    aside = len(set_aside(tiny.folds, rows, 0.25, stream("inner", 0, 1))[1])
    per_epoch = (len(rows) - aside) // 4
    # a step takes 4 / 40 s and its share of the images set aside, at 100 a second
    seconds = len(validation) / 100 + 10.5 * (0.1 + aside / 100 / per_epoch)
    result = train(tiny, tmp_path, recipe, seconds=seconds)
    assert result.steps == 10 and read_json(tmp_path / "state.json")["length"]["steps_per_epoch"] == per_epoch


def test_a_budget_becomes_steps_that_a_continued_training_keeps(tiny, tmp_path, every_epoch, monkeypatch):
    monkeypatch.setattr(fold, "probe", lambda *arguments: (40.0, 100.0))
    _, validation = tiny.folds.rows(1)
    # 40 images/s are 10 steps/s; of 2.85 s the 20 images to predict take 0.2, batch norm's 20 batches, in one of the two
    # views, 0.4; half a step of slack
    options: dict[str, Any] = {"seconds": 2.85, "test_images": 20 - len(validation)}
    with pytest.raises(Stop):
        train(tiny, tmp_path, emit=stop_after(2), **options)
    length = read_json(tmp_path / "state.json")["length"]
    assert (length["steps"], length["train_rate"], length["predict_rate"]) == (22, 40.0, 100.0)

    def never(*arguments: Any) -> None:
        raise AssertionError("probed again")

    monkeypatch.setattr(fold, "probe", never)
    result = train(tiny, tmp_path, **options)
    per_epoch = length["steps_per_epoch"]
    assert result.steps == 22 and result.epochs == 22 / per_epoch and 22 % per_epoch  # the last epoch is cut short
    done = json.loads((tmp_path / "done.json").read_text())
    assert done["prediction"] == {"oof": len(validation) / 100, "robust": 0.0, "test": (20 - len(validation)) / 100}
    with (tmp_path / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert int(history[-1]["step"]) == 22 and int(history[-1]["steps"]) == 22 % per_epoch


def test_a_budget_that_is_too_short_still_makes_a_step(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(fold, "probe", lambda *arguments: (40.0, 100.0))
    assert train(tiny, tmp_path, seconds=0.01).steps == 1


def test_the_probe_measures_and_leaves_the_result_alone(tiny, tmp_path):
    recipe = tiny.changed(train={"epochs": 1})
    train(tiny, tmp_path / "plain", recipe)
    real = fold.probe
    length = read_json(tmp_path / "plain" / "state.json")["length"]
    with pytest.MonkeyPatch.context() as patch:

        def probed(*arguments: Any) -> tuple[float, float]:
            rates = real(*arguments)
            assert min(rates) > 0
            return 4.0 * length["steps"] + 2, 1e9  # what one second gives

        patch.setattr(fold, "probe", probed)
        patch.setattr(training_probe, "SECONDS", 0.0)
        patch.setattr(fold.time, "perf_counter", iter(np.arange(1, 1000) * 1e-6).__next__)
        train(tiny, tmp_path / "budget", recipe, seconds=1.0)
    assert weights(tmp_path / "plain") == weights(tmp_path / "budget")


# ---------------------------------------------------------------- the machine


def test_the_precision_is_what_the_processor_really_computes_in(monkeypatch):
    for flags, precision in (({"avx2"}, "fp32"), ({"avx512_bf16"}, "bf16"), ({"amx_bf16", "avx2"}, "bf16")):
        monkeypatch.setattr(machine, "_cpu_flags", lambda flags=flags: flags)
        assert detect("cpu").precision == precision
        assert detect("cpu", "fp32", 3).precision == "fp32" and detect("cpu", threads=3).threads == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *a, **k: True)  # emulation counts there
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    for capability, precision in (((6, 1), "fp32"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((12, 0), "bf16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        found = detect("auto")
        assert (found.device, found.name, found.precision) == ("cuda", "a card", precision)
    assert detect("cuda:1").device == "cuda:1"
    for wrong in ("cuda:2", "cuda:x", "cudax", "cuda1"):
        with pytest.raises(
            UserError, match=f"--device {wrong}: there is no such GPU; allowed: auto, cpu, cuda, cuda:0, c"
        ):
            detect(wrong)


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert detect("auto").device == "cpu"
    with pytest.raises(UserError, match="--device cuda: torch .* sees no CUDA GPU here; use --device cpu"):
        detect("cuda")
    with pytest.raises(UserError, match="--device tpu: not a device; allowed: auto, cpu, cuda"):
        detect("tpu")


def test_reduced_precision_trains_too(tiny, tmp_path):
    result = train(tiny, tmp_path, machine=Machine("cpu", "a test", 1, "bf16"))
    assert np.isfinite(result.loss)
    assert {value.dtype for name, value in load_file(tmp_path / "ema.safetensors").items() if "num_" not in name} == {
        torch.float32
    }


def test_it_can_learn_eight_images_by_heart(tiny, tmp_path):
    rows = np.arange(8)
    train_part = tiny.dataset.train
    number = np.where(np.arange(24) < 8, 0, np.where(np.arange(24) == 23, 1, -1))
    folds = Folds(train_part.images.ids, np.arange(24), np.full(24, ""), number, np.full(24, ""), "", 2)
    raw = tiny.recipe.model_dump(mode="json") | {"augment": {"batch": []}}
    raw["net"] = {"name": "residual_unet", "widths": [8, 16, 32]}
    raw["train"] = {"epochs": 200, "batch": 4, "lr": 5e-3}
    recipe = Recipe.model_validate(raw)
    train(tiny, tmp_path, recipe, folds=folds)
    model = load(recipe, tiny.competition, 1, tmp_path / "ema.safetensors", tiny.machine)
    predict_to(tmp_path / "p.npy", [model], tiny.competition, train_part, rows, SAME, ["identity"], tiny.machine)
    labels = finish([Ragged.open(tmp_path / "p.npy")], [1.0], 0)
    metric = metrics.of(tiny.competition)
    assert metric.value(metric.stats(train_part.targets.stacked[rows, 0], labels.stacked[:, 0])) > 0.95


@pytest.mark.parametrize("fit", [Fit((16, 16), "resize"), Fit((24, 32), "pad"), Fit((16, 16), "tiles", 0.25)])
def test_it_can_learn_images_of_several_sizes_by_heart(tiny, tmp_path, fit):
    """Bright and dark halves; every prediction is of its image's own size and right in nearly all pixels."""
    rng = np.random.default_rng(0)
    images, masks = [], []
    for height, width in [(16, 32), (20, 16), (24, 24), (12, 20)] * 2:
        mask = np.ones((1, height, width), np.uint8)
        mask[:, :, width // 2 :] = 2
        masks.append(mask)
        images.append((mask * 80 + rng.integers(0, 40, mask.shape)).astype(np.uint8))
    shapes, ids = np.array([image.shape for image in images]), np.array([str(i) for i in range(8)])
    made = [Ragged(np.concatenate([item.reshape(-1) for item in items]), shapes, ids) for items in (images, masks)]
    part = Part("train", made[0], made[1], "0")
    folds = Folds(ids, np.arange(8), np.full(8, ""), np.arange(8) % 2, np.full(8, ""), "", 2)
    raw = tiny.recipe.model_dump(mode="json") | {"augment": {"batch": []}}
    raw["train"] = {"epochs": 40, "batch": 2, "lr": 5e-3}
    recipe = Recipe.model_validate(raw)
    train(tiny, tmp_path, recipe, part=part, folds=folds, fit=fit)
    model = load(recipe, tiny.competition, 1, tmp_path / "ema.safetensors", tiny.machine)
    rows = folds.rows(1)[1]
    predict_to(tmp_path / "p.npy", [model], tiny.competition, part, rows, fit, ["identity"], tiny.machine)
    labels = finish([Ragged.open(tmp_path / "p.npy")], [1.0], 0)
    assert labels.shapes.tolist() == shapes[rows].tolist()
    metric = metrics.of(tiny.competition)
    assert metric.value(metrics.image_stats(metric, made[1], labels)) > 0.9


def test_it_can_learn_labels_by_heart(tmp_path, tiny):
    """Three classes told apart by where the bright stripe lies."""
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 3
    images = rng.integers(0, 60, (24, 1, 12, 12))
    for image, label in zip(images, labels, strict=True):
        image[0, :, 4 * label : 4 * label + 4] += 150
    ids = np.array([str(i) for i in range(24)])
    targets = Ragged.stack(labels.astype(np.uint8).reshape(-1, 1, 1, 1), ids)
    part = Part("train", Ragged.stack(images.astype(np.uint8), ids), targets, "0")
    folds = Folds(ids, np.arange(24), np.full(24, ""), np.arange(24) // 12, np.full(24, ""), "", 2)
    changes = {"task": "classification", "classes": ["left", "middle", "right"], "unscored": None, "submission": None}
    raw = tiny.competition.model_dump(mode="json") | changes | {"metric": {"name": "accuracy"}}
    competition = Competition.model_validate(raw)
    recipe = Recipe.model_validate(
        {
            "name": "labels",
            "net": {"name": "small_cnn", "widths": [8, 16]},
            "augment": {"batch": []},
            "train": {"epochs": 60, "batch": 6, "lr": 1e-2},
        }
    )
    fit = Fit((12, 12), "same")
    folder = Folder(tmp_path, KEY)
    train_fold(competition, recipe, 1, 0, part, fit, folds, folder, tiny.machine)
    model = load(recipe, competition, 1, tmp_path / "ema.safetensors", tiny.machine)
    predict_to(tmp_path / "p.npy", [model], competition, part, np.arange(24), fit, ["identity"], tiny.machine)
    told = finish([Ragged.open(tmp_path / "p.npy")], [1.0], None)
    metric = metrics.of(competition)
    assert metric.value(metrics.image_stats(metric, targets, told)) > 0.9
