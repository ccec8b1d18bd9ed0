"""Figures of small made-up parts, all worked out by hand; and image quality on pictures spoilt on purpose."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.audit.describe import ClassShare, SharedMasks, Size, describe
from podium.audit.features import batches
from podium.audit.quality import quality
from podium.data.ragged import Ragged

CLASSES = ["background", "soil", "rock"]


def ragged(arrays: list[Any], prefix: str = "r") -> Ragged:
    """Items of any sizes, with ids r0, r1, ..."""
    items = [np.asarray(array) for array in arrays]
    shapes = np.array([item.shape for item in items], np.int64).reshape(-1, 3)
    values = np.concatenate([item.reshape(-1) for item in items])
    return Ragged(values, shapes, np.array([f"{prefix}{i}" for i in range(len(items))]))


def masks(*rows: list[int]) -> Ragged:
    """Masks of one line of pixels each."""
    return ragged([np.array([[row]], np.uint8) for row in rows])


def pictures(count: int, width: int = 4) -> Ragged:
    """Different pictures of one line of pixels."""
    return ragged([np.arange(width, dtype=np.uint8).reshape(1, 1, -1) + 10 * i for i in range(count)])


def as_json(value: Any) -> Any:
    """Through JSON and back, arrays as lists."""
    return json.loads(json.dumps(asdict(value), default=lambda array: array.tolist(), allow_nan=False))


# ---------------------------------------------------------------- describe


def test_targets_by_hand() -> None:
    targets = masks(
        [0, 0, 0, 0],  # r0 empty
        [1, 1, 0, 255],  # r1 soil alone
        [2, 2, 2, 2],  # r2 rock alone
        [1, 2, 0, 0],  # r3 both
        [255, 255, 255, 255],  # r4 no label at all
        [0, 0, 255, 255],  # r5 empty, half of it
    )
    found = describe(pictures(6), targets, CLASSES, 0).targets
    assert found is not None and found.kind == "masks"
    # 24 pixels, 7 of them without label: background 4 + 1 + 2 + 2, soil 2 + 1, rock 4 + 1
    assert found.classes == (
        ClassShare("background", 9, 9 / 17, 4),
        ClassShare("soil", 3, 3 / 17, 2),
        ClassShare("rock", 5, 5 / 17, 2),
    )
    assert found.ignored == 7 / 24
    assert (found.empty, found.single_class, found.all_ignored) == (("r0", "r5"), ("r1", "r2"), ("r4",))


def test_without_an_unscored_class_the_background_is_one_like_any_other() -> None:
    found = describe(pictures(4), masks([0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 2, 2]), CLASSES, None).targets
    assert found is not None
    assert (found.empty, found.single_class, found.all_ignored) == (("r0",), ("r2",), ())


def test_unscored_class_need_not_be_the_first() -> None:
    found = describe(pictures(3), masks([2, 2, 2, 2], [0, 0, 2, 2], [0, 0, 1, 2]), CLASSES, 2).targets
    assert found is not None
    assert (found.empty, found.single_class) == (("r0",), ("r1",))


def test_shared_masks_simple_and_rich() -> None:
    targets = masks([1, 1], [1, 2], [1, 1], [2, 2], [1, 2], [2, 2], [2, 2], [1, 2], [0, 1], [2, 1])
    found = describe(pictures(10, 2), targets, CLASSES, 0).targets
    assert found is not None
    assert found.shared_simple == SharedMasks(2, 5, ("r3", "r5", "r6"))
    assert found.shared_rich == SharedMasks(1, 3, ("r1", "r4", "r7"))


def test_labels_count_images_and_have_no_masks() -> None:
    targets = ragged([np.full((1, 1, 1), label, np.uint8) for label in (0, 2, 2, 255)])
    found = describe(pictures(4), targets, CLASSES, None).targets
    assert found is not None and found.kind == "labels"
    assert [(c.pixels, c.images) for c in found.classes] == [(1, 1), (0, 0), (2, 2)]
    assert found.classes[2].share == 2 / 3
    assert (found.all_ignored, found.empty, found.single_class) == (("r3",), (), ())
    assert found.shared_simple == found.shared_rich == SharedMasks(0, 0, ())


def test_images_sizes_values_and_copies() -> None:
    tall, wide = np.array([[[0], [10]]], np.uint8), np.array([[[0, 10]]], np.uint8)
    square = np.array([[[0, 20], [250, 250]]], np.uint8)
    found = describe(ragged([wide, square, tall, square, wide]), None, CLASSES, None)
    assert found.targets is None and found.count == 5 and found.dtype == "uint8"
    assert found.sizes == (Size(1, 2, 2), Size(2, 2, 2), Size(2, 1, 1))
    # the tall picture has the bytes of the wide one, but another shape
    assert found.duplicates == (("r0", "r4"), ("r1", "r3"))
    values = np.array([0, 10] * 3 + [0, 20, 250, 250] * 2)
    (channel,) = found.channels
    assert (channel.minimum, channel.maximum, channel.mean) == (0, 250, values.mean())
    assert channel.deviation == pytest.approx(values.std(), abs=1e-12)
    assert (channel.lowest, channel.highest, channel.not_finite) == (5 / 14, 4 / 14, 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_channel_statistics_against_numpy_over_several_sizes(dtype: type) -> None:
    rng = np.random.default_rng(1)
    sizes = [(3, 4), (5, 2)] * 4
    arrays = [(rng.integers(0, 200, (3, h, w)) + np.array([[[0]], [[20]], [[40]]])).astype(dtype) for h, w in sizes]
    found = describe(ragged(arrays), None, [], None)
    assert found.dtype == np.dtype(dtype).name and len(found.channels) == 3
    for number, channel in enumerate(found.channels):
        values = np.concatenate([array[number].reshape(-1) for array in arrays]).astype(np.float64)
        assert (channel.minimum, channel.maximum) == (values.min(), values.max())
        assert (channel.mean, channel.deviation) == pytest.approx((values.mean(), values.std()))
        assert channel.lowest == (values == values.min()).mean()
        assert channel.highest == (values == values.max()).mean()


def test_values_that_are_not_finite_are_counted_and_left_out() -> None:
    images = ragged([np.array([[[1, np.nan]]], np.float32), np.array([[[np.inf, 1], [3, 3]]], np.float32)])
    (channel,) = describe(images, None, [], None).channels
    assert (channel.minimum, channel.maximum, channel.mean, channel.deviation) == (1, 3, 2, 1)
    assert (channel.lowest, channel.highest, channel.not_finite) == (0.5, 0.5, 2)
    (nothing,) = describe(ragged([np.full((1, 1, 2), np.nan, np.float32)]), None, [], None).channels
    assert (nothing.mean, nothing.not_finite) == (0, 2)


def test_wrong_targets() -> None:
    with pytest.raises(ValueError, match="'r1' holds the value 3, which is no class"):
        describe(pictures(2, 2), masks([0, 1], [3, 0]), CLASSES, None)
    with pytest.raises(ValueError, match="different ids"):
        describe(pictures(2, 2), ragged([np.zeros((1, 1, 2), np.uint8)] * 2, "s"), CLASSES, None)


def test_no_images_and_json() -> None:
    empty = Ragged(np.zeros(0, np.uint8), np.zeros((0, 3), np.int64), np.zeros(0, np.str_))
    assert describe(empty, None, CLASSES, None).sizes == ()
    found = as_json(describe(pictures(2), masks([0, 1], [0, 2]), CLASSES, 0))
    assert found["targets"]["single_class"] == ["r0", "r1"]
    assert as_json(quality(pictures(2)))["blurred"] == []


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=12), st.sampled_from([1, 40, 10**6])
)
def test_batches_give_every_image_once(sizes: list[tuple[int, int]], at_once: int) -> None:
    images = ragged([np.full((2, h, w), i, np.uint8) for i, (h, w) in enumerate(sizes)])
    seen = []
    for rows, stack in batches(images, at_once):
        assert len(rows) == 1 or stack.size * 4 <= at_once
        for row, image in zip(rows.tolist(), stack, strict=True):
            assert (image == images[row]).all()
            seen.append(row)
    assert sorted(seen) == list(range(len(sizes)))


# ---------------------------------------------------------------- quality


def scenes(count: int, level: float = 120, contrast: float = 35) -> np.ndarray:
    """Coarse blocks with sharp noise on them, (count, 1, 32, 32) between 0 and 255."""
    rng = np.random.default_rng(3)
    blocks = rng.normal(level, contrast, (count, 1, 8, 8)).repeat(4, axis=2).repeat(4, axis=3)
    return np.clip(blocks + rng.normal(0, contrast / 3, blocks.shape), 0, 255)


def spoilt(images: np.ndarray) -> np.ndarray:
    """Row 3 dark, 5 and 6 blurred (6 more), 9 bright, 11 and 12 flat (12 wholly)."""
    images = images.copy()
    images[3] *= 0.08
    for row, strength in ((5, 1.5), (6, 3.0)):
        images[row, 0] = cv2.GaussianBlur(images[row, 0], (0, 0), strength)
    images[9] = 255 - (255 - images[9]) * 0.08
    images[11] = images[11].mean() + (images[11] - images[11].mean()) * 0.01
    images[12] = 90
    return images


EXPECTED = {"dark": ("r3",), "bright": ("r9",), "blurred": ("r6", "r5"), "low_information": ("r12", "r11")}


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 1.0), (np.uint16, 16.0), (np.float32, 1 / 255)])
@pytest.mark.parametrize("channels", [1, 3])
def test_spoilt_images_are_listed_and_no_others(dtype: type, scale: float, channels: int) -> None:
    images = spoilt(scenes(40)).repeat(channels, axis=1) * scale
    images[0, :, 0, 0] = 255 * scale  # for types without a fixed white
    images = images if dtype is np.float32 else np.rint(images)
    found = quality(Ragged.stack(images.astype(dtype), [f"r{i}" for i in range(40)]))
    assert {kind: getattr(found, kind) for kind in EXPECTED} == EXPECTED


def test_sizes_may_differ() -> None:
    images = spoilt(scenes(40)).astype(np.uint8)
    found = quality(ragged([image[:, : 32 - i % 3] for i, image in enumerate(images)]))
    assert {kind: getattr(found, kind) for kind in EXPECTED} == EXPECTED
    assert found.sharpness.shape == (40,)


def test_honest_data_sets_that_are_poor_throughout_are_not_flagged() -> None:
    dark = scenes(40, level=18, contrast=4)
    smooth = np.stack([[cv2.GaussianBlur(image[0], (0, 0), 2)] for image in scenes(40)])
    white = 255 - dark
    for images in (dark, smooth, white, np.zeros((9, 1, 8, 8))):
        found = quality(Ragged.stack(images.astype(np.uint8), [str(i) for i in range(len(images))]))
        assert (found.dark, found.bright, found.blurred, found.low_information) == ((), (), (), ())


def test_in_an_even_data_set_what_stands_out_must_be_poor_as_well() -> None:
    rng = np.random.default_rng(0)
    images = 120 + rng.normal(0, 20, (30, 1, 32, 32))
    images[4] -= 60
    images[5] += 60
    images[6] = 120 + 3 * (cv2.GaussianBlur(images[6, 0], (0, 0), 0.7) - 120)
    images[7] = 120 + rng.integers(-4, 5, (32, 32))
    found = quality(Ragged.stack(np.clip(images, 0, 255).astype(np.uint8), [str(i) for i in range(30)]))
    for values, row in ((found.highlights, 4), (-found.shadows, 5), (found.sharpness, 6), (found.entropy, 7)):
        rest = np.delete(values, [4, 5, 6, 7])
        assert rest.min() - values[row] > 5 * rest.std()
    assert (found.dark, found.bright, found.blurred, found.low_information) == ((), (), (), ())


def test_measures_by_hand() -> None:
    board = np.indices((10, 10)).sum(axis=0) % 2 * 255  # a chess board: half black, half white, as rough as can be
    image = np.zeros((10, 10))
    image[0, 0] = 255
    found = quality(Ragged.stack(np.stack([board, image])[:, None].astype(np.uint8), ["a", "b"]))
    assert found.luminance.tolist() == pytest.approx([0.5, 0.01])
    assert found.contrast.tolist() == pytest.approx([0.5, (0.01 * 0.99) ** 0.5], rel=1e-6)
    assert found.highlights.tolist() == [1, 0] and found.shadows.tolist() == [0, 0]
    assert found.entropy.tolist() == pytest.approx([1, -0.01 * np.log2(0.01) - 0.99 * np.log2(0.99)])
    grey = np.pad(board / 255, 1, mode="edge")
    laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    assert found.sharpness[0] == pytest.approx(laplacian.var() / 0.25)


def test_one_image_and_values_that_are_not_finite() -> None:
    found = quality(ragged([np.array([[[np.nan, 1], [np.inf, 0]]], np.float32)]))
    assert np.isfinite(found.luminance).all() and found.dark == ()
    assert found.luminance[0] == pytest.approx(0.25)
