"""IoU and Dice, pooled and per image: by hand, with absent classes, empty images and an unscored class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, jaccard_score

from podium import config_metric as options
from podium import metrics
from podium.metrics import Overlap, Score
from three_classes import check, named

ABC = ("nothing", "b", "c")
#                  image 0                image 1
TRUTH = np.array([[[0, 1, 1], [0, 2, 255]], [[0, 0, 0], [0, 1, 1]]], np.uint8)
TOLD = np.array([[[0, 1, 2], [1, 2, 2]], [[0, 0, 0], [1, 1, 1]]], np.uint8)
# hit / union, image 0: b 1/3, c 1/2, both joined 3/4; image 1: b 2/3, c is nowhere, both joined 2/3


def overlap(kind, over, of, unscored=None, classes=ABC) -> Overlap:
    return Overlap(kind, over, of, classes, unscored)


def test_pooled_by_hand():
    metric = overlap("iou", "pooled", "classes")
    stats = metric.stats(TRUTH, TOLD)
    assert stats.dtype == np.int64 and stats[0].tolist() == [[1, 2, 2], [1, 1, 2]]  # hit, truth, predicted
    assert metric.parts == ("b", "c")
    check(metric.score(stats), (3 / 6 + 1 / 2) / 2, 3 / 6, 1 / 2)
    dice = overlap("dice", "pooled", "classes")
    check(dice.score(dice.stats(TRUTH, TOLD)), (6 / 9 + 2 / 3) / 2, 6 / 9, 2 / 3)
    joined = overlap("iou", "pooled", "foreground")
    assert joined.parts == ("foreground",) and joined.value(joined.stats(TRUTH, TOLD)) == 5 / 7
    joined = overlap("dice", "pooled", "foreground")
    assert joined.value(joined.stats(TRUTH, TOLD)) == 10 / 12


def test_per_image_by_hand():
    metric = overlap("iou", "image", "classes")
    stats = metric.stats(TRUTH, TOLD)
    assert stats.dtype == np.float64
    np.testing.assert_allclose(
        stats, np.array([[[1 / 3, 1], [1 / 2, 1]], [[2 / 3, 1], [1, 1]]])
    )  # c is nowhere in image 1: 1
    check(metric.score(stats), (1 / 2 + 3 / 4) / 2, 1 / 2, 3 / 4)
    joined = overlap("dice", "image", "foreground")
    assert joined.value(joined.stats(TRUTH, TOLD)) == pytest.approx((6 / 7 + 4 / 5) / 2)


@pytest.mark.parametrize("kind", ["iou", "dice"])
def test_absent_classes_and_empty_images(kind):
    empty, one = np.zeros((1, 2, 2), np.uint8), np.array([[[0, 1], [1, 1]]], np.uint8)
    for truth, told, expected in ((empty, empty, 1.0), (empty, one, 0.0), (one, empty, 0.0), (one, one, 1.0)):
        each = overlap(kind, "image", "foreground")
        assert each.score(each.stats(truth, told)) == Score(expected, (expected,))
    # pooled: nothing at all is left out, and with nothing left the score is 0
    pooled = overlap(kind, "pooled", "classes")
    assert pooled.score(pooled.stats(empty, empty)) == Score(0.0, (None, None))
    assert pooled.score(pooled.stats(one, one)) == Score(1.0, (1.0, None))
    both = np.concatenate([empty, one])
    assert pooled.value(pooled.stats(both, both[::-1])) == 0


@pytest.mark.parametrize("over", ["pooled", "image"])
def test_an_image_without_labels_is_not_there(over):
    metric = overlap("dice", over, "classes")
    nothing = np.full((1, 2, 3), 255, np.uint8)
    assert not metric.stats(nothing, TOLD[:1]).any()
    assert metric.score(metric.stats(nothing, TOLD[:1])) == Score(0.0, (None, None))
    both = metric.stats(np.concatenate([TRUTH, nothing]), np.concatenate([TOLD, TOLD[:1]]))
    assert metric.value(both) == metric.value(metric.stats(TRUTH, TOLD))


@pytest.mark.parametrize("over", ["pooled", "image"])
def test_pixels_of_an_unscored_class_are_dropped(over):
    metric = overlap("iou", over, "classes", unscored=0)
    dropped = metric.stats(np.where(TRUTH == 0, 255, TRUTH).astype(np.uint8), TOLD)
    np.testing.assert_array_equal(metric.stats(TRUTH, TOLD), dropped)
    assert metric.parts == ("b", "c")
    # what is told as the unscored class is a miss of the class that it was
    missed = metric.stats(TRUTH, np.zeros_like(TOLD))
    assert metric.value(missed) == (0 if over == "pooled" else 1 / 4)  # c is nowhere in image 1: 1
    # another class as the background
    assert overlap("iou", over, "classes", unscored=1).parts == ("nothing", "c")


@given(st.integers(0, 10**6), st.sampled_from(["iou", "dice"]), st.sampled_from(["classes", "foreground"]))
@settings(max_examples=40, deadline=None)
def test_equal_to_sklearn(seed, kind, of):
    generator = np.random.default_rng(seed)
    truth = generator.choice([0, 1, 2, 255], (3, 3, 4), p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint8)
    told = np.where((generator.random(truth.shape) < 0.6) & (truth < 3), truth, generator.integers(0, 3, truth.shape))
    told = told.astype(np.uint8)
    reference = jaccard_score if kind == "iou" else f1_score

    def scores(t, p, zero):
        t, p = t[t != 255], p[t != 255]
        if of == "foreground":
            return [reference(t > 0, p > 0, zero_division=zero)] if zero or (t > 0).any() or (p > 0).any() else []
        wanted = [c for c in (1, 2) if zero or (t == c).any() or (p == c).any()]
        return reference(t, p, labels=wanted, average=None, zero_division=zero).tolist() if wanted else []

    pooled = overlap(kind, "pooled", of)
    expected = scores(truth.ravel(), told.ravel(), 0)
    assert pooled.value(pooled.stats(truth, told)) == pytest.approx(np.mean(expected) if expected else 0)
    image = overlap(kind, "image", of)
    each = [np.mean(scores(t.ravel(), p.ravel(), 1.0)) for t, p in zip(truth, told, strict=True) if (t != 255).any()]
    assert image.value(image.stats(truth, told)) == pytest.approx(np.mean(each))
    weights = generator.integers(0, 3, (2, 3)) + np.array([[1], [0]])
    for metric in (pooled, image):
        stats = metric.stats(truth, told)
        repeated = [metric.value(np.repeat(stats, weight, axis=0)) for weight in weights]
        np.testing.assert_allclose(metric.weighted(stats, weights), repeated)


def test_built_from_settings():
    made = metrics.build(options.Overlap(name="dice", over="image", of="foreground"), ABC, None, "segmentation")
    assert made == Overlap("dice", "image", "foreground", ABC, None)
    made = metrics.build(options.Overlap(name="iou"), named(4), 2, "segmentation")
    assert made == Overlap("iou", "pooled", "classes", named(4), 2)
    assert made.higher_is_better and made.additive and made.needs == "labels"
