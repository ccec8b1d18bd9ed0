"""Out-of-fold predictions put together by id, and blends of them on disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Tiny
from podium import metrics
from podium.blend import make as making
from podium.blend.make import Blend, make
from podium.blend.members import Member, labels_of_test, predictions_of_test
from podium.blend.oof import Oof, gather, layout, merge, volume
from podium.combine import FLOOR
from podium.config_blend import BlendSettings
from podium.config_submission_formats import Npy
from podium.data.ragged import Ragged
from podium.decode import Decision
from podium.decode_steps import Step
from podium.errors import UserError
from podium.folds import Folds
from podium.jobs import OOF, STATS, TEST
from podium.plan import Run
from podium.scoring import probabilities_of
from podium.store import Folder, Key, read_json


@dataclass(frozen=True, eq=False)
class Made:
    """A model's results on disk, and all of its predictions in the order of the fold file, of each repeat."""

    run: Run
    repeats: list[np.ndarray]
    test: np.ndarray

    @property
    def probabilities(self) -> np.ndarray:
        """Those of the first repeat."""
        return self.repeats[0]


def metric_of(tiny: Tiny) -> metrics.Metric:
    return metrics.of(tiny.competition)


def probabilities(rng: np.random.Generator, n: int) -> np.ndarray:
    """Float16 (n, 5, 16, 32) with an empty channel 0."""
    values = np.zeros((n, 5, 16, 32), np.float16)
    values[:, 1:] = rng.dirichlet(np.ones(4), (n, 16, 32)).transpose(0, 3, 1, 2)
    return values


def write_oof(path: Path, key: Key, tiny: Tiny, ids: np.ndarray, values: np.ndarray) -> None:
    """One fold's result as its job leaves it, for any ids."""
    path.mkdir(parents=True)
    Ragged.stack(values, ids).save(path / OOF)
    Folder(path, key).finish((OOF, "oof.index.npz"))


def merged(tiny: Tiny, parts: dict[int, Any]) -> Oof:
    return merge("a", parts, tiny.folds, tiny.competition, tiny.dataset.train)


