"""The decoded cache: read once, trusted only while it is whole."""

from __future__ import annotations

import os
import shutil
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from podium.config import Competition
from podium.data.cache import cached, open_cached
from podium.data.npz import open_dataset
from podium.data.part import Dataset, Part
from podium.data.ragged import Ragged
from podium.data.sample import write_sample
from podium.errors import UserError

ID = "0123456789abcdef"


def dataset() -> Dataset:
    rng = np.random.default_rng(1)
    train, masks = (rng.integers(0, 256, (6, 1, 4, 5)).astype(np.uint8) for _ in range(2))
    test = rng.integers(0, 256, (3, 1, 4, 5)).astype(np.uint8)
    ids, test_ids = [str(i) for i in range(6)], ["a", "b", "c"]
    return Dataset(
        Part("train", Ragged.stack(train, ids), Ragged.stack(masks, ids), ID),
        Part("test", Ragged.stack(test, test_ids), None, ID),
    )


def never() -> Dataset:
    raise AssertionError("decoded although the cache is good")


def same(a: Dataset, b: Dataset) -> None:
    assert a.train.targets is not None and b.train.targets is not None and b.test.targets is None
    pairs = [(a.train.images, b.train.images), (a.train.targets, b.train.targets), (a.test.images, b.test.images)]
    for one, other in pairs:
        np.testing.assert_array_equal(one.stacked, other.stacked)
        assert one.ids.tolist() == other.ids.tolist()
    assert a.data_id == b.data_id


def test_second_opening_decodes_nothing_and_maps_memory(tmp_path: Path) -> None:
    notes: list[str] = []
    first = cached(tmp_path, ID, dataset, notes.append)
    second = cached(tmp_path, ID, never, notes.append)
    same(dataset(), first)
    same(dataset(), second)
    same(dataset(), open_cached(tmp_path, ID))
    assert isinstance(second.train.images.values.base, np.memmap) or isinstance(second.train.images.values, np.memmap)
    assert notes == []
    assert sorted(os.listdir(tmp_path)) == [ID]


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


DAMAGES: list[tuple[str, Any]] = [
    ("train_images.npy", flip),
    ("train_targets.index.npz", flip),
    ("test_images.npy", lambda path: path.write_bytes(path.read_bytes()[:-5])),
    ("train_targets.npy", Path.unlink),
    ("done.json", Path.unlink),
    ("done.json", lambda path: path.write_text("{")),
    ("done.json", lambda path: path.write_text("[]")),
    ("done.json", lambda path: path.write_text(path.read_text().replace(ID, "f" * 16))),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_damaged_copy_is_made_anew_and_said(tmp_path: Path, name: str, damage: Any) -> None:
    cached(tmp_path, ID, dataset, print)
    damage(tmp_path / ID / name)
    notes: list[str] = []
    same(dataset(), cached(tmp_path, ID, dataset, notes.append))
    assert len(notes) == 1 and str(tmp_path / ID) in notes[0]
    same(dataset(), cached(tmp_path, ID, never, notes.append))
    assert sorted(os.listdir(tmp_path)) == [ID]


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fails() -> Dataset:
        raise UserError("bad file")

    with pytest.raises(UserError, match="bad file"):
        cached(tmp_path / "cache", ID, fails, print)
    assert not (tmp_path / "cache").exists()


def test_worker_is_told_about_a_missing_copy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="done.json is missing; run the command again"):
        open_cached(tmp_path, ID)


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot be written"):
        cached(tmp_path / "cache", ID, dataset, print)
    assert (tmp_path / "cache").read_text() == "a file where the folder should be"


def _open_in_process(folder: str) -> int:
    opened = cached(Path(folder), ID, dataset, print)
    return int(opened.train.images.values.astype(np.int64).sum())


def test_processes_that_race_all_get_a_whole_copy(tmp_path: Path) -> None:
    with get_context("fork").Pool(4) as pool:
        sums = pool.map(_open_in_process, [str(tmp_path)] * 16, chunksize=1)
    assert set(sums) == {int(dataset().train.images.values.astype(np.int64).sum())}
    assert sorted(os.listdir(tmp_path)) == [ID]


def test_open_dataset_reads_the_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Competition.model_validate(
        {
            "name": "mars",
            "task": "segmentation",
            "data": {
                "format": "npz",
                "file": "toy.npz",
                "train": {"key": "training_set", "image": 0, "target": 1},
                "test": {"key": "test_set"},
            },
            "classes": ["background", "soil", "bedrock", "sand", "big_rock"],
            "metric": {"name": "mean_iou"},
            "submission": {"format": "wide_csv"},
            "models": ["net"],
        }
    )
    write_sample("mars", tmp_path / "toy.npz", rows=6, outliers=2, test_rows=2)
    first = open_dataset(config, tmp_path, tmp_path / "cache")
    monkeypatch.setattr("podium.data.npz.read", lambda *_: never())
    same(first, open_dataset(config, tmp_path, tmp_path / "cache"))
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(AssertionError):
        open_dataset(config, tmp_path, tmp_path / "cache")
