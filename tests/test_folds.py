"""The fold file: balance, determinism, round trips, and every check at loading."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from podium.config import FoldSettings
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.fold_file import file_name, load, save
from podium.folds import Folds, class_pixels, make, table

CLASSES = ("background", "soil", "sand", "rock")


def scenes(n: int = 300, seed: int = 0) -> Ragged:
    """Masks of 8×8 pixels: soil, sand or both, every tenth with 1 to 16 pixels of rock, all with unlabelled pixels."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((n, 1, 8, 8), np.uint8)
    for i, mask in enumerate(masks):
        mask[0, :6] = generator.choice([1, 2], p=[0.7, 0.3])
        if i % 3 == 0:
            mask[0, :, : generator.integers(1, 5)] = 1
        if i % 10 == 0:
            mask[0, 6:].reshape(-1)[: generator.integers(1, 17)] = 3
        if i % 7 == 0:
            mask[0, 5] = 255
    return Ragged.stack(masks, [f"image-{i}" for i in range(n)])


def split(
    targets: Ragged,
    groups: np.ndarray | None = None,
    dropped: dict[str, str] | None = None,
    unscored: int | None = 0,
    strata: str = "class_presence",
    **options,
) -> Folds:
    groups = np.arange(len(targets)) if groups is None else groups
    settings_ = FoldSettings(**options)
    return make(targets.ids, targets, groups, dropped or {}, CLASSES, unscored, settings_, "data-1", strata)


def of(folds: Folds, ids: Sequence[str]) -> list[int]:
    """Fold of each id."""
    return folds.fold[[folds.index[name] for name in ids]].tolist()


def spread(values: Sequence[float]) -> float:
    return max(values) - min(values)


def test_folds_resemble_each_other():
    targets = scenes()
    folds = split(targets)
    rows = table(folds, targets, CLASSES)
    assert [row.fold for row in rows] == [0, 1, 2, 3, 4]
    assert spread([row.images for row in rows]) <= 2
    pixels = class_pixels(targets, targets.ids, 4)
    for c in (1, 2, 3):
        assert spread([row.counts[c] for row in rows]) <= (1 if c == 3 else 3)
        amounts = [int(pixels[folds.fold == k, c].sum()) for k in range(5)]
        assert spread(amounts) < 0.05 * np.mean(amounts)


def test_the_five_richest_images_go_to_five_folds():
    """Most of the rarest class lies in a few images; by chance two of them would share a fold in 96 of 100 splits."""
    masks = np.ones((100, 1, 8, 8), np.uint8)
    for i, amount in enumerate([60, 55, 50, 45, 40, 1, 1, 2, 2, 3]):
        masks[i * 7, 0].reshape(-1)[:amount] = 3
    targets = Ragged.stack(masks, [str(i) for i in range(100)])
    for seed in range(5):
        folds = split(targets, seed=seed)
        assert sorted(of(folds, ["0", "7", "14", "21", "28"])) == [0, 1, 2, 3, 4]
        assert sorted(of(folds, ["35", "42", "49", "56", "63"])) == [0, 1, 2, 3, 4]
    assert folds.strata[[0, 28, 35, 1]].tolist() == ["soil+rock:1", "soil+rock:1", "soil+rock:2", "soil"]


def test_the_split_is_fixed_for_all_machines():
    """Worked out once; another result here is another split for everybody: raise folds.ALGORITHM."""
    folds = split(scenes(40), count=4, seed=7)
    expected = "1101122011231033133233211302220300020032"
    assert "".join(map(str, folds.fold)) == expected
    assert file_name("mars", ("data-1",), FoldSettings()) == "mars-7787f9f4.csv"


