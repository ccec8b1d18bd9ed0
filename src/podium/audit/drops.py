"""Training rows that do not belong: masks pasted under many pictures, and pictures that occur more than once."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from podium.data.part import Part

NO_LABEL = 255


def find_outliers(part: Part, classes: Sequence[str], unscored: int | None) -> dict[str, str]:
    """Ids of outliers, each with the reason, in the order of the rows.

    A mask with two or more scored classes that several different pictures share cannot have been drawn for them.
    Masks of a single class (a tile of one terrain) are shared by honest pictures too, and a picture that occurs
    twice with its own mask is a duplicate, not an outlier: both stay.
    """
    if part.targets is None:
        raise ValueError(f"{part.name}: has no masks to search")
    pictures = duplicate_groups(part)
    sharing: dict[bytes, list[int]] = defaultdict(list)
    for row, mask in enumerate(part.targets):
        sharing[_digest(mask)].append(row)
    reasons: dict[int, str] = {}
    for rows in sharing.values():
        different = len(set(pictures[rows].tolist()))
        if different > 1 and _scored_classes(part.targets[rows[0]], len(classes), unscored) > 1:
            reasons |= dict.fromkeys(rows, f"mask shared by {different} different pictures")
    return {str(part.images.ids[row]): reasons[row] for row in sorted(reasons)}


def duplicate_groups(part: Part) -> np.ndarray:
    """int64 (N,): rows whose images are equal byte for byte have one number, counted by first occurrence."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(_digest(image), len(numbers)) for image in part.images], np.int64)


def _scored_classes(mask: np.ndarray, count: int, unscored: int | None) -> int:
    found = set(np.unique(mask).tolist()) - {NO_LABEL, unscored}
    return sum(value < count for value in found)


def _digest(array: np.ndarray) -> bytes:
    """Hash of an array's shape and bytes."""
    digest = hashlib.sha256(repr(array.shape).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
