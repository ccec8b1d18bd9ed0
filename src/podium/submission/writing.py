"""What the writers share: a text as a csv field, names after a template, lines that end on the disk."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from podium.data.ragged import Ragged
from podium.errors import UserError

PLACEHOLDER = re.compile(r"\{(id|class)\}")


def check_labels(labels: Ragged, dtype: type[np.generic], values: int | None = None) -> None:
    """Raise where labels are not ``dtype`` with one channel, or hold a number that is not below ``values``.

    That there are none is a UserError, all else a ValueError: nothing a user does leads there.
    """
    if labels.values.dtype != dtype:
        raise ValueError(f"labels are {labels.values.dtype}, expected {np.dtype(dtype)}")
    if not len(labels):
        raise UserError("there are no labels to write: the test set is empty; check the competition's data.test")
    if (labels.shapes[:, 0] != 1).any():
        raise ValueError(f"labels have {labels.shapes[:, 0].max()} channels, expected 1")
    if values is not None and labels.values.max() >= values:
        raise ValueError(f"labels hold {labels.values.max()}, expected 0 to {values - 1}")


def field(text: str) -> str:
    """``text`` as a csv field, quoted only where it must be."""
    if any(mark in text for mark in "\n\r\0"):
        raise UserError(
            f"id {text!r} holds a line break or a null character, which no csv carries safely; rename that image"
        )
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow([text, ""])  # a second field, since a lone empty one would be quoted
    return buffer.getvalue()[:-1]


def named(template: str, name: str, class_name: str = "") -> str:
    """``template`` with an image's id and a class's name in their places, whatever marks these hold themselves."""
    texts = {"id": name, "class": class_name}
    return PLACEHOLDER.sub(lambda found: texts[found[1]], template)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write ``lines``, each with an LF, to exactly ``path`` as they come, and flush them to the disk."""
    with path.open("wb", buffering=1 << 20) as file:
        for line in lines:
            file.write(line.encode())
            file.write(b"\n")
        file.flush()
        os.fsync(file.fileno())
