"""The wide_csv writer: known bytes, round trips through pandas, the same bytes as pandas."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from podium.config import Competition
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.submission import wide_csv


def wide(name: str = "id") -> Competition:
    """A competition with a column of ids called ``name``."""
    return Competition.model_validate(
        {
            "name": "wide",
            "task": "segmentation",
            "data": {"format": "npz", "file": "-", "train": {"key": "-", "target": 1}, "test": {"key": "-"}},
            "classes": [f"class{i}" for i in range(255)],
            "metric": {"name": "mean_iou"},
            "submission": {"format": "wide_csv", "id": name},
            "models": ["none"],
        }
    )


CSV = wide()
IDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8) | st.sampled_from(
    ["a,b", 'say "x"', '"', ",", "007", " padded ", "3.0", "nan"]
)


@st.composite
def ragged(draw: st.DrawFn, largest: int = 254) -> Ragged:
    """1 to 40 images of one odd size with labels up to ``largest``."""
    shape = draw(st.tuples(st.integers(1, 40), st.just(1), st.integers(1, 7), st.integers(1, 9)))
    ids = draw(st.lists(IDS, min_size=shape[0], max_size=shape[0], unique=True))
    top = draw(st.sampled_from([1, 4, 9, 10, 99, 100, largest]))
    return Ragged.stack(draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, top))), ids)


def test_known_bytes(tmp_path: Path) -> None:
    labels = Ragged.stack(np.array([[[[1, 2, 3], [4, 0, 1]]], [[[9, 9, 9], [0, 0, 0]]]], np.uint8), ["0", "1"])
    wide_csv.write(tmp_path / "file.part", labels, CSV)
    assert (tmp_path / "file.part").read_bytes() == b"id,0,1,2,3,4,5\n0,1,2,3,4,0,1\n1,9,9,9,0,0,0\n"
    assert [path.name for path in tmp_path.iterdir()] == ["file.part"]


def test_known_bytes_of_labels_with_more_digits_and_ids_that_need_quotes(tmp_path: Path) -> None:
    labels = Ragged.stack(np.array([[[[1, 10, 254]]], [[[9, 99, 100]]]], np.uint8), ["a,b", 'c"d'])
    wide_csv.write(tmp_path / "x.csv", labels, wide("image id, new"))
    assert (tmp_path / "x.csv").read_bytes() == b'"image id, new",0,1,2\n"a,b",1,10,254\n"c""d",9,99,100\n'


@given(labels=ragged())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_pandas_reads_back_what_was_written(labels: Ragged, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("wide") / "x.csv"
    wide_csv.write(path, labels, CSV)
    frame = pd.read_csv(path, dtype={"id": str}, keep_default_na=False)
    assert frame["id"].tolist() == labels.ids.tolist()
    values = frame.drop(columns="id")
    assert values.columns.tolist() == [str(i) for i in range(labels.shapes[0].prod())]
    assert (values.to_numpy() == labels.stacked.reshape(len(labels), -1)).all()
    buffer = io.BytesIO()
    frame.to_csv(buffer, index=False, lineterminator="\n")
    assert buffer.getvalue() == path.read_bytes()


@pytest.mark.parametrize("largest", [9, 200])
@pytest.mark.parametrize("piece", [1, 5, 12, 30])
def test_pieces_of_any_length_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, largest: int
) -> None:
    values = np.random.default_rng(piece).integers(0, largest + 1, (7, 1, 3, 4), np.uint8)
    labels = Ragged.stack(values, [f"i{k}" for k in range(7)])
    wide_csv.write(tmp_path / "whole.csv", labels, CSV)
    monkeypatch.setattr(wide_csv, "PIECE", piece)
    wide_csv.write(tmp_path / "pieces.csv", labels, CSV)
    assert (tmp_path / "pieces.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("largest", [4, 254])
def test_memory_above_the_array_is_bounded(tmp_path: Path, largest: int) -> None:
    values = np.full((3000, 1, 64, 128), 1, np.uint8)
    values[::500] = largest
    labels = Ragged.stack(values, np.arange(3000))
    tracemalloc.start()
    wide_csv.write(tmp_path / "x.csv", labels, CSV)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_labels_that_lie_in_a_file_are_written_from_there(tmp_path: Path) -> None:
    Ragged.stack(np.arange(24, dtype=np.uint8).reshape(2, 1, 3, 4), ["5", "6"]).save(tmp_path / "l.npy")
    wide_csv.write(tmp_path / "x.csv", Ragged.open(tmp_path / "l.npy"), CSV)
    assert (tmp_path / "x.csv").read_text().splitlines()[2] == "6," + ",".join(map(str, range(12, 24)))


def test_what_cannot_be_a_wide_csv_is_refused(tmp_path: Path) -> None:
    one, two = np.ones((1, 2, 2), np.uint8), np.ones((1, 2, 3), np.uint8)
    sizes = Ragged(np.concatenate([one.ravel(), two.ravel()]), np.array([one.shape, two.shape]), np.array(["0", "1"]))
    with pytest.raises(UserError, match="images of one size, these 2 have 2 sizes"):
        wide_csv.write(tmp_path / "x.csv", sizes, CSV)
    with pytest.raises(UserError, match="line break"):
        wide_csv.write(tmp_path / "x.csv", Ragged.stack(one[None], ["a\nb"]), CSV)
    with pytest.raises(UserError, match="test set is empty"):
        wide_csv.write(tmp_path / "x.csv", Ragged.stack(np.ones((0, 1, 2, 2), np.uint8), []), CSV)
    with pytest.raises(ValueError, match="float32"):
        wide_csv.write(tmp_path / "x.csv", Ragged.stack(one[None].astype(np.float32), ["0"]), CSV)
    assert list(tmp_path.iterdir()) == []
