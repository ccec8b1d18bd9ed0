"""Contact sheets: layout, colours and sizes are looked up in the written file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from podium.audit.pictures import COLOURS, LIMIT, before_after, gallery
from podium.data.ragged import Ragged

GAP, LINE = 4, 14


def ragged(items: list[np.ndarray]) -> Ragged:
    shapes = np.array([item.shape for item in items], np.int64).reshape(-1, 3)
    values = np.concatenate([item.reshape(-1) for item in items])
    return Ragged(values, shapes, np.array([f"r{i}" for i in range(len(items))]))


def plain(*levels: float, size: tuple[int, int] = (8, 8), dtype: type = np.uint8) -> list[np.ndarray]:
    """Grey images of one level each."""
    return [np.full((1, *size), level, dtype) for level in levels]


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def centre(sheet: np.ndarray, number: int, columns: int, cell: int, tallest: int | None = None) -> list[int]:
    """The colour in the middle of a cell."""
    tallest = cell if tallest is None else tallest
    x = GAP + number % columns * (cell + 3 * GAP) + cell // 2
    y = GAP + number // columns * (tallest + LINE + 2 * GAP) + tallest // 2
    return sheet[y, x].tolist()


def test_layout_and_grey_levels(tmp_path: Path) -> None:
    path = tmp_path / "some" / "sheet.png"
    gallery(path, ragged(plain(0, 50, 100, 150, 200)), [4, 3, 0, 1], list("abcd"), columns=3, cell=32)
    sheet = read(path)
    assert sheet.shape == (GAP + 2 * (32 + LINE + 2 * GAP), GAP + 3 * (32 + 3 * GAP), 3)
    assert [centre(sheet, n, 3, 32)[0] for n in range(4)] == [200, 150, 0, 50]
    assert sheet[0, 0].tolist() == [255] * 3
    # a caption in dark ink below each of the four pictures, nothing below the empty places
    below = sheet[GAP + 32 : GAP + 32 + LINE]
    for number in range(3):
        x = GAP + number * (32 + 3 * GAP)
        assert below[:, x : x + 12].min() < 100
    second = sheet[-LINE - GAP :]
    assert second[:, : 32 * 2 + 5 * GAP].min() < 100 and second[:, 32 * 2 + 7 * GAP :].min() == 255


def test_colours_channels_and_layers(tmp_path: Path) -> None:
    colour = np.zeros((3, 8, 8), np.uint8)
    colour[0], colour[2] = 200, 90
    two = np.stack([np.full((8, 8), 70), np.full((8, 8), 10)]).astype(np.uint8)
    four = np.concatenate([colour, np.full((1, 8, 8), 255, np.uint8)])
    gallery(tmp_path / "a.png", ragged([colour, two, four]), range(3), [""] * 3, cell=16)
    sheet = read(tmp_path / "a.png")
    assert [centre(sheet, n, 3, 16) for n in range(3)] == [[200, 0, 90], [70, 70, 70], [200, 0, 90]]


@pytest.mark.parametrize(("dtype", "levels"), [(np.uint16, (100, 2100, 4100)), (np.float32, (-1, 0, 1))])
def test_other_types_are_scaled_from_least_to_greatest_shown(
    tmp_path: Path, dtype: type, levels: tuple[float, ...]
) -> None:
    gallery(tmp_path / "a.png", ragged(plain(*levels, 60000, dtype=dtype)), [0, 1, 2], [""] * 3, cell=16)
    sheet = read(tmp_path / "a.png")
    assert [centre(sheet, n, 3, 16)[0] for n in range(3)] == [0, 128, 255]


def test_constant_and_not_finite_floats(tmp_path: Path) -> None:
    images = [*plain(7, dtype=np.float32), np.full((1, 8, 8), np.nan, np.float32)]
    gallery(tmp_path / "a.png", ragged(images), [0, 1], ["", ""], cell=16)
    assert centre(read(tmp_path / "a.png"), 0, 2, 16) == [0, 0, 0]
    gallery(tmp_path / "b.png", ragged(images), [1], [""], cell=16)


def test_masks_are_laid_over(tmp_path: Path) -> None:
    images, masks = plain(100, 100, 100, 100), plain(0, 1, 3, 255)
    gallery(tmp_path / "a.png", ragged(images), range(4), [""] * 4, cell=8, targets=ragged(masks))
    sheet = read(tmp_path / "a.png")
    mixed = [[(300 + 2 * int(part)) // 5 for part in colour] for colour in (COLOURS[0], COLOURS[2], (160, 160, 160))]
    assert [centre(sheet, n, 4, 8) for n in range(4)] == [[100] * 3, *mixed]
    labels = plain(0, 1, 2, 3, size=(1, 1))
    gallery(tmp_path / "b.png", ragged(images), range(4), [""] * 4, cell=8, targets=ragged(labels))
    assert centre(read(tmp_path / "b.png"), 1, 4, 8) == [100] * 3


def test_sizes_may_differ_and_wide_images_take_low_rows(tmp_path: Path) -> None:
    wide, large = np.full((1, 8, 16), 10, np.uint8), np.full((1, 50, 100), 20, np.uint8)
    gallery(tmp_path / "a.png", ragged([wide, large]), [0, 1], ["", ""], cell=40)
    sheet = read(tmp_path / "a.png")
    # 16 columns fit twice into 40: 16 × 32; 100 become 40: 20 × 40, the tallest
    assert sheet.shape == (GAP + 20 + LINE + 2 * GAP, GAP + 2 * (40 + 3 * GAP), 3)
    assert [centre(sheet, n, 2, 40, 20)[0] for n in range(2)] == [10, 20]
    assert (sheet == 10).all(axis=2).sum() == 16 * 32 and (sheet == 20).all(axis=2).sum() == 20 * 40


def test_small_pixels_stay_square_and_sharp(tmp_path: Path) -> None:
    board = np.array([[[0, 255], [255, 0]]], np.uint8)
    gallery(tmp_path / "a.png", ragged([board]), [0], [""], cell=20)
    sheet = read(tmp_path / "a.png")[GAP : GAP + 20, GAP : GAP + 20, 0]
    assert (sheet == board[0].repeat(10, axis=0).repeat(10, axis=1)).all()


@pytest.mark.parametrize("count", [8, 120])
def test_noise_in_colour_stays_below_200_kilobytes(tmp_path: Path, count: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (count, 3, 128, 128)).astype(np.uint8)
    gallery(tmp_path / "a.png", Ragged.stack(noise, [str(i) for i in range(count)]), range(count), ["caption"] * count)
    assert 20_000 < (tmp_path / "a.png").stat().st_size < LIMIT == 200_000
    sheet = read(tmp_path / "a.png")
    assert sheet[-LINE - GAP :].min() < 100  # captions are still drawn


def test_few_colours_keep_what_is_small_and_colourful(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (16, 3, 128, 128)).astype(np.uint8)
    pictures[:, 2] = 255 - pictures[:, 0] // 4  # no yellow anywhere
    pictures[3, :, 50:66, 50:66] = np.array([250, 250, 0])[:, None, None]
    gallery(tmp_path / "a.png", Ragged.stack(pictures, [str(i) for i in range(16)]), range(16), [""] * 16)
    sheet = read(tmp_path / "a.png").astype(np.int64)
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) <= 256
    assert (np.abs(sheet - [250, 250, 0]).max(axis=2) < 20).sum() > 20


def test_long_captions_are_cut(tmp_path: Path) -> None:
    images = ragged(plain(100, 100))
    gallery(tmp_path / "long.png", images, [0, 1], ["a very long caption that cannot fit here", ""], cell=48)
    sheet = read(tmp_path / "long.png")
    caption = sheet[GAP + 48 :, :, 0]
    assert caption[:, : GAP + 48 + GAP].min() < 100 and caption[:, GAP + 48 + 3 * GAP :].min() == 255


def test_nothing_to_show_too_much_and_unequal_lists(tmp_path: Path) -> None:
    images = ragged(plain(1))
    gallery(tmp_path / "a.png", images, [], [])
    assert read(tmp_path / "a.png").min() < 100  # the note
    with pytest.raises(ValueError, match="1 rows and 2 captions"):
        gallery(tmp_path / "b.png", images, [0], ["", ""])
    with pytest.raises(ValueError, match="too many"):
        gallery(tmp_path / "b.png", images, [0] * 401, [""] * 401)
    assert not (tmp_path / "b.png").exists()


def test_before_and_after_side_by_side(tmp_path: Path) -> None:
    before, after = plain(60, 200), plain(-2, 2, dtype=np.float32)
    before_after(tmp_path / "a.png", before, after, ["one", "two"], cell=32)
    sheet = read(tmp_path / "a.png")
    assert sheet.shape == (GAP + 32 + LINE + 2 * GAP, GAP + 2 * (64 + 3 * GAP), 3)
    y, width = GAP + 16, 64 + 3 * GAP
    left = [sheet[y, GAP + n * width + 16, 0] for n in range(2)]
    right = [sheet[y, GAP + n * width + 32 + GAP // 2 + 16, 0] for n in range(2)]
    assert (left, right) == ([60, 200], [0, 255])
    with pytest.raises(ValueError, match="2 images before, 1 after"):
        before_after(tmp_path / "b.png", before, after[:1], ["one", "two"])
