"""Tables and pictures of objects: what they hold, that they are reproducible, and what they never write over."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from podium.config_objects import Objects
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.objects.find import find
from podium.objects.overlay import colour, file_name, overlay
from podium.objects.report import ObjectsReport, write_report
from podium.objects.table import COLUMNS, line

CLASSES = ("background", "cell", "nucleus")


def ragged(items: dict[str, np.ndarray]) -> Ragged:
    shapes = np.array([item.shape for item in items.values()], np.int64)
    return Ragged(np.concatenate([item.ravel() for item in items.values()]), shapes, np.array(list(items)))


@pytest.fixture
def part() -> Part:
    images = {
        "a, b": np.full((3, 12, 16), 51, np.uint8),
        "sub/c": np.full((3, 8, 9), 102, np.uint8),
        "d": np.full((3, 5, 5), 255, np.uint8),
    }
    return Part("test", ragged(images), None, "0123456789abcdef")


@pytest.fixture
def labels() -> Ragged:
    first, second = np.zeros((1, 12, 16), np.uint8), np.zeros((1, 8, 9), np.uint8)
    first[0, 2:6, 3:13], first[0, 9, 9] = 1, 2
    second[0, 1:4, 1:4] = 2
    return ragged({"sub/c": second, "d": np.zeros((1, 5, 5), np.uint8), "a, b": first})


def write(folder: Path, part: Part, labels: Ragged, overlays: int | None = None, **values: Any) -> ObjectsReport:
    return write_report(folder, part, labels, Objects.model_validate(values), CLASSES, None, overlays)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_tables(tmp_path, part, labels):
    report = write(tmp_path / "o", part, labels, of="classes")
    assert report == ObjectsReport(tmp_path / "o", 3, 3, ("cell", "nucleus"), (1, 2), 1, 3)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "o" / "objects.csv").read_text())))
    assert tuple(rows[0]) == COLUMNS
    assert COLUMNS[:4] == ("image", "id", "class", "area") and COLUMNS[-4:] == ("top", "left", "bottom", "right")
    assert [(row["image"], row["id"], row["class"], row["area"]) for row in rows] == [
        ("sub/c", "1", "nucleus", "9"),
        ("a, b", "1", "cell", "40"),
        ("a, b", "2", "nucleus", "1"),
    ]
    assert [row["mean_intensity"] for row in rows] == ["0.4", "0.2", "0.2"]  # 102 / 255 and 51 / 255
    assert [rows[1][key] for key in ("centroid_y", "centroid_x", "top", "left", "bottom", "right")] == [
        "3.5",
        "7.5",
        "2",
        "3",
        "6",
        "13",
    ]
    counts = (tmp_path / "o" / "counts.csv").read_text()
    assert counts == 'image,objects,cell,nucleus\nsub/c,1,0,1\nd,0,0,0\n"a, b",2,1,1\n'


def test_counts_of_one_kind_are_said_once(tmp_path, part, labels):
    report = write(tmp_path, part, labels, overlays=0, min_area=2)
    assert (report.objects, report.kinds, report.per_kind, report.overlays) == (2, ("foreground",), (2,), 0)
    assert (tmp_path / "counts.csv").read_text() == 'image,objects\nsub/c,1\nd,0\n"a, b",1\n'
    assert not (tmp_path / "overlays").exists()


def test_floats_are_rounded_and_what_is_no_number_is_empty():
    assert line(("x", 1 / 3, 12345.678912, 1.0, float("nan"), 7)) == "x,0.3333333,12345.68,1,,7\n"


def test_the_same_command_leaves_everything_as_it_is(tmp_path, part, labels):
    first = write(tmp_path, part, labels)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    again = write(tmp_path, part, labels)
    assert again.reused and not first.reused
    assert (again.objects, again.per_kind, again.kinds) == (first.objects, first.per_kind, first.kinds)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == times
    assert not list(tmp_path.rglob("*.tmp*"))
    # another folder gives the same bytes
    write(tmp_path / "other", part, labels)
    here = {name: content for name, content in files(tmp_path).items() if not name.startswith("other")}
    assert files(tmp_path / "other") == here


def test_other_settings_masks_and_damage_are_written_anew(tmp_path, part, labels):
    write(tmp_path, part, labels)
    assert not write(tmp_path, part, labels, min_area=2).reused
    assert (tmp_path / "objects.csv").read_text().count("\n") == 3
    values = labels.values.copy()
    values[:] = 0
    empty = write(tmp_path, part, Ragged(values, labels.shapes, labels.ids), min_area=2)
    assert (empty.objects, empty.empty, empty.reused) == (0, 3, False)
    assert (tmp_path / "objects.csv").read_text() == ",".join(COLUMNS) + "\n"
    good = (tmp_path / "counts.csv").read_text()
    (tmp_path / "counts.csv").write_text("damaged")
    assert not write(tmp_path, part, Ragged(values, labels.shapes, labels.ids), min_area=2).reused
    assert (tmp_path / "counts.csv").read_text() == good


def test_overlays_no_longer_asked_for_go_and_those_of_others_stay(tmp_path, part, labels):
    write(tmp_path, part, labels)
    assert sorted(path.name for path in (tmp_path / "overlays").iterdir()) == [
        "a, b.png",
        "d.png",
        "sub%2Fc.png",
    ]
    (tmp_path / "overlays" / "mine.png").write_text("mine")
    write(tmp_path, part, labels, overlays=1)
    assert sorted(path.name for path in (tmp_path / "overlays").iterdir()) == ["mine.png", "sub%2Fc.png"]


def test_files_of_others_are_not_written_over(tmp_path, part, labels):
    (tmp_path / "objects.csv").write_text("mine")
    with pytest.raises(UserError, match="objects.csv: is there already and was not written by this command; move it"):
        write(tmp_path, part, labels)
    assert (tmp_path / "objects.csv").read_text() == "mine" and not (tmp_path / "counts.csv").exists()
    # a record made up elsewhere does not reach out of the folder
    (tmp_path / "objects.csv").unlink()
    outside = tmp_path.parent / f"{tmp_path.name}.txt"
    outside.write_text("mine")
    (tmp_path / "objects.json").write_text(json.dumps({"key": "x", "files": {f"overlays/../../{outside.name}": None}}))
    write(tmp_path, part, labels)
    assert outside.read_text() == "mine"


def test_after_a_kill_it_goes_on(tmp_path, part, labels, monkeypatch):
    def killed(path: Path, image: np.ndarray, found: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("podium.objects.report._draw", killed)
        write(tmp_path, part, labels)
    assert not (tmp_path / "objects.csv").exists()
    assert not write(tmp_path, part, labels).reused and write(tmp_path, part, labels).reused


def test_images_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, part, labels):
    with pytest.raises(UserError, match="id 'x': has a mask but no image in the test part; predict again"):
        write(tmp_path / "o", part, ragged({"x": np.zeros((1, 5, 5), np.uint8)}))
    with pytest.raises(UserError, match="id 'd': its mask has 5 × 6 pixels .height × width., its image 5 × 5"):
        write(tmp_path / "o", part, ragged({"d": np.zeros((1, 5, 6), np.uint8)}))
    with pytest.raises(ValueError, match="expected uint8"):
        write(tmp_path / "o", part, ragged({"d": np.zeros((2, 5, 5), np.uint8)}))
    assert not (tmp_path / "o").exists()


def test_an_overlay_outlines_and_leaves_the_rest(tmp_path):
    labels = np.zeros((600, 700), np.uint8)
    labels[100:200, 100:300], labels[400:500, 100:300] = 1, 1
    found = find(labels, Objects(), CLASSES, None)
    image = np.stack([np.full((600, 700), value, np.uint8) for value in (10, 20, 30)])
    shown = np.array(Image.open(io.BytesIO(overlay(image, found))))
    assert shown.shape == (600, 700, 3)  # large pictures keep their size
    border = np.zeros((600, 700), bool)
    for top in (100, 400):
        border[top : top + 100, 100:300] = True
        border[top + 1 : top + 99, 101:299] = False
    assert (shown[100, 100:300] == colour(1)).all() and (shown[499, 100:300] == colour(2)).all()
    assert colour(1) != colour(2)
    untouched = ~border
    untouched[140:160, 190:210] = untouched[440:460, 190:210] = False  # their numbers
    assert (shown[untouched] == (10, 20, 30)).all()
    for top in (140, 440):
        assert (shown[top : top + 20, 190:210] > 230).all(axis=-1).any()


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pictures_of_any_channels_and_type(channels, dtype):
    image = np.zeros((channels, 10, 20), dtype)
    image[0, :, 10:] = 200
    labels = np.zeros((10, 20), np.uint8)
    found = find(labels, Objects(), CLASSES, None)
    shown = np.array(Image.open(io.BytesIO(overlay(image, found))))
    assert shown.shape == (10 * 25, 20 * 25, 3)  # small pictures are enlarged: 512 // 20
    white = 200 if dtype == np.uint8 else 255  # other types are stretched
    assert shown[0, 0].tolist() == [0, 0, 0]
    assert shown[0, -1].tolist() == ([white, 0, 0] if channels == 3 else [white] * 3)
    with pytest.raises(ValueError, match="differ in size"):
        overlay(image[:, 1:], found)


def test_a_flat_or_odd_picture_is_drawn():
    found = find(np.ones((4, 4), np.uint8), Objects(), CLASSES, None)
    for image in (np.full((1, 4, 4), np.nan, np.float32), np.full((1, 4, 4), 3, np.float32)):
        assert overlay(image, found)[:4] == b"\x89PNG"


def test_names_of_files_are_safe_and_never_shared():
    ids = ["a/b", "a%2Fb", "../a", "a b", "é", "x" * 400, "x" * 401, "a\nb", "", "a\\b"]
    names = [file_name(name) for name in ids]
    assert len(set(names)) == len(ids)
    for name in names:
        assert "/" not in name and "\\" not in name and len(name) < 200 and name.isascii() and name.isprintable()
    assert file_name("007") == "007.png"
