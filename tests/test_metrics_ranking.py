"""Log loss and ROC AUC: equality with scikit-learn, ties, weights, zeros, and what is absent."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from podium import config_metric as options
from podium import metrics
from podium.data.ragged import Ragged
from podium.metrics import LogLoss, RocAuc, Score
from three_classes import check, named


def column(values: np.ndarray) -> np.ndarray:
    """(N,) or (N, C) → (N, 1, 1) or (N, C, 1, 1)."""
    return np.asarray(values)[..., None, None]


def labels(values: list[int] | np.ndarray) -> np.ndarray:
    return column(np.asarray(values, np.uint8))


# ---------------------------------------------------------------- log loss


def test_log_loss_by_hand():
    metric = LogLoss(("a", "b", "c"), False)
    chances = column(np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.2, 0.6, 0.2], [1, 0, 0]]))
    stats = metric.stats(labels([0, 1, 1, 255]), chances)
    assert stats.shape == (4, 3, 2) and stats.dtype == np.float64 and not stats[3].any()
    score = metric.score(stats)
    of_b = math.log(4) - math.log(0.6)
    check(score, (math.log(2) + of_b) / 3, math.log(2), of_b / 2, None)
    assert not metric.higher_is_better and metric.needs == "probabilities" and metric.additive
    # rows are divided by their sums
    np.testing.assert_allclose(metric.stats(labels([0, 1, 1, 255]), chances * 3), stats)


def test_a_zero_on_the_truth_costs_36_and_not_everything():
    metric = LogLoss(("a", "b"), False)
    chances = column(np.array([[0, 1], [1, 0]], np.float16))
    value = metric.value(metric.stats(labels([0, 0]), chances))
    assert value == pytest.approx(-math.log(np.finfo(np.float64).eps) / 2) == pytest.approx(36.04 / 2, abs=0.01)
    assert value == pytest.approx(log_loss([0, 0], chances[..., 0, 0].astype(np.float64), labels=[0, 1]))


def test_with_nothing_known_log_loss_is_the_worst():
    for multilabel, shape in ((False, (2, 2, 1, 1)), (True, (2, 2, 2, 1))):
        metric = LogLoss(("a", "b"), multilabel)
        truth = np.full((2, 2 if multilabel else 1, 1), 255, np.uint8)
        assert metric.score(metric.stats(truth, np.full(shape, 0.5))) == Score(math.inf, (None, None))


@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_log_loss_is_that_of_sklearn(seed, classes, n):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, n)
    chances = generator.dirichlet(np.full(classes, 0.3), n).astype(np.float16)
    weights = np.stack([np.ones(n), generator.random(n) + 0.1])
    metric = LogLoss(named(classes), False)
    found = metric.weighted(metric.stats(labels(truth), column(chances)), weights)
    rows = chances.astype(np.float64) / chances.astype(np.float64).sum(axis=1, keepdims=True)
    assert found == pytest.approx([log_loss(truth, rows, labels=range(classes), sample_weight=w) for w in weights])


def test_log_loss_of_questions_is_the_mean_of_theirs():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 2, (30, 3)).astype(np.uint8)
    truth[:20, 1] = 255
    yes = generator.random((30, 3)).astype(np.float16).astype(np.float64)
    metric = LogLoss(("a", "b", "c"), True)
    stats = metric.stats(truth[..., None], np.stack([1 - yes, yes], axis=1)[..., None])
    each = [log_loss(t[t < 255], p[t < 255], labels=[0, 1]) for t, p in zip(truth.T, yes.T, strict=True)]
    check(metric.score(stats), float(np.mean(each)), *each)
    # a question without an answer is left out
    truth[:, 1] = 255
    without = metric.score(metric.stats(truth[..., None], np.stack([1 - yes, yes], axis=1)[..., None]))
    check(without, (each[0] + each[2]) / 2, each[0], None, each[2])


# ---------------------------------------------------------------- ROC AUC


def test_roc_auc_by_hand():
    metric = RocAuc(("no", "yes"), False)
    assert metric.parts == ("yes",) and metric.higher_is_better and not metric.additive
    yes = np.array([0.1, 0.4, 0.4, 0.8, 0.3])
    stats = metric.stats(labels([0, 0, 1, 1, 255]), column(np.stack([1 - yes, yes], axis=1)))
    np.testing.assert_allclose(stats[:, 0], np.array([[-1, 0.1], [-1, 0.4], [1, 0.4], [1, 0.8], [0, 0]]))
    # of four pairs three are in order and one is tied
    assert metric.score(stats) == Score(3.5 / 4, (3.5 / 4,))
    # the third counts twice: pairs (3) 1 and 1/2, twice, and (4) 1 and 1; of the second twice as well
    weights = np.array([[1, 1, 2, 1, 9], [1, 2, 1, 1, 9], [0, 1, 1, 0, 0], [1, 1, 0, 0, 5]])
    assert metric.weighted(stats, weights).tolist() == [5 / 6, (1 + 1 + 1 + 2) / 6, 0.5, 0.5]
    with pytest.raises(ValueError, match="use weighted"):
        metric.values(stats)


@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(8, 60), st.sampled_from([1, 3]))
@settings(max_examples=40, deadline=None)
def test_roc_auc_is_that_of_sklearn(seed, classes, n, digits):
    generator = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), generator.integers(0, classes, n - classes)])
    chances = np.round(generator.dirichlet(np.ones(classes), n), digits)  # few digits: many ties
    weights = np.stack([np.ones(n), generator.random(n), generator.integers(0, 3, n)])
    weights[2, :classes] = 1  # every class is there
    metric = RocAuc(named(classes), False)
    found = metric.weighted(metric.stats(labels(truth), column(chances)), weights)
    for value, weight in zip(found, weights, strict=True):
        each = [roc_auc_score(truth == c, chances[:, c], sample_weight=weight) for c in range(classes)]
        assert value == pytest.approx(each[1] if classes == 2 else np.mean(each), abs=1e-12)
    if classes > 2:
        rows = generator.dirichlet(np.ones(classes), n)
        stats = metric.stats(labels(truth), column(rows))
        assert metric.value(stats) == pytest.approx(roc_auc_score(truth, rows, multi_class="ovr", average="macro"))
        assert metric.parts == named(classes)


def test_roc_auc_of_questions():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 2, (40, 3)).astype(np.uint8)
    yes = np.round(generator.random((40, 3)), 2)
    metric = RocAuc(("a", "b", "c"), True)
    outputs = np.stack([1 - yes, yes], axis=1)[..., None]
    whole = metric.score(metric.stats(truth[..., None], outputs))
    each = [roc_auc_score(t, p) for t, p in zip(truth.T, yes.T, strict=True)]
    check(whole, roc_auc_score(truth, yes, average="macro"), *each)
    truth[10:, 0] = 255  # few known answers of one question
    truth[:, 2] = 0  # and another that is never answered with yes: left out
    part = metric.score(metric.stats(truth[..., None], outputs))
    first = roc_auc_score(truth[:10, 0], yes[:10, 0])
    check(part, (first + each[1]) / 2, first, each[1], None)


def test_without_a_yes_and_a_no_roc_auc_is_that_of_chance():
    metric = RocAuc(("a", "b"), False)
    stats = metric.stats(labels([1, 1]), column(np.array([[0.5, 0.5], [0.1, 0.9]])))
    assert metric.score(stats) == Score(0.5, (None,))
    assert metric.score(stats[:0]) == Score(0.5, (None,))
    assert metric.weighted(stats, np.zeros((2, 2))).tolist() == [0.5, 0.5]


def test_an_image_that_was_not_predicted_is_not_there():
    metric = RocAuc(("a", "b"), False)
    yes = np.array([0.9, 0.2, 0.6])
    stats = metric.stats(labels([0, 0, 1]), column(np.stack([1 - yes, yes], axis=1)))
    assert metric.value(stats) == 0.5
    stats[0] = 0
    assert metric.value(stats) == 1


# ---------------------------------------------------------------- both


@pytest.mark.parametrize("metric", [LogLoss(("a", "b", "c"), False), RocAuc(("a", "b", "c"), False)])
def test_statistics_are_joined_by_id(metric):
    generator = np.random.default_rng(0)
    truth, chances = labels([0, 2, 1, 255]), column(generator.dirichlet(np.ones(3), 4).astype(np.float16))
    targets = Ragged.stack(truth[:, None], ["a", "b", "c", "d"])
    outputs = Ragged.stack(chances[[3, 0, 1]], ["d", "a", "b"])
    whole = metric.stats(truth, chances)
    np.testing.assert_array_equal(metrics.image_stats(metric, targets, outputs), whole[[3, 0, 1]])
    np.testing.assert_array_equal(metric.stats(truth[1], chances[1]), whole[1:2])


def test_what_cannot_be_is_refused():
    two = np.full((2, 2, 1, 1), 0.5)
    for metric in (LogLoss(("a", "b"), False), RocAuc(("a", "b"), False)):
        with pytest.raises(ValueError, match="truth holds"):
            metric.stats(labels([0, 2]), two)
        with pytest.raises(ValueError, match="do not fit 2 classes"):
            metric.stats(labels([0, 1]), np.full((2, 3, 1, 1), 0.5))
        with pytest.raises(ValueError, match="not of the same images"):
            metric.stats(labels([0, 1]), two[:1])
        with pytest.raises(ValueError, match="no numbers"):
            metric.stats(labels([0, 1]), np.full((2, 2, 1, 1), np.nan))
    with pytest.raises(ValueError, match="one per image"):
        RocAuc(("a", "b"), False).stats(np.zeros((1, 2, 2), np.uint8), np.full((1, 2, 2, 2), 0.5))
    with pytest.raises(ValueError, match="do not fit 3 classes"):
        RocAuc(("a", "b", "c"), True).stats(np.zeros((1, 2, 1), np.uint8), np.full((1, 2, 2, 1), 0.5))


def test_built_from_settings():
    for settings_, kind in ((options.LogLoss(), LogLoss), (options.RocAuc(), RocAuc)):
        assert metrics.build(settings_, ("a", "b"), None, "classification") == kind(("a", "b"), False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no division by zero on the way
        RocAuc(("a", "b"), False).value(np.zeros((3, 1, 2)))
        LogLoss(("a", "b"), False).value(np.zeros((3, 2, 2)))
