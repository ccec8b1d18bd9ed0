"""The resident source: what it counts, what it draws, and that an epoch depends on nothing but its own numbers."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from podium.config_augment import AugmentSettings
from podium.data.fit import Fit
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.randomness import stream
from podium.training.fold import Length
from podium.training.source import Resident
from three_classes import competition

PLAIN = AugmentSettings(batch=())
CPU = torch.device("cpu")
SAME = Fit((2, 2), "same")
N = 10


def part() -> Part:
    """Ten images of 2×2 pixels, every pixel of image i has the value 10 * i + channel; images 3 and 8 hold class 2."""
    values = np.arange(N, dtype=np.uint8) * 10
    images = np.broadcast_to(values[:, None, None, None], (N, 2, 2, 2)) + np.arange(2, dtype=np.uint8)[:, None, None]
    masks = np.ones((N, 1, 2, 2), np.uint8)
    masks[:, 0, 0, 0] = 0  # not scored
    masks[4, 0, 1, 1] = 255
    masks[3, 0, 1, 1] = 2
    masks[8, 0, 1, :] = 2
    ids = [str(i) for i in range(N)]
    return Part("train", Ragged.stack(images.astype(np.uint8), ids), Ragged.stack(masks, ids), "0")


def source(rows: list[int], rate: int = 1, batch: int = 2) -> Resident:
    return Resident(part(), np.array(rows), SAME, competition(), rate, batch, CPU)


def drawn(resident: Resident, seed: int, fold: int, epoch: int, settings: AugmentSettings = PLAIN) -> list[int]:
    """The rows of an epoch in their order, told by the value of their pixels."""
    batches = list(resident.epoch(seed, fold, epoch, settings))
    return [round(float(image[0, 0, 0]) * 25.5) for batch in batches for image in batch.images]


def test_streams_are_numbers_by_hand():
    digest = hashlib.sha256(b"epoch/0/1/2").digest()
    assert stream("epoch", 0, 1, 2) == int.from_bytes(digest[:8], "big") // 2 < 2**63
    assert len({stream("a", 1, 12), stream("a", 11, 2), stream("b", 1, 12), stream("a", 12, 1)}) == 4


def test_counts_and_targets_are_of_the_scored_classes():
    resident = source(list(range(N)))
    # 40 pixels, 10 unscored, 1 without label, 3 of class 2
    assert resident.counts.tolist() == [26, 3]
    assert resident.targets.dtype == torch.uint8
    assert resident.targets[3].tolist() == [[255, 0], [0, 1]]
    assert resident.targets[4].tolist() == [[255, 0], [0, 255]]
    assert source([0, 8]).counts.tolist() == [4, 2]


def test_mean_and_deviation_are_of_its_rows_alone_per_channel():
    resident = source([1, 3])
    # 10 and 30, one more in the second channel
    assert resident.mean == pytest.approx([20 / 255, 21 / 255])
    assert resident.std == pytest.approx([10 / 255, 10 / 255])
    assert source([2, 2]).std == [1e-3, 1e-3]  # never zero


def test_images_with_the_rarest_class_are_drawn_as_often_as_asked():
    resident = source(list(range(N)), rate=3)
    # 10 images and two more copies each of 3 and 8
    assert (len(resident.order), resident.steps, resident.drawn) == (14, 7, 14)
    assert sorted(drawn(resident, 0, 0, 0)) == [0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 8, 8, 8, 9]


def test_a_rarest_class_that_does_not_occur_gives_way_to_the_next():
    resident = source([0, 1, 2, 4], rate=2)
    assert sorted(drawn(resident, 0, 0, 0)) == [0, 0, 1, 1, 2, 2, 4, 4]


def fading(rows: list[int], start: int, end: int | None) -> Resident:
    return Resident(part(), np.array(rows), SAME, competition(), start, 2, CPU, end)


def counts_at(resident: Resident, progress: float, epoch: int = 0) -> list[int]:
    """How often each of ten rows is drawn."""
    batches = list(resident.epoch(0, 0, epoch, PLAIN, progress))
    assert len(batches) == resident.steps
    rows = [round(float(image[0, 0, 0]) * 25.5) for batch in batches for image in batch.images]
    return np.bincount(rows, minlength=N).tolist()


@pytest.mark.parametrize(
    ("progress", "rare"),
    # of 10 images the 2 with rock have weight 2 r and the others 8: 10 × 8 / 16, 5 / 13, 4 / 12, 2 / 10
    [(0.0, 5), (0.5, 4), (2 / 3, 3), (1.0, 2)],
)
def test_a_rate_that_falls_leaves_the_epoch_as_long(progress, rare):
    resident = fading(list(range(N)), 4, 1)
    assert (len(resident.order), resident.steps) == (10, 5)
    once_more, left_out = set(), set()
    for epoch in range(40):
        found = counts_at(resident, progress, epoch)
        assert found[3] + found[8] == rare and abs(found[3] - found[8]) <= 1
        others = [count for row, count in enumerate(found) if row not in (3, 8)]
        assert sum(others) == 10 - rare and max(others) == 1
        once_more.add(found[3] - found[8])
        left_out |= {row for row, count in enumerate(found) if not count}
    # which of them is a matter of lot
    assert once_more == ({-1, 1} if rare % 2 else {0})
    assert left_out == (set(range(N)) - {3, 8} if rare > 2 else set())


def test_between_two_rates_an_epoch_is_as_long_as_at_the_lower_and_may_also_grow():
    for start, end in ((3, 2), (2, 3)):
        resident = fading(list(range(N)), start, end)
        assert len(resident.order) == 12
        constant = source(list(range(N)), rate=2)
        at_two = counts_at(resident, 0.0 if start == 2 else 1.0)
        assert at_two == np.bincount(drawn(constant, 0, 0, 0), minlength=N).tolist()
        # 12 × 6 / 14
        assert sum(np.array(counts_at(resident, 0.0 if start == 3 else 1.0))[[3, 8]]) == 5


def test_a_rate_that_stays_draws_the_same_whatever_its_end_is_called():
    constant = list(source(list(range(N)), rate=3).epoch(1, 0, 2, PLAIN))
    for end, progress in ((None, 0.7), (3, 0.3)):
        for one, other in zip(fading(list(range(N)), 3, end).epoch(1, 0, 2, PLAIN, progress), constant, strict=True):
            assert torch.equal(one.images, other.images)


def test_a_rate_that_falls_where_all_images_hold_the_class_or_none_does():
    assert counts_at(fading([3, 8], 4, 1), 0.0)[3::5] == [1, 1]
    unlabelled = Part("train", part().images, Ragged.stack(np.zeros((N, 1, 2, 2), np.uint8), part().images.ids), "0")
    resident = Resident(unlabelled, np.arange(N), SAME, competition(), 4, 2, CPU, 1)
    assert counts_at(resident, 0.0) == [1] * N


def test_a_length_says_how_much_of_it_is_behind_an_epoch():
    length = Length(steps=10, steps_per_epoch=3)
    assert [length.progress(epoch) for epoch in range(5)] == [0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1, 1]
    assert [Length(2, 3).progress(epoch) for epoch in range(2)] == [0, 1]


def test_an_epoch_draws_each_row_once():
    for epoch in range(3):
        assert sorted(drawn(source(list(range(N))), 0, 0, epoch)) == list(range(N))


def test_what_does_not_fill_a_batch_waits_for_another_epoch():
    resident = source(list(range(N)), batch=4)
    assert (resident.steps, resident.drawn) == (2, 8)
    epochs = [drawn(resident, 0, 0, epoch) for epoch in range(8)]
    assert all(len(set(rows)) == 8 for rows in epochs)
    assert set().union(*epochs) == set(range(N))


def test_fewer_rows_than_a_batch_are_one_batch():
    resident = source([5, 7, 9], batch=32)
    assert (resident.batch, resident.steps) == (3, 1)
    assert sorted(drawn(resident, 0, 0, 0)) == [5, 7, 9]


@pytest.mark.parametrize("rows", [list(range(N)), [8, 3, 9, 4, 0]])
def test_targets_belong_to_their_images(rows):
    resident = source(rows)
    every = source(list(range(N)))
    for batch in resident.epoch(0, 0, 0, PLAIN):
        for image, target in zip(batch.images, batch.targets, strict=True):
            row = round(float(image[0, 0, 0]) * 25.5)
            assert row in rows and torch.equal(target, every.targets[row])
            assert torch.equal(image, every.images[row] * torch.tensor(1 / 255))


def test_an_epoch_is_a_function_of_seed_fold_and_epoch():
    settings = AugmentSettings.model_validate({"batch": ["flip_h", "contrast", "brightness", "noise"]})

    def batches(resident: Resident, seed: int, fold: int, epoch: int) -> torch.Tensor:
        return torch.cat([batch.images for batch in resident.epoch(seed, fold, epoch, settings)])

    fresh = batches(source(list(range(N))), 4, 1, 6)
    used = source(list(range(N)))
    batches(used, 4, 1, 5)
    torch.rand(3)
    np.random.default_rng(0).random(3)
    assert torch.equal(batches(used, 4, 1, 6), fresh)
    for numbers in ((5, 1, 6), (4, 0, 6), (4, 1, 5), (4, 6, 1)):
        assert not torch.equal(batches(used, *numbers), fresh)
        assert drawn(used, *numbers) != drawn(used, 4, 1, 6)


def test_random_numbers_used_by_the_net_between_batches_do_not_change_the_order():
    resident = source(list(range(N)))
    rows = []
    for batch in resident.epoch(0, 0, 0, PLAIN):
        torch.rand(5)  # dropout
        rows += [round(float(image[0, 0, 0]) * 25.5) for image in batch.images]
    assert rows == drawn(resident, 0, 0, 0)


# ---------------------------------------------------------------- other numbers, labels, sizes


@pytest.mark.parametrize(("dtype", "scale"), [("uint8", 255), ("uint16", 65535), ("float32", 1)])
def test_moments_are_numpys_whatever_the_images_are_kept_as(dtype, scale):
    generator = np.random.default_rng(0)
    values = generator.normal(0.4, 0.2, (6, 3, 5, 7)) + np.array([0, 0.1, 0.3]).reshape(3, 1, 1)
    kept = np.clip(values, 0, 1) * scale if scale > 1 else values * 50 - 10
    images = (kept.round() if scale > 1 else kept).astype(dtype)
    ids = [str(i) for i in range(6)]
    masks = Ragged.stack(np.ones((6, 1, 5, 7), np.uint8), ids)
    rows = np.array([4, 0, 5])
    made = Part("train", Ragged.stack(images, ids), masks, "0")
    resident = Resident(made, rows, Fit((5, 7), "same"), competition(), 1, 2, CPU)
    seen = images[rows].astype(np.float64) / scale
    assert resident.scale == made.scale == scale
    assert resident.mean == pytest.approx(seen.mean((0, 2, 3)), rel=1e-6)
    assert resident.std == pytest.approx(seen.std((0, 2, 3)), rel=1e-6)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_an_epoch_gives_such_images_divided_by_their_scale(dtype):
    generator = np.random.default_rng(0)
    images = (generator.random((4, 2, 3, 5)) * 60000).astype(dtype)
    masks = generator.integers(1, 3, (4, 1, 3, 5)).astype(np.uint8)
    ids = [str(i) for i in range(4)]
    made = Part("train", Ragged.stack(images, ids), Ragged.stack(masks, ids), "0")
    resident = Resident(made, np.arange(4), Fit((3, 5), "same"), competition(), 1, 2, CPU)
    settings = AugmentSettings.model_validate({"batch": ["flip_h", "flip_v"]})
    seen = set()
    for batch in resident.epoch(1, 0, 0, settings):
        assert batch.images.dtype == torch.float32
        for image, target in zip(batch.images, batch.targets, strict=True):
            kept = image.numpy() * made.scale
            order, row = next(
                (axes, row)
                for row in range(4)
                for axes in ((), (-1,), (-2,), (-1, -2))
                if np.allclose(kept, np.flip(images[row], axes), rtol=1e-5)
            )
            np.testing.assert_array_equal(target.numpy(), np.flip(masks[row, 0], order) - 1)
            seen.add(row)
    assert seen == {0, 1, 2, 3}


def test_the_deviation_of_equal_numbers_is_never_zero():
    images = np.full((2, 1, 2, 2), 3.5, np.float32)
    made = Part(
        "train", Ragged.stack(images, ["a", "b"]), Ragged.stack(np.ones((2, 1, 2, 2), np.uint8), ["a", "b"]), "0"
    )
    resident = Resident(made, np.arange(2), SAME, competition(), 1, 2, CPU)
    assert (resident.mean, resident.std) == ([3.5], [1e-3])


def test_without_the_step_nothing_is_standardised():
    resident = Resident(part(), np.arange(N), SAME, competition(preprocess=[]), 1, 2, CPU)
    assert resident.mean is None and resident.std is None
    assert torch.equal(resident.images, source(list(range(N))).images)


def test_labels_are_targets_of_one_pixel():
    labels = np.array([0, 2, 1, 2, 255, 0, 0, 1, 2, 0], np.uint8)
    made = Part("train", part().images, Ragged.stack(labels.reshape(-1, 1, 1, 1), part().images.ids), "0")
    resident = Resident(made, np.arange(N), SAME, competition("classification"), 3, 2, CPU)
    # all three classes are scored; the rarest is 1, of rows 2 and 7
    assert resident.counts.tolist() == [4, 2, 3]
    assert resident.targets.shape == (N, 1, 1) and resident.targets.flatten().tolist() == labels.tolist()
    settings = AugmentSettings.model_validate({"batch": ["flip_h", "flip_v"]})
    rows = []
    for batch in resident.epoch(0, 0, 0, settings):
        assert batch.targets.shape == (2, 1, 1)
        for image, target in zip(batch.images, batch.targets, strict=True):
            rows.append(round(float(image[0, 0, 0]) * 25.5))
            assert target.flatten().tolist() == [labels[rows[-1]]]
    assert sorted(rows) == [0, 1, 2, 2, 2, 3, 4, 5, 6, 7, 7, 7, 8, 9]


def test_a_tile_is_an_image_of_its_own():
    """Two images of 2×5 and one of 2×2 in tiles of 2×2 with half of a tile in common: 4 + 4 + 1 tiles."""
    images = [np.arange(10, dtype=np.uint8).reshape(1, 2, 5) + 20 * k for k in range(2)]
    images.append(np.full((1, 2, 2), 99, np.uint8))
    masks = [
        np.array([[[1, 1, 1, 1, 1], [1, 1, 1, 1, 2]]], np.uint8),
        np.ones((1, 2, 5), np.uint8),
        np.ones((1, 2, 2), np.uint8),
    ]

    def ragged(items: list[np.ndarray]) -> Ragged:
        shapes = np.array([item.shape for item in items])
        return Ragged(np.concatenate([item.reshape(-1) for item in items]), shapes, np.array(["a", "b", "c"]))

    made = Part("train", ragged(images), ragged(masks), "0")
    resident = Resident(made, np.arange(3), Fit((2, 2), "tiles", 0.5), competition(), 2, 2, CPU)
    assert resident.images.shape == (9, 1, 2, 2)
    assert resident.images[0, 0].tolist() == [[0, 1], [5, 6]] and resident.images[7, 0].tolist() == [[23, 24], [28, 29]]
    assert resident.targets[3].tolist() == [[0, 0], [0, 1]]  # the only tile with rock
    assert resident.counts.tolist() == [35, 1]
    assert resident.order.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 3]


def test_what_lies_beyond_an_image_carries_no_loss():
    resident = Resident(part(), np.array([3]), Fit((4, 2), "pad"), competition(), 1, 2, CPU)
    assert resident.images.shape == (1, 2, 4, 2)
    assert resident.targets.tolist() == [[[255, 255], [255, 0], [0, 1], [255, 255]]]
    assert resident.counts.tolist() == [2, 1]
