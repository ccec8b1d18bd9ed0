"""Which copy gets what, and the copies on disk."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from podium import preprocess
from podium.config_preprocess import Illumination
from podium.config_validation import KINDS, Corruptions
from podium.corruptions import apart, copies, corrupt
from podium.corruptions.copies import Corrupted, Order, make, open_corrupted, open_or_make
from podium.corruptions.draw import chosen, draw
from podium.data.cache import Recipe, cached
from podium.data.chunk import Bad, Chunk
from podium.data.part import Part
from podium.errors import UserError
from podium.randomness import stream

SOURCE = "0123456789abcdef"
SETTINGS = Corruptions(copies=2, seed=3)
IDS = np.array([f"image{i}" for i in range(3000)])


# ---------------------------------------------------------------- the draw


def test_every_kind_and_strength_is_as_likely() -> None:
    kinds, strengths = draw(IDS, KINDS, SETTINGS)
    assert kinds.shape == strengths.shape == (3000, 2)
    for copy in range(2):
        seen = Counter(zip(kinds[:, copy].tolist(), strengths[:, copy].tolist(), strict=True))
        assert len(seen) == len(KINDS) * 3
        expected = 3000 / len(seen)
        # chi-squared with 80 degrees of freedom: 124.8 is passed by one draw in a thousand
        assert sum((count - expected) ** 2 / expected for count in seen.values()) < 124.8
    assert (kinds[:, 0] != kinds[:, 1]).all()
    both = Counter(map(tuple, strengths.tolist()))
    assert len(both) == 9 and min(both.values()) > 270


def test_other_images_more_copies_and_the_order_of_lists_change_nothing() -> None:
    kinds, strengths = draw(IDS[:50], KINDS, SETTINGS)
    for ids, listed, changes in (
        (IDS[::-1], KINDS, {}),
        (IDS, KINDS[::-1], {"copies": 5, "at_most": 9}),
        (IDS, KINDS, {"strengths": (5, 1, 3)}),
    ):
        again, other = draw(ids, listed, SETTINGS.model_copy(update=changes))
        rows = [ids.tolist().index(name) for name in IDS[:50].tolist()]
        assert np.array_equal(again[rows][:, :2], kinds) and np.array_equal(other[rows][:, :2], strengths)
    assert (draw(IDS, KINDS, SETTINGS)[0] != draw(IDS, KINDS, Corruptions(seed=4))[0]).mean() > 0.9
    # a kind less: only its own copies, and the second copies of images that lose their first
    fewer, _ = draw(IDS, [kind for kind in KINDS if kind != "fog"], SETTINGS)
    whole, _ = draw(IDS, KINDS, SETTINGS)
    assert np.array_equal((fewer != whole).any(axis=1), (whole == "fog").any(axis=1))


def test_more_copies_than_kinds_begin_anew() -> None:
    kinds, _ = draw(IDS[:20], ("fog", "jpeg"), Corruptions(copies=5))
    assert all(sorted(row[:2]) == sorted(row[2:4]) == ["fog", "jpeg"] and row[4] == row[0] for row in kinds.tolist())


def test_at_most_so_many_images() -> None:
    some = Corruptions(at_most=100)
    rows = chosen(IDS, some)
    assert len(rows) == 100 and (np.diff(rows) > 0).all() and 1200 < rows.mean() < 1800
    assert np.array_equal(chosen(IDS[:100], some), np.arange(100)) and len(chosen(IDS, Corruptions())) == 3000
    fewer = IDS[chosen(IDS[:2990], some)].tolist()
    assert len(set(fewer) - set(IDS[rows].tolist())) <= 10  # ten new images push out ten at most


# ---------------------------------------------------------------- the copies


def put(
    cache: Path, masks: bool = True, channels: int = 3, names: list[str] | None = None, groups: bool = True
) -> Part:
    """Twelve images in two sizes, with masks or labels, as a competition's decoded training part."""
    rng = np.random.default_rng(5)
    names = names or [f"n{i}" for i in range(12)]
    sizes = [(20, 24) if i % 3 else (16, 16) for i in range(len(names))]
    images = [np.sort(rng.integers(0, 256, (channels, *size)), axis=2).astype(np.uint8) for size in sizes]
    targets = [(image[:1] // 100 if masks else image[:1, :1, :1] // 100).astype(np.uint8) for image in images]
    groups_of = [f"p{i // 2}" for i in range(len(names))] if groups else None

    def chunks() -> Iterator[Chunk]:
        yield Chunk(names, images, targets, groups_of)

    return cached(cache, SOURCE, Recipe(np.dtype(np.uint8), chunks, None, Bad()), print).train


def everything(cache: Path, settings: Corruptions = SETTINGS, masks: bool = True, **options: Any) -> Order:
    return Order(cache, SOURCE, settings, masks, options.get("rows", np.arange(12)), options.get("steps", ()))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Part, Corrupted, list[str]]:
    """The copies of twelve images, made in a process of their own."""
    cache, notes = tmp_path_factory.mktemp("data"), list[str]()
    part = put(cache)
    return cache, part, open_or_make(cache, part, SETTINGS, True, notes.append), notes


def here(monkeypatch: pytest.MonkeyPatch) -> list[Order]:
    """Make copies in this process; returns what was ordered."""
    orders: list[Order] = []

    def in_process(order: Order, say: Any) -> None:
        orders.append(order)
        make(order, say)

    monkeypatch.setattr(apart, "make_apart", in_process)
    return orders


def same(one: Corrupted, other: Corrupted) -> None:
    assert one.part.targets is not None and other.part.targets is not None
    for a, b in ((one.part.images, other.part.images), (one.part.targets, other.part.targets)):
        assert (
            np.array_equal(a.values, b.values) and np.array_equal(a.shapes, b.shapes) and np.array_equal(a.ids, b.ids)
        )
    for mine, theirs in ((one.base_row, other.base_row), (one.kinds, other.kinds), (one.strengths, other.strengths)):
        assert mine.dtype.kind == theirs.dtype.kind and np.array_equal(mine, theirs)


def test_copies_are_what_corrupt_makes_of_each_image(made: tuple[Path, Part, Corrupted, list[str]]) -> None:
    cache, part, found, notes = made
    assert notes == [] and found.part.name == "corrupted" and found.part.data_id == everything(cache).data_id(part)
    assert found.part.images.ids.tolist() == [f"n{i}~{copy}" for i in range(12) for copy in (1, 2)]
    assert found.base_row.dtype == np.int64 and found.base_row.tolist() == [i for i in range(12) for _ in (1, 2)]
    assert found.part.groups is not None and part.groups is not None and part.targets is not None
    assert np.array_equal(found.part.groups, part.groups[found.base_row])
    assert isinstance(found.part.images.values, np.memmap) and found.part.targets is not None
    kinds, strengths = draw(part.images.ids, KINDS, SETTINGS)
    assert np.array_equal(found.kinds, kinds.ravel()) and np.array_equal(found.strengths, strengths.ravel())
    for i in range(24):
        row, name, copy = i // 2, f"n{i // 2}", 1 + i % 2
        rng = np.random.default_rng(stream("corrupt", 3, name, copy))
        kind, strength = str(found.kinds[i]), int(found.strengths[i])
        image, mask = corrupt.corrupt(part.images[row], part.targets[row], kind, strength, rng, True)
        assert np.array_equal(found.part.images[i], image) and np.array_equal(found.part.targets[i], mask)


def test_a_second_opening_makes_nothing(
    made: tuple[Path, Part, Corrupted, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, part, found, notes = made
    orders = here(monkeypatch)
    same(found, open_or_make(cache, part, SETTINGS, True, notes.append))
    same(found, open_corrupted(cache, found.part.data_id, part))
    # the order of lists says nothing, and all that fit are all kinds of colour images
    alike = Corruptions(kinds=tuple(reversed(KINDS)), strengths=(5, 3, 1), seed=3)  # type: ignore[arg-type]
    same(found, open_or_make(cache, part, alike, True, notes.append))
    assert orders == [] and notes == []


def test_whatever_changes_the_copies_changes_their_id(tmp_path: Path) -> None:
    part = put(tmp_path)
    plain = everything(tmp_path)
    orders = [
        plain,
        Order(tmp_path, "f" * 16, SETTINGS, True, plain.rows, ()),
        everything(tmp_path, masks=False),
        everything(tmp_path, rows=np.arange(11)),
        everything(tmp_path, steps=(Illumination(),)),
        everything(tmp_path, steps=(Illumination(sigma=0.2),)),
        *(
            everything(tmp_path, SETTINGS.model_copy(update=change))
            for change in ({"seed": 4}, {"copies": 3}, {"strengths": (1,)}, {"at_most": 9}, {"kinds": KINDS[1:]})
        ),
    ]
    assert len({order.data_id(part) for order in orders}) == len(orders)


def test_threads_and_blocks_change_nothing(
    made: tuple[Path, Part, Corrupted, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = put(tmp_path)
    here(monkeypatch)
    monkeypatch.setattr(copies, "BLOCK_BYTES", 3000)
    monkeypatch.setattr(copies, "cores", lambda: 3)
    said: list[str] = []
    monkeypatch.setattr("podium.data.chunk.LINE_SECONDS", 0.0)
    same(made[2], open_or_make(tmp_path, part, SETTINGS, True, said.append))
    assert len(said) > 3 and said[0].startswith("corrupting: copies of ") and said[0].endswith(" of 12 images")


def test_rows_and_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = put(tmp_path, masks=False, channels=1, groups=False)
    here(monkeypatch)
    rows = np.array([0, 2, 3, 7, 11])
    every = open_or_make(tmp_path, part, SETTINGS, False, print, rows=rows)
    assert every.base_row.tolist() == np.repeat(rows, 2).tolist() and every.part.groups is None
    some = open_or_make(tmp_path, part, Corruptions(seed=3, at_most=3), False, print, rows=rows)
    assert len(some.base_row) == 6 and set(some.base_row.tolist()) < set(rows.tolist())
    for i, name in enumerate(some.part.images.ids.tolist()):
        assert np.array_equal(some.part.images[i], every.part.images[every.part.images.index[name]])
    assert part.targets is not None and every.part.targets is not None
    assert every.part.targets.stacked.ravel().tolist() == part.targets.stacked.ravel()[every.base_row].tolist()


def test_numbers_stay_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets of a regression: float32, NaN where unknown."""
    values = np.array([1.5, np.nan, -2.25], np.float32).reshape(3, 1, 1, 1)
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 9, 9)).astype(np.uint8)

    def chunks() -> Iterator[Chunk]:
        yield Chunk(["a", "b", "c"], images, values)

    recipe = Recipe(np.dtype(np.uint8), chunks, None, Bad(), targets=np.dtype(np.float32))
    part = cached(tmp_path, SOURCE, recipe, print).train
    here(monkeypatch)
    found = open_or_make(tmp_path, part, SETTINGS, False, print).part.targets
    assert found is not None and found.values.dtype == np.float32
    assert np.array_equal(found.stacked, values.repeat(2, axis=0), equal_nan=True)


def test_preprocessing_comes_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part, steps = put(tmp_path), (Illumination(),)
    here(monkeypatch)
    plain = open_or_make(tmp_path, part, SETTINGS, True, print)
    evened = open_or_make(tmp_path, part, SETTINGS, True, print, steps=steps)
    for raw, image in zip(plain.part.images, evened.part.images, strict=True):
        assert np.array_equal(preprocess.apply(steps, raw), image)


def test_damage_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part, notes = put(tmp_path), list[str]()
    orders = here(monkeypatch)
    first = open_or_make(tmp_path, part, SETTINGS, True, notes.append)
    kept = (first.part.images.values.copy(), first.kinds.copy())
    folder = tmp_path / first.part.data_id
    raw = bytearray((folder / "train_images.npy").read_bytes())
    raw[-1] ^= 1
    (folder / "train_images.npy").write_bytes(raw)
    again = open_or_make(tmp_path, part, SETTINGS, True, notes.append)
    assert np.array_equal(again.part.images.values, kept[0]) and len(orders) == 2 and "is damaged" in notes[0]
    (folder / "corruptions.csv").unlink()
    assert np.array_equal(open_or_make(tmp_path, part, SETTINGS, True, notes.append).kinds, kept[1])
    (folder / "corruptions.csv").write_text("id,image,copy,kind,strength\nn0~1,n0,1,snow,1\n")
    with pytest.raises(UserError, match="corruptions.csv: cannot be read back .*; delete its folder"):
        open_corrupted(tmp_path, first.part.data_id, part)
    (folder / "corruptions.csv").write_text("id,image,copy,kind,strength\nn0~1,n0,1,fog,1\n")
    with pytest.raises(UserError, match="corruptions.csv: does not belong to the images beside it"):
        open_corrupted(tmp_path, first.part.data_id, part)


def test_an_end_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path)
    whole, calls = corrupt.corrupt, iter(range(100))

    def ends(*arguments: Any) -> Any:
        if next(calls) == 9:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(corrupt, "corrupt", ends)
    with pytest.raises(KeyboardInterrupt):
        make(everything(tmp_path), print)
    assert [path.name for path in tmp_path.iterdir()] == [SOURCE]


def test_ids_that_are_taken_and_kinds_that_do_not_fit(tmp_path: Path) -> None:
    part = put(tmp_path, names=["a", "a~1", "b~1", "c", "c~3"])
    with pytest.raises(UserError, match="image 'a~1': a corrupted copy of image 'a' would be called so too; rename"):
        open_or_make(tmp_path, part, SETTINGS, True, print)
    shutil.rmtree(tmp_path / SOURCE)
    grey = put(tmp_path, channels=1)
    with pytest.raises(UserError, match="kinds: colour_cast needs images of 3 channels, these have 1"):
        open_or_make(tmp_path, grey, Corruptions(kinds=("colour_cast",)), True, print)


def test_what_goes_wrong_in_the_other_process_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{SOURCE}: done.json is missing; run the command again"):
        apart.make_apart(everything(tmp_path), print)
