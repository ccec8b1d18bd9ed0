"""Boundary F1: squares moved by hand, a plain implementation by distances of all pairs, and what is absent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium import config_metric as options
from podium import metrics
from podium.metrics import BoundaryF1, Score
from podium.metrics.boundary import boundary_f1
from three_classes import named


def square(top: int, left: int, side: int = 5, size: int = 12) -> np.ndarray:
    out = np.zeros((size, size), bool)
    out[top : top + side, left : left + side] = True
    return out


def test_a_square_that_has_moved():
    true = square(2, 2)
    assert boundary_f1(true, true, 0.5) == 1
    # one to the right: 16 boundary pixels each; 4 + 4 of the upper and lower edges are those of the other, no more
    moved = square(2, 3)
    assert boundary_f1(true, moved, 0.5) == pytest.approx(8 / 16)
    assert boundary_f1(true, moved, 1) == 1
    # one down and one to the right: of 16 the four in the lower right corner are more than a pixel away ...
    slant = square(3, 3)
    near = sum(
        min((a - y) ** 2 + (b - x) ** 2 for a, b in edge(3, 3)) <= 1 for y, x in edge(2, 2)
    )  # the same both ways
    assert boundary_f1(true, slant, 1) == pytest.approx(near / 16)
    assert boundary_f1(true, slant, 1.4) == pytest.approx(near / 16)
    assert boundary_f1(true, slant, 1.5) == 1  # the square root of 2


def edge(top: int, left: int) -> list[tuple[int, int]]:
    """The boundary of a square of five, by hand."""
    return [(top + i, left + j) for i in range(5) for j in range(5) if i in (0, 4) or j in (0, 4)]


def test_precision_and_recall_are_different_things():
    true, told = square(1, 1, 3), square(1, 1, 3) | square(8, 8, 3)
    # all 8 true pixels are found; of the 16 told ones 8 are right
    assert boundary_f1(true, told, 1) == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert boundary_f1(told, true, 1) == pytest.approx(2 * 0.5 * 1 / 1.5)


def test_the_edge_of_the_picture_bounds_a_region():
    whole, none = np.ones((6, 6), bool), np.zeros((6, 6), bool)
    assert boundary_f1(whole, whole, 1) == boundary_f1(none, none, 1) == 1
    assert boundary_f1(whole, none, 1) == boundary_f1(none, whole, 1) == 0
    assert boundary_f1(square(0, 0, 1, 6), square(5, 5, 1, 6), 2) == 0  # far apart: neither found nor right


@given(st.integers(0, 10**6), st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0]))
@settings(max_examples=30, deadline=None)
def test_equal_to_the_distances_of_all_pairs(seed, tolerance):
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, 14, 2)
    true, told = (generator.random((height, width)) < generator.choice([0.02, 0.5, 0.9]) for _ in range(2))

    def boundary(region):
        held = {(y, x) for y, x in zip(*np.nonzero(region), strict=True)}
        return [(y, x) for y, x in held if not {(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)} <= held]

    a, b = boundary(true), boundary(told)
    if a and b:
        apart = np.array([[(y - v) ** 2 + (x - u) ** 2 for v, u in b] for y, x in a])
        recall, precision = ((apart.min(axis=axis) <= tolerance**2).mean() for axis in (1, 0))
        expected = 2 * precision * recall / (precision + recall) if precision + recall else 0
    else:
        expected = float(not a and not b)
    assert boundary_f1(true, told, tolerance) == pytest.approx(expected)


def scene() -> tuple[np.ndarray, np.ndarray]:
    truth = np.zeros((3, 12, 12), np.uint8)
    truth[0][square(2, 2)] = 1
    truth[1][square(2, 2)], truth[1][9:, :] = 1, 2
    told = truth.copy()
    told[0] = np.where(square(2, 3), 1, 0)
    told[1][9:, :] = 0
    truth[2] = 255
    return truth, told


def test_per_image_and_class():
    truth, told = scene()
    metric = BoundaryF1(0.5, "classes", ("nothing", "b", "c"), None)
    stats = metric.stats(truth, told)
    assert metric.parts == ("b", "c") and stats.dtype == np.float64
    # c is nowhere in image 0: 1; it is missed in image 1: 0; image 2 has no labels and is not there
    assert stats.tolist() == [[[0.5, 1], [1, 1]], [[1, 1], [0, 1]], [[0, 0], [0, 0]]]
    assert metric.score(stats) == Score(0.625, (0.75, 0.5))
    assert metric.weighted(stats, np.array([[1, 3, 5]])).tolist() == [((0.5 + 3) / 4 + (1 + 0) / 4) / 2]
    assert metric.score(stats[2:]) == Score(0.0, (None, None))
    joined = BoundaryF1(0.5, "foreground", ("nothing", "b", "c"), None)
    assert joined.parts == ("foreground",)
    assert joined.stats(truth, told)[0].tolist() == [[0.5, 1]]
    np.testing.assert_array_equal(metric.stats(truth[1], told[1]), stats[1:2])


def test_pixels_without_a_label_and_of_an_unscored_class_belong_to_no_region():
    truth, told = scene()
    metric = BoundaryF1(0.5, "classes", named(3), None)
    truth[0, :, 7] = 255  # the column by which the told square is too wide
    assert metric.stats(truth, told)[0, 0, 0] == pytest.approx(2 * (8 + 3) / (16 + 14))
    scored = BoundaryF1(0.5, "classes", named(3), 0)
    everywhere = np.ones_like(told)
    masked = np.where(truth == 0, 255, truth).astype(np.uint8)
    np.testing.assert_array_equal(scored.stats(truth, everywhere), scored.stats(masked, everywhere))
    assert scored.stats(truth, everywhere)[0, 0, 0] == 1  # it may reach beyond the square, where nothing is scored


def test_built_from_settings():
    made = metrics.build(options.BoundaryF1(tolerance=3, of="foreground"), ("a", "b"), None, "segmentation")
    assert made == BoundaryF1(3, "foreground", ("a", "b"), None)
    assert made.higher_is_better and made.additive and made.needs == "labels"
    with pytest.raises(ValueError, match="one shape"):
        made.stats(np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 3), np.uint8))
