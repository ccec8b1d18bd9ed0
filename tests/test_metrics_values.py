"""RMSE, MAE and R²: equality with scikit-learn, unknown numbers, grades, and truths that do not vary."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from podium import config_metric as options
from podium import metrics
from podium.data.ragged import Ragged
from podium.metrics import R2, MeanError, Metric
from three_classes import check

METRICS: dict[str, Metric] = {"rmse": MeanError("rmse"), "mae": MeanError("mae"), "r2": R2()}


def numbers(values: list[float] | np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32).reshape(-1, 1, 1)


def test_by_hand():
    truth, told = numbers([1, 2, 3, math.nan]), numbers([1, 4, 0, 7])
    expected = {"rmse": math.sqrt(13 / 3), "mae": 5 / 3, "r2": 1 - 13 / 2}
    for name, metric in METRICS.items():
        stats = metric.stats(truth, told)
        assert stats.dtype == np.float64 and not stats[3].any()
        check(metric.score(stats), expected[name])
        assert metric.needs == "values" and metric.additive and metric.parts == ()
    assert [metric.higher_is_better for metric in METRICS.values()] == [False, False, True]


def test_grades_are_numbers():
    truth, told = np.array([0, 2, 4, 255], np.uint8).reshape(-1, 1, 1), numbers([0.5, 2, 3, 9])
    assert METRICS["mae"].value(METRICS["mae"].stats(truth, told)) == pytest.approx(1.5 / 3)
    assert METRICS["r2"].value(METRICS["r2"].stats(truth, told)) == pytest.approx(1 - 1.25 / 8)


def test_with_nothing_known_errors_are_the_worst():
    for name, metric in METRICS.items():
        stats = metric.stats(numbers([math.nan, math.nan]), numbers([1, 2]))
        assert metric.value(stats) == (0 if name == "r2" else math.inf)


def test_a_truth_that_does_not_vary():
    metric = METRICS["r2"]
    for told, expected in (([0.3, 0.3, 0.3], 1.0), ([0.3, 0.3, 0.4], 0.0)):
        truth = numbers([0.3, 0.3, 0.3])
        assert (
            metric.value(metric.stats(truth, numbers(told))) == expected == r2_score(truth[:, 0], numbers(told)[:, 0])
        )


@given(st.integers(0, 10**6), st.integers(2, 50), st.sampled_from([0.0, 1e4]))
@settings(max_examples=40, deadline=None)
def test_equal_to_sklearn(seed, n, offset):
    generator = np.random.default_rng(seed)
    truth = numbers(generator.normal(offset, 3, n))
    told = numbers(truth[:, 0, 0] + generator.normal(0, 1, n))
    weights = np.stack([np.ones(n), generator.integers(0, 3, n)])
    weights[1, :2] = 1
    reference = {"rmse": root_mean_squared_error, "mae": mean_absolute_error, "r2": r2_score}
    for name, metric in METRICS.items():
        flat = truth[:, 0, 0].astype(np.float64), told[:, 0, 0].astype(np.float64)
        expected = [reference[name](*flat, sample_weight=weight) for weight in weights]
        assert metric.weighted(metric.stats(truth, told), weights) == pytest.approx(expected, rel=1e-6)


def test_joined_by_id_and_refused_where_they_are_no_numbers():
    metric = METRICS["mae"]
    targets = Ragged.stack(numbers([1, 2, 3])[:, None], ["a", "b", "c"])
    found = metrics.image_stats(metric, targets, Ragged.stack(numbers([5, 3])[:, None], ["c", "a"]))
    assert found.tolist() == [[2, 1], [2, 1]]
    with pytest.raises(ValueError, match="finite"):
        metric.stats(numbers([1]), numbers([math.nan]))
    with pytest.raises(ValueError, match="one shape"):
        metric.stats(numbers([1]), numbers([1, 2]))


def test_built_from_settings():
    for name, metric in METRICS.items():
        settings_ = options.R2() if name == "r2" else options.Errors(name=name)  # type: ignore[arg-type]
        assert metrics.build(settings_, (), None, "regression") == metric