def test_the_seed_matters_and_the_order_of_the_rows_does_not():
    targets = scenes()
    groups = np.arange(300) // 2
    folds = split(targets, groups)
    assert split(targets, groups).folds_id == folds.folds_id
    other = split(targets, groups, seed=1)
    assert other.folds_id != folds.folds_id
    assert 0.5 < (other.fold != folds.fold).mean() < 1

    order = np.random.default_rng(0).permutation(300)
    mixed = Ragged.stack(targets.stacked[order], targets.ids[order])
    again = make(mixed.ids, mixed, groups[order], {}, CLASSES, 0, FoldSettings(), "data-1")
    np.testing.assert_array_equal(again.fold, folds.fold[order])
    np.testing.assert_array_equal(again.strata, folds.strata[order])
    assert again.folds_id == folds.folds_id
    # Rows are joined with their masks by id: targets in another order than the ids give the same.
    crossed = make(targets.ids, mixed, groups, {}, CLASSES, 0, FoldSettings(), "data-1")
    np.testing.assert_array_equal(crossed.fold, folds.fold)


def test_groups_stay_together_and_folds_stay_even():
    generator = np.random.default_rng(0)
    targets = scenes()
    groups = generator.integers(0, 60, 300)
    folds = split(targets, groups)
    for group in range(60):
        assert len(set(folds.fold[groups == group].tolist())) <= 1
        assert len(set(folds.strata[groups == group].tolist())) <= 1
    sizes = [row.images for row in table(folds, targets, CLASSES)]
    assert spread(sizes) <= 3  # though groups hold 1 to 11 images
    assert sum(row.groups for row in table(folds, targets, CLASSES)) == len(np.unique(groups))


def test_dropped_rows_are_in_no_fold_and_keep_their_reason():
    targets = scenes()
    dropped = {"image-3": "outlier: shares its mask", "image-10": "outlier: shares its mask"}
    folds = split(targets, dropped=dropped)
    assert of(folds, ["image-3", "image-10"]) == [-1, -1]
    assert folds.reasons[[3, 10, 4]].tolist() == [dropped["image-3"], dropped["image-10"], ""]
    assert folds.kept.sum() == 298
    seen = []
    for k in range(5):
        train, validation = folds.rows(k)
        assert not set(train.tolist()) & set(validation.tolist())
        assert len(train) + len(validation) == 298
        assert not {3, 10} & {*train.tolist(), *validation.tolist()}
        seen += validation.tolist()
    assert sorted(seen) == sorted(np.flatnonzero(folds.kept).tolist())
    with pytest.raises(ValueError, match="no fold 5"):
        folds.rows(5)
    with pytest.raises(KeyError):
        of(folds, ["image-300"])


def test_without_strata_only_the_hash_counts():
    targets = scenes()
    folds = split(targets, strata="none")
    assert set(folds.strata.tolist()) == {""}
    assert {row.images for row in table(folds, targets, CLASSES)} == {60}
    empty = Ragged.stack(np.zeros_like(targets.stacked), targets.ids)
    np.testing.assert_array_equal(split(empty, strata="none").fold, folds.fold)


def test_images_of_different_sizes_and_without_any_label():
    shapes = np.array([[1, 2 + i % 3, 4] for i in range(30)])
    values = np.full(int(shapes.prod(axis=1).sum()), 255, np.uint8)
    blank = Ragged(values, shapes, np.array([f"a{i}" for i in range(30)]))
    folds = split(blank)
    assert set(folds.strata.tolist()) == {"none"}
    assert {row.images for row in table(folds, blank, CLASSES)} == {6}
    assert table(folds, blank, CLASSES)[0].shares == (0.0, 0.0, 0.0, 0.0)
    # Groups of 1 to 9 images (45 in all) with nothing else to go by: their sizes are balanced.
    blank = Ragged.stack(np.full((45, 1, 2, 2), 255, np.uint8), [f"a{i}" for i in range(45)])
    folds = split(blank, groups=np.repeat(np.arange(9), np.arange(1, 10)), count=3)
    assert [row.images for row in table(folds, blank, CLASSES)] == [15, 15, 15]


def test_equal_amounts_make_no_bins():
    """One label per image, as in classification: a stratum is a class."""
    labels = np.repeat(np.array([1, 2, 3], np.uint8), [50, 30, 20]).reshape(-1, 1, 1, 1)
    targets = Ragged.stack(labels, [str(i) for i in range(100)])
    folds = split(targets)
    assert set(folds.strata.tolist()) == {"soil", "sand", "rock"}
    assert [row.counts for row in table(folds, targets, CLASSES)] == [(0, 10, 6, 4)] * 5


