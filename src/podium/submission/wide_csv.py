"""Submission format wide_csv: one row per image, an id and one column per pixel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from podium.config import Competition
from podium.config_submission_formats import WideCsv
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.submission.writing import check_labels, csv_file, field

PIECE = 1 << 20
"""Pixels that are turned into text at a time: at most 4 MB of text, and a few arrays of the like while it is made."""


def write(path: Path, labels: Ragged, competition: Competition) -> None:
    """Write ``labels``, uint8 (1, H, W) per id and all of one size, to exactly ``path``, and flush it to the disk.

    Header ``id,0,1,...,P-1``, then a row per image in the order of ``labels``: its id and its P = H * W pixels row by
    row, as integers; lines end with LF. Memory above the array stays below 50 MB whatever the number of images.
    Sizes that differ and ids that hold a line break are a UserError; OSError is left to the caller, who knows the
    place.
    """
    settings = competition.submission
    if not isinstance(settings, WideCsv):
        raise ValueError(f"{competition.name}: its submission is not a wide_csv")
    images = _matrix(labels)
    starts = [field(name).encode() for name in labels.ids.tolist()]
    with csv_file(path, settings.compress) as file:
        file.write((",".join([field(settings.id), *map(str, range(images.shape[1]))]) + "\n").encode())
        if images.shape[1] <= PIECE:
            _write_rows(file, starts, images)
        else:
            _write_long_rows(file, starts, images)


def _matrix(labels: Ragged) -> np.ndarray:
    """The labels as a uint8 view (N, P)."""
    check_labels(labels, np.uint8)
    if not labels.uniform:
        sizes = {tuple(shape) for shape in labels.shapes[:, 1:].tolist()}
        raise UserError(
            f"a wide_csv submission needs images of one size, these {len(labels)} have {len(sizes)} sizes; correct "
            f"submission.format of the competition"
        )
    return labels.values.reshape(len(labels), -1)


def _write_rows(file: BinaryIO, starts: list[bytes], images: np.ndarray) -> None:
    step = max(1, PIECE // images.shape[1])
    for first in range(0, len(images), step):
        chunk = images[first : first + step]
        pieces: list[bytes | memoryview] = []
        for start, cells in zip(starts[first : first + step], _texts(chunk), strict=True):
            pieces += (start, cells, b"\n")
        file.write(b"".join(pieces))


def _write_long_rows(file: BinaryIO, starts: list[bytes], images: np.ndarray) -> None:
    """Rows too long to be held as text: piece by piece."""
    for start, row in zip(starts, images, strict=True):
        file.write(start)
        for first in range(0, len(row), PIECE):
            file.writelines(_texts(row[None, first : first + PIECE]))
        file.write(b"\n")


def _texts(chunk: np.ndarray) -> Iterator[bytes | memoryview]:
    """The text of each row of ``chunk`` (n, p), every value with a comma before it."""
    if chunk.max() < 10:
        cells = np.empty((*chunk.shape, 2), np.uint8)
        cells[..., 0] = ord(",")
        np.add(chunk, ord("0"), out=cells[..., 1])
        yield from (row.data for row in cells.reshape(len(chunk), -1))
    else:
        yield from (NUMBERS[row][USED[row]].tobytes() for row in chunk)


NUMBERS = np.array([list(f",{value}".ljust(4).encode()) for value in range(256)], np.uint8)
"""(256, 4): the text of each value, a comma before it and blanks behind it."""
USED = np.not_equal(NUMBERS, ord(" "))
