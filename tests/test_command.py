"""The real command on a small competition: what a user types, reads and finds on disk."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from podium.fold_file import load
from podium.metrics import MeanIoU
from project import CLASSES, environment, make_project, podium, podium_json, write_data

FAST = ("--set", "train.epochs=2", "--precision", "fp32")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A project after ``podium run tiny`` with two models."""
    root = make_project(tmp_path_factory.mktemp("finished"))
    return root, podium_json(root, "run", "tiny", "--models", "small,other", *FAST)


def test_a_run_ends_with_a_checked_file_and_an_honest_board(finished: tuple[Path, dict]) -> None:
    root, board = finished
    with open(board["submission"], newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", *map(str, range(16 * 24))]
    assert [row[0] for row in rows[1:]] == [str(i) for i in range(7)]
    assert {value for row in rows[1:] for value in row[1:]} <= {"1", "2", "3"}
    assert [row["name"] for row in board["rows"]][-1] == "uniform blend"
    assert {row["name"] for row in board["rows"]} == {"small", "other", "uniform blend"}
    for row in board["rows"]:
        assert row["images"] == 24 and row["low"] <= row["score"] <= row["high"]
        assert set(row["parts"]) == set(CLASSES)
    assert board["upload"] == "podium submit tiny"
    ledger = list(csv.DictReader((root / "submissions" / "ledger.csv").open()))
    assert [row["event"] for row in ledger] == ["packed"] and "small@" in ledger[0]["models"]


def test_the_board_is_the_metric_of_the_merged_predictions(finished: tuple[Path, dict]) -> None:
    """Worked out anew from the probabilities on disk: mean of the models, argmax over scored classes, one matrix."""
    root, board = finished
    data = np.load(root / "data" / "tiny" / "tiny.npz")["train"]
    metric = MeanIoU(tuple(CLASSES), 0, "keras")
    blend, scores = np.zeros((24, 4, 16, 24)), {}
    for model in ("small", "other"):
        volume = np.full((24, 4, 16, 24), np.nan)
        for path in (root / "runs" / "tiny").glob(f"{model}-*/fold*/oof-*/oof.npy"):
            ids = np.load(path.with_suffix(".index.npz"))["ids"].astype(int)
            volume[ids] = np.load(path).reshape(len(ids), 4, 16, 24)
        assert not np.isnan(volume).any()
        blend += volume / 2
        scores[model] = metric.value(metric.stats(data[:, 1].astype(np.uint8), volume.argmax(1).astype(np.uint8)))
    scores["uniform blend"] = metric.value(metric.stats(data[:, 1].astype(np.uint8), blend.argmax(1).astype(np.uint8)))
    assert {row["name"]: row["score"] for row in board["rows"]} == pytest.approx(scores, abs=1e-12)


def test_a_finished_run_redoes_nothing(finished: tuple[Path, dict]) -> None:
    root, board = finished
    kept = [path for path in (root / "runs" / "tiny").rglob("*") if path.suffix in (".npy", ".safetensors")]
    before = {path: path.stat().st_mtime_ns for path in kept}
    done = podium(root, "run", "tiny", "--models", "small,other", *FAST, "--json")
    again = json.loads(done.stdout)
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    assert again["submission"] == board["submission"] and again["rows"] == board["rows"]
    assert "epochs, loss" not in done.stderr
    assert len(list((root / "submissions").glob("tiny-*.csv"))) == 1


def test_later_verbs_go_on_from_the_last_run(finished: tuple[Path, dict]) -> None:
    root, board = finished
    assert podium_json(root, "pack", "tiny")["submission"] == board["submission"]
    assert podium_json(root, "board", "tiny")["rows"] == board["rows"]
    shown = podium(root, "board", "tiny")
    assert (
        shown.returncode == 0
        and f"{board['rows'][0]['score']:.4f}" in shown.stdout
        and board["submission"] in shown.stdout
    )


def test_check_takes_the_packed_file_and_refuses_a_damaged_one(finished: tuple[Path, dict]) -> None:
    root, board = finished
    assert podium_json(root, "check", "tiny", board["submission"])["valid"] is True
    lines = Path(board["submission"]).read_text().splitlines()
    lines[3] = re.sub(",[123],", ",9,", lines[3], count=1)
    damaged = root / "damaged.csv"
    damaged.write_text("\n".join(lines) + "\n")
    refused = podium(root, "check", "tiny", str(damaged))
    assert refused.returncode == 2 and "line 4" in refused.stdout


def test_changed_predictions_are_noticed(tmp_path: Path) -> None:
    root = make_project(tmp_path)
    podium_json(root, "run", "tiny", *FAST)
    stats = next((root / "runs" / "tiny").glob("small-*/fold1/oof-*/stats-*/stats.npy"))
    values = np.load(stats)
    np.save(stats, values[::-1])
    refused = podium(root, "run", "tiny", *FAST)
    assert refused.returncode == 2 and str(stats) in refused.stderr and "Traceback" not in refused.stderr


def test_what_was_made_of_other_weights_is_made_anew(tmp_path: Path) -> None:
    """Training a fold again under the same key may give other weights: what came of the old ones is not mixed in."""
    root = make_project(tmp_path)
    first = podium_json(root, "run", "tiny", *FAST)
    run = next((root / "runs" / "tiny").glob("small-*"))
    shutil.rmtree(run / "fold1")
    state = json.loads((run / "fold0" / "state.json").read_text())
    state["length"]["steps"] -= 1  # another machine, another number of steps
    (run / "fold1").mkdir()
    (run / "fold1" / "state.json").write_text(json.dumps(state))
    second = podium_json(root, "run", "tiny", *FAST)
    assert [row["score"] for row in second["rows"]] != [row["score"] for row in first["rows"]]
    assert second["rows"][0]["score"] == second["rows"][1]["score"]  # one model: it is the blend
    assert second["submission"] != first["submission"]
    weights = [
        json.loads((run / f"fold{k}" / "done.json").read_text())["files"]["ema.safetensors"]["sha256"] for k in range(3)
    ]
    assert json.loads(next(run.glob("test-*/done.json")).read_text())["weights"] == weights


def test_a_changed_submission_format_is_packed_anew_and_nothing_else(tmp_path: Path) -> None:
    root = make_project(tmp_path)
    first = podium_json(root, "run", "tiny", *FAST)
    second = podium_json(root, "run", "tiny", *FAST, "--set", "submission.id=Id")
    assert second["submission"] != first["submission"] and second["rows"] == first["rows"]
    assert Path(second["submission"]).read_text().startswith("Id,0,1,")
    # without options, later verbs take the last run's: the budget's workers and overrides too
    assert podium_json(root, "pack", "tiny")["submission"] == second["submission"]
    sets = ("--set", "submission.format=npz", "--set", "submission.of=probabilities")
    third = podium_json(root, "run", "tiny", *FAST, *sets)
    assert third["rows"] == first["rows"] and third["submission"].endswith(".npz")
    with np.load(third["submission"], allow_pickle=False) as file:
        found = file["predictions"]
    table = np.loadtxt(first["submission"], delimiter=",", skiprows=1, dtype=np.int64)
    assert (found.argmax(1).reshape(len(table), -1) == table[:, 1:]).all()
    assert (found[:, 0] == 0).all() and np.abs(found.sum(1) - 1).max() < 1e-6


def test_some_folds_only(tmp_path: Path) -> None:
    root = make_project(tmp_path)
    board = podium_json(root, "run", "tiny", "--folds", "1", *FAST)
    folds = load(next((root / "folds").glob("tiny-*.csv")), [str(i) for i in range(24)], _data_id(root))
    assert board["rows"][0]["images"] == len(folds.rows(1)[1]) and board["folds"] == [1]
    assert any("only folds 1 of 3" in note for note in board["notes"])
    assert [path.name for path in (root / "runs" / "tiny").glob("small-*/fold*")] == ["fold1"]
    # the fold is not trained again when all are asked for
    weights = next((root / "runs" / "tiny").glob("small-*/fold1/ema.safetensors"))
    before = weights.stat().st_mtime_ns
    assert podium_json(root, "run", "tiny", *FAST)["rows"][0]["images"] == 24
    assert weights.stat().st_mtime_ns == before


def test_two_workers_give_the_same_bits_as_one(tmp_path: Path) -> None:
    one, two = make_project(tmp_path / "one"), make_project(tmp_path / "two")
    a = podium_json(one, "run", "tiny", "--threads", "1", *FAST)
    b = podium_json(two, "run", "tiny", "--threads", "1", "--workers", "2", *FAST)
    assert a["rows"][0]["score"] == b["rows"][0]["score"]
    assert Path(a["submission"]).read_bytes() == Path(b["submission"]).read_bytes()


def test_a_budget_bounds_the_training_and_is_part_of_the_result(tmp_path: Path) -> None:
    root = make_project(tmp_path)
    board = podium_json(root, "run", "tiny", "--budget", "24s", "--precision", "fp32")
    states = [json.loads(path.read_text()) for path in (root / "runs" / "tiny").glob("small-*/fold*/state.json")]
    assert len(states) == 3 and all(state["length"]["train_rate"] > 0 for state in states)
    again = podium_json(root, "run", "tiny", "--budget", "24s", "--precision", "fp32")
    assert again["rows"] == board["rows"]
    assert podium_json(root, "run", "tiny", *FAST)["rows"][0]["run"] != board["rows"][0]["run"]


def test_dry_run_shows_the_plan_and_trains_nothing(tmp_path: Path) -> None:
    root = make_project(tmp_path)
    shown = podium(root, "run", "tiny", "--dry-run", "--models", "small,other")
    assert shown.returncode == 0 and "other fold 2" in shown.stdout and "small test" in shown.stdout
    assert not list((root / "runs" / "tiny").glob("small-*")) and not (root / "submissions").exists()
    assert len(podium_json(root, "run", "tiny", "--dry-run")["jobs"]) == 7


def test_json_keeps_stdout_to_one_object(tmp_path: Path) -> None:
    root = make_project(tmp_path)
    for arguments in (("fold", "tiny"), ("train", "tiny", "--folds", "0", *FAST)):
        done = podium(root, *arguments, "--json")
        assert done.returncode == 0 and len(done.stdout.splitlines()) == 1 and json.loads(done.stdout)
        assert "folds:" in done.stderr


def test_fold_shows_the_folds(tmp_path: Path) -> None:
    root = make_project(tmp_path)
    made = podium_json(root, "fold", "tiny")
    assert sum(row["images"] for row in made["folds"]) == 24 and Path(made["file"]).is_file()
    assert "rare" in podium(root, "fold", "tiny").stdout


def _data_id(root: Path) -> str:
    return next(path.name for path in (root / "runs" / "tiny" / "data").iterdir() if not path.name.startswith("."))


# ---------------------------------------------------------------- bad input: one sentence, exit code 2, nothing overwritten


def _truncate(root: Path) -> None:
    path = root / "data" / "tiny" / "tiny.npz"
    path.write_bytes(path.read_bytes()[:-200])


def _save(root: Path, **arrays: np.ndarray) -> None:
    np.savez(root / "data" / "tiny" / "tiny.npz", allow_pickle=False, **arrays)


def _seven(root: Path) -> None:
    train = np.zeros((9, 2, 16, 24))
    train[4, 1, 3, 5] = 7
    _save(root, train=train, test=np.zeros((2, 16, 24), np.uint8))


def _typo(root: Path) -> None:
    path = root / "configs" / "models" / "small.yaml"
    path.write_text(path.read_text().replace("epochs", "epoch"))


def _pretrained(root: Path) -> None:
    (root / "configs" / "models" / "small.yaml").write_text(
        "net: {name: unet, encoder: resnet18, pretrained: required}\n"
    )


def _empty(root: Path) -> None:
    (root / "data" / "tiny" / "tiny.npz").unlink()


def _unwritable(root: Path) -> None:
    (root / "runs").write_text("a file where a folder is needed")


BAD = [
    (_truncate, (), ["tiny.npz"]),
    (lambda root: _save(root, other=np.zeros(3)), (), ["tiny.npz", "'train'"]),
    (
        lambda root: _save(root, train=np.zeros((9, 2, 16, 24, 3)), test=np.zeros((2, 16, 24))),
        (),
        ["tiny.npz", "train"],
    ),
    (_seven, (), ["tiny.npz", "4", "7"]),
    (_empty, ("--data", "data/tiny"), ["tiny.npz"]),
    (lambda root: None, ("--data", "nowhere"), ["nowhere"]),
    (_typo, (), ["small.yaml", "epoch", "epochs"]),
    (_pretrained, (), ["pretrained: forbidden"]),
    (_unwritable, (), ["runs"]),
    (lambda root: None, ("--models", "smal"), ["smal", "small"]),
    (lambda root: None, ("--set", "train.epochs=many"), ["train.epochs", "many"]),
    (lambda root: None, ("--set", "trian.epochs=2"), ["trian", "train"]),
    (lambda root: None, ("--folds", "3"), ["fold 3"]),
    (lambda root: None, ("--folds", "one"), ["one"]),
    (lambda root: None, ("--budget", "soon"), ["soon", "30m"]),
    (lambda root: None, ("--device", "cuda"), ["cuda"]),
    (lambda root: None, ("--device", "tpu"), ["tpu"]),
]


@pytest.mark.parametrize(("spoil", "arguments", "words"), BAD)
def test_bad_input_ends_with_one_sentence(spoil, arguments: tuple[str, ...], words: list[str], tmp_path: Path) -> None:
    import torch

    if arguments == ("--device", "cuda") and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    root = make_project(tmp_path)
    spoil(root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    done = podium(root, "run", "tiny", *FAST, *arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("podium: ") and all(word in last for word in words), last
    assert {path: path.read_bytes() for path in before} == before


def test_unknown_competition_and_verb(tmp_path: Path) -> None:
    root = make_project(tmp_path)
    done = podium(root, "run", "tinny")
    assert done.returncode == 2 and "did you mean 'tiny'" in done.stderr
    assert podium(root, "rnu", "tiny").returncode == 2


def test_samples_are_never_taken_for_real_results(tmp_path: Path) -> None:
    """mars without data falls back to its sample, whose name is on everything."""
    root = make_project(tmp_path)
    shipped = Path(__file__).resolve().parents[1] / "configs" / "competitions" / "mars.yaml"
    (root / "configs" / "competitions" / "mars.yaml").write_text(shipped.read_text())
    assert "PODIUM_DATA" not in environment(root)
    board = podium_json(root, "run", "mars", "--models", "small", "--folds", "0", "--set", "train.epochs=1")
    assert board["competition"] == "mars-sample" and board["upload"] is None
    assert Path(board["submission"]).name.startswith("mars-sample-") and (root / "runs" / "mars-sample").is_dir()
    assert not (root / "runs" / "mars").exists()
    # the same file given as real data is recognised
    write_data(root / "data" / "tiny" / "tiny.npz")
    given = podium_json(root, "fold", "mars", "--set", "models=[small]", "--data", str(root / "data" / "mars-sample"))
    assert Path(given["file"]).name.startswith("mars-sample-")
