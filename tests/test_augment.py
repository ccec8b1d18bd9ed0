"""Augmentation: flips by hand, amounts by hand, and random parameters that depend on the generator alone."""

from __future__ import annotations

import pytest
import torch

from podium.augment import Draws, augment, draw
from podium.config import AugmentSettings

NOTHING = AugmentSettings(flip_h=0)
IMAGES = torch.tensor([[[[0, 51, 102], [153, 204, 255]]], [[[10, 20, 30], [40, 50, 60]]]], dtype=torch.uint8)
TARGETS = torch.tensor([[[0, 1, 2], [3, 255, 1]], [[3, 2, 1], [0, 1, 2]]], dtype=torch.uint8)


def draws(n: int = 2, **given: list[float]) -> Draws:
    """Parameters that change nothing, except those given."""
    values: dict[str, torch.Tensor] = {
        "flip_h": torch.zeros(n, dtype=torch.bool),
        "flip_v": torch.zeros(n, dtype=torch.bool),
        "contrast": torch.ones(n),
        "brightness": torch.zeros(n),
        "noise": torch.zeros(n),
    }
    return Draws(**(values | {name: torch.tensor(value) for name, value in given.items()}))


def test_without_amounts_it_only_scales():
    # parameters that would change everything, switched off by the settings
    wild = draws(flip_h=[True, True], flip_v=[True, True], contrast=[5.0, 5.0], brightness=[1.0, 1.0], noise=[1.0, 1.0])
    x, y = augment(IMAGES, TARGETS, wild, NOTHING)
    assert x.dtype == torch.float32 and y.dtype == torch.uint8
    torch.testing.assert_close(x[0, 0], torch.tensor([[0.0, 0.2, 0.4], [0.6, 0.8, 1.0]]))
    torch.testing.assert_close(x, IMAGES / 255)
    assert (y == TARGETS).all()


@pytest.mark.parametrize(("dtype", "scale"), [(torch.uint8, 255.0), (torch.uint16, 65535.0), (torch.float32, 2.0)])
def test_images_of_any_depth_are_divided_by_their_scale_and_left_as_they_are(dtype, scale):
    images = (IMAGES.to(torch.float64) / 255 * scale).round(decimals=6 if dtype.is_floating_point else 0).to(dtype)
    before = images.to(torch.float64)
    plain = AugmentSettings(flip_h=0.5, flip_v=0.5)
    given = draws(flip_h=[True, False], flip_v=[False, True])
    for settings, expected in ((NOTHING, IMAGES), (plain, torch.stack([IMAGES[0].flip(-1), IMAGES[1].flip(-2)]))):
        x, _ = augment(images, TARGETS, given, settings, scale)
        assert x.dtype == torch.float32
        torch.testing.assert_close(x, expected / 255, rtol=1e-5, atol=1e-5)
    wild = AugmentSettings(flip_h=0, brightness=0.1, contrast=0.1, noise=0.1)
    augment(images, TARGETS, draws(contrast=[2.0, 0.5], brightness=[0.1, 0.2], noise=[0.3, 0.1]), wild, scale)
    assert torch.equal(images.to(torch.float64), before)


def test_labels_stay_when_their_images_are_flipped():
    labels = torch.tensor([2, 255], dtype=torch.uint8).view(2, 1, 1)
    both = draws(flip_h=[True, True], flip_v=[True, False])
    _, y = augment(IMAGES, labels, both, AugmentSettings(flip_h=0.5, flip_v=0.5))
    assert torch.equal(y, labels)


def test_a_horizontal_flip_moves_image_and_target_alike_and_only_where_drawn():
    x, y = augment(IMAGES, TARGETS, draws(flip_h=[True, False]), AugmentSettings(flip_h=0.5))
    assert (x[0, 0] * 255).round().int().tolist() == [[102, 51, 0], [255, 204, 153]]
    assert y[0].tolist() == [[2, 1, 0], [1, 255, 3]]
    torch.testing.assert_close(x[1], IMAGES[1] / 255)
    assert (y[1] == TARGETS[1]).all()


def test_a_vertical_flip_and_both():
    both = draws(flip_h=[False, True], flip_v=[True, True])
    x, y = augment(IMAGES, TARGETS, both, AugmentSettings(flip_h=0.5, flip_v=0.5))
    assert (x[0, 0] * 255).round().int().tolist() == [[153, 204, 255], [0, 51, 102]]
    assert y[0].tolist() == [[3, 255, 1], [0, 1, 2]]
    assert (x[1, 0] * 255).round().int().tolist() == [[60, 50, 40], [30, 20, 10]]
    assert y[1].tolist() == [[2, 1, 0], [1, 2, 3]]


