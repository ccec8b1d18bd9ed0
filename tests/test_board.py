"""The board: scores, intervals and the honest choice on statistics made by hand."""

from __future__ import annotations

import io
import json
from dataclasses import asdict

import numpy as np
import pytest
from rich.console import Console

from podium.blend.oof import Oof
from podium.metrics import Accuracy, MeanError, MeanIoU, RocAuc
from podium.report import board
from podium.report.text import print_board

CLASSES = ("nothing", "dust", "rock")
METRIC = MeanIoU(CLASSES, 0, "keras")


def image(right: int, wrong: int, rock: int = 0) -> np.ndarray:
    """Dust pixels that were told right and wrong (as rock), and rock that was told right."""
    out = np.zeros((3, 3), np.int64)
    out[1, 1], out[1, 2], out[2, 2] = right, wrong, rock
    return out


def once(name: str, rows: list[int], stats: np.ndarray, folds: list[int] | None = None) -> Oof:
    """Predictions without repeats: rows, statistics (n, ...), and the fold of each row, 0 and 1 in turn."""
    column = [i % 2 for i in range(len(rows))] if folds is None else folds
    return Oof(name, np.array(rows), np.array(column)[:, None], stats[:, None])


def test_a_row_is_the_score_of_the_sum_with_its_classes_by_name():
    # dust: 6 + 3 right of 12; rock: 6 right, 3 false positives
    oof = once("a", [0, 2], np.stack([image(6, 0, 2), image(3, 3, 4)]))
    made = board.row(oof, "model", METRIC, np.array([0, 1, 2]), {"minutes": 2.5, "epochs": 7.0, "run": "0123"})
    assert made.parts == {"nothing": None, "dust": 9 / 12, "rock": 6 / 9}
    assert made.score == pytest.approx((9 / 12 + 6 / 9) / 2)
    assert (made.name, made.kind, made.images) == ("a", "model", 2)
    assert (made.minutes, made.epochs, made.run) == (2.5, 7.0, "0123")
    assert made.std is None
    # two groups: the resamples are both, or one of them twice
    alone = [METRIC.value(stats) for stats in oof.stats]
    assert made.low == pytest.approx(min(alone)) and made.high == pytest.approx(max(alone))
    assert json.loads(json.dumps(asdict(made)))["parts"]["nothing"] is None


def test_the_interval_resamples_the_groups_of_its_rows():
    stats = np.stack([image(10, 0, 5), image(0, 10, 5), image(10, 0, 5), image(0, 10, 5)])
    oof = once("a", [0, 1, 4, 5], stats)
    # rows 0 and 1 are one group, 4 and 5 another, and both look alike: no resample differs
    alike = board.row(oof, "model", METRIC, np.array([7, 7, 1, 2, 8, 8]))
    assert alike.low == alike.high == pytest.approx(alike.score)
    # the same images in other groups do
    apart = board.row(oof, "model", METRIC, np.array([7, 8, 0, 0, 7, 8]))
    assert apart.low < apart.score < apart.high
    assert (alike.minutes, alike.run) == (None, "")


def test_a_prediction_of_the_unscored_class_shows_as_a_zero():
    stats = image(5, 0, 5)
    stats[1, 0] = 1
    made = board.row(once("a", [0], stats[None]), "model", METRIC, np.array([0]))
    assert made.parts["nothing"] == 0.0
    assert made.score == pytest.approx((0 + 5 / 6 + 1) / 3)


def test_the_choice_is_scored_where_it_was_not_made():
    # four images in two folds; a is perfect on fold 0 and poor on fold 1, b the other way and a little worse on both
    good, poor, fair, bad = image(8, 0, 2), image(4, 4, 2), image(7, 1, 2), image(3, 5, 2)
    rows, folds = [0, 2, 3, 4], [0, 0, 1, 1]
    a = once("a", rows, np.stack([good, good, poor, poor]), folds)
    b = once("b", rows, np.stack([bad, bad, fair, fair]), folds)
    made = board.choice([b, a], METRIC)
    assert made is not None
    # seeing all rows a wins: dust 24 of 32, rock 8 of 16
    assert made.model == "a" and made.in_sample == pytest.approx((24 / 32 + 8 / 16) / 2)
    # seeing fold 1 only b is chosen and scored on fold 0 (3 + 3 of 16), seeing fold 0 only a is, on fold 1 (4 + 4 of 16)
    dust, rock = (3 + 3 + 4 + 4) / 32, 8 / (8 + 5 + 5 + 4 + 4)
    assert made.nested == pytest.approx((dust + rock) / 2)


