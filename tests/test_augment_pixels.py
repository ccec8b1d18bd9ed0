"""Brightness, contrast, gamma, noise, blur, colour and cutout: by hand, and as scipy, torchvision and colorsys do them."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torchvision.transforms.v2 import functional  # type: ignore[import-untyped]

from augmenting import done, drawn, masks_of, pictures

IMAGES = torch.tensor([[[[0.0, 0.2, 0.4], [0.6, 0.8, 1.0]]], [[[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]]])


def always(name: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "p": 1.0} | options


def test_brightness_adds() -> None:
    x, _ = done(IMAGES, None, always("brightness", shift=[-0.2, -0.2]))
    torch.testing.assert_close(x, IMAGES - 0.2)
    x, _ = done(pictures(50), None, always("brightness", shift=[-0.3, 0.3]))
    added = x - pictures(50)
    torch.testing.assert_close(added, drawn(50, always("brightness", shift=[-0.3, 0.3])).steps[0][0].values["shift"]
                               .view(50, 1, 1, 1).expand(50, 1, 8, 8), atol=1e-6, rtol=0)  # fmt: skip
    assert len(added[:, 0, 0, 0].unique()) == 50


def test_contrast_stretches_about_each_images_own_mean_and_clips_nothing() -> None:
    x, _ = done(IMAGES, None, always("contrast", factor=[2, 2]))
    # the first image has mean 0.5: 0 → -0.5, 1 → 1.5; the second 0.35
    torch.testing.assert_close(x[0, 0], torch.tensor([[-0.5, -0.1, 0.3], [0.7, 1.1, 1.5]]))
    torch.testing.assert_close(x[1, 0], torch.tensor([[-0.15, 0.05, 0.25], [0.45, 0.65, 0.85]]))
    x, _ = done(IMAGES, None, always("contrast", factor=[0, 0]))
    torch.testing.assert_close(x.amax((1, 2, 3)), torch.tensor([0.5, 0.35]))
    torch.testing.assert_close(x.amin((1, 2, 3)), torch.tensor([0.5, 0.35]))


def test_contrast_is_about_the_mean_of_all_channels() -> None:
    images = torch.stack([torch.zeros(2, 2), torch.ones(2, 2)])[None]
    x, _ = done(images, None, always("contrast", factor=[0.5, 0.5]))
    torch.testing.assert_close(x[0, :, 0, 0], torch.tensor([0.25, 0.75]))


def test_gamma_is_a_power_and_goes_on_below_zero() -> None:
    x, _ = done(IMAGES, None, always("gamma", exponent=[2, 2]))
    torch.testing.assert_close(x, IMAGES**2)
    x, _ = done(IMAGES - 0.5, None, always("gamma", exponent=[3, 3]))
    torch.testing.assert_close(x, (IMAGES - 0.5) ** 3)
    torch.testing.assert_close(
        done(IMAGES, None, always("gamma", exponent=[0.7, 0.7]))[0], functional.adjust_gamma(IMAGES, 0.7)
    )


def test_noise_has_each_samples_own_standard_deviation() -> None:
    torch.manual_seed(0)
    grey = torch.full((20, 2, 50, 100), 0.2)
    wanted = drawn(20, always("noise", std=[0.01, 0.1]), shape=(2, 50, 100)).steps[0][0].values["std"]
    x, _ = done(grey, None, always("noise", std=[0.01, 0.1]))
    # 10,000 draws: the standard deviation of their standard deviation is 0.7 % of it
    assert x.std((1, 2, 3)).tolist() == pytest.approx(wanted.tolist(), rel=0.04)
    assert x.mean((1, 2, 3)).tolist() == pytest.approx([0.2] * 20, abs=5e-3)
    assert wanted.max() / wanted.min() > 3
    found = (x[0] - 0.2).flatten()
    assert (found.abs() > 3 * wanted[0]).float().mean().item() == pytest.approx(0.0027, abs=0.002)  # as of a Gaussian
    # samples and channels are drawn apart
    assert np.abs(np.corrcoef((x - 0.2).view(40, -1).numpy()) - np.eye(40)).max() < 0.08


def test_noise_follows_torchs_global_generator() -> None:
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(done(IMAGES, None, always("noise"))[0])
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


# ---------------------------------------------------------------- blur


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.3])
def test_blur_is_scipys_gaussian(sigma: float) -> None:
    images = pictures(3, 2, 20, 31)
    x, _ = done(images, None, always("blur", sigma=[sigma, sigma]))
    expected = ndimage.gaussian_filter(
        images.numpy(), (0, 0, sigma, sigma), mode="mirror", radius=(0, 0, *[int(np.ceil(3 * sigma))] * 2)
    )
    np.testing.assert_allclose(x.numpy(), expected, atol=1e-6)


def test_every_sample_is_blurred_by_its_own_sigma() -> None:
    images = pictures(20, 1, 24, 24)
    batch = always("blur", sigma=[0.3, 2.0])
    weights = drawn(20, batch, shape=(1, 24, 24)).steps[0][0].values["weights"]
    x, _ = done(images, None, batch)
    sigmas = (-0.5 / (weights[:, 1] / weights[:, 0]).log()).sqrt().numpy()
    assert 0.3 <= sigmas.min() < 0.5 and 1.7 < sigmas.max() < 2
    for row, sigma in enumerate(sigmas):
        expected = ndimage.gaussian_filter(images[row, 0].numpy(), sigma, mode="mirror", radius=6)
        np.testing.assert_allclose(x[row, 0].numpy(), expected, atol=1e-5)


def test_a_blur_of_almost_nothing_changes_nothing() -> None:
    images = pictures(3)
    assert torch.equal(done(images, None, always("blur", sigma=[0.0, 1e-4]))[0], images)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (2, 3), (1, 1)])
def test_blur_of_images_smaller_than_its_reach_keeps_what_is_even(shape: tuple[int, int]) -> None:
    images = pictures(3, 1, *shape)
    x, _ = done(images, None, always("blur", sigma=[3, 3]))
    assert torch.isfinite(x).all() and (x.amax((1, 2, 3)) <= images.amax((1, 2, 3)) + 1e-6).all()
    even = torch.full((2, 1, *shape), 0.4)
    torch.testing.assert_close(done(even, None, always("blur", sigma=[3, 3]))[0], even)


# ---------------------------------------------------------------- colour

STILL = {"hue": [0, 0], "saturation": [1, 1], "gain": [1, 1]}


def test_saturation_is_torchvisions() -> None:
    images = pictures(4, 3)
    for factor in (0.0, 0.6, 1.3):
        x, _ = done(images, None, always("colour", **STILL | {"saturation": [factor, factor]}))
        grey = functional.rgb_to_grayscale(images)
        torch.testing.assert_close(x, factor * images + (1 - factor) * grey, rtol=0, atol=2e-3)  # its luma is rounded
        clipped = functional.adjust_saturation(images, factor)
        torch.testing.assert_close(x.clamp(0, 1), clipped, rtol=0, atol=2e-3)


def test_gains_are_of_each_channel() -> None:
    images = pictures(500, 3, 2, 2) + 0.1
    x, _ = done(images, None, always("colour", **STILL | {"gain": [0.5, 2.0]}))
    gains = x / images
    torch.testing.assert_close(gains, gains.mean((2, 3), keepdim=True).expand(500, 3, 2, 2), rtol=1e-4, atol=1e-4)
    gains = gains.mean((2, 3))
    assert (
        (gains.amin(0) < 0.53).all()
        and (gains.amax(0) > 1.97).all()
        and gains.min() >= 0.4999
        and gains.max() <= 2.0001
    )
    assert (np.corrcoef(gains.T.numpy())[np.triu_indices(3, 1)] < 0.15).all()


def test_hue_turns_colours_and_leaves_greys_and_luma() -> None:
    images = pictures(4, 3)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    for degrees in (-120, 25, 180):
        x, _ = done(images, None, always("colour", **STILL | {"hue": [degrees, degrees]}))
        torch.testing.assert_close((x * luma).sum(1), (images * luma).sum(1), rtol=0, atol=1e-5)
        grey = images[:, :1].expand(4, 3, 8, 8).contiguous()
        torch.testing.assert_close(
            done(grey, None, always("colour", **STILL | {"hue": [degrees, degrees]}))[0], grey, rtol=0, atol=1e-3
        )
    # there and back
    once = done(images, None, always("colour", **STILL | {"hue": [40, 40]}))[0]
    torch.testing.assert_close(
        done(once, None, always("colour", **STILL | {"hue": [-40, -40]}))[0], images, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("colour", [(0.6, 0.4, 0.4), (0.4, 0.6, 0.4), (0.4, 0.4, 0.6), (0.55, 0.6, 0.4)])
def test_hue_turns_the_way_of_the_colour_circle(colour: tuple[float, float, float]) -> None:
    image = torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 2, 2).contiguous()
    x, _ = done(image, None, always("colour", **STILL | {"hue": [30, 30]}))
    before, after = (360 * colorsys.rgb_to_hsv(*made[0, :, 0, 0].tolist())[0] for made in (image, x))
    # the circle of YIQ is not that of HSV, but near it
    assert (after - before) % 360 == pytest.approx(30, abs=15)


def test_colours_may_all_change_at_once() -> None:
    images = pictures(3, 3)
    hue, saturation = {"hue": [20, 20]}, {"saturation": [1.4, 1.4]}
    one = done(images, None, always("colour", **STILL | hue), always("colour", **STILL | saturation))[0]
    both = done(images, None, always("colour", **STILL | hue | saturation))[0]
    torch.testing.assert_close(one, both, rtol=0, atol=1e-5)
    gains = done(images, None, always("colour", **STILL | hue | {"gain": [0.8, 0.8]}))[0]
    torch.testing.assert_close(gains, 0.8 * done(images, None, always("colour", **STILL | hue))[0])


# ---------------------------------------------------------------- cutout


def hidden(x: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return (x != images).any(1)


def test_cutout_hides_a_rectangle_of_its_size_anywhere_in_the_image() -> None:
    images = pictures(3000, 2, 10, 20) + 1
    x, _ = done(images, None, always("cutout", size=[0.3, 0.3], fill="zero"))
    gone = hidden(x, images)
    assert (gone.sum((1, 2)) == 3 * 6).all() and (x[:, 0][gone] == 0).all() and (x[:, 1][gone] == 0).all()
    rows, columns = gone.any(2), gone.any(1)
    assert (rows.sum(1) == 3).all() and (columns.sum(1) == 6).all()
    # 8 and 15 places for its upper left corner, each as likely
    for found, places in ((rows, 8), (columns, 15)):
        first = found.to(torch.uint8).argmax(1).bincount()
        assert len(first) == places and first.min() > 0.7 * 3000 / places
    assert (gone.any(2).int().diff(dim=1).abs().sum(1) <= 2).all()  # in one piece


def test_cutout_draws_height_and_width_apart() -> None:
    images = pictures(2000, 1, 20, 20) + 1
    gone = hidden(done(images, None, always("cutout", size=[0.1, 0.6]))[0], images)
    heights, widths = gone.any(2).sum(1), gone.any(1).sum(1)
    for found in (heights, widths):
        assert found.min() == 2 and found.max() == 12
    assert abs(np.corrcoef(heights.numpy(), widths.numpy())[0, 1]) < 0.08


def test_cutout_fills_with_the_mean_of_each_channel() -> None:
    images = pictures(20, 3, 12, 12)
    x, _ = done(images, None, always("cutout", size=[0.5, 0.5]))
    mean = images.mean((2, 3))[..., None, None].expand_as(images)
    gone = hidden(x, images)[:, None].expand_as(images)
    torch.testing.assert_close(x[gone], mean[gone])
    assert torch.equal(x[~gone], images[~gone])


def test_cutout_of_everything_and_of_nothing() -> None:
    images = pictures(3, 1, 7, 9)
    assert (done(images, None, always("cutout", size=[1, 1], fill="zero"))[0] == 0).all()
    assert torch.equal(done(images, None, always("cutout", size=[0.0, 1e-3]))[0], images)


def test_several_rectangles() -> None:
    images = pictures(300, 1, 20, 20) + 1
    gone = hidden(done(images, None, always("cutout", size=[0.1, 0.1], count=3, fill="zero"))[0], images)
    areas = gone.sum((1, 2))
    assert areas.max() == 12 and (areas >= 4).all() and (areas == 12).float().mean() > 0.8


def test_labels_of_what_is_hidden_are_kept_or_dropped() -> None:
    images = pictures(30, 1, 10, 10) + 1
    targets = masks_of(images - 1)
    for labels in ("keep", "drop"):
        batch = {"name": "cutout", "p": 0.5, "fill": "zero", "labels": labels}
        x, y = done(images, targets, batch)
        gone = hidden(x, images)
        assert 0 < gone.any((1, 2)).sum() < 30
        expected = targets if labels == "keep" else targets.masked_fill(gone, 255)
        assert torch.equal(y, expected)
