"""Reading npz files: values arrive unchanged whatever the dtype, and bad files get one sentence."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.config import Competition
from podium.data.fit import plan_fit
from podium.data.part import Part
from podium.data.reading import source_id
from podium.errors import UserError
from project import read


def competition(first_id: int = 0, **data: Any) -> Competition:
    """Three classes, pictures of 4 x 6; ``data`` replaces keys of the data section."""
    section = {
        "format": "npz",
        "file": "toy.npz",
        "train": {"key": "training_set", "image": 0, "target": 1},
        "test": {"key": "test_set"},
        "shape": [4, 6],
    }
    return Competition.model_validate(
        {
            "name": "toy",
            "task": "segmentation",
            "data": section | data,
            "classes": ["background", "soil", "rock"],
            "unscored": "background",
            "metric": {"name": "mean_iou"},
            "submission": {"format": "wide_csv", "first_id": first_id},
            "models": ["net"],
        }
    )


def arrays(rows: int = 5, test_rows: int = 3, dtype: Any = np.float64) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (rows, 1, 4, 6))
    masks = rng.integers(0, 3, (rows, 1, 4, 6))
    return {
        "training_set": np.concatenate([images, masks], axis=1).astype(dtype),
        "test_set": rng.integers(0, 256, (test_rows, 4, 6)).astype(np.uint8),
    }


def written(folder: Path, **changed: np.ndarray) -> Path:
    held = arrays() | changed
    np.savez_compressed(folder / "toy.npz", allow_pickle=True, **held)
    return folder


def complaint(folder: Path, config: Competition | None = None) -> str:
    with pytest.raises(UserError) as caught:
        read(config or competition(), folder)
    text = str(caught.value)
    assert "toy.npz" in text and "\n" not in text
    return text


def parts(folder: Path, config: Competition | None = None) -> tuple[Part, Part]:
    """The training part and the test part."""
    train, test = read(config or competition(), folder).parts
    assert train.targets is not None and test.targets is None
    return train, test


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", "<f2", "u1", "<i4", ">u2", "<i8"])
def test_any_number_dtype_arrives_unchanged(tmp_path: Path, dtype: str) -> None:
    if dtype == "<f2":
        assert np.float16(255) == 255  # half precision holds every grey value
    given_arrays = arrays(dtype=np.dtype(dtype))
    train, test = parts(written(tmp_path, **given_arrays), competition(first_id=7))
    assert train.targets is not None
    assert train.images.values.dtype == train.targets.values.dtype == test.images.values.dtype == np.uint8
    np.testing.assert_array_equal(train.images.stacked[:, 0], given_arrays["training_set"][:, 0])
    np.testing.assert_array_equal(train.targets.stacked[:, 0], given_arrays["training_set"][:, 1])
    np.testing.assert_array_equal(test.images.stacked[:, 0], given_arrays["test_set"])
    assert train.images.ids.tolist() == ["0", "1", "2", "3", "4"]
    assert test.images.ids.tolist() == ["7", "8", "9"]


def test_many_chunks_and_fortran_order_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_arrays = arrays(rows=11)
    monkeypatch.setattr("podium.data.npz.CHUNK_BYTES", 900)  # two rows of float64 at a time, the last chunk has one
    orders: list[tuple[str, Literal["C", "F"]]] = [("c", "C"), ("f", "F")]
    for name, order in orders:
        (tmp_path / name).mkdir()
        ordered = {key: value.copy(order) for key, value in given_arrays.items()}
        train, test = parts(written(tmp_path / name, **ordered))
        np.testing.assert_array_equal(train.images.stacked[:, 0], given_arrays["training_set"][:, 0])
        np.testing.assert_array_equal(test.images.stacked[:, 0], given_arrays["test_set"])


def test_colour_images_last_or_first_become_channels_first(tmp_path: Path) -> None:
    # the training images are grey, so colour test images must be refused: this also shows that they were understood
    colour = np.zeros((3, 4, 6, 3), np.uint8)
    for test_set in (colour, colour.transpose(0, 3, 1, 2)):
        text = complaint(written(tmp_path, test_set=test_set))
        assert "different numbers of channels, [1] in train and [3] in test" in text
    grey = arrays()["test_set"]
    for test_set in (grey[..., None], grey[:, None]):
        _, test = parts(written(tmp_path, test_set=test_set))
        np.testing.assert_array_equal(test.images.stacked[:, 0], grey)
    stacked = np.stack([np.zeros_like(grey), grey], axis=1)
    config = competition(test={"key": "test_set", "image": 1})
    _, test = parts(written(tmp_path, test_set=stacked), config)
    np.testing.assert_array_equal(test.images.stacked[:, 0], grey)


@settings(max_examples=60, deadline=None)
@given(
    row=st.integers(0, 4),
    plane=st.integers(0, 1),
    y=st.integers(0, 3),
    x=st.integers(0, 5),
    value=st.one_of(
        st.floats(allow_nan=True, allow_infinity=True, width=32).filter(lambda v: not (0 <= v <= 255 and v == int(v))),
        st.sampled_from([256.0, 257.0, -1.0, 65536.0, 2.0**40]),  # these wrap to valid values in a plain cast
    ),
)
def test_one_bad_value_is_found_wherever_it_is(
    tmp_path_factory: pytest.TempPathFactory, row: int, plane: int, y: int, x: int, value: float
) -> None:
    training_set = arrays()["training_set"]
    training_set[row, plane, y, x] = value
    text = complaint(written(tmp_path_factory.mktemp("bad"), training_set=training_set))
    assert f"key 'training_set', row {row}, {('image', 'mask')[plane]}, pixel ({y}, {x}): value" in text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.nan, "value nan is not a number"),
        (-np.inf, "value -inf is not a number"),
        (300.0, "value 300 lies outside 0 to 255"),
        (-3.0, "value -3 lies outside 0 to 255"),
        (12.5, "value 12.5 is not a whole number"),
    ],
)
def test_image_values_are_named_with_the_way_out(tmp_path: Path, value: float, said: str) -> None:
    training_set = arrays()["training_set"]
    training_set[2, 0, 1, 3] = value
    assert said in complaint(written(tmp_path, training_set=training_set))
    test_set = arrays()["test_set"].astype(np.float32)
    test_set[2, 1, 3] = value
    assert f"key 'test_set', row 2, image, pixel (1, 3): {said}" in complaint(written(tmp_path, test_set=test_set))


def test_images_scaled_to_one_name_the_remedy(tmp_path: Path) -> None:
    training_set = arrays()["training_set"]
    training_set[:, 0] /= 255
    assert "scaled to 0 to 1; multiply them by 255" in complaint(written(tmp_path, training_set=training_set))


def test_masks_with_labels_up_to_seven(tmp_path: Path) -> None:
    training_set = arrays()["training_set"]
    training_set[3, 1, 2, 1] = 7
    training_set[4, 1] = 5
    text = complaint(written(tmp_path, training_set=training_set))
    assert "row 3, mask, pixel (2, 1): value 7 is not a class, allowed are 0 to 2 (background, soil, rock)" in text
    training_set[3, 1, 2, 1] = 1.5
    assert "row 3, mask, pixel (2, 1): value 1.5" in complaint(written(tmp_path, training_set=training_set))
    integers = arrays(dtype=np.uint8)["training_set"]
    integers[1, 1, 0, 0] = 3
    assert "row 1, mask, pixel (0, 0): value 3" in complaint(written(tmp_path, training_set=integers))


@pytest.mark.parametrize(
    ("key", "shape", "said"),
    [
        ("training_set", (5, 2, 4, 6, 3), "has shape (5, 2, 4, 6, 3)"),
        ("training_set", (5, 4, 6), "has shape (5, 4, 6)"),
        ("training_set", (5, 4, 6, 3), "6 x 3"),
        ("training_set", (5, 4, 4, 6), "holds 4 arrays along axis 1"),
        ("training_set", (5, 1, 4, 6), "target index 1 is out of range"),
        ("training_set", (5, 2, 6, 4), "images are 6 x 4"),
        ("training_set", (0, 2, 4, 6), "it holds no values"),
        ("training_set", (), "has shape ()"),
        ("test_set", (3, 6, 4), "images are 6 x 4"),
        ("test_set", (3, 24), "has shape (3, 24)"),
        ("test_set", (3, 2, 4, 6), "has shape (3, 2, 4, 6)"),
        ("test_set", (0, 4, 6), "it holds no values"),
    ],
)
def test_wrong_shapes(tmp_path: Path, key: str, shape: tuple[int, ...], said: str) -> None:
    text = complaint(written(tmp_path, **{key: np.zeros(shape)}))
    assert said in text and f"key '{key}'" in text


def test_sizes_of_train_and_test_must_agree_without_a_shape(tmp_path: Path) -> None:
    folder = written(tmp_path, test_set=np.zeros((3, 4, 8), np.uint8))
    dataset = read(competition(shape=None), folder)  # an audit may look at them; a net needs to be told how
    with pytest.raises(UserError, match=r"images have 2 sizes \(4 x 6, 4 x 8, ...\), a net needs one; add"):
        plan_fit(dataset.parts, None)


# ---------------------------------------------------------------- other layouts and depths


def test_a_slice_of_the_stack_is_an_image_of_several_channels(tmp_path: Path) -> None:
    """The mask first, then red, green and blue."""
    rng = np.random.default_rng(0)
    stack = np.concatenate([rng.integers(0, 3, (5, 1, 4, 6)), rng.integers(0, 256, (5, 3, 4, 6))], axis=1)
    roles = {"key": "training_set", "image": {"slice": [1, 4]}, "target": 0}
    tests = {"key": "test_set", "image": {"slice": [0, 3]}}
    folder = written(tmp_path, training_set=stack.astype(np.float32), test_set=stack[:3, 1:])
    train, test = parts(folder, competition(train=roles, test=tests))
    assert train.targets is not None
    np.testing.assert_array_equal(train.images.stacked, stack[:, 1:])
    np.testing.assert_array_equal(train.targets.stacked, stack[:, :1])
    np.testing.assert_array_equal(test.images.stacked, stack[:3, 1:])
    longer = roles | {"image": {"slice": [1, 5]}}
    assert "image index 4 is out of range, axis 1 holds 4" in complaint(folder, competition(train=longer, test=tests))
    bad = stack.copy()
    bad[3, 2, 1, 5] = 999
    text = complaint(written(tmp_path, training_set=bad, test_set=stack[:3, 1:]), competition(train=roles, test=tests))
    assert "row 3, image, channel 1, pixel (1, 5): value 999" in text


@pytest.mark.parametrize("shape", [(5, 4, 6), (5, 1, 4, 6), (5, 4, 6, 1)])
def test_masks_under_a_key_of_their_own(tmp_path: Path, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    images, masks = rng.integers(0, 256, (5, 4, 6, 3)), rng.choice([0, 1, 2, 255], (5, 4, 6))
    config = competition(train={"image": {"key": "x"}, "target": {"key": "y"}}, test=None)
    np.savez(tmp_path / "toy.npz", allow_pickle=False, x=images, y=masks.reshape(shape).astype(np.int16))
    dataset = read(config, tmp_path)
    assert dataset.test is None and dataset.train.targets is not None
    np.testing.assert_array_equal(dataset.train.images.stacked, images.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(dataset.train.targets.stacked[:, 0], masks)
    np.savez(tmp_path / "toy.npz", allow_pickle=False, x=images, y=masks[:, :3])
    assert "has shape (5, 3, 6) where masks of 4 x 6 are expected" in complaint(tmp_path, config)
    np.savez(tmp_path / "toy.npz", allow_pickle=False, x=images, y=masks[:4])
    assert "holds 4 rows, key 'x' 5; every image needs its target" in complaint(tmp_path, config)


def test_no_label_is_a_value_of_masks(tmp_path: Path) -> None:
    training_set = arrays()["training_set"]
    training_set[1, 1, 0, :3] = 255
    train, _ = parts(written(tmp_path, training_set=training_set))
    assert train.targets is not None
    np.testing.assert_array_equal(train.targets.stacked[:, 0], training_set[:, 1])


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_deeper_images_keep_their_values(tmp_path: Path, dtype: str) -> None:
    training_set = arrays()["training_set"]
    training_set[:, 0] = training_set[:, 0] * 257 if dtype == "uint16" else training_set[:, 0] / 7 - 10
    train, test = parts(written(tmp_path, training_set=training_set), competition(dtype=dtype))
    assert train.images.values.dtype == test.images.values.dtype == dtype
    np.testing.assert_array_equal(train.images.stacked[:, 0], training_set[:, 0].astype(dtype))


@pytest.mark.parametrize(
    ("dtype", "value", "said"),
    [
        ("uint8", 300.0, "lies outside 0 to 255; scale the images to 0 to 255, or set data.dtype: uint16 or float32"),
        ("uint16", 65536.0, "lies outside 0 to 65535; scale the images to 0 to 65535, or set data.dtype: float32"),
        ("uint16", -1.0, "lies outside 0 to 65535"),
        ("uint16", 12.5, "is not a whole number; round the images, or set data.dtype: float32"),
        ("uint16", np.nan, "value nan is not a number; repair or remove the row"),
        ("float32", np.nan, "value nan is not a number"),
        ("float32", np.inf, "value inf is not a number"),
        ("float32", 1e300, "value 1e+300 is too large to compute with; scale the images"),
    ],
)
def test_every_depth_has_its_own_range(tmp_path: Path, dtype: str, value: float, said: str) -> None:
    training_set = arrays()["training_set"]
    training_set[2, 0, 1, 3] = value
    text = complaint(written(tmp_path, training_set=training_set), competition(dtype=dtype))
    assert "row 2, image, pixel (1, 3): value" in text and said in text


def test_bad_rows_are_left_out_where_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_arrays = arrays(rows=11)
    training_set = given_arrays["training_set"]
    training_set[2, 0, 1, 3], training_set[2, 1, 0, 0] = 300, 9  # both: one sentence, the image's
    training_set[6, 1, 3, 5] = 3
    training_set[7, 0, 0, 0] = np.nan
    folder = written(tmp_path, **given_arrays)
    kept, rows = [0, 1, 3, 4, 5, 8, 9, 10], [2, 6, 7]
    for chunk in (1, 900, 1 << 20):  # also where nothing of a piece is left
        monkeypatch.setattr("podium.data.npz.CHUNK_BYTES", chunk)
        dataset = read(competition(first_id=5), folder, skip_bad=True)
        assert dataset.test is not None and dataset.train.targets is not None
        assert dataset.train.images.ids.tolist() == [str(row) for row in kept]
        np.testing.assert_array_equal(dataset.train.images.stacked[:, 0], training_set[kept, 0])
        np.testing.assert_array_equal(dataset.train.targets.stacked[:, 0], training_set[kept, 1])
        assert dataset.test.images.ids.tolist() == ["5", "6", "7"]
        for row, sentence in zip(rows, dataset.skipped, strict=True):
            assert f", row {row}, " in sentence and "toy.npz" in sentence
        assert "value 300" in dataset.skipped[0]
    assert "row 2, image, pixel (1, 3): value 300" in complaint(folder)
    assert complaint(folder).endswith("; or leave such rows out with --skip-bad")
    given_arrays["test_set"] = np.array(given_arrays["test_set"], np.float64)
    given_arrays["test_set"][1, 0, 1] = 0.5
    with pytest.raises(
        UserError, match="'test_set', row 1, .* a test image cannot be left out, the submission needs it"
    ):
        read(competition(), written(tmp_path, **given_arrays), skip_bad=True)


def test_missing_key_lists_the_keys_that_are_there(tmp_path: Path) -> None:
    text = complaint(written(tmp_path), competition(train={"key": "trainig_set", "image": 0, "target": 1}))
    assert "did you mean 'training_set'? allowed: training_set, test_set" in text


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("unpickled",))

    array = np.empty((5, 2, 4, 6), object)
    array[:] = Bomb()
    assert "pickled objects" in complaint(written(tmp_path, training_set=array))
    assert "dtype complex128" in complaint(written(tmp_path, training_set=np.zeros((5, 2, 4, 6), complex)))


def test_missing_file_and_folder_in_its_place(tmp_path: Path) -> None:
    assert "no such file; put it there or name its folder with --data" in complaint(tmp_path)
    (tmp_path / "toy.npz").mkdir()
    assert "is a folder" in complaint(tmp_path)


def test_every_truncation_is_one_sentence(tmp_path: Path) -> None:
    whole = (written(tmp_path) / "toy.npz").read_bytes()
    for length in [0, 1, 30, 100, len(whole) // 2, len(whole) - 30, len(whole) - 1]:
        (tmp_path / "toy.npz").write_bytes(whole[:length])
        assert "is damaged, cut short or not an npz file" in complaint(tmp_path)
    for foreign in (b"id,0,1\n0,1,1\n", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'"):
        (tmp_path / "toy.npz").write_bytes(foreign)
        assert "is damaged" in complaint(tmp_path)


def test_a_flipped_bit_never_goes_unnoticed(tmp_path: Path) -> None:
    np.savez(tmp_path / "toy.npz", allow_pickle=False, **arrays())  # stored, not deflated: only the checksum can tell
    whole = bytearray((tmp_path / "toy.npz").read_bytes())
    start = whole.index(arrays()["training_set"].tobytes())
    read(competition(), tmp_path)
    value = np.frombuffer(whole, "<f8", 1, start)[0]
    whole[start : start + 8] = np.float64(255 - value).tobytes()  # a valid grey value, but another one
    (tmp_path / "toy.npz").write_bytes(whole)
    assert "is damaged" in complaint(tmp_path)


@pytest.mark.parametrize("key", ["training_set", "test_set"])
@pytest.mark.parametrize("chunk", [1, 900, 1 << 20])
def test_checksums_of_deflated_arrays_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, chunk: int
) -> None:
    monkeypatch.setattr("podium.data.npz.CHUNK_BYTES", chunk)
    whole = bytearray((written(tmp_path) / "toy.npz").read_bytes())
    with zipfile.ZipFile(tmp_path / "toy.npz") as archive:
        crc = archive.getinfo(f"{key}.npy").CRC.to_bytes(4, "little")
    whole[whole.rindex(crc)] ^= 1  # in the central directory, which is the one that is read
    (tmp_path / "toy.npz").write_bytes(whole)
    assert "Bad CRC-32" in complaint(tmp_path)


def test_header_that_promises_more_than_there_is(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 2, 4, 6)})
    with zipfile.ZipFile(tmp_path / "toy.npz", "w") as archive:
        archive.writestr("training_set.npy", buffer.getvalue() + bytes(64))
        archive.writestr("test_set.npy", buffer.getvalue())
    assert "shorter or longer than its header says" in complaint(tmp_path)


def test_data_id_follows_content_and_settings_only(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    here, there = written(tmp_path / "a"), tmp_path / "b"
    (there / "other.npz").write_bytes((here / "toy.npz").read_bytes())
    base = source_id(competition(), here, False, tmp_path)
    assert len(base) == 16 and int(base, 16) >= 0
    assert source_id(competition(file="other.npz"), there, False, tmp_path) == base
    assert source_id(competition(drop="none"), here, False, tmp_path) == base
    assert read(competition(), here).data_id == base
    assert source_id(competition(shape=None), here, False, tmp_path) != base
    assert source_id(competition(first_id=1), here, False, tmp_path) != base
    changed = arrays()
    changed["test_set"][0, 0, 0] ^= 1
    assert source_id(competition(), written(tmp_path / "b", **changed), False, tmp_path) != base


def test_data_id_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        source_id(competition(), tmp_path, False, tmp_path)
