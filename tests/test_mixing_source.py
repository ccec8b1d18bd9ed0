"""What a recipe's ``mix`` does to the batches of a source, and that it knows of nothing but the training rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import Tiny
from podium.augment import augment, draw
from podium.config import Recipe
from podium.config_augment import AugmentSettings
from podium.config_mix import Mixes
from podium.data.fit import Fit
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.randomness import stream
from podium.store import Folder, Key
from podium.training.fold import train_fold
from podium.training.source import Batch, Resident, Source
from podium.training.streamed import Streamed
from three_classes import competition

CPU = torch.device("cpu")
SIZE = (12, 16)
N, BATCH = 24, 4
PLAIN = AugmentSettings(batch=())
FLIPS = AugmentSettings.model_validate({"batch": ["flip_h", "flip_v", {"name": "contrast", "p": 0.5}]})
ALL = [
    {"name": "copy_paste", "p": 0.5, "count": 2},
    {"name": "cutmix", "of": "rarest", "p": 0.3},
    {"name": "cutmix", "p": 0.2},
    {"name": "mixup", "p": 0.3},
]


def mixes_of(*mixes: Any) -> Mixes:
    raw = {"name": "r", "net": {"name": "residual_unet", "widths": [4, 8]}, "mix": list(mixes)}
    return Recipe.model_validate(raw).mix


def part(dtype: str = "uint8") -> Part:
    """Dust of values 0 to 99; in images 2, 9 and 17 rocks of the values 120, 130 and 140."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 100, (N, 1, *SIZE)).astype(dtype)
    masks = np.ones((N, 1, *SIZE), np.uint8)
    masks[:, 0, :, 0] = 0  # not scored
    for image, (top, left, height, width) in {2: (3, 4, 2, 3), 9: (0, 6, 3, 3), 17: (7, 9, 4, 2)}.items():
        at = np.s_[image, 0, top : top + height, left : left + width]
        masks[at] = 2
        images[at] = {2: 120, 9: 130, 17: 140}[image]
    ids = [str(i) for i in range(N)]
    return Part("train", Ragged.stack(images, ids), Ragged.stack(masks, ids), "0")


