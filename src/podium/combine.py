"""Predictions of several models put together by id: weighted means, arithmetic or geometric, some images at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from podium.data.ragged import Ragged
from podium.errors import UserError

Mean = Literal["arithmetic", "geometric"]
FLOOR = float(np.float16(1e-4))
"""Least probability that a geometric mean sees, a float16: without it one model's zero vetoes a class, and float16 underflows
to 0."""
BLOCK = 64
"""Images put together at once, at least: what keeps memory small and numpy busy."""
VALUES = 1 << 20
"""Values per model put together at once where images are small: labels are images of one pixel."""
_HALVES = np.maximum(np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64), FLOOR)
_HALVES[0x7C01:] = FLOOR  # not a number, or negative: refused elsewhere
LOGARITHMS = np.log(_HALVES).astype(np.float32)
"""Logarithm of every float16, floored, by its bits. A table, since it never falls where the probability rises; log of numpy
does not promise that, and may differ for equal numbers at different places."""


def combined(
    volumes: Sequence[Ragged], weights: Sequence[float], unscored: int | None, mean: Mean = "arithmetic"
) -> Iterator[np.ndarray]:
    """What the classes of each image score, float32 (B, C, H, W), some images at a time, in the order of the first volume.

    volumes: one per model, float (C, H, W) per id, joined by id; what does not fit is a UserError. weights: one per model,
    0 or more, summing to 1. unscored: a class that must not be predicted: its probability is set to zero and the rest
    renormalised per model, before blending.
    mean: ``arithmetic``: sum of w p. ``geometric``: sum of w log max(p, FLOOR), the logarithm of the mean (Genest & Zidek
    1986's logarithmic pool), not renormalised, which the most probable class does not depend on.
    """
    first = volumes[0]
    _fit(volumes, weights)
    block = block_of(first)
    for start in range(0, len(first), block):
        ids = first.ids[start : start + block]
        total: np.ndarray | None = None
        for volume, weight in zip(volumes, weights, strict=True):
            if weight == 0:
                continue  # adds nothing, to the last bit
            part = _seen(take(volume, ids), unscored, mean) * np.float32(weight)
            total = part if total is None else total + part
        assert total is not None
        yield total


def as_probabilities(scores: np.ndarray, unscored: int | None, mean: Mean) -> np.ndarray:
    """Probabilities (B, C, H, W) of what ``combined`` gives; of an arithmetic mean these themselves."""
    if mean == "arithmetic":
        return scores
    values = np.exp(scores)
    if unscored is not None:
        values[:, unscored] = 0
    return np.asarray(values / values.sum(1, keepdims=True))


def block_of(volume: Ragged) -> int:
    """How many images of a volume are put together at once: one by one where they differ in size."""
    return max(BLOCK, VALUES // max(1, int(volume.shapes[0].prod()))) if volume.uniform else 1


def take(volume: Ragged, ids: np.ndarray) -> np.ndarray:
    """The predictions of some ids as they are stored, (B, C, H, W); a view where they lie side by side."""
    rows = [volume.index[name] for name in ids.tolist()]
    if not volume.uniform:
        return np.stack([volume[row] for row in rows])
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return volume.stacked[rows[0] : rows[0] + len(rows)]
    return np.asarray(volume.stacked[rows])


def _seen(stored: np.ndarray, unscored: int | None, mean: Mean) -> np.ndarray:
    """What enters the sum, float32."""
    if mean == "arithmetic":
        return _allowed(stored.astype(np.float32), unscored)
    if stored.dtype == np.float16 and (unscored is None or not stored[:, unscored].any()):
        return np.asarray(LOGARITHMS[np.ascontiguousarray(stored).view(np.uint16)])
    return np.log(np.maximum(_allowed(stored.astype(np.float32), unscored), np.float32(FLOOR)))


def _allowed(probabilities: np.ndarray, unscored: int | None) -> np.ndarray:
    if unscored is None or not probabilities[:, unscored].any():
        return probabilities
    removed = probabilities[:, unscored : unscored + 1] > 0
    probabilities[:, unscored] = 0
    total: np.ndarray = probabilities.sum(1, keepdims=True)
    # only where something was removed: a pixel's label must not depend on the images that are decoded beside it
    return probabilities / np.where(removed, np.maximum(total, np.float32(1e-12)), np.float32(1))


def _fit(volumes: Sequence[Ragged], weights: Sequence[float]) -> None:
    """Weights and volumes belong together, or a UserError says why not."""
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
