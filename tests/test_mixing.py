"""Copy-paste, CutMix and MixUp by themselves: what is kept, where it goes, and what labels it brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from podium.augment.draws import Chosen
from podium.config import Recipe
from podium.config_file import load_recipe
from podium.config_mix import CopyPaste, CutMix, Mixes, MixUp, misfit
from podium.errors import UserError
from podium.mixing import Mixing
from podium.mixing.bank import Areas, areas, evenly, pieces
from podium.mixing.blend import box, box_around, draw_blends
from podium.mixing.mixing import Mixed
from podium.mixing.paste import chosen, draw_pastes, paste

CPU = torch.device("cpu")
NET = "net: {name: residual_unet, widths: [4, 8]}\n"


def mixes_of(*mixes: Any) -> Mixes:
    raw = {"name": "r", "net": {"name": "residual_unet", "widths": [4, 8]}, "mix": list(mixes)}
    return Recipe.model_validate(raw).mix


def reader(images: np.ndarray, targets: np.ndarray) -> Any:
    return lambda piece: (images[piece], targets[piece])


def held(targets: np.ndarray, label: int) -> np.ndarray:
    return (targets == label).reshape(len(targets), -1).sum(1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---------------------------------------------------------------- settings


def test_names_alone_stand_for_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(NET + "mix: [mixup, {name: cutmix, of: rarest, area: [0.1, 0.2]}, copy_paste]")
    assert load_recipe(path).mix == (MixUp(), CutMix(of="rarest", area=(0.1, 0.2)), CopyPaste())
    assert Recipe.model_validate(load_recipe(path).model_dump(mode="json")) == load_recipe(path)
    path.write_text(NET)
    assert load_recipe(path).mix == ()


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        ("[cutout]", "key 'mix.0.name': 'cutout' is not allowed; did you mean 'cutmix'"),
        ("[{p: 0.2}]", "key 'mix.name': one of them has none; write it as in {name: mixup, p: 0.2}"),
        ("[{name: mixup, p: 1.5}]", "key 'mix.0.p': .* less than or equal to 1"),
        ("[{name: mixup, area: [0.1, 0.2]}]", "unknown key 'mix.0.area'"),
        ("[{name: mixup, alpha: 0}]", "key 'mix.0.alpha': .* greater than 0"),
        ("[{name: cutmix, area: [0.3, 0.2]}]", "key 'mix.0.area.*': is from large to small"),
        ("[{name: cutmix, area: [0.0, 0.2]}]", "key 'mix.0.area.0': .* greater than 0"),
        ("[{name: copy_paste, of: big_rock}]", "key 'mix.0.of': 'big_rock' is not allowed; allowed: rarest"),
        ("[mixup, mixup]", "key 'mix.mixup': is named 2 times; name it once"),
        ("[cutmix, {name: cutmix, p: 0.1}]", "key 'mix.cutmix': is named 2 times of any; name it once"),
        (
            "[{name: cutmix, p: 0.6}, {name: mixup, p: 0.5}]",
            "key 'mix.p': an image is mixed in one way at most, .* add up to 1.1; lower them",
        ),
    ],
)
def test_wrong_settings_are_one_sentence(tmp_path: Path, mix: str, said: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(NET + f"mix: {mix}")
    with pytest.raises(UserError, match=said):
        load_recipe(path)


def test_what_may_stand_together() -> None:
    three = mixes_of(
        {"name": "cutmix", "p": 0.7}, {"name": "cutmix", "of": "rarest", "p": 0.2}, {"name": "mixup", "p": 0.1}
    )
    assert len(three) == 3
    # copy-paste has no part in the sum
    assert len(mixes_of({"name": "copy_paste", "p": 1}, {"name": "mixup", "p": 1})) == 2


def test_labels_have_no_areas_to_paste() -> None:
    everything = mixes_of("copy_paste", "cutmix", {"name": "cutmix", "of": "rarest"}, "mixup")
    assert misfit(everything, "segmentation") is None
    assert misfit(everything[1:], "classification") is None
    with pytest.raises(UserError, match="^mix: 'copy_paste' cuts areas out of masks and labels have none; use any of"):
        nothing = np.zeros((1, 1, 1), np.uint8)
        Mixing(everything, "classification", 0, np.ones(1), reader(nothing[None], nothing), 1, (1, 1), CPU)


# ---------------------------------------------------------------- the bank


def test_at_even_distances_by_hand() -> None:
    sizes = np.array([50, 10, 40, 20, 30, 60])
    assert evenly(sizes, 6).tolist() == evenly(sizes, 99).tolist() == [0, 1, 2, 3, 4, 5]
    # in order 10 20 30 40 50 60; places 1, 3 and 5
    assert evenly(sizes, 3).tolist() == [2, 3, 5]
    # the middle one, and of equal ones that which came first
    assert evenly(sizes, 1).tolist() == [2]
    assert evenly(np.array([7, 7, 7, 7]), 2).tolist() == [1, 3]


def test_areas_are_those_of_scipy() -> None:
    generator = rng()
    targets = (generator.random((5, 20, 30)) < 0.25).astype(np.uint8) * 2
    images = generator.integers(0, 255, (5, 3, 20, 30)).astype(np.uint8)
    found = areas(reader(images, targets), held(targets, 2), 2, 4096, 0, CPU)
    assert found is not None and found.margin == 0 and found.label == 2
    expected = []
    for image, target in zip(images, targets, strict=True):
        components, count = ndimage.label(target == 2, np.ones((3, 3)))
        for number, at in enumerate(ndimage.find_objects(components), start=1):
            own = components[at] == number
            expected.append((own.shape, (image[:, *at] * own).sum(), own.sum()))
        assert count
    got = [
        (tuple(size), (canvas.numpy() * (alpha.numpy() == 255)).sum(), (alpha == 255).sum())
        for size, canvas, alpha in zip(found.sizes, found.images, found.alpha, strict=True)
    ]
    assert sorted(got) == sorted(expected)
    assert found.images.dtype == torch.uint8 and found.alpha.unique().tolist() == [0, 255]


def one_area(edge: float, dtype: str = "uint8") -> Areas:
    """A ring of an L, two pixels and one that touches by its corner, of class 1 in the corner of a 3×4 image."""
    target = np.array([[[0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1]]], np.uint8)
    image = (np.arange(12).reshape(1, 1, 3, 4) + 100).astype(dtype)
    found = areas(reader(image, target), held(target, 1), 1, 8, edge, CPU)
    assert found is not None
    return found


def test_an_area_fades_around_itself_by_hand() -> None:
    hard = one_area(0)
    assert hard.sizes.tolist() == [[3, 2]] and hard.images.tolist() == [[[[102, 103], [106, 107], [110, 111]]]]
    assert hard.alpha.tolist() == [[[255, 0], [0, 255], [0, 255]]]
    soft = one_area(1)
    assert soft.sizes.tolist() == [[3, 2]] and soft.margin == 1
    # at distance 1 one half, at the square root of 2 1 - 0.7071: 127.5 and 74.7 of 255
    assert soft.alpha.tolist() == [
        [
            [75, 128, 75, 0],
            [128, 255, 128, 75],
            [75, 128, 255, 128],
            [0, 128, 255, 128],
            [0, 75, 128, 75],
        ]
    ]
    # beyond the image its last row and column are seen again
    assert soft.images[0, 0].tolist() == [
        [101, 102, 103, 103],
        [101, 102, 103, 103],
        [105, 106, 107, 107],
        [109, 110, 111, 111],
        [109, 110, 111, 111],
    ]


def test_a_wide_edge_reaches_its_width_and_leaves_the_area_alone() -> None:
    target = np.zeros((1, 41, 41), np.uint8)
    target[0, 20, 20] = 1
    found = areas(reader(np.zeros((1, 1, 41, 41), np.uint8), target), held(target, 1), 1, 8, 7.5, CPU)
    assert found is not None and found.margin == 8 and found.alpha.shape == (1, 17, 17)
    row = found.alpha[0, 8].tolist()
    assert row[8] == 255 and row[:8] == [round(255 * (1 - d / 8.5)) for d in range(8, 0, -1)]
    assert int((found.alpha == 255).sum()) == 1
    steepest = areas(reader(np.zeros((1, 1, 41, 41), np.uint8), target), held(target, 1), 1, 8, 32, CPU)
    assert steepest is not None and int((steepest.alpha == 255).sum()) == 1


def squares(sides: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """A 16×16 image for each side, with a square of class 1 and of the value of its side."""
    targets = np.zeros((len(sides), 16, 16), np.uint8)
    for target, side in zip(targets, sides, strict=True):
        target[3 : 3 + side, 2 : 2 + side] = 1
    return targets[:, None] * np.array(sides, np.uint8)[:, None, None, None], targets


def test_only_some_areas_are_kept_of_all_sizes() -> None:
    images, targets = squares([6, 0, 1, 5, 2, 4, 3])
    asked: list[int] = []

    def read(piece: int) -> tuple[np.ndarray, np.ndarray]:
        asked.append(piece)
        return images[piece], targets[piece]

    found = areas(read, held(targets, 1), 1, 3, 0, CPU)
    assert found is not None
    # of 1 to 6 the second, the fourth and the last, in the order of the images; no others are read
    assert found.sizes[:, 0].tolist() == [6, 2, 4] and set(asked) == {0, 4, 5}
    assert found.images.amax((1, 2, 3)).tolist() == [6, 2, 4]
    # several areas of one image
    targets[0, 12:14, 12:14] = 1
    found = areas(read, held(targets, 1), 1, 100, 0, CPU)
    assert found is not None and sorted(found.sizes[:, 0].tolist()) == [1, 2, 2, 3, 4, 5, 6]


def test_the_bank_stays_within_its_memory() -> None:
    images, targets = squares([1, 2, 3, 4, 5, 6])
    # the largest takes 36 bytes of image and 36 of alpha
    found = areas(reader(images, targets), held(targets, 1), 1, 100, 0, CPU, limit=72 * 3)
    assert found is not None and found.sizes[:, 0].tolist() == [2, 4, 6]
    assert found.images.numel() + found.alpha.numel() <= 72 * 3
    # 512 bytes a piece
    kept = pieces(reader(images, targets), held(targets, 1), CPU, limit=512 * 2)
    assert kept is not None and kept.images.amax((1, 2, 3)).tolist() == [2, 5]
    assert torch.equal(kept.targets, torch.from_numpy(targets[[1, 4]]))
    tightest = pieces(reader(images, targets), held(targets, 1), CPU, limit=1)
    assert tightest is not None and len(tightest.images) == 1


def test_a_class_that_is_not_there_leaves_the_bank_empty() -> None:
    images, targets = squares([0, 0])
    assert areas(reader(images, targets), held(targets, 1), 1, 8, 1, CPU) is None
    assert pieces(reader(images, targets), held(targets, 1), CPU) is None
    everything = mixes_of({"name": "copy_paste", "p": 1}, {"name": "cutmix", "of": "rarest", "p": 1})
    mixed = Mixing(everything, "segmentation", 1, held(targets, 1), reader(images, targets), 2, (16, 16), CPU).epoch(
        0, 2
    )
    assert mixed.taken == 0
    x, y = torch.rand(2, 1, 16, 16), torch.zeros(2, 16, 16, dtype=torch.uint8)
    same = mixed.after(0, *mixed.before(0, x.clone(), y.clone()), never)
    assert torch.equal(same[0], x) and torch.equal(same[1], y) and same[2:] == (None, None)


def never(images: torch.Tensor, targets: torch.Tensor, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
    raise AssertionError("nothing to augment")


def plain(images: torch.Tensor, targets: torch.Tensor, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
    return images.float(), targets


# ---------------------------------------------------------------- copy-paste


def at(area: int = 0, top: int = 0, left: int = 0, across: bool = False, down: bool = False) -> dict[str, Any]:
    return {"area": area, "top": top, "left": left, "across": across, "down": down}


def placed(found: Areas, where: dict[int, dict[str, Any]]) -> Chosen:
    """Draws by hand: the sample, and what it gets."""
    rows = [
        value | {"height": found.sizes[value["area"], 0], "width": found.sizes[value["area"], 1]}
        for value in where.values()
    ]
    return chosen(np.array(list(where)), {name: np.array([row[name] for row in rows]) for name in rows[0]})


def test_an_area_is_pasted_by_hand() -> None:
    images = torch.full((3, 1, 5, 6), 10, dtype=torch.uint8)
    targets = torch.full((3, 5, 6), 255, dtype=torch.uint8)
    found = one_area(1)
    paste(images, targets, found, placed(found, {1: at(top=1, left=3)}))
    for untouched in (0, 2):
        assert (images[untouched] == 10).all() and (targets[untouched] == 255).all()
    none, one = 255, 1
    assert targets[1].tolist() == [
        [none] * 6,
        [none, none, none, one, none, none],
        [none, none, none, none, one, none],
        [none, none, none, none, one, none],
        [none] * 6,
    ]
    # 10 + (value - 10) × alpha / 255, rounded
    half, less = 128 / 255, 75 / 255
    assert images[1, 0].tolist() == [
        [10, 10, round(10 + 91 * less), round(10 + 92 * half), round(10 + 93 * less), 10],
        [10, 10, round(10 + 91 * half), 102, round(10 + 93 * half), round(10 + 93 * less)],
        [10, 10, round(10 + 95 * less), round(10 + 96 * half), 107, round(10 + 97 * half)],
        [10, 10, 10, round(10 + 100 * half), 111, round(10 + 101 * half)],
        [10, 10, 10, round(10 + 100 * less), round(10 + 101 * half), round(10 + 101 * less)],
    ]


def by_hand(image: np.ndarray, target: np.ndarray, found: Areas, value: dict[str, Any]) -> None:
    """The same pixel by pixel."""
    height, width = found.sizes[value["area"]] + 2 * found.margin
    area, alpha = found.images[value["area"]].numpy(), found.alpha[value["area"]].numpy()
    for i in range(height):
        for j in range(width):
            y, x = value["top"] - found.margin + i, value["left"] - found.margin + j
            if not (0 <= y < target.shape[0] and 0 <= x < target.shape[1]):
                continue
            k, m = height - 1 - i if value["down"] else i, width - 1 - j if value["across"] else j
            share = np.float32(alpha[k, m]) / np.float32(255)
            mixed = image[:, y, x] + share * (area[:, k, m].astype(np.float32) - image[:, y, x])
            image[:, y, x] = np.rint(mixed) if image.dtype == np.uint8 else mixed
            if alpha[k, m] == 255:
                target[y, x] = found.label


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 2.5]), st.sampled_from(["uint8", "float32"]))
def test_pasting_is_the_loop_over_pixels_and_no_area_is_cut(seed: int, edge: float, dtype: str) -> None:
    generator = rng(seed)
    shape = tuple(generator.integers(3, 9, 2).tolist())
    sources = (generator.random((3, *shape)) < 0.3).astype(np.uint8)
    sources[0, 0, 0] = 1
    kept = generator.integers(0, 256, (3, 2, *shape)).astype(dtype)
    found = areas(reader(kept, sources), held(sources, 1), 1, 100, edge, CPU)
    assert found is not None
    images = generator.integers(0, 256, (4, 2, *shape)).astype(dtype)
    targets = generator.integers(2, 5, (4, *shape)).astype(np.uint8)
    option = CopyPaste(p=0.7, count=2, flip_h=0.5, flip_v=0.5, edge=edge)
    got_images, got_targets = torch.from_numpy(images.copy()), torch.from_numpy(targets.copy())
    for drawn in draw_pastes(option, found, 4, shape, generator):
        before = got_targets.clone()
        before[before == 1] = 9
        paste(got_images, before, found, drawn)
        for number, sample in enumerate(drawn.at.tolist()):
            value: dict[str, Any] = {name: column[number].item() for name, column in drawn.values.items()}
            by_hand(images[sample], targets[sample], found, value)
            # all of it is within the image
            assert int((before[sample] == 1).sum()) == int((found.alpha[value["area"]] == 255).sum())
        got_targets = torch.where(before == 1, 1, got_targets)
    np.testing.assert_allclose(got_images.numpy(), images, atol=1e-3 if dtype == "float32" else 0)
    np.testing.assert_array_equal(got_targets.numpy(), targets)


def test_every_place_within_the_image_and_every_area_is_drawn() -> None:
    images, targets = squares([2, 3])
    found = areas(reader(images, targets), held(targets, 1), 1, 8, 2, CPU)
    assert found is not None
    (drawn,) = draw_pastes(CopyPaste(p=1), found, 5000, (4, 6), rng())
    value = drawn.values
    assert len(drawn) == 5000 and torch.equal(drawn.rows, torch.arange(5000))
    for area, side in ((0, 2), (1, 3)):
        own = value["area"] == area
        assert 2300 < int(own.sum()) < 2700
        assert (value["height"][own] == side).all() and (value["width"][own] == side).all()
        assert value["top"][own].unique().tolist() == list(range(4 - side + 1))
        assert value["left"][own].unique().tolist() == list(range(6 - side + 1))
    assert 2300 < int(value["across"].sum()) < 2700 and not value["down"].any()


def test_as_many_get_areas_as_asked_and_as_many_each() -> None:
    images, targets = squares([2])
    found = areas(reader(images, targets), held(targets, 1), 1, 8, 0, CPU)
    assert found is not None
    rounds = draw_pastes(CopyPaste(p=0.3, count=3), found, 6000, (16, 16), rng())
    many = [len(drawn) for drawn in rounds]
    # 30 % get one, two thirds of those a second, a third of them a third
    for expected, count in zip((1800, 1200, 600), many, strict=True):
        assert abs(count - expected) < 150
    assert set(rounds[2].at) < set(rounds[1].at) < set(rounds[0].at)


# ---------------------------------------------------------------- CutMix and MixUp


def mixed_of(mixes: Mixes, n: int, batch: int, size: tuple[int, int], masks: bool = True, kept: Any = None) -> Mixed:
    """An epoch's draws; kept: images and targets that hold class 1."""
    images, targets = kept or (np.zeros((1, 1, *size), np.uint8), np.zeros((1, *size), np.uint8))
    task = "segmentation" if masks else "classification"
    return Mixing(mixes, task, 1, held(targets, 1), reader(images, targets), batch, size, CPU).epoch(3, n)