def make_run(tiny: Tiny, folder: Path, name: str, seed: int, shuffle: bool = False) -> Made:
    rng = np.random.default_rng(seed)
    every = [probabilities(rng, 24) for _ in range(tiny.folds.repeats)]
    oof = {}
    for fold in range(tiny.folds.total):
        rows = tiny.folds.rows(fold)[1]
        if shuffle:
            rows = rng.permutation(rows)
        key = Key("oof", 1, {"fold": fold, "name": name})
        oof[fold] = (folder / name / f"oof{fold}", key)
        write_oof(*oof[fold], tiny, tiny.folds.ids[rows], every[fold // 3][rows])
    test_key = Key("test", 1, {"name": name})
    path = folder / name / "test"
    path.mkdir()
    test = probabilities(rng, 7)
    order = rng.permutation(7) if shuffle else np.arange(7)
    assert tiny.dataset.test is not None
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
    oof = merged(tiny, made.run.oof)
    rows = np.flatnonzero(tiny.folds.fold >= 0)  # all but row 5
    assert oof.name == "a" and oof.rows.tolist() == rows.tolist() and len(rows) == 23
    assert (oof.stats[:, 0] == direct(tiny, made.probabilities, rows)).all() and oof.stats.shape == (23, 1, 5, 5)
    assert oof.folds.tolist() == tiny.folds.fold[rows, None].tolist()


def test_a_part_of_the_folds_is_merged_too(tiny, tmp_path):
    made = make_run(tiny, tmp_path, "a", 1)
    oof = merged(tiny, {2: made.run.oof[2], 0: made.run.oof[0]})
    rows = np.flatnonzero((tiny.folds.fold == 0) | (tiny.folds.fold == 2))
    assert oof.rows.tolist() == rows.tolist()
    assert (oof.stats[:, 0] == direct(tiny, made.probabilities, rows)).all()
    assert oof.folds.tolist() == tiny.folds.fold[rows, None].tolist()


def rewritten(tiny: Tiny, made: Made, fold: int, ids: list[str], classes: int = 5) -> dict[int, Any]:
    """The model's parts, with one fold's predictions written for other ids or classes."""
    path, key = made.run.oof[fold]
    other = path.with_name("other")
    values = probabilities(np.random.default_rng(0), len(ids))
    write_oof(other, key, tiny, np.array([*dict.fromkeys(ids)]), values[: len(set(ids))])
    np.savez(other / "oof.index.npz", shapes=np.array([[classes, 16, 32]] * len(ids)), ids=np.array(ids))
    Folder(other, key).finish((OOF, "oof.index.npz"))
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
            merged(tiny, parts)
    merged(tiny, rewritten(tiny, made, 1, right))


def test_another_number_of_classes_is_refused(tiny, tmp_path):
    made = make_run(tiny, tmp_path, "a", 1)
    right = tiny.folds.ids[tiny.folds.rows(1)[1]].tolist()
    with pytest.raises(UserError, match="holds 4 classes, the competition has 5"):
        merged(tiny, rewritten(tiny, made, 1, right, classes=4))


def test_a_changed_file_or_another_key_is_refused(tiny, tmp_path):
    made = make_run(tiny, tmp_path, "a", 1)
    path, key = made.run.oof[0]
    with pytest.raises(UserError, match="holds the result of key"):
        merge(
            "a", made.run.oof | {0: (path, replace(key, version=2))}, tiny.folds, tiny.competition, tiny.dataset.train
        )
    merged(tiny, made.run.oof)
    (kept,) = path.glob(f"stats-*/{STATS}")
    stats = np.load(kept)
    stats[0, 1, 1] += 1
    np.save(kept, stats)
    with pytest.raises(UserError, match=r"stats\.npy: is missing or was changed"):
        merged(tiny, made.run.oof)
    (path / "done.json").unlink()
    with pytest.raises(UserError, match="is not finished"):
        merged(tiny, made.run.oof)


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


# ---------------------------------------------------------------- repeats

TABLE = np.array([[0, 1], [1, 1], [-1, -1], [0, 0], [1, 0]])


def repeated() -> Folds:
    """Five rows, the third one dropped, split twice into two folds."""
    ids = np.array(["a", "b", "c", "d", "e"])
    empty = np.array([""] * 5)
    return Folds(ids, np.arange(5), empty, TABLE, empty, "x", 2)


@pytest.mark.parametrize(
    ("chosen", "rows", "expected"),
    [
        ((0, 1, 2, 3), [0, 1, 3, 4], [[0, 3], [1, 3], [0, 2], [1, 2]]),
        ((3, 1, 2, 0), [0, 1, 3, 4], [[0, 3], [1, 3], [0, 2], [1, 2]]),
        ((0, 1), [0, 1, 3, 4], [[0], [1], [0], [1]]),
        ((3, 2), [0, 1, 3, 4], [[3], [3], [2], [2]]),
        ((1,), [1, 4], [[1], [1]]),
        ((0, 2), [0, 3, 4], [[0, -1], [0, 2], [-1, 2]]),
    ],
)
def test_the_layout_by_hand(chosen, rows, expected):
    found, fold_of = layout(chosen, repeated())
    assert found.tolist() == rows and fold_of.tolist() == expected


def test_predictions_are_gathered_by_id_and_repeat():
    folds = repeated()
    number = {name: i for i, name in enumerate("abcde")}
    ids = {0: ["d", "a"], 2: ["e", "d"], 3: ["a", "b"]}
    pieces = {fold: (np.array(names), np.array([[10 * fold, number[n]] for n in names])) for fold, names in ids.items()}
    oof = gather("m", pieces, folds)
    assert oof.name == "m" and oof.rows.tolist() == [0, 1, 3, 4]
    assert oof.folds.tolist() == [[0, 3], [-1, 3], [0, 2], [-1, 2]]
    nothing = [0, 0]
    assert oof.stats.tolist() == [[[0, 0], [30, 0]], [nothing, [30, 1]], [[0, 3], [20, 3]], [nothing, [20, 4]]]
    backwards = gather("m", dict(reversed(pieces.items())), folds)
    assert (backwards.stats == oof.stats).all() and (backwards.folds == oof.folds).all()


@pytest.mark.parametrize(
    "ids",
    [["a"], ["a", "a"], ["a", "d", "d"], ["a", "b"], ["a", "d", "b"], []],
    ids=["missing", "twice", "too many", "of another fold", "one more", "none"],
)
def test_what_is_not_one_prediction_per_row_and_repeat_is_refused(ids):
    pieces = {0: (np.array(ids, np.str_), np.ones((len(ids), 2))), 1: (np.array(["b", "e"]), np.ones((2, 2)))}
    with pytest.raises(ValueError, match="m: predictions of fold 0 are not one per row of it"):
        gather("m", pieces, repeated())


def test_an_id_that_the_fold_file_does_not_have_is_refused():
    with pytest.raises(KeyError):
        gather("m", {0: (np.array(["a", "z"]), np.ones((2, 2)))}, repeated())


@pytest.fixture
def twice(tiny: Tiny) -> Tiny:
    """The tiny competition with its folds and, as a second repeat, others."""
    again = np.where(tiny.folds.fold < 0, -1, np.arange(24) // 8)
    return replace(tiny, folds=replace(tiny.folds, fold=np.stack([tiny.folds.fold, again], axis=1)))


def test_repeats_are_merged_each_by_itself(twice, tmp_path):
    made = make_run(twice, tmp_path, "a", 1, shuffle=True)
    oof = merged(twice, made.run.oof)
    rows = np.flatnonzero(twice.folds.kept)
    assert oof.rows.tolist() == rows.tolist() and oof.stats.shape == (23, 2, 5, 5)
    assert oof.folds.tolist() == (twice.folds.fold[rows] + [0, 3]).tolist()
    for repeat in range(2):
        assert (oof.stats[:, repeat] == direct(twice, made.repeats[repeat], rows)).all()
    # what belongs to another repeat's fold is seen, though the ids of both folds overlap
    with pytest.raises(UserError, match="its ids are not those of fold 4 in the fold file"):
        merged(twice, made.run.oof | {4: made.run.oof[1]})


def test_a_part_of_two_repeats_leaves_zeros_where_nothing_was_predicted(twice, tmp_path):
    made = make_run(twice, tmp_path, "a", 1)
    oof = merged(twice, {fold: made.run.oof[fold] for fold in (5, 1)})
    first, second = twice.folds.fold[oof.rows].T
    assert oof.rows.tolist() == np.flatnonzero((twice.folds.fold[:, 0] == 1) | (twice.folds.fold[:, 1] == 2)).tolist()
    assert oof.folds.tolist() == np.stack([np.where(first == 1, 1, -1), np.where(second == 2, 5, -1)], 1).tolist()
    for repeat, there in enumerate((first == 1, second == 2)):
        assert (oof.stats[there, repeat] == direct(twice, made.repeats[repeat], oof.rows[there])).all()
        assert (oof.stats[~there, repeat] == 0).all() and 0 < there.sum() < len(there)


# ---------------------------------------------------------------- blends on disk

UNIFORM = BlendSettings(method="uniform", mean="arithmetic", decode=False)


def blended(tiny: Tiny, made: list[Made], folder: Path, how: BlendSettings = UNIFORM) -> Blend:
    competition = tiny.competition.model_copy(update={"blend": how})
    return make([Member.of(each.run) for each in made], competition, tiny.folds, tiny.dataset.train, folder)


def test_the_blend_is_the_mean_of_the_models_scored_by_id(tiny, tmp_path):
    made = [make_run(tiny, tmp_path, name, seed, shuffle=seed == 2) for name, seed in (("a", 1), ("b", 2), ("c", 3))]
    metric = metric_of(tiny)
    blend = blended(tiny, made, tmp_path / "runs")
    rows = np.flatnonzero(tiny.folds.fold >= 0)
    mean = np.mean([m.probabilities.astype(np.float64) for m in made], axis=0)
    expected = direct(tiny, mean, rows)
    stats = blend.oof.stats[:, 0]
    assert blend.oof.rows.tolist() == rows.tolist() and blend.weights == {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}
    # float16 values can tie to the last bit, where either answer is right
    assert blend.oof.folds.tolist() == tiny.folds.fold[rows, None].tolist() and stats.shape == (23, 5, 5)
    assert np.abs(stats - expected).sum() <= 0.002 * expected.sum()
    assert (stats.sum((1, 2)) == expected.sum((1, 2))).all() and (stats[:, :, 0] == 0).all()
    record = read_json(blend.folder / "blend.json")
    assert record["score"] == metric.value(stats) and record["method"] == "uniform"
    assert record["models"]["b"] == {"run": made[1].run.key.hash, "weight": 1 / 3}


def test_one_model_alone_is_its_own_blend(tiny, tmp_path):
    made = make_run(tiny, tmp_path, "a", 1, shuffle=True)
    blend = blended(tiny, [made], tmp_path / "r")
    assert (blend.oof.stats == merged(tiny, made.run.oof).stats).all()


def test_a_blend_over_repeats_scores_each_of_them(twice, tmp_path):
    made = [make_run(twice, tmp_path, "a", 1), make_run(twice, tmp_path, "b", 2, shuffle=True)]
    metric = metric_of(twice)

    blend = blended(twice, made, tmp_path / "runs")
    rows = np.flatnonzero(twice.folds.kept)
    assert blend.oof.rows.tolist() == rows.tolist() and blend.oof.stats.shape == (23, 2, 5, 5)
    assert blend.oof.folds.tolist() == (twice.folds.fold[rows] + [0, 3]).tolist()
    for repeat in range(2):
        mean = np.mean([m.repeats[repeat].astype(np.float64) for m in made], axis=0)
        expected = direct(twice, mean, rows)
        assert np.abs(blend.oof.stats[:, repeat] - expected).sum() <= 0.002 * expected.sum()
    scores = [metric.value(blend.oof.stats[:, repeat]) for repeat in range(2)]
    assert read_json(blend.folder / "blend.json")["score"] == pytest.approx(np.mean(scores))
    again = blended(twice, made, tmp_path / "runs")
    assert (again.oof.stats == blend.oof.stats).all() and (again.oof.folds == blend.oof.folds).all()


def test_each_repeat_makes_its_own_choices_and_the_blend_joins_them(twice, tmp_path):
    made = [make_run(twice, tmp_path, name, seed) for name, seed in (("a", 1), ("b", 2), ("c", 3))]
    blend = blended(twice, made, tmp_path, BlendSettings(method="greedy", mean="arithmetic", decode=False))
    told = read_json(blend.folder / "blend.json")
    assert set(told["without_fold"]) == {"0", "1", "2", "3", "4", "5"} and blend.decision.method == "greedy"
    assert abs(sum(blend.decision.weights) - 1) < 1e-9
    for fold, decision in told["without_fold"].items():
        repeat, rows = int(fold) // 3, twice.folds.rows(int(fold))[1]
        weights = [decision["weights"][name] for name in "abc"]
        mean = sum(w * m.repeats[repeat].astype(np.float64) for w, m in zip(weights, made, strict=True))
        at = np.searchsorted(blend.oof.rows, rows)
        differ = np.abs(blend.oof.stats[at, repeat] - direct(twice, np.asarray(mean), rows)).sum()
        assert differ <= 0.002 * blend.oof.stats[at, repeat].sum()


def test_decisions_of_repeats_are_joined_by_hand():
    fill, cut = Step("fill_holes", 1, (16.0,)), Step("min_area", 1, (8.0,))
    decisions = [
        Decision((0.5, 0.5), "arithmetic", (cut,), "uniform", (0.01,)),
        Decision((0.2, 0.8), "arithmetic", (fill, Step("min_area", 1, (32.0,))), "greedy", (0.1, 0.02)),
        Decision((0.4, 0.6), "arithmetic", (Step("min_area", 1, (16.0,)),), "greedy", (0.03,)),
    ]
    joined = making._joined(decisions)
    assert joined.method == "greedy" and joined.weights == pytest.approx((0.3, 0.7))
    assert joined.steps == (Step("min_area", 1, (16.0,)),) and joined.gains == pytest.approx((0.02,))
    assert making._joined(decisions[:2]).method == "uniform"  # of equals the simplest
    assert making._joined(decisions[:1]) == decisions[0]


def test_a_blend_is_read_back_and_another_one_has_another_folder(tiny, tmp_path, monkeypatch):
    a, b = make_run(tiny, tmp_path, "a", 1), make_run(tiny, tmp_path, "b", 2)

    first = blended(tiny, [a, b], tmp_path)
    alone = blended(tiny, [a], tmp_path)
    assert alone.folder != first.folder
    monkeypatch.setattr(making, "_Making", None)
    again = blended(tiny, [a, b], tmp_path)
    assert again.key == first.key and (again.oof.stats == first.oof.stats).all()
    assert again.oof.rows.tolist() == first.oof.rows.tolist() and again.oof.folds.tolist() == first.oof.folds.tolist()
    np.save(first.folder / STATS, first.oof.stats * 2)
    with pytest.raises(UserError, match=r"stats\.npy: is missing or was changed"):
        blended(tiny, [a, b], tmp_path)


def test_test_labels_come_from_the_same_mean(tiny, tmp_path):
    made = [make_run(tiny, tmp_path, "a", 1), make_run(tiny, tmp_path, "b", 2, shuffle=True)]
    members = [Member.of(m.run) for m in made]
    labels = labels_of_test(members, Decision((0.75, 0.25)), tiny.competition)
    assert labels.ids.tolist() == tiny.dataset.test.images.ids.tolist()
    mean = 0.75 * made[0].test.astype(np.float64) + 0.25 * made[1].test.astype(np.float64)
    differ = labels.stacked[:, 0] != mean[:, 1:].argmax(1) + 1
    assert differ.mean() <= 0.002
    tested = made[0].run.test
    assert tested is not None
    path = tested[0] / TEST
    values = np.load(path)
    values[0] += np.float16(1)
    np.save(path, values)
    with pytest.raises(UserError, match=r"test\.npy: is missing or was changed"):
        labels_of_test(members, Decision((0.5, 0.5)), tiny.competition)
    alone = replace(members[0], test=None)
    with pytest.raises(UserError, match="a: has no test predictions; leave it out"):
        labels_of_test([alone, members[1]], Decision((0.5, 0.5)), tiny.competition)
    with pytest.raises(UserError, match="a: has no test predictions; leave it out"):
        predictions_of_test([alone, members[1]], Decision((0.5, 0.5)), tiny.competition)


@pytest.mark.parametrize("how", ["arithmetic", "geometric"])
def test_test_probabilities_are_those_that_labels_are_made_of(tiny, tmp_path, how):
    made = [make_run(tiny, tmp_path, "a", 1), make_run(tiny, tmp_path, "b", 2, shuffle=True)]
    members = [Member.of(m.run) for m in made]
    decision = Decision((0.75, 0.25), how)
    probable = tiny.competition.model_copy(update={"submission": Npy(format="npy", of="probabilities")})
    found = predictions_of_test(members, decision, probable)
    assert found.ids.tolist() == tiny.dataset.test.images.ids.tolist() and found.values.dtype == np.float32
    a, b = (m.test[:, 1:].astype(np.float64) for m in made)
    a, b = (p / p.sum(1, keepdims=True) for p in (a, b))  # without the class that is not scored
    pool = np.maximum(a, FLOOR) ** 0.75 * np.maximum(b, FLOOR) ** 0.25
    expected = 0.75 * a + 0.25 * b if how == "arithmetic" else pool
    expected /= expected.sum(1, keepdims=True)
    assert np.allclose(found.stacked[:, 1:], expected, atol=1e-3) and (found.stacked[:, 0] == 0).all()
    assert np.abs(found.stacked.astype(np.float64).sum(1) - 1).max() < 1e-6 and found.values.max() <= 1
    labels = labels_of_test(members, decision, tiny.competition)
    assert predictions_of_test(members, decision, tiny.competition).values.tobytes() == labels.values.tobytes()
    assert (found.stacked.argmax(1) == labels.stacked[:, 0]).mean() > 0.998
    stepped = Decision((0.75, 0.25), how, (Step("min_area", 1, (16.0,)),))
    assert predictions_of_test(members, stepped, probable).values.tobytes() == found.values.tobytes()


def test_probabilities_of_images_of_any_size_sum_to_one_and_nothing_becomes_the_same_for_all(tiny):
    first = np.array([[[0.2, 0.0]], [[0.1, 0.0]], [[0.1, 0.0]], [[0.1, 0.0]], [[0.0, 0.0]]], np.float16)
    second = np.full((5, 3, 1), 0.3, np.float16)
    values = np.concatenate([first.ravel(), second.ravel()])
    volume = Ragged(values, np.array([first.shape, second.shape]), np.array(["x", "y"]))
    found = probabilities_of([volume], Decision((1.0,)), tiny.competition)
    assert np.allclose(found[0][:, 0, 0], [0, 1 / 3, 1 / 3, 1 / 3, 0], atol=1e-3)
    assert np.allclose(found[0][:, 0, 1], [0, 0.25, 0.25, 0.25, 0.25]) and np.allclose(found[1][1:], 0.25)
    numbers = tiny.competition.model_copy(update={"task": "regression"})
    with pytest.raises(ValueError, match="numbers have no probabilities"):
        probabilities_of([volume], Decision((1.0,)), numbers)
