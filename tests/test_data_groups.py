"""Groups from a table of their own, joined by id."""

from __future__ import annotations

from pathlib import Path

import pytest

from podium.config_data import GroupColumn
from podium.data.groups import read_groups
from podium.errors import UserError

PATIENTS = GroupColumn(file="patients.csv", id="image", pattern="image_{id}.png", column="patient")
TABLE = "image,patient,malignant\nimage_2.png,7,1\nimage_1.png,Ann,0\nimage_3.png,7,1\ntest_9.png,,0\ntest_9.png,8,0\n"


def complaint(folder: Path, text: str, ids: list[str], settings: GroupColumn = PATIENTS) -> str:
    (folder / "patients.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_groups(settings, folder, ids)
    said = str(caught.value)
    assert said.startswith(f"{folder}/patients.csv") and "\n" not in said
    return said


def test_groups_are_joined_by_id_not_by_position(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text(TABLE, encoding="utf-8")
    assert read_groups(PATIENTS, tmp_path, ["1", "2", "3"]) == ["Ann", "7", "7"]
    assert read_groups(PATIENTS, tmp_path, ["3", "1"]) == ["7", "Ann"]
    plain = GroupColumn(file="patients.csv", id="image", column="malignant")
    assert read_groups(plain, tmp_path, ["image_2.png", "test_9.png"]) == ["1", "0"]


def test_the_same_row_twice_is_no_contradiction(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text(TABLE + "image_1.png, Ann ,1\n", encoding="utf-8")
    assert read_groups(PATIENTS, tmp_path, ["1"]) == ["Ann"]


def test_ids_without_rows_are_counted(tmp_path: Path) -> None:
    said = complaint(tmp_path, TABLE, ["1", "04", "2", "9"])
    assert "2 of 4 images have no row, the first is '04' (no 'image_04.png' in column 'image')" in said


def test_contradictions_and_gaps_name_their_lines(tmp_path: Path) -> None:
    said = complaint(tmp_path, TABLE + "image_1.png,Bob,1\n", ["1"])
    assert "line 7, 'image_1.png': is of group 'Bob' here and of 'Ann' on line 3" in said
    said = complaint(tmp_path, TABLE + "image_4.png, ,1\n", ["4"])
    assert "line 7, 'image_4.png': column 'patient' is empty" in said
    assert "line 7: too few values, 2 for 3 columns" in complaint(tmp_path, TABLE + "image_4.png,3\n", ["1"])


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    said = complaint(tmp_path, TABLE.replace("patient", "patients"), ["1"])
    assert "has no column 'patient'; correct data.groups.column; did you mean 'patients'?" in said
    said = complaint(tmp_path, TABLE.replace("image,", "name,"), ["1"])
    assert "has no column 'image'; correct data.groups.id" in said
    said = complaint(tmp_path, TABLE.replace(",", ";"), ["1"])
    assert "cells parted by semicolons; save it with commas" in said


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="patients.csv: no such file"):
        read_groups(PATIENTS, tmp_path, ["1"])
