"""Which classes the metrics of masks are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from podium.data.chunk import NO_LABEL

Of = Literal["classes", "foreground"]


@dataclass(frozen=True)
class Regions:
    """Groups of class indices by name, each one region of an image, and the class whose pixels are not scored, if any."""

    names: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]
    unscored: int | None


def regions(classes: Sequence[str], unscored: int | None, of: Of) -> Regions:
    """Each class but the background by itself, or all of them joined as one.

    The background is the ``unscored`` class, or without one the first. The pixels of an unscored class are dropped, as if
    they had no label; those of a background that is scored are where nothing else may be predicted.
    """
    background = 0 if unscored is None else unscored
    others = tuple(i for i in range(len(classes)) if i != background)
    if of == "foreground":
        return Regions(("foreground",), (others,), unscored)
    return Regions(tuple(classes[i] for i in others), tuple((i,) for i in others), unscored)


def counted(truth: np.ndarray, unscored: int | None) -> np.ndarray:
    """The pixels that have a label that is scored, bool."""
    known = truth != NO_LABEL
    return known if unscored is None else known & (truth != unscored)