def test_table_by_hand():
    masks = np.array([[[[1, 1], [2, 255]]], [[[1, 0], [0, 0]]], [[[3, 3], [3, 3]]], [[[1, 1], [1, 2]]]], np.uint8)
    targets = Ragged.stack(masks, ["a", "b", "c", "d"])
    columns = np.array([0, 0, 5, 6]), np.array([""] * 4), np.array([0, 0, 1, -1]), np.array([""] * 4)
    first, second = table(Folds(targets.ids, *columns, "x", 2), targets, CLASSES)
    assert (first.images, first.groups, first.counts) == (2, 1, (1, 2, 1, 0))
    assert first.shares == pytest.approx((3 / 7, 3 / 7, 1 / 7, 0))
    assert (second.images, second.groups, second.counts, second.shares) == (1, 1, (0, 0, 0, 1), (0, 0, 0, 1))


def test_too_few_groups():
    targets = scenes(20)
    with pytest.raises(UserError, match=r"3 groups of images cannot fill 5 folds; set folds\.count=3 or less"):
        split(targets, groups=np.arange(20) % 3)
    with pytest.raises(UserError, match="at least 2 different images"):
        split(targets, groups=np.zeros(20, int))
    assert set(split(targets, groups=np.arange(20) % 5).fold.tolist()) == {0, 1, 2, 3, 4}


def test_a_mask_value_that_is_no_class():
    with pytest.raises(ValueError, match="id 'x'"):
        class_pixels(Ragged.stack(np.full((1, 1, 2, 2), 4, np.uint8), ["x"]), ["x"], 4)


@given(
    st.integers(0, 10**6),
    st.integers(2, 12),
    st.integers(12, 60),
    st.sampled_from(["class_presence", "foreground", "none"]),
    st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_whatever_the_data_the_split_is_one(seed, count, rows, strata, repeats):
    generator = np.random.default_rng(seed)
    groups = np.concatenate([np.arange(count), generator.integers(0, rows, rows - count)])
    masks = generator.choice([0, 1, 2, 3, 255], (rows, 1, 2, 3), p=[0.3, 0.4, 0.1, 0.05, 0.15]).astype(np.uint8)
    targets = Ragged.stack(masks, [str(i) for i in range(rows)])
    folds = split(targets, groups, count=count, seed=seed, strata=strata, repeats=repeats)
    for column in folds.table.T:
        assert set(column.tolist()) == set(range(count))
        for group in np.unique(groups):
            assert len(set(column[groups == group].tolist())) == 1


# ---------------------------------------------------------------- strata by label and by foreground


def test_with_labels_every_fold_has_its_share_of_every_class():
    generator = np.random.default_rng(0)
    labels = generator.choice(8, 203, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.04, 0.01]).astype(np.uint8)
    targets = Ragged.stack(labels.reshape(-1, 1, 1, 1), [str(i) for i in range(203)])
    folds = make(targets.ids, targets, np.arange(203), {}, tuple("abcdefgh"), None, FoldSettings(), "d", "class")
    assert folds.strata.tolist() == [("abcdefgh")[label] for label in labels]
    counts = np.array([np.bincount(labels[folds.fold == k], minlength=8) for k in range(5)])
    assert (np.ptp(counts, axis=0) <= 1).all()  # class 0, the first one, too: nothing is unscored
    assert np.ptp(counts.sum(axis=1)) <= 1


def covered(shares: Sequence[float], sizes: Sequence[int], background: int = 0) -> Ragged:
    """Square masks in which the first ``shares[i]`` of all rows are class 1 (or 0), the rest is background."""
    masks = []
    for share, size in zip(shares, sizes, strict=True):
        mask = np.full((1, size, size), background, np.uint8)
        mask[0, : round(share * size)] = 0 if background else 1
        masks.append(mask)
    values, shapes = np.concatenate([mask.reshape(-1) for mask in masks]), np.array([mask.shape for mask in masks])
    return Ragged(values, shapes, np.array([f"{i}" for i in range(len(masks))]))


