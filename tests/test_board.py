"""The board: scores, intervals and the honest choice on statistics made by hand."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from podium.blend.oof import Oof
from podium.metrics import MeanIoU
from podium.report import board

CLASSES = ("nothing", "dust", "rock")
METRIC = MeanIoU(3, 0, "keras")


def image(right: int, wrong: int, rock: int = 0) -> np.ndarray:
    """Dust pixels that were told right and wrong (as rock), and rock that was told right."""
    out = np.zeros((3, 3), np.int64)
    out[1, 1], out[1, 2], out[2, 2] = right, wrong, rock
    return out


def test_a_row_is_the_score_of_the_sum_with_its_classes_by_name():
    # dust: 6 + 3 right of 12; rock: 6 right, 3 false positives
    oof = Oof("a", np.array([0, 2]), np.stack([image(6, 0, 2), image(3, 3, 4)]))
    made = board.row(oof, "model", METRIC, np.array([0, 1, 2]), CLASSES, {"minutes": 2.5, "epochs": 7.0, "run": "0123"})
    assert made.per_class == {"nothing": None, "dust": 9 / 12, "rock": 6 / 9}
    assert made.score == pytest.approx((9 / 12 + 6 / 9) / 2)
    assert (made.name, made.kind, made.images) == ("a", "model", 2)
    assert (made.minutes, made.epochs, made.run) == (2.5, 7.0, "0123")
    # two groups: the resamples are both, or one of them twice
    alone = [METRIC.value(stats) for stats in oof.stats]
    assert made.low == pytest.approx(min(alone)) and made.high == pytest.approx(max(alone))
    assert json.loads(json.dumps(asdict(made)))["per_class"]["nothing"] is None


def test_the_interval_resamples_the_groups_of_its_rows():
    stats = np.stack([image(10, 0, 5), image(0, 10, 5), image(10, 0, 5), image(0, 10, 5)])
    oof = Oof("a", np.array([0, 1, 4, 5]), stats)
    # rows 0 and 1 are one group, 4 and 5 another, and both look alike: no resample differs
    alike = board.row(oof, "model", METRIC, np.array([7, 7, 1, 2, 8, 8]), CLASSES)
    assert alike.low == alike.high == pytest.approx(alike.score)
    # the same images in other groups do
    apart = board.row(oof, "model", METRIC, np.array([7, 8, 0, 0, 7, 8]), CLASSES)
    assert apart.low < apart.score < apart.high
    assert (alike.minutes, alike.run) == (None, "")


def test_a_prediction_of_the_unscored_class_shows_as_a_zero():
    stats = image(5, 0, 5)
    stats[1, 0] = 1
    made = board.row(Oof("a", np.array([0]), stats[None]), "model", METRIC, np.array([0]), CLASSES)
    assert made.per_class["nothing"] == 0.0
    assert made.score == pytest.approx((0 + 5 / 6 + 1) / 3)


def test_the_choice_is_scored_where_it_was_not_made():
    # four images in two folds; a is perfect on fold 0 and poor on fold 1, b the other way and a little worse on both
    good, poor, fair, bad = image(8, 0, 2), image(4, 4, 2), image(7, 1, 2), image(3, 5, 2)
    rows, fold_of = np.array([0, 2, 3, 4]), np.array([0, -1, 0, 1, 1])
    a = Oof("a", rows, np.stack([good, good, poor, poor]))
    b = Oof("b", rows, np.stack([bad, bad, fair, fair]))
    made = board.choice([b, a], METRIC, fold_of)
    assert made is not None
    # seeing all rows a wins: dust 24 of 32, rock 8 of 16
    assert made.model == "a" and made.in_sample == pytest.approx((24 / 32 + 8 / 16) / 2)
    # seeing fold 1 only b is chosen and scored on fold 0 (3 + 3 of 16), seeing fold 0 only a is, on fold 1 (4 + 4 of 16)
    dust, rock = (3 + 3 + 4 + 4) / 32, 8 / (8 + 5 + 5 + 4 + 4)
    assert made.nested == pytest.approx((dust + rock) / 2)


def test_where_nothing_is_chosen_there_is_no_choice():
    stats = np.stack([image(5, 1, 2), image(4, 1, 2)])
    a, b = (Oof(name, np.array([0, 1]), stats) for name in "ab")
    assert board.choice([a], METRIC, np.array([0, 1])) is None
    assert board.choice([a, b], METRIC, np.array([1, 1])) is None
    assert board.choice([a, b], METRIC, np.array([0, 1])) is not None
