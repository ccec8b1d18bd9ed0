"""Format png_zip: pictures read back by another library, equal bytes, archives from outside that are damaged or traps."""

from __future__ import annotations

import io
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.submission import png_zip
from podium.submission.checks.png_zip import check_png_zip
from submitting import checked, competition, packed, ragged

CLASSES = ["background", "cell"]
CELLS = competition("segmentation", CLASSES, {"format": "png_zip", "name": "mask_{id}.png"})
THREE = ["background", "cytoplasm", "nucleus"]
GREYS = {"background": 0, "cytoplasm": 128, "nucleus": 255}
PARTS = competition("segmentation", THREE, {"format": "png_zip", "values": GREYS})
WHITE = competition("segmentation", THREE, {"format": "png_zip", "values": GREYS | {"cytoplasm": 255}})
LABELS = ragged({"b": np.array([[0, 1, 1], [1, 0, 0]], np.uint8), "a": np.array([[1], [0], [1], [1]], np.uint8)})
PICTURES = {"mask_b.png": LABELS[0][0] * np.uint8(255), "mask_a.png": LABELS[1][0] * np.uint8(255)}


def png(picture: np.ndarray) -> bytes:
    """A PNG as Pillow makes it."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def archive(entries: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return buffer.getvalue()


GOOD = {name: png(picture) for name, picture in PICTURES.items()}


def test_pictures_and_names(tmp_path: Path) -> None:
    done = packed(tmp_path, CELLS, LABELS)
    with zipfile.ZipFile(done.path) as file:
        assert file.testzip() is None and file.namelist() == list(PICTURES)
        for name, picture in PICTURES.items():
            found = cv2.imdecode(np.frombuffer(file.read(name), np.uint8), cv2.IMREAD_UNCHANGED)
            assert found is not None and found.dtype == np.uint8 and (found == picture).all()
    assert done.report.rows == 2 and done.report.counts == (4, 6) and done.report.warnings == ()


def test_grey_values_of_classes(tmp_path: Path) -> None:
    labels = ragged({"x": np.array([[0, 1, 2]], np.uint8)})
    for given_, wanted, counts in ((PARTS, [0, 128, 255], (1, 1, 1)), (WHITE, [0, 255, 255], (1, 2, 0))):
        done = packed(tmp_path, given_, labels)
        with zipfile.ZipFile(done.path) as file:
            assert np.asarray(Image.open(file.open("x.png"))).tolist() == [wanted]
        assert done.report.ok and done.report.counts == counts


@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=6),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_masks_come_back_as_they_were(
    seed: int, sizes: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    masks = {f"ü {k}": rng.integers(0, 3, size).astype(np.uint8) for k, size in enumerate(sizes)}
    done = packed(tmp_path_factory.mktemp("png"), PARTS, ragged(masks))
    with zipfile.ZipFile(done.path) as file:
        for name, mask in masks.items():
            found = cv2.imdecode(np.frombuffer(file.read(f"{name}.png"), np.uint8), cv2.IMREAD_UNCHANGED)
            assert found is not None and (found == np.array([0, 128, 255])[mask]).all()


def test_equal_labels_make_equal_bytes(tmp_path: Path) -> None:
    png_zip.write(tmp_path / "1.zip", LABELS, CELLS)
    png_zip.write(tmp_path / "2.zip", LABELS, CELLS)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as file:
        for info in file.infolist():
            assert info.date_time == (1980, 1, 1, 0, 0, 0) and info.create_system == 3
            assert info.external_attr >> 16 == 0o100644 and info.compress_type == zipfile.ZIP_STORED


def test_memory_above_the_labels_is_bounded(tmp_path: Path) -> None:
    labels = Ragged.stack(np.ones((200, 1, 128, 128), np.uint8), np.arange(200).astype(str))
    tracemalloc.start()
    png_zip.write(tmp_path / "x.zip", labels, CELLS)
    check_png_zip(tmp_path / "x.zip", CELLS, labels.ids, labels.shapes, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6 < labels.values.nbytes


@pytest.mark.parametrize("name", ["../x", "/x", "a\\b", "a\nb", "a\0b", "./x", "a//b", "\ud800"])
def test_ids_that_are_no_safe_names_are_refused(tmp_path: Path, name: str) -> None:
    plain = competition("segmentation", CLASSES, {"format": "png_zip", "name": "{id}"})
    with pytest.raises(UserError, match="is no safe name in an archive"):
        png_zip.write(tmp_path / "x.zip", ragged({name: np.zeros((1, 1), np.uint8)}), plain)


# ---------------------------------------------------------------- the check


def changed(**entries: bytes) -> bytes:
    """The good archive with other content of some of its pictures: mask_a or mask_b."""
    return archive(GOOD | {f"{name}.png": content for name, content in entries.items()})


def piece(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(height: int, width: int, rows: bytes, colour: int = 0, interlaced: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + piece(b"IHDR", head) + piece(b"IDAT", zlib.compress(rows)) + piece(b"IEND", b"")


A = PICTURES["mask_a.png"]
CUT = GOOD["mask_a.png"][:-12]  # without its last piece
BROKEN = GOOD["mask_a.png"].replace(b"IDAT", b"IDBT")
LARGE = raw_png(100_000, 100_000, bytes(1000))
BOMB = raw_png(4, 1, bytes(20_000_000))
ROWS = GOOD["mask_a.png"][33 : GOOD["mask_a.png"].index(b"IEND") - 4]  # the piece behind signature and head
OTHER_ROWS = ROWS, piece(b"IDAT", b"no zlib")
LONG = png(A) + bytes(200_000)
DAMAGE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "the file is no zip archive, or is cut off (File is not a zip file)"),
    "a csv": (b"id,rle\na,\n", "the file is no zip archive"),
    "cut off": (archive(GOOD)[:-30], "the file is no zip archive, or is cut off"),
    "an empty archive": (archive({}), "2 of 2 pictures are missing, the first is 'mask_b.png'"),
    "one missing": (
        archive({"mask_b.png": GOOD["mask_b.png"]}),
        "1 of 2 pictures are missing, the first is 'mask_a.png'",
    ),
    "one too many": (archive(GOOD | {"mask_c.png": b""}), "entry 'mask_c.png' is not in the test set, whose first is"),
    "in a folder": (
        archive({f"out/{name}": content for name, content in GOOD.items()}),
        "entry 'out/mask_b.png' is not in the test set, whose first is 'mask_b.png'",
    ),
    "leading out": (archive(GOOD | {"../mask_c.png": b"x"}), "entry '../mask_c.png' is not in the test set"),
    "a folder": (archive(GOOD | {"masks/": b""}), "entry 'masks/' is not in the test set"),
    "other ending": (
        archive({"mask_b.png": GOOD["mask_b.png"], "mask_a.PNG": GOOD["mask_a.png"]}),
        "entry 'mask_a.PNG' is not in the test set",
    ),
    "a method few know": (archive(GOOD, zipfile.ZIP_BZIP2), "is packed by method 12, expected stored or deflated"),
    "no png": (changed(mask_a=b"GIF89a"), "entry 'mask_a.png' is no PNG, it begins with b'GIF89a'"),
    "an empty entry": (changed(mask_a=b""), "entry 'mask_a.png' is no PNG, it begins with b''"),
    "only a beginning": (changed(mask_a=GOOD["mask_a.png"][:8]), "is no PNG: it does not begin with its size"),
    "another size": (
        changed(mask_a=png(A.T.copy())),
        "entry 'mask_a.png' is a picture of 1 × 4, expected 4 × 1 as its image (height × width)",
    ),
    "a huge size": (changed(mask_a=LARGE), "is a picture of 100000 × 100000, expected 4 × 1"),
    "colour": (
        changed(mask_a=png(np.repeat(A[..., None], 3, 2))),
        "entry 'mask_a.png' is a colour picture with 8 bits, expected grey with 8 bits",
    ),
    "one bit": (changed(mask_a=png(A > 0)), "is a grey picture with 1 bits, expected grey with 8 bits"),
    "sixteen bits": (changed(mask_a=png(A.astype(np.uint16))), "is a grey picture with 16 bits"),
    "palette": (changed(mask_a=raw_png(4, 1, bytes(8), colour=3)), "is a palette picture with 8 bits"),
    "cut picture": (changed(mask_a=CUT), "entry 'mask_a.png' is a PNG that is cut off, its end is missing"),
    "cut in a piece": (changed(mask_a=GOOD["mask_a.png"][:-16]), "entry 'mask_a.png' is a PNG that is cut off"),
    "wrong checksum": (changed(mask_a=BROKEN), "is a damaged PNG: the checksum of its piece 'IDBT' is wrong"),
    "rows missing": (changed(mask_a=raw_png(4, 1, bytes(4))), "is a damaged PNG: its rows have less than 8 bytes"),
    "rows too many": (changed(mask_a=raw_png(4, 1, bytes(9))), "is a damaged PNG: its rows have more than 8 bytes"),
    "a filter unknown": (changed(mask_a=raw_png(4, 1, b"\x09" * 8)), "entry 'mask_a.png' is a damaged PNG ("),
    "no packed rows": (changed(mask_a=GOOD["mask_a.png"].replace(*OTHER_ROWS)), "is a damaged PNG (Error -3 while"),
    "much behind its end": (changed(mask_a=LONG), "has more than the 65552 bytes that a grey PNG of its size can have"),
    "class indices": (
        changed(mask_a=png(A // 255)),
        "entry 'mask_a.png', pixel (0, 0) holds 1, expected one of 0 (background), 255 (cell), and 2 more such pixels",
    ),
    "one pixel": (
        changed(mask_a=png(np.where(np.arange(4)[:, None] == 1, np.uint8(255), A))),
        "entry 'mask_a.png', pixel (1, 0) is 255, meant was 0 (one pixel in one picture): not what was meant",
    ),
    "inverted": (
        archive({name: png(255 - picture) for name, picture in PICTURES.items()}),
        "entry 'mask_b.png', pixel (0, 0) is 255, meant was 0 (10 pixels in 2 pictures): not what was meant",
    ),
    "another order": (
        archive(dict(reversed(GOOD.items()))),
        "entry 'mask_b.png' comes after picture 'mask_a.png', expected the test set's order",
    ),
}
FINE_FROM_ELSEWHERE = {"one pixel", "inverted", "another order"}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(tmp_path: Path, kind: str) -> None:
    content, sentence = DAMAGE[kind]
    report = checked(tmp_path / "x.zip", content, CELLS, LABELS)
    assert any(sentence in error for error in report.errors), report.errors
    foreign = checked(tmp_path / "x.zip", content, CELLS, LABELS, own=False, meant=False)
    assert foreign.ok == (kind in FINE_FROM_ELSEWHERE), foreign.errors


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_of_other_writers_are_read(tmp_path: Path, method: int) -> None:
    assert checked(tmp_path / "x.zip", archive(GOOD, method), CELLS, LABELS).errors == ()
    foldered = competition("segmentation", CLASSES, {"format": "png_zip", "name": "masks/mask_{id}.png"})
    entries = {"masks/": b"", **{f"masks/{name}": content for name, content in GOOD.items()}}
    report = checked(tmp_path / "x.zip", archive(entries, method), foldered, LABELS, own=False)
    assert report.errors == () and report.rows == 2


def test_an_interlaced_picture_is_read(tmp_path: Path) -> None:
    """Of one column of four rows the passes hold row 0, row 2, and rows 1 and 3; each row has a filter's 0 before it."""
    rows = bytes([0, A[0, 0], 0, A[2, 0], 0, A[1, 0], 0, A[3, 0]])
    assert checked(tmp_path / "x.zip", changed(mask_a=raw_png(4, 1, rows, interlaced=1)), CELLS, LABELS).errors == ()
    short = checked(tmp_path / "x.zip", changed(mask_a=raw_png(4, 1, rows[:6], interlaced=1)), CELLS, LABELS)
    assert "its rows have less than 8 bytes" in short.errors[0]
    other = checked(tmp_path / "x.zip", changed(mask_a=raw_png(4, 1, rows, interlaced=2)), CELLS, LABELS)
    assert "is packed as no PNG that is known" in other.errors[0]