def test_foreground_is_shared_out_evenly_whatever_the_sizes():
    generator = np.random.default_rng(1)
    shares, sizes = generator.random(100) ** 2, generator.integers(8, 40, 100)
    targets = covered(shares.tolist(), sizes.tolist())
    true = np.array([(mask > 0).mean() for mask in targets])
    folds = split(targets, strata="foreground")

    def means(values: np.ndarray) -> list[float]:
        return [float(values[folds.fold == k].mean()) for k in range(5)]

    assert {row.images for row in table(folds, targets, CLASSES)} == {20}
    assert spread(means(true)) < 0.01  # without strata 0.1
    assert spread([float(np.median(true[folds.fold == k])) for k in range(5)]) < 0.05
    assert spread([(true[folds.fold == k] > 0.5).sum() for k in range(5)]) <= 1
    # the share counts and not the pixels: the same pictures at twice the size are split alike
    larger = covered(true.tolist(), (sizes * np.where(np.arange(100) % 2, 2, 1)).tolist())
    np.testing.assert_array_equal(split(larger, strata="foreground").fold, folds.fold)


def test_bins_of_foreground_by_hand():
    """The two pictures with the most foreground are bin 1, the next two bin 2; one without any is a stratum of its own."""
    targets = covered([0.9, 0.1, 0.8, 0.5, 0.0, 0.4, 0.0], [10] * 7)
    for seed in range(5):
        folds = split(targets, strata="foreground", count=2, seed=seed)
        texts = ["foreground:1", "foreground:3", "foreground:1", "foreground:2", "none", "foreground:2", "none"]
        assert folds.strata.tolist() == texts
        for pair in ((0, 2), (3, 5), (4, 6)):
            assert sorted(folds.fold[list(pair)].tolist()) == [0, 1]


def test_the_background_is_the_unscored_class_else_the_first():
    shares = (np.arange(30) / 30).tolist()
    first, third = covered(shares, [12] * 30), covered(shares, [12] * 30, background=2)
    base = split(first, strata="foreground")
    for unscored in (0, None):
        np.testing.assert_array_equal(split(first, strata="foreground", unscored=unscored).fold, base.fold)
    np.testing.assert_array_equal(split(third, strata="foreground", unscored=2).fold, base.fold)
    # pixels without label are neither
    blind = Ragged(
        np.where(np.arange(len(first.values)) % 12 == 11, 255, first.values).astype(np.uint8), first.shapes, first.ids
    )
    np.testing.assert_array_equal(split(blind, strata="foreground").fold, base.fold)


# ---------------------------------------------------------------- repeats


def test_every_repeat_is_a_split_of_its_own_and_the_first_one_is_that_without_repeats():
    targets = scenes()
    groups = np.random.default_rng(0).integers(0, 60, 300)
    dropped = {"image-3": "alien", "image-77": "alien"}
    folds = split(targets, groups, dropped, repeats=4)
    assert (folds.fold.shape, folds.repeats, folds.count, folds.total, len(folds)) == ((300, 4), 4, 5, 20, 300)
    once = split(targets, groups, dropped)
    assert (once.fold.shape, once.repeats, once.total) == ((300,), 1, 5)
    np.testing.assert_array_equal(folds.table[:, 0], once.fold)
    np.testing.assert_array_equal(folds.strata, once.strata)
    np.testing.assert_array_equal(folds.table[:, :2], split(targets, groups, dropped, repeats=2).table)
    assert len({folds.folds_id, once.folds_id, split(targets, groups, dropped, repeats=2).folds_id}) == 3
    for column in folds.table.T:
        assert np.flatnonzero(column < 0).tolist() == [3, 77]
        for group in range(60):
            assert len(set(column[(groups == group) & folds.kept].tolist())) <= 1
        assert spread(np.bincount(column[folds.kept]).tolist()) <= 4
    # who is together in one repeat is as good as drawn anew in the next (0 is chance, 1 the same split)
    for a in range(4):
        for b in range(a):
            together = adjusted_rand_score(folds.table[folds.kept, a], folds.table[folds.kept, b])
            assert together < 0.2


