"""Format rle_csv: masks worked out by hand, the convention pixel by pixel, the check's sentence for every damage."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podium.data.ragged import Ragged
from podium.data.rle import decode
from podium.submission import rle_csv
from podium.submission.checks.rle_csv import check_rle_csv
from submitting import checked, competition, packed, ragged

GLANDS = competition("segmentation", ["background", "gland"], {"format": "rle_csv", "name": "image_{id}.png"})
CELLS = ["background", "cytoplasm", "nucleus"]
NUCLEI = competition("segmentation", CELLS, {"format": "rle_csv", "class": "nucleus", "id": "ImageId", "rle": "Pixels"})
EACH = competition("segmentation", CELLS, {"format": "rle_csv", "per": "class"})
UNLABELLED = competition("segmentation", CELLS, {"format": "rle_csv", "per": "class"}, unscored="background")

# 3 rows, 2 columns. Down the columns the pixels are called 1 to 6:  1 4 / 2 5 / 3 6
LABELS = ragged(
    {
        "1": np.array([[0, 1], [1, 1], [1, 0]], np.uint8),
        "2": np.array([[1, 0], [0, 0], [1, 1]], np.uint8),
        "3": np.zeros((3, 2), np.uint8),
        "4": np.ones((1, 4), np.uint8),
    }
)
GOOD = b"id,rle\nimage_1.png,2 4\nimage_2.png,1 1 3 1 6 1\nimage_3.png,\nimage_4.png,1 4\n"
THREE = ragged({"a": np.array([[0, 1, 2], [2, 2, 2]], np.uint8), "b": np.array([[1], [1]], np.uint8)})


def by_hand(mask: np.ndarray) -> str:
    """The runs of a bool mask, pixel by pixel down the columns."""
    runs: list[list[int]] = []
    for x in range(mask.shape[1]):
        for y in range(mask.shape[0]):
            number = 1 + x * mask.shape[0] + y
            if mask[y, x] and runs and sum(runs[-1]) == number:
                runs[-1][1] += 1
            elif mask[y, x]:
                runs.append([number, 1])
    return " ".join(f"{start} {length}" for start, length in runs)


def test_known_bytes(tmp_path: Path) -> None:
    done = packed(tmp_path, GLANDS, LABELS)
    assert done.path.read_bytes() == GOOD
    assert done.report.rows == 4 and done.report.counts == (2 + 3 + 6, 4 + 3 + 4) and done.report.warnings == ()


def test_known_bytes_of_one_class_of_several(tmp_path: Path) -> None:
    # columns of a: 0 2 | 1 2 | 2 2, so nuclei are pixels 2, 4, 5 and 6
    done = packed(tmp_path, NUCLEI, THREE)
    assert done.path.read_bytes() == b"ImageId,Pixels\na,2 1 4 3\nb,\n"
    assert done.report.counts == (4, 0, 4)


def test_known_bytes_of_a_row_per_class(tmp_path: Path) -> None:
    done = packed(tmp_path, EACH, THREE)
    assert done.path.read_bytes() == b"id,rle\na_cytoplasm,3 1\na_nucleus,2 1 4 3\nb_cytoplasm,1 2\nb_nucleus,\n"
    assert done.report.rows == 4 and done.report.counts == (1, 3, 4)
    named = competition("segmentation", CELLS, {"format": "rle_csv", "per": "class", "name": "{class}/{id}.jpg"})
    assert packed(tmp_path, named, THREE).path.read_text().splitlines()[1] == "cytoplasm/a.jpg,3 1"


def test_ids_may_hold_what_looks_like_a_placeholder(tmp_path: Path) -> None:
    odd = ragged({"{class}": np.ones((1, 1), np.uint8), "a,{id}": np.zeros((1, 1), np.uint8)})
    lines = packed(tmp_path, EACH, odd).path.read_text().splitlines()
    assert lines[1] == "{class}_cytoplasm,1 1" and lines[4] == '"a,{id}_nucleus",'


@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=8),
    share=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    each=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_masks_come_back_as_they_were(
    seed: int, sizes: list[tuple[int, int]], share: float, each: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    masks = {f"i{k}": (rng.random(size) < share) * rng.integers(1, 3, size) for k, size in enumerate(sizes)}
    labels = ragged({name: mask.astype(np.uint8) for name, mask in masks.items()})
    done = packed(tmp_path_factory.mktemp("rle"), EACH if each else NUCLEI, labels)
    frame = pd.read_csv(done.path, keep_default_na=False, dtype=str)
    wanted = [(name, k) for name in masks for k in ((1, 2) if each else (2,))]
    assert frame.iloc[:, 0].tolist() == [f"{name}_{CELLS[k]}" if each else name for name, k in wanted]
    for (name, k), text in zip(wanted, frame.iloc[:, 1], strict=True):
        assert (decode(text, *masks[name].shape) == (masks[name] == k)).all()
        assert text == by_hand(masks[name] == k)
    assert done.report.counts[2] == sum(int((mask == 2).sum()) for mask in masks.values())


def test_labels_that_lie_in_a_file_are_written_from_there(tmp_path: Path) -> None:
    LABELS.save(tmp_path / "l.npy")
    rle_csv.write(tmp_path / "x.csv", Ragged.open(tmp_path / "l.npy"), GLANDS)
    assert (tmp_path / "x.csv").read_bytes() == GOOD


def test_memory_above_the_labels_is_bounded(tmp_path: Path) -> None:
    labels = Ragged.stack(np.ones((400, 1, 128, 128), np.uint8), np.arange(400).astype(str))
    labels.values[::997] = 0
    tracemalloc.start()
    rle_csv.write(tmp_path / "x.csv", labels, GLANDS)
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
    "empty": (lambda c: b"", "4 of 4 ids are missing, the first is 'image_1.png'"),
    "other columns": (swap(b"rle", b"mask"), "line 1: the header's column 2 is 'mask', expected 'rle'"),
    "byte order mark": (lambda c: b"\xef\xbb\xbf" + c, "begins with a byte order mark"),
    "gzip": (lambda c: b"\x1f\x8b" + c, "the file is a gzip archive"),
    "bare ids": (
        lambda c: c.replace(b"image_", b"").replace(b".png", b""),
        "line 2: id '1' is not in the test set, whose first is 'image_1.png'",
    ),
    "a row missing": (swap(b"image_3.png,\n", b""), "1 of 4 ids are missing, the first is 'image_3.png'"),
    "a row twice": (lambda c: c + b"image_3.png,\n", "line 6: id 'image_3.png' was already in line 4"),
    "out of order": (
        swap(b"image_3.png,\nimage_4.png,1 4\n", b"image_4.png,1 4\nimage_3.png,\n"),
        "line 5: id 'image_3.png' comes after id 'image_4.png', expected the test set's order",
    ),
    "no comma": (swap(b"image_3.png,", b"image_3.png"), "line 4 (id 'image_3.png'): 1 columns, expected 2"),
    "odd": (swap(b",2 4", b",2"), "line 2 (id 'image_1.png'), column 'rle' holds 1 numbers, expected pairs"),
    "letters": (swap(b",2 4", b",2 x"), "line 2 (id 'image_1.png'), column 'rle' holds 'x', expected whole numbers"),
    "nan": (swap(b"image_3.png,", b"image_3.png,nan"), "line 4 (id 'image_3.png'), column 'rle' holds 'nan'"),
    "minus one": (swap(b"image_3.png,", b"image_3.png,-1"), "column 'rle' holds '-1', expected whole numbers"),
    "floats": (swap(b",2 4", b",2.0 4.0"), "column 'rle' holds '2.0'"),
    "underscores": (swap(b",2 4", b",2 0_4"), "column 'rle' holds '0_4'"),
    "huge": (swap(b",2 4", b",2 9999999999999999999"), "column 'rle' holds '9999999999999999999'"),
    "from zero": (
        swap(b"1 1 3 1 6 1", b"0 1 2 1 5 1"),
        "line 3 (id 'image_2.png'), column 'rle' run 1 is '0 1', expected a start and a length of 1 or more",
    ),
    "an empty run": (swap(b"1 1 3 1 6 1", b"1 1 3 0 6 1"), "column 'rle' run 2 is '3 0', expected a start and a"),
    "past the end": (
        swap(b"1 1 3 1 6 1", b"1 1 3 1 6 2"),
        "column 'rle' run 3 is '6 2' and ends behind pixel 6, the last of 3 × 2",
    ),
    "past the end by far": (swap(b",2 4", b",2 999999999999999999"), "ends behind pixel 6, the last of 3 × 2"),
    "unsorted": (
        swap(b"1 1 3 1 6 1", b"3 1 1 1 6 1"),
        "line 3 (id 'image_2.png'), column 'rle' run 2 starts at 1, expected behind run 1, which ends at 3",
    ),
    "overlapping": (
        swap(b",2 4", b",2 3 4 2"),
        "column 'rle' run 2 starts at 4, expected behind run 1, which ends at 4",
    ),
    "an endless row": (swap(b",2 4", b"," + b"1 1 " * 1000), "line 2 is longer than a row of 2 columns can be"),
    "no last line break": (lambda c: c[:-1], "the last line has no line break"),
    "row by row": (
        swap(b"1 1 3 1 6 1", b"1 1 5 2"),
        "line 3 (id 'image_2.png'), pixel 5 (row 1, column 1) is in the mask and was not meant to be (2 pixels in one row)",
    ),
    "a pixel less": (
        swap(b",2 4", b",3 3"),
        "pixel 2 (row 1, column 0) is not in the mask and was meant to be (one pixel in one row): not what was meant",
    ),
}
FINE_FROM_ELSEWHERE = {"no last line break", "row by row", "a pixel less"}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(tmp_path: Path, kind: str) -> None:
    change, sentence = DAMAGE[kind]
    report = checked(tmp_path / "x.csv", change(GOOD), GLANDS, LABELS)
    assert any(sentence in error for error in report.errors), report.errors
    foreign = checked(tmp_path / "x.csv", change(GOOD), GLANDS, LABELS, own=False, meant=False)
    assert foreign.ok == (kind in FINE_FROM_ELSEWHERE)


def test_every_single_byte_matters(tmp_path: Path) -> None:
    for place in range(len(GOOD)):
        for byte in b"17x,\n":
            if GOOD[place] != byte:
                damaged = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
                assert checked(tmp_path / "x.csv", damaged, GLANDS, LABELS).errors, damaged


def test_runs_of_other_writers_are_read(tmp_path: Path) -> None:
    """Cut runs, blanks at the ends: the same pixels."""
    content = GOOD.replace(b",2 4", b",2 1 3 3").replace(b"1 1 3 1 6 1", b" 1 1  3 1 6 1 ")
    assert checked(tmp_path / "x.csv", content, GLANDS, LABELS, own=False).errors == ()


@given(text=st.text(st.sampled_from("0123456789 "), max_size=12), size=st.tuples(st.integers(1, 6), st.integers(1, 6)))
@settings(max_examples=150, deadline=None)
def test_the_check_reads_runs_as_the_reader_does(
    text: str, size: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two decoders that share nothing agree on which texts are masks, and of which pixels."""
    path = tmp_path_factory.mktemp("rle") / "x.csv"
    labels = ragged({"7": np.zeros(size, np.uint8)})
    report = checked(path, f"id,rle\nimage_7.png,{text}\n".encode(), GLANDS, labels, own=False, meant=False)
    try:
        mask = decode(text, *size)
    except ValueError:
        assert not report.ok
    else:
        assert report.ok and report.counts == ((~mask).sum(), mask.sum())
        meant = checked(path, path.read_bytes(), GLANDS, ragged({"7": mask.astype(np.uint8)}))
        assert meant.errors == ()


