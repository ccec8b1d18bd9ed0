"""What a run is judged by beside its metric: corrupted copies, further metrics, seeds, objects; through the real command."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from podium.data.ragged import Ragged
from podium.folds import Folds
from project import make_project, podium, podium_json

FAST = ("--models", "small")
CORRUPTED = """
validation:
  corruptions: {kinds: [gaussian_noise, rotation, occlusion], copies: 2, strengths: [2, 5]}
  choose_by: BY
also: [{name: dice}, {name: iou, over: image}]
"""


def judged(root: Path, by: str = "clean") -> Path:
    make_project(root)
    path = root / "configs" / "competitions" / "tiny.yaml"
    path.write_text(path.read_text() + CORRUPTED.replace("BY", by))
    return root


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_corrupted_copies_are_predicted_by_nets_that_have_not_seen_their_images(tmp_path: Path) -> None:
    root = judged(tmp_path)
    board = podium_json(root, "run", "tiny", *FAST)
    model, blend = board["rows"]
    for row in board["rows"]:
        assert row["corrupted_low"] <= row["corrupted"] <= row["corrupted_high"]
        assert 0 < row["corrupted"] < row["score"] + 0.05 and set(row["also"]) == {
            "dice (pooled, classes)",
            "iou (per image, classes)",
        }
    # one model: its blend is itself
    assert blend["corrupted"] == model["corrupted"] and blend["also"] == pytest.approx(model["also"])
    run = next((root / "runs" / "tiny").glob("small-*"))
    seen: list[str] = []
    for fold in range(3):
        clean = Ragged.open(next(run.glob(f"fold{fold}/oof-*/oof.npy"))).ids.tolist()
        copies = Ragged.open(next(run.glob(f"fold{fold}/robust-*/oof.npy"))).ids.tolist()
        assert {name.partition("~")[0] for name in copies} == set(clean) and len(copies) == 2 * len(clean)
        seen += copies
    assert len(set(seen)) == 48
    rows = table(root / "runs" / "tiny" / "corrupted.csv")
    whole = [row for row in rows if row["model"] == "small" and row["strength"] == "all"]
    assert {row["kind"] for row in whole} == {"gaussian_noise", "rotation", "occlusion"}
    assert sum(int(row["copies"]) for row in whole) == 48
    # the recipe adds noise to its training images, and turns or hides nothing
    assert {row["kind"]: row["trained"] for row in whole} == {
        "gaussian_noise": "yes",
        "rotation": "no",
        "occlusion": "no",
    }
    again = podium_json(root, "run", "tiny", *FAST)
    assert again["rows"] == board["rows"] and again["submission"] == board["submission"]


def test_another_metric_needs_no_new_predictions(tmp_path: Path) -> None:
    root = judged(tmp_path)
    first = podium_json(root, "run", "tiny", *FAST)
    made = {path: path.stat().st_mtime_ns for path in root.glob("runs/tiny/small-*/**/*.safetensors")}
    made |= {path: path.stat().st_mtime_ns for path in root.glob("runs/tiny/small-*/**/oof.npy")}
    path = root / "configs" / "competitions" / "tiny.yaml"
    path.write_text(
        path.read_text().replace("{name: mean_iou, convention: keras}", "{name: mean_iou, convention: foreground}")
    )
    second = podium_json(root, "run", "tiny", *FAST)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert second["rows"][0]["score"] < first["rows"][0]["score"]  # what is predicted on unlabelled pixels now counts
    assert second["rows"][0]["corrupted"] < first["rows"][0]["corrupted"]


def test_models_may_be_chosen_by_their_corrupted_score(tmp_path: Path) -> None:
    root = judged(tmp_path, "corrupted")
    board = podium_json(root, "train", "tiny", "--models", "small,other", "--set", "train.epochs=2")
    first, second, _ = board["rows"]
    assert first["corrupted"] >= second["corrupted"] and board["choice"]["by"] == "corrupted"
    assert board["choice"]["in_sample"] == pytest.approx(first["corrupted"])
    shown = podium(root, "board", "tiny")
    assert "the scores on corrupted copies" in shown.stdout and "corrupted" in "".join(shown.stdout.splitlines()[2:4])
    # so is what a blend chooses: its weights are those that score best on copies
    blend = podium_json(root, "blend", "tiny", "--method", "single")
    assert blend["weights"] == {first["name"]: 1.0, second["name"]: 0.0}
    told = json.loads((root / "runs" / "tiny" / f"blend-{blend['rows'][-1]['run']}" / "blend.json").read_text())
    assert set(told["without_fold"]) == {"0", "1", "2"} and blend["rows"][-1]["corrupted"] is not None


def test_copies_have_the_folds_and_groups_of_their_images() -> None:
    ids, table_ = np.array(["a", "b", "c"]), np.array([0, 1, -1])
    folds = Folds(ids, np.array([7, 8, 9]), np.array(["x", "y", "z"]), table_, np.array(["", "", "bad"]), "d", 2)
    copies = folds.of_copies(np.array(["a~1", "a~2", "b~1"]), np.array([0, 0, 1]))
    assert copies.groups.tolist() == [7, 7, 8] and copies.fold.tolist() == [0, 0, 1]
    assert copies.rows(0)[1].tolist() == [0, 1] and copies.rows(1)[1].tolist() == [2]
    assert copies.folds_id != folds.folds_id


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("validation.choose_by=corrupted", "'corrupted' needs validation.corruptions"),
        ("validation.corruptions.kinds=[hue_shift]", "hue_shift needs images of 3 channels, these have 1"),
        ("validation.corruptions.kinds=[rotaton]", "did you mean 'rotation'"),
        ("validation.corruptions.at_most=1", "at_most: 1 images are drawn, none of fold"),
        ("also=[{name: mean_iou}]", "names one metric twice"),
        ("also=[{name: rmse}]", "also"),
        ("predict.views=[identity, rot90]", "predict.views: rot90 lays 16 × 24 images on their side"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_any_training(tmp_path: Path, setting: str, said: str) -> None:
    root = make_project(tmp_path)
    done = podium(root, "run", "tiny", *FAST, "--set", setting)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert not list((root / "runs").rglob("*.safetensors"))


def test_several_seeds_are_several_models_of_one_blend(tmp_path: Path) -> None:
    root = make_project(tmp_path)
    board = podium_json(root, "run", "tiny", *FAST, "--seeds", "2", "--seed", "5")
    names = {row["name"]: row for row in board["rows"]}
    assert set(names) == {"small", "small_seed1", "uniform blend"} and board["weights"] == {
        "small": 0.5,
        "small_seed1": 0.5,
    }
    assert names["small"]["score"] != names["small_seed1"]["score"]
    assert any("small: " in note and "2 seeds, standard deviation" in note for note in board["notes"])
    # the second is what the next seed alone would have been
    alone = podium_json(root, "train", "tiny", *FAST, "--seed", "6")
    assert alone["rows"][0]["score"] == names["small_seed1"]["score"]


def test_objects_of_the_predicted_masks(tmp_path: Path) -> None:
    root = make_project(tmp_path)
    refused = podium(root, "predict", "tiny", "--overlays", "2")
    assert refused.returncode == 2 and "--overlays: does nothing without --objects" in refused.stderr
    podium_json(root, "run", "tiny", *FAST)
    done = podium(root, "predict", "tiny", "--objects", "--overlays", "2")
    assert done.returncode == 0 and "Objects: " in done.stdout and "2 overlays" in done.stdout, done.stderr
    folder = root / "runs" / "tiny" / "objects"
    counts, objects = table(folder / "counts.csv"), table(folder / "objects.csv")
    assert len(counts) == 7 and sum(int(row["objects"]) for row in counts) == len(objects) > 0
    assert len(list((folder / "overlays").glob("*.png"))) == 2
    assert json.loads((folder / "objects.json").read_text())["report"]["objects"] == len(objects)
    told = podium_json(root, "predict", "tiny", "--objects", "--overlays", "2")
    assert told["objects"]["objects"] == len(objects) and len(told["rows"]) == 2
    for option in ("--json", "--set KEY=VALUE", "--folds 0,1", "--budget 30m", "COMPETITION"):
        assert option in podium(root, "predict", "--help").stdout
    help_ = podium(root, "run", "--help").stdout
    assert "--objects" not in help_ and "--seeds" in help_
