"""Every submission format with every packing: what readers that share nothing with podium find is what was packed."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from podium.config import Competition
from podium.config_submission_formats import RleCsv
from podium.data.ragged import Ragged
from podium.submission.pack import WRITERS
from podium.submission.reading import read
from podium.submission.validate import check_file
from submitting import competition, packed

CLASSES = ["no thing", "a,b", 'say "x"']
ODD_IDS = ["a,b", 'say "x"', '"', ",", "007", " padded ", "3.0", "nan", "{class}", "ü–x"]
SAFE = st.text(st.characters(codec="utf-8", categories=("L", "N"), include_characters=" _-"), min_size=1, max_size=8)
PACKINGS: list[tuple[str, dict[str, Any]]] = [
    ("segmentation", {"format": "wide_csv"}),
    ("segmentation", {"format": "rle_csv", "class": "a,b"}),
    ("segmentation", {"format": "rle_csv", "per": "class"}),
    ("segmentation", {"format": "rle_csv", "per": "object", "name": "{id}|{class}"}),
    ("segmentation", {"format": "rle_csv", "per": "object", "class": "a,b", "empty": "skip"}),
    ("segmentation", {"format": "png_zip", "values": {"no thing": 0, "a,b": 7, 'say "x"': 255}}),
    ("classification", {"format": "label_csv", "names": True}),
    ("multilabel", {"format": "label_csv"}),
    ("regression", {"format": "label_csv"}),
    ("classification", {"format": "probability_csv"}),
    ("multilabel", {"format": "probability_csv", "columns": "q {index}"}),
    *((task, {"format": "npy"}) for task in ("segmentation", "classification", "multilabel", "regression")),
    *(
        (task, {"format": name, "of": "probabilities", "dtype": "float16" if name == "npz" else None})
        for task in ("segmentation", "classification", "multilabel")
        for name in ("npy", "npz")
    ),
    ("segmentation", {"format": "npz", "key": "{id}", "ids_key": "ids", "dtype": "int64"}),
    ("segmentation", {"format": "npz", "key": "m/{id}", "of": "probabilities", "compress": False}),
    ("regression", {"format": "npz", "ids_key": "names"}),
]


def truth(rng: np.random.Generator, task: str, of: str, size: tuple[int, int]) -> np.ndarray:
    """The predictions (C, H, W) of an image, sometimes empty masks."""
    if of == "probabilities":
        values = rng.random({"segmentation": (3, *size), "multilabel": (2, 3, 1)}.get(task, (3, 1, 1))) + 1e-3
        return (values / values.sum(0)).astype(np.float32)
    if task == "regression":
        return (rng.standard_normal((1, 1, 1)) * 10.0 ** rng.integers(-20, 20)).astype(np.float32)
    if task == "segmentation":
        return (rng.integers(1, 3, (1, *size)) * (rng.random((1, *size)) < rng.choice([0.0, 0.2, 1.0]))).astype(
            np.uint8
        )
    return rng.integers(0, 2 if task == "multilabel" else 3, (1, 3 if task == "multilabel" else 1, 1)).astype(np.uint8)


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, Competition, Ragged]:
    task, options = draw(st.sampled_from(PACKINGS))
    chosen = {key: value for key, value in options.items() if value is not None}
    if chosen["format"].endswith("_csv"):
        chosen["compress"] = draw(st.sampled_from([None, "gzip", "zip"]))
    paths = chosen["format"] == "png_zip" or "{id}" in chosen.get("key", "")
    name = SAFE if paths else SAFE | st.sampled_from(ODD_IDS)
    # an id that ends with a blank is an odd name for a file, and none of these stands for the array of the ids
    ids = draw(st.lists(name.filter(lambda text: text not in ("ids", "names")), min_size=1, max_size=6, unique=True))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    one_size = chosen["format"] in ("wide_csv", "npy") or (chosen["format"] == "npz" and "key" not in chosen)
    size = draw(st.tuples(st.integers(1, 7), st.integers(1, 9)))
    sizes = [size if one_size else (int(rng.integers(1, 8)), int(rng.integers(1, 8))) for _ in ids]
    arrays = [
        truth(rng, task, chosen.get("of", "probabilities" if "prob" in chosen["format"] else "labels"), size)
        for size in sizes
    ]
    values, shapes = np.concatenate([array.ravel() for array in arrays]), np.array([array.shape for array in arrays])
    given = competition(task, [] if task == "regression" else CLASSES, chosen)
    return task, given, Ragged(values, shapes, np.array(ids))


@given(case=cases())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_readers_of_others_find_what_was_packed(
    case: tuple[str, Competition, Ragged], tmp_path_factory: pytest.TempPathFactory
) -> None:
    task, wanted, truths = case
    folder = tmp_path_factory.mktemp("trip")
    done = packed(folder, wanted, truths)
    assert done.report.errors == ()
    assert check_file(done.path, wanted, truths.ids, truths.shapes).errors == ()
    settings = json.loads(wanted.submission.model_dump_json()) if wanted.submission else {}
    READERS[settings["format"]](done.path, task, settings, truths)
    told = read(done.path, wanted, truths.ids, truths.shapes)
    assert told.ids.tolist() == truths.ids.tolist() and (told.shapes == truths.shapes).all()
    if isinstance(wanted.submission, RleCsv):  # a file of one class tells no others apart
        kept = [CLASSES.index(name) for name in wanted.submission.wanted(CLASSES, None)]
        assert all(((told.values == k) == (truths.values == k)).all() for k in kept)
    else:
        # of questions the probability of no is what is left of one
        exact = settings.get("dtype") != "float16" and task != "multilabel"
        assert np.allclose(told.values, truths.values, rtol=0, atol=0 if exact else 1e-3)
    again = folder / "again"
    WRITERS[settings["format"]](again, truths, wanted)
    assert again.read_bytes() == done.path.read_bytes()


# ---------------------------------------------------------------- readers


def table(path: Path, settings: dict[str, Any]) -> pd.DataFrame:
    if settings["compress"] == "gzip":
        content = gzip.decompress(path.read_bytes())
    elif settings["compress"] == "zip":
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist() == ["submission.csv"] and archive.testzip() is None
            content = archive.read("submission.csv")
    else:
        content = path.read_bytes()
    return pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)


def naive(text: str, height: int, width: int) -> np.ndarray:
    """The mask of a text, pixel by pixel."""
    mask = np.zeros((height, width), bool)
    numbers = [int(word) for word in text.split()]
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        for pixel in range(start - 1, start - 1 + length):
            assert not mask[pixel % height, pixel // height]
            mask[pixel % height, pixel // height] = True
    return mask


def flood(mask: np.ndarray) -> set[frozenset[tuple[int, int]]]:
    """The pixels of each connected piece, found by walking from neighbour to neighbour."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    pieces = set()
    while left:
        edge = [left.pop()]
        piece = set(edge)
        while edge:
            y, x = edge.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            piece |= near
            edge += near
        pieces.add(frozenset(piece))
    return pieces


