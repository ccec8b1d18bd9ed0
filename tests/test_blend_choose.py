"""Weights, methods and decoding chosen on made-up predictions where the right choice is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from podium import metrics
from podium.blend import choose, search
from podium.blend.choose import Chooser, Wanted
from podium.blend.decoding import with_steps
from podium.blend.evaluate import Counted, Decoded
from podium.blend.points import choose_points
from podium.blend.table import Table, without
from podium.combine import as_probabilities, combined
from podium.config import Competition
from podium.config_file import validate
from podium.data.ragged import Ragged
from podium.decode import Decision
from podium.decode_steps import Step


def competition(task="classification", classes=("a", "b", "c"), metric="accuracy", **more):
    """With ``more`` options of the metric."""
    data = {
        "format": "npz",
        "file": "x.npz",
        "train": {"image": {"key": "i"}, "target": {"key": "t"}},
    }
    raw = {"name": "made", "task": task, "data": data, "classes": list(classes), "models": ["m"]}
    return validate(Competition, raw | {"metric": {"name": metric} | more}, "made.yaml")


def table_of(given: Competition, predictions, targets, folds=4, groups=None):
    """predictions: one (N, C, H, W) per model; fold k holds the rows k, k + folds, ... in an order of each model's own."""
    count = len(targets)
    ids = np.array([f"r{i:04d}" for i in range(count)])
    rng = np.random.default_rng(0)
    volumes, rows = {}, {}
    for k in range(folds):
        mine = np.arange(k, count, folds)
        orders = [mine, *(rng.permutation(mine) for _ in predictions[1:])]
        volumes[k] = [Ragged.stack(p[order], ids[order]) for p, order in zip(predictions, orders, strict=True)]
        rows[k] = mine
    known = np.arange(count) if groups is None else groups
    return Table(given, metrics.of(given), Ragged.stack(targets, ids), volumes, rows, known)


def noisy(rng, truth, classes, noise):
    """Float16 probabilities (N, C, 1, 1) that tell the truth with Gaussian noise on the logits."""
    logits = 2.0 * np.eye(classes)[truth] + noise * rng.standard_normal((len(truth), classes))
    odds = np.exp(logits)
    return (odds / odds.sum(1, keepdims=True)).astype(np.float16)[..., None, None]


def steps_of(table, folds, decision):
    found = with_steps(table, folds, decision)
    assert len(found.gains) == len(found.steps) and all(gain > 0 for gain in found.gains)
    return found.steps


def labels(rng, count, classes=3):
    truth = rng.integers(0, classes, count)
    return truth, truth.astype(np.uint8).reshape(-1, 1, 1, 1)


def of_labels(models=3, count=240, seed=0, noise=(1.0, 1.2, 1.4), **more):
    rng = np.random.default_rng(seed)
    truth, targets = labels(rng, count)
    return table_of(competition(**more), [noisy(rng, truth, 3, noise[m]) for m in range(models)], targets)


@pytest.fixture(autouse=True)
def few_trials(monkeypatch):
    """Optuna's own time is most of a small search's."""
    monkeypatch.setattr(search, "TRIALS", 30)


# ---------------------------------------------------------------- searches


class Told:
    """An evaluator whose score is any function of the weights and the folds."""

    def __init__(self, models, score):
        self.models, self.score = models, score

    def values(self, weights, folds):
        return np.array([self.score(np.round(w, 9), f) for w, f in zip(weights, folds, strict=True)])

    def stats(self, weights, fold):
        raise AssertionError("searches need no statistics of single images")


def test_greedy_selection_by_hand():
    def score(w, folds):  # best at (3/5, 2/5, 0)
        return -abs(w[0] - 0.6) - abs(w[2])

    # picks 0 (-.4; 1: -.6), then 0.5/0.5 (-.1), 0.667 (-.067), 0.5 or 0.75: (-.1, -.15), at five 0.6 exactly
    assert search.greedy(Told(3, score), [(0,)], True, 0) == [(0.6, 0.4, 0.0)]
    # where lower is better
    assert search.greedy(Told(3, lambda w, f: -score(w, f)), [(0,)], False, 0) == [(0.6, 0.4, 0.0)]