def test_in_every_repeat_each_row_is_validated_once():
    targets = scenes(50)
    folds = split(targets, dropped={"image-8": "alien"}, repeats=3, count=4)
    for repeat in range(3):
        seen: list[int] = []
        for fold in range(4 * repeat, 4 * repeat + 4):
            train, validation = folds.rows(fold)
            assert sorted([*train.tolist(), *validation.tolist()]) == np.flatnonzero(folds.kept).tolist()
            assert set(folds.table[validation, repeat].tolist()) == {fold % 4}
            seen += validation.tolist()
        assert sorted(seen) == np.flatnonzero(folds.kept).tolist() and len(seen) == 49
    for wrong in (-1, 12):
        with pytest.raises(ValueError, match=f"no fold {wrong}, folds are 0..11"):
            folds.rows(wrong)


def test_without_strata_repeats_differ_too():
    folds = split(scenes(60), strata="none", repeats=3)
    assert {tuple(np.bincount(column)) for column in folds.table.T} == {(12,) * 5}
    assert len({tuple(column.tolist()) for column in folds.table.T}) == 3


def test_the_table_goes_on_over_the_repeats():
    masks = np.array([[[[1, 1]]], [[[1, 2]]], [[[3, 3]]], [[[2, 2]]], [[[1, 1]]]], np.uint8)
    targets = Ragged.stack(masks, ["a", "b", "c", "d", "e"])
    where = np.array([[0, 1], [0, 0], [1, 0], [1, 1], [-1, -1]])
    empty = np.array([""] * 5)
    rows = table(Folds(targets.ids, np.array([0, 0, 1, 2, 3]), empty, where, empty, "x", 2), targets, CLASSES)
    assert [row.fold for row in rows] == [0, 1, 2, 3]
    assert [row.images for row in rows] == [2, 2, 2, 2]
    assert [row.groups for row in rows] == [1, 2, 2, 2]  # a and b are one group
    assert [row.counts for row in rows] == [(0, 2, 1, 0), (0, 0, 1, 1), (0, 1, 1, 1), (0, 1, 1, 0)]
    assert rows[2].shares == pytest.approx((0, 0.25, 0.25, 0.5))


# ---------------------------------------------------------------- the file


def test_round_trip(tmp_path):
    folds = split(
        scenes(), groups=np.arange(300) // 2, dropped={"image-3": 'shares, as "image-5", its mask'}, count=4, seed=3
    )
    path = tmp_path / "new" / "mars.csv"
    save(folds, path)
    head = path.read_text().splitlines()[:10]
    for line in (
        "# data_id: data-1",
        "# count: 4",
        "# seed: 3",
        "# repeats: 1",
        "# algorithm: 2",
        "id,group,stratum,fold,reason",
    ):
        assert line in head
    again = load(path, folds.ids, "data-1")
    for name in ("ids", "groups", "strata", "fold", "reasons"):
        np.testing.assert_array_equal(getattr(again, name), getattr(folds, name))
    assert (again.data_id, again.count, again.settings) == ("data-1", 4, FoldSettings(count=4, seed=3))
    assert again.folds_id == folds.folds_id
    # The rows come back in the order of the data, whatever that of the file.
    back = load(path, folds.ids[::-1], "data-1")
    np.testing.assert_array_equal(back.fold, folds.fold[::-1])
    assert back.folds_id == folds.folds_id


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(st.lists(text.filter(bool), min_size=4, max_size=12, unique=True), st.lists(text, min_size=12, max_size=12))
@settings(max_examples=60, deadline=None)
def test_round_trip_of_strange_texts(tmp_path_factory, names, texts):
    n = len(names)
    fold = np.arange(n) % 3 - 1
    ids, strata, reasons = np.array(names), np.array(texts[:n]), np.array(texts[:n])
    folds = Folds(ids, np.arange(n), strata, fold, reasons, "d", 2)
    path = tmp_path_factory.mktemp("folds") / "f.csv"
    save(folds, path)
    again = load(path, ids, "d")
    assert again.strata.tolist() == strata.tolist()
    assert again.reasons.tolist() == reasons.tolist()
    assert again.fold.tolist() == fold.tolist()