def constant(n: int, size: tuple[int, int]) -> torch.Tensor:
    """Image i is i everywhere."""
    return torch.arange(n, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 2, *size).clone()


def test_the_second_label_weighs_what_its_box_covers() -> None:
    size, batch = (7, 11), 6
    mixed = mixed_of(mixes_of({"name": "cutmix", "p": 0.5, "area": [0.05, 0.9]}), 20 * batch, batch, size, masks=False)
    shares = set()
    for step in range(20):
        labels = torch.arange(batch, dtype=torch.uint8).view(-1, 1, 1)
        images, targets, other, share = mixed.after(step, constant(batch, size), labels.clone(), never)
        assert torch.equal(targets, labels)
        drawn = mixed.blends[0].between(step * batch, (step + 1) * batch)
        if not len(drawn):
            assert other is None and share is None
            continue
        assert other is not None and share is not None and share.dtype == torch.float32 and other.shape == labels.shape
        for sample in range(batch):
            foreign = images[sample, 0] != sample
            assert float(share[sample]) == pytest.approx(float(foreign.float().mean()), abs=1e-7)
            if sample not in drawn.at:
                assert not foreign.any() and other[sample] == labels[sample]
                continue
            shares.add(float(share[sample]))
            assert int(other[sample]) != sample and (images[sample][:, foreign] == float(other[sample])).all()
            rows, columns = foreign.any(1).nonzero()[:, 0], foreign.any(0).nonzero()[:, 0]
            height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
            assert int(foreign.sum()) == height * width  # one whole box
            assert round(11 * (height / 7)) - 1 <= width <= round(11 * (height / 7)) + 1  # of the image's proportions
    assert len(shares) > 10 and min(shares) < 0.15 and max(shares) > 0.7


