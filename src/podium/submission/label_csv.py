"""Submission format label_csv: one row per image, an id and its class, its number or its yes and no."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from podium.config import Competition
from podium.config_submission_formats import LabelCsv
from podium.data.ragged import Ragged
from podium.submission.writing import check_labels, decimal, field, refuse, write_lines

ROWS = 1 << 14
"""Rows whose ids are held as text at a time."""


def write(path: Path, labels: Ragged, competition: Competition) -> None:
    """Write ``labels`` to exactly ``path``, and flush them to the disk.

    labels: uint8 (1, 1, 1) class indices per id; of ``task: multilabel`` uint8 (1, K, 1), 0 or 1 for each of K classes;
    of ``task: regression`` without classes float32 (1, 1, 1), written with so many digits that float32 comes back.

    A header, then a row per image in the order of ``labels``; lines end with LF. A number that is none and an id that
    holds a line break are a UserError; OSError is left to the caller, who knows the place.
    """
    settings = competition.submission
    if not isinstance(settings, LabelCsv):
        raise ValueError(f"{competition.name}: its submission is not a label_csv")
    several = competition.task == "multilabel"
    real = competition.task == "regression" and not competition.classes
    check_labels(labels, np.float32 if real else np.uint8, None if real else 2 if several else len(competition.classes))
    width = len(competition.classes) if several else 1
    if (labels.shapes != (1, width, 1)).any():
        raise ValueError(f"labels are not all of shape {(1, width, 1)}")
    text, columns = _number if real else _index(competition, settings), [settings.label_column]
    if several and settings.style == "joined":
        text = _joined(competition, settings)
    elif several:
        text, columns = _columns, list(competition.classes)
    header = ",".join(field(column) for column in (settings.id, *columns))
    write_lines(path, _lines(header, labels, width, text), settings.compress)


def _lines(header: str, labels: Ragged, width: int, text: Callable[[np.ndarray], str]) -> Iterator[str]:
    yield header
    values = labels.values.reshape(len(labels), width)
    for first in range(0, len(labels), ROWS):
        names = labels.ids[first : first + ROWS].tolist()
        for name, row in zip(names, values[first : first + ROWS], strict=True):
            if not np.isfinite(row[0]):
                raise refuse(name, row[0])
            yield f"{field(name)},{text(row)}"


def _number(row: np.ndarray) -> str:
    return decimal(row[0])


def _index(competition: Competition, settings: LabelCsv) -> Callable[[np.ndarray], str]:
    words = [field(name) if settings.names else str(i) for i, name in enumerate(competition.classes)]
    return lambda row: words[row[0]]


def _joined(competition: Competition, settings: LabelCsv) -> Callable[[np.ndarray], str]:
    words = [name if settings.names else str(i) for i, name in enumerate(competition.classes)]
    return lambda row: field(" ".join(words[i] for i in np.flatnonzero(row)))


def _columns(row: np.ndarray) -> str:
    return ",".join(map(str, row.tolist()))
