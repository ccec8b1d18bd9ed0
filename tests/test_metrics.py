"""Mean IoU (known answers by hand, the three conventions, equality with Keras) and accuracy (equality with sklearn)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, recall_score

from podium import config_metric as options
from podium import metrics
from podium.config_objects import Objects
from podium.data.ragged import Ragged
from podium.metrics import Accuracy, MeanIoU, counts, image_stats
from three_classes import named

Convention = Literal["keras", "foreground", "masked"]
CONVENTIONS: tuple[Convention, ...] = ("keras", "foreground", "masked")

# A scene of 5,000 pixels: 1,000 unlabelled (0), then 1,800, 1,200, 900 and 100 of classes 1 to 4.
SIZES = {0: 1000, 1: 1800, 2: 1200, 3: 900, 4: 100}
# Truth, predicted, pixels: 800 of the 4,000 labelled pixels (20 %) are wrong, 0 is never predicted ...
ERRORS = [(1, 1, 1660), (1, 2, 30), (1, 3, 110), (2, 2, 1040), (2, 1, 10), (2, 3, 150)]
ERRORS += [(3, 3, 410), (3, 2, 490), (4, 4, 90), (4, 1, 10)]
# ... and what lies on the unlabelled pixels.
ERRORS += [(0, 1, 10), (0, 2, 20), (0, 3, 970)]
PERFECT = [(1, 1, 1800), (2, 2, 1200), (3, 3, 900), (4, 4, 100), (0, 1, 50), (0, 2, 410), (0, 3, 160), (0, 4, 380)]


def scene(cells: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray]:
    truth = np.repeat([t for t, _, _ in cells], [n for _, _, n in cells]).astype(np.uint8)
    labels = np.repeat([p for _, p, _ in cells], [n for _, _, n in cells]).astype(np.uint8)
    assert np.bincount(truth).tolist() == list(SIZES.values())
    return truth.reshape(50, 100), labels.reshape(50, 100)


def set_to_zero(truth: np.ndarray, labels: np.ndarray, t: int, p: int, n: int) -> np.ndarray:
    """A copy of the labels in which ``n`` of the pixels with this truth and prediction are predicted 0."""
    out = labels.copy()
    out.reshape(-1)[np.flatnonzero((truth == t) & (labels == p))[:n]] = 0
    return out


def value(
    convention: Convention, truth: np.ndarray, labels: np.ndarray, classes: int = 5, unscored: int | None = 0
) -> float:
    metric = MeanIoU(named(classes), unscored, convention)
    return metric.value(metric.stats(truth, labels))


def mean(*fractions: tuple[int, int]) -> float:
    return sum(a / b for a, b in fractions) / len(fractions)


def test_a_fifth_wrong_and_zero_never_predicted():
    truth, labels = scene(ERRORS)
    # hits / (pixels of the class + false positives); the 1,000 unlabelled pixels count only for "foreground"
    dropped = mean((1660, 1800 + 20), (1040, 1200 + 520), (410, 900 + 260), (90, 100))
    kept = mean((1660, 1800 + 20 + 10), (1040, 1200 + 520 + 20), (410, 900 + 260 + 970), (90, 100))
    expected = {"keras": dropped, "foreground": kept, "masked": dropped}
    for convention in CONVENTIONS:
        assert value(convention, truth, labels) == pytest.approx(expected[convention], abs=1e-12)
    assert [round(expected[c], 4) for c in CONVENTIONS] == [0.6925, 0.6493, 0.6925]


def test_one_pixel_predicted_zero_costs_a_fifth_of_the_keras_score():
    truth, labels = scene(ERRORS)
    labels = set_to_zero(truth, labels, t=3, p=2, n=1)  # sand that was called bedrock: one false positive less
    four = ((1660, 1820), (1040, 1719), (410, 1160), (90, 100))
    assert value("keras", truth, labels) == pytest.approx(mean((0, 1), *four), abs=1e-12)
    assert value("masked", truth, labels) == pytest.approx(mean(*four), abs=1e-12)
    assert round(value("keras", truth, labels), 4) == 0.5541
    assert round(value("masked", truth, labels), 4) == 0.6926
    assert round(value("foreground", truth, labels), 4) == 0.6494

    # 0 on pixels that are unlabelled is seen by "foreground" alone: false positives become right.
    more = set_to_zero(truth, labels, t=0, p=3, n=9)
    assert value("keras", truth, more) == value("keras", truth, labels)
    assert value("masked", truth, more) == value("masked", truth, labels)
    assert value("foreground", truth, more) == pytest.approx(
        mean((1660, 1830), (1040, 1739), (410, 2130 - 9), (90, 100)), abs=1e-12
    )
    assert round(value("foreground", truth, more), 4) == 0.6496


def test_a_perfect_foreground_and_zero_never_predicted():
    truth, labels = scene(PERFECT)
    assert value("keras", truth, labels) == 1.0
    assert value("masked", truth, labels) == 1.0
    by_hand = mean((1800, 1850), (1200, 1610), (900, 1060), (100, 480))
    assert value("foreground", truth, labels) == pytest.approx(by_hand, abs=1e-12)
    assert round(by_hand, 4) == 0.6939


def test_confusion_matrix_by_hand():
    truth = np.array([[0, 1, 1], [2, 2, 255]], np.uint8)
    labels = np.array([[1, 1, 2], [2, 0, 2]], np.uint8)
    stats = MeanIoU(named(3), None, "keras").stats(truth, labels)
    assert stats.dtype == np.int64
    assert stats.tolist() == [[[0, 1, 0], [0, 1, 1], [1, 0, 1]]]  # [truth, predicted]; the 255 is nowhere


def test_parts_says_which_classes_entered_the_mean():
    truth = np.array([[1, 1, 0, 2]], np.uint8)
    never = MeanIoU(named(5), 0, "keras")
    without = never.score(never.stats(truth, np.array([[1, 1, 1, 1]], np.uint8)))
    assert without.parts == (None, 2 / 3, 0.0, None, None)
    with_zero = never.score(never.stats(truth, np.array([[1, 0, 0, 2]], np.uint8)))
    assert with_zero.parts == (0.0, 0.5, 1.0, None, None)
    assert with_zero.value == pytest.approx(0.5)
    masked = MeanIoU(named(5), 0, "masked")
    assert masked.score(masked.stats(truth, np.array([[1, 0, 0, 2]], np.uint8))).parts == (
        None,
        0.5,
        1.0,
        None,
        None,
    )


def test_without_an_unscored_class_the_conventions_agree():
    truth, labels = scene(ERRORS)
    scores = {value(convention, truth, labels, unscored=None) for convention in CONVENTIONS}
    assert len(scores) == 1
    assert scores.pop() == pytest.approx(mean((0, 1000), (1660, 1830), (1040, 1740), (410, 2130), (90, 100)))


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_nothing_labelled_scores_zero(convention):
    # keras 3.15.1 gives 0.0 here, too
    assert value(convention, np.full((2, 2), 255, np.uint8), np.ones((2, 2), np.uint8)) == 0.0


# keras.metrics.MeanIoU(num_classes=classes, ignore_class=unscored) of keras 3.15.1 with the torch backend (it computes
# in float32 and adds 1e-7 to the denominators) on the arrays of ``seeded``.
KERAS = [
    (0, 5, 0, 1, 0.6298093793776367),  # 0 is never predicted
    (1, 5, 0, 0, 0.5140713453292847),  # 0 is predicted on labelled pixels
    (2, 5, None, 0, 0.6078542470932007),
    (3, 4, 2, 0, 0.5028204917907715),  # the unscored class in the middle
    (4, 7, 0, 1, 0.5875969529151917),  # class 6 occurs nowhere
]


def seeded(seed: int, classes: int, lowest: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, (3, 24, 32)).astype(np.uint8)
    other = generator.integers(lowest, classes, truth.shape).astype(np.uint8)
    labels = np.where((generator.random(truth.shape) < 0.7) & (truth >= lowest), truth, other).astype(np.uint8)
    if seed == 4:
        truth[truth == 6] = 0
        labels[labels == 6] = 1
    return truth, labels


@pytest.mark.parametrize(("seed", "classes", "unscored", "lowest", "expected"), KERAS)
def test_equal_to_keras(seed, classes, unscored, lowest, expected):
    truth, labels = seeded(seed, classes, lowest)
    assert value("keras", truth, labels, classes, unscored) == pytest.approx(expected, abs=1e-6)


@given(st.integers(0, 10**6), st.sampled_from(CONVENTIONS), st.sampled_from([None, 0, 1, 3]))
@settings(max_examples=30, deadline=None)
def test_equal_to_counting_pixel_by_pixel(seed, convention, unscored):
    generator = np.random.default_rng(seed)
    truth = generator.choice([0, 1, 2, 3, 255], (2, 3, 4)).astype(np.uint8)
    labels = generator.integers(0, 4, (2, 3, 4)).astype(np.uint8)
    ious = []
    for c in range(4):
        hits = union = 0
        for t, p in zip(truth.ravel().tolist(), labels.ravel().tolist(), strict=True):
            counts = t != 255 and (t != unscored or convention == "foreground")
            hits += counts and t == c and p == c
            union += counts and (t == c or p == c)
        if union and (c != unscored or convention == "keras"):
            ious.append(hits / union)
    assert value(convention, truth, labels, 4, unscored) == pytest.approx(np.mean(ious) if ious else 0.0)


def test_statistics_of_many_images_are_those_of_each(monkeypatch):
    truth, labels = seeded(1, 5, 0)
    metric = MeanIoU(named(5), 0, "keras")
    whole = metric.stats(truth, labels)
    assert whole.shape == (3, 5, 5)
    assert metric.shape == whole[0].shape
    for i in range(3):
        np.testing.assert_array_equal(whole[i], metric.stats(truth[i], labels[i])[0])
    monkeypatch.setattr(counts, "_CHUNK", 2 * truth[0].size)  # chunks of 2 and 1 images
    np.testing.assert_array_equal(metric.stats(truth, labels), whole)
    # the score is of ONE matrix, not the mean over images
    one_image = metric.value(metric.stats(truth.reshape(1, -1, 32), labels.reshape(1, -1, 32)))
    assert metric.value(whole) == one_image
    assert metric.value(whole) != pytest.approx(metric.values(whole).mean(), abs=1e-6)
    assert metric.stats(truth[:0], labels[:0]).shape == (0, 5, 5)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_values_are_the_scores_of_each_matrix(convention):
    generator = np.random.default_rng(0)
    stats = generator.integers(0, 5, (40, 4, 4))
    before = stats.copy()
    metric = MeanIoU(named(4), 0, convention)
    np.testing.assert_array_equal(metric.values(stats), [metric.score(matrix).value for matrix in stats])
    np.testing.assert_array_equal(stats, before)
    assert metric.score(stats.reshape(2, 20, 4, 4)) == metric.score(stats.sum(axis=0))


def test_values_out_of_range_are_refused():
    metric = MeanIoU(named(3), 0, "keras")
    good = np.zeros((2, 2), np.uint8)
    for bad in (3, 255):
        with pytest.raises(ValueError, match="labels hold"):
            metric.stats(good, np.full((2, 2), bad, np.uint8))
    with pytest.raises(ValueError, match="truth holds"):
        metric.stats(np.full((2, 2), 3, np.uint8), good)
    with pytest.raises(ValueError, match="one shape"):
        metric.stats(good, good[:1])


# ---------------------------------------------------------------- accuracy


def as_images(values: list[int]) -> np.ndarray:
    """Labels as masks of one pixel, (N, 1, 1)."""
    return np.array(values, np.uint8).reshape(-1, 1, 1)


def test_accuracy_by_hand():
    metric = Accuracy(named(4))
    #                          right     wrong     no label
    stats = metric.stats(as_images([0, 1, 1, 0, 2, 2, 255, 255]), as_images([0, 1, 1, 1, 0, 3, 0, 3]))
    assert stats.shape == (8, 4, 4) and stats.dtype == np.int64
    assert stats.sum(axis=(1, 2)).tolist() == [1] * 6 + [0] * 2
    score = metric.score(stats)
    assert score.value == metric.value(stats) == 3 / 6
    assert score.parts == (1 / 2, 1.0, 0.0, None)  # recalls; class 3 is predicted and occurs nowhere
    np.testing.assert_array_equal(metric.values(stats), [1, 1, 1, 0, 0, 0, 0, 0])
    assert metric.higher_is_better


def test_with_nothing_labelled_accuracy_is_zero():
    metric = Accuracy(named(3))
    stats = metric.stats(as_images([255, 255]), as_images([0, 1]))
    assert metric.score(stats) == metrics.Score(0.0, (None, None, None))


@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(1, 80))
@settings(max_examples=40, deadline=None)
def test_accuracy_is_that_of_sklearn(seed, classes, n):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, n)
    labels = np.where(generator.random(n) < 0.6, truth, generator.integers(0, classes, n))
    hidden = generator.random(n) < 0.2
    metric = Accuracy(named(classes))
    stats = metric.stats(as_images(np.where(hidden, 255, truth).tolist()), as_images(labels.tolist()))
    known, told = truth[~hidden], labels[~hidden]
    score = metric.score(stats)
    assert score.value == (pytest.approx(accuracy_score(known, told)) if len(known) else 0.0)
    if len(known):
        recalls = recall_score(known, told, labels=range(classes), average=None, zero_division=np.nan)
        assert [np.nan if recall is None else recall for recall in score.parts] == pytest.approx(recalls, nan_ok=True)
    # sums of images, one score each: what the bootstrap asks for
    halves = np.stack([stats[: n // 2].sum(axis=0), stats[n // 2 :].sum(axis=0)])
    np.testing.assert_array_equal(metric.values(halves), [metric.value(half) for half in halves])


def test_accuracy_takes_no_other_labels_than_its_classes():
    for truth, labels, said in (([3], [0], "truth holds"), ([0], [3], "labels hold"), ([0], [255], "labels hold")):
        with pytest.raises(ValueError, match=said):
            Accuracy(named(3)).stats(as_images(truth), as_images(labels))


# ---------------------------------------------------------------- statistics by id


def ragged(arrays: list[np.ndarray], ids: list[str]) -> Ragged:
    values = np.concatenate([array.reshape(-1) for array in arrays])
    return Ragged(values, np.array([array.shape for array in arrays]), np.array(ids))


@pytest.mark.parametrize("sizes", [[(3, 4), (1, 7), (5, 2), (2, 2)], [(3, 4)] * 4], ids=["ragged", "uniform"])
@pytest.mark.parametrize("metric", [MeanIoU(named(4), 0, "keras"), Accuracy(named(4))], ids=["mean_iou", "accuracy"])
def test_statistics_are_joined_by_id_whatever_the_sizes(metric, sizes):
    generator = np.random.default_rng(0)
    truth = [generator.choice([0, 1, 2, 3, 255], (1, *size)).astype(np.uint8) for size in sizes]
    labels = [generator.integers(0, 4, (1, *size)).astype(np.uint8) for size in sizes]
    picked = [3, 0, 2]
    names = ["a", "b", "c", "d"]
    found = image_stats(metric, ragged(truth, names), ragged([labels[i] for i in picked], [names[i] for i in picked]))
    assert found.shape == (3, 4, 4)
    for row, i in enumerate(picked):
        np.testing.assert_array_equal(found[row], metric.stats(truth[i], labels[i])[0])
    # of equal sizes where the other targets differ from them
    alike = image_stats(metric, ragged(truth, names), ragged([labels[1]], ["b"]))
    np.testing.assert_array_equal(alike, metric.stats(truth[1], labels[1]))


def test_statistics_of_an_unknown_id_or_another_size_are_refused():
    metric = Accuracy(named(3))
    truth = ragged([np.zeros((1, 2, 2), np.uint8), np.zeros((1, 3, 2), np.uint8)], ["a", "b"])
    with pytest.raises(KeyError):
        image_stats(metric, truth, ragged([np.zeros((1, 2, 2), np.uint8)], ["c"]))
    with pytest.raises(ValueError, match="one shape"):
        image_stats(metric, truth, ragged([np.zeros((1, 2, 2), np.uint8)], ["b"]))


def test_built_from_settings():
    built = metrics.build(options.MeanIoU(convention="masked"), ["a", "b", "c"], 1, "segmentation")
    assert built == MeanIoU(("a", "b", "c"), 1, "masked")
    assert built.higher_is_better and built.parts == ("a", "b", "c")
    assert metrics.build(options.MeanIoU(), ["a", "b"], None, "segmentation") == MeanIoU(("a", "b"), None, "keras")
    assert metrics.build(options.Accuracy(), ["a", "b", "c"], None, "classification") == Accuracy(("a", "b", "c"))


@pytest.mark.parametrize(
    ("settings_", "made"),
    [
        (options.ObjectMap(thresholds=(0.5, 0.75)), lambda found: metrics.ObjectMap(("a", "b"), 0, found, (0.5, 0.75))),
        (options.OfObjects(name="panoptic_quality"), lambda found: metrics.PanopticQuality(("a", "b"), 0, found)),
        (options.OfObjects(name="object_dice"), lambda found: metrics.ObjectDice(("a", "b"), 0, found)),
        (options.OfObjects(name="object_count"), lambda found: metrics.ObjectCount(("a", "b"), 0, found)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_metrics_of_objects_are_built_with_how_these_are_found(settings_, made):
    given = Objects(split="watershed", min_area=7)
    assert metrics.build(settings_, ("a", "b"), 0, "segmentation", given) == made(
        Objects(of="classes", split="watershed", min_area=7)
    )
    assert metrics.build(settings_, ("a", "b"), 0, "segmentation") == made(Objects(of="classes"))
    joined = settings_.model_copy(update={"of": "foreground"})
    assert metrics.build(joined, ("a", "b"), 0, "segmentation") == made(Objects(of="foreground"))
