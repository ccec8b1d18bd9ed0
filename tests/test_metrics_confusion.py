"""Balanced accuracy, macro F1 and kappa: equality with scikit-learn, and answers worked out by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, f1_score

from podium.metrics import Accuracy, Additive, BalancedAccuracy, Kappa, MacroF1
from three_classes import named

ABC = ("a", "b", "c")
#  truth:  a a a a b b c c    a: 3 of 4 right, b: 1 of 2, c: 0 of 2; told a 4 times, b 3 times, c once
TRUTH = np.array([0, 0, 0, 0, 1, 1, 2, 2], np.uint8)
TOLD = np.array([0, 0, 0, 1, 1, 2, 0, 1], np.uint8)


def stats_of(metric: Additive, truth: np.ndarray, told: np.ndarray) -> np.ndarray:
    as_images = (np.asarray(labels, np.uint8).reshape(-1, 1, 1) for labels in (truth, told))
    return metric.stats(*as_images)  # type: ignore[attr-defined]


def test_by_hand():
    balanced = BalancedAccuracy(ABC).score(stats_of(BalancedAccuracy(ABC), TRUTH, TOLD))
    assert balanced.parts == (3 / 4, 1 / 2, 0.0) and balanced.value == pytest.approx(5 / 12)
    f1 = MacroF1(ABC).score(stats_of(MacroF1(ABC), TRUTH, TOLD))
    assert f1.parts == (6 / 8, 2 / 5, 0.0) and f1.value == pytest.approx((6 / 8 + 2 / 5) / 3)
    # mistakes: a as b, b as c, c as a, c as b; by chance, from the margins (4, 2, 2) and (4, 3, 1) of 8:
    apart = {"none": (4, (4 * 4 + 2 * 5 + 2 * 7) / 8), "linear": (5, (4 * (3 + 2) + 2 * (4 + 1) + 2 * (8 + 3)) / 8)}
    apart["quadratic"] = (7, (4 * (3 + 4) + 2 * (4 + 1) + 2 * (16 + 3)) / 8)
    for weights, (seen, by_chance) in apart.items():
        kappa = Kappa(ABC, weights)  # type: ignore[arg-type]
        score = kappa.score(stats_of(kappa, TRUTH, TOLD))
        assert score.value == pytest.approx(1 - seen / by_chance) and score.parts == balanced.parts


@pytest.mark.parametrize("metric", [Accuracy(ABC), BalancedAccuracy(ABC), MacroF1(ABC), Kappa(ABC)])
def test_nothing_labelled_scores_zero_and_no_class_counts(metric):
    score = metric.score(stats_of(metric, np.full(3, 255), np.arange(3)))
    assert score.value == 0 and score.parts == (None, None, None)
    assert metric.higher_is_better and metric.additive and metric.needs == "labels"


def test_absent_classes():
    # c is told and does not occur: it has F1 0, no recall; d is nowhere
    truth, told = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])
    assert MacroF1(named(4)).score(stats_of(MacroF1(named(4)), truth, told)).parts == (1, 2 / 3, 0, None)
    assert MacroF1(named(4)).value(stats_of(MacroF1(named(4)), truth, told)) == pytest.approx(5 / 9)
    balanced = BalancedAccuracy(named(4))
    assert balanced.score(stats_of(balanced, truth, told)).parts == (1, 1 / 2, None, None)
    assert balanced.value(stats_of(balanced, truth, told)) == 3 / 4
    # a class in between keeps its place: 0 and 2 are two apart, whether or not 1 occurs
    kappa = Kappa(ABC)
    assert kappa.value(stats_of(kappa, np.array([0, 0, 2, 2]), np.array([0, 2, 2, 2]))) == pytest.approx(1 - 4 / 8)
    # all in one class, as told: chance would be as right
    assert kappa.value(stats_of(kappa, np.array([1, 1]), np.array([1, 1]))) == 0


@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(2, 60), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_equal_to_sklearn(seed, classes, n, right):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, generator.integers(1, classes + 1), n)
    told = np.where(generator.random(n) < right, truth, generator.integers(0, classes, n))
    weights = generator.integers(0, 4, (3, n)).astype(np.float64)
    weights[0] = 1
    for metric, reference in (
        (BalancedAccuracy(named(classes)), balanced_accuracy_score),
        (MacroF1(named(classes)), lambda *a, **k: f1_score(*a, average="macro", zero_division=0, **k)),
        *((Kappa(named(classes), w), kappa_of(w, classes)) for w in ("quadratic", "linear", "none")),  # type: ignore[arg-type]
    ):
        stats = stats_of(metric, truth, told)
        found = metric.weighted(stats, weights)
        assert found[0] == metric.value(stats) == pytest.approx(metric.values(stats.sum(axis=0)[None])[0])
        for value, weight in zip(found, weights, strict=True):
            some = weight > 0
            if not some.any():
                assert value == 0
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = reference(truth[some], told[some], sample_weight=weight[some])
            assert value == pytest.approx(0 if np.isnan(expected) else expected, abs=1e-12)


def kappa_of(weights, classes):
    kind = None if weights == "none" else weights

    def reference(truth, told, sample_weight):
        return cohen_kappa_score(truth, told, labels=range(classes), weights=kind, sample_weight=sample_weight)

    return reference
