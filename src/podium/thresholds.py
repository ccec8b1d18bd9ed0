"""Points chosen for a metric: where a question's "no" becomes "yes", and where one grade ends and the next begins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from podium.metrics import Metric

GRID = 100
"""Places that are tried for a point: quantiles of what was predicted, so that each step moves as many images."""
ROUNDS = 10
FLAT = 1e-9
"""Scores that differ by less are one."""


def default(task: str, classes: int) -> tuple[float, ...] | None:
    """The points that nothing was chosen for: one half, and halves between grades; None where a task has none."""
    if task == "multilabel":
        return (0.5,) * classes
    if task == "regression" and classes:
        return tuple(grade + 0.5 for grade in range(classes - 1))
    return None


def labels_at(predicted: np.ndarray, points: Sequence[float], questions: bool) -> np.ndarray:
    """uint8 labels (N, K, 1) of predictions (N, K), as ``decode.finish`` makes them."""
    if questions:
        return (predicted > np.asarray(points, np.float32))[:, :, None].astype(np.uint8)
    return np.searchsorted(np.asarray(points), predicted, side="right").astype(np.uint8)[:, :, None]


def choose(
    metric: Metric, truth: np.ndarray, predicted: np.ndarray, start: Sequence[float], questions: bool
) -> tuple[float, ...]:
    """The points with the best score of ``metric`` on these images, by coordinate ascent.

    truth: (N, K) answers, or (N, 1) grades, uint8, 255 for none. predicted: float32 (N, K) probabilities of "yes", or
    (N, 1) numbers. start: the points to begin with, (K,) or one fewer than grades.
    Points are moved one after the other until none moves, each to the middle of the longest row of places that all have
    its best score: a peak is chance, a plateau less so. Grades' points stay in order. Where nothing beats ``start``, it stays.
    """
    sign = 1.0 if metric.higher_is_better else -1.0

    def score(points: np.ndarray) -> float:
        labels = labels_at(predicted, points.tolist(), questions)
        return sign * metric.value(metric.stats(truth[:, :, None], labels))

    points = np.array(start, np.float64)
    best = score(points)
    for _ in range(ROUNDS):
        before = points.copy()
        for k in range(len(points)):
            places = _places(points, predicted[:, k], k) if questions else _between(points, predicted[:, 0], k)
            trials = np.repeat(points[None], len(places), axis=0)
            trials[:, k] = places
            found = np.array([score(trial) for trial in trials])
            if found.max() > best + FLAT:
                best = float(found.max())
                points[k] = places[_middle(found >= best - FLAT)]
        if (points == before).all():
            break
    return tuple(points.tolist())


def _places(points: np.ndarray, predicted: np.ndarray, k: int) -> np.ndarray:
    """What point ``k`` may become, ascending: between quantiles of the predictions, and what it is."""
    known = predicted[~np.isnan(predicted)].astype(np.float64)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, GRID + 1)))
    return np.unique(np.append((edges[1:] + edges[:-1]) / 2, points[k]))


def _between(points: np.ndarray, predicted: np.ndarray, k: int) -> np.ndarray:
    """As ``_places``, between the points before and after."""
    places = _places(points, predicted, k)
    low = points[k - 1] if k else -np.inf
    high = points[k + 1] if k + 1 < len(points) else np.inf
    return places[(places >= low) & (places <= high)]


def _middle(good: np.ndarray) -> int:
    """The middle of the longest run of True; of equal ones the first."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8)))
    starts, stops = edges[::2], edges[1::2]
    longest = int(np.argmax(stops - starts))
    return int((starts[longest] + stops[longest] - 1) // 2)
