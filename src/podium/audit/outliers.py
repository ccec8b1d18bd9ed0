"""Outliers: images unlike all others, ranked. Doubtful by nature, so that nothing is dropped by this list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from podium.audit.features import principal

REFERENCES = 10_000  # rows among which neighbours are looked for
NEIGHBOURS = 5
APART = 3.5  # robust standard deviations, the usual limit for the modified z-score (Iglewicz and Hoaglin 1993)
_TO_DEVIATION = 1.4826  # of a normal distribution, over the median absolute deviation


@dataclass(frozen=True)
class Outlier:
    """One image of the ranking.

    score: how far out it is, in robust standard deviations of all images' scores. distance, residual: the two it is
    made of, each in robust standard deviations of its logarithm. reason: the larger one, in words.
    """

    id: str
    score: float
    distance: float
    residual: float
    reason: str


@dataclass(frozen=True, eq=False)
class Outliers:
    """The ranking's top, furthest out first.

    ranking: at most as many as asked for, each picture once. apart: how many pictures lie more than 3.5 robust standard
    deviations out. scores: float64 (N,), of all images in their order.
    """

    ranking: tuple[Outlier, ...]
    apart: int
    scores: np.ndarray


def rank(
    ids: Sequence[str] | np.ndarray,
    features: np.ndarray,
    groups: np.ndarray | None = None,
    listed: int = 100,
    seed: int = 0,
) -> Outliers:
    """Rank images by how little they resemble the rest.

    ids: (N,). features: float32 (N, D). groups: int (N,), rows of one number are copies and count as one picture:
    otherwise a picture that occurs often has neighbours enough and hides. Two measures are joined: the mean
    distance to the 5 nearest neighbours on the principal components (among at most 10,000 images chosen by ``seed``),
    and the part that the components leave unexplained. Their logarithms are standardised by median and median
    absolute deviation and added, as a mixture or one of them alone found fewer planted images.
    """
    names = np.asarray(ids, np.str_)
    if len(features) != len(names) or (groups is not None and len(groups) != len(names)):
        raise ValueError(f"{len(names)} ids, {len(features)} rows of features and the groups do not fit")
    if not len(names):
        return Outliers((), 0, np.zeros(0))
    _, first, member = np.unique(
        np.arange(len(names)) if groups is None else groups, return_index=True, return_inverse=True
    )
    scores, left = principal(features[first], seed=seed)
    distance, residual = standardise(_neighbour_distance(scores, seed)), standardise(left)
    total = standardise(distance + residual, logarithm=False)
    top = sorted(range(len(first)), key=lambda i: (-total[i], str(names[first[i]])))[:listed]
    ranking = tuple(
        Outlier(
            str(names[first[i]]),
            float(total[i]),
            float(distance[i]),
            float(residual[i]),
            "far from its nearest neighbours" if distance[i] >= residual[i] else "holds what no other image explains",
        )
        for i in top
    )
    return Outliers(ranking, int((total > APART).sum()), total[member.reshape(-1)])


def _neighbour_distance(scores: np.ndarray, seed: int) -> np.ndarray:
    """Mean Euclidean distance to the nearest 5 other rows (N, K) → (N,), looked for among a sample."""
    from sklearn.neighbors import NearestNeighbors

    count = len(scores)
    sample = np.sort(np.random.default_rng(seed).permutation(count)[:REFERENCES])
    wanted = min(NEIGHBOURS, len(sample) - 1)
    if wanted < 1:
        return np.zeros(count)
    search = NearestNeighbors(n_neighbors=wanted + 1, algorithm="brute").fit(scores[sample])
    out = np.empty(count)
    for start in range(0, count, REFERENCES):
        rows = np.arange(start, min(count, start + REFERENCES))
        distances, found = search.kneighbors(scores[rows])
        # A row of the sample finds itself; it is left out, in the other rows the furthest is.
        itself = sample[found] == rows[:, None]
        itself[~itself.any(axis=1), -1] = True
        out[rows] = np.where(itself, 0, distances).sum(axis=1, dtype=np.float64) / wanted
    return out


def standardise(values: np.ndarray, logarithm: bool = True) -> np.ndarray:
    """Distance from the median in robust standard deviations; of the logarithm, since both measures are skewed."""
    values = values.astype(np.float64)
    if logarithm:
        typical = float(np.median(values)) or float(values.max())
        if typical <= 0:
            return np.zeros(len(values))
        values = np.log(np.maximum(values, typical * 1e-3))
    centre = np.median(values)
    spread = _TO_DEVIATION * np.median(np.abs(values - centre)) or values.std()
    return (values - centre) / spread if spread > 1e-12 else np.zeros(len(values))
