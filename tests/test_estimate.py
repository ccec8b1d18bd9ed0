"""Intervals, paired gains and nested choices: known answers, and simulations that say how exact they are."""

from __future__ import annotations

import numpy as np
import pytest

from podium import estimate
from podium.estimate import Repeats, best, best_of, bootstrap, nested, over_repeats, paired, second_chance
from podium.metrics import Additive, MeanError, MeanIoU, RocAuc
from podium.metrics.base import quotient
from three_classes import named


class Share(Additive):
    """Statistics (N, 2): right answers and answers."""

    shape = (2,)

    def values(self, sums: np.ndarray) -> np.ndarray:
        return quotient(sums[:, 0], sums[:, 1])

    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        return ()


class Weighing(Share):
    """The same as a metric whose statistics do not add up."""

    additive = False

    def values(self, sums: np.ndarray) -> np.ndarray:
        raise AssertionError("its sums are not scored")

    def weighted(self, stats: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return quotient(weights @ stats[:, 0], weights @ stats[:, 1])


accuracy = Share()
accuracy_of = accuracy.value


def answers(right: np.ndarray) -> np.ndarray:
    """(..., N) of 0 and 1 → statistics (..., N, 2)."""
    return np.stack([right, np.ones_like(right)], axis=-1).astype(np.int64)


def test_interval_of_a_mean_is_the_textbooks():
    right = np.repeat([0, 1], [120, 280])  # 400 answers, 70 % right
    interval = bootstrap(accuracy, answers(right), np.arange(400), count=4000)
    error = (0.7 * 0.3 / 400) ** 0.5  # 0.0229
    # Monte-Carlo error of a standard deviation from 4,000 resamples: 1.1 %; four of them. Percentiles move more.
    assert interval.std == pytest.approx(error, rel=0.045)
    assert interval.low == pytest.approx(0.7 - 1.645 * error, abs=0.004)
    assert interval.high == pytest.approx(0.7 + 1.645 * error, abs=0.004)
    assert interval.level == 0.90
    wide = bootstrap(accuracy, answers(right), np.arange(400), count=4000, level=0.99)
    assert wide.low < interval.low < interval.high < wide.high


def test_groups_are_resampled_whole():
    right = np.random.default_rng(0).integers(0, 2, 100)
    single = bootstrap(accuracy, answers(right), np.arange(100), count=3000)
    # Every answer four times, in groups of four: as uncertain as before, though there are four times as many.
    repeated = bootstrap(accuracy, answers(np.repeat(right, 4)), np.repeat(np.arange(100), 4), count=3000)
    assert repeated == single
    # Taken as independent they look twice as sure.
    naive = bootstrap(accuracy, answers(np.repeat(right, 4)), np.arange(400), count=3000)
    assert naive.std == pytest.approx(single.std / 2, rel=0.08)


def test_group_numbers_and_row_order_mean_nothing():
    right = np.random.default_rng(1).integers(0, 2, 60)
    groups = np.repeat(np.arange(20), 3)
    shuffled = np.random.default_rng(2).permutation(60)
    a = bootstrap(accuracy, answers(right), groups)
    assert bootstrap(accuracy, answers(right)[shuffled], groups[shuffled] * 7 + 100) == a
    assert bootstrap(accuracy, answers(right), groups, seed=1) != a


def test_blocks_do_not_change_the_draws(monkeypatch):
    right = np.random.default_rng(1).integers(0, 2, 61)
    whole = bootstrap(accuracy, answers(right), np.arange(61), count=100)
    monkeypatch.setattr(estimate, "_BLOCK", 61 * 7)
    assert bootstrap(accuracy, answers(right), np.arange(61), count=100) == whole


def test_a_single_group_is_a_point():
    interval = bootstrap(accuracy, answers(np.array([1, 0, 1, 1])), np.zeros(4, int))
    assert (interval.low, interval.high, interval.std) == (0.75, 0.75, 0.0)


def test_matrices_are_resampled_like_anything_else():
    generator = np.random.default_rng(0)
    metric = MeanIoU(named(3), 0, "keras")
    stats = generator.integers(0, 50, (30, 3, 3)) + 200 * np.eye(3, dtype=int)
    interval = bootstrap(metric, stats, np.arange(30), count=500)
    assert interval.low < metric.value(stats) < interval.high
    picks = np.random.default_rng(5).integers(0, 30, (500, 30))
    by_hand = [metric.value(stats[rows]) for rows in picks]
    assert interval.std == pytest.approx(np.std(by_hand), rel=0.15)


def test_paired_gain_of_equal_and_of_shifted_models():
    generator = np.random.default_rng(3)
    hard = generator.random(500)  # how hard each image is, for both models alike
    a, b = answers(hard < 0.73), answers(hard < 0.70)
    same = paired(accuracy, a, a, np.arange(500))
    assert (same.mean, same.low, same.high, same.share_above_zero) == (0, 0, 0, 0)
    gain = paired(accuracy, a, b, np.arange(500))
    true = accuracy_of(a) - accuracy_of(b)
    assert gain.low < true < gain.high
    assert gain.mean == pytest.approx(true, abs=0.001)
    assert gain.share_above_zero > 0.99
    back = paired(accuracy, b, a, np.arange(500))
    assert back.mean == -gain.mean
    assert [back.low, back.high] == pytest.approx([-gain.high, -gain.low])
    assert back.share_above_zero == 0
    # What is hard for both cancels out: far narrower than the two intervals are.
    alone = bootstrap(accuracy, a, np.arange(500))
    assert gain.high - gain.low < (alone.high - alone.low) / 2


def test_paired_wants_the_same_images():
    with pytest.raises(ValueError, match="not of the same images"):
        paired(accuracy, answers(np.ones(4)), answers(np.ones(3)), np.arange(4))
    with pytest.raises(ValueError, match="do not fit"):
        bootstrap(accuracy, answers(np.ones(4)), np.arange(3))


def test_a_second_chance_by_hand():
    """Two images, one of which only a has right and one only b: of two draws a quarter is (b, b), a half (a, b), a quarter (a, a)."""
    a, b = answers(np.array([1, 0])), answers(np.array([0, 1]))
    better, saves = second_chance(accuracy, a, b, np.arange(2), 8000)
    assert better == pytest.approx(0.25, abs=0.02) and saves == pytest.approx(0.25, abs=0.02)
    assert second_chance(accuracy, a, a, np.arange(2)) == (0.0, 0.0)
    errors = MeanError("mae")  # where lower is better, the same numbers the other way round
    truth = np.zeros((2, 1, 1), np.float32)
    off = [errors.stats(truth, np.array(each, np.float32).reshape(2, 1, 1)) for each in ([0, 1], [1, 0])]
    better, saves = second_chance(errors, off[0], off[1], np.arange(2), 8000)
    assert better == pytest.approx(0.25, abs=0.02) and saves == pytest.approx(0.25, abs=0.02)


# ---------------------------------------------------------------- repeats


def test_over_repeats_is_the_mean_of_the_repeats_scores():
    #                      repeat 0       repeat 1
    right = np.array([[1, 1, 0, 1], [1, 0, 0, 0]])
    stats = answers(right).transpose(1, 0, 2)  # (4 images, 2 repeats, 2)
    assert over_repeats(accuracy, stats) == pytest.approx((3 / 4 + 1 / 4) / 2)
    # each repeat is scored by itself: an image that one of them has not predicted counts in the other alone
    stats[3, 1] = 0
    assert over_repeats(accuracy, stats) == pytest.approx((3 / 4 + 1 / 3) / 2)
    assert over_repeats(accuracy, stats) != accuracy_of(stats.reshape(-1, 2))
    assert over_repeats(accuracy, stats[:, :1]) == accuracy_of(stats[:, 0])


def test_over_repeats_of_matrices():
    generator = np.random.default_rng(0)
    metric = MeanIoU(named(3), 0, "keras")
    stats = generator.integers(0, 9, (6, 4, 3, 3))
    assert over_repeats(metric, stats) == pytest.approx(np.mean([metric.value(stats[:, r]) for r in range(4)]))


def test_images_are_resampled_with_all_of_their_repeats():
    """The bootstrap by hand: ids are drawn, and every repeat's score is of the same draw."""
    generator = np.random.default_rng(2)
    stats = answers(generator.integers(0, 2, (12, 3)))
    interval = bootstrap(Repeats(accuracy), stats, np.arange(12), count=300, seed=4)
    picks = np.random.default_rng(4).integers(0, 12, (300, 12))
    scores = [over_repeats(accuracy, stats[rows]) for rows in picks]
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(scores, [0.05, 0.95])))
    assert interval.std == pytest.approx(np.std(scores, ddof=1))