def test_of_masks_the_box_takes_its_labels_along() -> None:
    size, batch = (6, 8), 4
    mixed = mixed_of(mixes_of({"name": "cutmix", "p": 0.6}), 10 * batch, batch, size)
    changed = 0
    for step in range(10):
        masks = torch.arange(batch, dtype=torch.uint8).view(-1, 1, 1).expand(-1, *size).clone()
        images, targets, other, share = mixed.after(step, constant(batch, size), masks, never)
        assert other is None and share is None
        assert torch.equal(images[:, 0], targets.float()) and torch.equal(images[:, 1], images[:, 0])
        changed += int((targets.float() != constant(batch, size)[:, 0]).any((1, 2)).sum())
    assert changed == len(mixed.blends[0]) > 10


def test_a_mixed_image_is_the_mean_by_its_share() -> None:
    size, batch = (3, 4), 5
    generator = torch.Generator().manual_seed(0)
    mixed = mixed_of(mixes_of({"name": "mixup", "p": 0.5, "alpha": 0.4}), 12 * batch, batch, size)
    for step in range(12):
        x = torch.rand(batch, 2, *size, generator=generator)
        y = torch.randint(0, 4, (batch, *size), generator=generator).to(torch.uint8)
        images, targets, other, share = mixed.after(step, x.clone(), y.clone(), never)
        assert torch.equal(targets, y)
        drawn = mixed.blends[0].between(step * batch, (step + 1) * batch)
        if not len(drawn):
            assert torch.equal(images, x) and other is None
            continue
        assert other is not None and share is not None
        for sample in range(batch):
            where = np.flatnonzero(drawn.at == sample)
            partner = int(drawn.values["partner"][where[0]]) if len(where) else sample
            assert (partner == sample) == (len(where) == 0)
            own = 1 - share[sample]
            torch.testing.assert_close(images[sample], own * x[sample] + share[sample] * x[partner], rtol=0, atol=1e-7)
            assert torch.equal(other[sample], y[partner]) and (len(where) or share[sample] == 0)