def test_masks_of_two_classes_do_not_share_pixels(tmp_path: Path) -> None:
    content = b"id,rle\na_cytoplasm,3 2\na_nucleus,2 1 4 3\nb_cytoplasm,1 2\nb_nucleus,\n"
    sentence = "line 3 (id 'a_nucleus'), pixel 4 (row 1, column 1) (one pixel in one row): in the masks of two classes"
    assert any(sentence in error for error in checked(tmp_path / "x.csv", content, EACH, THREE).errors)
    foreign = checked(tmp_path / "x.csv", content, EACH, THREE, own=False, meant=False)
    assert foreign.ok and len(foreign.warnings) == 1 and sentence in foreign.warnings[0]


def test_a_pixel_in_no_mask_is_the_unscored_class(tmp_path: Path) -> None:
    content = packed(tmp_path, EACH, THREE).path.read_bytes()
    report = checked(tmp_path / "x.csv", content, UNLABELLED, THREE)
    assert report.errors == (
        "id 'a', pixel 1 (row 0, column 0) (one pixel in one image) in no mask: label 0 (background) is never scored "
        "and must not be predicted",
    )
    foreign = checked(tmp_path / "x.csv", content, UNLABELLED, THREE, own=False, meant=False)
    assert foreign.ok and "multiplies the score by 2/3" in foreign.warnings[0]
    full = ragged({"a": np.array([[1, 2], [2, 1]], np.uint8)})
    assert packed(tmp_path, UNLABELLED, full).report.warnings == ()