def test_greedy_selection_takes_the_shortest_beginning_and_prefers_members():
    seen = []

    def score(w, folds):
        seen.append(tuple(w))
        return 1.0 if w[1] else 0.0

    assert search.greedy(Told(3, score), [(0,)], True, 0) == [(0.0, 1.0, 0.0)]  # one member does
    # ties go to the member that is in: nobody else ever joins, and steps add up to STEPS
    assert len(seen) == 3 * search.STEPS and max(w[1] for w in seen[-3:]) == 1.0
    joined = [w for w in seen if w[0] > 0 and w[0] < 1]
    assert all(abs(w[1] - (1 - w[0])) < 1e-8 for w in joined)


def test_sets_of_folds_are_searched_apart():
    def score(w, folds):
        return w[folds[0]]

    for method in (search.single, search.greedy):
        assert method(Told(3, score), [(2,), (0,), (1,)], True, 0) == [(0, 0, 1), (1, 0, 0), (0, 1, 0)]
    assert search.single(Told(2, lambda w, f: 1.0), [(0,)], True, 0) == [(1, 0)]  # of equals the first


def test_the_simplex_begins_with_the_uniform_blend_and_the_best_single_model(monkeypatch):
    monkeypatch.setattr(search, "TRIALS", 100)
    asked = []

    def score(w, folds):
        asked.append(tuple(np.round(w, 6)))
        return -float(np.square(w - np.array([0.1, 0.2, 0.7])).sum())

    (found,) = search.simplex(Told(3, score), [(0, 1)], True, 0)
    assert asked[3] == (0.333333,) * 3 and asked[4] == (0, 0, 1)  # after the three of ``single``
    assert len(asked) == 3 + search.TRIALS and abs(sum(found) - 1) < 1e-9
    assert np.abs(np.array(found) - [0.1, 0.2, 0.7]).max() < 0.15
    assert search.simplex(Told(3, score), [(0, 1)], True, 0) == [found]  # the same seed, the same weights
    # nothing beats uniform: it is the first, and stays
    assert search.simplex(Told(2, lambda w, f: 0.5), [(0,)], True, 0) == [(0.5, 0.5)]


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "kappa"])
@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_counting_and_decoding_give_the_same_scores(metric, mean):
    table = of_labels(metric=metric)
    counted = Chooser(table, Wanted("greedy", mean, False))._evaluator(mean)
    assert isinstance(counted, Counted)
    slow = Decoded(table.volumes, mean, table.plain, table.metric.value)
    weights = np.random.default_rng(1).dirichlet(np.ones(3), 8)
    sets = [(0,), (1, 2), (0, 1, 2, 3), (3,)] * 2
    assert np.allclose(counted.values(weights, sets), slow.values(weights, sets), atol=1e-12)
    assert (counted.stats(weights[0], 2) == slow.stats(weights[0], 2)).all()


# ---------------------------------------------------------------- methods


def test_one_outstanding_model_is_taken_alone_and_equals_are_blended_evenly():
    alone = Chooser(of_labels(noise=(0.4, 6.0, 6.0)), Wanted(decode=False)).decide((0, 1, 2, 3))
    assert alone.weights[0] > 0.6
    even = Chooser(of_labels(noise=(1.2, 1.2, 1.2), seed=3), Wanted(decode=False)).decide((0, 1, 2, 3))
    assert even == Decision((1 / 3,) * 3, "arithmetic", (), "uniform")


@pytest.mark.parametrize("method", ["uniform", "single", "greedy", "simplex"])
def test_a_method_that_is_asked_for_is_taken(method):
    decision = Chooser(of_labels(), Wanted(method, "arithmetic", False)).decide((0, 1, 2, 3))
    assert decision.method == method and decision.mean == "arithmetic"
    assert Chooser(of_labels(), Wanted(method, "geometric", False)).decide((0, 1, 2, 3)).mean == "geometric"


def test_what_is_left_out_has_no_part_in_a_choice():
    """Other predictions and truths of the left-out fold change nothing about the decision made without it."""
    table = of_labels(metric="macro_f1")
    before = Chooser(table, Wanted()).decide(without(table.folds, 2))
    volumes = dict(table.volumes)
    volumes[2] = [Ragged(v.values[::-1].copy(), v.shapes, v.ids) for v in volumes[2]]
    values = table.targets.values.copy()
    values[table.rows[2]] = 0
    other = replace(table, volumes=volumes, targets=replace(table.targets, values=values), known={})
    assert Chooser(other, Wanted()).decide(without(other.folds, 2)) == before


