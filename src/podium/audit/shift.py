"""Adversarial validation: how well a small classifier tells training images from test images, out of fold.

Where it cannot, folds of the training images are a fair picture of the test; where it can, no fold is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from podium.audit.features import principal_scores
from podium.randomness import stream

LIMIT = 10_000  # rows of each side that take part
FOLDS = 5
COMPONENTS = 32
_FEW = 2_000  # rows; below, the cross-validation is repeated until about so many were predicted
_RESAMPLES = 500


@dataclass(frozen=True)
class TestLike:
    """A training image and how probable the classifier finds it to be a test image, between 0 and 1."""

    id: str
    probability: float


@dataclass(frozen=True, eq=False)
class Shift:
    """How much test differs from train.

    auc: area under the ROC curve, 0.5 for no difference and 1 for a sure one. low, high: its 95 % bootstrap interval
    over groups, a little narrow since the classifiers stay the same. All three are None where there are too few
    images to tell. verdict: a sentence. test_like: the training images most like test images, the likest first.
    probabilities: float64 (N,) of all training images to be test images, each judged by classifiers that had not seen
    it. train_rows, test_rows: how many took part.
    """

    auc: float | None
    low: float | None
    high: float | None
    verdict: str
    test_like: tuple[TestLike, ...]
    probabilities: np.ndarray
    train_rows: int
    test_rows: int


def shift(
    train_features: np.ndarray,
    test_features: np.ndarray,
    train_ids: Sequence[str] | np.ndarray,
    groups: np.ndarray | None = None,
    seed: int = 0,
    listed: int = 50,
) -> Shift:
    """Train classifiers on ``features`` of both parts, in 5 folds, and judge them on the images left out.

    train_features, test_features: float32 (N, D) and (M, D), both from ``features``. groups: int (N,), rows of one
    number stay in one fold: otherwise a near duplicate or the same patient gives the answer away. The classifier
    averages a logistic regression on principal components and their squares, robust with few rows, and gradient-boosted
    trees, which see what is not linear. At most 10,000 rows of each side take part, chosen by ``seed``.
    """
    names = np.asarray(train_ids, np.str_)
    count, others = len(names), len(test_features)
    if len(train_features) != count or (groups is not None and len(groups) != count):
        raise ValueError(f"{count} ids, {len(train_features)} rows of training features and the groups do not fit")
    if count and others and train_features.shape[1] != test_features.shape[1]:
        raise ValueError(
            f"{train_features.shape[1]} features of training images and {test_features.shape[1]} of test images"
        )
    members = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    rng = np.random.default_rng(stream("shift", seed))
    ours, theirs = np.sort(rng.permutation(count)[:LIMIT]), np.sort(rng.permutation(others)[:LIMIT])
    folds = min(FOLDS, len(np.unique(members[ours])), len(theirs))
    if folds < 2:
        sentence = f"{count} training images and {others} test images are too few to tell them apart"
        return Shift(None, None, None, sentence, (), np.zeros(count), len(ours), len(theirs))

    table = np.concatenate([train_features, test_features[theirs]]).astype(np.float32)
    inputs = _inputs(principal_scores(table, COMPONENTS, seed))
    rows = np.concatenate([ours, np.arange(count, len(table))])
    truth = rows >= count
    member = np.concatenate([members[ours], members.max() + 1 + np.arange(len(theirs))])
    repeats = min(FOLDS, -(-_FEW // len(rows)))
    judged, times = np.zeros(count), np.zeros(count)
    curves = []
    for repeat in range(repeats):
        place = _deal(member, truth, folds, np.random.default_rng(stream("shift", seed, repeat)))
        guess = np.zeros(len(rows))
        for fold in range(folds):
            seen = place != fold
            predict = _fit(inputs[rows[seen]], truth[seen], seed)
            unseen = np.ones(count, bool)
            unseen[ours[seen[: len(ours)]]] = False
            guess[~seen] = predict(inputs[rows[~seen]])
            judged[unseen] += predict(inputs[:count][unseen])
            times[unseen] += 1
        curves.append((guess, place))
    probabilities = judged / np.maximum(times, 1)

    weights = _resample(member, np.random.default_rng(stream("shift bootstrap", seed)))
    aucs = np.mean([_auc(guess, place, truth, folds, weights) for guess, place in curves], axis=0)
    low, high = np.quantile(aucs[1:], [0.025, 0.975]).tolist()
    top = sorted(range(count), key=lambda row: (-probabilities[row], str(names[row])))[:listed]
    return Shift(
        float(aucs[0]),
        low,
        high,
        _verdict(float(aucs[0]), low, high),
        tuple(TestLike(str(names[row]), float(probabilities[row])) for row in top),
        probabilities,
        len(ours),
        len(theirs),
    )


def _verdict(auc: float, low: float, high: float) -> str:
    figures = f"ROC AUC {auc:.2f}, {low:.2f} to {high:.2f}"
    if high < 0.5 or high - low > 0.35:
        return f"too few images to tell train from test or to say that they are alike ({figures})"
    if auc < 0.6:
        return f"train and test look alike ({figures}): folds can resemble the test"
    if auc < 0.8:
        return f"train and test differ somewhat ({figures}): expect the test score to lie apart from the folds'"
    return f"train and test differ ({figures}): no fold resembles the test, and its score cannot be foreseen from folds"


def _inputs(scores: np.ndarray) -> np.ndarray:
    """Standardised components and their squares, (N, K) → float64 (N, 2K); squares level off, or one row would rule."""
    scores = scores.astype(np.float64)
    plain = (scores - scores.mean(axis=0)) / np.maximum(scores.std(axis=0), 1e-9)
    squares = np.tanh(plain / 2) ** 2
    return np.concatenate([plain, (squares - squares.mean(axis=0)) / np.maximum(squares.std(axis=0), 1e-9)], axis=1)


def _fit(inputs: np.ndarray, truth: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Train on inputs (n, 2K) and return what gives the probability of the test for rows, as if both sides were equal.

    In one thread: the trees' threads stand in one another's way where cores are shared. The trees get no class
    weights, which slow them tenfold; their prior is taken off afterwards.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    plain, odds = inputs.shape[1] // 2, float(truth.mean() / (1 - truth.mean()))
    with threadpool_limits(1):
        line = LogisticRegression(C=0.01, max_iter=500, class_weight="balanced").fit(inputs, truth)
        trees = HistGradientBoostingClassifier(
            max_iter=60, max_leaf_nodes=8, early_stopping=False, random_state=seed
        ).fit(inputs[:, :plain], truth)

    def predict(rows: np.ndarray) -> np.ndarray:
        if not len(rows):
            return np.zeros(0)
        with threadpool_limits(1):
            grown = trees.predict_proba(rows[:, :plain])
            return (line.predict_proba(rows)[:, 1] + grown[:, 1] / (grown[:, 1] + odds * grown[:, 0])) / 2

    return predict


def _deal(member: np.ndarray, truth: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """A fold per row: groups whole, each side spread evenly, the largest groups first and equal ones in random order."""
    place = np.zeros(len(member), np.int64)
    for side in (False, True):
        numbers, inverse, sizes = np.unique(member[truth == side], return_inverse=True, return_counts=True)
        mixed = rng.permutation(len(numbers))
        load = [0] * folds
        fold_of = np.zeros(len(numbers), np.int64)
        for group in mixed[np.argsort(-sizes[mixed], kind="stable")].tolist():
            fold = load.index(min(load))
            fold_of[group], load[fold] = fold, load[fold] + int(sizes[group])
        place[truth == side] = fold_of[inverse.reshape(-1)]
    return place


def _resample(member: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How often each row is drawn, (1 + resamples, n): first every row once, then groups drawn with replacement."""
    numbers, inverse = np.unique(member, return_inverse=True)
    draws = np.ones((1 + _RESAMPLES, len(numbers)), np.int64)
    for resample in range(1, len(draws)):
        draws[resample] = np.bincount(rng.integers(len(numbers), size=len(numbers)), minlength=len(numbers))
    return draws[:, inverse.reshape(-1)]


def _auc(guess: np.ndarray, place: np.ndarray, truth: np.ndarray, folds: int, weights: np.ndarray) -> np.ndarray:
    """Mean over folds of the area under each fold's ROC curve, for each row of weights: (B, n) → (B,).

    Within folds, as the classifiers of two folds are not calibrated to each other. Ties count one half.
    """
    total, used = np.zeros(len(weights)), np.zeros(len(weights))
    for fold in range(folds):
        rows = np.flatnonzero(place == fold)
        rows = rows[np.argsort(guess[rows], kind="stable")]
        starts = np.flatnonzero(np.diff(guess[rows], prepend=-1))
        positive = np.add.reduceat(weights[:, rows] * truth[rows], starts, axis=1).astype(np.float64)
        negative = np.add.reduceat(weights[:, rows] * ~truth[rows], starts, axis=1).astype(np.float64)
        won = (positive * (np.cumsum(negative, axis=1) - negative / 2)).sum(axis=1)
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        total += np.where(pairs > 0, won / np.maximum(pairs, 1), 0)
        used += pairs > 0
    return np.where(used > 0, total / np.maximum(used, 1), 0.5)
