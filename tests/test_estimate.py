"""Intervals, paired gains and nested choices: known answers, and simulations that say how exact they are."""

from __future__ import annotations

import numpy as np
import pytest

from podium import estimate
from podium.estimate import best_of, bootstrap, nested, over_repeats, paired
from podium.metrics import MeanIoU


def accuracy(stats: np.ndarray) -> np.ndarray:
    """Statistics (B, 2): right answers and answers."""
    return stats[:, 0] / stats[:, 1]


def accuracy_of(stats: np.ndarray) -> float:
    return float(accuracy(stats.sum(axis=0)[None])[0])


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
    metric = MeanIoU(3, 0, "keras")
    stats = generator.integers(0, 50, (30, 3, 3)) + 200 * np.eye(3, dtype=int)
    interval = bootstrap(metric.values, stats, np.arange(30), count=500)
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
    metric = MeanIoU(3, 0, "keras")
    stats = generator.integers(0, 9, (6, 4, 3, 3))
    assert over_repeats(metric.values, stats) == pytest.approx(np.mean([metric.value(stats[:, r]) for r in range(4)]))


def test_images_are_resampled_with_all_of_their_repeats():
    """The bootstrap by hand: ids are drawn, and every repeat's score is of the same draw."""
    generator = np.random.default_rng(2)
    stats = answers(generator.integers(0, 2, (12, 3)))

    def mean(sums: np.ndarray) -> np.ndarray:
        return np.mean([accuracy(sums[:, repeat]) for repeat in range(3)], axis=0)

    interval = bootstrap(mean, stats, np.arange(12), count=300, seed=4)
    picks = np.random.default_rng(4).integers(0, 12, (300, 12))
    scores = [over_repeats(accuracy, stats[rows]) for rows in picks]
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(scores, [0.05, 0.95])))
    assert interval.std == pytest.approx(np.std(scores, ddof=1))


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
