"""Format label_csv: known bytes for every task, round trips, the check's sentence for every kind of damage."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podium.config import Competition
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.submission import label_csv
from podium.submission.checks.label_csv import check_label_csv
from submitting import checked, competition, one_each, packed

PETS = ["cat", "dog", "fish"]
DIGITS = competition("classification", list("0123456789"), {"format": "label_csv", "id": "ImageId", "label": "Label"})
NAMES = competition("classification", PETS, {"format": "label_csv", "names": True})
NUMBERS = competition("regression", [], {"format": "label_csv", "label": "age"})
GRADES = competition("regression", ["none", "mild", "severe"], {"format": "label_csv"})
COLUMNS = competition("multilabel", PETS, {"format": "label_csv"})
JOINED = competition("multilabel", PETS, {"format": "label_csv", "style": "joined", "label": "labels"})
JOINED_NAMES = competition("multilabel", PETS, {"format": "label_csv", "style": "joined", "names": True})
ANSWERS = Ragged.stack(np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]], np.uint8).reshape(3, 1, 3, 1), ["a", "b", "c"])


@pytest.mark.parametrize(
    ("wanted", "labels", "content"),
    [
        (DIGITS, one_each([7, 0, 9], first=1), b"ImageId,Label\n1,7\n2,0\n3,9\n"),
        (NAMES, one_each([2, 0, 2]), b"id,label\n0,fish\n1,cat\n2,fish\n"),
        (GRADES, one_each([2, 0, 1]), b"id,label\n0,2\n1,0\n2,1\n"),
        (NUMBERS, one_each([0.1, -1.5, 1e-5, 3], np.float32), b"id,age\n0,0.1\n1,-1.5\n2,1e-05\n3,3.0\n"),
        (COLUMNS, ANSWERS, b"id,cat,dog,fish\na,1,0,1\nb,0,0,0\nc,0,1,0\n"),
        (JOINED, ANSWERS, b"id,labels\na,0 2\nb,\nc,1\n"),
        (JOINED_NAMES, ANSWERS, b"id,label\na,cat fish\nb,\nc,dog\n"),
    ],
)
def test_known_bytes(tmp_path: Path, wanted: Competition, labels: Ragged, content: bytes) -> None:
    done = packed(tmp_path, wanted, labels)
    assert done.path.read_bytes() == content
    assert done.report.errors == () and done.report.rows == len(labels)


def test_counts(tmp_path: Path) -> None:
    assert packed(tmp_path, NAMES, one_each([2, 0, 2])).report.counts == (1, 0, 2)
    assert packed(tmp_path, JOINED, ANSWERS).report.counts == (1, 1, 1)
    assert packed(tmp_path, NUMBERS, one_each([1, 2], np.float32)).report.counts == ()


def test_names_and_ids_that_need_quotes(tmp_path: Path) -> None:
    odd = competition("classification", ['a,"b"', " c "], {"format": "label_csv", "names": True, "label": "x,y"})
    labels = Ragged.stack(np.array([0, 1], np.uint8).reshape(2, 1, 1, 1), ["1,2", 'say "x"'])
    path = packed(tmp_path, odd, labels).path
    assert path.read_bytes() == b'id,"x,y"\n"1,2","a,""b"""\n"say ""x""", c \n'
    frame = pd.read_csv(path)
    assert frame["x,y"].tolist() == ['a,"b"', " c "] and frame["id"].tolist() == ["1,2", 'say "x"']