def test_fewer_than_three_folds_cannot_tell_methods_apart():
    rng = np.random.default_rng(0)
    truth, targets = labels(rng, 60)
    table = table_of(competition(), [noisy(rng, truth, 3, n) for n in (0.5, 3.0)], targets, folds=2)
    chooser = Chooser(table, Wanted(decode=False))
    assert chooser.decide((0, 1)).method == "uniform" and "fewer than three folds" in chooser.notes[0]


def test_fewer_than_three_folds_cannot_tell_what_a_step_is_worth() -> None:
    """Without one of two folds nothing could be chosen, and the score would be of another procedure than the file."""
    rng = np.random.default_rng(2)
    truth, predicted = blobs(rng, 40, specks=6)
    given = of_masks(truth, predicted)
    two = replace(
        given,
        volumes={k: given.volumes[k] for k in (0, 1)},
        rows={k: given.rows[k] for k in (0, 1)},
        known={},
    )
    chooser = Chooser(two, Wanted())
    assert chooser.decide((0, 1)).steps == () and any(
        "fewer than three folds cannot tell what" in n for n in chooser.notes
    )


def test_a_slow_metric_is_not_searched_unasked(monkeypatch):
    monkeypatch.setattr(choose, "LONGEST", 0.0)
    table = of_labels(metric="log_loss")
    chooser = Chooser(table, Wanted(decode=False))
    assert {method for method, _ in chooser.ways} == {"uniform", "single"}
    assert "weights were not searched; --method greedy does it all the same" in chooser.notes[0]
    assert Chooser(table, Wanted("greedy", None, False)).ways == (("greedy", "arithmetic"), ("greedy", "geometric"))


def test_a_metric_that_is_too_slow_for_it_is_not_decoded(monkeypatch):
    rng = np.random.default_rng(2)
    truth, predicted = blobs(rng, 40, specks=6)
    assert Chooser(of_masks(truth, predicted), Wanted()).decide((0, 1, 2, 3)).steps
    monkeypatch.setattr(choose, "LONGEST", 0.0)
    chooser = Chooser(of_masks(truth, predicted), Wanted())
    assert chooser.decide((0, 1, 2, 3)).steps == () and "were not tried: this metric takes" in chooser.notes[0]


def test_lower_is_better_is_understood():
    table = of_labels(metric="log_loss", noise=(0.3, 4.0, 4.0))
    assert Chooser(table, Wanted("single", "arithmetic", False)).decide((0, 1, 2, 3)).weights == (1.0, 0.0, 0.0)
    greedy = Chooser(table, Wanted("greedy", "arithmetic", False)).decide((0, 1, 2, 3))
    assert greedy.weights[0] > 0.8


# ---------------------------------------------------------------- decoding


def test_biased_classes_get_their_factors_back():
    rng = np.random.default_rng(1)
    truth, targets = labels(rng, 600)
    p = noisy(rng, truth, 3, 1.0).astype(np.float64)
    p[:, 2] *= 0.55  # the last class is told too rarely
    p /= p.sum(1, keepdims=True)
    table = table_of(competition(metric="macro_f1"), [p.astype(np.float16)], targets)
    (step,) = steps_of(table, table.folds, Decision((1.0,)))
    assert step.name == "bias" and 0.3 <= step.value[2] - np.mean(step.value[:2]) <= 1.1
    honest = [p[:, 2] / 0.55]  # and where nothing is wrong nothing is done
    fair = np.concatenate([p[:, :2], honest[0][:, None]], axis=1)
    fair = table_of(competition(metric="macro_f1"), [(fair / fair.sum(1, keepdims=True)).astype(np.float16)], targets)
    for step in steps_of(fair, fair.folds, Decision((1.0,))):
        assert max(step.value) - min(step.value) < 0.5


def blobs(rng, count, size=24, specks=0, holes=False):
    """Masks with one square each, and what a model makes of them: specks beside it, a hole in it."""
    truth = np.zeros((count, 1, size, size), np.uint8)
    told = np.zeros((count, size, size))
    for i in range(count):
        y, x = rng.integers(2, size - 14, 2)
        truth[i, 0, y : y + 10, x : x + 10] = 1
        told[i, y : y + 10, x : x + 10] = 1
        if holes:
            told[i, y + 4 : y + 6, x + 3 : x + 6] = 0
        for _ in range(specks):
            told[i, rng.integers(size), rng.integers(size)] = 1
    p = np.where(told > 0, 0.9, 0.1) + rng.uniform(-0.05, 0.05, told.shape)
    return truth, np.stack([1 - p, p], axis=1).astype(np.float16)