def test_shares_are_drawn_from_beta() -> None:
    n = 20000
    for alpha in (0.2, 1.0):
        (drawn,) = draw_blends([MixUp(p=1, alpha=alpha)], 0, n, 50, (2, 2), rng())
        share = drawn.values["share"].double()
        assert len(drawn) == n and float(share.mean()) == pytest.approx(0.5, abs=0.01)
        assert float(share.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.005)


def test_partners_are_any_of_the_batch_but_oneself() -> None:
    alone: list[CutMix | MixUp] = [MixUp(p=1), CutMix(p=1)]
    for mix in alone:
        (drawn,) = draw_blends([mix], 0, 4000, 5, (4, 4), rng())
        away = (drawn.values["partner"] - drawn.rows) % 5
        assert away.unique().tolist() == [1, 2, 3, 4] and torch.bincount(away).min() == 0
        assert int(torch.bincount(away)[1:].min()) > 900
        # a batch of one has nobody
        assert len(draw_blends([mix], 0, 10, 1, (4, 4), rng())[0]) == 0


def test_a_sample_is_mixed_in_one_way_at_most() -> None:
    ways: list[CutMix | MixUp] = [CutMix(p=0.3), MixUp(p=0.5), CutMix(p=0.2, of="rarest")]
    drawn = draw_blends(ways, 7, 5000, 10, (4, 4), rng())
    assert sorted(np.concatenate([one.at for one in drawn]).tolist()) == list(range(5000))
    for one, expected in zip(drawn, (1500, 2500, 1000), strict=True):
        assert abs(len(one) - expected) < 150
    assert drawn[2].values["partner"].unique().tolist() == list(range(7))
    assert len(draw_blends(ways, 0, 5000, 10, (4, 4), rng())[2]) == 0


