"""Format probability_csv: known bytes, digits that come back, the check's sentence for every kind of damage."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podium.config import Competition
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.submission import probability_csv
from podium.submission.checks.probability_csv import check_probability_csv
from submitting import checked, competition, packed

PETS = ["cat", "dog", "fish"]
EACH = competition("classification", PETS, {"format": "probability_csv"})
BY_INDEX = competition("classification", PETS, {"format": "probability_csv", "columns": "class_{index}", "id": "Id"})
MAPPED = competition("classification", PETS[:2], {"format": "probability_csv", "columns": {"dog": "b", "cat": "a,1"}})
ONE = competition("classification", PETS[:2], {"format": "probability_csv", "columns": {"dog": "label"}})
QUESTIONS = competition("multilabel", PETS, {"format": "probability_csv", "columns": "is {class}"})


def likely(rows: list[list[float]], first: int = 1) -> Ragged:
    """Probabilities (C, 1, 1) of images counted from ``first``."""
    values = np.array(rows, np.float32)
    return Ragged.stack(values[:, :, None, None], [str(first + i) for i in range(len(rows))])


def yes(rows: list[list[float]]) -> Ragged:
    """Probabilities (2, K, 1) of no and yes."""
    values = np.array(rows, np.float32)[:, None, :, None]
    return Ragged.stack(np.concatenate([1 - values, values], axis=1), [str(1 + i) for i in range(len(rows))])


THREE = likely([[0.5, 0.25, 0.25], [0, 1, 0], [0.1, 0.2, 0.7], [0.5, 0.25, 0.25]])
GOOD = b"id,cat,dog,fish\n1,0.5,0.25,0.25\n2,0.0,1.0,0.0\n3,0.1,0.2,0.7\n4,0.5,0.25,0.25\n"
TWO = likely([[0.75, 0.25], [0.125, 0.875]])


@pytest.mark.parametrize(
    ("wanted", "given", "content", "counts"),
    [
        (EACH, THREE, GOOD, (2, 1, 1)),
        (BY_INDEX, THREE, GOOD.replace(b"id,cat,dog,fish", b"Id,class_0,class_1,class_2"), (2, 1, 1)),
        (MAPPED, TWO, b'id,"a,1",b\n1,0.75,0.25\n2,0.125,0.875\n', (1, 1)),
        (ONE, TWO, b"id,label\n1,0.25\n2,0.875\n", (1, 1)),
        (
            QUESTIONS,
            yes([[0.5, 0.75, 0], [1, 1, 1e-7]]),
            b"id,is cat,is dog,is fish\n1,0.5,0.75,0.0\n2,1.0,1.0,1e-07\n",
            (1, 2, 0),
        ),
    ],
)
def test_known_bytes(
    tmp_path: Path, wanted: Competition, given: Ragged, content: bytes, counts: tuple[int, ...]
) -> None:
    done = packed(tmp_path, wanted, given)
    assert done.path.read_bytes() == content
    assert done.report.errors == () and done.report.warnings == () and done.report.counts == counts


@given(values=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_probabilities_come_back_to_the_last_bit(values: list[float], tmp_path_factory: pytest.TempPathFactory) -> None:
    wanted = competition("multilabel", ["q"], {"format": "probability_csv"})
    given = yes([[value] for value in values])
    path = packed(tmp_path_factory.mktemp("numbers"), wanted, given).path
    texts = [line.split(",")[1] for line in path.read_text().splitlines()[1:]]
    for read in (np.array(texts, np.float32), np.array([float(text) for text in texts]).astype(np.float32)):
        assert read.tobytes() == given.stacked[:, 1].tobytes()


def test_memory_above_the_probabilities_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probability_csv, "ROWS", 1000)
    given = Ragged.stack(np.full((40_000, 2, 1, 1), 0.5, np.float32), np.arange(40_000).astype(str))
    peaks = []
    for compress in (None, "gzip", "zip"):
        wanted = competition("classification", PETS[:2], {"format": "probability_csv", "compress": compress})
        tracemalloc.start()
        probability_csv.write(tmp_path / "x.csv", given, wanted)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 4e6


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for odd in (np.nan, np.inf):
        with pytest.raises(UserError, match=f"id '2': its prediction is {odd}, which no submission may hold"):
            probability_csv.write(tmp_path / "x.csv", likely([[0.5, 0.5, 0], [0, odd, 0]]), EACH)
    with pytest.raises(ValueError, match=r"not all of shape \(2, 3, 1\)"):
        probability_csv.write(tmp_path / "x.csv", TWO, QUESTIONS)
    with pytest.raises(UserError, match="line break"):
        probability_csv.write(tmp_path / "x.csv", Ragged.stack(np.zeros((1, 3, 1, 1), np.float32), ["a\nb"]), EACH)


# ---------------------------------------------------------------- the check


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert content.count(old) == 1
        return content.replace(old, new)

    return change


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda c: b"", "4 of 4 ids are missing, the first is '1'"),
    "columns swapped": (swap(b"cat,dog", b"dog,cat"), "line 1: the header's column 2 is 'dog', expected 'cat'"),
    "a row missing": (swap(b"2,0.0,1.0,0.0\n", b""), "1 of 4 ids are missing, the first is '2'"),
    "a row twice": (lambda c: c + b"4,0.5,0.25,0.25\n", "line 6: id '4' was already in line 5"),
    "unknown": (swap(b"\n2,", b"\n7,"), "line 3: id '7' is not in the test set, whose first is '1'"),
    "out of order": (
        swap(b"1,0.5,0.25,0.25\n2,0.0,1.0,0.0\n", b"2,0.0,1.0,0.0\n1,0.5,0.25,0.25\n"),
        "line 3: id '1' comes after id '2', expected the test set's order",
    ),
    "a column missing": (swap(b"2,0.0,1.0,0.0", b"2,0.0,1.0"), "line 3 (id '2'): 3 columns, expected 4"),
    "nan": (swap(b"2,0.0,1.0", b"2,nan,1.0"), "line 3 (id '2'), column 'cat' holds 'nan', expected a probability, a"),
    "nothing": (swap(b"2,0.0,1.0", b"2,,1.0"), "line 3 (id '2'), column 'cat' is empty, expected a probability"),
    "above one": (swap(b"2,0.0,1.0", b"2,0.0,1.001"), "line 3 (id '2'), column 'dog' holds '1.001', expected a prob"),
    "percent": (swap(b"0.1,0.2,0.7", b"10,20,70"), "line 4 (id '3'), column 'cat' holds '10', expected a probability"),
    "negative": (swap(b"2,0.0,1.0", b"2,-0.1,1.0"), "line 3 (id '2'), column 'cat' holds '-0.1'"),
    "text": (swap(b"2,0.0,1.0", b"2,low,1.0"), "line 3 (id '2'), column 'cat' holds 'low'"),
    "huge": (swap(b"2,0.0,1.0", b"2,0.0,1e999"), "line 3 (id '2'), column 'dog' holds '1e999'"),
    "does not sum to one": (
        swap(b"0.1,0.2,0.7", b"0.1,0.2,0.6"),
        "line 4 (id '3') sums to 0.9 (one row): probabilities that should sum to 1",
    ),
    "another value": (
        swap(b"0.1,0.2,0.7", b"0.2,0.1,0.7"),
        "line 4 (id '3'), column 'cat' is 0.2, meant was 0.1 (one row): not what was meant",
    ),
    "a digit less": (
        swap(b"0.1,0.2,0.7", b"0.10000001,0.2,0.7"),
        "line 4 (id '3'), column 'cat' is 0.10000001, meant was 0.1 (one row): not what was meant",
    ),
    "no last line break": (lambda c: c[:-1], "the last line has no line break"),
}
FINE_FROM_ELSEWHERE = {"does not sum to one", "another value", "a digit less", "no last line break"}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(tmp_path: Path, kind: str) -> None:
    change, sentence = DAMAGE[kind]
    report = checked(tmp_path / "x.csv", change(GOOD), EACH, THREE)
    assert any(sentence in error for error in report.errors), report.errors
    foreign = checked(tmp_path / "x.csv", change(GOOD), EACH, THREE, own=False, meant=False)
    assert foreign.ok == (kind in FINE_FROM_ELSEWHERE)
    assert checked(tmp_path / "x.csv", GOOD, EACH, THREE).errors == ()


def test_every_single_byte_matters(tmp_path: Path) -> None:
    for place in range(len(GOOD)):
        for byte in b"17 x,\n":
            damaged = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
            # 0.0 and 0. are one number
            if GOOD[place] != byte:
                assert checked(tmp_path / "x.csv", damaged, EACH, THREE).errors, damaged


def test_sums_of_files_from_elsewhere_are_warned_of(tmp_path: Path) -> None:
    rounded = GOOD.replace(b"0.1,0.2,0.7", b"0.1,0.2,0.6995")
    assert checked(tmp_path / "x.csv", rounded, EACH, THREE, own=False, meant=False).warnings == ()
    wrong = GOOD.replace(b"0.1,0.2,0.7", b"0.1,0.2,0.6").replace(b"2,0.0,1.0", b"2,0.0,0.5")
    report = checked(tmp_path / "x.csv", wrong, EACH, THREE, own=False, meant=False)
    assert report.errors == () and report.warnings == (
        "line 3 (id '2') sums to 0.5 (2 rows): where the metric needs probabilities that sum to 1, such a row costs score",
    )
    questions = b"id,is cat,is dog,is fish\n1,0.5,0.75,0\n2,1,1,1E-1\n"
    assert checked(tmp_path / "x.csv", questions, QUESTIONS, yes([[0] * 3] * 2), own=False, meant=False).warnings == ()


def test_one_answer_for_all_is_a_warning(tmp_path: Path) -> None:
    same = packed(tmp_path, EACH, likely([[0.5, 0.25, 0.25]] * 3))
    assert same.report.warnings == ("every image has the same probabilities",)
    assert packed(tmp_path, EACH, likely([[0.5, 0.25, 0.25]])).report.warnings == ()


def test_probabilities_must_cover_the_test_set(tmp_path: Path) -> None:
    few = Ragged.stack(THREE.stacked[:3], THREE.ids[:3])
    (tmp_path / "x.csv").write_bytes(GOOD)
    report = check_probability_csv(tmp_path / "x.csv", EACH, THREE.ids, THREE.shapes, few)
    assert report.errors == ("1 ids of the test set have no labels, first '4'",)
    wide = Ragged.stack(np.zeros((4, 2, 1, 1), np.float32), THREE.ids)
    report = check_probability_csv(tmp_path / "x.csv", EACH, THREE.ids, THREE.shapes, wide)
    assert "line 2 (id '1'): meant were (2, 1, 1), expected (3, 1, 1)" in report.errors