def test_another_file_is_never_overwritten(tmp_path):
    path = tmp_path / "f.csv"
    save(split(scenes()), path)
    before = path.read_bytes()
    save(split(scenes()), path)  # the same again is no harm
    with pytest.raises(UserError, match="not overwritten"):
        save(split(scenes(), seed=1), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["f.csv"]  # and nothing is left beside it


def test_an_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        save(split(scenes()), tmp_path / "file" / "f.csv")


def test_file_names_follow_data_and_settings():
    names = {
        file_name("mars", (data_id,), FoldSettings(count=count, seed=seed))
        for data_id in ("a", "b")
        for count in (4, 5)
        for seed in (0, 1)
    }
    assert len(names) == 8
    assert all(name.startswith("mars-") and name.endswith(".csv") and len(name) == 17 for name in names)


HEAD = "# data_id: d\n# count: 2\n"
ROWS = "id,group,stratum,fold,reason\na,0,soil,0,\nb,0,soil,0,\nc,1,soil,1,\nd,2,soil,-1,alien\n"


def read(tmp_path: Path, content: str | bytes) -> Folds:
    path = tmp_path / "f.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load(path, ["a", "b", "c", "d"], "d")


@pytest.mark.parametrize(
    "content",
    [
        HEAD + ROWS,
        ROWS,  # no head
        "# by hand\n" + ROWS,
        "id,fold,group\nc,1,1\nb,0,0\na,0,0\nd,-1,2\n",  # other order, only what is needed
        ("\ufeff" + ROWS).replace("\n", "\r\n"),  # from a spreadsheet
        ROWS + "\n",
    ],
)
def test_hand_made_files_are_accepted(tmp_path, content):
    folds = read(tmp_path, content)
    assert folds.fold.tolist() == [0, 0, 1, -1]
    assert folds.groups.tolist() == [0, 0, 1, 2]
    assert (folds.count, folds.settings, folds.data_id) == (2, None, "d" if "data_id" in content else "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            HEAD.replace("d\n", "e\n") + ROWS,
            r"made for other data \(data_id e, here d\); delete the file and run the command again",
        ),
        (ROWS + "a,0,soil,0,\n", "line 6: id 'a' is there twice"),
        (HEAD + ROWS + "e,5,soil,0,\n", "line 8: id 'e' is not in the data"),
        (
            ROWS.replace("b,0,soil,0,\n", "").replace("d,2,soil,-1,alien\n", ""),
            "2 of 4 ids are missing, the first is 'b'",
        ),
        (ROWS.replace("b,0,soil,0", "b,0,soil,1"), "group 0 lies in folds 0 and 1"),
        (ROWS.replace("c,1,soil,1", "c,1,soil,2"), "no row is in fold 1"),
        (HEAD + ROWS.replace("c,1,soil,1", "c,1,soil,2"), "fold 2 is not allowed, its head says count: 2"),
        (HEAD.replace("2", "3") + ROWS, "no row is in fold 2"),
        (HEAD.replace("2", "1000000000000") + ROWS, "no row is in fold 2"),
        (HEAD.replace("2", "two") + ROWS, "head: count 'two' is not a whole number"),
        (ROWS.replace("c,1,soil,1", "c,1,soil,0"), "holds 1 folds, at least 2 are needed"),
        (ROWS.replace("0,", "-1,").replace("1,soil,1", "1,soil,-1"), "holds 0 folds"),
        (ROWS.replace("-1,alien", "-2,alien"), "line 5: fold -2 is not allowed"),
        (ROWS.replace("soil,1", "soil,1.0"), r"line 4: fold '1.0' is not a whole number"),
        (ROWS.replace("b,0,soil,0,", "b,0,soil"), "line 3: 3 fields, expected 5"),
        (ROWS.replace("b,0,soil,0,", 'b,0,"soil"x,0,'), "line 3: not valid CSV"),
        (
            ROWS.replace("fold,", "part,"),
            "line 1: expected the columns id,group,stratum,fold,reason, of which id and fold are enough, found id,group,st",
        ),
        (
            "",
            "line 1: expected the columns id,group,stratum,fold,reason, of which id and fold are enough, found nothing",
        ),
        (HEAD, "line 3: expected the columns"),
        (b"\xff\xfe\x00", "cannot be read as text"),
        (
            "# count: 2\n# seed: -1\n# repeats: 1\n# strata: none\n# groups: none\n" + ROWS,
            "head: seed '-1' is not allowed",
        ),
    ],
)
def test_every_check_has_its_sentence(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, content)
    assert str(tmp_path / "f.csv") in str(error.value)
    assert "\n" not in str(error.value)


