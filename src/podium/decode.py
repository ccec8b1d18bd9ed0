"""From probabilities to labels: one function, the same for out-of-fold and test predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from podium.data.ragged import Ragged
from podium.errors import UserError

BLOCK = 64
"""Images decoded at once: what keeps memory small and numpy busy."""


def finish(
    volumes: Sequence[Ragged], weights: Sequence[float], unscored: int | None, points: Sequence[float] | None = None
) -> Ragged:
    """Blend the models' predictions and make labels of them.

    volumes: one per model, float (C, H, W) per id, joined by id. weights: one per model, summing to 1.
    unscored: a class that must not be predicted; its probability is set to zero and the rest renormalised per model,
    before blending. points: of K questions, volumes (2, K, 1), the probability of "yes" above which the answer is yes, one
    half where absent; of numbers, volumes (1, 1, 1), the ascending points at which one grade ends and the next begins.

    Returns uint8 labels (1, H, W) per id, in the order of the first volume: the most probable class, ties go to the
    lower one; answers 0 and 1; grades from 0 up. Numbers without ``points`` are float32 (1, 1, 1), as they were blended.
    """
    numbers = bool((volumes[0].shapes[:, 0] == 1).all())  # of classes there are at least two
    sizes = volumes[0].shapes.copy()
    sizes[:, 0] = 1
    values = np.empty(int(sizes.prod(axis=1).sum()), np.float32 if numbers and points is None else np.uint8)
    at = 0
    for blend in _blended(volumes, weights, unscored):
        if numbers:
            labels = blend if points is None else np.searchsorted(np.asarray(points), blend, side="right")
        elif points is not None:
            labels = blend[:, 1] > np.asarray(points, np.float32)[:, None]
        else:
            if unscored is not None:
                blend[:, unscored] = -1
            labels = blend.argmax(1)
        values[at : at + labels.size] = labels.reshape(-1)
        at += labels.size
    return Ragged(values, sizes, volumes[0].ids)


def mean(volumes: Sequence[Ragged], weights: Sequence[float], unscored: int | None) -> Ragged:
    """The blended predictions themselves, float32 (C, H, W) per id, in the order of the first volume."""
    first = volumes[0]
    values = np.empty(int(first.offsets[-1]), np.float32)
    at = 0
    for blend in _blended(volumes, weights, unscored):
        values[at : at + blend.size] = blend.reshape(-1)
        at += blend.size
    return Ragged(values, first.shapes, first.ids)


def _blended(volumes: Sequence[Ragged], weights: Sequence[float], unscored: int | None) -> Iterator[np.ndarray]:
    """The weighted mean of the models, float32 (B, C, H, W), some images at a time; what does not fit is a UserError."""
    first = volumes[0]
    if len(weights) != len(volumes) or not abs(sum(weights) - 1) <= 1e-6 or min(weights) < 0:
        raise UserError(f"blend weights {list(weights)}: {len(volumes)} weights of 0 or more that sum to 1 are needed")
    for volume in volumes[1:]:
        if volume.index.keys() != first.index.keys():
            odd = next(iter(volume.index.keys() ^ first.index.keys()))
            raise UserError(
                f"id '{odd}': predicted by one model and not by another; predict again with all models of the blend"
            )
        rows = [volume.index[name] for name in first.ids.tolist()]
        differ = np.flatnonzero((volume.shapes[rows] != first.shapes).any(1))
        if len(differ):
            at, odd = int(differ[0]), str(first.ids[differ[0]])
            both = f"{tuple(first.shapes[at].tolist())} and {tuple(volume.shapes[rows[at]].tolist())}"
            raise UserError(
                f"id '{odd}': two models predicted it in different sizes (C, H, W), {both}; predict again with all models of the blend"
            )
    # images of one size are decoded in blocks, others one by one
    block = BLOCK if first.uniform else 1
    for start in range(0, len(first), block):
        ids = first.ids[start : start + block]
        blend: np.ndarray | None = None
        for volume, weight in zip(volumes, weights, strict=True):
            predicted = _allowed(_take(volume, ids), unscored) * np.float32(weight)
            blend = predicted if blend is None else blend + predicted
        assert blend is not None
        yield blend


def _take(volume: Ragged, ids: np.ndarray) -> np.ndarray:
    """The predictions of some ids, float32 (B, C, H, W)."""
    rows = [volume.index[name] for name in ids.tolist()]
    if not volume.uniform:
        return np.stack([volume[row] for row in rows]).astype(np.float32)
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return volume.stacked[rows[0] : rows[0] + len(rows)].astype(np.float32)
    return volume.stacked[rows].astype(np.float32)


def _allowed(probabilities: np.ndarray, unscored: int | None) -> np.ndarray:
    if unscored is None or not probabilities[:, unscored].any():
        return probabilities
    removed = probabilities[:, unscored : unscored + 1] > 0
    probabilities[:, unscored] = 0
    total: np.ndarray = probabilities.sum(1, keepdims=True)
    # only where something was removed: a pixel's label must not depend on the images that are decoded beside it
    return probabilities / np.where(removed, np.maximum(total, np.float32(1e-12)), np.float32(1))
