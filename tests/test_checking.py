"""``podium check``: sample_submission, odd shares, swapped axes, and a score where the truth is known."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.submission.checks.sample import find_sample, hold_against_sample
from podium.submission.checks.shares import agreement, odd_shares, transposed
from podium.submission.pack import pack
from project import make_project, podium, podium_json, write_data
from submitting import competition, ragged

# ---------------------------------------------------------------- the competition's sample

SAMPLE = "id,label\n7,0\n8,0\n9,0\n"
AGAINST: dict[str, tuple[str, str | None]] = {
    "the same": ("id,label\n7,3\n8,0\n9,11\n", None),
    "another header": (
        "Id,label\n7,3\n8,0\n9,1\n",
        "line 1: the header is 'Id,label' (2 columns), s.csv has 'id,label'",
    ),
    "no label column": ("id\n7\n8\n9\n", "line 1: the header is 'id' (1 columns)"),
    "two rows swapped": ("id,label\n7,1\n9,1\n8,1\n", "line 3: id '9', s.csv has '8' there"),
    "an id more": ("id,label\n7,1\n8,1\n9,1\n10,1\n", "4 rows below the header, s.csv has 3"),
    "an id less": ("id,label\n7,1\n8,1\n", "2 rows below the header, s.csv has 3"),
    "nothing": ("", "line 1: the header is ''"),
}


@pytest.mark.parametrize("case", AGAINST)
def test_a_file_is_held_against_the_sample_row_by_row(case: str, tmp_path: Path) -> None:
    text, error = AGAINST[case]
    (tmp_path / "s.csv").write_text(SAMPLE)
    (tmp_path / "x.csv").write_text(text)
    errors, warnings = hold_against_sample(tmp_path / "x.csv", tmp_path / "s.csv")
    assert (errors == []) if error is None else any(error in each for each in errors), errors
    assert warnings == []
    with gzip.open(tmp_path / "x.csv.gz", "wt") as packed:
        packed.write(text)
    assert hold_against_sample(tmp_path / "x.csv.gz", tmp_path / "s.csv") == (errors, warnings)


def test_values_of_another_kind_are_a_warning(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("id,n,p\na,0,0.5\nb,0,0\n")
    (tmp_path / "x.csv").write_text("id,n,p\na,1.5,1\nb,1,none\n")
    errors, warnings = hold_against_sample(tmp_path / "x.csv", tmp_path / "s.csv")
    assert errors == [] and warnings == [
        "line 2, column 'n' holds '1.5', s.csv has whole numbers there",
        "line 3, column 'p' holds 'none', s.csv has numbers there",
    ]


def test_many_differences_are_counted(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("id,x\n" + "".join(f"{i},0\n" for i in range(100)))
    (tmp_path / "x.csv").write_text("id,x\n" + "".join(f"{i + 1},0\n" for i in range(100)))
    errors, _ = hold_against_sample(tmp_path / "x.csv", tmp_path / "s.csv")
    assert errors[0] == "line 2: id '1', s.csv has '0' there" and errors[-1] == "and 90 more ids differ from s.csv"


def test_objects_have_rows_of_their_own(tmp_path: Path) -> None:
    given = competition("segmentation", ["rest", "cell"], {"format": "rle_csv", "per": "object"})
    labels = ragged({"a": np.eye(3, dtype=np.uint8), "b": np.array([[1, 0, 1]], np.uint8)})
    (tmp_path / "sample_submission.csv").write_text("id,rle\na,\nb,\n")
    folder = tmp_path / "out"
    done = pack(folder, given, "made", labels, labels.ids, labels.shapes, data_folder=tmp_path)
    assert len(done.path.read_text().splitlines()) == 4 and done.report.errors == ()
    (tmp_path / "sample_submission.csv").write_text("Id,rle\na,\nb,\n")
    with pytest.raises(UserError, match=r"sample_submission\.csv has 'Id,rle'"):
        pack(folder, given, "made", labels, labels.ids, labels.shapes, data_folder=tmp_path)


def test_which_sample_is_meant(tmp_path: Path) -> None:
    assert find_sample(tmp_path) is None
    (tmp_path / "sample_submission.csv").write_text(SAMPLE)
    (tmp_path / "mine.csv").write_text(SAMPLE)
    assert find_sample(tmp_path) == tmp_path / "sample_submission.csv"
    assert find_sample(tmp_path, "mine.csv") == tmp_path / "mine.csv"
    with pytest.raises(UserError, match=r"other\.csv: there is no such file; correct submission\.sample"):
        find_sample(tmp_path, "other.csv")


# ---------------------------------------------------------------- what predictions look like


def test_shares_far_from_the_training_labels() -> None:
    classes = ("none", "a", "b", "rare")
    assert odd_shares((0, 50, 50, 1), (900, 60, 40, 1), classes, 0) == []
    (said,) = odd_shares((0, 95, 5, 0), (0, 50, 50, 0), classes, 0)
    assert said == "'b' is 5.00% of what is predicted and 50.00% of the training labels"
    assert odd_shares((0, 100, 100, 0), (0, 100, 100, 1), classes, 0) == []  # too rare to be judged
    assert odd_shares((5, 0, 0, 0), (0, 1, 1, 1), classes, 0) == []  # nothing scored is predicted: said elsewhere


def ground(rng: np.random.Generator, count: int, height: int = 12, width: int = 20) -> np.ndarray:
    """Sky above soil, with a horizon that moves a little."""
    masks = np.zeros((count, height, width), np.uint8)
    for mask in masks:
        mask[rng.integers(4, 8) :] = 1
    return masks


def test_swapped_axes_are_suspected_where_classes_have_their_places() -> None:
    rng = np.random.default_rng(0)
    training = Ragged.stack(ground(rng, 40)[:, None], [str(i) for i in range(40)])
    good = ground(rng, 30)
    swapped = np.ascontiguousarray(good.transpose(0, 2, 1)).reshape(good.shape)  # column by column into rows
    assert transposed(good, training, 2) is None
    said = transposed(swapped, training, 2)
    assert said is not None and "are rows and columns swapped?" in said
    nowhere = rng.integers(0, 2, good.shape).astype(np.uint8)  # classes without places say nothing
    assert transposed(nowhere, Ragged.stack(nowhere[:, None], [str(i) for i in range(30)]), 2) is None
    same, turned, shifted = agreement(swapped, good)
    assert turned == 1.0 and same < 0.9 and shifted < 1.0
    assert agreement(np.roll(good, -1, axis=0), good)[2] == 1.0


# ---------------------------------------------------------------- the command


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = make_project(tmp_path / "project")
    write_data(root / "data" / "tiny" / "tiny.npz", 24, 7)
    return root


def write_labels(path: Path, masks: np.ndarray) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", *range(masks[0].size)])
        writer.writerows([i, *mask.reshape(-1).tolist()] for i, mask in enumerate(masks))
    return path


def truth_of(root: Path, rows: int = 7) -> np.ndarray:
    masks = np.load(root / "data" / "tiny" / "tiny.npz")["train"][:rows, 1].astype(np.uint8)
    return np.where(masks == 0, 1, masks).astype(np.uint8)


def test_a_file_is_scored_where_the_truth_is_given(root: Path) -> None:
    truth = truth_of(root)
    told = truth.copy()
    told[:, 8:] = 1
    right, mine = write_labels(root / "truth.csv", truth), write_labels(root / "mine.csv", told)
    found = podium_json(root, "check", "tiny", str(mine), "--truth", str(right))
    # keras' mean IoU by hand: classes 1 to 3
    ious = [((told == k) & (truth == k)).sum() / ((told == k) | (truth == k)).sum() for k in (1, 2, 3)]
    assert found["valid"] and found["score"] == pytest.approx(np.mean(ious))
    assert [found["parts"][name] for name in ("dark", "bright", "rare")] == pytest.approx(ious)
    said = podium(root, "check", "tiny", str(mine), "--truth", str(right)).stdout
    assert f"{np.mean(ious):.4f}" in said and "is in order" in said
    assert podium_json(root, "check", "tiny", str(right), "--truth", str(right))["score"] == 1.0
    lines = right.read_text().splitlines()
    (root / "short.csv").write_text("\n".join(lines[:-1]) + "\n")
    done = podium(root, "check", "tiny", str(mine), "--truth", str(root / "short.csv"))
    assert done.returncode == 2 and "1 of 7 ids are missing, the first is '6'" in done.stderr
    for odd in ("-1", "NaN", "9"):
        (root / "odd.csv").write_text("\n".join([*lines[:-1], lines[-1].rsplit(",", 1)[0] + f",{odd}"]) + "\n")
        done = podium(root, "check", "tiny", str(mine), "--truth", str(root / "odd.csv"))
        assert done.returncode == 2 and f"line 8 (id '6'), column '383' holds '{odd}'" in done.stderr
        assert "the right answers come in the format of a submission" in done.stderr
    done = podium(root, "check", "tiny", str(mine), "--truth", str(root / "none.csv"))
    assert done.returncode == 2 and "there is no such file; name one with the right answers" in done.stderr


def test_a_sample_beside_the_data_and_a_limit_are_kept(root: Path) -> None:
    mine = write_labels(root / "mine.csv", truth_of(root))
    sample = root / "data" / "tiny" / "sample_submission.csv"
    write_labels(sample, np.zeros_like(truth_of(root)))
    assert podium_json(root, "check", "tiny", str(mine))["valid"]
    sample.write_text(sample.read_text().replace("id,", "Id,"))
    done = podium(root, "check", "tiny", str(mine), "--json")
    assert (
        done.returncode == 2
        and "sample_submission.csv has 'Id,0,1,2,...'" in json.loads(done.stdout)["report"]["errors"][0]
    )
    sample.unlink()
    path = root / "configs" / "competitions" / "tiny.yaml"
    path.write_text(path.read_text().replace("{format: wide_csv}", "{format: wide_csv, size_limit: 0.001}"))
    done = podium(root, "check", "tiny", str(mine))
    assert done.returncode == 2 and "allowed are 0.001 MB (submission.size_limit)" in done.stdout


def test_swapped_pixels_and_shifted_rows_are_seen_beside_our_own_file(root: Path) -> None:
    truth = truth_of(root)
    given = competition("segmentation", ["background", "dark", "bright", "rare"], {"format": "wide_csv"}, "background")
    labels = ragged({str(i): mask for i, mask in enumerate(truth)})
    pack(root / "submissions", given, "tiny", labels, labels.ids, np.array([[1, 16, 24]] * 7))
    cases: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
        "swapped": (
            lambda s: np.ascontiguousarray(s.transpose(0, 2, 1)).reshape(s.shape),
            "rows and columns seem swapped",
        ),
        "shifted": (lambda s: np.roll(s, -1, axis=0), "rows seem to stand under other ids"),
    }
    for name, (change, warning) in cases.items():
        found = podium_json(root, "check", "tiny", str(write_labels(root / f"{name}.csv", change(truth))))
        assert any(warning in text for text in found["report"]["warnings"]), found
    found = podium_json(root, "check", "tiny", str(write_labels(root / "good.csv", truth)))
    assert not any("seem" in text for text in found["report"]["warnings"])
    # what was packed in another format does not stand in the way
    path = root / "configs" / "competitions" / "tiny.yaml"
    path.write_text(path.read_text().replace("{format: wide_csv}", "{format: npy}"))
    np.save(root / "good.npy", truth)
    assert podium_json(root, "check", "tiny", str(root / "good.npy"))["valid"]