def test_an_entry_that_is_there_twice(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for name in (*GOOD, "mask_b.png"):
                file.writestr(name, GOOD[name])
    report = checked(tmp_path / "x.zip", buffer.getvalue(), CELLS, LABELS)
    assert "entry 'mask_b.png' was already there, as number 1" in report.errors
    assert "3 files in the archive, expected 2" in report.errors


def test_an_encrypted_entry(tmp_path: Path) -> None:
    content = bytearray(archive(GOOD))
    at = content.index(b"PK\x01\x02")  # the first entry of the index; its flags lie 8 bytes on
    content[at + 8] |= 1
    report = checked(tmp_path / "x.zip", bytes(content), CELLS, LABELS)
    assert "entry 'mask_b.png' is encrypted, expected a plain one" in report.errors


def test_traps_cost_no_memory(tmp_path: Path) -> None:
    """20 MB of zeros behind 20 kB, inside a picture and as an entry."""
    for trap in (BOMB, bytes(20_000_000)):
        content = changed(mask_a=trap)
        assert len(content) < 100_000
        tracemalloc.start()
        report = checked(tmp_path / "x.zip", content, CELLS, LABELS, own=False)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2e6
        sentence = "its rows have more than 8 bytes" if trap is BOMB else "is no PNG, it begins with"
        assert len(report.errors) == 1 and sentence in report.errors[0]
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_any_damaged_byte_gives_a_report(tmp_path: Path) -> None:
    """No byte makes the check stumble, and none changes a pixel unseen."""
    content = archive(GOOD, zipfile.ZIP_STORED)
    found = 0
    for place in range(len(content)):
        for change in (0xFF, 0x01):
            damaged = bytearray(content)
            damaged[place] ^= change
            found += not checked(tmp_path / "x.zip", bytes(damaged), CELLS, LABELS).ok
    assert found > 1.4 * len(content)  # of two; the rest are dates, versions and attributes


def test_the_unscored_class_must_not_be_predicted(tmp_path: Path) -> None:
    given_ = competition("segmentation", THREE, {"format": "png_zip", "values": GREYS}, unscored="background")
    labels = ragged({"x": np.array([[0, 1, 2]], np.uint8)})
    content = archive({"x.png": png(np.array([[0, 128, 255]], np.uint8))})
    report = checked(tmp_path / "x.zip", content, given_, labels)
    assert report.errors == (
        "entry 'x.png', pixel (0, 0) (one pixel in one picture): label 0 (background) is never scored and must not be "
        "predicted",
    )
    foreign = checked(tmp_path / "x.zip", content, given_, labels, own=False)
    assert foreign.ok and "multiplies the score by 2/3" in foreign.warnings[0]


def test_one_value_everywhere_is_a_warning(tmp_path: Path) -> None:
    for value, sentence in (
        (0, "every pixel has the value 0 (background)"),
        (1, "every pixel has the value 255 (cell)"),
    ):
        labels = ragged({"x": np.full((2, 2), value, np.uint8)})
        assert packed(tmp_path, CELLS, labels).report.warnings == (sentence,)


def test_meant_is_joined_by_id_and_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(archive(GOOD))
    check: Callable[[Ragged], tuple[str, ...]] = lambda meant: (  # noqa: E731
        check_png_zip(path, CELLS, LABELS.ids, LABELS.shapes, meant).errors
    )
    assert check(ragged({"a": LABELS[1][0], "b": LABELS[0][0]})) == ()
    assert check(ragged({"b": LABELS[0][0]})) == ("1 ids of the test set have no labels, first 'a'",)
    other = check(ragged({"a": LABELS[1][0].T.copy(), "b": LABELS[0][0]}))
    assert other == ("entry 'mask_a.png': 4 × 1 pixels, meant were 1 × 4",)
    strange = check(ragged({"a": LABELS[1][0] * np.uint8(255), "b": LABELS[0][0]}))
    assert strange == (
        "entry 'mask_a.png', pixel (0, 0) is 255, meant was label 255 (3 pixels in one picture): not what was meant",
    )
