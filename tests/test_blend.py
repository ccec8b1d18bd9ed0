"""Out-of-fold predictions put together by id, and the uniform blend scored on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Tiny
from podium import metrics
from podium.blend import uniform
from podium.blend.oof import merge, positions, volume
from podium.data.ragged import Ragged
from podium.decode import finish
from podium.errors import UserError
from podium.jobs import OOF, STATS, TEST
from podium.plan import Run
from podium.store import Folder, Key, read_json


@dataclass(frozen=True, eq=False)
class Made:
    """A model's results on disk, and all of its predictions in the order of the fold file."""

    run: Run
    probabilities: np.ndarray
    test: np.ndarray


def metric_of(tiny: Tiny) -> metrics.MeanIoU:
    return metrics.build(tiny.competition.metric, tiny.competition.classes, 0)


def probabilities(rng: np.random.Generator, n: int) -> np.ndarray:
    """Float16 (n, 5, 16, 32) with an empty channel 0."""
    values = np.zeros((n, 5, 16, 32), np.float16)
    values[:, 1:] = rng.dirichlet(np.ones(4), (n, 16, 32)).transpose(0, 3, 1, 2)
    return values


def write_oof(path: Path, key: Key, tiny: Tiny, ids: np.ndarray, values: np.ndarray) -> None:
    """One fold's result as its job leaves it, for any ids."""
    path.mkdir(parents=True)
    Ragged.stack(values, ids).save(path / OOF)
    truth = tiny.dataset.train.targets
    assert truth is not None
    masks = np.stack([truth[truth.index[name]][0] for name in ids.tolist()])
    labels = finish([Ragged.stack(values, np.arange(len(ids)).astype(str))], [1.0], 0)
    np.save(path / STATS, metric_of(tiny).stats(masks, labels.stacked[:, 0]))
    Folder(path, key).finish((OOF, "oof.index.npz", STATS))


def make_run(tiny: Tiny, folder: Path, name: str, seed: int, shuffle: bool = False) -> Made:
    rng = np.random.default_rng(seed)
    every = probabilities(rng, 24)
    oof = {}
    for fold in range(3):
        rows = tiny.folds.rows(fold)[1]
        if shuffle:
            rows = rng.permutation(rows)
        key = Key("oof", 1, {"fold": fold, "name": name})
        oof[fold] = (folder / name / f"oof{fold}", key)
        write_oof(*oof[fold], tiny, tiny.folds.ids[rows], every[rows])
    test_key = Key("test", 1, {"name": name})
    path = folder / name / "test"
    path.mkdir()
    test = probabilities(rng, 7)
    order = rng.permutation(7) if shuffle else np.arange(7)
    Ragged.stack(test[order], tiny.dataset.test.images.ids[order]).save(path / TEST)
    Folder(path, test_key).finish((TEST, "test.index.npz"))
    recipe = tiny.recipe.model_copy(update={"name": name})
    run = Run(
        recipe=recipe,
        key=Key("run", 1, {"name": name}),
        folder=folder / name,
        seconds=None,
        weights={},
        oof=oof,
        test=(path, test_key),
    )
    return Made(run, every, test)


