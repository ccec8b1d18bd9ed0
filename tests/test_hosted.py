"""Hosted notebooks: the real command in a folder that is laid out like Kaggle's, continued from what a former run left."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from podium import hosted
from podium.cli_options import seconds_of
from podium.errors import UserError
from podium.former import find_former
from podium.workspace import find_workspace
from project import SOURCE, make_project

FAST = ("--folds", "0", "--set", "train.epochs=1", "--precision", "fp32", "--json")


def make_kaggle(folder: Path) -> Path:
    """/kaggle: the competition's data, podium itself as a data set that cannot be written, and the working folder."""
    kaggle = folder / "kaggle"
    podium = make_project(kaggle / "input" / "podium")
    shutil.move(podium / "data" / "tiny", kaggle / "input" / "tiny-competition")
    (podium / "data").rmdir()
    for name in ("run_cv.sh", "pyproject.toml", "requirements.txt", "scripts"):
        os.symlink(SOURCE.parent / name, podium / name)
    os.symlink(SOURCE, podium / "src")
    (kaggle / "working").mkdir()
    return kaggle


def run_cv(kaggle: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """``bash run_cv.sh tiny ...`` as a notebook calls it, in a process that inherits next to nothing."""
    home = kaggle.parent / "home"
    home.mkdir(exist_ok=True)
    plain = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(home),
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        "PODIUM_KAGGLE_ROOT": str(kaggle),
        "PODIUM_ROOT": str(kaggle / "input" / "podium"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = ["bash", str(kaggle / "input" / "podium" / "run_cv.sh"), "tiny", *arguments]
    return subprocess.run(
        command, cwd=kaggle / "working", env=plain | more, capture_output=True, text=True, timeout=300, check=False
    )


def board_of(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def contents(folder: Path) -> dict[str, str]:
    """Every file with its hash."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def attach(kaggle: Path, name: str = "my-run") -> Path:
    """The working folder becomes the attached output of a former session; a new one begins."""
    former = kaggle / "input" / name
    shutil.move(kaggle / "working", former)
    (kaggle / "working").mkdir()
    return former


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A /kaggle in which a run on fold 0 is attached, and that run's board."""
    kaggle = make_kaggle(tmp_path_factory.mktemp("finished"))
    before = contents(kaggle / "input")
    board = board_of(run_cv(kaggle, *FAST))
    assert contents(kaggle / "input") == before
    attach(kaggle)
    return kaggle, board


def fresh(finished: tuple[Path, dict[str, Any]], folder: Path) -> Path:
    """A copy, to spoil."""
    return Path(shutil.copytree(finished[0], folder / "kaggle", symlinks=True))


def test_data_come_from_the_input_and_results_go_to_the_working_folder(finished: tuple[Path, dict[str, Any]]) -> None:
    kaggle, board = finished
    assert "Kaggle's input folder" in board["data"] and str(kaggle / "input" / "tiny-competition") in board["data"]
    assert Path(board["submission"]).parent == kaggle / "working" / "submissions"
    assert {"runs", "folds", "submissions"} <= {path.name for path in (kaggle / "input" / "my-run").iterdir()}


def test_a_finished_run_is_gone_on_from_by_itself_and_trains_nothing(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    kaggle = fresh(finished, tmp_path)
    before = contents(kaggle / "input")
    done = run_cv(kaggle, *FAST)
    board = board_of(done)
    assert f"continuing from {kaggle / 'input' / 'my-run'}: 3 finished results taken over" in done.stderr
    assert "epochs, loss" not in done.stderr and "folds: took over" in done.stderr
    assert contents(kaggle / "input") == before
    assert board["rows"] == finished[1]["rows"]
    old = kaggle / "input" / "my-run" / "submissions" / Path(finished[1]["submission"]).name
    assert Path(board["submission"]).read_bytes() == old.read_bytes()
    weights = "runs/tiny/*/fold0/ema.safetensors"
    (theirs,), (mine,) = (list((kaggle / place).glob(weights)) for place in ("input/my-run", "working"))
    assert theirs.read_bytes() == mine.read_bytes() and not mine.is_symlink() and os.stat(mine).st_nlink == 1
    events = (kaggle / "working" / "submissions" / "ledger.csv").read_text().splitlines()
    assert len(events) == 3  # the former run's line is kept, this one's comes after it


def test_an_interrupted_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """Killed in the middle, continued in a new session: the same bits as a run that nothing disturbed."""
    long = ("--folds", "0", "--set", "train.epochs=60", "--precision", "fp32", "--threads", "1", "--json")
    calm, shaken = make_kaggle(tmp_path / "calm"), make_kaggle(tmp_path / "shaken")
    whole = board_of(run_cv(calm, *long))
    env = {
        "PODIUM_KAGGLE_ROOT": str(shaken),
        "PODIUM_ROOT": str(shaken / "input" / "podium"),
        "PYTHONPATH": str(SOURCE),
    }
    command = [sys.executable, "-m", "podium", "run", "tiny", *long]
    process = subprocess.Popen(
        command, cwd=shaken, env=os.environ | env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 120
        while not list((shaken / "working").glob("runs/tiny/small-*/fold0/last.pt")) and time.monotonic() < end:
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    former = attach(shaken)
    before = contents(former)
    assert [path.name for path in former.glob("runs/tiny/small-*/fold0/*.safetensors")] == []
    (checkpoint,) = former.glob("runs/tiny/small-*/fold0/last.pt")
    kept = [str(row["seconds"]) for row in torch.load(checkpoint, weights_only=True)["history"]]
    done = run_cv(shaken, *long)
    board = board_of(done)
    assert "1 interrupted trainings with their checkpoints taken over" in done.stderr
    (history,) = (shaken / "working").glob("runs/tiny/small-*/fold0/history.csv")
    assert contents(former) == before
    seconds = [row.split(",")[4] for row in history.read_text().splitlines()[1:]]
    assert kept and seconds[: len(kept)] == kept  # measured in the former session, not trained again
    assert board["rows"][0]["score"] == whole["rows"][0]["score"]
    assert Path(board["submission"]).read_bytes() == Path(whole["submission"]).read_bytes()


def test_what_is_stale_or_damaged_is_left_and_made_anew(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    kaggle = fresh(finished, tmp_path)
    former = kaggle / "input" / "my-run"
    (weights,) = former.glob("runs/tiny/small-*/fold0/ema.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    done = run_cv(kaggle, *FAST, "--continue-from", str(former))
    board = board_of(done)
    assert f"{weights}: was changed after it was written" in done.stderr
    assert done.stderr.count("was made with other weights than those that are here") == 2  # both predictions
    assert board["rows"][0]["score"] == finished[1]["rows"][0]["score"]  # trained again, with the same seed


def test_nothing_in_the_working_folder_is_overwritten(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    kaggle = fresh(finished, tmp_path)
    (theirs,) = (kaggle / "input" / "my-run").glob("runs/tiny/small-*/fold0")
    mine = kaggle / "working" / theirs.relative_to(kaggle / "input" / "my-run")
    mine.mkdir(parents=True)
    (mine / "state.json").write_text((theirs / "state.json").read_text())
    done = run_cv(kaggle, *FAST)
    board_of(done)
    assert "taken over" not in done.stderr  # its predictions belong to weights that were not here yet
    assert (mine / "ema.safetensors").is_file()


def test_a_session_is_a_budget_that_the_next_session_keeps(tmp_path: Path) -> None:
    kaggle = make_kaggle(tmp_path)
    options = ("--folds", "0", "--budget", "session", "--precision", "fp32", "--json")
    start = time.time() - (hosted.HOURS * 3600 - hosted.RESERVE - hosted.LEAST)
    left = {"PODIUM_SESSION_START": f"{start + 30:.0f}"}
    planned = run_cv(kaggle, *options[:-1], "--dry-run", "--json", **left)
    seconds = board_of(planned)["budget"]
    assert hosted.LEAST < seconds <= hosted.LEAST + 30
    late = run_cv(kaggle, *options, PODIUM_SESSION_START=f"{start - 60:.0f}")
    assert late.returncode == 2 and "too little is left" in late.stderr and late.stderr.count("podium:") == 1

    former = kaggle / "input" / "my-run" / "runs" / "tiny"
    former.mkdir(parents=True)
    asked = {"models": [], "folds": [0], "budget": 400.0, "data": None, "overrides": [], "session": True}
    (former / "plan.json").write_text(json.dumps({"options": asked, "workers": 2, "left_out": [], "notes": []}))
    again = board_of(run_cv(kaggle, *options[:4], "--dry-run", "--json", PODIUM_SESSION_START=f"{time.time():.0f}"))
    assert (again["budget"], again["workers"]) == (400.0, 2)
    other = board_of(run_cv(kaggle, "--folds", "1", *options[2:4], "--dry-run", "--json"))
    assert other["budget"] != 400.0


def test_a_session_needs_a_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KAGGLE_KERNEL_RUN_TYPE", "COLAB_RELEASE_TAG", "COLAB_GPU", hosted.START):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(hosted.ROOT, str(tmp_path))
    with pytest.raises(UserError, match="no notebook of Kaggle's.*--budget 90m"):
        seconds_of("session")
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    with pytest.raises(UserError, match="Colab ends its sessions when it likes; give a time"):
        seconds_of("session")
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    monkeypatch.setenv(hosted.START, str(time.time() - 3600))
    assert seconds_of("session") == pytest.approx(11 * 3600 - 900, abs=5)
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "v3-8")
    assert seconds_of("session") == pytest.approx(8 * 3600 - 900, abs=5)
    monkeypatch.setenv(hosted.START, "noon")
    with pytest.raises(UserError, match="PODIUM_SESSION_START=noon"):
        seconds_of("session")


def test_the_session_begins_with_the_first_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(hosted.START, raising=False)
    ticks = os.sysconf("SC_CLK_TCK")
    (tmp_path / "1").mkdir()
    fields = ["S", *["0"] * 18, str(500 * ticks), "0", "0"]  # started 500 s after the system did
    (tmp_path / "1" / "stat").write_text(f"1 (a name) with ) and blanks) {' '.join(fields)}\n")
    (tmp_path / "uptime").write_text("800.25 1234.5\n")
    assert hosted.session_start(tmp_path) == pytest.approx(time.time() - 300.25, abs=2)
    assert hosted.session_start(tmp_path / "nowhere") == pytest.approx(time.time(), abs=2)


def test_results_stay_beside_the_checkout_where_nothing_is_hosted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    monkeypatch.setenv(hosted.ROOT, str(tmp_path / "kaggle"))
    root = make_project(tmp_path / "project")
    monkeypatch.setenv("PODIUM_ROOT", str(root))
    assert (find_workspace().out, find_workspace().keeps) == (root, root)
    (tmp_path / "kaggle" / "working").mkdir(parents=True)
    assert find_workspace().out == tmp_path / "kaggle" / "working"
    assert find_workspace(tmp_path / "mine").out == tmp_path / "mine"
    moved = tmp_path / "kaggle" / "input" / "podium"
    moved.parent.mkdir()
    root.rename(moved)
    monkeypatch.setenv("PODIUM_ROOT", str(moved))
    assert find_workspace().keeps == tmp_path / "kaggle" / "working"  # the sample must not be written beside it


def test_which_folder_is_gone_on_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(hosted.ROOT, str(tmp_path))
    out = tmp_path / "working"
    out.mkdir()
    assert find_former(None, out, "mars") is None
    one = tmp_path / "input" / "notebooks" / "me" / "my-run"
    (one / "runs" / "mars").mkdir(parents=True)
    assert find_former(None, out, "mars") == one
    assert find_former(None, out, "blood") is None
    two = tmp_path / "input" / "other" / "results"
    (two / "runs" / "mars").mkdir(parents=True)
    with pytest.raises(UserError, match=r"several attached folders hold runs/mars .*--continue-from"):
        find_former(None, out, "mars")
    assert find_former(two, out, "mars") == two
    for given, words in (
        (one, "holds runs of mars, not of blood"),
        (tmp_path / "no", "holds no runs/blood"),
        (out, "is the folder of the results itself"),
    ):
        with pytest.raises(UserError, match=words):
            find_former(given, out, "blood")
