"""Every kind of corruption: that it does something, more of it at higher strengths, and nothing that it should not."""

from __future__ import annotations

import zlib

import albumentations
import cv2
import numpy as np
import pytest

from podium.config_validation import COLOUR, GEOMETRY, KINDS
from podium.corruptions.amounts import AMOUNTS
from podium.corruptions.corrupt import corrupt
from podium.corruptions.operations import CHANGES, PLANS

LABEL = np.array([[[3]]], np.uint8)
GREY = tuple(kind for kind in KINDS if kind not in COLOUR)
TRIES = 4


def scene(channels: int = 3, height: int = 64, width: int = 96) -> np.ndarray:
    """A smooth image with some texture, uint8 (C, H, W)."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(9 * x + 3 * y), np.cos(7 * y - 2 * x), np.sin(11 * x * y + 1)]
    grain = 0.08 * np.sin(40 * x) * np.cos(37 * y)
    image = np.stack([0.45 + 0.05 * c + 0.28 * waves[c % 3] + grain for c in range(channels)])
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


IMAGE = scene()


def done(image: np.ndarray, kind: str, strength: int, seed: int = 0) -> np.ndarray:
    return corrupt(image, LABEL, kind, strength, np.random.default_rng(seed), False)[0]


def rng_that(goes_up: bool) -> np.random.Generator:
    """A generator whose first draw says which of two directions is taken."""
    seed = next(seed for seed in range(100) if (np.random.default_rng(seed).random() < 0.5) == goes_up)
    return np.random.default_rng(seed)


def test_there_is_an_operation_for_every_kind_and_none_besides() -> None:
    assert {*CHANGES, *PLANS} == set(KINDS) and not CHANGES.keys() & PLANS.keys() and set(PLANS) == GEOMETRY


@pytest.mark.parametrize("kind", KINDS)
def test_every_strength_changes_the_image_and_a_higher_one_more(kind: str) -> None:
    given: np.ndarray = IMAGE.copy()
    reach: list[float] = []
    for strength in range(1, 6):
        made = [done(IMAGE, kind, strength, seed) for seed in range(TRIES)]
        for image in made:
            assert image.shape == IMAGE.shape and image.dtype == np.uint8 and not np.array_equal(image, IMAGE)
        reach.append(float(np.mean([np.abs(image.astype(int) - IMAGE).mean() for image in made])))
    assert np.array_equal(IMAGE, given)
    assert (np.diff(reach) > 0).all(), reach
    assert reach[0] > 0.3 and reach[-1] < 110


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_any_number_of_channels_in_any_type(channels: int, dtype: type) -> None:
    image = scene(channels, 28, 20)
    full = 1 if dtype is np.float32 else np.iinfo(dtype).max
    given: np.ndarray = (image.astype(np.float64) / 255 * full).astype(dtype)
    for kind in GREY:
        for strength in (1, 5):
            made = done(given, kind, strength)
            assert made.shape == given.shape and made.dtype == dtype and not np.array_equal(made, given), kind
            assert made.min() >= 0 and made.max() <= full and made.flags.c_contiguous
            # whatever the type, the same is done
            eight = done(image, kind, strength).astype(np.float64)
            assert np.abs(made.astype(np.float64) / full * 255 - eight).mean() < 1.5, kind


@pytest.mark.parametrize("size", [(5, 7), (3, 40)])
def test_small_and_narrow_images(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (1, *size)).astype(np.uint8)
    mask = np.ones_like(image)
    for kind in GREY:
        for strength in (1, 5):
            made, moved = corrupt(image, mask, kind, strength, np.random.default_rng(1), True)
            assert made.shape == moved.shape == image.shape


def test_float_images_outside_0_and_1_keep_their_range() -> None:
    image = scene(1).astype(np.float32) * 20 - 1000
    for kind in GREY:
        made = done(image, kind, 3)
        assert image.min() - 1e-2 <= made.min() and made.max() <= max(1, image.max()) + 1e-2, kind
        assert np.abs(made - image).mean() > 1, kind
    assert np.corrcoef(done(image, "gaussian_blur", 1).ravel(), image.ravel())[0, 1] > 0.99


def test_the_generator_decides_to_the_bit_and_nothing_else_does() -> None:
    other = scene(3, 40, 40)
    for kind in KINDS:
        once = done(IMAGE, kind, 3, 5)
        np.random.seed(1)
        cv2.setRNGSeed(3)
        done(other, kind, 5, 9)
        np.random.seed(2)
        assert np.array_equal(once, done(IMAGE, kind, 3, 5)), kind
    drawn = [
        kind for kind in KINDS if len({zlib.crc32(done(IMAGE, kind, 3, seed).tobytes()) for seed in range(12)}) > 1
    ]
    assert set(KINDS) - set(drawn) == {"gaussian_blur", "defocus", "low_contrast", "jpeg", "pixelation"}


def labels(height: int = 64, width: int = 96) -> np.ndarray:
    """Large patches of four labels, uint8 (1, H, W)."""
    y, x = np.mgrid[:height, :width]
    mask = ((x > 40).astype(np.uint8) + 2 * (y + x // 3 > 40)).astype(np.uint8)
    mask[(y - 20) ** 2 + (x - 60) ** 2 < 150] = 2
    return mask[None]


@pytest.mark.parametrize("kind", sorted(GEOMETRY))
def test_a_mask_goes_where_its_image_goes(kind: str) -> None:
    mask = labels()
    outside = 0
    for strength in (1, 3, 5):
        for seed in range(TRIES):
            picture, moved = corrupt(mask * 80, mask, kind, strength, np.random.default_rng(seed), True)
            assert moved.dtype == np.uint8 and moved.shape == mask.shape and set(np.unique(moved)) <= {0, 1, 2, 3, 255}
            known = moved != 255
            # what the image shows there now, away from the borders between labels where it is a mixture
            flat = cv2.erode(picture[0], np.ones((3, 3))) == cv2.dilate(picture[0], np.ones((3, 3)))
            sure = known[0] & flat
            assert sure.mean() > 0.2 and np.array_equal(picture[0][sure], moved[0][sure] * 80)
            assert not np.array_equal(moved, mask)
            outside += int((~known).sum())
            alone = corrupt(mask * 80, LABEL, kind, strength, np.random.default_rng(seed), False)
            assert np.array_equal(alone[0], picture) and alone[1] is LABEL
    assert outside > 0


def test_what_comes_in_from_outside_is_a_reflection_without_a_label() -> None:
    mask = labels()
    generator = np.random.default_rng(next(s for s in range(9) if np.random.default_rng(s).random() >= 0.5))
    picture, moved = corrupt(mask * 80, mask, "zoom", 5, generator, True)  # made smaller by 1.7
    inside = np.argwhere(moved[0] != 255)
    assert tuple(np.ptp(inside, axis=0) + 1) == pytest.approx((64 / 1.7, 96 / 1.7), abs=1.5)
    assert picture[0][moved[0] == 255].std() > 10  # and not one grey


def test_what_does_not_move_pixels_leaves_targets() -> None:
    mask = labels()
    answers = np.array([[[0], [1], [255]]], np.uint8)
    number = np.array([[[np.nan]]], np.float32)
    for kind in KINDS:
        if kind not in GEOMETRY:
            assert np.array_equal(corrupt(IMAGE, mask, kind, 5, np.random.default_rng(0), True)[1], mask), kind
        for target in (answers, number):
            back = corrupt(IMAGE, target, kind, 5, np.random.default_rng(0), False)[1]
            assert back.dtype == target.dtype and np.array_equal(back, target, equal_nan=target is number)


def test_known_answers() -> None:
    flat = np.full((1, 40, 40), 100, np.uint8)
    stops = AMOUNTS["exposure"][1]
    assert (corrupt(flat, LABEL, "exposure", 2, rng_that(True), False)[0] == round(100 * 2**stops)).all()
    assert (corrupt(flat, LABEL, "exposure", 2, rng_that(False), False)[0] == round(100 / 2**stops)).all()
    exponent = AMOUNTS["gamma_shift"][2]
    assert (
        corrupt(flat, LABEL, "gamma_shift", 3, rng_that(True), False)[0] == round(255 * (100 / 255) ** exponent)
    ).all()
    halves = flat.copy()
    halves[:, :20] = 200
    assert set(np.unique(done(halves, "low_contrast", 3))) == {130, 170}  # 0.4 of 50 from 150
    dots = done(np.full((3, 100, 100), 100, np.uint8), "salt_and_pepper", 4)
    assert set(np.unique(dots)) == {0, 100, 255} and (dots == dots[:1]).all()
    assert (dots == 0).mean() == pytest.approx(0.055, abs=0.01) and (dots == 255).mean() == pytest.approx(
        0.055, abs=0.01
    )
    noise = done(np.full((3, 100, 100), 128, np.uint8), "gaussian_noise", 2) / 255
    assert noise.std() == pytest.approx(0.08, rel=0.03) and noise.mean() == pytest.approx(128 / 255, abs=0.003)
    grey = done(IMAGE, "saturation_shift", 5, next(s for s in range(9) if np.random.default_rng(s).random() < 0.5))
    assert (grey == grey[:1]).all()
    grid = done(IMAGE[:, :, :60], "pixelation", 5)  # 64 × 60 through 13 × 12
    assert len(np.unique(grid[0], axis=0)) <= 13 and len(np.unique(grid[0], axis=1).T) <= 12
    covered = [(done(flat, "occlusion", 4, seed) != 100).mean() for seed in range(40)]
    assert 0.12 < np.mean(covered) <= 0.24
    bands = done(np.full((1, 60, 100), 100, np.uint8), "bands", 5, 3)[0]
    assert (bands == bands[:, :1]).all() or (bands == bands[:1]).all()


def test_jpeg_is_opencvs() -> None:
    pixels = np.ascontiguousarray(IMAGE.transpose(1, 2, 0))
    for strength, quality in enumerate((50, 30, 18, 10, 5), start=1):
        _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        assert decoded is not None
        assert np.array_equal(done(IMAGE, "jpeg", strength), decoded.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("kind", "transform"),
    [
        ("rotation", albumentations.Affine(rotate=(20, 20), border_mode=cv2.BORDER_REFLECT_101, p=1)),
        ("hue_shift", albumentations.ColorJitter((1, 1), (1, 1), (1, 1), (34 / 360, 34 / 360), p=1)),
        ("low_contrast", albumentations.ColorJitter((1, 1), (0.4, 0.4), (1, 1), (0, 0), p=1)),
    ],
)
def test_the_same_as_albumentations_own_transform(kind: str, transform: albumentations.BasicTransform) -> None:
    image, mask = IMAGE.astype(np.float32) / 255, labels()
    given = {"image": np.ascontiguousarray(image.transpose(1, 2, 0)), "mask": mask[0]}
    expected = albumentations.Compose([transform])(**given)
    made, moved = corrupt(image, mask, kind, 3, rng_that(True), True)
    np.testing.assert_allclose(made.transpose(1, 2, 0), expected["image"], atol=1e-4)
    known = moved[0] != 255  # albumentations reflects masks too
    assert known.mean() > 0.8 and np.array_equal(moved[0][known], expected["mask"][known])


def test_what_cannot_be_done_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no corruption 'gausian_noise'; did you mean 'gaussian_noise'?"):
        corrupt(IMAGE, LABEL, "gausian_noise", 1, rng, False)
    with pytest.raises(ValueError, match="strength 6"):
        corrupt(IMAGE, LABEL, "jpeg", 6, rng, False)
    with pytest.raises(ValueError, match="hue_shift needs images of 3 channels, this one has 1"):
        corrupt(IMAGE[:1], LABEL, "hue_shift", 1, rng, False)
    with pytest.raises(ValueError, match="does not fit"):
        corrupt(IMAGE, LABEL, "rotation", 1, rng, True)
