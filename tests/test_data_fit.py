"""Fit: images of any size come to the net's size and predictions go back, pixel by pixel where that is possible."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.config_data import FitSettings
from podium.data.fit import OVERLAP, Fit, plan_fit
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.errors import UserError

How = Literal["same", "resize", "pad", "tiles"]


def ragged(arrays: list[np.ndarray]) -> Ragged:
    """Arrays (C, H, W) under the ids r0, r1, ..."""
    values = np.concatenate([array.reshape(-1) for array in arrays])
    ids = np.array([f"r{i}" for i in range(len(arrays))])
    return Ragged(values, np.array([array.shape for array in arrays], np.int64), ids)


def part(images: list[np.ndarray], targets: list[np.ndarray] | None = None) -> Part:
    return Part("train", ragged(images), None if targets is None else ragged(targets), "0")


def noise(sizes: list[tuple[int, int]], channels: int = 2, seed: int = 0) -> list[np.ndarray]:
    """Images float32 (channels, H, W) of random numbers."""
    generator = np.random.default_rng(seed)
    return [generator.random((channels, *size), np.float32) for size in sizes]


def there_and_back(fit: Fit, images: list[np.ndarray]) -> list[np.ndarray]:
    """Each image in pieces and merged again, as if the pieces were predictions."""
    pieces, counts = fit.images(part(images), np.arange(len(images)))
    assert pieces.shape == (counts.sum(), len(images[0]), *fit.size)
    back, first = [], 0
    for image, count in zip(images, counts.tolist(), strict=True):
        back.append(fit.unfit(pieces[first : first + count], *image.shape[1:]))
        first += count
    return back


net_sizes = st.tuples(st.integers(1, 20), st.integers(1, 20))
own_sizes = st.lists(st.tuples(st.integers(1, 45), st.integers(1, 45)), min_size=1, max_size=4)
overlaps = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.89])


# ---------------------------------------------------------------- there and back


@given(net_sizes, own_sizes, overlaps, st.sampled_from(["resize", "tiles"]))
@settings(max_examples=80, deadline=None)
def test_every_image_comes_back_in_its_own_size(size, sizes, overlap, how):
    fit = Fit(size, how, overlap)
    for back, own in zip(there_and_back(fit, noise(sizes)), sizes, strict=True):
        assert back.shape == (2, *own) and back.dtype == np.float32
        assert back.min() >= 0 and back.max() <= 1 + 1e-6  # probabilities stay probabilities ...
    for back, own in zip(
        there_and_back(fit, [np.full((2, *own), 0.7, np.float32) for own in sizes]), sizes, strict=True
    ):
        np.testing.assert_allclose(back, np.full((2, *own), 0.7), rtol=1e-5)  # ... and a constant stays one


@given(net_sizes, own_sizes, overlaps)
@settings(max_examples=80, deadline=None)
def test_tiles_cut_and_merged_are_the_image(size, sizes, overlap):
    images = noise(sizes)
    for back, image in zip(there_and_back(Fit(size, "tiles", overlap), images), images, strict=True):
        np.testing.assert_allclose(back, image, rtol=1e-5, atol=1e-6)


@given(net_sizes, st.data())
@settings(max_examples=60, deadline=None)
def test_padding_is_exact(size, data):
    own = st.tuples(st.integers(1, size[0]), st.integers(1, size[1]))
    images = noise(data.draw(st.lists(own, min_size=1, max_size=4)))
    for back, image in zip(there_and_back(Fit(size, "pad"), images), images, strict=True):
        np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize("how", ["same", "resize", "pad", "tiles"])
def test_images_of_the_nets_size_are_left_alone(how):
    images = noise([(5, 7)] * 3)
    fit = Fit((5, 7), how)
    pieces, counts = fit.images(part(images), np.array([2, 0]))
    np.testing.assert_array_equal(pieces, np.stack([images[2], images[0]]))
    assert counts.tolist() == [1, 1]
    for back, image in zip(there_and_back(fit, images), images, strict=True):
        np.testing.assert_array_equal(back, image)


@given(net_sizes, own_sizes, overlaps, st.sampled_from(["resize", "tiles"]))
@settings(max_examples=40, deadline=None)
def test_probabilities_sum_to_one_after_all(size, sizes, overlap, how):
    generator = np.random.default_rng(0)
    fit = Fit(size, how, overlap)
    for own in sizes:
        pieces, _ = fit.images(part(noise([own])), np.array([0]))
        answers = generator.dirichlet(np.ones(3), (len(pieces), *size)).transpose(0, 3, 1, 2).astype(np.float32)
        merged = fit.unfit(answers, *own)
        assert merged.shape == (3, *own) and merged.min() >= 0
        np.testing.assert_allclose(merged.sum(0), np.ones(own), rtol=1e-4)


@pytest.mark.parametrize("how", ["same", "resize", "pad", "tiles"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_pixels_stay_what_they_are_kept_as(how, dtype):
    images = [(image * 250).astype(dtype) for image in noise([(6, 9)], channels=3)]
    pieces, _ = Fit((6, 9) if how == "same" else (8, 10), how).images(part(images), np.array([0]))
    assert pieces.dtype == dtype and pieces.flags.c_contiguous and pieces.shape[1] == 3


@pytest.mark.parametrize("how", ["same", "resize", "pad", "tiles"])
def test_of_no_rows_there_are_no_pieces(how):
    pieces, counts = Fit((6, 9), how).images(part(noise([(6, 9)], channels=3)), np.zeros(0, np.int64))
    assert pieces.shape == (0, 3, 6, 9) and counts.shape == (0,)


def test_rows_come_in_the_order_asked_for():
    images = noise([(4, 4), (4, 9), (2, 3)])
    fit = Fit((4, 4), "tiles", 0.0)
    pieces, counts = fit.images(part(images), np.array([2, 1, 0, 1]))
    assert counts.tolist() == [1, 3, 1, 3]
    np.testing.assert_array_equal(pieces[4], images[0])
    np.testing.assert_array_equal(pieces[5:], pieces[1:4])
    np.testing.assert_array_equal(pieces[1], images[1][:, :, :4])


# ---------------------------------------------------------------- resize


def test_shrinking_averages_areas_and_growing_is_linear():
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    pieces, _ = Fit((2, 2), "resize").images(part([image]), np.array([0]))
    assert pieces[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]  # means of 2×2 pixels
    noisy = noise([(12, 20)], channels=1)[0]
    pieces, _ = Fit((3, 4), "resize").images(part([noisy]), np.array([0]))
    np.testing.assert_allclose(pieces[0, 0], noisy.reshape(3, 4, 4, 5).mean((1, 3)), rtol=1e-5)  # of 4×5 pixels
    pieces, _ = Fit((1, 4), "resize").images(part([np.array([[[0, 8]]], np.float32)]), np.array([0]))
    assert pieces[0, 0].tolist() == [[0, 2, 6, 8]]  # pixel centres at 1/4, 3/4, 5/4, 7/4 of a pixel
    assert Fit((1, 4), "resize").unfit(pieces, 1, 2)[0].tolist() == [[1, 7]]


@given(net_sizes, own_sizes, st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_resizing_masks_never_invents_a_class(size, sizes, seed):
    sizes = [*sizes, (2, 3)]  # masks of one pixel alone would be labels
    generator = np.random.default_rng(seed)
    masks = [generator.choice([0, 2, 7, 255], (1, *own)).astype(np.uint8) for own in sizes]
    made = part(noise(sizes), masks)
    targets = Fit(size, "resize").targets(made, np.arange(len(sizes)), np.ones(len(sizes), np.int64))
    assert targets.shape == (len(sizes), *size) and targets.dtype == np.uint8
    for target, mask in zip(targets, masks, strict=True):
        assert set(np.unique(target)) <= set(np.unique(mask))


def test_masks_grow_by_repeating_and_shrink_by_picking_the_middle():
    mask = np.array([[[1, 2], [3, 255]]], np.uint8)
    made = part(noise([(2, 2)]), [mask])
    larger = Fit((6, 4), "resize").targets(made, np.array([0]), np.array([1]))
    np.testing.assert_array_equal(larger[0], mask[0].repeat(3, axis=0).repeat(2, axis=1))
    made = part(noise([(3, 6)]), [np.arange(18, dtype=np.uint8).reshape(1, 3, 6)])
    assert Fit((1, 2), "resize").targets(made, np.array([0]), np.array([1]))[0].tolist() == [[7, 10]]


def test_a_mask_stays_on_its_image_when_both_are_resized():
    """A bright block and its label: where the one lies, there lies the other, to half a pixel."""
    image, mask = np.zeros((1, 40, 30), np.float32), np.zeros((1, 40, 30), np.uint8)
    image[:, 10:30, 20:] = mask[:, 10:30, 20:] = 1
    made = part([image], [mask])
    for size in ((20, 15), (80, 60), (29, 47), (41, 31)):
        fit = Fit(size, "resize")
        pieces, counts = fit.images(made, np.array([0]))
        target = fit.targets(made, np.array([0]), counts)
        assert ((pieces[0, 0] > 0.5) != target[0]).mean() < 0.05
        sure = np.abs(pieces[0, 0] - 0.5) > 0.49
        assert ((pieces[0, 0] > 0.5) == target[0])[sure].all()


# ---------------------------------------------------------------- pad


def test_padding_mirrors_the_image_around_itself_and_labels_nothing_there():
    image = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    made = part([image], [image % 2])
    fit = Fit((4, 6), "pad")
    pieces, counts = fit.images(made, np.array([0]))
    assert pieces[0, 0].tolist() == [[1, 1, 2, 3, 3, 2], [1, 1, 2, 3, 3, 2], [4, 4, 5, 6, 6, 5], [4, 4, 5, 6, 6, 5]]
    target = fit.targets(made, np.array([0]), counts)
    none = [255] * 6
    assert target.tolist() == [[none, [255, 1, 0, 1, 255, 255], [255, 0, 1, 0, 255, 255], none]]


def test_a_frame_much_larger_than_the_image_is_filled_all_the_same():
    pieces, _ = Fit((9, 11), "pad").images(part([np.array([[[3, 4]]], np.uint8)]), np.array([0]))
    assert set(np.unique(pieces)) == {3, 4}
    np.testing.assert_array_equal(pieces[0, 0, :, 4:6], [[3, 4]] * 9)


@pytest.mark.parametrize("own", [(5, 4), (4, 5), (9, 9)])
def test_an_image_too_large_for_padding_is_named(own):
    images = noise([(3, 3), own])
    fit = Fit((4, 4), "pad")
    fit.images(part(images), np.array([0]))
    said = rf"id 'r1': is {own[0]} x {own[1]}, larger than data\.fit\.size 4 x 4; set a larger size, or fit\.how: tiles"
    with pytest.raises(UserError, match=said):
        fit.images(part(images), np.array([0, 1]))


# ---------------------------------------------------------------- tiles


def starts(fit: Fit, length: int) -> list[int]:
    """Where the tiles of a picture of 1 × ``length`` pixels begin, told by their first pixel."""
    row = np.arange(length, dtype=np.float32).reshape(1, 1, length)
    pieces, counts = fit.images(part([row]), np.array([0]))
    assert counts.tolist() == [len(pieces)]
    for piece in pieces:
        assert (np.diff(piece[0, 0]) == 1).all()
    return [int(piece[0, 0, 0]) for piece in pieces]


@pytest.mark.parametrize(
    ("length", "overlap", "expected"),
    [
        (8, 0.0, [0]),
        (16, 0.0, [0, 8]),
        (17, 0.0, [0, 4, 9]),  # 4.5 goes to the even number
        (9, 0.25, [0, 1]),
        (14, 0.25, [0, 6]),
        (15, 0.25, [0, 4, 7]),
        (20, 0.5, [0, 4, 8, 12]),
    ],
)
def test_tiles_begin_where_a_hand_puts_them(length, overlap, expected):
    assert starts(Fit((1, 8), "tiles", overlap), length) == expected


@given(st.integers(1, 30), st.integers(1, 200), overlaps)
@settings(max_examples=150, deadline=None)
def test_tiles_cover_the_image_evenly_and_have_in_common_what_was_asked(net, length, overlap):
    length = max(net, length)
    found = starts(Fit((1, net), "tiles", overlap), length)
    assert found[0] == 0 and found[-1] == length - net
    steps = [b - a for a, b in pairwise(found)]
    if steps:
        assert min(steps) > 0 and max(steps) - min(steps) <= 1
        longest = max(1, int(net * (1 - overlap)))
        assert max(steps) <= longest
        assert (len(steps) - 1) * longest < length - net  # with one tile fewer there would be a gap


def test_tiles_of_a_plane_go_row_by_row():
    image = np.arange(30, dtype=np.uint8).reshape(1, 5, 6)
    made = part([image], [image % 3])
    fit = Fit((3, 4), "tiles", 0.0)
    pieces, counts = fit.images(made, np.array([0]))
    assert counts.tolist() == [4] and pieces[:, 0, 0, 0].tolist() == [0, 2, 12, 14]
    np.testing.assert_array_equal(pieces[3, 0], image[0, 2:, 2:])
    np.testing.assert_array_equal(fit.targets(made, np.array([0]), counts), pieces[:, 0] % 3)


def test_an_image_smaller_than_a_tile_is_padded_along_that_side_alone():
    image = np.arange(1, 11, dtype=np.uint8).reshape(1, 1, 10)
    made = part([image], [np.ones_like(image)])
    fit = Fit((3, 6), "tiles", 0.0)
    pieces, counts = fit.images(made, np.array([0]))
    assert counts.tolist() == [2] and pieces[:, 0].tolist() == [[[1, 2, 3, 4, 5, 6]] * 3, [[5, 6, 7, 8, 9, 10]] * 3]
    target = fit.targets(made, np.array([0]), counts)
    assert (target[:, 1] == 1).all() and (target[:, [0, 2]] == 255).all()


def test_seams_are_blended_by_a_smooth_window():
    """Two tiles of 8 with 4 in common that answer 0 and 1: 0, then rising, then 1; in the middle of both a half."""
    fit = Fit((1, 8), "tiles", 0.5)
    answers = np.stack([np.zeros((1, 1, 8), np.float32), np.ones((1, 1, 8), np.float32)])
    merged = fit.unfit(answers, 1, 12)[0, 0]
    hill = np.sin(np.pi * (np.arange(8) + 0.5) / 8) ** 2
    np.testing.assert_allclose(merged[4:8], hill[:4] / (hill[4:] + hill[:4]), rtol=1e-5)
    assert merged[:4].tolist() == [0] * 4 and merged[8:].tolist() == [1] * 4
    assert (np.diff(merged[3:9]) > 0).all() and merged[5] + merged[6] == pytest.approx(1)


def test_answers_of_every_tile_reach_their_own_place():
    """An image of 2×3 tiles without overlap whose answers are their numbers."""
    fit = Fit((4, 5), "tiles", 0.0)
    answers = np.broadcast_to(np.arange(6, dtype=np.float32).reshape(6, 1, 1, 1), (6, 1, 4, 5))
    expected = np.arange(6).reshape(2, 3).repeat(4, axis=0).repeat(5, axis=1)
    np.testing.assert_allclose(fit.unfit(answers, 8, 15)[0], expected, rtol=1e-6)


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize("how", ["same", "resize", "pad", "tiles"])
def test_a_label_goes_with_every_piece_of_its_image(how):
    sizes = [(4, 4)] * 3 if how == "same" else [(4, 4), (2, 3), (4, 3)]
    sizes = [(4, 4), (4, 9), (2, 3)] if how == "tiles" else sizes
    labels = [np.full((1, 1, 1), label, np.uint8) for label in (3, 0, 255)]
    made = part(noise(sizes), labels)
    fit = Fit((4, 4), how, 0.0)
    pieces, counts = fit.images(made, np.array([2, 1]))
    targets = fit.targets(made, np.array([2, 1]), counts)
    assert targets.shape == (len(pieces), 1, 1) and targets.dtype == np.uint8
    assert targets.flatten().tolist() == [255] * counts[0] + [0] * counts[1]
    assert counts.tolist() == ([1, 3] if how == "tiles" else [1, 1])


@pytest.mark.parametrize("how", ["same", "resize", "pad", "tiles"])
def test_answers_about_an_image_are_averaged_over_its_pieces(how):
    fit = Fit((4, 4), how)
    one = np.array([0.2, 0.8], np.float32).reshape(1, 2, 1, 1)
    np.testing.assert_array_equal(fit.unfit(one, 4, 4), one[0])
    several = np.array([[0.2, 0.8], [0.6, 0.4], [0.1, 0.9]], np.float32).reshape(3, 2, 1, 1)
    merged = fit.unfit(several, 4, 30)
    assert merged.shape == (2, 1, 1)
    np.testing.assert_allclose(merged.flatten(), [0.3, 0.7], rtol=1e-6)


@pytest.mark.parametrize(("shape", "masks"), [((1, 1, 1), False), ((1, 5, 1), False), ((1, 5, 7), True), (None, False)])
def test_what_is_as_large_as_its_image_is_a_mask(shape, masks):
    given = part(noise([(5, 7)] * 3))
    targets = None if shape is None else ragged([np.zeros(shape, np.uint8)] * 3)
    assert Part("train", given.images, targets, "x").masks == masks


# ---------------------------------------------------------------- what is done with a dataset


def test_one_size_needs_no_settings():
    assert plan_fit([part(noise([(5, 7)] * 2)), part(noise([(5, 7)]))], None) == Fit((5, 7), "same")


def test_several_sizes_need_settings():
    parts = [part(noise([(5, 7), (5, 7)])), part(noise([(6, 7), (5, 8), (9, 9)]))]
    with pytest.raises(UserError) as error:
        plan_fit(parts, None)
    assert str(error.value) == (
        "data.fit: images have 4 sizes (5 x 7, 5 x 8, 6 x 7, ...), a net needs one; add for example "
        "fit: {size: [128, 128], how: resize} to the competition's data"
    )


@pytest.mark.parametrize("how", ["resize", "pad", "tiles"])
def test_settings_are_done_as_they_say(how):
    parts = [part(noise([(5, 7), (8, 4)]))]
    assert plan_fit(parts, FitSettings(size=(8, 8), how=how)) == Fit((8, 8), how, OVERLAP)
    # also where all images have one size, another one; only with the very size there is nothing to do
    assert plan_fit([part(noise([(5, 7)]))], FitSettings(size=(8, 8), how=how)) == Fit((8, 8), how)
    assert plan_fit([part(noise([(8, 8)] * 2))], FitSettings(size=(8, 8), how=how)) == Fit((8, 8), "same")
    # the test images count too
    both = [part(noise([(8, 8)])), part(noise([(8, 7)]))]
    assert plan_fit(both, FitSettings(size=(8, 8), how=how)) == Fit((8, 8), how)


def test_pad_tells_at_once_what_is_too_large():
    parts = [part(noise([(5, 7)])), part(noise([(5, 7), (9, 4), (3, 10)]))]
    with pytest.raises(UserError, match=r"is 9 x 4, larger than size 8 x 8, and so are 1 more; set a larger size"):
        plan_fit(parts, FitSettings(size=(8, 8), how="pad"))


def test_the_overlap_is_the_settings():
    parts = [part(noise([(5, 7), (9, 4)]))]
    for overlap in (0.0, 0.5):
        assert plan_fit(parts, FitSettings(size=(4, 4), how="tiles", overlap=overlap)) == Fit((4, 4), "tiles", overlap)