# ---------------------------------------------------------------- metrics that do not add up


def test_a_weight_per_image_gives_the_interval_that_sums_give(monkeypatch):
    right = np.random.default_rng(0).integers(0, 2, (61, 3))
    groups = np.arange(61) // 2
    stats = answers(right)
    stats[5, 1] = 0  # not predicted in one repeat
    for some, added, weighed in (
        (stats[:, 0], accuracy, Weighing()),
        (stats, Repeats(accuracy), Repeats(Weighing())),
    ):
        summed = bootstrap(added, some, groups, count=200)
        assert bootstrap(weighed, some, groups, count=200) == summed
        gain = paired(added, some, some[::-1], groups, count=200)
        assert paired(weighed, some, some[::-1], groups, count=200) == gain
        with monkeypatch.context() as patch:
            patch.setattr(estimate, "_BLOCK", 61 * 7)  # blocks of 7 resamples of 61 images
            assert bootstrap(weighed, some, groups, count=200) == summed
    assert over_repeats(Weighing(), stats) == pytest.approx(over_repeats(accuracy, stats), abs=1e-15)
    pair = answers(np.random.default_rng(1).integers(0, 2, (4, 60)))
    folds = np.arange(60) % 3
    a, b = (nested(*best_of(pair, metric), folds, accuracy_of) for metric in (accuracy, Weighing()))
    assert (a.choice, a.choices_per_fold, a.nested) == (b.choice, b.choices_per_fold, b.nested)