def test_repeats_make_a_round_trip(tmp_path):
    dropped = {"image-3": 'shares, as "image-5", its mask'}
    folds = split(scenes(60), np.arange(60) // 2, dropped, count=3, repeats=12)  # fold10 comes after fold9, not fold1
    path = tmp_path / "f.csv"
    save(folds, path)
    lines = path.read_text().splitlines()
    assert "# count: 3" in lines and "# repeats: 12" in lines
    assert "id,group,stratum,fold,fold1,fold2,fold3,fold4,fold5,fold6,fold7,fold8,fold9,fold10,fold11,reason" in lines
    again = load(path, folds.ids, "data-1")
    for name in ("ids", "groups", "strata", "fold", "reasons"):
        np.testing.assert_array_equal(getattr(again, name), getattr(folds, name))
    assert (again.count, again.repeats, again.settings) == (3, 12, FoldSettings(count=3, repeats=12))
    assert again.folds_id == folds.folds_id
    back = load(path, folds.ids[::-1], "data-1")
    np.testing.assert_array_equal(back.table, folds.table[::-1])


REPEATED = "id,group,fold,fold1\na,0,0,1\nb,0,0,1\nc,1,1,0\nd,2,-1,-1\n"


@pytest.mark.parametrize("content", [REPEATED, "fold1,id,fold,group\n1,a,0,0\n1,b,0,0\n0,c,1,1\n-1,d,-1,2\n"])
def test_hand_made_repeats_are_accepted(tmp_path, content):
    folds = read(tmp_path, content)
    assert folds.fold.tolist() == [[0, 1], [0, 1], [1, 0], [-1, -1]]
    assert (folds.count, folds.repeats, folds.total) == (2, 2, 4)
    assert [folds.rows(fold)[1].tolist() for fold in range(4)] == [[0, 1], [2], [2], [0, 1]]


def test_rows_without_groups_are_each_one_of_its_own(tmp_path):
    folds = read(tmp_path, "id,fold\nc,1\nd,0\na,0\nb,-1\n")
    assert folds.fold.tolist() == [0, -1, 1, 0]
    assert len(set(folds.groups.tolist())) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (REPEATED.replace("b,0,0,1", "b,0,0,0"), r"group 0 lies in folds 1 and 0 \(fold1\); give its rows one fold"),
        (REPEATED.replace("b,0,0,1", "b,0,1,1"), r"group 0 lies in folds 0 and 1 \(fold\)"),
        (REPEATED.replace("c,1,1,0", "c,1,1,1"), r"no row is in fold 0 \(fold1\), but folds 0..1 need rows"),
        (REPEATED.replace("c,1,1,0", "c,1,0,0"), r"no row is in fold 1 \(fold\)"),
        (REPEATED.replace("c,1,1,0", "c,1,1,2"), r"no row is in fold 2 \(fold\), but folds 0..2 need rows"),
        ("# count: 2\n" + REPEATED.replace("c,1,1,0", "c,1,1,2"), "fold 2 is not allowed, its head says count: 2"),
        (
            REPEATED.replace("c,1,1,0", "c,1,1,-1"),
            "line 4: id 'c' is dropped in one repeat only; drop it in all",
        ),
        (REPEATED.replace("d,2,-1,-1", "d,2,-1,-2"), "line 5: fold -2 is not allowed"),
        (REPEATED.replace("c,1,1,0", "c,1,1,x"), "line 4: fold1 'x' is not a whole number"),
        (REPEATED.replace("c,1,1,0", "c,1,1"), "line 4: 3 fields, expected 4"),
        (
            REPEATED.replace("fold1", "fold0"),
            "line 1: expected the columns id,group,stratum,fold,fold1,reason, of which id and fold are enough, found id",
        ),
        (
            REPEATED.replace("fold1", "fold"),
            "line 1: expected the columns id,group,stratum,fold,fold1,reason, of which id and fold are enough, found id",
        ),
        (REPEATED.replace("fold,", "part,"), "line 1: expected the columns"),
    ],
)
def test_every_check_of_repeats_has_its_sentence(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, content)
    assert str(tmp_path / "f.csv") in str(error.value)
    assert "\n" not in str(error.value)


