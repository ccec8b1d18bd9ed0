"""Rows that beyond doubt do not belong: on cases small enough to judge by eye, and on the real files where they lie at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from podium.audit import drops
from podium.audit.drops import find_drops, in_short, read_drops, same
from podium.config_file import load_competition
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.errors import UserError
from project import read

ROOT = Path(__file__).resolve().parents[1]
CLASSES = 4  # background, soil, bedrock, sand


def part(pictures: list[int], masks: list[list[int]]) -> Part:
    """Rows of two pixels: the picture is its number and 99, so none is blank; the mask is given; ids are r0, r1, ..."""
    images = np.array([[[[number, 99]]] for number in pictures], np.uint8)
    targets = np.array([[[mask]] for mask in masks], np.uint8)
    ids = [f"r{i}" for i in range(len(pictures))]
    return Part("train", Ragged.stack(images, ids), Ragged.stack(targets, ids), "0" * 16)


def labelled(pictures: list[int], labels: list[int]) -> Part:
    """The same with one label per picture."""
    return part(pictures, [[label] for label in labels])


def blank(labels: list[list[int]]) -> Part:
    """As many pictures without any content."""
    made = part([0] * len(labels), labels)
    return Part("train", Ragged.stack(np.full((len(labels), 1, 1, 2), 7, np.uint8), made.images.ids), made.targets, "0")


def reasons(rows: Part, unscored: int | None = 0) -> dict[str, str]:
    """What is dropped, where no equal pictures have different masks."""
    found = find_drops(rows, CLASSES, unscored)
    assert found.conflicts == ()
    return found.reasons


# ---------------------------------------------------------------- masks that several pictures share


def test_mask_of_two_classes_under_different_pictures() -> None:
    found = reasons(part([1, 2, 3, 4], [[1, 2], [1, 1], [1, 2], [1, 2]]))
    assert found == {name: "mask shared by 3 different pictures" for name in ("r0", "r2", "r3")}
    assert list(found) == ["r0", "r2", "r3"]


@pytest.mark.parametrize(
    "shared",
    [[1, 1], [1, 0], [0, 0], [1, 255], [255, 0], [3, 9]],  # one scored class or none; 9 is no class at all
)
def test_simple_masks_may_be_shared(shared: list[int]) -> None:
    assert reasons(part([1, 2, 3], [shared] * 3)) == {}


def test_labels_may_be_shared_by_any_number_of_pictures() -> None:
    assert reasons(labelled([1, 2, 3, 4, 5, 6], [1, 1, 1, 2, 2, 2]), None) == {}


def test_without_an_unscored_class_zero_counts() -> None:
    rows = part([1, 2], [[0, 1], [0, 1]])
    assert reasons(rows) == {}
    assert list(reasons(rows, None)) == ["r0", "r1"]


def test_masks_of_equal_bytes_and_different_shape_differ() -> None:
    values = np.array([1, 2, 1, 2], np.uint8)
    shapes = np.array([[1, 1, 2], [1, 2, 1]])
    images = Ragged(np.array([1, 1, 2, 2], np.uint8), shapes, np.array(["a", "b"]))
    rows = Part("train", images, Ragged(values, shapes, np.array(["a", "b"])), "0" * 16)
    assert reasons(rows) == {}


# ---------------------------------------------------------------- pictures that occur several times


def test_of_equal_pictures_with_equal_masks_the_first_stays() -> None:
    # a mask of two classes that only one picture has, however often, is that picture's own
    rows = part([5, 8, 5, 8, 5], [[1, 2], [1, 1], [1, 2], [1, 1], [1, 2]])
    found = reasons(rows)
    assert found == {"r2": "copy of r0", "r3": "copy of r1", "r4": "copy of r0"}
    assert list(found) == ["r2", "r3", "r4"]
    assert {in_short(reason) for reason in found.values()} == {"copy of another image"}


def test_a_shared_mask_weighs_more_than_a_copy() -> None:
    found = reasons(part([5, 5, 6], [[1, 2]] * 3))
    assert found == {name: "mask shared by 2 different pictures" for name in ("r0", "r1", "r2")}
    assert in_short(found["r0"]) == found["r0"]


def test_of_equal_pictures_with_equal_labels_the_first_stays() -> None:
    assert reasons(labelled([5, 6, 5, 7, 6], [2, 1, 2, 2, 1]), None) == {"r2": "copy of r0", "r4": "copy of r1"}


def test_of_equal_pictures_with_contradicting_labels_none_stays() -> None:
    found = reasons(labelled([5, 6, 5, 7, 7, 7, 8], [2, 1, 3, 1, 1, 0, 1]), None)
    two, three = "2 equal pictures with 2 different labels", "3 equal pictures with 2 different labels"
    assert found == {"r0": two, "r2": two, "r3": three, "r4": three, "r5": three}


def test_equal_pictures_with_different_masks_stay_and_are_told() -> None:
    rows = part([5, 6, 7, 6, 5, 5], [[1, 2], [0, 2], [1, 1], [2, 2], [1, 1], [1, 0]])
    found = find_drops(rows, CLASSES, 0)
    assert found.reasons == {}
    assert set(found.conflicts) == {("r0", "r4", "r5"), ("r1", "r3")}


@pytest.mark.parametrize("copies", [drops.REPEATED - 1, drops.REPEATED, drops.REPEATED + 3])
@pytest.mark.parametrize("labels", ["equal", "different"])
def test_a_picture_that_comes_often_goes_with_all_its_copies(copies: int, labels: str) -> None:
    given = [1] * copies if labels == "equal" else [1 + row % 2 for row in range(copies)]
    found = reasons(labelled([7, *[5] * copies, 8], [1, *given, 2]), None)
    names = [f"r{row}" for row in range(1, copies + 1)]
    if copies >= drops.REPEATED:
        assert found == dict.fromkeys(names, f"picture occurs {copies} times")
    elif labels == "equal":
        assert found == dict.fromkeys(names[1:], "copy of r1")
    else:
        assert found == dict.fromkeys(names, f"{copies} equal pictures with 2 different labels")


def test_so_it_does_where_there_are_masks() -> None:
    five = dict.fromkeys(["r0", "r1", "r2", "r3", "r4"], "picture occurs 5 times")
    assert reasons(part([5] * 5, [[1, 1]] * 5)) == five
    assert reasons(part([5] * 5, [[1, 1], [2, 2], [1, 2], [2, 1], [0, 0]])) == five


def test_blank_pictures_are_no_jokes() -> None:
    assert reasons(blank([[1]] * 6), None) == dict.fromkeys([f"r{row}" for row in range(1, 6)], "copy of r0")
    assert reasons(blank([[0, 0]] * 6)) == dict.fromkeys([f"r{row}" for row in range(1, 6)], "copy of r0")
    contradicting = "6 equal pictures with 2 different labels"
    assert reasons(blank([[1], [2]] * 3), None) == dict.fromkeys([f"r{row}" for row in range(6)], contradicting)
    drawn = find_drops(blank([[0, 0], [1, 1]] * 3), CLASSES, 0)
    assert drawn.conflicts == (("r0", "r1"),)  # one of each drawing stays, its copies do not
    assert drawn.reasons == {f"r{row}": f"copy of r{row % 2}" for row in range(2, 6)}


def test_a_part_without_targets_is_not_searched() -> None:
    rows = part([1, 1], [[0, 0]] * 2)
    with pytest.raises(ValueError, match="has no targets"):
        find_drops(Part("test", rows.images, None, ""), CLASSES, 0)


def test_equal_items_are_numbered_by_first_occurrence() -> None:
    numbers = same(part([7, 3, 7, 9, 3, 7], [[0, 0]] * 6).images)
    assert numbers.tolist() == [0, 1, 0, 2, 1, 0]
    assert numbers.dtype == np.int64
    tall_and_wide = Ragged(np.array([1, 1, 1, 1], np.uint8), np.array([[1, 1, 2], [1, 2, 1]]), np.array(["a", "b"]))
    assert same(tall_and_wide).tolist() == [0, 1]


# ---------------------------------------------------------------- a file that names what is left out

IDS = np.array(["a", "b", "7"])


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "mine.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("id,reason\nb,blurred\n7,\n", {"b": "blurred", "7": "named in mine.csv"}),
        ("id\na\n", {"a": "named in mine.csv"}),
        ("score,id\n0.3,7\n0.2,a\n", {"7": "named in mine.csv", "a": "named in mine.csv"}),
        ('\ufeffid,reason\r\n"b","dark, blurred"\r\n\r\n', {"b": "dark, blurred"}),  # from a spreadsheet
        ("id,reason\n", {}),
    ],
)
def test_a_file_names_rows_and_reasons(tmp_path: Path, content: str, expected: dict[str, str]) -> None:
    assert read_drops(written(tmp_path, content), IDS) == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id,reason\na,dark\nc,dark\n", "line 3: id 'c' is not in the data; correct or remove it"),
        ("ids,reason\na,dark\n", "has no column 'id'; did you mean 'ids'? allowed: ids, reason"),
        ("", "has no column 'id'"),
        (b"id\n\xff\xfe\n", "cannot be read ("),
    ],
)
def test_every_fault_of_it_has_its_sentence(tmp_path: Path, content: str | bytes, said: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(UserError) as error:
        read_drops(path, IDS)
    assert said in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.drop: .*none\.csv cannot be read .*name a csv with a column id"):
        read_drops(tmp_path / "none.csv", IDS)


# ---------------------------------------------------------------- the real data, where they are


def _real_folder(name: str, file: str) -> Path | None:
    places = [Path(os.environ["PODIUM_DATA"]) / name] if os.environ.get("PODIUM_DATA") else []
    places.append(ROOT.parent / "shared" / "data" / name)
    return next((folder for folder in places if (folder / file).is_file()), None)


MARS = _real_folder("mars", "mars_for_students.npz")
BLOOD = _real_folder("blood", "training_set.npz")


def linked(tmp_path: Path, file: Path) -> Path:
    """A folder of the test's own that holds the file, so that nothing is written beside the real one."""
    (tmp_path / file.name).symlink_to(file)
    return tmp_path


