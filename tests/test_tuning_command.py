"""``podium tune`` as a user types it: what it finds, confirms and offers; killed on the way; and bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from podium.config_file import load_competition, load_recipe
from podium.tuning.storage import JOURNAL, open_storage
from podium.tuning.study import ENDED, finished
from project import environment, make_project, podium, podium_json, start

SPACE = """
epochs: 2
space:
  train.lr: {low: 1e-7, high: 3e-2, log: true}
  train.batch: {choices: [4, 8]}
"""
# so slow that nothing is learnt: whatever is found gains
SLOW = """
net: {name: residual_unet, widths: [4, 8]}
augment: {batch: [flip_h]}
train: {epochs: 12, batch: 8, lr: 1e-7}
"""
FAST = ("--precision", "fp32", "--threads", "1")


def project(root: Path, space: str = SPACE, model: str | None = None) -> Path:
    """A project with a search space for its recipe."""
    make_project(root)
    if model is not None:
        (root / "configs" / "models" / "small.yaml").write_text(model)
    (root / "tuning").mkdir()
    (root / "tuning" / "tiny-small.yaml").write_text(space)
    return root


def trials_of(root: Path, name: str = "tiny") -> list[Any]:
    """The trials of a project's only study."""
    import optuna

    (folder,) = (root / "tuning" / "studies").glob(f"{name}-*")
    storage = open_storage(None, folder)
    return optuna.load_study(study_name=folder.name, storage=storage).trials


def test_a_win_on_another_split_is_offered_as_a_recipe(tmp_path: Path) -> None:
    root = project(tmp_path, SPACE.replace("epochs: 2", "epochs: 12"), SLOW)
    found = podium_json(root, "tune", "tiny", "--trials", "8", *FAST)
    assert found["finished"] == 8 and found["failed"] == 0 and found["epochs"] == 12
    assert 1 <= len(found["confirmed"]) <= 3
    for one in found["confirmed"]:
        assert one["gain"] == pytest.approx(one["score"] - one["defaults"])
    won = max(found["confirmed"], key=lambda one: one["gain"] if one["low"] > 0 else -1.0)
    assert won["low"] > 0
    path = Path(found["offered"])
    assert path == root / "configs" / "models" / "small_tuned.yaml"
    best = next(one for one in found["best"] if one["trial"] == won["trial"])
    recipe, own = load_recipe(path), load_recipe(path.with_name("small.yaml"))
    assert recipe.train.lr == best["changes"]["train.lr"] and recipe.train.batch == best["changes"]["train.batch"]
    assert recipe.train.epochs == own.train.epochs and recipe.net == own.net
    head = path.read_text()
    for said in (
        found["study"],
        f"trial {won['trial']} of 8",
        f"{won['score']:.4f}",
        f"{won['gain']:+.4f}",
        "folds.seed 1",
    ):
        assert said in head
    assert len(list((root / "folds").glob("tiny-*.csv"))) == 2
    assert [Path(plot).name for plot in found["plots"]] == ["history.png", "slices.png", "importances.png"]
    assert all(Path(plot).read_bytes().startswith(b"\x89PNG") for plot in found["plots"])
    # the same command finds everything done, and does not write a second file
    before = {path: path.stat().st_mtime_ns for path in (root / "runs").rglob("*.safetensors")}
    again = podium_json(root, "tune", "tiny", "--trials", "8", *FAST)
    assert again == found
    assert {path: path.stat().st_mtime_ns for path in (root / "runs").rglob("*.safetensors")} == before
    assert not (root / "configs" / "models" / "small_tuned2.yaml").exists()


