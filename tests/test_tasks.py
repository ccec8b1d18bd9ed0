"""Several answers per image, grades and numbers: a small competition of each, through the real command."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from podium.config import Competition
from podium.config_loss import LossSettings
from podium.data.kinds import kinds
from podium.data.ragged import Ragged
from podium.decode import finish, mean
from podium.losses import build as build_loss
from project import podium, podium_json

COMMON = """
format: table
train: {file: train.csv, pixels: p, TARGET}
test: {file: test.csv, pixels: p}
shape: [12, 12]
"""
RECIPE = """
net: {name: small_cnn, widths: [8, 12]}
LOSS
augment: {batch: [flip_h, flip_v]}
train: {epochs: EPOCHS, batch: 8, lr: 1e-2}
predict: {views: [identity, vflip]}
"""


def project(
    root: Path,
    competition: str,
    target: str,
    columns: list[str],
    rows: list[list[Any]],
    images: np.ndarray,
    loss: str = "",
    epochs: int = 24,
) -> Path:
    """A competition from its YAML and the rows of its table: those without a target are the test images."""
    data = root / "data" / "tiny"
    data.mkdir(parents=True)
    pixels = [f"p{i}" for i in range(144)]
    for part, header in (("train", [*columns, *pixels]), ("test", pixels)):
        with (data / f"{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            some = range(len(rows)) if part == "train" else range(len(rows), len(images))
            for i in some:
                writer.writerow([*(rows[i] if part == "train" else []), *images[i].reshape(-1).tolist()])
    layout = COMMON.replace("TARGET", target).strip().replace("\n", "\n  ")
    texts = {
        "competitions/tiny": f"name: tiny\ndata:\n  {layout}\nfolds: {{count: 3}}\nmodels: [small]\n{competition}",
        "models/small": RECIPE.replace("LOSS", loss).replace("EPOCHS", str(epochs)),
    }
    for name, text in texts.items():
        path = root / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def marked(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (n, 12, 12) with a bright square at the top, a dark one at the bottom, both or none; answers (n, 2)."""
    rng = np.random.default_rng(seed)
    answers = np.stack([np.arange(n) % 2, np.arange(n) // 2 % 4 == 0], axis=1).astype(int)
    images = rng.integers(90, 120, (n, 12, 12))
    for image, (bright, dark) in zip(images, answers, strict=True):
        x = rng.integers(1, 8)
        if bright:
            image[1:5, x : x + 4] = 220
        if dark:
            image[7:11, x : x + 4] = 20
    return images, answers


def dotted(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures with as many bright columns as their grade, 0 to 3."""
    rng = np.random.default_rng(1)
    grades = np.arange(n) % 4
    images = rng.integers(60, 90, (n, 12, 12))
    for image, grade in zip(images, grades, strict=True):
        image[:, rng.permutation(12)[: 2 * grade]] = 200
    return images, grades


QUESTIONS = """
task: multilabel
classes: [bright, dark]
metric: {name: macro_f1}
submission: {format: label_csv, STYLE}
"""


@pytest.mark.parametrize("joined", [False, True])
def test_several_answers_per_image(tmp_path: Path, joined: bool) -> None:
    images, answers = marked(60)
    names = np.array(["bright", "dark"])
    rows = [[" ".join(names[row == 1])] for row in answers[:52]] if joined else answers[:52].tolist()
    target, columns = ("target: what", ["what"]) if joined else ("id: null", ["bright", "dark"])
    style = "style: joined, names: true" if joined else "style: columns"
    root = project(tmp_path, QUESTIONS.replace("STYLE", style), target, columns, rows, images)
    board = podium_json(root, "run", "tiny")
    assert board["metric"] == "macro_f1"
    model, blend = board["rows"]
    assert set(model["parts"]) == {"bright", "dark"} and model["score"] > 0.9 and blend["score"] > 0.85
    chosen = json.loads(next((root / "runs/tiny").glob("blend-*/decode.json")).read_text())
    assert chosen["nested"] == pytest.approx(blend["score"])
    for step in chosen["steps"]:  # there may be none: of so few images little can be told
        assert step["step"] == "points" and len(step["value"]) == 2 and all(0 < point < 1 for point in step["value"])
    assert sum("decoding: points" in note for note in board["notes"]) == len(chosen["steps"])
    lines = Path(board["submission"]).read_text().splitlines()
    assert len(lines) == 9
    told = [line.split(",")[1:] for line in lines[1:]]
    truth = [[" ".join(names[row == 1])] if joined else [str(n) for n in row] for row in answers[52:]]
    assert sum(a == b for a, b in zip(told, truth, strict=True)) >= 6
    run = next((root / "runs" / "tiny").glob("small-*"))
    predicted = Ragged.open(next(run.glob("fold0/oof-*/oof.npy")))
    assert predicted.stacked.shape[1:] == (2, 2, 1)  # no and yes to two questions
    assert np.allclose(predicted.stacked.astype(float).sum(1), 1, atol=2e-3)
    assert podium_json(root, "check", "tiny", board["submission"])["valid"] is True
    assert podium(root, "fold", "tiny").returncode == 0 and podium(root, "audit", "tiny").returncode == 0


GRADES = """
task: regression
classes: [none, few, some, many]
metric: {name: kappa}
submission: {format: label_csv, label: grade}
"""


def test_grades_are_cut_from_a_number_and_the_cuts_are_nested(tmp_path: Path) -> None:
    images, grades = dotted(60)
    loss = "loss: {terms: [huber]}"
    rows = [[int(grade)] for grade in grades[:52]]
    root = project(tmp_path, GRADES, "target: grade", ["grade"], rows, images, loss)
    board = podium_json(root, "run", "tiny")
    assert board["metric"] == "kappa (quadratic)" and board["rows"][-1]["score"] > 0.8
    chosen = json.loads(next((root / "runs/tiny").glob("blend-*/decode.json")).read_text())
    assert chosen["nested"] == pytest.approx(board["rows"][-1]["score"])
    for step in chosen["steps"]:
        assert len(step["value"]) == 3 and step["value"] == sorted(step["value"])
    told = [int(line.split(",")[1]) for line in Path(board["submission"]).read_text().splitlines()[1:]]
    assert np.abs(np.array(told) - grades[52:]).mean() <= 0.5
    values = Ragged.open(next((root / "runs" / "tiny").glob("small-*/fold0/oof-*/oof.npy")))
    assert values.values.dtype == np.float32 and values.stacked.shape[1:] == (1, 1, 1)
    assert len(set(values.values.tolist())) > 10  # numbers, not grades


NUMBERS = """
task: regression
metric: {name: rmse}
submission: {format: label_csv, label: size}
"""


def test_numbers_are_learnt_in_their_own_unit(tmp_path: Path) -> None:
    images, grades = dotted(60)
    sizes = 1000.0 + 50.0 * grades
    rows = [[size] for size in sizes[:52]]
    loss = "loss: {terms: [mse]}"
    root = project(tmp_path, NUMBERS, "target: size", ["size"], rows, images, loss)
    board = podium_json(root, "run", "tiny")
    assert board["metric"] == "rmse" and board["rows"][0]["score"] < 40  # the mean alone would have 56
    told = [float(line.split(",")[1]) for line in Path(board["submission"]).read_text().splitlines()[1:]]
    assert np.abs(np.array(told) - sizes[52:]).mean() < 40
    assert not any("thresholds" in note for note in board["notes"])


@pytest.mark.parametrize(
    ("competition", "loss", "said"),
    [
        (NUMBERS, "", "'cross_entropy' is of classes, and the task is regression; use any of mse, huber"),
        (NUMBERS, "loss: {terms: [mse], weight_power: 0.25}", "loss.weight_power: weighs classes"),
        (
            QUESTIONS.replace("STYLE", "style: columns"),
            "loss: {terms: [mse]}",
            "'mse' is of numbers, and the task is multilabel",
        ),
        (QUESTIONS.replace("STYLE", "style: columns"), "loss: {terms: [dice]}", "'dice' compares regions"),
    ],
)
def test_a_recipe_of_another_task_is_refused(tmp_path: Path, competition: str, loss: str, said: str) -> None:
    images, answers = marked(12)
    columns = ["size"] if "rmse" in competition else ["bright", "dark"]
    target = "target: size" if "rmse" in competition else "id: null"
    root = project(tmp_path, competition, target, columns, answers[:9, : len(columns)].tolist(), images, loss)
    done = podium(root, "run", "tiny")
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_a_bad_cell_is_named_with_its_line(tmp_path: Path) -> None:
    images, answers = marked(12)
    rows: list[list[Any]] = answers[:9].tolist()
    rows[4] = [1, "maybe"]
    root = project(tmp_path, QUESTIONS.replace("STYLE", "style: columns"), "id: null", ["bright", "dark"], rows, images)
    done = podium(root, "run", "tiny")
    assert done.returncode == 2 and "line 6" in done.stderr and "'maybe' in column 'dark'" in done.stderr


# ---------------------------------------------------------------- by hand


def competition(**more: Any) -> Competition:
    base: dict[str, Any] = {
        "name": "tiny",
        "data": {"format": "npz", "file": "a.npz", "train": {"image": {"key": "x"}, "target": {"key": "y"}}},
        "models": ["small"],
    }
    return Competition.model_validate(base | more)


def test_questions_become_the_classes_that_an_image_holds() -> None:
    given = Ragged.stack(np.array([[1, 0, 255], [0, 0, 0], [1, 1, 1]], np.uint8).reshape(3, 1, 3, 1), ["a", "b", "c"])
    asked = competition(task="multilabel", classes=["x", "y", "z"], metric={"name": "macro_f1"})
    found, names = kinds(given, asked)
    assert names == ("x", "y", "z")
    assert found.stacked[:, 0, :, 0].tolist() == [[0, 255, 255], [255, 255, 255], [0, 1, 2]]


def test_numbers_become_tenths() -> None:
    given = Ragged.stack(np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1), [str(i) for i in range(40)])
    found, names = kinds(given, competition(task="regression", metric={"name": "rmse"}))
    assert len(names) == 10 and np.bincount(found.values).tolist() == [4] * 10
    constant = Ragged.stack(np.full((3, 1, 1, 1), 2.5, np.float32), ["a", "b", "c"])
    found, names = kinds(constant, competition(task="regression", metric={"name": "rmse"}))
    assert names == ("2.5",) and found.values.tolist() == [0, 0, 0]


def test_answers_and_grades_are_decoded_at_their_points() -> None:
    yes = np.array([[0.2, 0.7], [0.5, 0.5]], np.float16)
    volume = Ragged.stack(np.stack([1 - yes, yes], axis=1)[..., None], ["a", "b"])
    assert finish([volume], [1.0], None).stacked[:, 0, :, 0].tolist() == [[0, 1], [0, 0]]
    assert finish([volume], [1.0], None, (0.1, 0.8)).stacked[:, 0, :, 0].tolist() == [[1, 0], [1, 0]]
    numbers = Ragged.stack(np.array([-1.0, 0.49, 0.5, 1.7, 9.0], np.float32).reshape(5, 1, 1, 1), list("abcde"))
    assert finish([numbers], [1.0], None, (0.5, 1.5)).values.tolist() == [0, 0, 1, 2, 2]
    kept = finish([numbers, numbers], [0.25, 0.75], None)
    assert kept.values.dtype == np.float32 and kept.values.tolist() == numbers.values.tolist()
    assert np.allclose(mean([volume], [1.0], None).stacked[:, 1, :, 0], yes)


def test_losses_of_numbers_by_hand() -> None:
    targets = torch.tensor([2.0, 4.0, float("nan")]).view(3, 1, 1)
    answers = torch.tensor([3.0, 10.0, 7.0]).view(3, 1, 1, 1).requires_grad_()
    cpu, none = torch.device("cpu"), torch.zeros(1)
    mse = build_loss(LossSettings.model_validate({"terms": ["mse"]}), none, "regression", cpu, unit=2.0)
    loss = mse(answers, targets)
    assert loss.item() == pytest.approx(((1 / 2) ** 2 + (6 / 2) ** 2) / 2)
    loss.backward()  # type: ignore[no-untyped-call]
    assert answers.grad is not None and answers.grad.flatten().tolist() == pytest.approx([0.25, 1.5, 0.0])
    huber = build_loss(
        LossSettings.model_validate({"terms": [{"name": "huber", "delta": 2.0}]}), none, "regression", cpu, unit=2.0
    )
    assert huber(answers, targets).item() == pytest.approx((0.5 * 0.25 + 2 * (3 - 1)) / 2)
    other, share = torch.tensor([4.0, float("nan"), 7.0]).view(3, 1, 1), torch.tensor([0.5, 0.25, 1.0])
    mixed = mse(answers, targets, other, share)
    weights = 0.5 + 0.5 + 0.75 + 0 + 0 + 1.0
    assert mixed.item() == pytest.approx((0.5 * 0.25 + 0.5 * 0.25 + 0.75 * 9.0 + 1.0 * 0.0) / weights)
    pieces = sum(
        mse(
            answers[i : i + 1], targets[i : i + 1], other[i : i + 1], share[i : i + 1], mse.total(targets, other, share)
        ).item()
        for i in range(3)
    )
    assert pieces == pytest.approx(mixed.item())
    nothing = mse(answers, torch.full((3, 1, 1), float("nan")))
    assert nothing.item() == 0 and torch.isfinite(nothing)
