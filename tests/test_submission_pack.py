"""Packing: names, nothing overwritten, faulty writers caught, places that cannot be written to, the ledger's entry."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from podium.config import Competition
from podium.config_submission_formats import WideCsv
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.submission import ledger, wide_csv
from podium.submission.pack import Packed, Writer, pack

MARS = Competition.model_validate(
    {
        "name": "mars",
        "task": "segmentation",
        "data": {"format": "npz", "file": "-", "train": {"key": "-", "target": 1}, "test": {"key": "-"}},
        "classes": ["background", "soil", "bedrock", "sand", "big_rock"],
        "unscored": "background",
        "metric": {"name": "mean_iou"},
        "submission": {"format": "wide_csv"},
        "models": ["none"],
    }
)
N, H, W = 12, 4, 8
IDS = np.arange(N).astype(str)
LABELS = Ragged.stack(np.random.default_rng(3).integers(1, 5, (N, 1, H, W), np.uint8), IDS)
TIME = datetime(2026, 3, 1, 9, 5, 7, tzinfo=UTC)


def packed(folder: Path, labels: Ragged = LABELS, **options: Any) -> Packed:
    return pack(folder, MARS, "mars", labels, IDS, LABELS.shapes, time=TIME, **options)


def test_the_file_its_name_and_the_ledger(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "submissions"
    done = packed(folder, about=ledger.About("a@1 b@2", "uniform", 0.61, 0.58, 0.64, 0.62, "abc", "no"))
    content = done.path.read_bytes()
    assert done.sha256 == hashlib.sha256(content).hexdigest()
    assert done.path == folder / f"mars-20260301-090507-{done.sha256[:8]}.csv"
    assert done.report.ok and done.report.rows == N
    assert sorted(os.listdir(folder)) == ["ledger.csv", done.path.name]
    (row,) = ledger.read(folder / "ledger.csv")
    assert (row["event"], row["file"], row["sha256"]) == ("packed", done.path.name, done.sha256)
    assert (row["competition"], row["models"], row["blend"]) == ("mars", "a@1 b@2", "uniform")
    assert (row["cv"], row["cv_low"], row["cv_high"], row["in_sample"]) == ("0.61", "0.58", "0.64", "0.62")
    assert (row["commit"], row["dirty"]) == ("abc", "no")


def test_the_file_is_readable_by_whom_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        assert packed(tmp_path).path.stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)


def test_a_sample_is_named_so_everywhere(tmp_path: Path) -> None:
    done = pack(tmp_path, MARS, "mars-sample", LABELS, IDS, LABELS.shapes)
    assert done.path.name.startswith("mars-sample-2")
    assert ledger.read(tmp_path / "ledger.csv")[0]["competition"] == "mars-sample"


def test_local_times_are_turned_into_utc(tmp_path: Path) -> None:
    local = datetime.fromisoformat("2026-03-01T00:30:00+02:00")
    assert pack(tmp_path, MARS, "mars", LABELS, IDS, LABELS.shapes, time=local).path.name.startswith(
        "mars-20260228-223000-"
    )


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    first = packed(tmp_path).path
    first.write_text("precious")
    second = packed(tmp_path).path
    third = packed(tmp_path).path
    assert first.read_text() == "precious"
    assert (second.name, third.name) == (first.name.replace(".csv", "-2.csv"), first.name.replace(".csv", "-3.csv"))
    assert [row["file"] for row in ledger.read(tmp_path / "ledger.csv")] == [first.name, second.name, third.name]


def test_nothing_is_overwritten_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    first = packed(tmp_path).path
    content = first.read_bytes()
    first.write_text("precious")
    second = packed(tmp_path).path
    assert first.read_text() == "precious" and second.read_bytes() == content
    assert not list(tmp_path.glob(".*"))


Change = Callable[[np.ndarray], np.ndarray]


def rewritten(change: Change, ids: Change = lambda ids: ids) -> Writer:
    """A writer that does its work well on the wrong thing."""

    def write(path: Path, labels: Ragged, competition: Competition) -> None:
        wide_csv.write(path, Ragged.stack(change(labels.stacked.copy()), ids(labels.ids)), competition)

    return write


def edited(change: Callable[[bytes], bytes]) -> Writer:
    """A writer whose text comes out damaged."""

    def write(path: Path, labels: Ragged, competition: Competition) -> None:
        wide_csv.write(path, labels, competition)
        path.write_bytes(change(path.read_bytes()))

    return write


def one(value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(stack: np.ndarray) -> np.ndarray:
        stack[7, 0, 3, 2] = value
        return stack

    return change


FAULTY: dict[str, tuple[Writer, str]] = {
    "transposed pixels": (rewritten(lambda s: s.transpose(0, 1, 3, 2).reshape(s.shape)), "not what was meant"),
    "Fortran order": (rewritten(lambda s: s.reshape(N, -1, order="F").reshape(s.shape)), "not what was meant"),
    "flipped": (rewritten(lambda s: s[..., ::-1]), "not what was meant"),
    "images shuffled under their ids": (rewritten(lambda s: s[::-1]), "not what was meant"),
    "rows shuffled with their ids": (rewritten(lambda s: s[::-1], lambda i: i[::-1]), "id '10' comes after id '11'"),
    "rows in order of text": (
        rewritten(lambda s: s[np.argsort(IDS)], lambda i: np.sort(i)),
        "line 6: id '2' comes after id '11'",
    ),
    "ids from one": (
        rewritten(lambda s: s, lambda i: np.arange(1, N + 1).astype(str)),
        "id '12' is not in the test set",
    ),
    "a forbidden label": (rewritten(one(0)), "line 9 (id '7'), column '26' (one pixel in one row): label 0"),
    "a label too high": (rewritten(one(5)), "line 9 (id '7'), column '26' holds '5', expected an integer from 0 to 4"),
    "labels counted from zero": (rewritten(lambda s: s - 1), "label 0 (background) is never scored"),
    "a row missing": (rewritten(lambda s: s[:-1], lambda i: i[:-1]), "1 of 12 ids are missing, the first is '11'"),
    "a row twice": (edited(lambda c: c + c.split(b"\n")[-2] + b"\n"), "line 14: id '11' was already in line 13"),
    "a pixel missing": (rewritten(lambda s: s[..., :-1]), "the header has 29 columns, expected 33"),
    "cut off": (edited(lambda c: c[:-7]), "line 13 (id '11'): 30 columns, expected 33"),
    "no last line break": (edited(lambda c: c[:-1]), "the last line has no line break"),
    "nothing": (edited(lambda c: b""), "12 of 12 ids are missing"),
    "floats": (edited(lambda c: c.replace(b",3\n", b",3.0\n")), "column '31' holds '3.0'"),
}


@pytest.mark.parametrize("kind", FAULTY)
def test_a_faulty_writer_is_caught(tmp_path: Path, kind: str) -> None:
    writer, sentence = FAULTY[kind]
    with pytest.raises(UserError) as caught:
        packed(tmp_path, write=writer)
    assert sentence in str(caught.value)
    (rejected,) = tmp_path.iterdir()
    assert rejected.name.startswith("mars-20260301-090507-") and rejected.name.endswith(".csv.rejected")
    assert str(rejected) in str(caught.value)


def test_labels_of_other_images_are_caught(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ids are missing"):
        packed(tmp_path, Ragged.stack(LABELS.stacked[:5], IDS[:5]))
    with pytest.raises(UserError, match="not in the test set"):
        packed(tmp_path, Ragged.stack(LABELS.stacked, (np.arange(N) + 100).astype(str)))
    assert not list(tmp_path.glob("*.csv"))


def test_a_second_rejected_file_does_not_replace_the_first(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(UserError):
            packed(tmp_path, write=FAULTY["floats"][0])
    assert len(list(tmp_path.glob("*.rejected"))) == 2


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path) -> None:
    def fill(path: Path, labels: Ragged, competition: Competition) -> None:
        path.write_bytes(b"id,0,1,2")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UserError, match="cannot be written \\(No space left on device\\); free space"):
        packed(tmp_path, write=fill)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_may_not_grow_further(tmp_path: Path) -> None:
    """The system itself stops the write halfway, in a process whose files may have 100 bytes."""
    code = (
        "import sys, resource; from pathlib import Path; from podium.errors import UserError\n"
        "import test_submission_pack as t\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (100, {resource.RLIM_INFINITY}))\n"
        "try: t.packed(Path(sys.argv[1]))\n"
        "except UserError as error: print(error)"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command, environment = [sys.executable, "-c", code, str(tmp_path)], os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert "cannot be written (File too large)" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_or_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"file.*cannot be"):
            packed(folder)
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(UserError, match="Permission denied"):
            packed(tmp_path)
    finally:
        tmp_path.chmod(0o755)


def test_a_ledger_of_another_layout_stops_packing_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "ledger.csv").write_text("date,score\n2024,0.5\n")
    with pytest.raises(UserError, match="header"):
        packed(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.csv"]


def test_without_a_format_nothing_is_packed(tmp_path: Path) -> None:
    nameless = MARS.model_copy(update={"submission": None})
    with pytest.raises(ValueError, match="mars: has no submission format"):
        pack(tmp_path / "new", nameless, "mars", LABELS, IDS, LABELS.shapes)
    assert not (tmp_path / "new").exists()


def test_an_unexpected_error_leaves_no_part_behind(tmp_path: Path) -> None:
    def stop(path: Path, labels: Ragged, competition: Competition) -> None:
        path.write_bytes(b"id")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        packed(tmp_path, write=stop)
    assert list(tmp_path.iterdir()) == []


def test_what_is_packed_is_held_against_the_competitions_sample(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    folder = tmp_path / "out"
    good = pack(folder, MARS, "mars", LABELS, IDS, LABELS.shapes, data_folder=data).path.read_bytes()
    (data / "sample_submission.csv").write_bytes(good)
    assert pack(folder, MARS, "mars", LABELS, IDS, LABELS.shapes, data_folder=data).report.errors == ()
    (data / "sample_submission.csv").write_bytes(good.replace(b"id,", b"Id,", 1))
    with pytest.raises(UserError, match=r"sample_submission\.csv has 'Id,0,1,2,\.\.\.'.*nothing was packed"):
        pack(folder, MARS, "mars", LABELS, IDS, LABELS.shapes, data_folder=data)
    small = MARS.model_copy(update={"submission": WideCsv(format="wide_csv", size_limit=1e-4)})
    with pytest.raises(UserError, match=r"allowed are 0\.0001 MB \(submission\.size_limit\)"):
        pack(folder, small, "mars", LABELS, IDS, LABELS.shapes)
    assert len(list(folder.glob("*.rejected"))) == 2 and len(list(folder.glob("*.csv"))) == 3  # the ledger among them
