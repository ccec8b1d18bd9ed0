"""What predictions look like as a whole: how often each class occurs, and where in the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from podium.data.chunk import NO_LABEL
from podium.data.ragged import Ragged

FAR = 3.0
"""A class that is predicted so many times as often as it occurs in training, or as seldom, is worth a look."""
FEW = 0.005
"""Classes rarer than this, in both, are not judged: nets rarely find them."""
CLEARLY = 0.6
"""A reading is suspected where its profiles lie so much nearer to those of the training masks."""
VISIBLE = 0.02
"""Mean difference of profiles below which two readings are not told apart."""


def odd_shares(
    counts: Sequence[int], training: Sequence[int], classes: Sequence[str], unscored: int | None
) -> list[str]:
    """Warnings where classes are predicted much more or less often than they occur in training.

    counts, training: pixels or images per class. The unscored class is left out of both.
    """
    scored = [k for k in range(len(classes)) if k != unscored]
    mine, theirs = (np.array([values[k] for k in scored], np.float64) for values in (counts, training))
    if not mine.sum() or not theirs.sum():
        return []
    mine, theirs = mine / mine.sum(), theirs / theirs.sum()
    found = []
    for k, now, before in zip(scored, mine.tolist(), theirs.tolist(), strict=True):
        if max(now, before) >= FEW and (now > FAR * before or before > FAR * now):
            found.append(f"'{classes[k]}' is {now:.2%} of what is predicted and {before:.2%} of the training labels")
    return found


def profiles(masks: Sequence[np.ndarray], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Share of each class in every row, (H, C), and every column, (W, C), over masks of one size; 255 is no label."""
    height, width = masks[0].shape
    rows, columns = np.zeros((height, classes)), np.zeros((width, classes))
    for mask in masks:
        for k in range(classes):
            here = mask == k
            rows[:, k] += here.sum(1)
            columns[:, k] += here.sum(0)
    return _shares(rows), _shares(columns)


def transposed(labels: np.ndarray, training: Ragged, classes: int) -> str | None:
    """A warning where masks read column by column look far more like the training masks than as they are.

    labels: uint8 (N, H, W) as a file gives them, row by row. training: masks (1, H, W) of the same size. Where classes have
    their places in the picture, sky above and soil below, swapped axes smear them.
    """
    height, width = labels.shape[1:]
    if not training.uniform or tuple(training.shapes[0, 1:].tolist()) != (height, width) or min(height, width) < 2:
        return None
    wanted = profiles([np.where(mask[0] == NO_LABEL, classes, mask[0]) for mask in training], classes)
    other = labels.reshape(len(labels), width, height).transpose(0, 2, 1)  # the same numbers, read column by column
    as_it_is, turned = (
        float(np.mean([np.abs(a - b).mean() for a, b in zip(profiles(list(masks), classes), wanted, strict=True)]))
        for masks in (labels, other)
    )
    if as_it_is < VISIBLE or turned > CLEARLY * as_it_is:
        return None
    return (
        f"read column by column the masks lie nearer to the training masks (mean difference of the classes' shares by row and "
        f"column {turned:.3f}, as they are {as_it_is:.3f}): are rows and columns swapped?"
    )


def agreement(labels: np.ndarray, ours: np.ndarray) -> tuple[float, float, float]:
    """Share of pixels that are as in other predictions, (N, H, W) both: as they are, read column by column, and with each
    image beside the one before it."""
    height, width = labels.shape[1:]
    turned = labels.reshape(len(labels), width, height).transpose(0, 2, 1)
    shifted = np.roll(labels, 1, axis=0)
    return float((labels == ours).mean()), float((turned == ours).mean()), float((shifted == ours).mean())


def _shares(counts: np.ndarray) -> np.ndarray:
    total = counts.sum(1, keepdims=True)
    return np.asarray(counts / np.where(total > 0, total, 1))
