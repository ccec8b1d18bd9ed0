"""Targets of any task as class indices: what folds balance and an audit counts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from podium.config import Competition
from podium.data.chunk import NO_LABEL
from podium.data.ragged import Ragged

BINS = 10
"""Classes that numbers are cut into, each with about as many images."""


def kinds(targets: Ragged, competition: Competition) -> tuple[Ragged, tuple[str, ...]]:
    """Class indices uint8 by id, 255 for no label, and the classes' names.

    Of questions each image has one value per question, its index where the answer is yes and 255 where it is no: an
    image holds the questions that it answers with yes. Numbers without classes become tenths of the training part, named
    by the numbers that they reach from and to. All other targets are class indices already.
    """
    if competition.task == "multilabel":
        questions = np.arange(len(competition.classes), dtype=np.uint8)[:, None]
        column = np.where(targets.stacked == 1, questions, NO_LABEL).astype(np.uint8)
        return Ragged.stack(column, targets.ids), competition.classes
    if targets.values.dtype != np.float32:
        return targets, competition.classes
    numbers = np.asarray(targets.values, np.float64)
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)))
    place = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, max(0, len(edges) - 2))
    names = [f"{low:g} to {high:g}" for low, high in pairwise(edges.tolist())] or [f"{edges[0]:g}"]
    return Ragged.stack(place.astype(np.uint8).reshape(-1, 1, 1, 1), targets.ids), tuple(names)
