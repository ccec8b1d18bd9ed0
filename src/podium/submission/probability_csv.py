"""Submission format probability_csv: one row per image, an id and a column per class with its probability."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from podium.config import Competition
from podium.config_submission_formats import ProbabilityCsv
from podium.data.ragged import Ragged
from podium.submission.writing import check_probabilities, decimal, field, refuse, write_lines

ROWS = 1 << 14
"""Rows whose ids are held as text at a time."""


def write(path: Path, probabilities: Ragged, competition: Competition) -> None:
    """Write ``probabilities`` to exactly ``path``, and flush them to the disk.

    probabilities: float32 (C, 1, 1) per id, one for each of C classes; of ``task: multilabel`` (2, K, 1), no and yes to
    each of K questions, of which the yes is written. Each has so many digits that the same float32 comes back.

    A header, then a row per image in the order of ``probabilities``; lines end with LF. A probability that is no number
    and an id that holds a line break are a UserError; OSError is left to the caller, who knows the place.
    """
    settings, classes = competition.submission, competition.classes
    if not isinstance(settings, ProbabilityCsv):
        raise ValueError(f"{competition.name}: its submission is not a probability_csv")
    several = competition.task == "multilabel"
    check_probabilities(probabilities, 2 if several else len(classes))
    shape = (2, len(classes), 1) if several else (len(classes), 1, 1)
    if (probabilities.shapes != shape).any():
        raise ValueError(f"probabilities are not all of shape {shape}")
    columns = settings.wanted(classes)
    values = probabilities.stacked[:, 1, :, 0] if several else probabilities.stacked[:, :, 0, 0]
    header = ",".join(field(column) for column in (settings.id, *columns.values()))
    kept = [classes.index(name) for name in columns]
    write_lines(path, _lines(header, probabilities.ids, values, kept), settings.compress)


def _lines(header: str, ids: np.ndarray, values: np.ndarray, kept: list[int]) -> Iterator[str]:
    yield header
    for first in range(0, len(ids), ROWS):
        rows = values[first : first + ROWS, kept]
        for name, row, good in zip(ids[first : first + ROWS].tolist(), rows, np.isfinite(rows), strict=True):
            if not good.all():
                raise refuse(name, row[~good][0])
            yield f"{field(name)},{','.join(map(decimal, row))}"
