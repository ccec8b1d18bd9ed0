"""Outliers and duplicates on cases small enough to judge by eye, and on the real file where it lies at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from podium.config_file import load_competition
from podium.data.npz import read
from podium.data.outliers import duplicate_groups, find_outliers
from podium.data.part import Part
from podium.data.ragged import Ragged

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("background", "soil", "bedrock", "sand")


def part(pictures: list[int], masks: list[list[int]]) -> Part:
    """Rows of two pixels: the picture is its number twice, the mask is given; ids are r0, r1, ..."""
    images = np.array([[[[number, number]]] for number in pictures], np.uint8)
    targets = np.array([[[mask]] for mask in masks], np.uint8)
    ids = [f"r{i}" for i in range(len(pictures))]
    return Part("train", Ragged.stack(images, ids), Ragged.stack(targets, ids), "0" * 16)


def test_mask_of_two_classes_under_different_pictures() -> None:
    found = find_outliers(part([1, 2, 3, 4], [[1, 2], [1, 1], [1, 2], [1, 2]]), CLASSES, 0)
    assert found == {name: "mask shared by 3 different pictures" for name in ("r0", "r2", "r3")}
    assert list(found) == ["r0", "r2", "r3"]


@pytest.mark.parametrize(
    "shared",
    [[1, 1], [1, 0], [0, 0], [1, 255], [255, 0], [3, 9]],  # one scored class or none; 9 is no class at all
)
def test_simple_masks_may_be_shared(shared: list[int]) -> None:
    assert find_outliers(part([1, 2, 3], [shared] * 3), CLASSES, 0) == {}


def test_without_an_unscored_class_zero_counts() -> None:
    rows = part([1, 2], [[0, 1], [0, 1]])
    assert find_outliers(rows, CLASSES, 0) == {}
    assert list(find_outliers(rows, CLASSES, None)) == ["r0", "r1"]


def test_exact_duplicates_are_no_outliers() -> None:
    assert find_outliers(part([5, 5, 5], [[1, 2]] * 3), CLASSES, 0) == {}
    reasons = find_outliers(part([5, 5, 6], [[1, 2]] * 3), CLASSES, 0)
    assert reasons == {name: "mask shared by 2 different pictures" for name in ("r0", "r1", "r2")}


def test_masks_of_equal_bytes_and_different_shape_differ() -> None:
    values = np.array([1, 2, 1, 2], np.uint8)
    shapes = np.array([[1, 1, 2], [1, 2, 1]])
    images = Ragged(np.array([1, 1, 2, 2], np.uint8), shapes, np.array(["a", "b"]))
    rows = Part("train", images, Ragged(values, shapes, np.array(["a", "b"])), "0" * 16)
    assert find_outliers(rows, CLASSES, 0) == {}


def test_duplicate_groups_count_by_first_occurrence() -> None:
    groups = duplicate_groups(part([7, 3, 7, 9, 3, 7], [[0, 0]] * 6))
    assert groups.tolist() == [0, 1, 0, 2, 1, 0]
    assert groups.dtype == np.int64
    tall_and_wide = Ragged(np.array([1, 1, 1, 1], np.uint8), np.array([[1, 1, 2], [1, 2, 1]]), np.array(["a", "b"]))
    assert duplicate_groups(Part("test", tall_and_wide, None, "")).tolist() == [0, 1]


def _real_folder() -> Path | None:
    places = [Path(os.environ["PODIUM_DATA"]) / "mars"] if os.environ.get("PODIUM_DATA") else []
    places.append(ROOT.parent / "shared" / "data" / "mars")
    return next((folder for folder in places if (folder / "mars_for_students.npz").is_file()), None)


@pytest.mark.skipif(_real_folder() is None, reason="the Mars file is not at hand")
def test_real_file_has_110_outliers_and_keeps_its_simple_masks() -> None:
    folder = _real_folder()
    assert folder is not None
    competition = load_competition(ROOT / "configs" / "competitions" / "mars.yaml")
    train = read(competition, folder).train
    assert train.targets is not None
    found = find_outliers(train, competition.classes, competition.unscored_index)
    assert len(found) == 110
    assert set(found.values()) == {"mask shared by 110 different pictures"}
    masks = [mask.tobytes() for mask in train.targets]
    shared = {name for name, mask in zip(train.images.ids.tolist(), masks, strict=True) if masks.count(mask) > 1}
    assert len(shared - set(found)) == 364
    assert duplicate_groups(train).tolist() == list(range(2615))
