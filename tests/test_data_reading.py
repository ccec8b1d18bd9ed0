"""Reading in general: identity of what was read, preprocessing as a dataset of its own, bad rows, no room for doubt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from podium import preprocess
from podium.config import Competition
from podium.config_file import load_competition
from podium.data import reading
from podium.data.reading import open_dataset, read_test, source_id
from podium.data.sample import write_sample
from podium.errors import UserError


def competition(**changed: Any) -> Competition:
    raw = {
        "name": "toy",
        "task": "classification",
        "data": {
            "format": "npz",
            "file": "toy.npz",
            "train": {"image": {"key": "x"}, "target": {"key": "y"}},
            "test": {"key": "t"},
        },
        "classes": ["a", "b"],
        "metric": {"name": "accuracy"},
        "models": ["net"],
    }
    return Competition.model_validate(raw | changed)


def written(folder: Path, **changed: np.ndarray) -> Path:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {
        "x": rng.integers(0, 256, (9, 12, 10, 3)).astype(np.uint8),
        "y": (np.arange(9) % 2)[:, None],
        "t": rng.integers(0, 256, (4, 12, 10, 3)).astype(np.float32),
    }
    folder.mkdir(exist_ok=True)
    np.savez(folder / "toy.npz", allow_pickle=False, **(arrays | changed))
    return folder


def test_separate_keys_of_images_and_labels(tmp_path: Path) -> None:
    folder = written(tmp_path)
    held = np.load(folder / "toy.npz")
    opened = open_dataset(competition(), folder, tmp_path / "cache")
    assert opened.source is opened.dataset
    train, test = opened.source.train, opened.source.test
    assert train.targets is not None and test is not None
    np.testing.assert_array_equal(train.images.stacked, held["x"].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(test.images.stacked, held["t"].transpose(0, 3, 1, 2).astype(np.uint8))
    assert train.targets.stacked.shape == (9, 1, 1, 1) and train.targets.values.tolist() == [0, 1] * 4 + [0]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"y": np.arange(8)}, "holds 8 rows, key 'x' 9"),
        ({"y": np.full((9, 2), 1)}, "one class index per image is expected"),
        ({"y": np.full(9, 2)}, "row 0: value 2 is not a class, allowed are 0 to 1 (a, b)"),
        ({"y": np.full(9, 0.5)}, "row 0: value 0.5 is not a class"),
        ({"x": np.full((9, 12, 10), 300)}, "value 300 lies outside 0 to 255"),
        ({"x": np.zeros((9, 12, 10), np.uint8)}, "different numbers of channels, [1] in train and [3] in test"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path: Path, changed: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(UserError) as caught:
        open_dataset(competition(), written(tmp_path, **changed), tmp_path / "cache")
    assert said in str(caught.value) and "\n" not in str(caught.value) and "toy.npz" in str(caught.value)


def test_bad_rows_are_left_out_on_request_and_named_at_every_start(tmp_path: Path) -> None:
    labels = np.arange(9) % 2
    labels[[2, 7]] = 9
    folder = written(tmp_path, y=labels)
    for _ in range(2):
        source = open_dataset(competition(), folder, tmp_path / "cache", skip_bad=True).source
        assert source.train.images.ids.tolist() == ["0", "1", "3", "4", "5", "6", "8"]
        assert [sentence.split("row ")[1][:1] for sentence in source.skipped] == ["2", "7"]
    with pytest.raises(UserError, match="--skip-bad"):  # what was skipped once is no permission to skip
        open_dataset(competition(), folder, tmp_path / "cache")


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_other_depths_keep_their_values(tmp_path: Path, dtype: str) -> None:
    values = np.linspace(0, 60000, 9 * 12 * 10 * 3).reshape(9, 12, 10, 3).round(0 if dtype == "uint16" else 2)
    folder = written(tmp_path, x=values)
    data = competition().data.model_dump(mode="json") | {"dtype": dtype}
    train = open_dataset(competition(data=data), folder, tmp_path / "cache").source.train
    np.testing.assert_array_equal(train.images.stacked, values.transpose(0, 3, 1, 2).astype(dtype))
    assert train.scale == {"uint16": 65535, "float32": 1}[dtype]


def test_preprocessing_is_a_dataset_of_its_own_for_train_and_test(tmp_path: Path) -> None:
    folder = written(tmp_path)
    steps = [{"name": "illumination"}, {"name": "standardise"}]
    config = competition(preprocess=steps)
    opened = open_dataset(config, folder, tmp_path / "cache")
    plain = open_dataset(competition(), folder, tmp_path / "cache")
    assert opened.source.source_id == plain.source.source_id == opened.dataset.source_id
    assert opened.dataset.data_id != opened.source.data_id
    for before, after in zip(plain.source.parts, opened.dataset.parts, strict=True):
        assert after.images.ids.tolist() == before.images.ids.tolist()
        for one, other in zip(before.images, after.images, strict=True):
            np.testing.assert_array_equal(preprocess.apply(config.preprocess, one), other)
            assert (one != other).any()
    assert opened.dataset.train.targets is not None and plain.source.train.targets is not None
    np.testing.assert_array_equal(opened.dataset.train.targets.values, plain.source.train.targets.values)
    stronger = competition(preprocess=[{"name": "illumination", "sigma": 0.5}])
    assert open_dataset(stronger, folder, tmp_path / "cache").dataset.data_id != opened.dataset.data_id


def test_steps_that_do_not_fit_the_data(tmp_path: Path) -> None:
    grey = {"x": np.zeros((9, 12, 10), np.uint8), "t": np.zeros((4, 12, 10), np.uint8)}
    with pytest.raises(UserError, match="stain_macenko: needs pictures in red, green and blue"):
        open_dataset(competition(preprocess=["stain_macenko"]), written(tmp_path, **grey), tmp_path / "cache")


def test_large_files_are_hashed_again_only_when_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "HASH_BYTES", 10)
    folder, cache = written(tmp_path), tmp_path / "cache"
    first = source_id(competition(), folder, False, cache)
    calls: list[Path] = []
    real = reading.sha256_of

    def counted(path: Path) -> str:
        calls.append(path)
        return real(path)

    monkeypatch.setattr(reading, "sha256_of", counted)
    assert source_id(competition(), folder, False, cache) == first and calls == []
    written(tmp_path, y=np.zeros(9, np.int64))
    os.utime(folder / "toy.npz", ns=(1, 1))
    assert source_id(competition(), folder, False, cache) != first and len(calls) == 1


def test_identity_follows_all_that_changes_what_is_read(tmp_path: Path) -> None:
    folder, cache = written(tmp_path), tmp_path / "cache"
    base = source_id(competition(), folder, False, cache)
    data = competition().data.model_dump(mode="json")
    same = [
        competition(folds={"count": 3}),
        competition(data=data | {"drop": "none"}),
        competition(preprocess=["clahe"]),
    ]
    other = [competition(classes=["b", "a"]), competition(data=data | {"dtype": "uint16"})]
    assert {source_id(config, folder, False, cache) for config in same} == {base}
    assert base not in {source_id(config, folder, False, cache) for config in other}
    assert source_id(competition(), folder, True, cache) != base


@pytest.mark.parametrize("name", ["mars", "wbc", "warwick", "mnist"])
def test_test_images_read_alone_are_those_of_the_whole(name: str, tmp_path: Path) -> None:
    """Every layout, after preprocessing: what a code competition's script reads is what was predicted locally."""
    shipped = Path(__file__).resolve().parents[1] / "configs" / "competitions" / f"{name}.yaml"
    competition = load_competition(shipped, ["preprocess=[{name: clahe}, standardise]"])
    folder = tmp_path / "data"
    write_sample(
        name, folder / competition.data.expects if competition.data.format == "npz" else folder, 1, 12, test_rows=5
    )
    whole = open_dataset(competition, folder, tmp_path / "cache", lambda text: None).dataset.test
    alone = read_test(competition, folder, tmp_path / "alone.npy")
    assert whole is not None and len(alone) == 5
    assert alone.images.ids.tolist() == whole.images.ids.tolist()
    assert (alone.images.shapes == whole.images.shapes).all() and alone.images.values.dtype == whole.images.values.dtype
    assert (np.asarray(alone.images.values) == np.asarray(whole.images.values)).all()