def chances(truth: np.ndarray, yes: np.ndarray) -> np.ndarray:
    """Statistics (N, 1, 2) of ROC AUC."""
    metric = RocAuc(named(2), False)
    return metric.stats(truth.astype(np.uint8).reshape(-1, 1, 1), np.stack([1 - yes, yes], axis=1)[..., None, None])


def test_the_interval_of_roc_auc_is_that_of_resampled_images():
    generator = np.random.default_rng(5)
    truth = generator.integers(0, 2, 40)
    stats = chances(truth, np.round(generator.random(40) * 0.5 + truth * 0.2, 1))
    metric = RocAuc(named(2), False)
    interval = bootstrap(metric, stats, np.arange(40), count=300, seed=4)
    picks = np.random.default_rng(4).integers(0, 40, (300, 40))
    scores = [metric.value(stats[rows]) for rows in picks]
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(scores, [0.05, 0.95])))
    assert interval.std == pytest.approx(np.std(scores, ddof=1))


def test_an_image_that_a_repeat_has_not_predicted_is_not_there_for_roc_auc():
    metric = RocAuc(named(2), False)
    truth = np.array([0, 0, 1, 1])
    first = chances(truth, np.array([0.1, 0.6, 0.5, 0.9]))  # three of four pairs in order
    second = chances(truth, np.array([0.9, 0.2, 0.5, 0.7]))  # two of four, and of the last three images all
    stats = np.stack([first, second], axis=1)
    assert over_repeats(metric, stats) == pytest.approx((3 / 4 + 2 / 4) / 2)
    stats[0, 1] = 0
    assert over_repeats(metric, stats) == pytest.approx((3 / 4 + 1) / 2)


# ---------------------------------------------------------------- lower is better