def labels() -> Part:
    """Two images of rock, 5 and 11, of the value 200; the others hold nothing or dust and are darker."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 100, (N, 1, *SIZE)).astype(np.uint8)
    images[[5, 11]] = 200
    kinds = np.arange(N, dtype=np.uint8) % 2
    kinds[[5, 11]] = 2
    ids = [str(i) for i in range(N)]
    return Part("train", Ragged.stack(images, ids), Ragged.stack(kinds.reshape(-1, 1, 1, 1), ids), "0")


def arguments(*mixes: Any, rows: Any = None, data: Part | None = None, task: str = "segmentation") -> tuple[Any, ...]:
    rows = np.arange(N) if rows is None else np.array(rows)
    fit = Fit(SIZE, "same")
    return (data or part(), rows, fit, competition(task), 1, BATCH, CPU, None, mixes_of(*mixes))


def source(*mixes: Any, **more: Any) -> Resident:
    return Resident(*arguments(*mixes, **more))


def batches(made: Source, epoch: int = 0, settings: AugmentSettings = PLAIN, seed: int = 0) -> list[Batch]:
    return list(made.epoch(seed, 0, epoch, settings))


def same(one: Batch, other: Batch) -> bool:
    for name in ("images", "targets", "other", "share"):
        a, b = getattr(one, name), getattr(other, name)
        if (a is None) != (b is None) or (a is not None and not torch.equal(a, b)):
            return False
    return True


def values(found: list[Batch]) -> set[int]:
    """The whole numbers above 100 among the pixels."""
    pixels = torch.cat([batch.images.flatten() for batch in found]) * 255
    return {round(value) for value in pixels.tolist() if value > 100.5}


# ---------------------------------------------------------------- nothing


def test_without_a_mix_batches_are_pieces_in_their_order_augmented() -> None:
    made = source()
    assert made.mixing.areas is None and made.mixing.kept is None
    generator = torch.Generator().manual_seed(stream("epoch", 3, 1, 2))
    order = made.order[torch.randperm(N, generator=generator)]
    draws = draw(FLIPS, N, generator, (1, *SIZE))
    for step, batch in enumerate(made.epoch(3, 1, 2, FLIPS)):
        rows = slice(step * BATCH, (step + 1) * BATCH)
        images, targets = augment(made.images[order[rows]], made.targets[order[rows]], draws[rows], FLIPS)
        assert same(batch, Batch(images, targets)) and batch.other is None


def test_images_that_are_not_mixed_are_as_without() -> None:
    for mix in ALL:
        untouched = 0
        for one, other in zip(batches(source(), 0, FLIPS), batches(source(mix), 0, FLIPS), strict=True):
            equal = (one.images == other.images).all(-1).all(-1).all(-1)
            assert torch.equal(one.targets[equal], other.targets[equal])
            if other.other is not None and other.share is not None:
                assert torch.equal(other.other[equal], other.targets[equal]) and (other.share[equal] == 0).all()
            untouched += int(equal.sum())
        assert 4 < untouched < N


# ---------------------------------------------------------------- the training rows and nothing else


@pytest.mark.parametrize("mix", [{"name": "copy_paste", "p": 1, "edge": 0}, {"name": "cutmix", "of": "rarest", "p": 1}])
@pytest.mark.parametrize("kind", [Resident, Streamed])
def test_what_is_pasted_comes_from_training_rows_alone(kind: Any, mix: dict[str, Any]) -> None:
    more = {} if kind is Resident else {"settings": PLAIN}
    for held_out, allowed in ((2, {130, 140}), (9, {120, 140}), (17, {120, 130})):
        made = kind(*arguments(mix, rows=[row for row in range(N) if row != held_out]), **more)
        seen = set().union(*(values(batches(made, epoch)) for epoch in range(6)))
        assert seen == allowed


def test_pasted_pixels_and_their_labels_go_together() -> None:
    made = source({"name": "copy_paste", "p": 0.8, "edge": 0})
    rocks = 0
    for epoch in range(4):
        for batch in batches(made, epoch, FLIPS.model_copy(update={"batch": FLIPS.batch[:2]})):
            bright = batch.images[:, 0] * 255 > 110
            assert torch.equal(bright, batch.targets == 1)
            rocks += int(bright.any(2).any(1).sum())
    assert rocks > 3 * 4 + 30
    # a soft edge leaves the rock itself as it is; where there are two, one may lie over the other's edge
    alone = 0
    for batch in batches(source({"name": "copy_paste", "p": 0.8, "edge": 2})):
        for image, target in zip(batch.images[:, 0] * 255, batch.targets, strict=True):
            if int((target == 1).sum()) in (6, 8, 9):
                alone += 1
                assert set(image[target == 1].round().tolist()) <= {120, 130, 140}
    assert alone > 10


def test_pasted_areas_are_turned_with_their_image() -> None:
    quarter = AugmentSettings.model_validate({"batch": [{"name": "flip_v", "p": 1}]})
    made = source({"name": "copy_paste", "p": 1})
    for plain, flipped in zip(batches(made), batches(made, 0, quarter), strict=True):
        assert torch.equal(plain.images.flip(-2), flipped.images) and torch.equal(
            plain.targets.flip(-2), flipped.targets
        )


def test_images_of_other_numbers_are_pasted_too() -> None:
    for dtype in ("uint16", "float32"):
        data = part(dtype)
        made = source({"name": "copy_paste", "p": 0.8, "edge": 0}, data=data)
        found = batches(made)
        pixels = torch.cat([batch.images for batch in found])[:, 0] * data.scale
        there = torch.cat([batch.targets for batch in found]) == 1
        assert torch.equal(pixels.round() > 110, there) and int(there.any(2).any(1).sum()) > 10


def test_a_class_that_never_occurs_gives_way_and_an_empty_part_is_left_alone() -> None:
    data = part()
    assert data.targets is not None
    # without rocks dust is the rarest class
    dusty = source(*ALL, rows=[0, 1, 3, 4, 5, 6, 7, 8])
    assert dusty.rarest == 0 and dusty.mixing.areas is not None and dusty.mixing.areas.label == 0
    assert len(batches(dusty)) == 2
    empty = Part("train", data.images, Ragged.stack(np.zeros((N, 1, *SIZE), np.uint8), data.images.ids), "0")
    made = source(*ALL[:2], data=empty)
    assert made.mixing.areas is None and made.mixing.kept is None
    for one, other in zip(batches(made, 0, FLIPS), batches(source(data=empty), 0, FLIPS), strict=True):
        assert same(one, other)


# ---------------------------------------------------------------- labels


def test_labels_get_a_second_one_by_area() -> None:
    made = source({"name": "cutmix", "of": "rarest", "p": 0.5}, data=labels(), task="classification")
    mixed = 0
    for batch in batches(made):
        bright = (batch.images[:, 0] * 255).round() == 200
        if batch.other is None or batch.share is None:
            assert (bright.flatten(1).float().mean(1) % 1 == 0).all()
            continue
        for sample in range(BATCH):
            if batch.share[sample] > 0 and batch.targets[sample] != 2:
                mixed += 1
                assert batch.other[sample].item() == 2
                assert float(batch.share[sample]) == pytest.approx(float(bright[sample].float().mean()), abs=1e-7)
    assert mixed > 5


def test_labels_have_no_areas_to_paste() -> None:
    with pytest.raises(UserError, match="^mix: 'copy_paste' cuts areas out of masks and labels have none; use any of"):
        source("copy_paste", data=labels(), task="classification")


# ---------------------------------------------------------------- the same whoever reads, and whatever ran before


@pytest.mark.parametrize("readers", [0, 1])
@pytest.mark.parametrize(
    "fit", [Fit(SIZE, "same"), Fit((8, 8), "tiles"), Fit((10, 20), "resize"), Fit((14, 16), "pad")]
)
def test_both_sources_give_the_same_mixed_batches(readers: int, fit: Fit) -> None:
    given = list(arguments(*ALL))
    given[2], given[7] = fit, 3
    resident, streamed = Resident(*given), Streamed(*given, settings=FLIPS, readers=readers)
    seconds = 0
    for epoch in (0, 1):
        both = zip(resident.epoch(5, 0, epoch, FLIPS, 0.5), streamed.epoch(5, 0, epoch, FLIPS, 0.5), strict=True)
        for one, other in both:
            assert same(one, other)
            seconds += one.other is not None
    assert seconds > 1


def test_labels_are_mixed_alike_by_both_sources() -> None:
    given = arguments(*ALL[1:], data=labels(), task="classification")
    resident, streamed = Resident(*given), Streamed(*given, settings=FLIPS)
    found = [batches(made, 1, FLIPS) for made in (resident, streamed)]
    assert all(same(one, other) for one, other in zip(*found, strict=True))
    assert any(batch.other is not None for batch in found[0])


def test_a_mixed_epoch_is_a_function_of_seed_fold_and_epoch() -> None:
    fresh = list(source(*ALL).epoch(4, 1, 6, FLIPS))
    used = source(*ALL)
    batches(used, 5, FLIPS)
    torch.rand(3)
    np.random.default_rng(0).random(3)
    again = []
    for batch in used.epoch(4, 1, 6, FLIPS):
        torch.rand(5)  # dropout
        again.append(batch)
    assert all(same(one, other) for one, other in zip(fresh, again, strict=True))

    def pattern(found: list[Batch]) -> list[Any]:
        return [None if batch.share is None else batch.share.tolist() for batch in found]

    for numbers in ((5, 1, 6), (4, 0, 6), (4, 1, 5)):
        assert pattern(list(used.epoch(*numbers, FLIPS))) != pattern(fresh)


def test_kept_pieces_are_augmented_by_draws_of_their_own() -> None:
    made = source({"name": "cutmix", "of": "rarest", "p": 0.7, "area": [1, 1]})
    assert made.mixing.kept is not None and len(made.mixing.kept.images) == 3
    generator = torch.Generator().manual_seed(stream("epoch", 0, 0, 0))
    torch.randperm(N, generator=generator)
    draw(FLIPS, N, generator, (1, *SIZE))
    (chosen,) = made.mixing.epoch(stream("mix", 0, 0, 0), N).blends
    partner = chosen.values["partner"]
    draws = draw(FLIPS, len(chosen), generator, (1, *SIZE))
    images, targets = augment(made.mixing.kept.images[partner], made.mixing.kept.targets[partner], draws, FLIPS)
    found = batches(made, 0, FLIPS)
    assert torch.equal(torch.cat([batch.images for batch in found])[chosen.at], images)
    assert torch.equal(torch.cat([batch.targets for batch in found])[chosen.at], targets)


def test_the_data_are_never_written_to() -> None:
    made = source(*ALL)
    images, targets = made.images.clone(), made.targets.clone()
    assert made.mixing.areas is not None and made.mixing.kept is not None
    kept = made.mixing.areas.images.clone(), made.mixing.kept.images.clone(), made.mixing.kept.targets.clone()
    for epoch in range(3):
        batches(made, epoch)
    assert torch.equal(made.images, images) and torch.equal(made.targets, targets)
    now = made.mixing.areas.images, made.mixing.kept.images, made.mixing.kept.targets
    assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True))


# ---------------------------------------------------------------- a training


def test_a_training_mixes_and_lets_the_rate_fall(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    seconds: list[bool] = []
    epoch_of = Resident.epoch

    def epoch(self: Source, *given: Any) -> Iterator[Batch]:
        seen.append(given[4])
        for batch in epoch_of(self, *given):
            seconds.append(batch.other is not None)
            yield batch

    monkeypatch.setattr(Resident, "epoch", epoch)
    raw = tiny.changed(train={"epochs": 3, "rarest_rate": 3, "rarest_rate_end": 1}).model_dump(mode="json")
    recipe = Recipe.model_validate(raw | {"mix": ALL})
    weights = []
    for name in ("once", "again"):
        result = train_fold(
            *(tiny.competition, recipe, 1, 3, tiny.dataset.train, Fit((16, 32), "same"), tiny.folds),
            *(Folder(tmp_path / name, Key("fold", 1, {})), tiny.machine),
        )
        # 15 rows outside the fold, drawn once an epoch in the end and so as many before
        assert np.isfinite(result.loss) and result.steps == 3 * (15 // 4)
        weights.append((tmp_path / name / "ema.safetensors").read_bytes())
    # the last is the one over which batch norm is measured
    assert seen == [0.0, 0.5, 1.0, 1.0] * 2 and any(seconds) and not all(seconds)
    assert weights[0] == weights[1]
