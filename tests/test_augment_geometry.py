"""Flips, turns and affine maps: exact where they can be, otherwise as scipy resamples, and masks move with their images."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn.functional import affine_grid

from augmenting import done, drawn, masks_of, pictures
from podium.augment import geometry

STILL = {"rotate": [0, 0], "scale": [1, 1], "shift": [0, 0], "shear": [0, 0]}


def affine(**ranges: Any) -> dict[str, Any]:
    """An affine map of every sample, the same where a single number is given."""
    given = {key: [value, value] if isinstance(value, int | float) else value for key, value in ranges.items()}
    return {"name": "affine", "p": 1.0} | STILL | given


def resampled(
    image: np.ndarray, matrix: np.ndarray, shift: np.ndarray, order: int, mode: str, cval: float
) -> np.ndarray:
    """scipy's: row and column (from the centre) of where each pixel comes from."""
    centre = (np.array(image.shape) - 1) / 2
    return ndimage.affine_transform(image, matrix, centre - matrix @ centre + shift, order=order, mode=mode, cval=cval)


# ---------------------------------------------------------------- by index


def test_flips_by_hand() -> None:
    image = torch.tensor([[[[0.0, 1, 2], [3, 4, 5]]]])
    target = torch.tensor([[[0, 1, 2], [3, 255, 1]]], dtype=torch.uint8)
    one = {"p": 1.0}
    x, y = done(image, target, {"name": "flip_h"} | one)
    assert x[0, 0].tolist() == [[2, 1, 0], [5, 4, 3]] and y[0].tolist() == [[2, 1, 0], [1, 255, 3]]
    x, y = done(image, target, {"name": "flip_v"} | one)
    assert x[0, 0].tolist() == [[3, 4, 5], [0, 1, 2]] and y[0].tolist() == [[3, 255, 1], [0, 1, 2]]
    x, y = done(image, target, {"name": "flip_v"} | one, {"name": "flip_h"} | one)
    assert x[0, 0].tolist() == [[5, 4, 3], [2, 1, 0]] and y[0].tolist() == [[1, 255, 3], [2, 1, 0]]


def test_a_flip_is_done_only_where_drawn() -> None:
    images = pictures(50, 2, 4, 6)
    targets = masks_of(images)
    *_, mirrored, _ = drawn(50, "flip_h", shape=(2, 4, 6)).steps[0]
    x, y = done(images, targets, "flip_h")
    assert 10 < len(mirrored) < 40
    for row in range(50):
        turned = row in mirrored.at
        assert torch.equal(x[row], images[row].flip(-1) if turned else images[row])
        assert torch.equal(y[row], targets[row].flip(-1) if turned else targets[row])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_quarter_turns_are_numpys_to_the_bit_and_each_as_likely(dtype: torch.dtype) -> None:
    images = (pictures(300, 3, 5, 5) * 200).to(dtype)
    targets = (images[:, 0]).to(torch.uint8)
    x, y = done(images, targets, {"name": "turn90", "p": 0.75})
    seen = [0, 0, 0, 0]
    for row in range(300):
        turns = [k for k in range(4) if torch.equal(x[row], images[row].float().rot90(k, (-2, -1)))]
        assert len(turns) == 1 and torch.equal(y[row], targets[row].rot90(turns[0], (-2, -1)))
        seen[turns[0]] += 1
    assert min(seen) > 50


def test_flips_and_turns_in_any_order_are_what_they_are_one_after_the_other() -> None:
    images = pictures(40, 1, 6, 6)
    targets = masks_of(images)
    flips = {"flip_h": {"name": "flip_h", "p": 1.0}, "flip_v": {"name": "flip_v", "p": 1.0}, "turn90": "turn90"}
    for order in itertools.permutations(flips):
        x, y = done(images, targets, *(flips[name] for name in order))
        seen = set()
        for row, k in itertools.product(range(40), range(4)):
            made, mask = images[row], targets[row]
            for name in order:
                axis = {"flip_h": -1, "flip_v": -2}.get(name)
                made = made.rot90(k, (-2, -1)) if axis is None else made.flip(axis)
                mask = mask.rot90(k, (-2, -1)) if axis is None else mask.flip(axis)
            if torch.equal(x[row], made):
                assert torch.equal(y[row], mask)
                seen.add((row, k))
        assert {row for row, _ in seen} == set(range(40)) and {k for _, k in seen} == {0, 1, 2, 3}, order