def test_the_lowest_error_is_the_best():
    metric = MeanError("rmse")
    truth = np.zeros((6, 1, 1), np.float32)
    #                fold 0   fold 1
    off = np.array([[1, 1, 1, 3, 3, 3], [2, 2, 2, 1, 1, 1]], np.float64).reshape(2, 6, 1, 1)
    candidates = np.stack([metric.stats(truth, model) for model in off])
    result = nested(*best_of(candidates, metric), np.array([0, 0, 0, 1, 1, 1]), metric.value)
    # of all six rows the second errs less (2.5 against 5 squared); without fold 0 it does, without fold 1 the first
    assert result.choice == 1 and result.choices_per_fold == (1, 0)
    assert result.in_sample == pytest.approx(2.5**0.5) and result.nested == pytest.approx(6.5**0.5)
    gain = paired(metric, candidates[1], candidates[0], np.arange(6), count=200)
    assert gain.mean > 0 and gain.share_above_zero > 0.8
    assert paired(metric, candidates[0], candidates[1], np.arange(6), count=200).mean == -gain.mean
    assert best([3.0, 1.0, 1.0, 2.0], metric) == 1 and best([3.0, 1.0, 3.0], accuracy) == 0


# ---------------------------------------------------------------- choices


def test_nested_by_hand():
    #               fold 0      fold 1      dropped
    right = np.array([[1, 1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1, 0]])
    folds = np.array([0, 0, 0, 1, 1, 1, -1])
    result = nested(*best_of(answers(right), accuracy), folds, accuracy_of)
    # On fold 1 the second model is best (3 of 3), on fold 0 the first: each is scored where the other was best.
    assert result.choices_per_fold == (1, 0)
    assert result.stats[:, 0].tolist() == [0, 0, 1, 0, 0, 1]
    assert result.nested == pytest.approx(2 / 6)
    # On all six rows both have 4; the first of equals is taken. The dropped row would have made the difference.
    assert result.choice == 0
    assert result.in_sample == pytest.approx(4 / 6)


def test_nested_takes_any_choice():
    """A threshold instead of an index: the choice is whatever ``choose`` returns and ``apply`` understands."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 2, 300)
    signal = truth + generator.normal(0, 0.6, 300)
    folds = np.arange(300) % 3
    seen = []

    def apply(threshold: float, rows: np.ndarray) -> np.ndarray:
        return answers((signal[rows] > threshold) == truth[rows])

    def choose(rows: np.ndarray) -> float:
        seen.append(rows.copy())
        return max(np.linspace(-1, 2, 61).tolist(), key=lambda t: accuracy_of(apply(t, rows)))

    result = nested(choose, apply, folds, accuracy_of)
    assert [rows.tolist() for rows in seen[:3]] == [(folds != k).tolist() for k in range(3)]
    assert seen[3].all()
    assert len(result.choices_per_fold) == 3
    by_hand = np.concatenate([apply(t, folds == k) for k, t in enumerate(result.choices_per_fold)])
    assert result.nested == pytest.approx(accuracy_of(by_hand))
    assert len(result.stats) == 300


def test_nested_refuses_what_it_cannot_do():
    pair = best_of(answers(np.ones((2, 4))), accuracy)
    with pytest.raises(ValueError, match="at least two folds"):
        nested(*pair, np.array([0, 0, 0, -1]), accuracy_of)
    with pytest.raises(ValueError, match="4 statistics for 2 rows"):
        nested(pair[0], lambda choice, rows: answers(np.ones(4)), np.array([0, 0, 1, 1]), accuracy_of)


def test_picking_the_best_of_noise_is_optimistic_in_sample_and_unbiased_nested():
    """400 made-up competitions: 8 models that guess on 100 images, so that whatever is chosen is worth exactly 0.5."""
    generator = np.random.default_rng(0)
    folds = np.arange(100) % 5
    in_sample, out = [], []
    for _ in range(400):
        result = nested(*best_of(answers(generator.integers(0, 2, (8, 100))), accuracy), folds, accuracy_of)
        in_sample.append(result.in_sample)
        out.append(result.nested)
    # One nested score has a standard deviation of 0.065 here (100 coins alone: 0.05; a model chosen for its luck
    # elsewhere moves several folds together). The Monte-Carlo error of the mean of 400 is 0.0033; the bound is 3.5 of
    # them, 0.011.
    error = np.std(out) / 400**0.5
    assert error < 0.004
    assert abs(np.mean(out) - 0.5) < 3.5 * error
    # The largest of 8 normal variables lies 1.42 standard deviations above their mean (order statistics): 0.571.
    assert np.mean(in_sample) == pytest.approx(0.5 + 1.42 * 0.05, abs=0.01)