def test_partners_are_taken_before_anything_is_mixed() -> None:
    """Two samples that are each other's partners in two ways."""
    size, batch = (4, 4), 2
    mixed = mixed_of(
        mixes_of({"name": "cutmix", "p": 0.5, "area": [1, 1]}, {"name": "mixup", "p": 0.5}), 400, batch, size
    )
    seen = 0
    for step in range(200):
        ways = [one.between(2 * step, 2 * step + 2) for one in mixed.blends]
        if [len(one) for one in ways] != [1, 1]:
            continue
        seen += 1
        images, targets, other, share = mixed.after(
            step, constant(2, size), constant(2, size)[:, 0].to(torch.uint8), never
        )
        assert other is not None and share is not None
        cut, up = int(ways[0].at[0]), int(ways[1].at[0])
        assert (images[cut] == up).all() and (targets[cut] == up).all() and float(share[cut]) == 0
        expected = (1 - share[up]) * up + share[up] * cut
        assert torch.allclose(images[up], expected) and (targets[up] == up).all() and (other[up] == cut).all()
    assert seen > 50


# ---------------------------------------------------------------- CutMix aimed at a class


def test_the_box_lies_around_a_pixel_of_the_class() -> None:
    size, n = (9, 13), 400
    (drawn,) = draw_blends([CutMix(p=1, of="rarest", area=(0.05, 0.3))], 3, n, 4, size, rng())
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(n, *size, generator=generator) < 0.05).to(torch.uint8)
    targets[:5] = 0
    inside = box_around(drawn, targets, 1)
    area = inside.sum((1, 2))
    there = (targets == 1).any(2).any(1)
    assert (
        torch.equal(area, torch.where(there, drawn.values["height"] * drawn.values["width"], 0)) and not there[:5].all()
    )
    assert (inside & (targets == 1)).any(2).any(1)[there].all()