def read_wide(path: Path, task: str, settings: dict[str, Any], truths: Ragged) -> None:
    frame = table(path, settings)
    assert frame["id"].tolist() == truths.ids.tolist()
    assert (frame.iloc[:, 1:].to_numpy().astype(int) == truths.values.reshape(len(truths), -1)).all()


def read_labels(path: Path, task: str, settings: dict[str, Any], truths: Ragged) -> None:
    frame = table(path, settings)
    assert frame["id"].tolist() == truths.ids.tolist()
    if task == "multilabel":
        assert (frame[CLASSES].to_numpy().astype(int) == truths.values.reshape(-1, 3)).all()
    elif task == "regression":
        assert frame["label"].to_numpy().astype(np.float32).tobytes() == truths.values.tobytes()
    else:
        assert frame["label"].tolist() == [CLASSES[value] for value in truths.values.tolist()]


def read_probabilities(path: Path, task: str, settings: dict[str, Any], truths: Ragged) -> None:
    frame = table(path, settings)
    assert frame["id"].tolist() == truths.ids.tolist()
    assert frame.columns.tolist()[1:] == (["q 0", "q 1", "q 2"] if task == "multilabel" else CLASSES)
    texts = frame.iloc[:, 1:].to_numpy()
    meant = truths.stacked[:, 1, :, 0] if task == "multilabel" else truths.stacked[:, :, 0, 0]
    for found in (texts.astype(np.float32), texts.astype(np.float64).astype(np.float32)):
        assert found.tobytes() == np.ascontiguousarray(meant).tobytes()
    if task == "classification":
        assert np.allclose(texts.astype(float).sum(1), 1, atol=1e-6)


