"""Augmentation as a whole: what is drawn for whom, the order of operations, types, and that samples know nothing of each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from augmenting import done, drawn, generator, masks_of, pictures, settings
from podium.augment import augment, draw
from podium.config_augment import AugmentSettings
from podium.errors import UserError

IMAGES = torch.tensor([[[[0, 51, 102], [153, 204, 255]]], [[[10, 20, 30], [40, 50, 60]]]], dtype=torch.uint8)
TARGETS = torch.tensor([[[0, 1, 2], [3, 255, 1]], [[3, 2, 1], [0, 1, 2]]], dtype=torch.uint8)
ALL = ["flip_h", "flip_v", "affine", "brightness", "contrast", "gamma", "noise", "blur", "cutout"]
SILENT = [name for name in ALL if name != "noise"]


def always(name: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "p": 1.0} | options


# ---------------------------------------------------------------- types and shapes


@pytest.mark.parametrize(("dtype", "scale"), [(torch.uint8, 255.0), (torch.uint16, 65535.0), (torch.float32, 2.0)])
def test_images_of_any_depth_are_divided_by_their_scale(dtype: torch.dtype, scale: float) -> None:
    images = (IMAGES.to(torch.float64) / 255 * scale).round(decimals=6 if dtype.is_floating_point else 0).to(dtype)
    for batch, expected in (((), IMAGES), ((always("flip_h"), always("flip_v")), IMAGES.flip(-1, -2))):
        x, y = done(images, TARGETS, *batch, scale=scale)
        assert x.dtype == torch.float32 and y.dtype == torch.uint8
        torch.testing.assert_close(x, expected / 255, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_what_comes_in_is_not_changed(dtype: torch.dtype) -> None:
    images = (pictures(16, 1, 6, 6) * 255).to(dtype)
    targets = (pictures(16, 1, 6, 6)[:, 0] * 5).to(torch.uint8)
    before, labels = images.clone(), targets.clone()
    whole = [always(name) for name in [*ALL, "turn90"]]
    for batch in ([], ["flip_h"], [always("flip_h")], [*ALL, "turn90"], whole):
        x, _ = done(images, targets, *batch, {"name": "cutout", "labels": "drop"}, scale=255)
        assert torch.equal(images.float(), before.float()) and torch.equal(targets, labels)
        assert x.data_ptr() != images.data_ptr() and x.is_contiguous()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", [*ALL, "turn90"])
def test_any_number_of_channels_and_labels_stay(name: str, channels: int) -> None:
    images = pictures(6, channels, 6, 6)
    labels = torch.tensor([0, 1, 2, 3, 4, 255], dtype=torch.uint8).view(6, 1, 1)
    x, y = done(images, labels, always(name))
    assert x.shape == images.shape and x.dtype == torch.float32 and torch.isfinite(x).all()
    assert torch.equal(y, labels)
    assert not torch.equal(x, images)


def test_draws_of_other_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="2 images and the draws of 3 samples"):
        augment(IMAGES, TARGETS, drawn(3, "flip_h"), settings("flip_h"))


# ---------------------------------------------------------------- who is changed


def test_each_operation_is_done_to_its_share_of_the_samples() -> None:
    for name in ALL:
        for p in (0.1, 0.5, 1.0):
            step = drawn(4000, {"name": name, "p": p}).steps[0]
            # three standard deviations
            share = len(set().union(*(group.at.tolist() for group in step))) / 4000
            assert share == pytest.approx(p, abs=3 * (p * (1 - p) / 4000) ** 0.5), name


def test_draws_depend_on_the_generator_alone() -> None:
    first = drawn(100, *ALL, seed=3)
    torch.manual_seed(99)
    torch.rand(7)
    again, other = drawn(100, *ALL, seed=3), drawn(100, *ALL, seed=4)
    for one, two, three in zip(first.steps, again.steps, other.steps, strict=True):
        for a, b, c in zip(one, two, three, strict=True):
            assert a.at.tolist() == b.at.tolist() == a.rows.tolist()
            assert a.at.tolist() != c.at.tolist() or not len(a)
            assert all(torch.equal(a.values[name], b.values[name]) for name in a.values)


@pytest.mark.parametrize(
    ("batch", "key", "low", "high"),
    [
        (always("brightness", shift=[-0.2, 0.1]), "shift", -0.2, 0.1),
        (always("contrast", factor=[0.5, 1.1]), "factor", 0.5, 1.1),
        (always("gamma", exponent=[0.5, 3.0]), "exponent", 0.5, 3.0),
        (always("noise", std=[0.1, 0.3]), "std", 0.1, 0.3),
    ],
)
def test_amounts_fill_their_ranges(batch: dict[str, Any], key: str, low: float, high: float) -> None:
    found = drawn(4000, batch).steps[0][0].values[key]
    margin = 0.01 * (high - low)
    assert low <= found.min() < low + margin and high - margin < found.max() <= high
    assert found.mean().item() == pytest.approx((low + high) / 2, abs=2 * margin)


# ---------------------------------------------------------------- in which order


def test_operations_are_done_in_the_order_written() -> None:
    images = pictures()
    plus, squared = always("brightness", shift=[0.2, 0.2]), always("gamma", exponent=[2, 2])
    torch.testing.assert_close(done(images, None, plus, squared)[0], (images + 0.2) ** 2)
    torch.testing.assert_close(done(images, None, squared, plus)[0], images**2 + 0.2)


def test_geometry_that_stands_together_is_one_step() -> None:
    batch = ["flip_h", "affine", "turn90", "contrast", "flip_v", "blur"]
    assert [len(step) for step in drawn(2, *batch).steps] == [4, 1, 4, 1]
    assert drawn(2).steps == ()


def test_geometry_later_in_the_list_is_done_later() -> None:
    images = pictures(2, 1, 4, 6)
    targets = masks_of(images)
    x, y = done(images, targets, always("flip_h"), always("brightness", shift=[0.5, 0.5]), always("flip_v"))
    assert torch.equal(x, (images + 0.5).flip(-1, -2)) and torch.equal(y, targets.flip(-1, -2))


# ---------------------------------------------------------------- samples know nothing of each other


@effort(max_examples=30, deadline=None)
@given(
    n=st.integers(2, 9),
    channels=st.sampled_from([1, 3, 4]),
    height=st.integers(2, 19),
    width=st.integers(2, 19),
    cut=st.integers(0, 9),
    seed=st.integers(0, 99),
    p=st.sampled_from([0.5, 1.0]),
    dtype=st.sampled_from([torch.uint8, torch.float32]),
)
def test_a_slice_of_the_draws_does_to_a_slice_what_all_do_to_the_whole(
    n: int, channels: int, height: int, width: int, cut: int, seed: int, p: float, dtype: torch.dtype
) -> None:
    batch: list[Any] = [{"name": name, "p": p} for name in SILENT]
    batch += [{"name": "turn90", "stretch": True}, {"name": "cutout", "labels": "drop", "count": 3, "fill": "zero"}]
    batch += [{"name": "random", "of": ["flip_h", "affine", "gamma", "cutout"]}]
    batch += ["colour"] if channels == 3 else []
    images = (pictures(n, channels, height, width, seed) * 255).to(dtype)
    targets = masks_of(images.float() / 255)
    every, chosen = drawn(n, *batch, shape=(channels, height, width), seed=seed), settings(*batch)
    whole = augment(images, targets, every, chosen)
    rows = slice(min(cut, n - 1), None)
    part = augment(images[rows], targets[rows], every[rows], chosen)
    assert torch.equal(whole[0][rows], part[0]) and torch.equal(whole[1][rows], part[1])
    again = augment(images[rows][1:2], targets[rows][1:2], every[rows][1:2], chosen)
    assert torch.equal(part[0][1:2], again[0]) and torch.equal(part[1][1:2], again[1])


def test_samples_that_are_not_chosen_are_only_scaled() -> None:
    images = (pictures(64, 1, 6, 9) * 255).to(torch.uint8)
    targets = masks_of(images / 255)
    for name in ALL:
        batch = {"name": name, "p": 0.3, **({"labels": "drop"} if name == "cutout" else {})}
        step = drawn(64, batch, shape=(1, 6, 9)).steps[0]
        changed = set().union(*(group.at.tolist() for group in step))
        others = [row for row in range(64) if row not in changed]
        x, y = done(images, targets, batch, scale=255.0)
        assert torch.equal(x[others], (images * torch.tensor(1 / 255))[others]) and torch.equal(
            y[others], targets[others]
        )
        differs = [row for row in changed if not torch.equal(x[row], images[row] / 255)]
        assert len(differs) > 0.8 * len(changed) > 5, name


def test_slices_are_of_consecutive_samples() -> None:
    every = drawn(10, "contrast")
    assert every[3:3].n == 0 and every[8:20].n == 2 and every[:].n == 10 and every[-2:].n == 2 and every[5:3].n == 0
    with pytest.raises(ValueError, match="every 2th sample"):
        every[::2]


def test_an_empty_choice_changes_nothing() -> None:
    images = pictures(3, 1, 5, 5)
    targets = masks_of(images)
    chosen = settings(*({"name": name, "p": 1e-6} for name in [*ALL, "turn90"]))
    x, y = augment(images, targets, draw(chosen, 3, generator(), (1, 5, 5)), chosen, 1.0)
    assert torch.equal(x, images) and torch.equal(y, targets)


# ---------------------------------------------------------------- random


OF = ["brightness", "contrast", "gamma", "noise", "blur"]


def test_random_draws_so_many_different_operations_for_each_sample() -> None:
    for count in (1, 2, 4):
        steps = drawn(3000, {"name": "random", "count": count, "of": OF}).steps
        chosen = torch.zeros((3000, len(OF)), dtype=torch.int64)
        for place, (group,) in enumerate(steps):
            chosen[group.rows, place] += 1
        assert (chosen.sum(1) == count).all() and chosen.max() == 1
        shares = chosen.float().mean(0)
        assert shares.tolist() == pytest.approx([count / len(OF)] * len(OF), abs=0.03)
        assert len(set(map(tuple, chosen.tolist()))) > count  # not the same ones for all


def test_random_changes_its_share_of_the_samples() -> None:
    steps = drawn(4000, {"name": "random", "p": 0.3, "of": OF}).steps
    assert sum(len(group) for (group,) in steps) / 4000 == pytest.approx(0.6, abs=0.05)


def test_random_reaches_as_far_as_its_strength() -> None:
    of = [{"name": "contrast", "factor": [0.5, 2.0]}, {"name": "brightness", "shift": [-0.4, 0.2]}, "flip_h"]
    contrast, brightness, _ = drawn(4000, {"name": "random", "strength": 0.5, "of": of}).steps
    factor, shift = contrast[0].values["factor"], brightness[0].values["shift"]
    assert 0.75 <= factor.min() < 0.77 and 1.48 < factor.max() <= 1.5
    assert -0.2 <= shift.min() < -0.19 and 0.09 < shift.max() <= 0.1


def test_geometry_drawn_at_random_is_one_step_with_its_neighbours() -> None:
    rotate = {"name": "affine", "rotate": [10, 10], "shift": [0, 0], "scale": [1, 1]}
    shear = {"name": "affine", "rotate": [0, 0], "shift": [0, 0], "scale": [1, 1], "shear": [9, 9]}
    random = {"name": "random", "count": 1, "of": [rotate, shear]}
    assert len(drawn(2, "flip_h", random, "flip_v").steps) == 1
    images = pictures(40, 1, 9, 9)
    x, _ = done(images, None, random)
    alone = [done(images, None, one | {"p": 1.0})[0] for one in (rotate, shear)]
    seen = [[torch.equal(x[row], made[row]) for made in alone] for row in range(40)]
    assert all(sum(found) == 1 for found in seen) and len({tuple(found) for found in seen}) == 2


# ---------------------------------------------------------------- what cannot be


def test_images_that_an_operation_is_not_for() -> None:
    with pytest.raises(UserError, match="colour needs images of 3 channels, these have 1; remove it"):
        drawn(2, "colour", shape=(1, 8, 8))
    with pytest.raises(UserError, match="turn90 would make 16x8 pixels of 8x16; .*stretch: true"):
        drawn(2, "turn90", shape=(1, 8, 16))
    with pytest.raises(UserError, match="turn90 would make"):
        drawn(2, {"name": "random", "of": ["turn90", "flip_h", "blur"]}, shape=(1, 8, 16))
    drawn(2, "turn90", shape=(1, 8, 8))
    with pytest.raises(UserError, match="'labels: drop' is for masks"):
        done(pictures(), None, always("cutout", labels="drop"))


def test_what_cannot_be_is_known_from_task_and_shape() -> None:
    dropping = settings({"name": "cutout", "labels": "drop"})
    assert dropping.misfit(task="segmentation") is None
    assert "'labels: drop' is for masks" in str(dropping.misfit(task="classification"))
    assert settings("colour", {"name": "turn90", "stretch": True}).misfit((3, 4, 8), "classification") is None
    assert AugmentSettings().misfit() is None


def test_nothing_asks_the_device_for_a_value() -> None:
    """On torch's meta device there are none, and tensors of another device are refused."""
    batch = [{"name": name, "p": p} for p in (0.5, 1.0) for name in [*ALL, "colour"]]
    batch += [{"name": "turn90", "stretch": True}, {"name": "cutout", "labels": "drop"}]
    batch += [{"name": "random", "of": ["affine", "blur", "flip_h"]}]
    meta = torch.device("meta")
    draws = drawn(40, *batch, shape=(3, 8, 16)).to(meta)
    for dtype in (torch.uint8, torch.float32):
        images = torch.empty((10, 3, 8, 16), dtype=dtype, device=meta)
        masks = torch.empty((10, 8, 16), dtype=torch.uint8, device=meta)
        x, y = augment(images, masks, draws[20:30], settings(*batch))
        assert (x.shape, x.dtype, x.device) == (images.shape, torch.float32, meta)
        assert (y.shape, y.dtype, y.device) == (masks.shape, torch.uint8, meta)
