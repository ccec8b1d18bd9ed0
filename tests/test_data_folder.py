"""Pictures in folders: which files make which rows, in which order, and one sentence for each that does not fit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from podium.config_data import FolderData
from podium.data import folder as module
from podium.data import picture
from podium.data.chunk import Bad, Chunk, Reading
from podium.data.folder import Row, files, match, read_test, read_train
from podium.errors import UserError

CLASSES = ("background", "cytoplasm", "nucleus")
VALUES = {"background": 0, "cytoplasm": 128, "nucleus": 255}
PETS = ("cat", "dog")


def save(path: Path, values: object, dtype: type = np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype)).save(path)
    return path


def pairs(**changed: Any) -> FolderData:
    """Images and masks by one name, a test folder, the values of white blood cells."""
    given: dict[str, Any] = {
        "format": "folder",
        "train": {"image": "train/images/{id}.png", "target": "train/masks/{id}.png"},
        "test": {"image": "test/images/{id}.png"},
        "values": VALUES,
    }
    return FolderData.model_validate(given | changed)


def sorted_folders(image: str = "train/{class}/{id}.png", **changed: Any) -> FolderData:
    return FolderData.model_validate({"format": "folder", "train": {"image": image}} | changed)


def reading(folder: Path, classes: tuple[str, ...] = CLASSES, skip: bool = False, **more: Any) -> Reading:
    return Reading(folder=folder, classes=classes, task="segmentation", first_id=0, bad=Bad(skip), **more)


def pair(folder: Path, name: str, value: int = 7, size: tuple[int, int] = (2, 3)) -> None:
    """A grey image of ``value`` and a mask of nucleus with one corner of background."""
    inside = np.full(size, 255)
    inside[0, 0] = 0
    save(folder / f"train/images/{name}.png", np.full(size, value))
    save(folder / f"train/masks/{name}.png", inside)


def ids(chunks: Iterator[Chunk]) -> list[str]:
    return [name for chunk in chunks for name in chunk.ids]


def complaint(data: FolderData, context: Reading) -> str:
    with pytest.raises(UserError) as caught:
        list(read_train(data, context))
    text = str(caught.value)
    assert "\n" not in text
    return text


def left_out(data: FolderData, folder: Path, classes: tuple[str, ...] = CLASSES) -> tuple[list[str], list[str]]:
    """Ids of the good rows and the sentences about the others, with --skip-bad; without it the first is an error."""
    context = reading(folder, classes, skip=True)
    good = ids(read_train(data, context))
    assert context.bad.skipped
    assert complaint(data, reading(folder, classes)) == context.bad.skipped[0] + (
        "; or leave such rows out with --skip-bad"
    )
    return good, context.bad.skipped


# ---------------------------------------------------------------- rows


def test_pairs_in_natural_order_each_in_its_own_size(tmp_path: Path) -> None:
    for name, value, size in [("10", 30, (2, 3)), ("2", 20, (4, 1)), ("1", 10, (2, 3)), ("b7", 40, (1, 1))]:
        pair(tmp_path, name, value, size)
    (chunk,) = read_train(pairs(), reading(tmp_path))
    assert list(chunk.ids) == ["1", "2", "10", "b7"] and chunk.groups is None and chunk.targets is not None
    for image, target, (value, size) in zip(
        chunk.images, chunk.targets, [(10, (2, 3)), (20, (4, 1)), (30, (2, 3)), (40, (1, 1))], strict=True
    ):
        assert image.dtype == target.dtype == np.uint8
        np.testing.assert_array_equal(image, np.full((1, *size), value))
        assert target.shape == (1, *size)
        assert target.ravel().tolist() == [0] + [2] * (size[0] * size[1] - 1)


def test_test_rows_have_no_targets(tmp_path: Path) -> None:
    for name in ("9", "10"):
        save(tmp_path / f"test/images/{name}.png", [[int(name)]])
    (chunk,) = read_test(pairs(), reading(tmp_path))
    assert list(chunk.ids) == ["9", "10"] and chunk.targets is None
    assert [image.tolist() for image in chunk.images] == [[[[9]]], [[[10]]]]
    with pytest.raises(ValueError, match="no test images"):
        list(read_test(pairs(test=None), reading(tmp_path)))


def test_pairs_by_prefix_in_one_folder(tmp_path: Path) -> None:
    for name in ("01", "02"):
        save(tmp_path / f"Train/image_{name}.png", np.zeros((2, 2, 3)))
        save(tmp_path / f"Train/label_{name}.png", [[0, 255], [0, 0]])
    data = pairs(
        train={"image": "Train/image_{id}.png", "target": "Train/label_{id}.png"},
        values={"background": 0, "gland": 255},
        dtype="float32",
    )
    (chunk,) = read_train(data, reading(tmp_path, ("background", "gland")))
    assert list(chunk.ids) == ["01", "02"] and chunk.targets is not None
    assert chunk.images[0].shape == (3, 2, 2) and chunk.images[0].dtype == np.float32
    assert chunk.targets[1].tolist() == [[[0, 1], [0, 0]]]


def test_several_values_to_one_class_and_class_indices_without_a_map(tmp_path: Path) -> None:
    save(tmp_path / "train/images/1.png", [[1, 2, 3]])
    save(tmp_path / "train/masks/1.png", [[0, 9, 2]])
    data = pairs(values={"background": [0, 9], "cytoplasm": 2, "nucleus": 3})
    (chunk,) = read_train(data, reading(tmp_path))
    assert chunk.targets is not None and chunk.targets[0].tolist() == [[[0, 0, 1]]]
    save(tmp_path / "train/masks/1.png", [[0, 255, 2]])
    (chunk,) = read_train(pairs(values=None), reading(tmp_path))
    assert chunk.targets is not None and chunk.targets[0].tolist() == [[[0, 255, 2]]]


def test_class_folders(tmp_path: Path) -> None:
    for label, name, value in [("dog", "1", 5), ("cat", "10", 4), ("cat", "2", 3)]:
        save(tmp_path / f"train/{label}/{name}.png", [[value]])
    (chunk,) = read_train(sorted_folders(), reading(tmp_path, PETS))
    assert list(chunk.ids) == ["cat/2", "cat/10", "dog/1"] and chunk.targets is not None
    assert [image.item() for image in chunk.images] == [3, 4, 5]
    assert [target.tolist() for target in chunk.targets] == [[[[0]]], [[[0]]], [[[1]]]]
    assert all(target.dtype == np.uint8 for target in chunk.targets)


def test_classes_in_names_where_one_begins_another(tmp_path: Path) -> None:
    for name in ("cat.1", "dog.2", "dog.house.3", "dog.house.3.b"):
        save(tmp_path / f"train/{name}.png", [[0]])
    classes = ("dog", "dog.house", "cat")
    (chunk,) = read_train(sorted_folders("train/{class}.{id}.png"), reading(tmp_path, classes))
    assert list(chunk.ids) == ["cat/1", "dog/2", "dog.house/3", "dog.house/3.b"] and chunk.targets is not None
    assert [target.item() for target in chunk.targets] == [2, 0, 1, 1]


# ---------------------------------------------------------------- templates


@pytest.mark.parametrize(
    ("template", "names", "found"),
    [
        ("{id}.png", ["2.png", "10.png", "a/3.png", "4.jpg", "5.png.txt"], ["2", "10"]),
        ("{id}/images/*.png", ["a/images/x.png", "b/images/y.png", "b/masks/z.png", "c.png"], ["a", "b"]),
        ("*/{id}.png", ["a/1.png", "b/2.png", "3.png", "a/b/4.png"], ["1", "2"]),
        ("{id}_*.png", ["a_b_1.png", "c_2.png", "d.png"], ["a_b", "c"]),
        ("*_{id}.png", ["a_b_1.png", "c_2.png", "d.png"], ["2", "b_1"]),
        ("*{id}.png", ["img_1.png"], ["img_1"]),
        ("{id}.*", ["1.png", "2.jpg", "3"], ["1", "2"]),
        ("a.b/{id}+(1).png", ["a.b/x+(1).png", "aXb/y+(1).png", "a.b/z1.png"], ["x"]),
        ("./{id}.png", ["1.png"], ["1"]),
        ("missing/{id}.png", ["1.png"], []),
        ("{id}/mask.png", ["7/mask.png", "8/other.png", "9/mask.png/x.png"], ["7"]),
        ("{id}.png", [".hidden.png", "._1.png", "1.png"], ["1"]),
        ("*/{id}.png", [".hidden/1.png", "a/2.png"], ["2"]),
    ],
)
def test_templates(tmp_path: Path, template: str, names: list[str], found: list[str]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [item.id for item in match(tmp_path, template)] == found


def test_natural_order() -> None:
    names = ["x10y2", "x10y10", "x2", "2", "02", "1", "a", "10", "x", ""]
    assert sorted(names, key=module.natural) == ["", "1", "02", "2", "10", "a", "x", "x2", "x10y2", "x10y10"]


def test_links_to_files_and_folders(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere/1.png", [[3]])
    (tmp_path / "data/train").mkdir(parents=True)
    (tmp_path / "data/train/cat").symlink_to(tmp_path / "elsewhere")
    save(tmp_path / "data/train/dog/2.png", [[4]])
    (tmp_path / "data/train/dog/3.png").symlink_to(tmp_path / "elsewhere/1.png")
    assert ids(read_train(sorted_folders(), reading(tmp_path / "data", PETS))) == ["cat/1", "dog/2", "dog/3"]
    (tmp_path / "data/train/dog/4.png").symlink_to(tmp_path / "nowhere.png")
    good, said = left_out(sorted_folders(), tmp_path / "data", PETS)
    assert good == ["cat/1", "dog/2", "dog/3"]
    assert said == [f"{tmp_path}/data/train/dog/4.png: no such file; put it there"]
    assert [path.name for path in files(sorted_folders(), tmp_path / "data")] == ["1.png", "2.png", "3.png"]


def test_files_are_all_that_reading_depends_on(tmp_path: Path) -> None:
    pair(tmp_path, "10")
    pair(tmp_path, "2")
    save(tmp_path / "test/images/1.png", [[0]])
    save(tmp_path / "test/images/._1.png", [[0]])
    (tmp_path / "train/images/notes.txt").touch()
    named = [path.relative_to(tmp_path).as_posix() for path in files(pairs(), tmp_path)]
    assert named == [
        "test/images/1.png",
        "train/images/10.png",
        "train/images/2.png",
        "train/masks/10.png",
        "train/masks/2.png",
    ]
    shared = pairs(test={"image": "train/images/{id}.png"})
    assert len(files(shared, tmp_path)) == 4
    assert files(pairs(), tmp_path / "nowhere") == []


# ---------------------------------------------------------------- what is bad


def test_an_image_without_mask_and_a_mask_without_image(tmp_path: Path) -> None:
    for name in ("1", "2", "3", "4"):
        pair(tmp_path, name)
    (tmp_path / "train/masks/2.png").unlink()
    (tmp_path / "train/images/4.png").unlink()
    good, said = left_out(pairs(), tmp_path)
    assert good == ["1", "3"]
    at = tmp_path / "train"
    assert said == [
        f"{at}/images/2.png: has no mask, there is no {at}/masks/2.png; add the mask or remove the image",
        f"{at}/masks/4.png: is a mask without image, there is no {at}/images/4.png; add the image or remove the mask",
    ]


def test_pictures_that_cannot_be_read(tmp_path: Path) -> None:
    for name in ("1", "2", "3", "4"):
        pair(tmp_path, name)
    (tmp_path / "train/images/2.png").write_bytes(b"")
    (tmp_path / "train/masks/3.png").write_bytes((tmp_path / "train/masks/3.png").read_bytes()[:50])
    good, said = left_out(pairs(), tmp_path)
    assert good == ["1", "4"]
    assert [text.split(":")[0] for text in said] == [f"{tmp_path}/train/images/2.png", f"{tmp_path}/train/masks/3.png"]
    assert "is empty" in said[0] and "damaged or cut short" in said[1]


def test_a_value_outside_the_map(tmp_path: Path) -> None:
    pair(tmp_path, "1")
    pair(tmp_path, "2")
    save(tmp_path / "train/masks/1.png", [[0, 128, 0], [0, 129, 0]])
    good, said = left_out(pairs(), tmp_path)
    assert good == ["2"]
    assert said == [
        f"{tmp_path}/train/masks/1.png, pixel (1, 1): value 129 means no class, allowed are 0 (background), "
        f"128 (cytoplasm), 255 (nucleus); correct the mask or data.values"
    ]


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    pair(tmp_path, "1")
    pair(tmp_path, "2")
    save(tmp_path / "train/masks/2.png", [[0, 0], [0, 0], [0, 0]])
    good, said = left_out(pairs(), tmp_path)
    assert good == ["1"] and len(said) == 1
    assert (
        f"{tmp_path}/train/masks/2.png: the mask is 3 x 2 and its image {tmp_path}/train/images/2.png 2 x 3" in said[0]
    )


def test_an_image_of_another_size_than_asked_for(tmp_path: Path) -> None:
    pair(tmp_path, "1")
    pair(tmp_path, "2", size=(3, 2))
    good, said = left_out(pairs(shape=[2, 3]), tmp_path)
    assert good == ["1"] and len(said) == 1
    assert f"{tmp_path}/train/images/2.png: is 3 x 2 where data.shape asks for 2 x 3" in said[0]


def test_a_mixture_of_colours(tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        pair(tmp_path, name)
    at = tmp_path / "train/images"
    save(at / "2.png", np.zeros((2, 3, 3)))
    good, said = left_out(pairs(), tmp_path)
    assert good == ["1", "3"]
    assert said == [f"{at}/2.png: is colour where the first image, {at}/1.png, is grey; set data.colour to grey or rgb"]
    for colour, channels in (("grey", 1), ("rgb", 3)):
        (chunk,) = read_train(pairs(colour=colour), reading(tmp_path))
        assert [len(image) for image in chunk.images] == [channels] * 3


def test_two_files_of_one_id(tmp_path: Path) -> None:
    pair(tmp_path, "1")
    pair(tmp_path, "2")
    at = tmp_path / "train/images"
    save(at / "1.jpg", np.zeros((2, 3)))
    data = pairs(train={"image": "train/images/{id}.*", "target": "train/masks/{id}.png"})
    good, said = left_out(data, tmp_path)
    assert good == ["1", "2"]
    assert said == [f"{at}/1.png: has the same id '1' as {at}/1.jpg; remove one or narrow the template"]
    save(tmp_path / "train/a/cat/1.png", [[0]])
    save(tmp_path / "train/b/cat/1.png", [[0]])
    save(tmp_path / "train/b/dog/1.png", [[0]])
    good, said = left_out(sorted_folders("train/*/{class}/{id}.png"), tmp_path, PETS)
    assert good == ["cat/1", "dog/1"] and len(said) == 1 and "same id 'cat/1'" in said[0]


def test_a_folder_that_is_no_class_is_said_once(tmp_path: Path) -> None:
    for label in ("cat", "dog", "cats"):
        for name in ("1", "2"):
            save(tmp_path / f"train/{label}/images/{name}.png", [[0]])
    (tmp_path / "train/empty").mkdir()
    good, said = left_out(sorted_folders("train/{class}/images/{id}.png"), tmp_path, PETS)
    assert good == ["cat/1", "cat/2", "dog/1", "dog/2"]
    assert said == [
        f"{tmp_path}/train/cats: 'cats' (2 images) is not a class, rename it or correct 'classes'; "
        f"did you mean 'cat'? allowed: cat, dog"
    ]
    save(tmp_path / "other/cat/1.png", [[0]])
    save(tmp_path / "other/horse/1.png", [[0]])
    good, said = left_out(sorted_folders("other/{class}/{id}.png"), tmp_path, PETS)
    assert good == ["cat/1"] and said[0].startswith(f"{tmp_path}/other/horse: 'horse' (1 images) is not a class")
    for name in ("cat-1", "horse-1", "horse-2"):
        save(tmp_path / f"{name}.png", [[0]])
    good, said = left_out(sorted_folders("{class}-{id}.png"), tmp_path, PETS)
    assert good == ["cat/1"] and len(said) == 1
    assert said[0].startswith(f"{tmp_path}/horse-1.png: 'horse' (2 images) is not a class")


@pytest.mark.parametrize("skip", [False, True])
def test_no_file_at_all(tmp_path: Path, skip: bool) -> None:
    for name in ("3", "1", "2", "4"):
        save(tmp_path / f"train/images/{name}.jpg", [[0]])
    save(tmp_path / "another.png", [[0]])
    text = complaint(pairs(), reading(tmp_path, skip=skip))
    assert text == (
        f"{tmp_path}: no file matches data.train.image 'train/images/{{id}}.png', there are train/images/1.jpg, "
        f"train/images/2.jpg, train/images/3.jpg; correct the template or take the right folder"
    )
    data = pairs(train={"image": "train/images/{id}.jpg", "target": "masks/{id}.png"})
    text = complaint(data, reading(tmp_path, skip=skip))
    assert "no file matches data.train.target 'masks/{id}.png', there are another.png, train/images/1.jpg" in text
    with pytest.raises(UserError, match="no file matches data.test.image .*there are another.png"):
        list(read_test(pairs(), reading(tmp_path, skip=skip)))
    data = pairs(train={"image": "train/pictures/new/{id}.png", "target": "masks/{id}.png"})
    assert "there are train/images/1.jpg" in complaint(data, reading(tmp_path, skip=skip))  # as near as can be
    (tmp_path / "train/pictures/new").mkdir(parents=True)
    assert "there are another.png" in complaint(data, reading(tmp_path, skip=skip))
    save(tmp_path / "empty/.cache/1.jpg", [[0]])
    save(tmp_path / "empty/.1.jpg", [[0]])
    assert "it holds no files" in complaint(pairs(), reading(tmp_path / "empty", skip=skip))


def test_no_good_row_at_all(tmp_path: Path) -> None:
    pair(tmp_path, "1")
    pair(tmp_path, "2")
    for name in ("1", "2"):
        (tmp_path / f"train/images/{name}.png").write_bytes(b"")
    text = complaint(pairs(), reading(tmp_path, skip=True))
    assert "no image of data.train.image can be used" in text and "images/2.png: is empty" in text
    (tmp_path / "train/masks/1.png").unlink()
    (tmp_path / "train/images/2.png").unlink()
    text = complaint(pairs(), reading(tmp_path, skip=True))
    assert "no image of data.train.image can be used" in text and "is a mask without image" in text


def test_values_that_contradict_each_other_are_said_before_any_picture(tmp_path: Path) -> None:
    data = pairs(values={"background": 0, "cytoplasm": 0, "nucleus": 1})
    assert "data.values: classes 'background' and 'cytoplasm' both have value 0" in complaint(data, reading(tmp_path))


# ---------------------------------------------------------------- many rows


def test_chunks_keep_the_order_whatever_takes_longest_and_progress_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(150):
        save(tmp_path / f"test/images/{number}.png", [[number]])
    for number in (0, 149):
        (tmp_path / f"test/images/{number}.png").write_bytes(b"")
    decode = picture.decode

    def slower(path: Path, colour: picture.Colour, dtype: picture.Pixels) -> np.ndarray:
        time.sleep(0.001 * (int(path.stem) % 4 == 0))
        return decode(path, colour, dtype)

    monkeypatch.setattr(picture, "decode", slower)
    told: list[tuple[int, int]] = []
    context = reading(tmp_path, skip=True, progress=lambda done, of: told.append((done, of)))
    chunks = list(read_test(pairs(), context))
    assert [len(chunk.ids) for chunk in chunks] == [64, 64, 20]
    assert [int(name) for chunk in chunks for name in chunk.ids] == list(range(1, 149))
    assert [image.item() for chunk in chunks for image in chunk.images] == list(range(1, 149))
    assert told == [(65, 150), (129, 150), (150, 150)]
    assert [text.split(":")[0] for text in context.bad.skipped] == [
        f"{tmp_path}/test/images/{number}.png" for number in (0, 149)
    ]


def test_chunks_of_large_images_are_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        save(tmp_path / f"test/images/{number}.png", np.zeros((10, 10)))
    monkeypatch.setattr(module, "CHUNK_BYTES", 150)
    assert [len(chunk.ids) for chunk in read_test(pairs(), reading(tmp_path))] == [2, 2, 1]


def test_only_a_few_rows_are_read_ahead_and_nothing_after_the_reader_is_left() -> None:
    started: list[str] = []

    def rows() -> Iterator[Row]:
        for number in range(10_000):
            started.append(str(number))
            yield Row(str(number), Path(str(number)))

    outcomes = module._in_order(lambda row: (np.array([int(row.id)]), None), rows())
    for number in range(3):
        row, outcome = next(outcomes)
        assert row.id == str(number) and not isinstance(outcome, picture.BadPicture) and outcome[0][0] == number
    assert len(started) <= 3 + 4 * module.cores()
    outcomes.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
    assert len(started) <= 3 + 4 * module.cores()


def test_a_defect_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "test/images/1.png", [[0]])

    def broken(*_: object) -> np.ndarray:
        raise ZeroDivisionError

    monkeypatch.setattr(picture, "decode", broken)
    with pytest.raises(ZeroDivisionError):
        list(read_test(pairs(), reading(tmp_path, skip=True)))
