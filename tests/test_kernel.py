"""podium kernel: the real command on a small competition, and its script in processes of our own."""

from __future__ import annotations

import ast
import csv
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from podium.config_file import load_competition
from podium.data.fit import Fit
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.kernel import make, packages
from podium.kernel.bundle import Names
from podium.kernel.rehearse import Rehearsed, different, rehearse
from podium.prepare import Options
from podium.remembered import last_options
from project import COMPETITION, SOURCE, make_project, podium, podium_json

RUN = ("--set", "train.epochs=2", "--set", "blend.decode=true", "--precision", "fp32", "--threads", "1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A project after a run with two models and ``podium kernel``."""
    root = make_project(tmp_path_factory.mktemp("made"))
    podium_json(root, "run", "tiny", "--models", "small,other", *RUN)
    return root, podium_json(root, "kernel", "tiny", "--user", "me")


def attach(folder: Path, dataset: Path | None, test: np.ndarray) -> Path:
    """A /kaggle with a data set and a competition whose file holds nothing but these test images."""
    kaggle = folder / "kaggle"
    (kaggle / "working").mkdir(parents=True)
    data = kaggle / "input" / "competitions" / "tiny-competition"
    data.mkdir(parents=True)
    np.savez(data / "tiny.npz", allow_pickle=False, test=test)
    if dataset is not None:
        shutil.copytree(dataset, kaggle / "input" / "datasets" / "me" / "podium-tiny-weights")
    return kaggle


def call(script: str | Path, kaggle: Path) -> subprocess.CompletedProcess[str]:
    """The script, as Kaggle calls it, in a process that knows nothing of this checkout."""
    env = {"PATH": os.environ["PATH"], "HOME": str(kaggle), "PODIUM_KAGGLE_ROOT": str(kaggle), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-I", str(script)]
    return subprocess.run(command, cwd=kaggle / "working", env=env, capture_output=True, text=True, timeout=300)


def rows_of(path: str | Path) -> dict[str, list[str]]:
    with open(path, newline="") as file:
        return {row[0]: row[1:] for row in list(csv.reader(file))[1:]}


def test_the_rehearsed_file_is_the_packed_one(made: tuple[Path, dict[str, Any]]) -> None:
    root, kernel = made
    assert kernel["different"] == 0 and kernel["images"] == 7
    assert Path(kernel["packed"]).parent == root / "submissions" and Path(kernel["packed"]).is_file()
    assert len(list((root / "submissions").glob("tiny-*.csv"))) == 1  # that of the run: nothing was packed twice
    beside = sorted(path.name for path in (root / "submissions").iterdir())
    assert beside == sorted([Path(kernel["folder"]).name, Path(kernel["packed"]).name, "ledger.csv"])


def test_what_is_uploaded(made: tuple[Path, dict[str, Any]]) -> None:
    root, kernel = made
    dataset, pushed = (Path(kernel["folder"]) / name for name in ("dataset", "kernel"))
    assert not [path for path in dataset.iterdir() if path.is_dir()]  # Kaggle's command line leaves folders out
    about = json.loads((dataset / "dataset-metadata.json").read_text())
    assert about == {"title": "podium tiny weights", "id": "me/podium-tiny-weights", "licenses": [{"name": "other"}]}
    told = json.loads((pushed / "kernel-metadata.json").read_text())
    assert told["id"] == "me/podium-tiny" and told["title"] == "podium tiny"
    assert told["enable_internet"] is False and told["enable_gpu"] is True
    assert told["competition_sources"] == ["tiny-competition"] and told["dataset_sources"] == [about["id"]]
    assert (told["kernel_type"], told["language"], told["code_file"]) == ("script", "python", "inference.py")
    ast.parse((pushed / "inference.py").read_text())

    weights = sorted(path.name for path in dataset.glob("*.safetensors"))
    assert len(weights) == 2 * 3
    for path in (root / "runs" / "tiny").glob("*-*/fold*/ema.safetensors"):
        run, fold = path.parts[-3:-1]
        assert (dataset / f"{run}-{fold}.safetensors").read_bytes() == path.read_bytes()
    with zipfile.ZipFile(dataset / "podium.pyz") as archive:
        names = archive.namelist()
    assert "podium/kernel/infer.py" in names and all(name.endswith(".py") for name in names)
    needs = (dataset / "needs.txt").read_text().split()
    assert (dataset / "wheels.txt").read_text().split() == [line for line in needs if line.startswith("ttach==")]
    assert {line.partition("==")[0] for line in needs} <= packages.DIRECT and any(
        "safetensors" in line for line in needs
    )
    assert kernel["commands"][0] == packages.download(dataset)
    readme = (Path(kernel["folder"]) / "README.md").read_text()
    assert all(command in readme for command in kernel["commands"])


def test_hidden_images_are_read_anew(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Some of the test images in another order: each gets the labels that it has in the packed file."""
    root, kernel = made
    test = np.load(root / "data" / "tiny" / "tiny.npz")["test"]
    order = [5, 2, 6, 2]
    kaggle = attach(tmp_path, Path(kernel["folder"]) / "dataset", test[order])
    done = call(Path(kernel["folder"]) / "kernel" / "inference.py", kaggle)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (kaggle / "working").iterdir()] == ["submission.csv"]
    packed, written = rows_of(kernel["packed"]), rows_of(kaggle / "working" / "submission.csv")
    assert list(written) == ["0", "1", "2", "3"]
    assert [written[str(i)] for i in range(4)] == [packed[str(row)] for row in order]


def test_a_script_without_its_own_data_set_says_so(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    root, kernel = made
    test = np.load(root / "data" / "tiny" / "tiny.npz")["test"]
    script = Path(kernel["folder"]) / "kernel" / "inference.py"
    done = call(script, attach(tmp_path / "none", None, test))
    assert done.returncode == 1 and "is not attached, none is; add its latest version" in done.stderr
    other = attach(tmp_path / "other", Path(kernel["folder"]) / "dataset", test)
    (told,) = other.glob("input/datasets/me/*/kernel.json")
    told.write_text(json.dumps(json.loads(told.read_text()) | {"id": "0" * 16}))
    done = call(script, other)
    assert done.returncode == 1 and "1 others are" in done.stderr and "Traceback" not in done.stderr


def test_images_that_the_nets_do_not_fit_and_packages_that_are_lacking(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    _, kernel = made
    script = Path(kernel["folder"]) / "kernel" / "inference.py"
    kaggle = attach(tmp_path, Path(kernel["folder"]) / "dataset", np.zeros((2, 20, 24), np.uint8))
    done = call(script, kaggle)
    assert done.returncode == 2 and done.stderr.strip().splitlines()[-1].startswith("podium: test image '0' is 20 x 24")
    assert not list((kaggle / "working").iterdir())
    (needs,) = kaggle.glob("input/datasets/me/*/needs.txt")
    needs.write_text("no-such-package-anywhere==1.0\n")
    done = call(script, kaggle)
    assert done.returncode == 1 and "this image lacks no-such-package-anywhere==1.0; put their wheels" in done.stderr


def test_a_second_call_makes_nothing_and_other_models_make_another(made: tuple[Path, dict[str, Any]]) -> None:
    root, kernel = made
    again = podium(root, "kernel", "tiny", "--user", "me", "--json")
    assert again.returncode == 0 and "is there already, rehearsed" in again.stderr
    assert json.loads(again.stdout) == kernel
    one = podium_json(
        root, "kernel", "tiny", "--user", "me", "--models", "other", "--title", "Tiny, alone!", "--no-gpu"
    )
    assert one["folder"] != kernel["folder"] and len(one["models"]) == 1 and one["different"] == 0
    told = json.loads((Path(one["folder"]) / "kernel" / "kernel-metadata.json").read_text())
    assert told["id"] == "me/tiny-alone" and told["enable_gpu"] is False
    assert len(list((Path(one["folder"]) / "dataset").glob("*.safetensors"))) == 3


def test_weights_that_weigh_nothing_stay_at_home(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    root = Path(shutil.copytree(made[0], tmp_path / "project"))
    podium_json(root, "blend", "tiny", "--method", "single", "--pack")
    kernel = podium_json(root, "kernel", "tiny", "--user", "me")
    assert len(kernel["models"]) == 1 and kernel["different"] == 0
    assert len(list((Path(kernel["folder"]) / "dataset").glob("*.safetensors"))) == 3


def test_a_file_that_is_not_the_packed_one_is_refused(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(made[0], tmp_path / "project"))
    for there in (root / "submissions").glob("kernel-*"):
        shutil.rmtree(there)
    monkeypatch.setenv("PODIUM_ROOT", str(root))
    before = sorted((root / "submissions").iterdir())

    def another(*arguments: Any) -> Rehearsed:
        arguments[-1].write_text("what it said")
        masks = np.ones((7, 1, 16, 24), np.uint8)
        return Rehearsed(b"", Ragged.stack(masks, [str(i) for i in range(7)]), {})

    monkeypatch.setattr(make, "rehearse", another)
    options = last_options("tiny", Options())
    with pytest.raises(UserError, match=r"the kernel's file is not what was packed, .*% of its labels differ; .*\.log"):
        make.make_kernel("tiny", options, (), Names("me", "podium tiny", True), lambda text: None)
    left = [path for path in sorted((root / "submissions").iterdir()) if path not in before]
    assert [path.suffix for path in left] == [".log"]


def test_a_script_that_fails_is_told_of(tmp_path: Path) -> None:
    for name in ("kernel", "dataset", "data"):
        (tmp_path / name).mkdir()
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "held = sorted(path.name for path in Path(os.environ['PODIUM_KAGGLE_ROOT'], 'input').iterdir())\n"
        "known = [name for name in os.environ if name.startswith(('SECRET', 'PODIUM_ROOT'))]\n"
        "print(held, known, os.environ['PYTHONPATH'], os.environ['https_proxy'])\n"
        "sys.exit('no more')\n"
    )
    (tmp_path / "kernel" / "inference.py").write_text(script)
    os.environ["SECRET"] = "1"
    try:
        with pytest.raises(UserError, match="exit code 1, its last words: no more"):
            rehearse(tmp_path, tmp_path / "data", "the-slug", "the-weights", tmp_path / "log")
    finally:
        del os.environ["SECRET"]
    said = (tmp_path / "log").read_text().splitlines()
    assert said == ["['the-slug', 'the-weights'] []  http://127.0.0.1:9", "no more"]


def test_how_much_two_predictions_differ() -> None:
    ours = Ragged.stack(np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2), ["a", "b"])
    turned = Ragged.stack(np.array([4, 5, 6, 7, 0, 1, 2, 9], np.uint8).reshape(2, 1, 2, 2), ["b", "a"])
    assert different(ours, ours) == 0 and different(ours, turned) == 1 / 8
    numbers = Ragged.stack(np.array([1.0, 2.0], np.float32).reshape(2, 1, 1, 1), ["a", "b"])
    close = Ragged.stack(np.array([1.0001, 2.1], np.float32).reshape(2, 1, 1, 1), ["a", "b"])
    assert different(numbers, close) == 1 / 2
    with pytest.raises(UserError, match="other images"):
        different(ours, Ragged.stack(ours.stacked, ["a", "c"]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--user: there is neither"),
        (("--user", "me", "--title", "x"), "--title 'x': Kaggle wants 6 to 42 characters"),
        (("--user", "me", "--models", "smal"), "--models smal: no such model"),
        (("--user", "me", "--set", "x=1"), "No such option: --set"),
    ],
)
def test_a_wrong_call_gets_one_sentence(
    made: tuple[Path, dict[str, Any]], arguments: tuple[str, ...], words: str
) -> None:
    done = podium(made[0], "kernel", "tiny", *arguments)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


def test_what_is_lacking_gets_one_sentence(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    empty = make_project(tmp_path / "empty")
    done = podium(empty, "kernel", "tiny", "--user", "me")
    assert done.returncode == 2 and "there is no finished run" in done.stderr and not (empty / "submissions").exists()
    root = Path(shutil.copytree(made[0], tmp_path / "project"))
    path = root / "configs" / "competitions" / "tiny.yaml"
    text = path.read_text()
    path.write_text(text.replace("kaggle: tiny-competition\n", ""))
    done = podium(root, "kernel", "tiny", "--user", "me")
    assert done.returncode == 2 and "its configuration has no 'kaggle'" in done.stderr
    path.write_text(text)
    shutil.rmtree(next((root / "runs" / "tiny").glob("small-*/fold1")))
    done = podium(root, "kernel", "tiny", "--user", "me")
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_the_user_name_and_nothing_else_comes_from_kaggle_json(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    root = Path(shutil.copytree(made[0], tmp_path / "project"))
    home = root / "home" / ".kaggle"
    home.mkdir(parents=True)
    (home / "kaggle.json").write_text(json.dumps({"username": "someone", "key": "s3cret"}))
    done = podium(root, "kernel", "tiny")
    assert done.returncode == 0, done.stderr
    assert "s3cret" not in done.stdout + done.stderr and "someone/podium-tiny" in done.stdout
    assert all(b"s3cret" not in path.read_bytes() for path in (root / "submissions").rglob("*") if path.is_file())


def test_images_of_other_sizes_come_to_the_nets_size_as_configured(tmp_path: Path) -> None:
    """Of one size locally; the hidden ones are not: with data.fit they are resized, as local ones would have been."""
    from podium.kernel.infer import _fit

    told = {"size": [16, 24], "how": "same", "overlap": 0.25}
    fitted = COMPETITION.replace("  file: tiny.npz", "  file: tiny.npz\n  fit: {size: [16, 24], how: resize}")
    (tmp_path / "tiny.yaml").write_text(fitted)
    competition = load_competition(tmp_path / "tiny.yaml")
    small, large = (Ragged.stack(np.zeros((2, 1, *size), np.uint8), ["a", "b"]) for size in ((16, 24), (32, 48)))
    assert _fit(told, competition, Part("test", small, None, "")).how == "same"
    assert _fit(told, competition, Part("test", large, None, "")) == Fit((16, 24), "resize", 0.25)
    tiles = {"size": [16, 24], "how": "tiles", "overlap": 0.5}  # as it was planned, whatever these are
    assert _fit(tiles, competition, Part("test", small, None, "")) == Fit((16, 24), "tiles", 0.5)


def test_what_kaggle_lacks_is_pinned() -> None:
    loaded = {"torch": "2.12.1+cpu", "ttach": "0.0.3", "segmentation_models_pytorch": "0.6.0", "timm": "1.0.31+local"}
    needed = packages.needs(loaded | {"podium-cv": "1.0", "opencv-python-headless": "5.0", "httpx2": "2.16.2"})
    assert needed == ["segmentation-models-pytorch==0.6.0", "timm==1.0.31", "ttach==0.0.3"]
    assert packages.wheels(needed) == ["segmentation-models-pytorch==0.6.0", "ttach==0.0.3"]


def test_every_direct_dependency_is_thought_of() -> None:
    """One that is new in pyproject.toml must be sorted: imported to predict, every image's own, or of no use there."""
    project = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    direct = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    own = {"torch", "torchvision", "numpy", "scipy", "opencv-python-headless"}
    training = {"albumentations", "pandas", "typer", "rich", "optuna", "matplotlib", "kaggle", "six", "scikit-learn"}
    assert packages.DIRECT | own | training | {"onnx", "onnxscript", "onnxruntime"} == direct
    assert packages.IMAGE_LACKS <= packages.DIRECT


def test_a_name_that_kaggle_cannot_have_is_refused() -> None:
    Names("me_2", "podium mars", True).check()
    with pytest.raises(UserError, match=r"--user 'me/you': a name on Kaggle has letters, digits, - and _"):
        Names("me/you", "podium mars", True).check()
