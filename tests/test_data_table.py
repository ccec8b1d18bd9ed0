"""Reading tables: pixels in columns, labels and run-length masks beside pictures; every mistake is named with its line."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from podium.config_data import TableData
from podium.data import pixel_table
from podium.data.chunk import Bad, Reading
from podium.data.class_names import class_names
from podium.data.table import files, read_test, read_train
from podium.errors import UserError

CLASSES = ("cat", "dog", "fish")
PIXELS = {"file": "train.csv", "target": "label", "pixels": "pixel"}
PICTURES = {"file": "train.csv", "id": "id", "target": "label", "image": "train/{id}.png"}
MASKS = {"file": "train.csv", "id": "id", "rle": "rle", "image": "train/{id}.png"}


def table_data(train: dict[str, Any], **others: Any) -> TableData:
    """Settings of the format; pixels in columns make pictures of 1 x 2 unless ``shape`` says otherwise."""
    shape = {"shape": [1, 2]} if "pixels" in train else {}
    return TableData.model_validate({"format": "table", "train": train} | shape | others)


def reading(folder: Path, skip: bool = False, masks: bool = False, classes: tuple[str, ...] = CLASSES) -> Reading:
    return Reading(folder, classes, "segmentation" if masks else "classification", 1, Bad(skip))


def write(folder: Path, text: str, name: str = "train.csv") -> Path:
    (folder / name).write_bytes(text.encode())
    return folder


def picture(path: Path, shape: tuple[int, ...] = (2, 3), value: int = 7) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


def pictures(folder: Path, *names: str) -> None:
    for value, name in enumerate(names):
        picture(folder / "train" / name, value=value)


class Rows:
    """All chunks of a part, joined."""

    def __init__(self, read: Callable[..., Any], data: TableData, context: Reading) -> None:
        self.ids: list[str] = []
        self.images: list[np.ndarray] = []
        self.targets: list[np.ndarray] = []
        self.groups: list[str] = []
        self.skipped = context.bad.skipped
        for chunk in read(data, context):
            self.ids += chunk.ids
            self.images += list(chunk.images)
            self.targets += list(chunk.targets) if chunk.targets is not None else []
            self.groups += chunk.groups or []

    @property
    def labels(self) -> list[int]:
        assert all(target.shape == (1, 1, 1) and target.dtype == np.uint8 for target in self.targets)
        return [target.item() for target in self.targets]

    @property
    def pixels(self) -> list[list[float]]:
        return [image.ravel().tolist() for image in self.images]


def train(data: TableData, folder: Path, **context: Any) -> Rows:
    return Rows(read_train, data, reading(folder, **context))


def complaint(data: TableData, folder: Path, **context: Any) -> str:
    with pytest.raises(UserError) as caught:
        train(data, folder, **context)
    text = str(caught.value)
    assert str(folder) in text or text.startswith("data."), text
    assert "\n" not in text
    return text


# ---------------------------------------------------------------- pixels in columns: what arrives


def test_labels_and_pixels_arrive_with_row_numbers_as_ids(tmp_path: Path) -> None:
    write(tmp_path, "label,pixel0,pixel1\n2,0,255\n0,17,3\n")
    write(tmp_path, "pixel0,pixel1\n1,2\n3,4\n", "test.csv")
    data = table_data(PIXELS, test={"file": "test.csv", "pixels": "pixel"})
    rows = train(data, tmp_path)
    assert (rows.ids, rows.labels, rows.pixels) == (["0", "1"], [2, 0], [[0, 255], [17, 3]])
    assert rows.images[0].shape == (1, 1, 2) and rows.images[0].dtype == np.uint8
    tests = Rows(read_test, data, reading(tmp_path))  # whose first_id is 1
    assert (tests.ids, tests.targets, tests.pixels) == (["1", "2"], [], [[1, 2], [3, 4]])
    assert files(data, tmp_path) == [tmp_path / "test.csv", tmp_path / "train.csv"]


def test_pixels_are_ordered_by_number_wherever_their_columns_lie(tmp_path: Path) -> None:
    write(tmp_path, "p10,name,p2,p9,label,p1,p3,p4,p5,p6,p7,p8,pmean\n10,a b,2,9,dog,1,3,4,5,6,7,8,x\n")
    rows = train(table_data(PIXELS | {"pixels": "p", "id": "name"}, shape=[2, 5]), tmp_path)
    assert rows.ids == ["a b"] and rows.labels == [1]
    np.testing.assert_array_equal(rows.images[0], [[[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]])


@pytest.mark.parametrize(
    "text",
    [
        "label,pixel0,pixel1\r\n1,20,3\r\n2,0,255\r\n",
        "\ufefflabel,pixel0,pixel1\n1,20,3\n2,0,255",
        "label,pixel0,pixel1\n\n1,20,3\n\n\n2,0,255\n\n",
        '"label","pixel0","pixel1"\n"1","20","3"\n"2","0","255"\n',
        '"label",pixel0,pixel1\r\n"dog",20,3\r\n"fish",0,255',
        "label,pixel0,pixel1\n1,20.0,3\n2,0.,2.55e2\n",
        "label , pixel0, pixel1\n1.0, 20, 3\n 2, +0,255 \n",
        "label,pixel0,pixel1\n1,020,003\n2,0000,255\n",
        "label,pixel0,pixel1\n dog ,20,3\nfish ,0,255\n",
    ],
    ids=["crlf", "bom", "empty lines", "quoted", "quoted labels", "decimals", "blanks", "leading zeros", "names"],
)
def test_ways_to_write_the_same_table(tmp_path: Path, text: str) -> None:
    rows = train(table_data(PIXELS), write(tmp_path, text))
    assert (rows.ids, rows.labels, rows.pixels) == (["0", "1"], [1, 2], [[20, 3], [0, 255]])


def test_gzip_is_known_by_its_content(tmp_path: Path) -> None:
    content = b"label,pixel0,pixel1\n1,20,3\n"
    (tmp_path / "train.csv").write_bytes(gzip.compress(content))
    assert train(table_data(PIXELS), tmp_path).pixels == [[20, 3]]
    (tmp_path / "train.csv").rename(tmp_path / "train.csv.gz")  # the plain name finds the packed file
    data = table_data(PIXELS)
    assert train(data, tmp_path).pixels == [[20, 3]]
    assert files(data, tmp_path) == [tmp_path / "train.csv.gz"]
    (tmp_path / "train.csv.gz").write_bytes(content)
    assert train(data, tmp_path).pixels == [[20, 3]]


def test_uint16_and_float32_take_what_uint8_does_not(tmp_path: Path) -> None:
    write(tmp_path, "label,pixel0,pixel1\n1,65535,256\n")
    rows = train(table_data(PIXELS, dtype="uint16"), tmp_path)
    assert rows.pixels == [[65535, 256]] and rows.images[0].dtype == np.uint16
    write(tmp_path, "label,pixel0,pixel1\n1,-0.5,1e-3\n0,12345678,7\n")
    rows = train(table_data(PIXELS, dtype="float32"), tmp_path)
    assert rows.images[0].dtype == np.float32
    np.testing.assert_array_equal(
        np.stack(rows.images).reshape(2, 2), np.array([[-0.5, 1e-3], [12345678, 7]], np.float32)
    )


def test_whole_numbers_beyond_the_arithmetic(tmp_path: Path) -> None:
    write(tmp_path, "label,pixel0,pixel1\n1,4294967297,8\n")  # 2 ** 32 + 1 would wrap around to 1
    assert train(table_data(PIXELS, dtype="float32"), tmp_path).pixels == [[2.0**32, 8]]
    assert "'4294967297', outside 0 to 65535" in complaint(table_data(PIXELS, dtype="uint16"), tmp_path)


def test_a_group_column_of_the_table_itself(tmp_path: Path) -> None:
    write(tmp_path, "label,site,pixel0,pixel1\n1,Rome,1,2\n2,Oslo,3,4\n")
    rows = train(table_data(PIXELS, groups={"column": "site"}), tmp_path)
    assert rows.groups == ["Rome", "Oslo"]
    assert train(table_data(PIXELS, groups={"column": "site", "file": "other.csv"}), tmp_path).groups == []


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(["uint8", "uint16"]),
    width=st.integers(1, 5),
    block=st.integers(1, 60),
    data=st.data(),
)
def test_random_tables_equal_what_pandas_reads(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, width: int, block: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("table")
    top = 255 if dtype == "uint8" else 65535
    value = st.one_of(st.integers(0, top), st.sampled_from([0, 9, 10, 99, 100, top]))
    label = st.sampled_from(["cat", "a cat", 'a "cat"', "cat, small", "two\nlines", "é"])
    rows = data.draw(
        st.lists(st.tuples(label, st.lists(value, min_size=width, max_size=width)), min_size=1, max_size=9)
    )
    order = data.draw(st.permutations(range(width + 1)))
    quoting: Literal[0, 1] = csv.QUOTE_ALL if data.draw(st.booleans()) else csv.QUOTE_MINIMAL
    text = io.StringIO()
    writer = csv.writer(text, quoting=quoting, lineterminator=data.draw(st.sampled_from(["\n", "\r\n"])))
    header: list[str] = ["name", *(f"x{i}" for i in range(width))]
    writer.writerow([header[i] for i in order])
    for name, values in rows:
        line = [name, *values]
        writer.writerow([line[i] for i in order])
    write(folder, text.getvalue())
    with pytest.MonkeyPatch.context() as patch:  # so small that rows, and quoted cells, lie across blocks
        patch.setattr(pixel_table, "BLOCK_BYTES", block)
        found = list(
            pixel_table.read_pixels(folder / "train.csv", "x", {"name": "data.train.target"}, width, dtype, Bad())
        )
    expected = pd.read_csv(folder / "train.csv", keep_default_na=False)
    pixels = np.concatenate([part.pixels for part in found])
    assert pixels.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(pixels, expected[[f"x{i}" for i in range(width)]].to_numpy())
    names = [name for part in found for name in part.texts["name"]]
    assert names == [name for name, _ in rows] == expected["name"].tolist()
    assert [number for part in found for number in part.numbers] == list(range(len(rows)))
    lines = [line for part in found for line in part.lines]
    assert lines == [2 + i + sum(name.count("\n") for name, _ in rows[:i]) for i in range(len(rows))]


def test_both_ways_of_reading_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (500, 16)) * (rng.random((500, 16)) < 0.5)
    frame = pd.DataFrame(values, columns=[f"pixel{i}" for i in range(16)])
    frame.insert(7, "label", rng.choice(CLASSES, 500))
    frame.to_csv(tmp_path / "train.csv", index=False)
    data = table_data(PIXELS, shape=[4, 4])
    fast = train(data, tmp_path)
    calls = []
    monkeypatch.setattr(pixel_table._Reader, "plain", lambda *given: calls.append(given))
    slow = train(data, tmp_path)
    assert calls
    np.testing.assert_array_equal(np.stack(fast.images).reshape(500, 16), values)
    np.testing.assert_array_equal(fast.images, slow.images)
    assert (fast.ids, fast.labels) == (slow.ids, slow.labels)
    assert [CLASSES[label] for label in fast.labels] == frame["label"].tolist()


def test_plain_blocks_are_not_read_cell_by_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "label,pixel0,pixel1\ndog,20,3\r\nfish,0,255")
    monkeypatch.setattr(pixel_table._Reader, "careful", None)  # would raise if it were called
    assert train(table_data(PIXELS), tmp_path).labels == [1, 2]


# ---------------------------------------------------------------- pixels in columns: what is wrong


BAD_ROWS = {
    "too few": ("1,2", "too few values, 2 for 3 columns"),
    "too many": ("1,2,3,4", "too many values, 4 for 3 columns"),
    "no number": ("1,2,abc", "column 'pixel1' is 'abc', not a number"),
    "other digits": ("1,2,٣", "column 'pixel1' is '٣', not a number"),
    "underscore": ("1,1_0,2", "column 'pixel0' is '1_0', not a number"),
    "empty": ("1,,2", "column 'pixel0' is empty"),
    "too large": ("1,256,2", "column 'pixel0' is '256', outside 0 to 255; scale the images, or set data.dtype: uint16"),
    "negative": ("1,2,-1", "column 'pixel1' is '-1', outside 0 to 255"),
    "fraction": ("1,0.5,1", "column 'pixel0' is '0.5', not a whole number"),
    "NaN": ("1,nan,1", "column 'pixel0' is 'nan', not a finite number"),
    "infinite": ("1,1,inf", "column 'pixel1' is 'inf', not a finite number"),
    "no class": ("3,1,1", "id '3': column 'label' is '3', which is no class; correct it or 'classes'"),
    "no label": (",1,1", "id '3': column 'label' is empty; every row needs a class"),
}


@pytest.mark.parametrize("gap", ["", "\n"], ids=["", "behind an empty line"])
@pytest.mark.parametrize(("row", "said"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_named_by_line_and_can_be_skipped(tmp_path: Path, row: str, said: str, gap: str) -> None:
    write(tmp_path, f"label,pixel0,pixel1\n0,1,2\n1,3,4\n{gap}2,5,6\n{row}\n0,7,8\n")
    data = table_data(PIXELS)
    text = complaint(data, tmp_path)
    assert f"{tmp_path}/train.csv, line {5 + len(gap)}" in text and said in text and text.endswith("--skip-bad")
    rows = train(data, tmp_path, skip=True)
    assert rows.ids == ["0", "1", "2", "4"]  # the numbers of the others stay
    assert rows.labels == [0, 1, 2, 0] and rows.pixels[-1] == [7, 8]
    assert len(rows.skipped) == 1 and said in rows.skipped[0]


def test_float32_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    write(tmp_path, "label,pixel0,pixel1\n0,1,2\n1,1e39,4\n")
    assert "line 3: column 'pixel0' is '1e39', beyond float32" in complaint(
        table_data(PIXELS, dtype="float32"), tmp_path
    )


def test_lines_are_counted_from_the_files_first_though_the_header_has_two(tmp_path: Path) -> None:
    write(tmp_path, 'label,"what\nfor",pixel0,pixel1\n0,,1,2\n0,,1,300\n')
    assert "train.csv, line 4: column 'pixel1'" in complaint(table_data(PIXELS), tmp_path)


def test_one_odd_row_slows_only_its_block_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_table, "BLOCK_BYTES", 100)
    lines = ["label,pixel0,pixel1", *(f"1,{i},{'1.0' if i == 50 else 1}" for i in range(200))]
    write(tmp_path, "\n".join(lines))
    taken: list[int] = []
    careful = pixel_table._Reader.careful

    def counted(reader: pixel_table._Reader, block: bytes, number: int, line: int) -> Any:
        rows, seen, lines = careful(reader, block, number, line)
        taken.append(seen)
        return rows, seen, lines

    monkeypatch.setattr(pixel_table._Reader, "careful", counted)
    assert [pixels[0] for pixels in train(table_data(PIXELS), tmp_path).pixels] == list(range(200))
    assert len(taken) == 1 and taken[0] < 20


def test_bad_rows_in_many_blocks_are_all_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_table, "BLOCK_BYTES", 100)
    lines = ["label,pixel0,pixel1"] + [f"1,{i},{'x' if i % 40 == 7 else 0}" for i in range(200)]
    rows = train(table_data(PIXELS), write(tmp_path, "\n".join(lines)), skip=True)
    assert [said.split(": ")[0].rpartition("line ")[2] for said in rows.skipped] == ["9", "49", "89", "129", "169"]
    assert rows.ids == [str(i) for i in range(200) if i % 40 != 7]
    assert [pixels[0] for pixels in rows.pixels] == [i for i in range(200) if i % 40 != 7]


def test_ids_that_are_missing_or_there_twice(tmp_path: Path) -> None:
    data = table_data(PIXELS | {"id": "name"}, groups={"column": "site"})
    text = "name,label,site,pixel0,pixel1\na,0,x,1,2\nb,1,x,3,4\na,0,x,5,6\n,0,x,7,8\nc,0,,9,9\n"
    assert "line 4, id 'a': the id stands on line 2 already" in complaint(data, write(tmp_path, text))
    rows = train(data, tmp_path, skip=True)
    assert rows.ids == ["a", "b"] and rows.groups == ["x", "x"]
    assert "line 5: column 'name' is empty" in rows.skipped[1]
    assert "line 6, id 'c': column 'site' is empty; every row needs a group" in rows.skipped[2]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("labels,pixel0,pixel1", "has no column 'label'; correct data.train.target; did you mean 'labels'?"),
        ("label,label,pixel0,pixel1", "2 columns are called 'label'"),
        ("label,a,b", "no column is called 'pixel' and a number, the first are label, a, b; correct pixels"),
        ("label,pixel0,pixel2", "has columns pixel0 to pixel2, but no pixel1"),
        ("label,pixel0,pixel1,pixel2", "has 3 pixel columns, pixel0 to pixel2, where data.shape asks for 2"),
        ("label,pixel1,pixel01", "columns 'pixel1' and 'pixel01' are the same pixel"),
        ("label;pixel0;pixel1", "holds one column 'label;pixel0;pixel1', cells parted by semicolons; save it with"),
        ("label\tpixel0\tpixel1", "cells parted by tabs"),
        ("", "is empty"),
    ],
)
def test_headers_that_do_not_fit(tmp_path: Path, header: str, said: str) -> None:
    write(tmp_path, f"{header}\n1,2,3\n" if header else "")
    assert said in complaint(table_data(PIXELS), tmp_path)


def test_a_missing_column_among_many_is_guessed_though_not_all_are_listed(tmp_path: Path) -> None:
    write(tmp_path, ",".join([*(f"pixel{i}" for i in range(100)), "lable"]) + "\n")
    text = complaint(table_data(PIXELS), tmp_path)
    assert "did you mean 'lable'?" in text and len(text) < 400 + len(str(tmp_path))


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    data, path = table_data(PIXELS), tmp_path / "train.csv"
    assert "train.csv: no such file" in complaint(data, tmp_path)
    path.mkdir()
    assert "is a folder" in complaint(data, tmp_path)
    path.rmdir()
    rng = np.random.default_rng(0)
    lines = [b"label,pixel0,pixel1", *(b"1,%d,%d" % tuple(row) for row in rng.integers(0, 256, (50_000, 2)))]
    packed = gzip.compress(b"\n".join(lines))
    for content in (packed[: len(packed) // 2], packed[:200] + b"damage" + packed[206:], packed[:-8] + b"\0" * 8):
        path.write_bytes(content)
        assert "is damaged or cut short" in complaint(data, tmp_path)
    path.write_bytes(b"PK\3\4 and what follows")
    assert "is no csv; unpack it" in complaint(data, tmp_path)
    path.write_bytes("label,pixel0,pixel1\n".encode("utf-16"))
    assert "save it as a csv in UTF-8" in complaint(data, tmp_path)
    path.write_bytes("label,pixel0,pixel1\n1,2,3\nKätzchen,2,3\n".encode("latin-1"))
    assert "train.csv, line 3: is not written in UTF-8" in complaint(data, tmp_path)
    path.write_bytes(b'label,pixel0,pixel1\n1,2,3\n"1,2,3\n1,2,3\n')
    assert "train.csv, line 3: is no csv" in complaint(data, tmp_path)
    path.write_bytes(b"label,pixel0,pixel1\n")
    assert "no row can be used" in complaint(data, tmp_path)
    path.write_bytes(b"label,pixel0,pixel1\n1,2\n")
    assert "no row can be used, the last because" in complaint(data, tmp_path, skip=True)


def test_progress_ends_with_the_number_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_table, "BLOCK_BYTES", 100)
    write(tmp_path, "label,pixel0,pixel1\n" + "1,22,33\n" * 100)
    told: list[tuple[int, int]] = []
    context = Reading(tmp_path, CLASSES, "classification", 0, Bad(), lambda done, of: told.append((done, of)))
    list(read_train(table_data(PIXELS), context))
    assert told[-1] == (100, 100) and len(told) > 5
    assert all(done <= of for done, of in told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


# ---------------------------------------------------------------- what classes are called


def test_labels_by_name_by_index_or_as_floats() -> None:
    names = class_names(CLASSES, None)
    assert [names.index(text) for text in ("cat", "fish", "0", "2", "1.0", "2.")] == [0, 2, 0, 2, 1, 2]
    for text in ("3", "-1", "1.5", "Cat", "", "nan", "02"):
        with pytest.raises(ValueError, match=r"is empty|which is no class"):
            names.index(text)
    with pytest.raises(ValueError, match="did you mean 'fish'"):
        names.index("fihs")


def test_labels_by_a_map_of_texts_and_numbers() -> None:
    names = class_names(CLASSES, {"dog": ("Dog", "dogs"), "cat": 3, "fish": (" 4 ", 5)})
    assert [names.index(text) for text in ("Dog", "dogs", "3", "3.0", "4", "5")] == [1, 1, 0, 0, 2, 2]
    for text in ("dog", "1", "cat"):  # with a map, only the map counts
        with pytest.raises(ValueError, match="no class; correct it or data.values"):
            names.index(text)
    with pytest.raises(UserError, match="data.values: '3' stands for 'cat' and for 'dog'"):
        class_names(CLASSES, {"cat": 3, "dog": "3", "fish": "f"})


def test_classes_called_by_numbers_have_no_indices() -> None:
    names = class_names(("1", "2", "ten"), None)
    assert [names.index(text) for text in ("1", "2.0", "ten")] == [0, 1, 2]
    with pytest.raises(ValueError, match="is '0', which is no class"):
        names.index("0")


# ---------------------------------------------------------------- pictures beside the table


def test_labels_beside_pictures_in_the_tables_order(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "sub/c.png", "nobody_names_it.png")
    write(tmp_path, "id,label,site\nsub/c,dog,x\nb,2,y\na,cat,x\n")
    picture(tmp_path / "test/t.png", value=9)
    write(tmp_path, "name\nt\n", "test.csv")
    test = {"file": "test.csv", "id": "name", "image": "test/{id}.png"}
    data = table_data(PICTURES, test=test, groups={"column": "site"})
    rows = train(data, tmp_path)
    assert (rows.ids, rows.labels, rows.groups) == (["sub/c", "b", "a"], [1, 2, 0], ["x", "y", "x"])
    assert [image[0, 0, 0] for image in rows.images] == [2, 1, 0]
    assert rows.images[0].shape == (1, 2, 3)
    tests = Rows(read_test, data, reading(tmp_path))
    assert (tests.ids, tests.targets, tests.groups, tests.images[0].max()) == (["t"], [], [], 9)
    names = ["test.csv", "test/t.png", "train.csv", "train/a.png", "train/b.png", "train/sub/c.png"]
    assert files(data, tmp_path) == [tmp_path / name for name in names]


def test_many_pictures_stay_in_order_and_are_told(tmp_path: Path) -> None:
    names = [f"{i:03}" for i in np.random.default_rng(0).permutation(150)]
    for name in names:
        picture(tmp_path / f"train/{name}.png", (1, 1 + int(name) % 3), value=int(name))
    write(tmp_path, "id,label\n" + "".join(f"{name},{int(name) % 3}\n" for name in names))
    rows = train(table_data(PICTURES), tmp_path)
    assert rows.ids == names
    assert [int(image[0, 0, 0]) for image in rows.images] == [int(name) for name in names]
    assert rows.labels == [int(name) % 3 for name in names]


def test_rows_that_have_no_usable_picture(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "e.png")
    (tmp_path / "train/b.png").write_bytes(b"no picture")
    write(tmp_path, "id,label\na,0\nb,0\nmissing,1\n../a,0\n/etc/a,0\na,1\nd,bird\n,0\n,\na\ne,1\n")
    rows = train(table_data(PICTURES | {"image": "train/{id}.png"}), tmp_path, skip=True)
    assert rows.ids == ["a", "e"]
    said = rows.skipped
    path = f"{tmp_path}/train.csv"
    assert f"{path}, line 4, id 'missing': there is no image {tmp_path}/train/missing.png" in said[0]
    assert f"{path}, line 5, id '../a': the id leads out" in said[1]
    assert "line 6, id '/etc/a': there is no image" in said[2]
    assert "line 7, id 'a': the id stands on line 2 already" in said[3]
    assert "line 8, id 'd': column 'label' is 'bird', which is no class" in said[4]
    assert "line 9: column 'id' is empty" in said[5] and "line 10: column 'id' is empty" in said[6]
    assert "line 11: too few values, 1 for 2 columns" in said[7]
    assert "train/b.png" in said[8] and len(said) == 9
    absolute = table_data(PICTURES | {"image": "{id}"})
    assert "leads out of the data folder" in complaint(absolute, write(tmp_path, "id,label\n/etc/passwd,0\n"))
    assert files(absolute, tmp_path) == [tmp_path / "train.csv"]


@pytest.mark.parametrize(
    ("there", "name", "template", "better"),
    [
        ("train/a.png", "a.png", "train/{id}.png", "use train/{id}"),
        ("train/a.png", "a", "train/{id}", "there is 'a.png', use train/{id}.png"),
        ("train/a.jpg", "a", "train/{id}.png", "there is 'a.jpg', use train/{id}.jpg"),
        ("train/a.b.jpg", "a.b", "train/{id}.png", "there is 'a.b.jpg', use train/{id}.jpg"),
        ("train/image_1.png", "image_1", "train/image_{id}.png", "use train/{id}.png"),
        ("train/image_1.png", "image_1.png", "train/image_{id}.png", "use train/{id}"),
        ("train/a.png", "a.b", "train/{id}", "add it or remove the row"),
        ("train/b.png", "a", "train/{id}.png", "add it or remove the row"),
        ("other/a.png", "a", "train/{id}.png", "add it or remove the row"),
    ],
)
def test_the_template_must_fit_but_a_better_one_is_named(
    tmp_path: Path, there: str, name: str, template: str, better: str
) -> None:
    picture(tmp_path / there)
    text = complaint(table_data(PICTURES | {"image": template}), write(tmp_path, f"id,label\n{name},0\n"))
    assert f"line 2, id '{name}': there is no image" in text
    way_out = text.removesuffix("; or leave such rows out with --skip-bad").removesuffix(" if that is meant")
    assert way_out.endswith(better)


def test_groups_stay_with_their_ids_where_pictures_are_left_out(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "train/a.png").write_bytes(b"no picture")
    write(tmp_path, "id,label,site\na,0,x\nb,1,y\nc,2,z\n")
    rows = train(table_data(PICTURES, groups={"column": "site"}), tmp_path, skip=True)
    assert (rows.ids, rows.labels, rows.groups) == (["b", "c"], [1, 2], ["y", "z"])


def test_stars_in_a_template(tmp_path: Path) -> None:
    pictures(tmp_path, "x/a.png", "y/b.png", "x/c.png", "y/c.png")
    write(tmp_path, "id,label\nb,1\na,0\nc,0\nd,0\n")
    rows = train(table_data(PICTURES | {"image": "train/*/{id}.png"}), tmp_path, skip=True)
    assert rows.ids == ["b", "a"] and [int(image.max()) for image in rows.images] == [1, 0]
    assert f"id 'c': has 2 images, {tmp_path}/train/x/c.png and {tmp_path}/train/y/c.png" in rows.skipped[0]
    assert f"id 'd': no image matches {tmp_path}/train/*/d.png" in rows.skipped[1]


def test_a_picture_of_another_size_than_the_shape(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    write(tmp_path, "id,label\na,0\n")
    assert train(table_data(PICTURES, shape=[2, 3]), tmp_path).ids == ["a"]
    assert "train/a.png" in complaint(table_data(PICTURES, shape=[3, 2]), tmp_path)


# ---------------------------------------------------------------- run-length masks


def masks(folder: Path, text: str, role: dict[str, Any] = MASKS, **context: Any) -> dict[str, list[list[int]]]:
    rows = train(table_data(role), write(folder, text), masks=True, **context)
    assert all(target.dtype == np.uint8 and target.shape[0] == 1 for target in rows.targets)
    return {name: target[0].tolist() for name, target in zip(rows.ids, rows.targets, strict=True)}


def test_runs_go_down_the_columns_and_rows_of_one_id_are_joined(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png")
    picture(tmp_path / "train/d.png", (3, 2))
    found = masks(tmp_path, "id,rle\na,1 1\nb,2 3\nc,\na,4 2\nd,2 3\na,4 1\n")
    assert list(found) == ["a", "b", "c", "d"]
    assert found["a"] == [[1, 0, 1], [0, 1, 0]]  # pixels 1, 4 and 5, counted down the columns of a 2 x 3 picture
    assert found["b"] == [[0, 1, 0], [1, 1, 0]]
    assert found["c"] == [[0, 0, 0], [0, 0, 0]]
    assert found["d"] == [[0, 1], [1, 0], [1, 0]]  # the same runs as b's in a picture of its own size


def test_masks_of_several_classes(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png")
    role = MASKS | {"mask_class": "what"}
    found = masks(tmp_path, "id,rle,what\na,1 2,dog\na,3 1,2\na,2 1,1\nb,,dog\nb,,\nc,1 1,cat\nc,6 1,fish\n", role)
    assert found["a"] == [[1, 2, 0], [1, 0, 0]]
    assert found["b"] == [[0, 0, 0], [0, 0, 0]]
    assert found["c"] == [[0, 0, 0], [0, 0, 2]]


def test_masks_that_overlap_or_are_no_masks(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png", "d.png", "e.png", "f.png")
    role = MASKS | {"mask_class": "what"}
    text = "id,rle,what\na,1 4,dog\nb,1 2,dog\na,4 1,fish\nc,1 2 3,dog\nd,6 2,dog\ne,1 1,dog\n"
    text += "e,2 1,bird\nb,1 1,cat\nf,1 1,cat\nf,1 1,dog\n"
    with pytest.raises(UserError, match="--skip-bad"):
        masks(tmp_path, text, role)
    context = reading(tmp_path, skip=True, masks=True)
    with pytest.raises(UserError, match="no image of data.train.image can be used"):
        Rows(read_train, table_data(role), context)
    path, said = f"{tmp_path}/train.csv", context.bad.skipped
    assert f"{path}, line 8, id 'e': column 'what' is 'bird', which is no class" in said[0]  # found before decoding
    assert f"{path}, line 4, id 'a': the mask of class 'fish' overlaps one of 'dog', first in pixel (1, 1)" in said[1]
    assert f"{path}, line 9, id 'b': the mask of class 'cat' overlaps one of 'dog', first in pixel (0, 0)" in said[2]
    assert f"{path}, line 5, id 'c': column 'rle' " in said[3] and "pairs" in said[3]
    assert f"{path}, line 6, id 'd': column 'rle' " in said[4]
    assert f"{path}, line 11, id 'f': the mask of class 'dog' overlaps one of 'cat'" in said[5]
    assert len(said) == 6


def test_groups_of_rows_of_one_id_agree(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    write(tmp_path, "id,rle,site\na,1 1,x\nb,1 1,y\na,2 1,x\n")
    data = table_data(MASKS, groups={"column": "site"})
    assert train(data, tmp_path, masks=True).groups == ["x", "y"]
    write(tmp_path, "id,rle,site\na,1 1,x\nb,1 1,y\na,2 1,y\n")
    said = "line 4, id 'a': column 'site' is 'y' here and 'x' on line 2"
    assert said in complaint(data, tmp_path, masks=True)
    write(tmp_path, "id,rle,site\na,1 1,\n")
    assert "line 2, id 'a': column 'site' is empty" in complaint(data, tmp_path, masks=True)


def test_a_very_long_mask_is_one_cell(tmp_path: Path) -> None:
    picture(tmp_path / "train/a.png", (400, 400))
    runs = " ".join(f"{start} 1" for start in range(1, 160_001, 2))
    assert len(runs) > 131_072 * 3  # the csv module's own limit
    found = masks(tmp_path, f"id,rle\na,{runs}\n")
    assert np.array_equal(found["a"], np.tile([[1], [0]], (200, 400)))


def test_an_image_that_lost_one_of_its_masks_is_left_out_whole(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    write(tmp_path, "id,rle,what\na,1 2,dog\na,4 1\nb,1 1,cat\n")
    context = reading(tmp_path, skip=True, masks=True)
    rows = Rows(read_train, table_data(MASKS | {"mask_class": "what"}), context)
    assert rows.ids == ["b"]
    assert "line 3: too few values" in context.bad.skipped[0]
    assert "line 2, id 'a': another row of this id cannot be read" in context.bad.skipped[1]