def test_names_that_two_rows_would_share_are_refused(tmp_path: Path) -> None:
    twins = ["background", "x", "y_x"]
    each = competition("segmentation", twins, {"format": "rle_csv", "per": "class"})
    labels = ragged({"a_y": np.ones((1, 1), np.uint8), "a": np.ones((1, 1), np.uint8)})
    rle_csv.write(tmp_path / "x.csv", labels, each)
    report = check_rle_csv(tmp_path / "x.csv", each, labels.ids, labels.shapes, labels)
    assert report.errors[0].startswith("submission.name calls two rows 'a_y_x'; put a mark between its parts")


def test_one_class_everywhere_is_a_warning(tmp_path: Path) -> None:
    empty = ragged({"1": np.zeros((2, 2), np.uint8), "2": np.zeros((1, 3), np.uint8)})
    assert packed(tmp_path, GLANDS, empty).report.warnings == ("every mask is empty",)
    full = ragged({"1": np.ones((2, 2), np.uint8), "2": np.ones((1, 3), np.uint8)})
    assert packed(tmp_path, GLANDS, full).report.warnings == ("every mask covers its whole image",)
    assert packed(tmp_path, EACH, full).report.warnings == (
        "every mask of 'cytoplasm' covers its whole image",
        "every mask of 'nucleus' is empty",
    )
    windows = checked(tmp_path / "x.csv", GOOD.replace(b"\n", b"\r\n"), GLANDS, LABELS)
    assert windows.ok and windows.warnings == ("5 lines end with CRLF, expected LF",)


def test_meant_is_joined_by_id_and_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(GOOD)
    shuffled = ragged({name: LABELS[LABELS.index[name]][0] for name in ("3", "1", "4", "2")})
    assert check_rle_csv(path, GLANDS, LABELS.ids, LABELS.shapes, shuffled).errors == ()
    few = ragged({name: LABELS[LABELS.index[name]][0] for name in ("1", "2", "3")})
    report = check_rle_csv(path, GLANDS, LABELS.ids, LABELS.shapes, few)
    assert report.errors == ("1 ids of the test set have no labels, first '4'",)
    other = ragged({name: np.zeros((2, 3), np.uint8) for name in ("1", "2", "3", "4")})
    report = check_rle_csv(path, GLANDS, LABELS.ids, LABELS.shapes, other)
    assert "line 2 (id 'image_1.png'): 3 × 2 pixels, meant were 2 × 3" in report.errors
