"""The built-in sample: the competition's format, the same every time, with what was planted in it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from podium.audit.drops import find_drops, same
from podium.config_file import load_competition
from podium.data.part import Part
from podium.data.sample import is_sample, sample_of_this_version, write_sample
from podium.errors import UserError
from project import read

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "competitions" / "mars.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("sample")
    write_sample("mars", where / "mars_for_students.npz")
    return where


@pytest.fixture(scope="module")
def train(folder: Path) -> Part:
    return read(load_competition(CONFIG), folder).train


def test_format_is_the_competitions(folder: Path) -> None:
    with np.load(folder / "mars_for_students.npz", allow_pickle=False) as file:
        assert sorted(file.files) == ["test_set", "training_set"]
        training_set, test_set = file["training_set"], file["test_set"]
    assert (training_set.shape, training_set.dtype) == ((240, 2, 64, 128), np.float64)
    assert (test_set.shape, test_set.dtype) == ((96, 64, 128), np.uint8)
    assert set(np.unique(training_set[:, 1])) == {0, 1, 2, 3, 4}


def test_exactly_the_planted_rows_are_outliers(train: Part) -> None:
    found = find_drops(train, 5, 0)
    assert found.conflicts == ()
    reasons = {name: reason for name, reason in found.reasons.items() if not reason.startswith("copy of ")}
    assert set(reasons.values()) == {"mask shared by 10 different pictures"}
    assert len(reasons) == 10
    rows = sorted(int(name) for name in reasons)
    assert rows[0] < 60 and rows[-1] >= 180  # scattered
    assert len(found.reasons) == 10 + 3  # and the second one of each pair of equal pictures


def test_some_pictures_occur_twice_and_some_simple_masks_often(train: Part) -> None:
    assert train.targets is not None
    groups = same(train.images)
    pairs = [np.flatnonzero(groups == group) for group in np.flatnonzero(np.bincount(groups) > 1)]
    assert len(pairs) == 3
    for one, other in pairs:
        np.testing.assert_array_equal(train.targets.stacked[one], train.targets.stacked[other])
    masks, counts = np.unique(train.targets.stacked.reshape(240, -1), axis=0, return_counts=True)
    tiles = [np.unique(mask).tolist() for mask, count in zip(masks, counts, strict=True) if count > 3]
    assert [0, 1] in tiles and [0, 2] in tiles  # whole tiles of one terrain


def test_shares_are_roughly_the_real_ones(train: Part) -> None:
    assert train.targets is not None
    masks = train.targets.stacked
    shares = np.bincount(masks.ravel(), minlength=5) / masks.size
    np.testing.assert_allclose(shares, [0.20, 0.31, 0.39, 0.08, 0.013], rtol=0.3)
    clean = (masks == 4).any(axis=(1, 2, 3)).sum() - 10
    assert 12 <= clean <= 20  # 8 % of the pictures hold a rock
    assert 50 < train.images.values.mean() < 75
    dark, light = np.quantile(train.images.stacked.mean(axis=(1, 2, 3)), [0.1, 0.9])
    assert light - dark > 30  # the light varies more between pictures than the terrains do within


def test_grey_value_alone_does_not_tell_the_terrain(train: Part) -> None:
    assert train.targets is not None
    counts = np.zeros((256, 5))
    np.add.at(counts, (train.images.values, train.targets.values), 1)
    counts = counts[:, 1:4]
    guessed = counts.max(axis=1).sum() / counts.sum()
    assert guessed < 0.6  # always saying bedrock reaches about 0.47


def test_same_seed_same_arrays_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_sample("mars", tmp_path / f"{name}.npz", seed=seed, rows=12, outliers=2, test_rows=4)
    a, b, c = (np.load(tmp_path / f"{name}.npz") for name in "abc")
    for key in ("training_set", "test_set"):
        np.testing.assert_array_equal(a[key], b[key])
        assert (a[key] != c[key]).any()


def test_marked_as_a_sample_wherever_it_is_copied(tmp_path: Path, folder: Path) -> None:
    copy = tmp_path / "renamed.npz"
    copy.write_bytes((folder / "mars_for_students.npz").read_bytes())
    assert is_sample(copy) and sample_of_this_version(copy)
    with zipfile.ZipFile(copy, "a") as archive:
        archive.comment = b"podium sample version 0 seed 0"
    assert is_sample(copy) and not sample_of_this_version(copy)
    np.savez(copy, training_set=np.zeros(1))
    assert not is_sample(copy)
    assert not is_sample(tmp_path / "missing.npz")
    copy.write_bytes(b"no zip")
    assert not is_sample(copy)


@pytest.mark.parametrize(("rows", "outliers"), [(1, 0), (2, 1), (4, 3)])
def test_tiny_samples(tmp_path: Path, rows: int, outliers: int) -> None:
    write_sample("mars", tmp_path / "mars_for_students.npz", rows=rows, outliers=outliers, test_rows=1)
    assert len(read(load_competition(CONFIG), tmp_path).train) == rows


def test_unknown_competition_and_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no built-in sample.*--data.*did you mean 'mars'"):
        write_sample("marss", tmp_path / "x.npz")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_sample("mars", tmp_path / "file" / "x.npz", rows=2, outliers=1, test_rows=1)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
