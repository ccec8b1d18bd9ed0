"""``podium blend``, ``import-oof`` and ``board`` on the real command: any models, imported ones too, blended and compared."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from podium.metrics import MeanIoU
from project import CLASSES, make_project, podium, podium_json

FAST = ("--set", "train.epochs=2", "--precision", "fp32")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two models, of which a run of one is the last one; its predictions as a teammate would export them."""
    root = make_project(tmp_path_factory.mktemp("trained"))
    podium_json(root, "run", "tiny", "--models", "other", *FAST)
    podium_json(root, "run", "tiny", "--models", "small", *FAST)
    oof, test = _of(root, "other")
    np.savez(root / "oof.npz", **oof)
    np.savez(root / "test.npz", **test)
    return root


def _of(root: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A model's predictions by id, in an order of nobody's."""
    ids, folds, values = [], [], []
    for path in sorted((root / "runs" / "tiny").glob(f"{name}-*/fold*/oof-*/oof.npy")):
        index = np.load(path.with_suffix(".index.npz"))
        ids += index["ids"].tolist()
        folds += [int(path.parent.parent.name.removeprefix("fold"))] * len(index["ids"])
        values.append(np.load(path).reshape(-1, 4, 16, 24))
    order = np.random.default_rng(0).permutation(len(ids))
    path = next((root / "runs" / "tiny").glob(f"{name}-*/test-*/test.npy"))
    tested = {
        "ids": np.load(path.with_suffix(".index.npz"))["ids"],
        "probabilities": np.load(path).reshape(-1, 4, 16, 24),
    }
    oof = {"ids": np.array(ids)[order], "folds": np.array(folds)[order], "probabilities": np.concatenate(values)[order]}
    return oof, tested


def _probabilities(root: Path, name: str) -> np.ndarray:
    oof, _ = _of(root, name)
    whole = np.zeros((24, 4, 16, 24))
    whole[oof["ids"].astype(int)] = oof["probabilities"]
    return whole


def _score(root: Path, blend: np.ndarray) -> float:
    masks = np.load(root / "data" / "tiny" / "tiny.npz")["train"][:, 1].astype(np.uint8)
    metric = MeanIoU(tuple(CLASSES), 0, "keras")
    return metric.value(metric.stats(masks, (blend[:, 1:].argmax(1) + 1).astype(np.uint8)))


def _record(root: Path, board: dict[str, Any], file: str) -> Any:
    return json.loads((root / "runs" / "tiny" / f"blend-{board['rows'][-1]['run']}" / file).read_text())


def test_any_models_are_blended_by_any_method_and_the_choice_is_told(trained: Path) -> None:
    board = podium_json(
        trained, "blend", "tiny", "--models", "small,other", "--method", "greedy", "--mean", "arithmetic"
    )
    assert [row["name"] for row in board["rows"]][-1] == "greedy blend" and len(board["rows"]) == 3
    told, decoding = _record(trained, board, "blend.json"), _record(trained, board, "decode.json")
    weights = {name: model["weight"] for name, model in told["models"].items()}
    assert weights == board["weights"] and abs(sum(weights.values()) - 1) < 1e-9
    blend = sum(weight * _probabilities(trained, name) for name, weight in weights.items())
    assert told["in_sample"] == pytest.approx(_score(trained, blend), abs=0.002)  # float32, not float64
    # what stands on the board was chosen without each fold, by hand: three blends of three weights
    without = np.zeros_like(blend)
    oof, _ = _of(trained, "small")
    for fold, decision in told["without_fold"].items():
        rows = oof["ids"][oof["folds"] == int(fold)].astype(int)
        mine = sum(weight * _probabilities(trained, name) for name, weight in decision["weights"].items())
        without[rows] = np.asarray(mine)[rows]
    last = board["rows"][-1]
    assert last["score"] == told["score"] == pytest.approx(_score(trained, without), abs=0.002)
    assert set(told["gains"]) == {"uniform", next(name for name in told["gains"] if name.startswith("best single ("))}
    assert all({"mean", "low", "high", "share_above_zero"} <= set(gain) for gain in told["gains"].values())
    assert decoding["steps"] == [] and last["in_sample"] == told["in_sample"]
    assert any(note.startswith("of the blend was chosen") and "greedy weights" in note for note in board["notes"])


def test_a_blend_with_decoding_is_packed_as_it_was_scored(trained: Path) -> None:
    board = podium_json(
        trained, "blend", "tiny", "--models", "small,other", "--method", "uniform", "--decode", "--pack"
    )
    steps = _record(trained, board, "decode.json")
    assert steps["unscored"] == "background" and {"in_sample", "nested", "plain"} <= set(steps)
    assert board["rows"][-1]["score"] == pytest.approx(steps["nested"])
    assert podium_json(trained, "check", "tiny", board["submission"])["valid"] is True
    with open(board["submission"], newline="") as file:
        told = np.array([row[1:] for row in csv.reader(file)][1:], int).reshape(7, 16, 24)
    if not steps["steps"]:  # then it is the plain blend, worked out here
        blend = sum(_of(trained, name)[1]["probabilities"].astype(float) for name in ("small", "other"))
        assert (told == np.asarray(blend)[:, 1:].argmax(1) + 1).mean() > 0.999
    ledger = list(csv.DictReader((trained / "submissions" / "ledger.csv").open()))
    assert ledger[-1]["blend"] == f"uniform@{board['rows'][-1]['run']}" and "other@" in ledger[-1]["models"]


def test_imported_predictions_are_a_model_like_any_other(trained: Path) -> None:
    found = podium_json(trained, "import-oof", "tiny", "mate", "--oof", "oof.npz", "--test", "test.npz")
    assert found["model"] == "mate" and found["folds"] == [0, 1, 2]
    board = podium_json(trained, "board", "tiny")
    of = {row["name"]: row for row in board["rows"] if row["kind"] == "model"}
    assert (
        of["mate"]["score"]
        == pytest.approx(of["other"]["score"], abs=1e-3)
        == pytest.approx(found["row"]["score"], abs=1e-3)
    )
    assert of["mate"]["parameters"] is None and of["other"]["parameters"] > 1000
    # without --models: the last run's and what was imported
    blend = podium_json(trained, "blend", "tiny", "--method", "uniform", "--pack")
    assert {"small", "mate"} <= set(blend["weights"])
    assert (
        podium(trained, "import-oof", "tiny", "mate", "--oof", "oof.npz", "--test", "test.npz").returncode == 0
    )  # again


def test_the_board_has_every_model_and_blend_and_compares_two(trained: Path) -> None:
    podium_json(trained, "blend", "tiny", "--models", "small,other", "--method", "single")
    board = podium_json(trained, "board", "tiny")
    names = [row["name"] for row in board["rows"]]
    assert {"small", "other", "single blend"} <= set(names) and len(
        {(r["name"], r["run"]) for r in board["rows"]}
    ) == len(names)
    scores = [row["score"] for row in board["rows"]]
    assert scores == sorted(scores, reverse=True) or len({row["kind"] for row in board["rows"]}) == 2
    small, other = (next(row["score"] for row in board["rows"] if row["name"] == name) for name in ("small", "other"))
    compared = podium_json(trained, "board", "tiny", "--compare", "small,other")
    assert compared["scores"] == pytest.approx([small, other]) and compared["images"] == 24
    assert compared["gain"]["low"] <= compared["gain"]["mean"] <= compared["gain"]["high"]
    back = podium_json(trained, "board", "tiny", "--compare", "other", "--compare", "small")
    assert back["gain"]["mean"] == pytest.approx(-compared["gain"]["mean"])
    shown = podium(trained, "board", "tiny", "--compare", "small,other").stdout
    assert "on the same 24 images" in shown and "above zero" in shown
    assert "in sample" in podium(trained, "board", "tiny").stdout


def test_two_are_proposed_for_the_end(trained: Path) -> None:
    """The best nested score, and of those not clearly worse the one whose test labels differ most; nothing else has a say."""
    for models, method in (("small,other", "uniform"), ("small", "auto"), ("other", "auto")):
        podium_json(trained, "blend", "tiny", "--models", models, "--method", method, "--no-decode", "--pack")
    found = podium_json(trained, "final", "tiny")
    every = [found["first"], *([found["second"]] if found["second"] else []), *found["others"]]
    assert len(every) >= 3 and found["first"]["score"] == max(each["score"] for each in every)
    labels = {}
    for each in every:
        if each["file"]:
            with open(trained / "submissions" / each["file"], newline="") as file:
                labels[each["blend"]] = np.array([row[1:] for row in csv.reader(file)][1:], int)
    fitting = [each for each in every[1:] if each["behind"]["low"] <= 0 and each["differs"] > 0]
    if found["second"]:
        assert found["second"]["differs"] == max(each["differs"] for each in fitting)
        assert found["saves"] >= 0 and 0 <= found["better"] <= 1
    else:
        assert not fitting
    known = [each for each in every[1:] if {each["blend"], found["first"]["blend"]} <= labels.keys()]
    assert known
    for each in known:
        apart = (labels[each["blend"]] != labels[found["first"]["blend"]]).mean()
        assert each["differs"] == pytest.approx(apart)
    said = podium(trained, "final", "tiny").stdout
    assert "select first: " in said and "podium submit" in said and "select " in said.split("select first")[1]


REFUSED = {
    "no such model": (
        ["blend", "tiny", "--models", "smal"],
        "no such model is predicted out of fold; did you mean 'small'",
    ),
    "twice": (["blend", "tiny", "--models", "small,small"], "every model is named once"),
    "method": (["blend", "tiny", "--method", "gredy"], "did you mean 'greedy'"),
    "compare one": (["board", "tiny", "--compare", "small"], "two rows are compared"),
    "compare unknown": (["board", "tiny", "--compare", "small,nobody"], "nobody: is not on the board"),
    "no file": (["import-oof", "tiny", "x", "--oof", "nowhere.npz"], "there is no such file"),
    "odd name": (["import-oof", "tiny", "a-b", "--oof", "oof.npz"], "letters, digits and underscores"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_asked_for_wrongly_gets_one_sentence(trained: Path, case: str) -> None:
    arguments, said = REFUSED[case]
    done = podium(trained, *arguments)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def changed(key: str, change: Any) -> Any:
    return lambda arrays: arrays | {key: change(arrays[key])}


def _fold_of(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    folds = arrays["folds"].copy()
    folds[0] = (folds[0] + 1) % 3
    return arrays | {"folds": folds}


BAD = {
    "another fold": (_fold_of, "does not have it; train on the folds of that file"),
    "no folds": (lambda a: {k: v for k, v in a.items() if k != "folds"}, "has no array 'folds'"),
    "no ids": (lambda a: {k: v for k, v in a.items() if k != "ids"}, "has no array 'ids', only folds, probabilities"),
    "fold 7": (changed("folds", lambda v: np.where(v == 2, 7, v)), "fold 7 is not in"),
    "logits": (changed("probabilities", lambda v: np.log(v.astype(float) + 1e-3)), "not logits: apply a softmax"),
    "sums": (changed("probabilities", lambda v: v * np.float16(0.5)), "sum to 0.500, not to 1"),
    "not a number": (changed("probabilities", lambda v: np.where(np.arange(24) == 3, np.nan, v)), "not finite"),
    "classes": (changed("probabilities", lambda v: v[:, :2]), "holds 2 classes, tiny has 4"),
    "size": (changed("probabilities", lambda v: v[..., :12]), "is 16 × 12, its image 16 × 24"),
    "one missing": (lambda a: {k: v[1:] for k, v in a.items()}, "lacks id"),
    "one twice": (lambda a: {k: np.concatenate([v, v[:1]]) for k, v in a.items()}, "occurs twice in fold"),
}


@pytest.mark.parametrize("case", BAD)
def test_predictions_that_do_not_fit_are_refused(trained: Path, tmp_path: Path, case: str) -> None:
    change, said = BAD[case]
    with np.load(trained / "oof.npz") as file:
        np.savez(tmp_path / "bad.npz", **change({name: file[name] for name in file.files}))
    done = podium(trained, "import-oof", "tiny", "bad", "--oof", str(tmp_path / "bad.npz"))
    assert done.returncode == 2 and said in done.stderr and "bad.npz" in done.stderr and "Traceback" not in done.stderr
    assert not list((trained / "runs" / "tiny").glob("imported-bad-*"))


def test_models_of_other_folds_are_refused_with_the_run_to_repeat(trained: Path) -> None:
    done = podium(trained, "blend", "tiny", "--models", "small,other", "--set", "folds.seed=1")
    assert done.returncode == 2 and "was trained on other folds" in done.stderr
    assert "repeat it with: podium train tiny --models small" in done.stderr
    bright = ("--set", "preprocess=[{name: clahe}, {name: standardise}]")
    done = podium(trained, "blend", "tiny", "--models", "small", *bright)
    assert done.returncode == 2 and "was trained on other data" in done.stderr