def test_where_nothing_is_chosen_there_is_no_choice():
    stats = np.stack([image(5, 1, 2), image(4, 1, 2)])
    a, b = (once(name, [0, 1], stats) for name in "ab")
    assert board.choice([a], METRIC) is None
    assert board.choice([once(name, [0, 1], stats, [1, 1]) for name in "ab"], METRIC) is None
    assert board.choice([a, b], METRIC) is not None


# ---------------------------------------------------------------- repeats

LABELS = Accuracy(("no", "yes"))


def told(name: str, right: list[list[int]], folds: list[list[int]], rows: list[int] | None = None) -> Oof:
    """Labels told right (1) and wrong (0), a list per repeat; -1 where no fold of that repeat predicted the row."""
    stats = np.zeros((len(right[0]), len(right), 2, 2), np.int64)
    for repeat, answers in enumerate(right):
        for row, answer in enumerate(answers):
            if answer >= 0:
                stats[row, repeat, 1, answer] = 1
    return Oof(name, np.array(rows or range(len(right[0]))), np.array(folds).T, stats)


def test_the_score_of_repeats_is_the_mean_of_theirs():
    oof = told("a", [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]], [[0, 0, 1, 1], [2, 3, 2, 3], [4, 5, 5, 4]])
    made = board.row(oof, "model", LABELS, np.arange(4))
    assert made.score == pytest.approx((3 / 4 + 2 / 4 + 1) / 3)
    assert made.std == pytest.approx(0.25)  # of 0.5, 0.75 and 1, of a sample
    assert made.parts == {"no": None, "yes": pytest.approx(0.75)} and made.images == 4
    # each repeat is merged and scored by itself: the score of all predictions in one matrix would be another
    one, two = image(6, 0, 2), image(1, 5, 2)
    whole = Oof("b", np.array([0]), np.array([[0, 2]]), np.stack([one, two])[None])
    made = board.row(whole, "model", METRIC, np.array([0]))
    assert made.score == pytest.approx((METRIC.value(one) + METRIC.value(two)) / 2)
    assert made.score != pytest.approx(METRIC.value(one + two), abs=1e-3)


def test_a_class_that_some_repeats_lack_is_the_mean_of_the_others():
    stats = np.stack([image(4, 0, 0), image(2, 2, 0), image(3, 0, 1)])[
        None
    ]  # rock is neither there nor told in the first
    made = board.row(Oof("a", np.array([0]), np.array([[0, 2, 4]]), stats), "model", METRIC, np.array([0]))
    assert made.parts == {"nothing": None, "dust": pytest.approx((1 + 0.5 + 1) / 3), "rock": pytest.approx(0.5)}


def test_the_interval_draws_ids_with_all_of_their_repeats():
    generator = np.random.default_rng(0)
    right = generator.integers(0, 2, 200).tolist()
    folds = [[row % 2 for row in range(200)]]
    alone = board.row(told("a", [right], folds), "model", LABELS, np.arange(200))
    # the same answers three times say nothing new: the interval stays as wide
    again = told("a", [right] * 3, folds * 3)
    same = board.row(again, "model", LABELS, np.arange(200))
    assert (same.low, same.high) == pytest.approx((alone.low, alone.high)) and same.std == 0
    # repeats that err on other images do
    apart = told("a", [right, generator.permutation(right).tolist()], folds * 2)
    narrow = board.row(apart, "model", LABELS, np.arange(200))
    assert 0.6 < (narrow.high - narrow.low) / (alone.high - alone.low) < 0.85
    # groups are found by the rows' places in the fold file
    pairs = told("a", [[1, 1, 0, 0]], [[0, 1, 0, 1]], rows=[0, 2, 5, 6])
    whole = board.row(pairs, "model", LABELS, np.array([3, 9, 3, 9, 9, 8, 8]))
    assert (whole.low, whole.high) == (0, 1)  # two groups, one right and one wrong
    across = board.row(pairs, "model", LABELS, np.array([3, 9, 8, 9, 9, 3, 8]))
    assert across.low == across.high == 0.5


