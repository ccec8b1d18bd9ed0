"""A submission that is code through the real command: run, pack again, check, refuse; and in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from by_hand import by_hand
from podium import blending
from podium.config_blend import BlendSettings
from podium.config_file import load_recipe
from podium.errors import UserError
from podium.prepare import Options
from podium.submission import ledger
from podium.submission.model_zip import archive
from project import podium, podium_json

SHAPES = """
name: shapes
task: classification
data:
  format: npz
  file: shapes.npz
  train: {image: {key: images}, target: {key: labels}}
classes: [disc, stripes, plain]
metric: {name: accuracy}
folds: {count: FOLDS}
blend: {method: uniform, mean: MEAN, decode: false}
submission: {format: model_zip, batch: 8}
models: [first, second]
"""

FIRST = """
net: {name: small_cnn, widths: [4, 8]}
augment: {batch: [flip_h]}
train: {epochs: 3, batch: 8, lr: 1e-2}
predict: {views: [identity, hflip, rot90, antitranspose]}
"""

SECOND = """
like: first
net: {name: small_cnn, widths: [6, 6], stem: 2}
train: {keep: last}
predict: {views: [identity]}
"""

SIDE, CLASSES = 16, 3


def project(root: Path, folds: int, mean: str = "arithmetic") -> Path:
    """Pictures of three kinds, 10 of each, in a project of two recipes."""
    competition = SHAPES.replace("FOLDS", str(folds)).replace("MEAN", mean)
    for name, text in (("competitions/shapes", competition), ("models/first", FIRST), ("models/second", SECOND)):
        path = root / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    rng = np.random.default_rng(0)
    labels = np.arange(30) % CLASSES
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    marks = [(x**2 + y**2 < rng.uniform(15, 40)) if k == 0 else (x // 2 % 2 == 1) & (k == 1) for k in labels]
    images = np.stack(marks)[..., None] * rng.uniform(60, 160, (30, 1, 1, 3)) + rng.uniform(0, 90, (30, SIDE, SIDE, 3))
    images[:, 0, 0, 0] = np.arange(30)  # no two are copies
    (root / "data" / "shapes").mkdir(parents=True)
    np.savez(root / "data" / "shapes" / "shapes.npz", images=images.astype(np.uint8), labels=labels[:, None])
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("shapes"), 2)


@pytest.fixture(scope="module")
def board(root: Path) -> Any:
    return podium_json(root, "run", "shapes")


def naive(root: Path, images: np.ndarray) -> np.ndarray:
    """The uniform arithmetic blend of all folds of both recipes, by hand."""
    total = np.zeros((len(images), CLASSES))
    for name in ("first", "second"):
        recipe = load_recipe(root / "configs" / "models" / f"{name}.yaml", [])
        (run,) = (root / "runs" / "shapes").glob(f"{name}-*")
        weights = sorted(run.glob(f"fold*/{recipe.train.keep}.safetensors"))
        total += by_hand(recipe, weights, images, CLASSES) / 2
    return total


def answers(python: str, file: Path, images: np.ndarray, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities that an unpacked file gives under an interpreter of its own."""
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "model")
    np.save(folder / "X.npy", images)
    program = (
        "import sys, numpy as np\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from model import Model\n"
        "model, X = Model(), np.load('X.npy')\n"
        "np.save('labels.npy', model.predict(X.astype(np.float64)))\n"
        "np.save('probabilities.npy', model.probabilities(X))\n"
        "assert not {'torch', 'podium'} & set(sys.modules)\n"
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [python, "-c", program, str(folder / "model")]
    done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(folder / "labels.npy"), np.load(folder / "probabilities.npy")


def agree(root: Path, found: tuple[np.ndarray, np.ndarray], images: np.ndarray) -> None:
    labels, probabilities = found
    wanted = naive(root, images)
    np.testing.assert_allclose(probabilities, wanted, atol=1e-5)
    np.testing.assert_array_equal(labels, wanted.argmax(1))
    assert labels.dtype == np.int64 and len(set(labels.tolist())) > 1


def images_of(root: Path) -> np.ndarray:
    with np.load(root / "data" / "shapes" / "shapes.npz") as file:
        return np.asarray(file["images"])


def test_a_run_ends_with_a_model_that_answers_as_the_folds_do(root: Path, board: Any, tmp_path: Path) -> None:
    file = Path(board["submission"])
    assert file.parent == root / "submissions" and file.name.startswith("shapes-2") and file.suffix == ".zip"
    assert board["upload"] is None
    (note,) = [text for text in board["notes"] if text.startswith("model_zip")]
    assert note.startswith("model_zip: 4 nets, run where only numpy and onnxruntime are, answer as podium does on 11 ")
    assert "ms per image" in note and "MB of memory at most" in note
    (row,) = ledger.read(root / "submissions" / "ledger.csv")
    assert (row["event"], row["file"], row["message"]) == ("packed", file.name, note)
    assert [name.partition("@")[0] for name in row["models"].split()] == ["first", "second"]
    images = images_of(root)
    agree(root, answers(sys.executable, file, images, tmp_path), images)


def test_what_is_packed_already_is_not_packed_again(root: Path, board: Any) -> None:
    again = podium_json(root, "pack", "shapes")
    assert again["submission"] == board["submission"] and [n for n in again["notes"] if "model_zip" in n]
    assert len(ledger.read(root / "submissions" / "ledger.csv")) == 1


def test_a_file_above_the_limit_is_not_packed(root: Path, board: Any) -> None:
    done = podium(root, "pack", "shapes", "--set", "submission.size_limit=0.001")
    assert done.returncode == 2
    assert "submission.size_limit is 0.001 MB: 2 nets of " in done.stderr and "Traceback" not in done.stderr
    names = {path.name for path in (root / "submissions").iterdir()}
    assert names == {Path(board["submission"]).name, "ledger.csv"}


def test_checking_needs_no_data(root: Path, board: Any, tmp_path: Path) -> None:
    done = podium(root, "check", "shapes", board["submission"], "--out", str(tmp_path))
    assert done.returncode == 0 and "6 files; is in order" in done.stdout
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.writestr("inner/model.py", "class Model: ...")
    done = podium(root, "check", "shapes", str(tmp_path / "bad.zip"), "--json", "--out", str(tmp_path))
    assert done.returncode == 2
    told = json.loads(done.stdout)
    assert told["valid"] is False and "no model.py at the root" in told["report"]["errors"][0]


def test_a_model_that_answers_otherwise_is_rejected(
    root: Path, board: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packing through ``podium blend``, whose own settings make another file of the same models."""
    out = tmp_path / "out"
    shutil.copytree(root / "runs", out / "runs")
    shutil.copytree(root / "folds", out / "folds")
    monkeypatch.setenv("PODIUM_ROOT", str(root))
    wrong = tmp_path / "model.py"
    wrong.write_text(archive.CODE.read_text().replace("np.log(np.maximum", "np.sqrt(np.maximum"))
    said: list[str] = []

    def pack() -> str | None:
        settings = BlendSettings(method="uniform", mean="geometric", decode=False)
        made = blending.blend("shapes", Options(out=out), ["first", "second"], settings, True, said.append)
        return made.submission

    with monkeypatch.context() as patch:
        patch.setattr(archive, "CODE", wrong)
        with pytest.raises(UserError, match=r"\.zip\.rejected: refused when read back: on 11 images as uint8: image"):
            pack()
    folder = out / "submissions"
    assert [path.suffix for path in folder.iterdir()] == [".rejected"]
    assert ledger.read(folder / "ledger.csv") == []
    file = pack()
    assert file is not None and len(ledger.read(folder / "ledger.csv")) == 1
    with zipfile.ZipFile(file) as good:
        assert json.loads(good.read("settings.json"))["mean"] == "geometric"
    assert [text for text in said if text.startswith("model_zip: writing 4 nets as ONNX")]


@pytest.mark.slow
def test_two_models_of_five_folds_in_an_environment_with_only_numpy_and_onnxruntime(tmp_path: Path) -> None:
    root = project(tmp_path / "project", 5)
    board = podium_json(root, "run", "shapes")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = str(tmp_path / "env" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--retries", "1"]
    done = subprocess.run([*pip, "numpy", "onnxruntime"], capture_output=True, text=True)
    if done.returncode != 0:
        reached = subprocess.run([*pip, "--dry-run", "--no-deps", "numpy"], capture_output=True, text=True)
        assert reached.returncode != 0, done.stderr
        pytest.skip(f"pip reaches no registry: {done.stderr.strip().splitlines()[-1]}")
    for name in ("torch", "podium"):
        there = subprocess.run([python, "-I", "-c", f"import {name}"], capture_output=True)
        assert there.returncode != 0
    assert "model_zip: 10 nets" in "".join(board["notes"])
    images = np.concatenate([images_of(root)] * 2)[:-1]
    agree(root, answers(python, Path(board["submission"]), images, tmp_path), images)
