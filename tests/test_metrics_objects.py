"""Metrics of objects: scores worked out by hand, and what must hold for any masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.config_objects import Objects
from podium.data.ragged import Ragged
from podium.metrics import Metric, image_stats
from podium.metrics.objects import THRESHOLDS, ObjectCount, ObjectDice, ObjectMap, PanopticQuality, _best, _meetings

CLASSES = ("background", "cell", "nucleus")
KINDS = (ObjectMap, PanopticQuality, ObjectDice, ObjectCount)


def make(kind: Any, unscored: int | None = None, classes: tuple[str, ...] = CLASSES, **values: Any) -> Any:
    return kind(classes, unscored, Objects.model_validate(values))


def boxes(*placed: tuple[int, int, int, int, int]) -> np.ndarray:
    """A mask of 20 × 40 pixels with rectangles of a class: class, top, left, height, width."""
    mask = np.zeros((20, 40), np.uint8)
    for value, top, left, height, width in placed:
        mask[top : top + height, left : left + width] = value
    return mask


# Three true objects of 20, 20 and 10 pixels. Predicted are: the first, all but two of the second's and none beside
# it (18, IoU 0.9), not the third, and one of 6 pixels where nothing is.
TRUE = boxes((1, 2, 2, 4, 5), (1, 2, 12, 10, 2), (1, 2, 20, 2, 5))
TOLD = boxes((1, 2, 2, 4, 5), (1, 2, 12, 9, 2), (1, 15, 30, 2, 3))


def test_thresholds_are_the_contest_s():
    assert THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    for bad in ((), (0.45,), (0.5, 1.0)):
        with pytest.raises(ValueError, match="at least 0.5, where pairs are unique, and below 1"):
            ObjectMap(CLASSES, None, Objects(), bad)


def test_map_by_hand():
    metric = make(ObjectMap)
    # IoU 1 and 0.9 (not above 0.9): two hits at 0.5 to 0.85, one at 0.9 and 0.95, of 3 true and 3 predicted objects
    first = (8 * 2 / (3 + 3 - 2) + 2 * 1 / (3 + 3 - 1)) / 10
    stats = metric.stats(np.stack([TRUE, TRUE]), np.stack([TOLD, TRUE]))
    assert stats.shape == (2, 1, 2) and stats[0, 0].tolist() == pytest.approx([first, 1], abs=1e-12)
    assert metric.value(stats) == pytest.approx((first + 1) / 2, abs=1e-12)
    assert metric.score(stats).parts == pytest.approx([(first + 1) / 2], abs=1e-12)
    # one found, one missed, one false, at every threshold: 1 / 3
    truth, told = boxes((1, 1, 1, 3, 3), (1, 1, 20, 3, 3)), boxes((1, 1, 1, 3, 3), (1, 10, 20, 3, 3))
    assert metric.value(metric.stats(truth, told)) == pytest.approx(1 / 3, abs=1e-12)


def test_a_pair_s_iou_must_be_above_the_threshold():
    truth, told = boxes((1, 2, 2, 2, 10)), boxes((1, 2, 2, 1, 10))  # 10 of 20 pixels
    assert make(ObjectMap).value(make(ObjectMap).stats(truth, told)) == 0
    quality = make(PanopticQuality)
    assert quality.stats(truth, told)[0, 0].tolist() == [0, 0, 1, 1]
    # 11 of 20 pixels are 0.55: above 0.5 alone
    truth, told = boxes((1, 2, 2, 1, 20)), boxes((1, 2, 2, 1, 11))
    assert make(ObjectMap).value(make(ObjectMap).stats(truth, told)) == pytest.approx(0.1, abs=1e-12)


def test_panoptic_quality_by_hand():
    metric = make(PanopticQuality)
    stats = metric.stats(TRUE, TOLD)
    assert stats[0, 0].tolist() == pytest.approx([1.9, 2, 1, 1], abs=1e-12)
    assert metric.value(stats) == pytest.approx(1.9 / 3, abs=1e-12)
    # sums over images come first: 2.9 / (3 + 1.5 / 2 ...) and not the mean of the images' qualities
    both = np.concatenate([stats, metric.stats(boxes((1, 0, 0, 3, 3)), boxes((1, 0, 0, 3, 3)))])
    assert metric.value(both) == pytest.approx(2.9 / 4, abs=1e-12)


def test_object_dice_by_hand():
    metric = make(ObjectDice)
    stats = metric.stats(TRUE, TOLD)
    # true: 20 × 1, 20 × 2·18/38, 10 × 0; predicted: 20 × 1, 18 × 36/38, 6 × 0
    second = 2 * 18 / (20 + 18)
    assert stats[0, 0].tolist() == pytest.approx([20 + 20 * second, 50, 20 + 18 * second, 44], abs=1e-12)
    expected = ((20 + 20 * second) / 50 + (20 + 18 * second) / 44) / 2
    assert metric.value(stats) == pytest.approx(expected, abs=1e-12)
    # over all objects of all images: areas add up before they are divided
    more = np.concatenate([stats, metric.stats(boxes((1, 0, 0, 5, 10)), boxes((1, 0, 0, 5, 10)))])
    assert metric.value(more) == pytest.approx(((70 + 20 * second) / 100 + (70 + 18 * second) / 94) / 2, abs=1e-12)


def test_object_dice_of_one_object_over_two():
    # two true objects of 12 and 6 pixels, one predicted object of 21 over both and the gap
    truth, told = boxes((1, 5, 2, 3, 4), (1, 5, 7, 3, 2)), boxes((1, 5, 2, 3, 7))
    metric = make(ObjectDice)
    large, small = 2 * 12 / (12 + 21), 2 * 6 / (6 + 21)
    assert metric.value(metric.stats(truth, told)) == pytest.approx(((12 * large + 6 * small) / 18 + large) / 2)


def test_object_dice_takes_the_smaller_of_two_that_share_as_many_pixels():
    truth = boxes((1, 5, 5, 2, 7))
    # both share four of its pixels: one of 4, one of 8
    told = boxes((1, 5, 5, 2, 2), (1, 3, 10, 4, 2))
    mine = make(ObjectDice).stats(truth, told)[0, 0]
    assert mine.tolist() == pytest.approx([14 * 8 / 18, 14, 4 * 8 / 18 + 8 * 8 / 22, 12])
    mirrored = make(ObjectDice).stats(truth[:, ::-1], told[:, ::-1])[0, 0]
    assert mirrored.tolist() == pytest.approx(mine.tolist())


def test_object_count_by_hand():
    truth = np.stack([boxes((1, 0, 0, 2, 2)), boxes((1, 0, 0, 2, 2), (1, 5, 5, 2, 2)), boxes(), boxes()])
    told = np.stack([boxes((1, 9, 9, 2, 2)), boxes((1, 0, 0, 2, 2)), boxes(), boxes((1, 0, 0, 1, 1), (1, 5, 5, 1, 1))])
    metric = make(ObjectCount)
    score = metric.score(metric.stats(truth, told))
    assert score.value == 0.5 and score.parts == (0.5, 0.75)  # errors 0, 1, 0, 2
    assert metric.parts == ("foreground", "foreground: mean absolute error")
    # specks of one pixel are no objects when the smallest has two
    assert make(ObjectCount, min_area=2).value(make(ObjectCount, min_area=2).stats(truth, told)) == 0.75


def test_kinds_are_scored_apart_and_match_their_own():
    truth = boxes((1, 0, 0, 4, 4), (2, 10, 10, 4, 4))
    told = boxes((1, 0, 0, 4, 4), (1, 10, 10, 4, 4))  # the nucleus is called a cell
    for kind in (ObjectMap, PanopticQuality, ObjectDice):
        joined = make(kind)
        assert joined.value(joined.stats(truth, told)) == 1 and joined.parts == ("foreground",)
        apart = make(kind, of="classes")
        assert apart.parts == ("cell", "nucleus")
    apart = make(ObjectMap, of="classes")
    assert apart.score(apart.stats(truth, told)).parts == (0.5, 0.0)
    apart = make(PanopticQuality, of="classes")
    assert apart.score(apart.stats(truth, told)).parts == pytest.approx([1 / 1.5, 0])
    apart = make(ObjectDice, of="classes")
    assert apart.score(apart.stats(truth, told)).parts == pytest.approx([(1 + 0.5) / 2, 0])
    count = make(ObjectCount, of="classes")
    assert count.score(count.stats(truth, told)).parts == (0, 0, 1, 1)
    half = np.stack([boxes((1, 0, 0, 2, 2)), boxes((2, 0, 0, 2, 2))])
    right = np.stack([boxes((1, 0, 0, 2, 2)), boxes((1, 0, 0, 2, 2))])
    assert count.score(count.stats(half, right)).parts == (0.5, 0.5, 0.5, 0.5)


def test_what_is_absent():
    nothing, something = boxes(), boxes((1, 0, 0, 3, 3))
    values = {}
    for kind in KINDS:
        metric = make(kind, of="classes")
        values[kind] = [metric.value(metric.stats(*pair)) for pair in ((nothing, nothing), (nothing, something))]
        # one image in which only cells occur, and are right: nuclei take nothing away
        assert metric.value(metric.stats(something, something)) == 1
    assert values == {ObjectMap: [1, 0.5], PanopticQuality: [0, 0], ObjectDice: [0, 0], ObjectCount: [1, 0]}
    for kind in (PanopticQuality, ObjectDice):
        metric = make(kind, of="classes")
        assert metric.score(metric.stats(something, something)).parts == (1.0, None)
    # an object that is missed, or predicted where nothing is, leaves nothing
    for kind in KINDS:
        metric = make(kind)
        assert metric.value(metric.stats(nothing, something)) == metric.value(metric.stats(something, nothing)) == 0


def test_pixels_without_a_label_are_taken_out_of_both():
    truth, told = TRUE.copy(), TOLD.copy()
    truth[15:17, 30:33] = 255  # under the false object
    truth[2:4, 20:25] = 255  # the missed one
    truth[11, 12:14] = 255  # the rest of the second
    for kind in KINDS:
        assert make(kind).value(make(kind).stats(truth, told)) == 1
        # an image without a single label is not there
        unknown = np.full_like(truth, 255)
        stats = make(kind).stats(np.stack([unknown, truth]), np.stack([told, told]))
        assert not stats[0].any() and stats[1].any()
        assert make(kind).value(stats) == 1 and make(kind).value(stats[:1]) == 0


def test_a_hole_without_a_label_is_not_filled():
    truth, told = boxes((1, 2, 2, 8, 8), (255, 4, 4, 4, 4)), boxes((1, 2, 2, 8, 12))
    # 48 labelled pixels of the cell and 32 beside it, the 16 unlabelled ones on neither side
    assert make(PanopticQuality).stats(truth, told)[0, 0].tolist() == pytest.approx([48 / 80, 1, 0, 0], abs=1e-12)


def test_pixels_of_an_unscored_class_are_taken_out_as_well():
    names = ("unknown", "cell", "nucleus")
    truth, told = (
        boxes((1, 0, 0, 20, 40), (2, 3, 3, 4, 4), (0, 10, 10, 5, 5)),
        boxes((1, 0, 0, 20, 40), (2, 3, 3, 4, 4)),
    )
    told[11:13, 11:13] = 2
    for kind in KINDS:
        metric = make(kind, unscored=0, classes=names, of="classes")
        assert metric.value(metric.stats(truth, told)) == 1
        scored = make(kind, classes=names, of="classes")
        assert scored.value(scored.stats(truth, told)) < 1


def test_truth_is_split_like_the_prediction():
    rows, columns = np.mgrid[:40, :60]
    touching = ((np.hypot(rows - 20, columns - 18) <= 10) | (np.hypot(rows - 20, columns - 36) <= 10)).astype(np.uint8)
    left = touching * (columns < 27)
    cases: tuple[tuple[dict[str, Any], float], ...] = (({}, 0.0), ({"split": "watershed", "distance": 12}, 0.5))
    for values, share in cases:
        metric = make(ObjectMap, **values)
        # half of the pixels: of one object nothing that counts, of two objects the one
        assert metric.value(metric.stats(touching, left.astype(np.uint8))) == pytest.approx(share, abs=0.06)
        assert metric.value(metric.stats(touching, touching)) == 1


def test_impossible_values_are_refused():
    for kind in KINDS:
        with pytest.raises(ValueError, match="labels hold 0..3"):
            make(kind).stats(boxes(), boxes((3, 0, 0, 2, 2)))
        with pytest.raises(ValueError, match="neither a class"):
            make(kind).stats(boxes((7, 0, 0, 2, 2)), boxes())
        with pytest.raises(ValueError, match="not of the same images"):
            make(kind).stats(boxes(), boxes()[:-1])


def test_images_of_any_size_are_joined_by_id():
    sizes = {"a": boxes((1, 0, 0, 3, 3)), "b": boxes((1, 0, 0, 3, 3))[:9, :7], "c": boxes()[:2, :5]}
    targets = ragged(sizes)
    metric: Metric = make(ObjectCount)
    stats = image_stats(metric, targets, ragged({"c": sizes["c"], "a": boxes()}))
    assert stats[:, 1].tolist() == [1, 0] and metric.higher_is_better and metric.needs == "labels" and metric.additive


def ragged(masks: dict[str, np.ndarray]) -> Ragged:
    shapes = np.array([(1, *mask.shape) for mask in masks.values()], np.int64)
    return Ragged(np.concatenate([mask.ravel() for mask in masks.values()]), shapes, np.array(list(masks)))


MASKS = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).choice([0, 1, 2, 255], (3, 9, 11), p=[0.6, 0.2, 0.15, 0.05])
)
OBJECTS = st.builds(
    lambda of, connectivity, fill, area: {"of": of, "connectivity": connectivity, "fill_holes": fill, "min_area": area},
    st.sampled_from(["classes", "foreground"]),
    st.sampled_from([4, 8]),
    st.booleans(),
    st.integers(0, 3),
)


@settings(max_examples=40, deadline=None)
@given(MASKS, OBJECTS)
def test_a_perfect_prediction_is_worth_1(masks, values):
    truth = masks.astype(np.uint8)
    for kind in KINDS:
        metric = make(kind, **values)
        stats = metric.stats(truth, np.where(truth == 255, 1, truth).astype(np.uint8))
        used = metric.score(stats).parts[: len(metric.parts) // (2 if kind is ObjectCount else 1)]
        assert all(part is None or part == pytest.approx(1, abs=1e-12) for part in used)
        if any(part is not None for part in used):
            assert metric.value(stats) == pytest.approx(1, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(MASKS, MASKS, OBJECTS, st.integers(0, 2**32 - 1))
def test_scores_add_up_and_stay_between_0_and_1(masks, others, values, seed):
    truth, told = masks.astype(np.uint8), (others % 3).astype(np.uint8)
    weights = np.random.default_rng(seed).integers(0, 3, (4, len(truth))).astype(float)
    for kind in KINDS:
        metric = make(kind, **values)
        stats = metric.stats(truth, told)
        assert (
            np.concatenate([metric.stats(*pair) for pair in zip(truth, told, strict=True)]).tolist() == stats.tolist()
        )
        assert 0 <= metric.value(stats) <= 1
        repeated = [metric.value(stats[np.repeat(np.arange(len(stats)), row.astype(int))]) for row in weights]
        assert metric.weighted(stats, weights).tolist() == pytest.approx(repeated, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5))
def test_numbers_of_objects_do_not_matter(seed, true_count, told_count):
    rng = np.random.default_rng(seed)
    true, told = rng.integers(0, true_count + 1, (6, 7)), rng.integers(0, told_count + 1, (6, 7))
    kinds = rng.integers(0, 2, true_count), rng.integers(0, 2, told_count)
    before = _meetings(true, told, *kinds)
    orders = rng.permutation(true_count), rng.permutation(told_count)
    other, other_kinds = [], []
    for numbers, kind, order in zip((true, told), kinds, orders, strict=True):
        other.append(np.concatenate([[0], order + 1])[numbers])
        other_kinds.append(np.empty_like(kind))
        other_kinds[-1][order] = kind
    after = _meetings(*other, *other_kinds)
    for kind in (0, 1):
        a, b = before.of(kind), after.of(kind)
        assert sorted(a.iou) == sorted(b.iou)
        assert sorted(a.true_areas) == sorted(b.true_areas) and sorted(a.told_areas) == sorted(b.told_areas)
        for one, two in ((a, b),):
            best = [_best(m.true, m.common, m.dice, len(m.true_areas)) for m in (one, two)]
            assert sorted(zip(best[0], one.true_areas, strict=True)) == sorted(
                zip(best[1], two.true_areas, strict=True)
            )