def test_rows_that_a_repeat_has_not_predicted_do_not_count_in_it():
    oof = told("a", [[1, 0, 1, 1], [1, 1, -1, -1]], [[0, 0, 1, 1], [2, 2, -1, -1]])
    made = board.row(oof, "model", LABELS, np.arange(4))
    assert made.score == pytest.approx((3 / 4 + 2 / 2) / 2)


def test_the_choice_is_made_anew_within_every_repeat():
    folds = [[0, 0, 1, 1], [2, 3, 3, 2]]
    a = told("a", [[1, 1, 0, 0], [1, 1, 1, 1]], folds)
    b = told("b", [[0, 0, 1, 1], [1, 1, 0, 0]], folds)
    made = board.choice([b, a], LABELS)
    assert made is not None
    # in sample a: (2/4 + 4/4) / 2. Nested: in the first repeat each fold gets what was best on the other: all wrong;
    # in the second a is chosen without fold 2 (2 of 2, b 1 of 2) and without fold 3, and is all right
    assert made.model == "a" and (made.in_sample, made.nested) == pytest.approx((0.75, 0.5))
    half = told("a", [[1, 1, 0, 0], [1, 1, -1, -1]], [[0, 0, 1, 1], [2, 2, -1, -1]])
    assert board.choice([half, half], LABELS) is None  # with one fold of a repeat there is nothing to choose on


# ---------------------------------------------------------------- other metrics


def test_where_lower_is_better_the_lowest_error_is_chosen():
    metric = MeanError("rmse")
    truth = np.zeros((4, 1, 1), np.float32)
    # a errs by 1 and 3 in the two folds, b by 2 and 1
    a, b = (
        once(name, [0, 1, 2, 3], metric.stats(truth, np.repeat(off, 2).reshape(4, 1, 1)), [0, 0, 1, 1])
        for name, off in (("a", [1.0, 3.0]), ("b", [2.0, 1.0]))
    )
    made = board.choice([a, b], metric)
    assert made is not None and made.model == "b"
    # without fold 0 b is best and errs by 2 there, without fold 1 a is and errs by 3
    assert made.in_sample == pytest.approx(2.5**0.5) and made.nested == pytest.approx(6.5**0.5)
    other, row = (board.row(oof, "model", metric, np.arange(4)) for oof in (a, b))
    assert board.ranked([other, row], metric) == [row, other] == board.ranked([row, other], metric)
    assert board.ranked([other, row], METRIC) == [other, row]  # where higher is better
    assert row.parts == {} and row.score == pytest.approx(2.5**0.5) and row.low < row.score < row.high


def test_a_metric_that_is_no_function_of_sums_has_its_row():
    metric = RocAuc(("no", "maybe", "yes"), False)
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 60).astype(np.uint8).reshape(60, 1, 1)
    drawn = generator.dirichlet(np.ones(3), (60, 1, 1)).transpose(0, 3, 1, 2)
    right = drawn + (truth[:, None] == np.arange(3)[:, None, None])
    a = once("a", list(range(60)), metric.stats(truth, right))
    b = once("b", list(range(60)), metric.stats(truth, drawn))
    made = board.row(a, "model", metric, np.arange(60))
    assert set(made.parts) == {"no", "maybe", "yes"} and made.score == made.high == 1
    chosen = board.choice([b, a], metric)
    assert chosen is not None and (chosen.model, chosen.in_sample, chosen.nested) == ("a", 1, 1)


@pytest.mark.parametrize(("count", "apart"), [(4, False), (9, True)])
def test_many_classes_have_a_table_of_their_own(count: int, apart: bool) -> None:
    parts: dict[str, float | None] = {f"class{k}": k / 10 for k in range(count)}
    row = board.Row("a", "model", 0.5, 0.4, 0.6, parts, 7)
    shown = board.Board("c", "d", "m", (0,), 1, (row,), None, {}, {}, (), 1.0, None, None)
    text = io.StringIO()
    print_board(shown, Console(file=text, width=160))
    lines = text.getvalue().splitlines()
    assert ("Class by class" in text.getvalue()) == apart
    (line,) = [line for line in lines if "0.3000" in line]
    assert ("class3" in line) == apart and ("│ a " in line) != apart
