"""albumentations by name: what it is given, that image and mask move together, and mistakes found before a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import albumentations
import numpy as np
import pytest

from podium.augment_per_image import PerImage, check_per_image
from podium.config_augment import PerImageSettings
from podium.config_file import load_recipe
from podium.errors import UserError

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 255, (1, 16, 32)).astype(np.uint8)
MASK = (IMAGE[0] // 64).astype(np.uint8)


def listed(*items: dict[str, Any]) -> list[PerImageSettings]:
    return [PerImageSettings.model_validate({"p": 1.0} | item) for item in items]


@pytest.mark.parametrize(
    "item",
    [
        {"name": "ElasticTransform", "alpha": 60, "sigma": 4},
        {"name": "GridDistortion", "distort_limit": [-0.4, 0.4]},
        {"name": "ShiftScaleRotate", "shift_limit": 0.2, "rotate_limit": [-30, 30]},
        {"name": "Affine", "translate_percent": {"x": [-0.2, 0.2], "y": [0, 0]}, "rotate": [-20, 20]},
    ],
)
def test_what_moves_pixels_moves_labels_and_brings_none_in(item: dict[str, Any]) -> None:
    change = PerImage(listed(item))
    flat = np.full_like(IMAGE, 200)
    for seed in range(10):
        image, mask = change(IMAGE, MASK, seed)
        assert image.shape == IMAGE.shape and image.dtype == np.uint8 and mask.dtype == np.uint8
        assert not np.array_equal(image, IMAGE) and set(np.unique(mask)) <= {0, 1, 2, 3, 255}
        # an even image and a mask of one class: what is black came from outside, and has no label
        moved, labels = change(flat, np.ones_like(MASK), seed)
        assert (labels[moved[0] == 0] == 255).all() and (labels[moved[0] == 200] == 1).mean() > 0.97
    pictures = [change(IMAGE, MASK, seed)[1] for seed in range(10)]
    assert any((mask == 255).any() for mask in pictures)


def test_what_hides_pixels_leaves_their_labels_unless_asked() -> None:
    dropout = {"name": "GridDropout", "ratio": 0.4, "unit_size_range": [4, 8]}
    bright = np.full_like(IMAGE, 200)
    image, mask = PerImage(listed(dropout))(bright, MASK, 0)
    assert 0.05 < (image == 0).mean() < 0.5 and np.array_equal(mask, MASK)
    image, mask = PerImage(listed(dropout | {"fill_mask": 255}))(bright, MASK, 0)
    assert np.array_equal(mask, np.where(image[0] == 0, 255, MASK))


def test_an_elastic_transform_is_albumentations_own() -> None:
    own = albumentations.Compose([albumentations.ElasticTransform(alpha=60, sigma=4, p=1.0, fill_mask=255)])
    own.set_random_seed(7)
    expected = own(image=IMAGE.transpose(1, 2, 0), mask=MASK)
    image, mask = PerImage(listed({"name": "ElasticTransform", "alpha": 60, "sigma": 4}))(IMAGE, MASK, 7)
    assert np.array_equal(image[0], np.squeeze(expected["image"])) and np.array_equal(mask, expected["mask"])


@pytest.mark.parametrize("name", ["PiecewiseAffine", "ShiftScaleRotate"])
def test_transforms_that_albumentations_advises_against_are_done_all_the_same(name: str) -> None:
    assert not np.array_equal(PerImage(listed({"name": name}))(IMAGE, MASK, 0)[0], IMAGE)


def test_blocks_of_transforms() -> None:
    flips = [{"name": "HorizontalFlip"}, {"name": "VerticalFlip"}]
    one = PerImage(listed({"name": "OneOf", "transforms": flips}))
    made = [one(IMAGE, MASK, seed) for seed in range(20)]
    seen = {axis for image, _ in made for axis in (1, 2) if np.array_equal(image, np.flip(IMAGE, axis))}
    assert seen == {1, 2}
    for image, mask in made:
        axis = 1 if np.array_equal(image, np.flip(IMAGE, 1)) else 2
        assert np.array_equal(image, np.flip(IMAGE, axis)) and np.array_equal(mask, np.flip(MASK, axis - 1))
    always = [{"name": "HorizontalFlip", "p": 1.0}, {"name": "VerticalFlip", "p": 1.0}]
    deep = {"name": "Sequential", "transforms": [{"name": "SomeOf", "n": 2, "p": 1.0, "transforms": always}]}
    image, mask = PerImage(listed(deep))(IMAGE, MASK, 3)
    assert np.array_equal(image, IMAGE[:, ::-1, ::-1]) and np.array_equal(mask, MASK[::-1, ::-1])


def test_inside_a_block_too_the_seed_decides() -> None:
    block = listed(
        {"name": "SomeOf", "n": 1, "transforms": [{"name": "RandomGamma", "gamma_limit": [40, 250]}, {"name": "Affine", "rotate": 30}]}
    )  # fmt: skip
    once, again = PerImage(block), PerImage(block)
    again(IMAGE, MASK, 1)
    for seed in range(5):
        assert np.array_equal(once(IMAGE, MASK, seed)[0], again(IMAGE, MASK, seed)[0])
    assert len({once(IMAGE, MASK, seed)[0].tobytes() for seed in range(20)}) > 4


def test_lists_and_nested_options_come_from_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(
        "net: {name: residual_unet, widths: [4, 8]}\n"
        "augment:\n  per_image:\n"
        "    - {name: Affine, p: 0.7, translate_px: {x: [3, 5], y: [-2, 2]}}\n"
        "    - {name: OneOf, transforms: [{name: GridDropout, unit_size_range: [4, 8]}, {name: ElasticTransform}]}\n"
    )
    settings = load_recipe(path).augment.per_image
    assert [item.p for item in settings] == [0.7, 0.5]
    image, _ = PerImage(settings)(IMAGE, MASK, 0)
    assert image.shape == IMAGE.shape


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"name": "Elastic"}, "augment.per_image: albumentations has no 'Elastic'; did you mean 'ElasticTransform'. see its list"),
        ({"name": "Compose"}, "albumentations has no 'Compose'; "),
        ({"name": "DualTransform"}, "albumentations has no 'DualTransform'; "),
        ({"name": "GridDropout", "ratio": 3}, "GridDropout: ratio Input should be less than or equal to 1; correct its options"),
        ({"name": "GridDropout", "unit_size": 3}, "GridDropout: .*unit_size.*; correct its options"),
        ({"name": "SomeOf", "m": 3, "transforms": [{"name": "CLAHE"}]}, "SomeOf: .*'m'; correct its options"),
        ({"name": "OneOf"}, "OneOf: it needs transforms, each with a name"),
        ({"name": "OneOf", "transforms": "CLAHE"}, "OneOf: it needs transforms, each with a name"),
        ({"name": "OneOf", "transforms": [{"p": 1}]}, "OneOf: it needs transforms, each with a name"),
        ({"name": "OneOf", "transforms": [{"name": "CLAH"}]}, "albumentations has no 'CLAH'; did you mean 'CLAHE'?"),
        ({"name": "ElasticTransform", "mask_interpolation": 1}, "ElasticTransform: mask_interpolation 1 would make new classes"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(item: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        PerImage(listed(item))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("item", "dtype", "said"),
    [
        ({"name": "Normalize"}, np.uint8, "per_image: Normalize: images become \\(16, 32\\) float32 from \\(16, 32\\) uint8; "),
        ({"name": "RandomRotate90"}, np.uint8, "per_image: RandomRotate90: images become \\(32, 16\\)"),
        ({"name": "RandomCrop", "height": 8, "width": 8}, np.uint8, "per_image: RandomCrop: images become \\(8, 8\\)"),
        ({"name": "HueSaturationValue"}, np.uint8, "HueSaturationValue cannot be done to images of shape \\(1, 16, 32\\) and type uint8: "),
        ({"name": "FDA"}, np.uint8, "FDA cannot be done to images .*; remove it or correct its options"),
        ({"name": "Posterize"}, np.uint16, "Posterize cannot be done to images of shape \\(1, 16, 32\\) and type uint16: "),
    ],
)  # fmt: skip
def test_what_images_do_not_allow_is_found_by_trying(item: dict[str, Any], dtype: Any, said: str) -> None:
    rare = item | {"p": 0.001}  # tried all the same
    with pytest.raises(UserError, match=said):
        check_per_image(listed(rare), (1, 16, 32), dtype, True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_can_be_done_passes(dtype: Any, channels: int) -> None:
    fine = listed({"name": "ElasticTransform"}, {"name": "GridDropout"}, {"name": "Affine", "rotate": 20})
    for masks in (True, False):
        check_per_image(fine, (channels, 16, 32), dtype, masks)
    check_per_image([], (channels, 16, 32), dtype, True)