def read_runs(path: Path, task: str, settings: dict[str, Any], truths: Ragged) -> None:
    frame = table(path, settings)
    rows = list(frame[["id", "rle"]].itertuples(index=False, name=None))
    marks = {"{id}|{class}": "|", None: "_" if settings["per"] == "class" else ""}  # before the class, in the name
    expected: list[str] = []
    for name, (labels,) in zip(truths.ids.tolist(), truths, strict=True):
        for index in [1] if settings["class"] else [1, 2]:
            mark = marks[settings["name"]]
            row_id = f"{name}{mark}{CLASSES[index]}" if mark else name
            mask = labels == index
            if settings["per"] != "object":
                expected.append(row_id)
                assert (naive(rows[len(expected) - 1][1], *mask.shape) == mask).all()
                continue
            pieces = flood(mask)
            first = len(expected)
            expected += [row_id] * (len(pieces) or settings["empty"] != "skip")
            found = [naive(text, *mask.shape) for _, text in rows[first : len(expected)]]
            assert {frozenset((int(y), int(x)) for y, x in np.argwhere(one)) for one in found if one.any()} == pieces
    assert [row_id for row_id, _ in rows] == expected


def read_pictures(path: Path, task: str, settings: dict[str, Any], truths: Ragged) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"{name}.png" for name in truths.ids.tolist()]
        for name, (labels,) in zip(archive.namelist(), truths, strict=True):
            grey = np.asarray(Image.open(io.BytesIO(archive.read(name))))
            assert (grey == np.array([0, 7, 255], np.uint8)[labels]).all()


def held(item: np.ndarray, task: str, settings: dict[str, Any]) -> np.ndarray:
    """What an array holds of a prediction (C, H, W)."""
    if task == "segmentation":
        return item if settings["of"] == "probabilities" else item[0]
    if task == "multilabel":
        return item[-1, :, 0]
    return item[:, 0, 0] if settings["of"] == "probabilities" else item[0, 0, 0]


def dtype_of(task: str, settings: dict[str, Any]) -> str:
    real = task == "regression" or settings["of"] == "probabilities"
    return str(settings["dtype"] or ("float32" if real else "uint8"))


def read_npy(path: Path, task: str, settings: dict[str, Any], truths: Ragged) -> None:
    array = np.load(path, allow_pickle=False)
    expected = np.stack([held(item, task, settings) for item in truths])
    assert array.dtype == dtype_of(task, settings) and array.flags.c_contiguous
    assert array.shape == expected.shape and (array == expected.astype(array.dtype)).all()


def read_npz(path: Path, task: str, settings: dict[str, Any], truths: Ragged) -> None:
    with zipfile.ZipFile(path) as archive:
        kind = zipfile.ZIP_DEFLATED if settings["compress"] else zipfile.ZIP_STORED
        assert {info.compress_type for info in archive.infolist()} == {kind}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    with np.load(path, allow_pickle=False) as file:
        keys = list(file)
        if settings["ids_key"]:
            assert keys.pop() == settings["ids_key"]
            assert file[settings["ids_key"]].tolist() == truths.ids.tolist()
        items = [held(item, task, settings) for item in truths]
        if "{id}" in settings["key"]:
            assert keys == [settings["key"].replace("{id}", name) for name in truths.ids.tolist()]
            arrays = [file[key] for key in keys]
        else:
            assert keys == ["predictions"]
            arrays, items = [file["predictions"]], [np.stack(items)]
        for array, item in zip(arrays, items, strict=True):
            assert array.dtype == dtype_of(task, settings)
            assert array.shape == item.shape and (array == item.astype(array.dtype)).all()


READERS = {
    "wide_csv": read_wide,
    "label_csv": read_labels,
    "probability_csv": read_probabilities,
    "rle_csv": read_runs,
    "png_zip": read_pictures,
    "npy": read_npy,
    "npz": read_npz,
}
