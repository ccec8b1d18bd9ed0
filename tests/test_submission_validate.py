"""The independent check: good files pass, each kind of damage is named with its line and column."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podium.config import Competition
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.submission.checks.wide_csv import check_wide_csv
from podium.submission.pack import pack
from podium.submission.validate import Report, check_file

IDS = np.array(["0", "1", "2", "3"])
VALUES = np.array([[1, 2, 3, 4, 1, 1], [2, 2, 2, 2, 2, 2], [4, 3, 2, 1, 4, 3], [1, 1, 3, 3, 1, 2]], np.uint8)
MEANT = Ragged.stack(VALUES.reshape(4, 1, 2, 3), IDS)
SHAPES = MEANT.shapes
GOOD = b"id,0,1,2,3,4,5\n0,1,2,3,4,1,1\n1,2,2,2,2,2,2\n2,4,3,2,1,4,3\n3,1,1,3,3,1,2\n"


def mars(classes: int = 5, convention: str = "keras") -> Competition:
    """A competition like Mars with any number of classes."""
    return Competition.model_validate(
        {
            "name": "mars",
            "task": "segmentation",
            "data": {"format": "npz", "file": "-", "train": {"key": "-", "target": 1}, "test": {"key": "-"}},
            "classes": ["background", *(f"class{i}" for i in range(1, classes))],
            "unscored": "background",
            "metric": {"name": "mean_iou", "convention": convention},
            "submission": {"format": "wide_csv"},
            "models": ["none"],
        }
    )


def checked(tmp_path: Path, content: bytes, own: bool = True, meant: Ragged | None = None, classes: int = 5) -> Report:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    return check_wide_csv(path, mars(classes), IDS, SHAPES, meant, own)


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert content.count(old) == 1
        return content.replace(old, new)

    return change


def test_a_good_file_passes(tmp_path: Path) -> None:
    assert checked(tmp_path, GOOD, meant=MEANT) == Report((), (), 4, (0, 7, 9, 5, 3))
    assert checked(tmp_path, GOOD, own=False) == Report((), (), 4, (0, 7, 9, 5, 3))


def test_without_a_format_there_is_nothing_to_check(tmp_path: Path) -> None:
    nameless = mars().model_copy(update={"submission": None})
    with pytest.raises(ValueError, match="mars: has no submission format"):
        check_file(tmp_path / "x.csv", nameless, IDS, SHAPES)


LAST = b"3,1,1,3,3,1,2\n"
DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda c: b"", "4 of 4 ids are missing, the first is '0'"),
    "header only": (lambda c: c[:15], "4 of 4 ids are missing, the first is '0'"),
    "no header": (lambda c: c[15:], "line 1: the header's column 1 is '0', expected 'id'"),
    "other id column": (swap(b"id,", b"Id,"), "line 1: the header's column 1 is 'Id', expected 'id'"),
    "columns from one": (
        swap(b"0,1,2,3,4,5\n", b"1,2,3,4,5,6\n"),
        "line 1: the header's column 2 is '1', expected '0'",
    ),
    "columns swapped": (swap(b"id,0,1,", b"id,1,0,"), "line 1: the header's column 2 is '1', expected '0'"),
    "header too short": (swap(b",4,5\n", b",4\n"), "line 1: the header has 6 columns, expected 7"),
    "index column": (lambda c: b"0," + c[:-1].replace(b"\n", b"\n0,") + b"\n", "line 1: the header has 8 columns"),
    "byte order mark": (lambda c: b"\xef\xbb\xbf" + c, "line 1: the file begins with a byte order mark"),
    "utf-16": (lambda c: c.decode().encode("utf-16"), "line 1: the header cannot be read"),
    "semicolons": (lambda c: c.replace(b",", b";"), "line 2 (id '0;1;2;3;4;1;1'): 1 columns, expected 7"),
    "a row missing": (swap(b"1,2,2,2,2,2,2\n", b""), "1 of 4 ids are missing, the first is '1'"),
    "a row twice": (lambda c: c + LAST, "line 6: id '3' was already in line 5"),
    "a row too many": (lambda c: c + b"4,1,1,3,3,1,2\n", "line 6: id '4' is not in the test set"),
    "two rows swapped": (
        lambda c: b"\n".join(np.array(c.split(b"\n"))[[0, 1, 3, 2, 4, 5]].tolist()),
        "line 4: id '1' comes after id '2', expected the test set's order",
    ),
    "unknown id": (swap(b"\n2,4", b"\n02,4"), "line 4: id '02' is not in the test set"),
    "ids from one": (
        lambda c: (
            c.replace(b"\n3,", b"\n4,").replace(b"\n2,", b"\n3,").replace(b"\n1,", b"\n2,").replace(b"\n0,", b"\n1,")
        ),
        "line 5: id '4' is not in the test set",
    ),
    "float id": (swap(b"\n2,4", b"\n2.0,4"), "line 4: id '2.0' is not in the test set"),
    "empty id": (swap(b"\n2,4", b"\n,4"), "line 4: id '' is not in the test set"),
    "a column missing": (swap(b"2,4,3,2,1,4,3\n", b"2,4,3,2,1,4\n"), "line 4 (id '2'): 6 columns, expected 7"),
    "a column too many": (swap(b"2,4,3,2,1,4,3\n", b"2,4,3,2,1,4,3,3\n"), "line 4 (id '2'): 8 columns, expected 7"),
    "a comma at the end": (swap(b"2,4,3,2,1,4,3\n", b"2,4,3,2,1,4,3,\n"), "line 4 (id '2'): 8 columns, expected 7"),
    "nan": (
        swap(b"2,4,3,2,1,4,3\n", b"2,4,3,nan,1,4,3\n"),
        "line 4 (id '2'), column '2' holds 'nan', expected an integer",
    ),
    "blank value": (swap(b"2,4,3,2,1,4,3\n", b"2,4,3,,1,4,3\n"), "line 4 (id '2'), column '2' is empty"),
    "float": (swap(b"2,4,3,2,1,4,3\n", b"2,4,3,2.0,1,4,3\n"), "line 4 (id '2'), column '2' holds '2.0'"),
    "all floats": (
        swap(b"2,4,3,2,1,4,3\n", b"2,4.0,3.0,2.0,1.0,4.0,3.0\n"),
        "line 4 (id '2'), column '0' holds '4.0', expected an integer from 0 to 4, and 5 more such values in this line",
    ),
    "negative": (swap(b"2,4,3,2,1,4,3\n", b"2,4,3,2,1,4,-3\n"), "line 4 (id '2'), column '5' holds '-3'"),
    "out of range": (swap(b"2,4,3,2,1,4,3\n", b"2,4,3,5,1,4,3\n"), "line 4 (id '2'), column '2' holds '5'"),
    "out of range, longer": (swap(b"2,4,3,2,1,4,3\n", b"2,4,3,2,1,4,255\n"), "line 4 (id '2'), column '5' holds '255'"),
    "a letter": (swap(b"2,4,3,2,1,4,3\n", b"2,4,3,x,1,4,3\n"), "line 4 (id '2'), column '2' holds 'x'"),
    "padded": (swap(b"2,4,3,2,1,4,3\n", b"2, 4,3,2,1,4,3\n"), "line 4 (id '2'), column '0' holds ' 4'"),
    "a null byte": (swap(b"2,4,3,2,1,4,3\n", b"2,4,3,\x00,1,4,3\n"), "line 4 (id '2'), column '2' holds '\\x00'"),
    "an open quote": (swap(b"2,4,3,2,1,4,3\n", b'"2,4,3,2,1,4,3\n'), "line 4 cannot be read (unexpected end of data)"),
    "not utf-8": (swap(b"\n2,4", b"\n\xff,4"), "line 4 cannot be read ('utf-8' codec"),
    "a blank line": (swap(b"\n2,4", b"\n\n2,4"), "line 4 is blank"),
    "an endless line": (swap(b"\n2,4", b"\n2," + b"4" * 5000), "line 4 is longer than a row of 7 columns can be"),
    "cut in a row": (lambda c: c[:-5], "line 5 (id '3'): 5 columns, expected 7"),
    "cut after a comma": (lambda c: c[:-2], "line 5 (id '3'), column '5' is empty"),
    "no last line break": (lambda c: c[:-1], "the last line has no line break at its end"),
    "one forbidden label": (
        swap(b"2,4,3,2,1,4,3\n", b"2,4,3,0,1,4,3\n"),
        "column '2' (one pixel in one row): label 0 (background) is never scored and must not be predicted",
    ),
    "one other label": (
        swap(b"2,4,3,2,1,4,3\n", b"2,4,3,1,1,4,3\n"),
        "line 4 (id '2'), column '2' is 1, meant was 2 (one pixel in one row): not what was meant",
    ),
    "zip": (lambda c: b"PK\x03\x04" + c, "the file is a zip archive"),
    "gzip": (gzip.compress, "the file is a gzip archive"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(tmp_path: Path, kind: str) -> None:
    change, sentence = DAMAGE[kind]
    damaged = change(GOOD)
    assert damaged != GOOD
    report = checked(tmp_path, damaged, meant=MEANT)
    assert any(sentence in error for error in report.errors), report.errors


@pytest.mark.parametrize("kind", sorted(set(DAMAGE) - {"one forbidden label", "no last line break", "one other label"}))
def test_damage_is_an_error_in_a_foreign_file_too(tmp_path: Path, kind: str) -> None:
    change, sentence = DAMAGE[kind]
    assert any(sentence in error for error in checked(tmp_path, change(GOOD), own=False).errors)


def test_one_damaged_value_gives_one_error(tmp_path: Path) -> None:
    report = checked(tmp_path, GOOD.replace(b"2,4,3,2,1,4,3", b"2,4,3,x,1,4,3"), meant=MEANT)
    assert report.errors == ("line 4 (id '2'), column '2' holds 'x', expected an integer from 0 to 4",)


def test_every_single_byte_matters(tmp_path: Path) -> None:
    """Any one byte replaced by another digit, a blank or a letter is found."""
    for place in range(len(GOOD)):
        for byte in b"17 x,\n":
            if GOOD[place] != byte:
                damaged = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
                assert checked(tmp_path, damaged, meant=MEANT).errors, damaged


def test_a_foreign_file_may_predict_background_at_its_cost(tmp_path: Path) -> None:
    content = GOOD.replace(b"2,4,3,2,1,4,3", b"2,4,0,0,1,4,3").replace(b"3,1,1,3", b"3,0,1,3")
    report = checked(tmp_path, content, own=False)
    assert report.errors == () and report.counts == (3, 6, 8, 4, 3)
    (warning,) = report.warnings
    assert "line 4 (id '2'), column '1' (3 pixels in 2 rows)" in warning
    assert "keras convention" in warning and "4/5" in warning
    path = tmp_path / "x.csv"
    assert "is a miss" in check_wide_csv(path, mars(convention="masked"), IDS, SHAPES, own=False).warnings[0]
    assert check_file(path, mars(), IDS, SHAPES) == report


def test_what_is_allowed_and_strange_is_a_warning(tmp_path: Path) -> None:
    assert checked(tmp_path, GOOD.replace(b"\n", b"\r\n"), meant=MEANT) == Report(
        (), ("5 lines end with CRLF, expected LF",), 4, (0, 7, 9, 5, 3)
    )
    same = b"id,0,1,2,3,4,5\n" + b"".join(b"%d,2,2,2,2,2,2\n" % i for i in range(4))
    assert checked(tmp_path, same).warnings == ("every pixel is predicted 'class2'",)
    cut = checked(tmp_path, GOOD[:-1], own=False)
    assert cut.errors == () and "no line break at its end" in cut.warnings[0]
    quoted = GOOD.replace(b"\n2,4", b'\n"2","4"')
    assert checked(tmp_path, quoted, meant=MEANT).errors == ()


def test_twenty_errors_are_enough_and_none_of_the_whole_is_lost(tmp_path: Path) -> None:
    ids = np.arange(100).astype(str)
    path = tmp_path / "x.csv"
    path.write_bytes(b"id,0,1\n" + b"".join(b"%d,1,9\n" % i for i in range(98)))
    report = check_wide_csv(path, mars(), ids, np.tile([1, 1, 2], (100, 1)))
    assert len(report.errors) == 21
    assert report.errors[0] == "line 2 (id '0'), column '1' holds '9', expected an integer from 0 to 4"
    assert report.errors[-3:] == (
        "2 of 100 ids are missing, the first is '98'",
        "98 rows below the header, expected 100",
        "and 80 more",
    )


def test_labels_of_more_digits(tmp_path: Path) -> None:
    content = GOOD.replace(b"2,4,3,2,1,4,3", b"2,40,3,2,1,4,13")
    meant = Ragged.stack(np.where(np.arange(24).reshape(4, 1, 2, 3) == 12, 40, MEANT.stacked).astype(np.uint8), IDS)
    meant.stacked[2, 0, 1, 2] = 13
    assert checked(tmp_path, content, meant=meant, classes=41).errors == ()
    (error,) = checked(tmp_path, content, meant=meant, classes=40).errors
    assert error == "line 4 (id '2'), column '0' holds '40', expected an integer from 0 to 39"
    meant.stacked[2, 0, 1, 2] = 14
    (error,) = checked(tmp_path, content, meant=meant, classes=41).errors
    assert error.startswith("line 4 (id '2'), column '5' is 13, meant was 14")


def test_meant_is_joined_by_id_and_must_cover_the_test_set(tmp_path: Path) -> None:
    order = np.array([2, 0, 3, 1])
    shuffled = Ragged.stack(np.ascontiguousarray(MEANT.stacked[order]), IDS[order])
    assert checked(tmp_path, GOOD, meant=shuffled).errors == ()
    few = Ragged.stack(MEANT.stacked[:3], IDS[:3])
    assert checked(tmp_path, GOOD, meant=few).errors == ("1 ids of the test set have no labels, first '3'",)
    small = Ragged.stack(np.ones((4, 1, 1, 2), np.uint8), IDS)
    assert "6 pixels, meant were 2" in checked(tmp_path, GOOD, meant=small).errors[0]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            check_file(path, mars(), IDS, SHAPES)


@given(
    rows=st.integers(1, 40),
    size=st.tuples(st.integers(1, 7), st.integers(1, 9)),
    classes=st.sampled_from([2, 5, 10, 11, 101, 255]),
    seed=st.integers(0, 10**6),
    odd=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_packed_passes_and_is_counted(
    rows: int, size: tuple[int, int], classes: int, seed: int, odd: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    values = np.random.default_rng(seed).integers(1, classes, (rows, 1, *size), np.uint8)
    ids = np.array([f'a "{i}", b' if odd else str(i) for i in range(rows)])
    labels = Ragged.stack(values, ids)
    packed = pack(tmp_path_factory.mktemp("pack"), mars(classes), "mars", labels, ids, labels.shapes)
    assert packed.report.rows == rows
    assert packed.report.counts == tuple(np.bincount(values.ravel(), minlength=classes))