def test_every_pixel_of_the_class_is_as_likely_and_may_lie_anywhere_in_its_box() -> None:
    (drawn,) = draw_blends([CutMix(p=1, of="rarest", area=(0.25, 0.25))], 1, 6000, 4, (8, 8), rng())
    target = torch.zeros(8, 8, dtype=torch.uint8)
    target[0, 0] = target[7, 6] = target[4, 4] = 1
    inside = box_around(drawn, target.expand(6000, -1, -1), 1)
    assert (inside.sum((1, 2)) == 16).all()
    top, left = inside.any(2).int().argmax(1), inside.any(1).int().argmax(1)
    first, second = (top == 0) & (left == 0), (top == 4) & (left >= 3)
    middle = ~first & ~second
    assert 1700 < int(first.sum()) < 2300  # moved to lie within the image
    # boxes around the pixel in the middle begin at 1 to 4, some of them like those around the one below
    assert set(top[middle].tolist()) == set(left[middle].tolist()) == {1, 2, 3, 4}


def test_an_aimed_box_comes_from_the_bank_and_is_augmented_by_its_own_draws() -> None:
    size, batch = (6, 6), 3
    images = np.stack([np.full((1, *size), 100 + k, np.uint8) for k in range(4)])
    targets = np.full((4, *size), 3, np.uint8)
    targets[:3, 2, 4] = 1  # the last one does not hold the class
    mixes = mixes_of({"name": "mixup", "p": 0.2}, {"name": "cutmix", "of": "rarest", "p": 0.6, "area": [0.1, 0.3]})
    mixed = mixed_of(mixes, 8 * batch, batch, size, kept=(images, targets))
    rows: list[int] = []

    def augment(x: torch.Tensor, y: torch.Tensor, which: slice) -> tuple[torch.Tensor, torch.Tensor]:
        assert x.dtype == torch.uint8 and len(x) == which.stop - which.start
        rows.extend(range(which.start, which.stop))
        return x.float().flip(-1), y.flip(-1)

    for step in range(8):
        first = mixed.blends[1].between(step * batch, (step + 1) * batch)
        x, y = constant(batch, size)[:, :1], torch.zeros(batch, *size, dtype=torch.uint8)
        out, labels, other, _ = mixed.after(step, x, y, augment)
        assert (other is None) == (len(mixed.blends[0].between(step * batch, (step + 1) * batch)) == 0)
        for sample, partner in zip(first.at.tolist(), first.values["partner"].tolist(), strict=True):
            inside = out[sample, 0] == 100 + partner
            assert partner < 3 and 1 <= int(inside.sum()) < 36
            assert inside[2, 1] and labels[sample, 2, 1] == 1  # mirrored with its image
            assert torch.equal(labels[sample] > 0, inside)
    assert rows == list(range(mixed.taken)) and mixed.taken == len(mixed.blends[1])