def test_nothing_is_resampled_without_an_affine_map(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any, **options: Any) -> torch.Tensor:
        raise AssertionError("resampled")

    monkeypatch.setattr(geometry, "grid_sample", refuse)
    images = pictures(30, 1, 6, 6)
    done(images, masks_of(images), "flip_h", "turn90", "flip_v")
    wide = pictures(30, 1, 6, 8)
    half_turns = done(wide, masks_of(wide), "flip_h", "flip_v")
    assert half_turns[0].shape == wide.shape
    with pytest.raises(AssertionError, match="resampled"):
        done(images, masks_of(images), "flip_h", "affine")


def test_no_pixel_is_interpolated_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    real = geometry.grid_sample

    def count(x: torch.Tensor, grid: torch.Tensor, mode: str, *rest: Any, **options: Any) -> torch.Tensor:
        counted.append((mode, len(x)))
        return real(x, grid, mode, *rest, **options)

    monkeypatch.setattr(geometry, "grid_sample", count)
    images = pictures(8, 3, 6, 6)
    done(images, masks_of(images), "flip_h", affine(rotate=10), "turn90", affine(shear=9), "flip_v")
    assert counted == [("bilinear", 8), ("nearest", 8)]
    counted.clear()
    done(images, None, affine(rotate=10), affine(shear=9))
    assert counted == [("bilinear", 8)]


# ---------------------------------------------------------------- affine, exact cases


@pytest.mark.parametrize("fill", ["reflect", "mean", "zero"])
def test_an_affine_map_that_does_nothing_is_exact(fill: str) -> None:
    images = pictures(4, 3, 8, 16)
    targets = masks_of(images)
    tiny = affine(shift=[0.0, 1e-30], fill=fill)  # which the settings cannot tell from something
    x, y = done(images, targets, tiny)
    torch.testing.assert_close(x, images, rtol=0, atol=0 if fill != "mean" else 1e-6)
    assert torch.equal(y, targets)


def test_shifts_by_whole_pixels_are_exact() -> None:
    images = pictures(3, 2, 8, 16)
    targets = masks_of(images)
    # an eighth of both: 1 pixel down, 2 to the right
    x, y = done(images, targets, affine(shift=0.125, fill="zero"))
    assert torch.equal(x[..., 1:, 2:], images[..., :-1, :-2]) and torch.equal(y[..., 1:, 2:], targets[..., :-1, :-2])
    assert (x[..., :1, :] == 0).all() and (x[..., :2] == 0).all()
    assert (y[..., :1, :] == 255).all() and (y[..., :2] == 255).all()
    x, y = done(images, targets, affine(shift=-0.25, fill="reflect"))
    assert torch.equal(x[..., :-2, :-4], images[..., 2:, 4:]) and torch.equal(y[..., :-2, :-4], targets[..., 2:, 4:])
    assert torch.equal(x[..., -2:, :-4], images[..., -2:, 4:].flip(-2))
    assert torch.equal(y[..., -2:, :-4], targets[..., -2:, 4:].flip(-2))
    assert torch.equal(y[..., :-2, -4:], targets[..., 2:, -4:].flip(-1))


