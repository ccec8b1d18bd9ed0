"""The decoded cache: read once, trusted only while it is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from podium.config import Competition
from podium.data.cache import Recipe, cached, open_cached
from podium.data.chunk import Bad, Chunk
from podium.data.part import Dataset, Part
from podium.data.ragged import Ragged
from podium.data.reading import open_dataset
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
        ID,
    )


def chunks(part: Part) -> Iterator[Chunk]:
    """Two rows at a time, once as an array and once as a list."""
    for start in range(0, len(part), 2):
        rows = slice(start, start + 2)
        targets = None if part.targets is None else part.targets.stacked[rows]
        images = part.images.stacked[rows]
        yield Chunk(part.images.ids[rows].tolist(), list(images) if start else images, targets)


def recipe(made: Dataset | None = None) -> Recipe:
    made = made or dataset()
    test = made.test
    assert test is not None
    return Recipe(np.dtype(np.uint8), lambda: chunks(made.train), lambda: chunks(test), Bad())


def fail() -> Iterator[Chunk]:
    raise AssertionError("decoded although the cache is good")


never = Recipe(np.dtype(np.uint8), fail, fail, Bad())


def same(a: Dataset, b: Dataset) -> None:
    assert a.train.targets is not None and b.train.targets is not None and b.test is not None and a.test is not None
    assert b.test.targets is None
    pairs = [(a.train.images, b.train.images), (a.train.targets, b.train.targets), (a.test.images, b.test.images)]
    for one, other in pairs:
        np.testing.assert_array_equal(one.stacked, other.stacked)
        assert one.ids.tolist() == other.ids.tolist()
    assert a.data_id == b.data_id


def test_second_opening_decodes_nothing_and_maps_memory(tmp_path: Path) -> None:
    notes: list[str] = []
    first = cached(tmp_path, ID, recipe(), notes.append)
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


def ragged_recipe(test: bool = True, groups: bool = True, **options: Any) -> Recipe:
    """Images of two channels, each in its own size, as 16-bit numbers; one piece of rows is empty."""
    rng = np.random.default_rng(2)
    sizes = [(3, 4), (1, 7), (5, 2)]
    images = [rng.integers(0, 65536, (2, *size)).astype(np.uint16) for size in sizes]
    masks = [rng.integers(0, 256, (1, *size)).astype(np.uint8) for size in sizes]
    names = ["a", "b", "ü"]

    def train() -> Iterator[Chunk]:
        patients = ["p1", "p2", "p1"] if groups else None
        yield Chunk(names[:1], images[:1], masks[:1], patients and patients[:1])
        yield Chunk([], [], [], [] if groups else None)
        yield Chunk(names[1:], images[1:], masks[1:], patients and patients[1:])

    def tests() -> Iterator[Chunk]:
        yield Chunk(["t"], [images[1]])

    return Recipe(np.dtype(np.uint16), train, tests if test else None, options.pop("bad", Bad()), **options)


def test_images_of_any_size_and_depth_come_back_with_their_groups(tmp_path: Path) -> None:
    made = ragged_recipe(bad=Bad(True, ["row 7 is bad", "row 9 is bad"]), source_id="f" * 16)
    chunks_of = [chunk for chunk in made.train() if chunk.ids]
    for opened in (cached(tmp_path, ID, made, print), cached(tmp_path, ID, never, print), open_cached(tmp_path, ID)):
        train, test = opened.train, opened.test
        assert train.targets is not None and train.groups is not None and test is not None
        assert train.images.ids.tolist() == ["a", "b", "ü"] and test.images.ids.tolist() == ["t"]
        assert train.images.values.dtype == test.images.values.dtype == np.uint16
        pictures = [image for chunk in chunks_of for image in chunk.images]
        masks = [mask for chunk in chunks_of for mask in chunk.targets or ()]
        for found, expected in ((train.images, pictures), (train.targets, masks), (test.images, pictures[1:2])):
            assert isinstance(found.values, np.memmap)
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)
        assert train.groups.tolist() == ["p1", "p2", "p1"] and test.groups is None
        assert opened.skipped == ("row 7 is bad", "row 9 is bad")
        assert (opened.source_id, opened.data_id, test.data_id) == ("f" * 16, ID, ID)


def test_without_test_images_and_groups_there_are_none(tmp_path: Path) -> None:
    for opened in (cached(tmp_path, ID, ragged_recipe(False, False), print), open_cached(tmp_path, ID)):
        assert opened.test is None and opened.train.groups is None and len(opened.parts) == 1
        assert opened.source_id == ID and opened.skipped == ()
    assert not {"test_images.npy", "train_groups.npy"} & set(os.listdir(tmp_path / ID))


def test_groups_from_elsewhere_are_asked_for_by_id(tmp_path: Path) -> None:
    made = ragged_recipe(groups=False)
    asked = Recipe(made.dtype, made.train, made.test, made.bad, lambda ids: [f"of {name}" for name in ids])
    opened = cached(tmp_path, ID, asked, print)
    assert opened.train.groups is not None and opened.train.groups.tolist() == ["of a", "of b", "of ü"]


def test_lost_groups_are_noticed(tmp_path: Path) -> None:
    cached(tmp_path, ID, ragged_recipe(), print)
    (tmp_path / ID / "train_groups.npy").unlink()
    with pytest.raises(UserError, match="train_groups.npy is missing; run the command again"):
        open_cached(tmp_path, ID)
    notes: list[str] = []
    groups = cached(tmp_path, ID, ragged_recipe(), notes.append).train.groups
    assert groups is not None and groups.tolist() == ["p1", "p2", "p1"] and "train_groups.npy is missing" in notes[0]


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
    cached(tmp_path, ID, recipe(), print)
    damage(tmp_path / ID / name)
    notes: list[str] = []
    same(dataset(), cached(tmp_path, ID, recipe(), notes.append))
    assert len(notes) == 1 and str(tmp_path / ID) in notes[0]
    same(dataset(), cached(tmp_path, ID, never, notes.append))
    assert sorted(os.listdir(tmp_path)) == [ID]


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fails() -> Iterator[Chunk]:
        raise UserError("bad file")

    with pytest.raises(UserError, match="bad file"):
        cached(tmp_path / "cache", ID, Recipe(np.dtype(np.uint8), fails, fails, Bad()), print)
    assert list((tmp_path / "cache").iterdir()) == []


def test_worker_is_told_about_a_missing_copy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="done.json is missing; run the command again"):
        open_cached(tmp_path, ID)


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot be written"):
        cached(tmp_path / "cache", ID, recipe(), print)
    assert (tmp_path / "cache").read_text() == "a file where the folder should be"


def _open_in_process(folder: str) -> int:
    opened = cached(Path(folder), ID, recipe(), print)
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
    first = open_dataset(config, tmp_path, tmp_path / "cache").source
    monkeypatch.setattr("podium.data.npz.read_train", lambda *_: fail())
    same(first, open_dataset(config, tmp_path, tmp_path / "cache").source)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(AssertionError):
        open_dataset(config, tmp_path, tmp_path / "cache")
