"""Submission format npy: labels or probabilities of all images as one array of numpy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from podium.config import Competition
from podium.config_submission_formats import Npy, Npz
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.submission.writing import check_labels, check_probabilities, flushed, refuse

PIECE = 1 << 20
"""Values that are turned into the file's type at a time; an image that has more is turned as a whole."""


def write(path: Path, given: Ragged, competition: Competition) -> None:
    """Write labels or probabilities to exactly ``path``, and flush them to the disk.

    given: see ``check``. The array is what ``config_submission_formats.ArrayFormat`` says, in the order of ``given``, C
    order and little-endian. Memory does not grow with the number of images.

    Sizes that differ and a prediction that is no number are a UserError; OSError is left to the caller, who knows the
    place.
    """
    settings = competition.submission
    if not isinstance(settings, Npy):
        raise ValueError(f"{competition.name}: its submission is not an npy")
    check(given, competition, settings)
    uniform(given, "an npy submission needs images of one size", "use submission.format: npz with key: '{id}'")
    with flushed(path) as file:
        write_all(file, given, competition, settings)


def check(given: Ragged, competition: Competition, settings: Npy | Npz) -> None:
    """Raise where ``given`` is not what an array is made of; that there is nothing is a UserError, all else a ValueError.

    Labels: uint8 (1, H, W) class indices per id, (1, 1, 1) of labels, (1, K, 1) of K questions; of numbers float32
    (1, 1, 1). Probabilities: float32 (C, H, W) or (C, 1, 1), of K questions (2, K, 1), no and yes.
    """
    if settings.of == "probabilities":
        check_probabilities(given, competition.answers)
    elif competition.numbers and not competition.ordinal:
        check_labels(given, np.float32)
    else:
        check_labels(given, np.uint8, 2 if competition.task == "multilabel" else len(competition.classes))
    if not competition.masks and (given.shapes[:, 1:] != competition.column).any():
        raise ValueError(f"predictions are not all of height and width {competition.column}")


def uniform(given: Ragged, needs: str, way_out: str) -> None:
    """Refuse images of several sizes."""
    if not given.uniform:
        sizes = {tuple(shape) for shape in given.shapes[:, 1:].tolist()}
        raise UserError(f"{needs}, these {len(given)} have {len(sizes)} sizes; {way_out}")


def write_all(file: BinaryIO, given: Ragged, competition: Competition, settings: Npy | Npz) -> None:
    """One array with all images, which are of one size, some at a time."""
    pieces = _pieces(given, competition, settings)
    shape, dtype = said(given.stacked[:1], competition, settings).shape[1:], dtype_of(competition, settings)
    write_header(file, (len(given), *shape), dtype)
    for some in pieces:
        file.write(np.ascontiguousarray(some, dtype).data)


def dtype_of(competition: Competition, settings: Npy | Npz) -> np.dtype:
    """The type of the file's values."""
    return np.dtype(settings.stored(competition.numbers and not competition.ordinal)).newbyteorder("<")


def write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """What stands before an array's values."""
    head = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, head)


def said(block: np.ndarray, competition: Competition, settings: Npy | Npz) -> np.ndarray:
    """Of predictions (B, C, H, W) what the file holds of them: (B, H, W), (B, C, H, W), (B, C), (B, K) or (B,)."""
    if settings.of == "probabilities":
        if competition.masks:
            return block
        return block[:, 1, :, 0] if competition.task == "multilabel" else block[:, :, 0, 0]
    if competition.masks:
        return block[:, 0]
    return block[:, 0, :, 0] if competition.task == "multilabel" else block[:, 0, 0, 0]


def finite(block: np.ndarray, ids: np.ndarray) -> None:
    """Refuse predictions (B, ...) that are no numbers."""
    if block.dtype.kind == "f" and not np.isfinite(block).all():
        at, value = next((i, row[~np.isfinite(row)][0]) for i, row in enumerate(block) if not np.isfinite(row).all())
        raise refuse(str(ids[at]), value)


def _pieces(given: Ragged, competition: Competition, settings: Npy | Npz) -> Iterator[np.ndarray]:
    step = max(1, PIECE // max(1, int(given.shapes[0].prod())))
    for first in range(0, len(given), step):
        block = said(given.stacked[first : first + step], competition, settings)
        finite(block, given.ids[first : first + step])
        yield block