def direct(tiny: Tiny, blend: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Statistics of the most probable scored class, without any of the code under test."""
    assert tiny.dataset.train.targets is not None
    labels = blend[rows, 1:].argmax(1) + 1
    out = np.zeros((len(rows), 5, 5), np.int64)
    for i, row in enumerate(rows):
        np.add.at(out[i], (tiny.dataset.train.targets.stacked[row, 0], labels[i]), 1)
    return out


# ---------------------------------------------------------------- merging


@pytest.mark.parametrize("shuffle", [False, True])
def test_merged_statistics_stand_in_the_order_of_the_fold_file(tiny, tmp_path, shuffle):
    made = make_run(tiny, tmp_path, "a", 1, shuffle)
    oof = merge("a", made.run.oof, tiny.folds, 5)
    rows = np.flatnonzero(tiny.folds.fold >= 0)  # all but row 5
    assert oof.name == "a" and oof.rows.tolist() == rows.tolist() and len(rows) == 23
    assert (oof.stats == direct(tiny, made.probabilities, rows)).all()
    assert positions(np.array(["7", "0"]), tiny.folds).tolist() == [7, 0]


def test_a_part_of_the_folds_is_merged_too(tiny, tmp_path):
    made = make_run(tiny, tmp_path, "a", 1)
    oof = merge("a", {2: made.run.oof[2], 0: made.run.oof[0]}, tiny.folds, 5)
    rows = np.flatnonzero((tiny.folds.fold == 0) | (tiny.folds.fold == 2))
    assert oof.rows.tolist() == rows.tolist()
    assert (oof.stats == direct(tiny, made.probabilities, rows)).all()


def rewritten(tiny: Tiny, made: Made, fold: int, ids: list[str], classes: int = 5) -> dict[int, Any]:
    """The model's parts, with one fold's predictions written for other ids or classes."""
    path, key = made.run.oof[fold]
    other = path.with_name("other")
    values = probabilities(np.random.default_rng(0), len(ids))
    write_oof(other, key, tiny, np.array([*dict.fromkeys(ids)]), values[: len(set(ids))])
    np.savez(other / "oof.index.npz", shapes=np.array([[classes, 16, 32]] * len(ids)), ids=np.array(ids))
    Folder(other, key).finish((OOF, "oof.index.npz", STATS))
    return made.run.oof | {fold: (other, key)}


def test_ids_of_another_fold_missing_ids_and_ids_twice_are_refused(tiny, tmp_path):
    made = make_run(tiny, tmp_path, "a", 1)
    right = tiny.folds.ids[tiny.folds.rows(1)[1]].tolist()
    cases = {
        "missing": (right[1:], f"id '{right[0]}' is on one side only"),
        "foreign": ([*right[1:], "0"], "is on one side only"),
        "dropped": ([*right, "5"], "id '5' is on one side only"),
        "twice": ([*right, right[0]], "an id occurs twice"),
    }
    for name, (ids, said) in cases.items():
        other = make_run(tiny, tmp_path / name, "a", 1)
        parts = rewritten(tiny, other, 1, ids)
        with pytest.raises(UserError, match=f"its ids are not those of fold 1 in the fold file .*{said}.*; delete "):
            merge("a", parts, tiny.folds, 5)
    merge("a", rewritten(tiny, made, 1, right), tiny.folds, 5)


def test_another_number_of_classes_is_refused(tiny, tmp_path):
    made = make_run(tiny, tmp_path, "a", 1)
    right = tiny.folds.ids[tiny.folds.rows(1)[1]].tolist()
    with pytest.raises(UserError, match="holds 4 classes, the competition has 5"):
        merge("a", rewritten(tiny, made, 1, right, classes=4), tiny.folds, 5)


def test_a_changed_file_or_another_key_is_refused(tiny, tmp_path):
    made = make_run(tiny, tmp_path, "a", 1)
    path, key = made.run.oof[0]
    with pytest.raises(UserError, match="holds the result of key"):
        merge("a", made.run.oof | {0: (path, replace(key, version=2))}, tiny.folds, 5)
    stats = np.load(path / STATS)
    stats[0, 1, 1] += 1
    np.save(path / STATS, stats)
    with pytest.raises(UserError, match=r"stats\.npy: is missing or was changed"):
        merge("a", made.run.oof, tiny.folds, 5)
    (path / "done.json").unlink()
    with pytest.raises(UserError, match="is not finished"):
        merge("a", made.run.oof, tiny.folds, 5)


def test_a_folds_volume_is_checked_before_it_is_opened(tiny, tmp_path):
    made = make_run(tiny, tmp_path, "a", 1)
    path, key = made.run.oof[2]
    rows = tiny.folds.rows(2)[1]
    opened = volume(path, key, 2, tiny.folds, 5)
    assert opened.ids.tolist() == tiny.folds.ids[rows].tolist()
    assert (opened.stacked == made.probabilities[rows]).all()
    with pytest.raises(UserError, match="its ids are not those of fold 1"):
        volume(path, key, 1, tiny.folds, 5)
    values = np.load(path / OOF)
    values[7] += np.float16(0.5)
    np.save(path / OOF, values)
    with pytest.raises(UserError, match=r"oof\.npy: is missing or was changed"):
        volume(path, key, 2, tiny.folds, 5)


# ---------------------------------------------------------------- the uniform blend


def test_the_blend_is_the_mean_of_the_models_scored_by_id(tiny, tmp_path):
    made = [make_run(tiny, tmp_path, name, seed, shuffle=seed == 2) for name, seed in (("a", 1), ("b", 2), ("c", 3))]
    metric = metric_of(tiny)
    blend = uniform.make(
        [m.run for m in made], tiny.competition, tiny.folds, tiny.dataset.train, metric, tmp_path / "runs"
    )
    rows = np.flatnonzero(tiny.folds.fold >= 0)
    mean = np.mean([m.probabilities.astype(np.float64) for m in made], axis=0)
    expected = direct(tiny, mean, rows)
    assert blend.rows.tolist() == rows.tolist() and blend.weights == {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}
    # float16 values can tie to the last bit, where either answer is right
    assert np.abs(blend.stats - expected).sum() <= 0.002 * expected.sum()
    assert (blend.stats.sum((1, 2)) == expected.sum((1, 2))).all() and (blend.stats[:, :, 0] == 0).all()
    record = read_json(blend.folder / "blend.json")
    assert record["score"] == metric.value(blend.stats) and record["method"] == "uniform"
    assert record["models"]["b"] == {"run": made[1].run.key.hash, "weight": 1 / 3}


def test_one_model_alone_is_its_own_blend(tiny, tmp_path):
    made = make_run(tiny, tmp_path, "a", 1, shuffle=True)
    blend = uniform.make([made.run], tiny.competition, tiny.folds, tiny.dataset.train, metric_of(tiny), tmp_path / "r")
    assert (blend.stats == merge("a", made.run.oof, tiny.folds, 5).stats).all()


def test_a_blend_is_read_back_and_another_one_has_another_folder(tiny, tmp_path, monkeypatch):
    a, b = make_run(tiny, tmp_path, "a", 1), make_run(tiny, tmp_path, "b", 2)

    def make(runs: list[Run]) -> uniform.Blend:
        return uniform.make(runs, tiny.competition, tiny.folds, tiny.dataset.train, metric_of(tiny), tmp_path / "runs")

    first = make([a.run, b.run])
    alone = make([a.run])
    assert alone.folder != first.folder
    monkeypatch.setattr(uniform, "finish", None)
    again = make([a.run, b.run])
    assert again.key == first.key and (again.stats == first.stats).all()
    np.save(first.folder / STATS, first.stats * 2)
    with pytest.raises(UserError, match=r"stats\.npy: is missing or was changed"):
        make([a.run, b.run])


def test_test_labels_come_from_the_same_mean(tiny, tmp_path):
    made = [make_run(tiny, tmp_path, "a", 1), make_run(tiny, tmp_path, "b", 2, shuffle=True)]
    labels = uniform.test_labels([m.run for m in made], {"b": 0.25, "a": 0.75}, 0)
    assert labels.ids.tolist() == tiny.dataset.test.images.ids.tolist()
    mean = 0.75 * made[0].test.astype(np.float64) + 0.25 * made[1].test.astype(np.float64)
    differ = labels.stacked[:, 0] != mean[:, 1:].argmax(1) + 1
    assert differ.mean() <= 0.002
    path = made[0].run.test[0] / TEST
    values = np.load(path)
    values[0] += np.float16(1)
    np.save(path, values)
    with pytest.raises(UserError, match=r"test\.npy: is missing or was changed"):
        uniform.test_labels([m.run for m in made], {"a": 0.5, "b": 0.5}, 0)