def test_no_file_at_all(tmp_path):
    with pytest.raises(UserError, match="no such fold file; run `podium fold`"):
        load(tmp_path / "f.csv", ["a"], "d")
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path, ["a"], "d")


def test_a_group_may_be_dropped_in_part(tmp_path):
    assert read(tmp_path, ROWS.replace("d,2", "d,0")).fold.tolist() == [0, 0, 1, -1]


# ---------------------------------------------------------------- the real data, where they are

DATA = (
    Path(os.environ.get("PODIUM_DATA", Path(__file__).parents[2] / "shared" / "data"))
    / "mars"
    / "mars_for_students.npz"
)


@pytest.mark.skipif(not DATA.is_file(), reason="the real Mars file is not here")
def test_the_real_mars_folds_resemble_each_other():
    with np.load(DATA, allow_pickle=False) as file:
        masks = file["training_set"][:, 1].astype(np.uint8)
    rows_of = defaultdict(list)
    for i, mask in enumerate(masks):
        rows_of[mask.tobytes()].append(i)
    shared = [rows for rows in rows_of.values() if len(rows) > 1 and len(set(np.unique(masks[rows[0]])) - {0}) > 1]
    dropped = {str(i): "outlier" for rows in shared for i in rows}
    assert len(dropped) == 110
    classes = ("background", "soil", "bedrock", "sand", "big_rock")
    targets = Ragged.stack(masks[:, None], [str(i) for i in range(len(masks))])
    pixels = class_pixels(targets, targets.ids, 5)
    for seed in range(3):
        settings_ = FoldSettings(seed=seed)
        folds = make(targets.ids, targets, np.arange(len(masks)), dropped, classes, 0, settings_, "mars")
        rows = table(folds, targets, classes)
        assert sum(row.images for row in rows) == 2505
        assert spread([row.images for row in rows]) <= 2
        rock = [int(pixels[folds.fold == k, 4].sum()) for k in range(5)]
        assert spread(rock) < 0.03 * np.mean(rock)  # by row number: 5,172 to 40,710
        assert spread([row.counts[4] for row in rows]) <= 1
        for c in range(1, 5):
            assert spread([row.counts[c] for row in rows]) <= 4
            assert spread([row.shares[c] for row in rows]) < 0.005


def test_groups_by_hand_may_be_called_anything(tmp_path):
    path = tmp_path / "hand.csv"
    path.write_text("id,group,fold\na,anna,0\nb,anna,0\nc,9999999999999999999999,1\nd,bob,-1\n")
    folds = load(path, ["a", "b", "c", "d"], "", by_hand=True)
    assert folds.groups.tolist() == [0, 0, 1, 2]
    assert folds.reasons.tolist() == ["", "", "", "dropped by the fold file"]
    path.write_text("id,group,fold\na,anna,0\nb,anna,1\nc,x,1\nd,bob,-1\n")
    with pytest.raises(UserError, match="group 0 lies in folds 0 and 1"):
        load(path, ["a", "b", "c", "d"], "", by_hand=True)
    path.write_text("id,fold\na,0\nb,1\n")
    with pytest.raises(UserError, match="2 of 4 ids are missing, the first is 'c'; correct the file"):
        load(path, ["a", "b", "c", "d"], "", by_hand=True)
