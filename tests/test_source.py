"""The resident source: what it counts, what it draws, and that an epoch depends on nothing but its own numbers."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from podium.config import AugmentSettings
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.randomness import stream
from podium.training.source import Resident

PLAIN = AugmentSettings(flip_h=0)
CPU = torch.device("cpu")
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
    return Resident(part(), np.array(rows), (1, 2), rate, batch, CPU)


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


def test_targets_belong_to_their_images():
    resident = source(list(range(N)))
    for batch in resident.epoch(0, 0, 0, PLAIN):
        for image, target in zip(batch.images, batch.targets, strict=True):
            row = round(float(image[0, 0, 0]) * 25.5)
            assert torch.equal(target, resident.targets[row])
            assert torch.equal(image, resident.images[row] * torch.tensor(1 / 255))


def test_an_epoch_is_a_function_of_seed_fold_and_epoch():
    settings = AugmentSettings(flip_h=0.5, brightness=0.1, contrast=0.1, noise=0.1)

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
