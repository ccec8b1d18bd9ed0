"""Format rle_csv with a row per object: masks worked out by hand, and the check's sentence for every damage."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.config import Competition
from podium.data.ragged import Ragged
from podium.data.rle import decode, encode, encode_each
from podium.submission import rle_csv
from podium.submission.checks.rle_csv import check_rle_csv
from submitting import checked, competition, packed, ragged

CELLS = ["background", "cell", "nucleus"]


def objects(classes: list[str], **options: Any) -> Competition:
    return competition("segmentation", classes, {"format": "rle_csv", "per": "object"} | options)


EACH = objects(CELLS[:2])
SKIP = objects(CELLS[:2], empty="skip")
BOTH = objects(CELLS, name="{id}-{class}")

# 3 rows, 4 columns. Down the columns the pixels are called  1 4 7 10 / 2 5 8 11 / 3 6 9 12
LABELS = ragged(
    {
        "1": np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]], np.uint8),  # corners join: {1, 5} and {10, 11}
        "2": np.zeros((3, 4), np.uint8),
        "3": np.array([[1, 0, 1, 1], [1, 0, 0, 0], [1, 0, 1, 1]], np.uint8),  # {1, 2, 3}, {7, 10} and {9, 12}
    }
)
GOOD = b"id,rle\n1,1 1 5 1\n1,10 2\n2,\n3,1 3\n3,7 1 10 1\n3,9 1 12 1\n"


def test_known_bytes(tmp_path: Path) -> None:
    done = packed(tmp_path, EACH, LABELS)
    assert done.path.read_bytes() == GOOD
    assert done.report.rows == 6 and done.report.counts == (36 - 11, 11) and done.report.warnings == ()
    done = packed(tmp_path, SKIP, LABELS)
    assert done.path.read_bytes() == GOOD.replace(b"2,\n", b"")
    assert done.report.rows == 5 and done.report.counts == (25, 11)


def test_known_bytes_of_several_classes(tmp_path: Path) -> None:
    labels = ragged({"a": np.array([[1, 2, 1], [2, 2, 1]], np.uint8), "b": np.array([[2]], np.uint8)})
    done = packed(tmp_path, BOTH, labels)
    assert done.path.read_bytes() == b"id,rle\na-cell,1 1\na-cell,5 2\na-nucleus,2 3\nb-cell,\nb-nucleus,1 1\n"
    assert done.report.counts == (0, 3, 4)
    only = objects(CELLS, **{"class": "nucleus"})
    assert packed(tmp_path, only, labels).path.read_bytes() == b"id,rle\na,2 3\nb,1 1\n"


def test_a_run_goes_on_from_column_to_column_only_within_an_object(tmp_path: Path) -> None:
    apart = ragged({"1": np.array([[0, 1], [0, 0], [1, 0]], np.uint8)})  # pixels 3 and 4 are no neighbours
    assert packed(tmp_path, EACH, apart).path.read_bytes() == b"id,rle\n1,3 1\n1,4 1\n"
    whole = ragged({"1": np.ones((3, 2), np.uint8)})
    assert packed(tmp_path, EACH, whole).path.read_bytes() == b"id,rle\n1,1 6\n"


@given(seed=st.integers(0, 10**6), size=st.tuples(st.integers(1, 9), st.integers(1, 9)), most=st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_all_objects_in_one_pass_are_each_object_by_itself(seed: int, size: tuple[int, int], most: int) -> None:
    numbers = np.random.default_rng(seed).integers(0, most + 1, size)
    texts = encode_each(numbers)
    assert texts == [encode(numbers == number) for number in range(1, int(numbers.max()) + 1)]
    for number, text in enumerate(texts, start=1):
        assert (decode(text, *size) == (numbers == number)).all()


def test_memory_above_the_labels_is_bounded(tmp_path: Path) -> None:
    stack = np.zeros((400, 1, 128, 128), np.uint8)
    stack[:, :, ::8, ::8] = 1
    labels = Ragged.stack(stack, np.arange(400).astype(str))
    rle_csv.write(tmp_path / "warm.csv", ragged({"a": stack[0, 0]}), EACH)  # scikit-image is imported
    tracemalloc.start()
    rle_csv.write(tmp_path / "x.csv", labels, EACH)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6 < labels.values.nbytes


# ---------------------------------------------------------------- the check


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert content.count(old) == 1
        return content.replace(old, new)

    return change


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda c: b"", "3 of 3 ids are missing, the first is '1'"),
    "an image missing": (swap(b"2,\n", b""), "1 of 3 ids are missing, the first is '2'"),
    "unknown": (swap(b"\n2,", b"\n4,"), "line 4: id '4' is not in the test set, whose first is '1'"),
    "rows apart": (swap(b"1,10 2\n2,\n", b"2,\n1,10 2\n"), "line 4: id '1' was already in line 2"),
    "images out of order": (
        lambda c: b"id,rle\n2,\n" + c.replace(b"2,\n", b"", 1)[7:],
        "line 3: id '1' comes after id '2', expected the test set's order",
    ),
    "an object twice": (
        swap(b"1,10 2\n", b"1,10 2\n1,10 2\n"),
        "line 4 (id '1'), pixel 10 (row 0, column 3) is in an earlier row of its image too",
    ),
    "overlapping": (swap(b"1,10 2", b"1,5 1 10 2"), "line 3 (id '1'), pixel 5 (row 1, column 1) is in an earlier row"),
    "empty beside others": (
        swap(b"1,10 2\n", b"1,10 2\n1,\n"),
        "line 4 (id '1'): an empty mask stands beside other rows",
    ),
    "others beside empty": (swap(b"2,\n", b"2,\n2,1 1\n"), "line 5 (id '2'): an empty mask stands beside other rows"),
    "empty twice": (swap(b"2,\n", b"2,\n2,\n"), "line 5 (id '2'): an empty mask stands beside other rows"),
    "past the end": (
        swap(b"1,10 2", b"1,10 4"),
        "line 3 (id '1'), column 'rle' run 1 is '10 4' and ends behind pixel 12",
    ),
    "odd": (swap(b"1,10 2", b"1,10"), "line 3 (id '1'), column 'rle' holds 1 numbers, expected pairs"),
    "from zero": (swap(b"1,10 2", b"1,0 2"), "line 3 (id '1'), column 'rle' run 1 is '0 2'"),
    "no last line break": (lambda c: c[:-1], "the last line has no line break"),
    "two in a row": (
        swap(b"1 1 5 1\n1,10 2", b"1 1 5 1 10 2"),
        "id '1': 1 rows with objects, which are not the 2 connected pieces that were meant",
    ),
    "an object cut": (
        swap(b"3,1 3\n", b"3,1 1\n3,2 2\n"),
        "id '3': 4 rows with objects, which are not the 3 connected",
    ),
    "one cut and two in a row": (
        swap(b"3,1 3\n3,7 1 10 1\n3,9 1 12 1\n", b"3,1 1\n3,2 2\n3,7 1 9 2 12 1\n"),
        "id '3': 3 rows with objects, which are not the 3 connected pieces that were meant",
    ),
    "an object less": (
        swap(b"1,10 2\n", b""),
        "id '1', pixel 10 (row 0, column 3) is in no object and was meant to be (2 pixels in one row): not what was meant",
    ),
    "an object too many": (
        swap(b"2,\n", b"2,1 1\n"),
        "pixel 1 (row 0, column 0) is in an object and was not meant to be",
    ),
}
FINE_FROM_ELSEWHERE = {
    "no last line break",
    "two in a row",
    "an object cut",
    "one cut and two in a row",
    "an object less",
    "an object too many",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(tmp_path: Path, kind: str) -> None:
    change, sentence = DAMAGE[kind]
    report = checked(tmp_path / "x.csv", change(GOOD), EACH, LABELS)
    assert any(sentence in error for error in report.errors), report.errors
    foreign = checked(tmp_path / "x.csv", change(GOOD), EACH, LABELS, own=False, meant=False)
    assert foreign.ok == (kind in FINE_FROM_ELSEWHERE), foreign.errors
    assert checked(tmp_path / "x.csv", GOOD, EACH, LABELS).errors == ()


def test_every_single_byte_matters(tmp_path: Path) -> None:
    for wanted in (EACH, SKIP):
        content = packed(tmp_path, wanted, LABELS).path.read_bytes()
        for place in range(len(content)):
            for byte in b"17x,\n":
                if content[place] != byte:
                    damaged = content[:place] + bytes([byte]) + content[place + 1 :]
                    assert checked(tmp_path / "x.csv", damaged, wanted, LABELS).errors, damaged


def test_images_without_objects_have_no_rows_where_they_are_skipped(tmp_path: Path) -> None:
    content = GOOD.replace(b"2,\n", b"")
    assert checked(tmp_path / "x.csv", content, SKIP, LABELS, own=False).errors == ()
    report = checked(tmp_path / "x.csv", GOOD, SKIP, LABELS, own=False)
    assert report.errors == ("line 4 (id '2'), column 'rle' is empty, expected no row of an image without objects",)
    less = checked(tmp_path / "x.csv", content.replace(b"1,1 1 5 1\n1,10 2\n", b""), SKIP, LABELS)
    assert less.errors == (
        "id '1', pixel 1 (row 0, column 0) is in no object and was meant to be (4 pixels in one row): not what was meant",
    )
    none = packed(tmp_path, SKIP, ragged({"1": np.zeros((2, 2), np.uint8)}))
    assert none.path.read_bytes() == b"id,rle\n" and none.report.warnings == ("there is no object in any image",)
    assert none.report.rows == 0 and none.report.counts == (4, 0)


def test_objects_of_two_classes_do_not_share_pixels(tmp_path: Path) -> None:
    labels = ragged({"a": np.array([[1, 2, 2]], np.uint8)})
    content = b"id,rle\na-cell,1 2\na-nucleus,2 2\n"
    sentence = "line 3 (id 'a-nucleus'), pixel 2 (row 0, column 1) (one pixel in one row): in objects of two classes"
    assert any(sentence in error for error in checked(tmp_path / "x.csv", content, BOTH, labels).errors)
    foreign = checked(tmp_path / "x.csv", content, BOTH, labels, own=False, meant=False)
    assert foreign.ok and sentence in foreign.warnings[0]


def test_meant_is_joined_by_id_and_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(GOOD)
    shuffled = ragged({name: LABELS[LABELS.index[name]][0] for name in ("3", "1", "2")})
    assert check_rle_csv(path, EACH, LABELS.ids, LABELS.shapes, shuffled).errors == ()
    few = ragged({name: LABELS[LABELS.index[name]][0] for name in ("1", "2")})
    report = check_rle_csv(path, EACH, LABELS.ids, LABELS.shapes, few)
    assert report.errors == ("1 ids of the test set have no labels, first '3'",)
    other = ragged({name: np.zeros((4, 3), np.uint8) for name in ("1", "2", "3")})
    report = check_rle_csv(path, EACH, LABELS.ids, LABELS.shapes, other)
    assert "id '1': 3 × 4 pixels, meant were 4 × 3" in report.errors