def test_what_comes_in_may_be_the_mean_of_each_channel() -> None:
    images = pictures(3, 2, 8, 8)
    targets = masks_of(images)
    x, y = done(images, targets, affine(shift=0.5, fill="mean"))
    mean = images.mean((2, 3))[..., None, None]
    torch.testing.assert_close(x[..., :4, :], mean.expand(3, 2, 4, 8))
    torch.testing.assert_close(x[..., 4:, 4:], images[..., :4, :4])
    assert (y[:, :4] == 255).all() and torch.equal(y[:, 4:, 4:], targets[:, :4, :4])


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotation_by_a_right_angle_is_a_turn(degrees: int) -> None:
    images = pictures(3, 2, 9, 9)
    targets = masks_of(images)
    x, y = done(images, targets, affine(rotate=degrees))
    torch.testing.assert_close(x, images.rot90(degrees // 90, (-2, -1)), rtol=0, atol=1e-5)
    assert torch.equal(y, targets.rot90(degrees // 90, (-2, -1)))


def test_flips_beside_an_affine_map_are_part_of_it() -> None:
    images = pictures(3, 1, 8, 16)
    targets = masks_of(images)
    flip = {"name": "flip_h", "p": 1.0}
    # the whole number of pixels keeps it exact: first flipped, then shifted, and the other way around
    x, y = done(images, targets, flip, affine(shift=0.125, fill="zero"))
    assert torch.equal(x[..., 1:, 2:], images.flip(-1)[..., :-1, :-2])
    assert torch.equal(y[..., 1:, 2:], targets.flip(-1)[..., :-1, :-2])
    x, y = done(images, targets, affine(shift=0.125, fill="zero"), flip)
    assert torch.equal(x.flip(-1)[..., 1:, 2:], images[..., :-1, :-2])
    assert torch.equal(y.flip(-1)[..., 1:, 2:], targets[..., :-1, :-2])


def test_twice_the_size_and_half_of_it() -> None:
    images = torch.arange(16.0).view(1, 1, 4, 4)
    x, _ = done(images, None, affine(scale=0.5, fill="zero"))
    # the centre holds the means of blocks of four pixels
    assert x[0, 0, 1:3, 1:3].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert x[0, 0, 0].tolist() == [0, 0, 0, 0]
    targets = images[0].to(torch.uint8)
    _, y = done(images, targets, affine(scale=2.0))
    assert y[0].tolist() == [[5, 5, 6, 6], [5, 5, 6, 6], [9, 9, 10, 10], [9, 9, 10, 10]]


# ---------------------------------------------------------------- affine, against scipy


@pytest.mark.parametrize(
    ("fill", "mode"), [("reflect", "reflect"), ("zero", "grid-constant"), ("mean", "grid-constant")]
)
@pytest.mark.parametrize(
    ("rotate", "scale", "shift", "shear"),
    [(20, 1, 0, 0), (-35, 1.3, 0.07, 0), (0, 0.7, 0.3, 15), (100, 0.9, -0.2, -25)],
)
def test_it_is_scipys_affine_transform(
    rotate: float, scale: float, shift: float, shear: float, fill: str, mode: str
) -> None:
    images = ndimage.gaussian_filter(pictures(1, 2, 17, 30).numpy(), (0, 0, 1, 1))
    targets = masks_of(torch.from_numpy(images) * 2)
    x, y = done(
        torch.from_numpy(images), targets, affine(rotate=rotate, scale=scale, shift=shift, shear=shear, fill=fill)
    )
    # forwards by hand, in (right, up) as in a drawing, then the axes of rows and columns
    angle, slant = math.radians(rotate), math.tan(math.radians(shear))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    upright = np.array([[1, -slant], [-slant, 1]])
    forwards = scale * turn @ upright
    to_rows = np.array([[0, -1], [1, 0]])  # (right, up) to (row, column)
    backwards = to_rows @ np.linalg.inv(forwards) @ np.linalg.inv(to_rows)
    moved = -backwards @ (shift * np.array([17, 30]))
    for channel in range(2):
        given = images[0, channel]
        cval = given.mean() if fill == "mean" else 0.0
        expected = resampled(given, backwards, moved, 1, mode, cval)
        np.testing.assert_allclose(x[0, channel].numpy(), expected, atol=2e-5)
    expected = resampled(targets[0].numpy(), backwards, moved, 0, mode, 255)
    assert (y[0].numpy() == expected).mean() > 0.99  # centres between two pixels may fall to either
    assert set(np.unique(y[0])) <= set(np.unique(targets)) | {255}


def test_image_and_mask_move_together() -> None:
    """A smooth image and the mask of its brighter half: afterwards the mask is that of the moved image again."""
    images = torch.from_numpy(ndimage.gaussian_filter(pictures(16, 1, 32, 64).numpy(), (0, 0, 4, 4)))
    images = (images - images.amin()) / (images.amax() - images.amin())
    targets = (images[:, 0] > 0.5).to(torch.uint8)
    wild = {"name": "affine", "p": 1.0, "rotate": [-180, 180], "scale": [0.7, 1.4], "shear": [-20, 20]}
    x, y = done(images, targets, "flip_h", {"name": "turn90", "stretch": True}, wild)
    clear = (x[:, 0] - 0.5).abs() > 0.06
    assert clear.float().mean() > 0.5
    assert torch.equal(y[clear], (x[:, 0] > 0.5).to(torch.uint8)[clear])


def test_pixels_without_a_label_stay_without_one_and_no_class_is_made_up() -> None:
    images = pictures(20, 1, 16, 16)
    targets = torch.where(images[:, 0] > 0.5, 255, 3).to(torch.uint8)
    for fill in ("reflect", "zero"):
        _, y = done(images, targets, {"name": "affine", "p": 1.0, "fill": fill})
        assert set(y.unique().tolist()) == {3, 255}


def test_amounts_of_affine_maps_fill_their_ranges() -> None:
    def theta(**ranges: Any) -> torch.Tensor:
        return drawn(4000, affine(**ranges), shape=(1, 10, 20)).steps[0][-1].values["theta"]

    turned = theta(rotate=[-30, 10])
    angles = torch.rad2deg(torch.atan2(turned[:, 1, 0] * 10 / 20, turned[:, 0, 0]))
    assert -30 <= angles.min() < -29.5 and 9.5 < angles.max() <= 10
    scales = 1 / theta(scale=[0.5, 2.0])[:, 0, 0]
    assert 0.5 <= scales.min() < 0.52 and 1.98 < scales.max() <= 2.0
    shifts = -theta(shift=[-0.1, 0.3])[:, :, 2] / 2
    assert (shifts.amin(0) < -0.098).all() and (shifts.amax(0) > 0.298).all() and shifts.abs().max() <= 0.3
    assert abs(np.corrcoef(shifts.T.numpy())[0, 1]) < 0.05  # width and height are drawn apart
    slants = theta(shear=[-20, 20])
    along, down = slants[:, 0, 1] / slants[:, 1, 1] * 20 / 10, slants[:, 1, 0] / slants[:, 0, 0] * 10 / 20
    for found in (along, down):
        assert found.abs().max() <= math.tan(math.radians(20)) + 1e-6 and found.abs().max() > 0.35
    assert abs(np.corrcoef(along.numpy(), down.numpy())[0, 1]) < 0.05


def test_the_grid_is_torchs() -> None:
    theta = torch.randn((5, 2, 3), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(geometry.grid(theta, 7, 12), affine_grid(theta, [5, 1, 7, 12], align_corners=False))


# ---------------------------------------------------------------- turns of images that are not square


def test_a_turn_that_is_stretched_back_to_its_shape() -> None:
    images = torch.from_numpy(ndimage.gaussian_filter(pictures(60, 1, 8, 16).numpy(), (0, 0, 2, 2)))
    targets = (images[:, 0] * 10).to(torch.uint8)
    x, y = done(images, targets, {"name": "turn90", "p": 0.75, "stretch": True})
    seen = [0, 0, 0, 0]
    for row in range(60):
        exact = [k for k in (0, 2) if torch.equal(x[row], images[row].rot90(k, (-2, -1)))]
        if exact:
            assert torch.equal(y[row], targets[row].rot90(exact[0], (-2, -1)))
            seen[exact[0]] += 1
            continue
        # 16×8 from 8×16: pixel (i, j) of 8×16 lies at (2 i + ½, j / 2 - ¼) of the turned image
        where = np.meshgrid(2 * np.arange(8) + 0.5, np.arange(16) / 2 - 0.25, indexing="ij")
        errors = []
        for k in (1, 3):
            turned = np.rot90(images[row, 0].numpy(), k)
            errors.append(
                np.abs(ndimage.map_coordinates(turned, where, order=1, mode="reflect") - x[row, 0].numpy()).max()
            )
        k = (1, 3)[int(np.argmin(errors))]
        assert min(errors) < 1e-5 < max(errors)
        # pixels of the mask: of rows 2 i + ½ either, of columns j / 2 - ¼ the nearest
        turned = np.rot90(targets[row].numpy(), k)
        either = [turned[np.arange(8) * 2 + step][:, np.arange(16) // 2] for step in (0, 1)]
        assert ((y[row].numpy() == either[0]) | (y[row].numpy() == either[1])).all()
        seen[k] += 1
    assert min(seen) > 5


def test_shear_is_along_both_axes_before_the_rotation() -> None:
    theta = drawn(50, affine(rotate=30, scale=2.0, shear=[-30, 30]), shape=(1, 10, 20)).steps[0][-1].values["theta"]
    pixels = np.diag([10.0, 5.0])  # half of width and height
    forwards = np.linalg.inv(pixels @ theta[:, :, :2].double().numpy() @ np.linalg.inv(pixels))
    cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
    sheared = np.array([[cos, -sin], [sin, cos]]) @ forwards / 2  # turned back, y down
    np.testing.assert_allclose(sheared[:, [0, 1], [0, 1]], 1, atol=1e-5)
    slants = sheared[:, [0, 1], [1, 0]]
    assert np.abs(slants).max() < math.tan(math.radians(30)) + 1e-6 and (slants[:, 0] != slants[:, 1]).all()
