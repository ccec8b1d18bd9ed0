"""Compressed csv files: known contents, damage in every place, archives of another kind, and bombs."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from podium.config import Competition
from podium.data.ragged import Ragged
from podium.submission import wide_csv
from podium.submission.validate import check_file
from submitting import checked, competition, one_each, packed

PLAIN, GZIP, ZIP = (
    competition("classification", ["a", "b"], {"format": "label_csv", "compress": kind})
    for kind in (None, "gzip", "zip")
)
LABELS = one_each([i % 2 for i in range(200)])
CSV = b"id,label\n" + b"".join(b"%d,%d\n" % (i, i % 2) for i in range(200))


def zipped(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def test_known_contents(tmp_path: Path) -> None:
    done = packed(tmp_path, GZIP, LABELS)
    assert done.path.name.endswith(".csv.gz") and done.report.ok
    content = done.path.read_bytes()
    assert gzip.decompress(content) == CSV and content[4:8] == b"\0\0\0\0" and not content[3]  # no time, no name
    done = packed(tmp_path, ZIP, LABELS)
    assert done.path.suffix == ".zip" and done.report.ok
    with zipfile.ZipFile(done.path) as archive:
        (info,) = archive.infolist()
        assert info.filename == "submission.csv" and info.date_time == (1980, 1, 1, 0, 0, 0)
        assert info.compress_type == zipfile.ZIP_DEFLATED and archive.read(info) == CSV
    assert packed(tmp_path, PLAIN, LABELS).path.read_bytes() == CSV


def test_archives_of_other_makers_are_read(tmp_path: Path) -> None:
    for given, content in (
        (GZIP, gzip.compress(CSV, 1)),
        (GZIP, gzip.compress(CSV[:100]) + gzip.compress(CSV[100:])),
        (ZIP, zipped(("x/mine.csv", CSV))),
        (ZIP, zipped(("x/", b""), ("x/mine.csv", CSV))),
        (ZIP, zipped(("mine.csv", CSV), method=zipfile.ZIP_STORED)),
    ):
        assert checked(tmp_path / "x", content, given, LABELS, own=False).errors == ()


Damage = Callable[[bytes], bytes]
REFUSED: dict[str, tuple[Competition, bytes, str]] = {
    "plain for gzip": (GZIP, CSV, "the file is no archive, expected the csv in a gzip archive"),
    "plain for zip": (ZIP, CSV, "the file is no archive, expected the csv in a zip archive"),
    "zip for gzip": (GZIP, zipped(("a.csv", CSV)), "the file is a zip archive, expected the csv in a gzip archive"),
    "gzip for zip": (ZIP, gzip.compress(CSV), "the file is a gzip archive, expected the csv in a zip archive"),
    "zip for plain": (PLAIN, zipped(("a.csv", CSV)), "the file is a zip archive, expected the csv inside it"),
    "gzip for plain": (PLAIN, gzip.compress(CSV), "the file is a gzip archive, expected the csv inside it"),
    "gzip cut off": (GZIP, gzip.compress(CSV)[:-20], "the gzip archive is damaged or cut off (Compressed file ended"),
    "gzip without its sum": (GZIP, gzip.compress(CSV)[:-8], "the gzip archive is damaged or cut off"),
    "gzip with a wrong sum": (GZIP, flipped(gzip.compress(CSV), -8), "cut off (CRC check failed"),
    "gzip with something behind": (GZIP, gzip.compress(CSV) + b"x", "the gzip archive is damaged or cut off"),
    "gzip damaged": (GZIP, flipped(gzip.compress(CSV), 60), "the gzip archive is damaged or cut off"),
    "zip cut off": (ZIP, zipped(("a.csv", CSV))[:-30], "the zip archive is damaged or cut off"),
    "zip damaged": (ZIP, flipped(zipped(("a.csv", CSV)), 80), "the zip archive is damaged or cut off"),
    "zip with a wrong sum": (
        ZIP,
        flipped(zipped(("a.csv", CSV), method=zipfile.ZIP_STORED), 100),
        "the zip archive is damaged or cut off (Bad CRC-32",
    ),
    "two files": (ZIP, zipped(("a.csv", CSV), ("b.csv", CSV)), "the zip archive holds 2 files, expected one csv"),
    "another method": (
        ZIP,
        zipped(("a.csv", CSV), method=zipfile.ZIP_LZMA),
        "entry 'a.csv' is packed by method 14, expected stored or deflated",
    ),
    "an archive in an archive": (ZIP, zipped(("a.csv", gzip.compress(CSV))), "line 1: the header cannot be read"),
    "a row less": (GZIP, gzip.compress(CSV[:-6]), "1 of 200 ids are missing, the first is '199'"),
    "a bomb": (GZIP, gzip.compress(CSV + b"0" * (1 << 24)), "bytes of text, which no csv of its rows can have"),
    "a bomb of lines": (GZIP, gzip.compress(CSV + b"0,0\n" * (1 << 18)), "of text, which no csv of its rows can have"),
    "a bomb in a zip": (ZIP, zipped(("a.csv", b"0" * (1 << 24))), "bytes of text, which no csv of its rows can have"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_such_archive_is_refused(tmp_path: Path, kind: str) -> None:
    given, content, sentence = REFUSED[kind]
    for own in (True, False):
        report = checked(tmp_path / "x", content, given, LABELS, own=own, meant=own)
        assert any(sentence in error for error in report.errors), report.errors


def test_any_byte_that_is_lost_or_changed_is_found_or_changes_nothing(tmp_path: Path) -> None:
    """Damage is a sentence and never an exception; where none is found, the csv that is read is the same."""
    for given, content in ((GZIP, packed(tmp_path, GZIP, LABELS).path.read_bytes()), (ZIP, zipped(("a.csv", CSV)))):
        assert checked(tmp_path / "x", content, given, LABELS).errors == ()
        for at in range(len(content)):
            report = checked(tmp_path / "x", flipped(content, at), given, LABELS)
            assert report.errors or report.counts == (100, 100)
            assert checked(tmp_path / "x", content[:at], given, LABELS).errors


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    content = b"".join(packer.compress(bytes(1 << 20)) for _ in range(512)) + packer.flush()
    (tmp_path / "x").write_bytes(content)
    tracemalloc.start()
    report = check_file(tmp_path / "x", GZIP, LABELS.ids, LABELS.shapes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not report.ok and peak < 16e6 < 512 << 20


@pytest.mark.parametrize("compress", ["gzip", "zip"])
def test_memory_of_writing_and_checking_is_bounded(tmp_path: Path, compress: str) -> None:
    values = np.random.default_rng(0).integers(1, 5, (600, 1, 64, 64), np.uint8)
    labels = Ragged.stack(values, np.arange(600).astype(str))
    classes = [f"class{i}" for i in range(5)]
    given = competition("segmentation", classes, {"format": "wide_csv", "compress": compress})
    tracemalloc.start()
    wide_csv.write(tmp_path / "x", labels, given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    report = check_file(tmp_path / "x", given, labels.ids, labels.shapes)
    checking = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.ok and report.counts == tuple(np.bincount(values.ravel(), minlength=5))
    assert peak < 16e6 and checking < 16e6