def test_aimed_at_labels_the_partner_is_of_the_rarest_class() -> None:
    size, batch = (6, 6), 3
    images = np.stack([np.full((1, *size), 100 + k, np.uint8) for k in range(4)])
    targets = np.array([0, 1, 2, 1], np.uint8).reshape(-1, 1, 1)
    mixes = mixes_of({"name": "cutmix", "of": "rarest", "p": 0.8})
    mixed = mixed_of(mixes, 9 * batch, batch, size, masks=False, kept=(images, targets))
    seen = set()
    for step in range(9):
        labels = torch.full((batch, 1, 1), 2, dtype=torch.uint8)
        out, kept, other, share = mixed.after(step, constant(batch, size)[:, :1], labels, plain)
        drawn = mixed.blends[0].between(step * batch, (step + 1) * batch)
        assert (kept == 2).all() and (other is not None) == (len(drawn) > 0)
        for sample in drawn.at.tolist():
            assert other is not None and share is not None and other[sample].item() == 1
            inside = out[sample, 0] >= 100
            assert float(share[sample]) == pytest.approx(float(inside.float().mean()), abs=1e-7)
            seen |= set(out[sample, 0][inside].tolist())
    assert seen == {101.0, 103.0}


def test_boxes_by_hand() -> None:
    values = {"height": [2], "width": [3], "top": [1], "left": [2]}
    one = chosen(np.array([0]), {name: np.array(value) for name, value in values.items()})
    assert box(one, 4, 6).int().tolist() == [
        [[0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]]
    ]


def test_an_epoch_follows_from_its_seed_alone() -> None:
    images, targets = squares([3, 2, 4])
    everything = mixes_of({"name": "copy_paste", "p": 0.5}, {"name": "cutmix", "of": "rarest"}, "mixup")
    made = Mixing(everything, "segmentation", 1, held(targets, 1), reader(images, targets), 4, (16, 16), CPU)
    again = Mixing(everything, "segmentation", 1, held(targets, 1), reader(images, targets), 4, (16, 16), CPU)
    again.epoch(9, 40)

    def flat(mixed: Mixed) -> list[list[float]]:
        drawn = mixed.pastes + mixed.blends
        return [one.at.tolist() for one in drawn] + [v.tolist() for one in drawn for v in one.values.values()]

    assert flat(made.epoch(5, 40)) == flat(again.epoch(5, 40)) != flat(again.epoch(6, 40))
