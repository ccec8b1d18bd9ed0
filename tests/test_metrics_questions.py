"""Metrics of several yes/no questions per image: by hand, and equal to scikit-learn's of a table of labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, hamming_loss

from podium import config_metric as options
from podium import metrics
from podium.metrics import AnswerAccuracy, AnswerF1, ExactAccuracy
from three_classes import check, named

ABC = ("a", "b", "c")
#                  image 0    image 1    image 2: nothing known of it
TRUTH = np.array([[1, 0, 1], [1, 255, 0], [255, 255, 255]], np.uint8)[..., None]
TOLD = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 0]], np.uint8)[..., None]


def test_by_hand():
    each = AnswerAccuracy(ABC)
    stats = each.stats(TRUTH, TOLD)
    assert stats.shape == (3, 3, 2, 2) and stats.dtype == np.int64 and not stats[2].any()
    assert each.score(stats) == metrics.Score(4 / 5, (1, 0, 1))
    exact = ExactAccuracy(ABC)
    assert exact.stats(TRUTH, TOLD).tolist() == [[0, 1], [1, 1], [0, 0]]  # what is not known cannot be wrong
    assert exact.score(exact.stats(TRUTH, TOLD)) == metrics.Score(1 / 2, ())
    f1 = AnswerF1(ABC)
    # b: once told yes, never so: 0; c: once yes, and told
    check(f1.score(f1.stats(TRUTH, TOLD)), 2 / 3, 1, 0, 1)


def test_what_is_absent():
    truth, told = np.array([[0, 0], [0, 255]], np.uint8)[..., None], np.zeros((2, 2, 1), np.uint8)
    f1 = AnswerF1(("a", "b"))
    assert f1.score(f1.stats(truth, told)) == metrics.Score(0, (0, 0))  # never a yes: 0, as in scikit-learn
    truth[:, 1] = 255
    told[0, 0] = truth[0, 0] = 1
    assert f1.score(f1.stats(truth, told)) == metrics.Score(1, (1, None))  # b has no known answer: left out
    nothing = np.full_like(truth, 255)
    for metric in (f1, AnswerAccuracy(("a", "b")), ExactAccuracy(("a", "b"))):
        assert metric.value(metric.stats(nothing, told)) == 0
        assert not metric.stats(nothing, told).any()


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_equal_to_sklearn(seed, questions, n):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 2, (n, questions)).astype(np.uint8)
    told = np.where(generator.random((n, questions)) < 0.7, truth, 1 - truth).astype(np.uint8)
    weights = np.stack([np.ones(n), generator.integers(0, 3, n)])
    weights[1, 0] = 1
    for metric, reference in (
        (AnswerAccuracy(named(questions)), lambda *a, **k: 1 - hamming_loss(*a, **k)),
        # of one question, which scikit-learn takes for a column of labels, all and single answers are the same
        (ExactAccuracy(named(questions)), accuracy_score),
        (AnswerF1(named(questions)), f1_macro),
    ):
        found = metric.weighted(metric.stats(truth[..., None], told[..., None]), weights)
        assert found == pytest.approx([reference(truth, told, sample_weight=weight) for weight in weights])


def f1_macro(truth, told, sample_weight):
    # column by column: of a single one scikit-learn would average over no and yes
    each = [f1_score(t, p, sample_weight=sample_weight, zero_division=0) for t, p in zip(truth.T, told.T, strict=True)]
    if truth.shape[1] > 1:
        assert np.mean(each) == pytest.approx(
            f1_score(truth, told, average="macro", sample_weight=sample_weight, zero_division=0)
        )
    return np.mean(each)


def test_other_shapes_and_labels_are_refused():
    with pytest.raises(ValueError, match="a row per question"):
        AnswerF1(ABC).stats(TRUTH[:, :2], TOLD[:, :2])
    with pytest.raises(ValueError, match="labels hold"):
        AnswerF1(ABC).stats(TRUTH, TOLD + 1)


def test_built_of_the_task():
    for settings_, made in (
        (options.Accuracy(), AnswerAccuracy(ABC)),
        (options.Accuracy(exact=True), ExactAccuracy(ABC)),
        (options.MacroF1(), AnswerF1(ABC)),
        (options.LogLoss(), metrics.LogLoss(ABC, True)),
        (options.RocAuc(), metrics.RocAuc(ABC, True)),
    ):
        assert metrics.build(settings_, ABC, None, "multilabel") == made
