"""Adversarial validation where the answer is known: the same, another, and half another distribution."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from podium.audit import shift as module
from podium.audit.shift import shift


def names(count: int) -> list[str]:
    return [f"r{i}" for i in range(count)]


def cloud(count: int, seed: int, centre: float = 0.0, spread: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(centre, spread, (count, 12)).astype(np.float32)


def test_the_same_distribution_gives_one_half() -> None:
    found = shift(cloud(400, 1), cloud(300, 2), names(400))
    assert found.auc is not None and found.low is not None and found.high is not None
    # under the null hypothesis an area's standard deviation is ((m + n + 1) / 12mn) ** 0.5, here 0.022
    assert abs(found.auc - 0.5) < 3 * 0.022 and found.low < found.auc < found.high
    assert 2 * 0.022 < found.high - found.low < 6 * 0.022
    assert found.verdict.startswith("train and test look alike (ROC AUC 0.")
    assert (found.train_rows, found.test_rows, len(found.test_like)) == (400, 300, 50)


def test_disjoint_distributions_give_one() -> None:
    found = shift(cloud(200, 1), cloud(100, 2, centre=3), names(200))
    assert found.auc == found.low == found.high == 1
    assert "no fold resembles the test" in found.verdict
    assert found.probabilities.max() < 0.5


def test_a_wider_test_with_the_same_centre_is_told_apart() -> None:
    found = shift(cloud(400, 1), cloud(400, 2, spread=2), names(400))
    assert found.auc is not None and found.auc > 0.8  # a linear classifier alone cannot


def test_training_rows_like_the_test_are_named_first() -> None:
    train = cloud(300, 1)
    strangers = [3, 77, 150, 222]
    train[strangers] += 2
    found = shift(train, cloud(200, 2, centre=2), names(300), listed=6)
    assert {entry.id for entry in found.test_like[:4]} == {f"r{row}" for row in strangers}
    assert found.test_like[3].probability > 0.7 > found.test_like[4].probability
    assert found.test_like[0].probability == found.probabilities.max()
    assert len(found.test_like) == 6
    assert json.loads(json.dumps(asdict(found), default=np.ndarray.tolist))["auc"] == found.auc


def test_probabilities_do_not_lean_towards_the_larger_side() -> None:
    small = shift(cloud(600, 1), cloud(60, 2), names(600)).probabilities.mean()
    large = shift(cloud(60, 1), cloud(600, 2), names(60)).probabilities.mean()
    assert 0.3 < small < 0.6 and 0.3 < large < 0.6


def test_groups_keep_near_duplicates_from_telling() -> None:
    """12 scenes in training, 8 others in test, each 25 times with a little noise: only copies can be recognised."""
    rng = np.random.default_rng(0)
    scenes = rng.normal(0, 1, (20, 12)).repeat(25, axis=0) + rng.normal(0, 0.05, (500, 12))
    train, test = scenes[:300].astype(np.float32), scenes[300:].astype(np.float32)
    loose = shift(train, test, names(300))
    assert loose.auc is not None and loose.auc > 0.95
    tied = shift(train, test, names(300), groups=np.arange(300) // 25)
    assert tied.auc is not None and tied.low is not None and tied.high is not None
    assert tied.probabilities.mean() > loose.probabilities.mean() + 0.1
    assert tied.high - tied.low > 0.1


def test_only_so_many_rows_take_part_and_all_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 100)
    train = cloud(260, 1)
    train[200:] += 2
    found = shift(train, cloud(240, 2, centre=2), names(260))
    assert (found.train_rows, found.test_rows) == (100, 100)
    assert found.probabilities[200:].min() > found.probabilities[:200].max()


def test_the_same_seed_gives_the_same_answer() -> None:
    train, test = cloud(80, 1), cloud(50, 2, 0.3)
    first, second = shift(train, test, names(80)), shift(train, test, names(80))
    assert asdict(first) | {"probabilities": 0} == asdict(second) | {"probabilities": 0}
    assert (first.probabilities == second.probabilities).all()
    assert (shift(train, test, names(80), seed=1).probabilities != first.probabilities).any()


@pytest.mark.parametrize(("train", "test"), [(0, 5), (5, 0), (1, 5), (5, 1)])
def test_too_few_images(train: int, test: int) -> None:
    found = shift(cloud(train, 1), cloud(test, 2), names(train))
    assert found.auc is found.low is found.high is None
    assert found.verdict == f"{train} training images and {test} test images are too few to tell them apart"
    assert len(found.probabilities) == train


def test_one_group_is_too_few_and_constant_features_tell_nothing() -> None:
    assert shift(cloud(9, 1), cloud(9, 2), names(9), groups=np.zeros(9, np.int64)).auc is None
    flat = shift(np.ones((20, 3), np.float32), np.ones((15, 3), np.float32), names(20))
    assert flat.auc == 0.5


def test_wrong_lengths() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        shift(cloud(3, 1), cloud(3, 2), names(4))
    with pytest.raises(ValueError, match="12 features of training images and 5 of test"):
        shift(cloud(30, 1), cloud(30, 2)[:, :5], names(30))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=2, max_size=40))
def test_auc_is_that_of_sklearn_with_ties_and_weights(rows: list[tuple[int, bool, int]]) -> None:
    guess = np.array([value / 4 for value, _, _ in rows])
    truth = np.array([side for _, side, _ in rows])
    weights = np.array([[1] * len(rows), [weight for _, _, weight in rows]])
    found = module._auc(guess, np.zeros(len(rows), np.int64), truth, 1, weights)
    for value, weight in zip(found, weights, strict=True):
        if weight[truth].sum() and weight[~truth].sum():
            assert value == pytest.approx(roc_auc_score(truth, guess, sample_weight=weight))
        else:
            assert value == 0.5


def test_auc_is_the_mean_over_folds() -> None:
    # perfect within each fold, though the second fold's guesses are lower throughout
    guess, truth = np.array([0.6, 0.8, 0.1, 0.2]), np.array([False, True, False, True])
    assert module._auc(guess, np.array([0, 0, 1, 1]), truth, 2, np.ones((1, 4), np.int64)).tolist() == [1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=5, max_size=60), st.integers(2, 30))
def test_dealing_keeps_groups_whole_and_sides_even(groups: list[int], others: int) -> None:
    _, ours = np.unique(groups, return_inverse=True)
    member = np.concatenate([ours, 100 + np.arange(others)])
    truth = np.arange(len(member)) >= len(groups)
    folds = min(5, len(set(groups)), others)
    place = module._deal(member, truth, folds, np.random.default_rng(0))
    assert all(len(set(place[member == group].tolist())) == 1 for group in set(member.tolist()))
    sizes = np.bincount(place[truth], minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    counts = np.bincount(place[~truth], minlength=folds)
    assert counts.min() >= 1 and counts.max() - counts.min() <= np.bincount(ours).max()