def of_masks(truth, predicted, metric="iou"):
    given = competition("segmentation", ("rest", "blob"), metric, of="foreground")
    return table_of(given, [predicted], truth)


def test_specks_are_removed_and_holes_are_filled_where_there_are_any():
    rng = np.random.default_rng(2)
    truth, predicted = blobs(rng, 40, specks=6)
    steps = steps_of(of_masks(truth, predicted), (0, 1, 2, 3), Decision((1.0,)))
    assert {step.name for step in steps} & {"opening", "min_area", "largest"} and all(step.of == 1 for step in steps)
    truth, predicted = blobs(rng, 40, holes=True)
    table = of_masks(truth, predicted)
    steps = steps_of(table, (0, 1, 2, 3), Decision((1.0,)))
    assert any(step.name in ("fill_holes", "closing") for step in steps)
    decided = np.concatenate([table.stats(Decision((1.0,), steps=steps), k) for k in table.folds])
    plain = np.concatenate([table.stats(Decision((1.0,)), k) for k in table.folds])
    assert table.metric.value(decided) > table.metric.value(plain) + 0.02
    truth, predicted = blobs(rng, 40)
    assert steps_of(of_masks(truth, predicted), (0, 1, 2, 3), Decision((1.0,))) == ()


def test_a_threshold_comes_from_the_middle_of_what_scores_alike():
    rng = np.random.default_rng(3)
    truth, _ = blobs(rng, 40)
    p = np.where(truth[:, 0] > 0, 0.4, 0.25)  # anything from 0.26 to 0.38 is as good
    table = of_masks(truth, np.stack([1 - p, p], axis=1).astype(np.float16))
    (step,) = steps_of(table, table.folds, Decision((1.0,)))
    assert step.name == "threshold" and step.of == 1 and abs(step.value[0] - 0.32) <= 0.021


def test_no_step_is_taken_that_costs_a_class():
    """Pasting over the rare class would help the mean of the others more than it costs; the rare class has a say."""
    from podium.estimate import worse_parts

    metric = metrics.of(competition(metric="macro_f1"))
    before = np.zeros((60, 3, 3), np.int64)
    before[:, 0, 0], before[:, 1, 1], before[:, 1, 0] = 10, 5, 5
    before[::6, 2, 2] = 2
    after = before.copy()
    after[:, 1, 1], after[:, 1, 0] = 9, 1
    after[::6, 2, 2], after[::6, 2, 1] = 1, 1
    groups = np.arange(60)
    assert metric.value(after) > metric.value(before)
    assert worse_parts(metric, after, before, groups) == ("c",)
    assert worse_parts(metric, before, before, groups) == ()


def test_thresholds_of_questions_and_cut_points_of_grades():
    rng = np.random.default_rng(4)
    answers = (rng.random((200, 2)) < 0.4).astype(np.uint8)
    p = np.clip(
        0.25 + 0.25 * answers + rng.normal(0, 0.04, answers.shape), 0.01, 0.99
    )  # yes is said at 0.5 only rarely
    p = np.stack([1 - p, p], axis=1)[..., None].astype(np.float16)
    table = table_of(competition("multilabel", ("x", "y"), "macro_f1"), [p], answers[:, None, :, None])
    chosen = choose_points(table, table.folds, Decision((1.0,)))
    assert chosen is not None and chosen[1] > 0
    points = chosen[0]
    assert all(0.33 < point < 0.45 for point in points)
    assert steps_of(table, table.folds, Decision((1.0,))) == (Step("points", None, points),)
    exact = np.stack([1 - answers, answers], axis=1)[..., None].astype(np.float16)
    sure = table_of(competition("multilabel", ("x", "y"), "macro_f1"), [exact], answers[:, None, :, None])
    assert choose_points(sure, sure.folds, Decision((1.0,))) is None


def test_a_geometric_mean_of_probabilities_is_renormalised():
    ids = np.array(["a"])
    one, two = (np.array([[[[p]], [[1 - p]]]], np.float16) for p in (0.9, 0.4))
    volumes = [Ragged.stack(one, ids), Ragged.stack(two, ids)]
    (logs,) = combined(volumes, [0.5, 0.5], None, "geometric")
    high, low = np.sqrt(0.9 * 0.4), np.sqrt(0.1 * 0.6)
    assert as_probabilities(logs, None, "geometric")[0, :, 0, 0] == pytest.approx(
        [high / (high + low), low / (high + low)], abs=1e-3
    )
