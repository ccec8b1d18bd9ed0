"""Blends scored on any folds, by what the metric allows: counted compactly, or decoded image by image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from podium.blend.compact import Compact, NotCompact, build
from podium.blend.table import FoldSet
from podium.combine import Mean
from podium.data.ragged import Ragged
from podium.metrics import Metric, OfConfusion

Stats = Callable[[Sequence[Ragged], Sequence[float], Mean], np.ndarray]
"""Volumes, weights and mean → statistics (n, ...) of the images, in the order of the first volume."""


class Evaluator(Protocol):
    """Scores blends of M models. Weights are 0 or more and sum to 1."""

    @property
    def models(self) -> int: ...

    def values(self, weights: np.ndarray, folds: Sequence[FoldSet]) -> np.ndarray:
        """Scores (B,) of weight vectors (B, M), each on its own ``folds``."""

    def stats(self, weights: Sequence[float], fold: int) -> np.ndarray:
        """Statistics (n, ...) of a fold's images, in the order of its first volume."""


class Counted:
    """By confusion matrices that are counted compactly, each weight vector once."""

    def __init__(self, compact: Compact, metric: Metric) -> None:
        assert isinstance(metric, OfConfusion) and metric.additive
        self.compact, self.metric, self.of_confusion = compact, metric, metric.of_confusion
        self._linear = metric.linear
        self._place = {fold: i for i, fold in enumerate(compact.folds)}
        self._known: dict[bytes, np.ndarray] = {}
        self._of_images: dict[tuple[bytes, int], np.ndarray] = {}

    @property
    def models(self) -> int:
        return self.compact.models

    def values(self, weights: np.ndarray, folds: Sequence[FoldSet]) -> np.ndarray:
        sums = np.stack(self._sums(weights))
        inside = {wanted: [k in wanted for k in self._place] for wanted in set(folds)}
        chosen = np.array([inside[wanted] for wanted in folds])
        return self.metric.values(np.einsum("bf,bf...->b...", chosen, sums))

    def stats(self, weights: Sequence[float], fold: int) -> np.ndarray:
        key = np.asarray(weights, np.float32).tobytes(), fold
        if key not in self._of_images:
            self._of_images[key] = self._stats(np.asarray(weights), fold)
        return self._of_images[key]

    def _stats(self, weights: np.ndarray, fold: int) -> np.ndarray:
        return self.of_confusion(self.compact.stats(weights, fold))

    def _sums(self, weights: np.ndarray) -> list[np.ndarray]:
        """The metric's statistics summed per fold, (F, ...), of each vector; what was asked before is remembered."""
        vectors = np.ascontiguousarray(weights, np.float32)
        names = [vector.tobytes() for vector in vectors]
        new = {name: i for i, name in enumerate(names) if name not in self._known}
        if new:
            rows = vectors[list(new.values())]
            if self._linear:
                found = self.compact.sums(rows)
                flat = self.of_confusion(found.reshape(-1, *found.shape[2:]))
                made = flat.reshape(*found.shape[:2], *flat.shape[1:])
            else:
                made = np.stack([[self._stats(row, k).sum(0) for k in self._place] for row in rows])
            self._known |= zip(new, made, strict=True)
        return [self._known[name] for name in names]


class Decoded:
    """By decoding every image anew for each weight vector: what every metric allows."""

    def __init__(
        self, volumes: Mapping[int, Sequence[Ragged]], mean: Mean, stats: Stats, value: Callable[[np.ndarray], float]
    ) -> None:
        self.volumes, self.mean, self._stats, self._value = volumes, mean, stats, value
        self._known: dict[tuple[bytes, int], np.ndarray] = {}

    @property
    def models(self) -> int:
        return len(next(iter(self.volumes.values())))

    def values(self, weights: np.ndarray, folds: Sequence[FoldSet]) -> np.ndarray:
        return np.array(
            [
                self._value(np.concatenate([self.stats(vector, k) for k in wanted]))
                for vector, wanted in zip(weights, folds, strict=True)
            ]
        )

    def stats(self, weights: Sequence[float], fold: int) -> np.ndarray:
        key = np.asarray(weights, np.float32).tobytes(), fold
        if key not in self._known:
            self._known[key] = self._stats(self.volumes[fold], [float(w) for w in weights], self.mean)
        return self._known[key]


def evaluator(
    volumes: Mapping[int, Sequence[Ragged]],
    targets: Ragged,
    classes: int,
    unscored: int | None,
    metric: Metric,
    mean: Mean,
    stats: Stats,
) -> Evaluator:
    """The fastest evaluator that is exact for this metric and these predictions.

    volumes: fold → the models' predictions. stats: how images are scored where they must be decoded.
    """
    if isinstance(metric, OfConfusion) and metric.needs == "labels":
        try:
            return Counted(build(volumes, targets, classes, unscored, mean), metric)
        except NotCompact:
            pass
    return Decoded(volumes, mean, stats, metric.value)
