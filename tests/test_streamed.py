"""The streamed source: the same batches as the resident one, from other processes; what is done image by image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from conftest import Tiny
from podium.augment_per_image import PerImage
from podium.config_augment import AugmentSettings, PerImageSettings
from podium.data.fit import Fit
from podium.errors import UserError
from podium.training.choose import free_memory_of, make_source
from podium.training.machine import Machine
from podium.training.source import Resident, Source
from podium.training.streamed import Streamed

CPU = torch.device("cpu")
QUIET = ["flip_h", "flip_v", {"name": "contrast", "p": 1.0}]


def sources(tiny: Tiny, readers: int, fit: Fit | None = None, **augment: Any) -> tuple[Source, Source, AugmentSettings]:
    settings = AugmentSettings.model_validate(tiny.recipe.augment.model_dump(mode="json") | augment)
    rows, _ = tiny.folds.rows(0)
    arguments = (tiny.dataset.train, rows, fit or Fit((16, 32), "same"), tiny.competition, 2, 4, CPU)
    return Resident(*arguments), Streamed(*arguments, settings=settings, readers=readers), settings


@pytest.mark.parametrize("readers", [0, 2])
@pytest.mark.parametrize("fit", [Fit((16, 32), "same"), Fit((8, 8), "tiles"), Fit((20, 12), "resize")])
def test_both_sources_give_the_same_batches(tiny: Tiny, readers: int, fit: Fit) -> None:
    resident, streamed, settings = sources(tiny, readers, fit)
    assert streamed.counts.tolist() == resident.counts.tolist()
    assert (streamed.mean, streamed.std) == (resident.mean, resident.std)
    for epoch in (0, 1):
        batches = list(zip(resident.epoch(5, 0, epoch, settings), streamed.epoch(5, 0, epoch, settings), strict=True))
        assert len(batches) == resident.steps == streamed.steps > 1
        for one, other in batches:
            assert torch.equal(one.targets, other.targets)
            # the noise is drawn from one generator, after the other source's
            assert torch.allclose(one.images, other.images, atol=6 * 0.02 + 1e-6)
    assert torch.equal(resident.sample(3), streamed.sample(3))


def test_without_noise_batches_are_equal_to_the_bit(tiny: Tiny) -> None:
    resident, streamed, settings = sources(tiny, 1, batch=QUIET)
    for one, other in zip(resident.epoch(5, 0, 3, settings), streamed.epoch(5, 0, 3, settings), strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.targets, other.targets)


def test_what_is_done_image_by_image_depends_on_seed_and_place_only(tiny: Tiny) -> None:
    changes = [
        {"name": "RandomGamma", "p": 1.0, "gamma_limit": [40, 200]},
        {"name": "Affine", "translate_px": 3, "p": 0.7},
    ]
    found = []
    for readers in (0, 1, 2):
        resident, streamed, settings = sources(tiny, readers, per_image=changes, batch=QUIET)
        list(streamed.epoch(5, 0, 0, settings))  # what ran before does not matter
        found.append(list(streamed.epoch(5, 0, 1, settings)))
    plain = list(resident.epoch(5, 0, 1, settings))
    assert not torch.equal(found[0][0].images, plain[0].images)
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            assert torch.equal(one.images, other.images) and torch.equal(one.targets, other.targets)
    assert not torch.equal(found[0][0].images, next(iter(streamed.epoch(6, 0, 1, settings))).images)


def test_pixels_from_outside_an_image_carry_no_label() -> None:
    change = PerImage([PerImageSettings.model_validate({"name": "Affine", "p": 1.0, "translate_px": {"x": 5, "y": 0}})])
    image, target = np.full((1, 6, 12), 9, np.uint8), np.ones((6, 12), np.uint8)
    moved, labels = change(image, target, 0)
    assert moved.shape == image.shape and labels[:, :5].min() == 255 and (labels[:, 5:] == 1).all()
    _, label = change(image, np.array([[1]], np.uint8), 0)
    assert label.tolist() == [[1]]


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"name": "RandomGama"}, "albumentations has no 'RandomGama'; did you mean 'RandomGamma'?"),
        ({"name": "RandomGamma", "gama": 3}, "RandomGamma: .*gama"),
        ({"name": "RandomGamma", "gamma_limit": "wide"}, "RandomGamma: "),
        ({"name": "Compose"}, "albumentations has no 'Compose'"),
    ],
)
def test_wrong_transforms_are_one_sentence(item: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        PerImage([PerImageSettings.model_validate(item)])


def test_transforms_that_change_the_size_are_refused() -> None:
    change = PerImage([PerImageSettings(name="Transpose", p=1.0)])
    with pytest.raises(UserError, match="leave size and type as they are"):
        change(np.zeros((1, 6, 12), np.uint8), np.zeros((6, 12), np.uint8), 0)


def test_what_has_room_is_resident(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = tiny.folds.rows(0)
    fit = Fit((16, 32), "same")

    def made(machine: Machine, **augment: Any) -> Source:
        recipe = tiny.changed(augment=augment) if augment else tiny.recipe
        return make_source(tiny.dataset.train, rows, fit, tiny.competition, recipe, machine)

    assert free_memory_of(CPU) > 1 << 28
    assert isinstance(made(Machine("cpu", "test", 1, "fp32")), Resident)
    assert isinstance(made(Machine("cpu", "test", 1, "fp32", "streamed")), Streamed)
    per_image = [{"name": "RandomGamma"}]
    assert isinstance(made(Machine("cpu", "test", 1, "fp32"), per_image=per_image), Streamed)
    with pytest.raises(UserError, match="--source resident: recipe 'small' has augment.per_image"):
        made(Machine("cpu", "test", 1, "fp32", "resident"), per_image=per_image)
    monkeypatch.setattr("podium.training.choose.free_memory_of", lambda device: 1000)
    assert isinstance(made(Machine("cpu", "test", 1, "fp32")), Streamed)
    assert isinstance(made(Machine("cpu", "test", 1, "fp32", "resident")), Resident)