def test_what_comes_in_is_not_changed():
    before, labels = IMAGES.clone(), TARGETS.clone()
    settings = AugmentSettings(flip_h=0.5, flip_v=0.5, brightness=0.1, contrast=0.1, noise=0.1)
    augment(IMAGES, TARGETS, draw(settings, 2, torch.Generator().manual_seed(1)), settings)
    assert (before == IMAGES).all() and (labels == TARGETS).all()


def test_contrast_stretches_about_each_images_mean():
    x, _ = augment(IMAGES, TARGETS, draws(contrast=[2.0, 0.5]), AugmentSettings(flip_h=0, contrast=0.5))
    # the first image has mean 0.5: 0 → -0.5, 1 → 1.5; the second mean 35 / 255
    torch.testing.assert_close(x[0, 0], torch.tensor([[-0.5, -0.1, 0.3], [0.7, 1.1, 1.5]]))
    torch.testing.assert_close(x[1, 0] * 255, torch.tensor([[22.5, 27.5, 32.5], [37.5, 42.5, 47.5]]))
    torch.testing.assert_close(x.mean((1, 2, 3)), torch.tensor([0.5, 35 / 255]))


def test_contrast_is_about_the_mean_of_all_channels():
    images = torch.stack([torch.full((2, 2), 0), torch.full((2, 2), 255)]).to(torch.uint8)[None]
    one = draws(1, contrast=[0.5])
    x, _ = augment(images, TARGETS[:1], one, AugmentSettings(flip_h=0, contrast=0.5))
    torch.testing.assert_close(x[0, :, 0, 0], torch.tensor([0.25, 0.75]))


def test_brightness_adds():
    x, _ = augment(IMAGES, TARGETS, draws(brightness=[0.1, -0.2]), AugmentSettings(flip_h=0, brightness=0.2))
    torch.testing.assert_close(x - IMAGES / 255, torch.tensor([0.1, -0.2]).view(2, 1, 1, 1).expand(x.shape))


def test_noise_has_each_samples_own_standard_deviation():
    torch.manual_seed(0)
    grey = torch.full((2, 1, 100, 100), 51, dtype=torch.uint8)
    target = torch.zeros((2, 100, 100), dtype=torch.uint8)
    x, _ = augment(grey, target, draws(noise=[0.01, 0.1]), AugmentSettings(flip_h=0, noise=0.1))
    # 10,000 draws: the standard deviation of their standard deviation is 0.7 % of it
    assert x[0].std().item() == pytest.approx(0.01, rel=0.04)
    assert x[1].std().item() == pytest.approx(0.1, rel=0.04)
    assert x[0].mean().item() == pytest.approx(0.2, abs=5e-4)


def test_draws_depend_on_the_generator_alone_and_stay_in_their_ranges():
    settings = AugmentSettings(flip_h=0.25, flip_v=1.0, brightness=0.1, contrast=0.2, noise=0.05)
    first = draw(settings, 4000, torch.Generator().manual_seed(3))
    torch.manual_seed(99)
    torch.rand(7)
    again = draw(settings, 4000, torch.Generator().manual_seed(3))
    other = draw(settings, 4000, torch.Generator().manual_seed(4))
    for name, value in vars(first).items():
        assert torch.equal(value, getattr(again, name)), name
        assert name == "flip_v" or not torch.equal(value, getattr(other, name)), name
    assert first.flip_v.all()
    assert first.flip_h.float().mean().item() == pytest.approx(0.25, abs=0.03)
    for value, low, high in ((first.contrast, 0.8, 1.2), (first.brightness, -0.1, 0.1), (first.noise, 0, 0.05)):
        assert low <= value.min() < low + 0.01 * (high - low) and high - 0.01 * (high - low) < value.max() <= high


def test_a_slice_of_the_draws_is_the_draws_of_a_slice():
    settings = AugmentSettings(flip_h=0.5, flip_v=0.5, brightness=0.1, contrast=0.2)
    every = draw(settings, 2, torch.Generator().manual_seed(5))
    whole = augment(IMAGES, TARGETS, every, settings)
    part = augment(IMAGES[1:], TARGETS[1:], every[1:2], settings)
    assert torch.equal(whole[0][1:], part[0]) and torch.equal(whole[1][1:], part[1])