def test_another_space_is_another_study(tmp_path: Path) -> None:
    root = project(tmp_path)
    arguments = ("tune", "tiny", "--set", "train.epochs=1", "--no-confirm", *FAST)
    done = podium(root, *arguments, "--trials", "2", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "no proof" in done.stdout and "optuna-dashboard" in done.stdout
    assert not list((root / "runs" / "tiny").glob("small*")) and len(list((root / "folds").glob("tiny-*.csv"))) == 1
    (study,) = (root / "tuning" / "studies").iterdir()
    (root / "tuning" / "tiny-small.yaml").write_text(SPACE.replace("3e-2", "2e-2"))
    changed = podium(root, *arguments, "--trials", "1")
    assert changed.returncode == 0 and f"{study.name} was of another space" in changed.stderr
    assert len(list((root / "tuning" / "studies").iterdir())) == 2


@pytest.mark.slow
def test_where_nothing_is_better_nothing_is_offered(tmp_path: Path) -> None:
    """The other rates are those at which nothing is learnt."""
    root = project(tmp_path, "space: {train.lr: {choices: [1e-2, 1e-6, 1e-7]}}")
    found = podium_json(root, "tune", "tiny", "--trials", "3", *FAST)
    assert found["confirmed"] and all(one["gain"] < 0 and one["low"] <= 0 for one in found["confirmed"])
    assert found["offered"] is None
    assert {path.name for path in (root / "configs" / "models").iterdir()} == {"small.yaml", "other.yaml"}
    shown = podium(root, "tune", "tiny", "--trials", "3", *FAST)
    assert "nothing is offered" in shown.stdout


def test_results_lie_below_out_and_a_sample_offers_nothing_to_configs(tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    shipped = Path(__file__).resolve().parents[1] / "configs" / "competitions" / "mars.yaml"
    (root / "configs" / "competitions" / "mars.yaml").write_text(shipped.read_text())
    (root / "tuning" / "mars-small.yaml").write_text(SPACE)
    out = tmp_path / "elsewhere"
    found = podium_json(
        root, "tune", "mars", "--model", "small", "--sample", "--trials", "1", "--out", str(out),
        "--set", "train.epochs=1", "--no-confirm", *FAST,
    )  # fmt: skip
    assert found["study"].startswith("mars-sample-small-") and found["offered"] is None
    assert (out / "tuning" / "studies" / found["study"] / JOURNAL).exists()
    assert not (root / "tuning" / "studies").exists() and not (root / "runs").exists()


def test_the_command_itself_does_without_torch(tmp_path: Path) -> None:
    """It plans, watches and scores; torch is for the workers."""
    code = "import sys, podium.tuning.tune; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment(tmp_path)).returncode == 0


BAD: list[tuple[str, tuple[str, ...], list[str]]] = [
    (SPACE.replace("train.lr", "train.lrr"), (), ["tiny-small.yaml", "space.train.lrr", "did you mean 'lr'"]),
    (SPACE.replace("1e-7", "1e-1"), (), ["tiny-small.yaml", "space.train.lr", "swap"]),
    (SPACE.replace("1e-7", "2e-2"), (), ["tiny-small.yaml", "space.train.lr", "0.01"]),
    (SPACE.replace("[4, 8]", "[0, 8]"), (), ["tiny-small.yaml", "space.train.batch", "0"]),
    (SPACE + "folds: [7]\n", (), ["tiny-small.yaml", "'folds'", "fold 7", "0 to 2"]),
    (SPACE, ("--folds", "0,1,2"), ["--folds", "one or two"]),
    (SPACE, ("--folds", "9"), ["fold 9"]),
    (SPACE, ("--model", "smal"), ["smal", "small"]),
    (SPACE, ("--model", "other"), ["tiny-other.yaml", "no search space", "small"]),
    (SPACE, ("--storage", "nothing://host/name"), ["--storage", "nothing"]),
    (SPACE, ("--storage", "sqlite:////nowhere/at/all.db"), ["--storage", "cannot be reached"]),
    (SPACE, ("--budget", "soon"), ["soon", "30m"]),
    (SPACE, ("--set", "train.epochs=many"), ["train.epochs", "many"]),
]


@pytest.mark.parametrize(("space", "arguments", "words"), BAD)
def test_bad_input_ends_with_one_sentence(
    space: str, arguments: tuple[str, ...], words: list[str], tmp_path: Path
) -> None:
    root = project(tmp_path, space)
    done = podium(root, "tune", "tiny", "--trials", "2", *FAST, *arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("podium: ") and all(word in last for word in words), last
    assert not list((root / "tuning").glob("studies/*/trials"))


# ---------------------------------------------------------------- kill -9


def kill_once(root: Path, process: subprocess.Popen[str], said: str) -> None:
    """SIGKILL the command alone, as soon as its messages tell what ``said`` asks for; its workers have to notice."""
    assert process.stderr is not None
    for line in process.stderr:
        if said in line:
            break
    else:
        raise AssertionError(f"it ended before it said '{said}'")
    time.sleep(1.0)  # into the middle of the next training
    os.kill(process.pid, signal.SIGKILL)
    process.stderr.close()
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_tuning_of_the_sample_killed_twice_ends_with_twelve_trials_and_none_twice(
    workers: int, tmp_path: Path
) -> None:
    """On the built-in sample of mars, with the space that is there."""
    root = Path(__file__).resolve().parents[1]
    for name in ("configs", "tuning"):
        (tmp_path / name).mkdir()
    for folder in ("configs/competitions", "configs/models"):
        (tmp_path / folder).mkdir()
        for path in (root / folder).glob("*.yaml"):
            (tmp_path / folder / path.name).write_bytes(path.read_bytes())
    name = f"mars-{load_competition(root / 'configs' / 'competitions' / 'mars.yaml').models[0]}.yaml"
    (tmp_path / "tuning" / name).write_bytes((root / "tuning" / name).read_bytes())
    asked = ("--sample", "--trials", "12", "--workers", str(workers), "--set", "train.epochs=2", "--no-confirm")
    command = ("tune", "mars", *asked, *FAST)
    for trial in ("trial 2", "trial 6"):
        kill_once(tmp_path, start(tmp_path, *command), trial)
    found = podium_json(tmp_path, *command)
    assert found["finished"] == 12
    trials = trials_of(tmp_path, "mars-sample")
    params = [json.dumps(trial.params, sort_keys=True) for trial in finished(trials)]
    assert len(params) == len(set(params)) == 12
    others = [trial for trial in trials if trial not in finished(trials)]
    assert all(trial.state == TrialState.FAIL and ENDED in trial.user_attrs for trial in others)
    assert not list((tmp_path / "tuning" / "studies").rglob("*.safetensors"))
