"""From probabilities to labels: one function, the same for out-of-fold and test predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from podium.combine import Mean, as_probabilities, combined
from podium.data.ragged import Ragged
from podium.decode_steps import Step, factors, reshaped


@dataclass(frozen=True)
class Decision:
    """All that is chosen between the models' predictions and labels.

    weights: one per model, summing to 1. mean: how they are averaged. steps: of the decoding, in the order in which they are
    done. method: how the weights were found, for people. gains: of each step, by how much the score was better with it than with
    the steps before it alone, on folds that it was not chosen on; that is told and decides nothing.
    """

    weights: tuple[float, ...]
    mean: Mean = "arithmetic"
    steps: tuple[Step, ...] = ()
    method: str = "uniform"
    gains: tuple[float, ...] = field(default=(), compare=False)

    @property
    def points(self) -> tuple[float, ...] | None:
        """Thresholds of questions or cut points of grades, where any were chosen."""
        return next((step.value for step in self.steps if step.name == "points"), None)


def finish(
    volumes: Sequence[Ragged],
    weights: Sequence[float],
    unscored: int | None,
    points: Sequence[float] | None = None,
    mean: Mean = "arithmetic",
    steps: Sequence[Step] = (),
) -> Ragged:
    """Blend the models' predictions and make labels of them.

    volumes, weights, unscored, mean: see ``combine.combined``. points: of K questions, volumes (2, K, 1), the probability of
    "yes" above which the answer is yes, one half where absent; of numbers, volumes (1, 1, 1), the ascending points at
    which one grade ends and the next begins. steps: what else is done to classes, see ``decode_steps``.

    Returns uint8 labels (1, H, W) per id, in the order of the first volume: the most probable class, ties go to the
    lower one; answers 0 and 1; grades from 0 up. Numbers without ``points`` are float32 (1, 1, 1), as they were blended.
    """
    numbers = bool((volumes[0].shapes[:, 0] == 1).all())  # of classes there are at least two
    sizes = volumes[0].shapes.copy()
    sizes[:, 0] = 1
    values = np.empty(int(sizes.prod(axis=1).sum()), np.float32 if numbers and points is None else np.uint8)
    at = 0
    for blend in combined(volumes, weights, unscored, mean):
        if numbers:
            labels = blend if points is None else np.searchsorted(np.asarray(points), blend, side="right")
        elif points is not None:
            labels = as_probabilities(blend, unscored, mean)[:, 1] > np.asarray(points, np.float32)[:, None]
        else:
            labels = decoded(blend, unscored, mean, steps)
        values[at : at + labels.size] = labels.reshape(-1)
        at += labels.size
    return Ragged(values, sizes, volumes[0].ids)


def decoded(scores: np.ndarray, unscored: int | None, mean: Mean, steps: Sequence[Step] = ()) -> np.ndarray:
    """Labels (B, H, W) of what ``combine.combined`` gives, (B, C, H, W)."""
    scores = weighed(scores, unscored, mean, steps)
    labels = scores.argmax(1)
    return reshaped(labels, scores, steps) if steps else labels


def weighed(scores: np.ndarray, unscored: int | None, mean: Mean, steps: Sequence[Step] = ()) -> np.ndarray:
    """``scores`` with the classes' factors in them, and the unscored class below all others; may change what is given."""
    factor = factors(steps, scores.shape[1])
    if factor is not None:
        shape = (1, -1, 1, 1)
        scores = scores * factor.reshape(shape) if mean == "arithmetic" else scores + np.log(factor).reshape(shape)
    if unscored is not None:
        scores[:, unscored] = -np.inf
    return scores


def mean(volumes: Sequence[Ragged], weights: Sequence[float], unscored: int | None, how: Mean = "arithmetic") -> Ragged:
    """The blended predictions themselves, float32 (C, H, W) per id, in the order of the first volume."""
    first = volumes[0]
    values = np.empty(int(first.offsets[-1]), np.float32)
    at = 0
    for blend in combined(volumes, weights, unscored, how):
        values[at : at + blend.size] = as_probabilities(blend, unscored, how).reshape(-1)
        at += blend.size
    return Ragged(values, first.shapes, first.ids)