@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_numbers_come_back_to_the_last_bit(values: list[float], tmp_path_factory: pytest.TempPathFactory) -> None:
    labels = one_each(values, np.float32)
    path = packed(tmp_path_factory.mktemp("numbers"), NUMBERS, labels).path
    rows = [line.split(",")[1] for line in path.read_text().splitlines()[1:]]
    assert np.array([np.float32(text) for text in rows]).tobytes() == labels.values.tobytes()
    as_double = np.array([float(text) for text in rows])  # rounded twice on its way to float32
    assert as_double.astype(np.float32).tobytes() == labels.values.tobytes()


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 40), classes=st.integers(2, 254), names=st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_pandas_reads_back_what_was_written(
    seed: int, rows: int, classes: int, names: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    values = np.random.default_rng(seed).integers(0, classes, rows)
    words = [f"class {i}" for i in range(classes)]
    wanted = competition("classification", words, {"format": "label_csv", "names": names})
    path = packed(tmp_path_factory.mktemp("labels"), wanted, one_each(values.tolist())).path
    found = pd.read_csv(path)["label"].tolist()
    assert found == [words[value] if names else value for value in values]


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 20), classes=st.integers(1, 40), names=st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_both_styles_say_the_same(
    seed: int, rows: int, classes: int, names: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    words = [f"q{i}" for i in range(classes)]
    values = (np.random.default_rng(seed).random((rows, 1, classes, 1)) < 0.3).astype(np.uint8)
    labels = Ragged.stack(values, np.arange(rows).astype(str))
    folder = tmp_path_factory.mktemp("several")
    table = packed(folder, competition("multilabel", words, {"format": "label_csv"}), labels).path
    assert (pd.read_csv(table)[words].to_numpy() == values[:, 0, :, 0]).all()
    joined = competition("multilabel", words, {"format": "label_csv", "style": "joined", "names": names})
    cells = pd.read_csv(packed(folder, joined, labels).path, dtype=str, keep_default_na=False)["label"]
    for cell, row in zip(cells, values[:, 0, :, 0], strict=True):
        assert cell.split() == [words[i] if names else str(i) for i in np.flatnonzero(row)]


def test_memory_above_the_labels_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_csv, "ROWS", 1000)
    labels = Ragged.stack(np.zeros((40_000, 1, 1, 1), np.uint8), np.arange(40_000).astype(str))
    tracemalloc.start()
    label_csv.write(tmp_path / "x.csv", labels, DIGITS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6
    assert (tmp_path / "x.csv").read_bytes().endswith(b"\n39999,0\n")


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for odd in (np.nan, np.inf):
        with pytest.raises(UserError, match=f"id '1': its prediction is {odd}, which no submission may hold"):
            label_csv.write(tmp_path / "x.csv", one_each([0, odd], np.float32), NUMBERS)
    with pytest.raises(ValueError, match="labels are uint8, expected float32"):
        label_csv.write(tmp_path / "x.csv", one_each([0]), NUMBERS)
    with pytest.raises(ValueError, match="labels hold 3, expected 0 to 2"):
        label_csv.write(tmp_path / "x.csv", one_each([3]), NAMES)
    with pytest.raises(ValueError, match="labels hold 2, expected 0 to 1"):
        label_csv.write(tmp_path / "x.csv", Ragged.stack(np.full((1, 1, 3, 1), 2, np.uint8), ["a"]), COLUMNS)
    with pytest.raises(ValueError, match=r"not all of shape \(1, 1, 1\)"):
        label_csv.write(tmp_path / "x.csv", ANSWERS, NAMES)
    with pytest.raises(UserError, match="line break"):
        label_csv.write(tmp_path / "x.csv", Ragged.stack(np.zeros((1, 1, 1, 1), np.uint8), ["a\nb"]), NAMES)


# ---------------------------------------------------------------- the check

GOOD = b"ImageId,Label\n1,7\n2,0\n3,9\n4,9\n"
MEANT = one_each([7, 0, 9, 9], first=1)


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert content.count(old) == 1
        return content.replace(old, new)

    return change


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda c: b"", "4 of 4 ids are missing, the first is '1'"),
    "no header": (swap(b"ImageId,Label\n", b""), "line 1: the header's column 1 is '1', expected 'ImageId'"),
    "case of the header": (swap(b"Label", b"label"), "line 1: the header's column 2 is 'label', expected 'Label'"),
    "an index column": (swap(b"ImageId,", b",ImageId,"), "line 1: the header has 3 columns, expected 2"),
    "byte order mark": (lambda c: b"\xef\xbb\xbf" + c, "begins with a byte order mark"),
    "zip": (lambda c: b"PK\x03\x04" + c, "the file is a zip archive, expected the csv inside it"),
    "a row missing": (swap(b"2,0\n", b""), "1 of 4 ids are missing, the first is '2'"),
    "a row twice": (lambda c: c + b"4,9\n", "line 6: id '4' was already in line 5"),
    "ids from zero": (swap(b"\n1,7", b"\n0,7"), "line 2: id '0' is not in the test set, whose first is '1'"),
    "out of order": (
        swap(b"1,7\n2,0\n", b"2,0\n1,7\n"),
        "line 3: id '1' comes after id '2', expected the test set's order",
    ),
    "a column too many": (swap(b"2,0\n", b"2,0,0\n"), "line 3 (id '2'): 3 columns, expected 2"),
    "no label": (swap(b"2,0\n", b"2,\n"), "line 3 (id '2'), column 'Label' is empty, expected an integer from 0 to 9"),
    "a float": (swap(b"2,0\n", b"2,0.0\n"), "line 3 (id '2'), column 'Label' holds '0.0', expected an integer from"),
    "too high": (swap(b"2,0\n", b"2,10\n"), "line 3 (id '2'), column 'Label' holds '10'"),
    "negative": (swap(b"2,0\n", b"2,-1\n"), "line 3 (id '2'), column 'Label' holds '-1'"),
    "a blank line": (swap(b"2,0\n", b"\n2,0\n"), "line 3 is blank"),
    "an endless line": (swap(b"2,0\n", b"2," + b"0" * 5000 + b"\n"), "line 3 is longer than a row of 2 columns can be"),
    "no last line break": (lambda c: c[:-1], "the last line has no line break"),
    "another class": (
        swap(b"2,0\n", b"2,1\n"),
        "line 3 (id '2'), column 'Label' is 1, meant was 0 (one row): not what was meant",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(tmp_path: Path, kind: str) -> None:
    change, sentence = DAMAGE[kind]
    report = checked(tmp_path / "x.csv", change(GOOD), DIGITS, MEANT)
    assert any(sentence in error for error in report.errors), report.errors
    assert checked(tmp_path / "x.csv", GOOD, DIGITS, MEANT).errors == ()
    foreign = checked(tmp_path / "x.csv", change(GOOD), DIGITS, MEANT, own=False, meant=False)
    assert foreign.ok == (kind in ("another class", "no last line break"))


def test_every_single_byte_matters(tmp_path: Path) -> None:
    for place in range(len(GOOD)):
        for byte in b"17 x,\n":
            if GOOD[place] != byte:
                damaged = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
                assert checked(tmp_path / "x.csv", damaged, DIGITS, MEANT).errors, damaged


def test_damage_to_names_numbers_and_answers(tmp_path: Path) -> None:
    names, numbers = one_each([2, 0]), one_each([0.1, 2], np.float32)
    cases = [
        (
            NAMES,
            names,
            b"id,label\n0,fish\n1,2\n",
            "line 3 (id '1'), column 'label' holds '2', expected one of cat, dog,",
        ),
        (NAMES, names, b"id,label\n0,fish\n1,dog\n", "column 'label' is dog, meant was cat (one row)"),
        (NUMBERS, numbers, b"id,age\n0,0.1\n1,nan\n", "line 3 (id '1'), column 'age' holds 'nan', expected a number"),
        (NUMBERS, numbers, b"id,age\n0,0.1\n1,1e999\n", "column 'age' holds '1e999'"),
        (NUMBERS, numbers, b"id,age\n0,0.1\n1,1_0\n", "column 'age' holds '1_0'"),
        (NUMBERS, numbers, b"id,age\n0,0.1\n1,1e99\n", "column 'age' is 1e+99, meant was 2.0"),
        (NUMBERS, numbers, b"id,age\n0,0.10000001\n1,2\n", "column 'age' is 0.10000001, meant was 0.1 (one row)"),
        (COLUMNS, ANSWERS, b"id,cat,fish,dog\n", "line 1: the header's column 3 is 'fish', expected 'dog'"),
        (COLUMNS, ANSWERS, b"id,cat,dog,fish\na,1,0,2\n", "line 2 (id 'a'), column 'fish' holds '2', expected 0 or 1"),
        (COLUMNS, ANSWERS, b"id,cat,dog,fish\na,1,1,1\n", "column 'dog' is 1, meant was 0 (one row)"),
        (JOINED, ANSWERS, b"id,labels\na,0 3\n", "column 'labels' holds '3' in '0 3', expected an integer from 0 to 2"),
        (JOINED, ANSWERS, b"id,labels\na,0  2\n", "column 'labels' holds '' in '0  2'"),
        (JOINED, ANSWERS, b"id,labels\na,0 2 0\n", "column 'labels' holds '0' twice, expected each class once"),
        (JOINED, ANSWERS, b"id,labels\na,0\n", "column 'labels': class 'fish' is no, meant was yes (one row)"),
        (
            JOINED_NAMES,
            ANSWERS,
            b"id,label\na,cat bird\n",
            "'bird' in 'cat bird', expected one of cat, dog, fish, joined",
        ),
    ]
    for wanted, labels, content, sentence in cases:
        report = checked(tmp_path / "x.csv", content, wanted, labels)
        assert any(sentence in error for error in report.errors), (sentence, report.errors)


def test_numbers_of_other_writers_are_read(tmp_path: Path) -> None:
    labels = one_each([0.1, 2, -3, 0.5], np.float32)
    content = b"id,age\n0,1E-1\n1,2\n2,-3.\n3,+.5\n"
    assert checked(tmp_path / "x.csv", content, NUMBERS, labels).errors == ()
    several = b"id,label\na,fish cat\nb,\nc,dog\n"
    assert checked(tmp_path / "x.csv", several, JOINED_NAMES, ANSWERS).errors == ()


def test_one_answer_for_all_is_a_warning(tmp_path: Path) -> None:
    assert packed(tmp_path, NAMES, one_each([1, 1])).report.warnings == ("every image is predicted 'dog'",)
    assert packed(tmp_path, NUMBERS, one_each([1.5, 1.5], np.float32)).report.warnings == ("every prediction is 1.5",)
    none = Ragged.stack(np.zeros((2, 1, 3, 1), np.uint8), ["a", "b"])
    assert packed(tmp_path, COLUMNS, none).report.warnings == ("no answer is yes",)
    windows = checked(tmp_path / "x.csv", GOOD.replace(b"\n", b"\r\n"), DIGITS, MEANT)
    assert windows.ok and windows.warnings == ("5 lines end with CRLF, expected LF",)
    assert packed(tmp_path, NAMES, one_each([1])).report.warnings == ()


def test_labels_must_cover_the_test_set(tmp_path: Path) -> None:
    few = Ragged.stack(MEANT.stacked[:3], MEANT.ids[:3])
    (tmp_path / "x.csv").write_bytes(GOOD)
    report = check_label_csv(tmp_path / "x.csv", DIGITS, MEANT.ids, MEANT.shapes, few)
    assert report.errors == ("1 ids of the test set have no labels, first '4'",)
    wide = Ragged.stack(np.zeros((4, 1, 2, 1), np.uint8), MEANT.ids)
    report = check_label_csv(tmp_path / "x.csv", DIGITS, MEANT.ids, MEANT.shapes, wide)
    assert "line 2 (id '1'): 1 values, meant were 2" in report.errors