@pytest.mark.skipif(MARS is None, reason="the Mars file is not at hand")
def test_real_file_has_110_outliers_and_keeps_its_simple_masks(tmp_path: Path) -> None:
    assert MARS is not None
    competition = load_competition(ROOT / "configs" / "competitions" / "mars.yaml")
    train = read(competition, linked(tmp_path, MARS / "mars_for_students.npz")).train
    assert train.targets is not None
    drops_of = find_drops(train, len(competition.classes), competition.unscored_index)
    found = drops_of.reasons
    assert len(found) == 110 and drops_of.conflicts == ()
    assert set(found.values()) == {"mask shared by 110 different pictures"}
    masks = [mask.tobytes() for mask in train.targets]
    shared = {name for name, mask in zip(train.images.ids.tolist(), masks, strict=True) if masks.count(mask) > 1}
    assert len(shared - set(found)) == 364
    assert same(train.images).tolist() == list(range(2615))


@pytest.mark.skipif(BLOOD is None, reason="the blood file is not at hand")
def test_real_blood_file_loses_its_two_jokes_and_eight_copies(tmp_path: Path) -> None:
    assert BLOOD is not None
    competition = load_competition(ROOT / "configs" / "competitions" / "blood.yaml")
    train = read(competition, linked(tmp_path, BLOOD / "training_set.npz")).train
    found = [in_short(reason) for reason in find_drops(train, len(competition.classes), None).reasons.values()]
    counts = {reason: found.count(reason) for reason in set(found)}
    assert counts == {"picture occurs 200 times": 200, "picture occurs 25 times": 25, "copy of another image": 8}
