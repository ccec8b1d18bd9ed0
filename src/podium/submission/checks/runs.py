"""Masks as runs of pixels, as the checks read them."""

from __future__ import annotations

import numpy as np

from podium.submission.checks.report import short

DIGITS = 18
"""What a whole number may have, so that the sum of two fits into 64 bits."""


def ends_of_runs(text: str, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the runs in ``text`` begin and end, counted from 0, ends not in them; a ValueError says why they cannot be.

    That is half a sentence, whose subject the caller gives.
    """
    size = height * width
    words = [word for word in text.split(" ") if word]
    for wrong in [word for word in words if not (word.isascii() and word.isdigit() and len(word) <= DIGITS)][:1]:
        raise ValueError(f"holds {short(wrong)}, expected whole numbers with blanks between, or nothing")
    numbers = np.array(words, np.int64)
    if len(numbers) % 2:
        raise ValueError(f"holds {len(numbers)} numbers, expected pairs of start and length")
    starts, lengths = numbers.reshape(-1, 2).T
    for i in np.flatnonzero((starts < 1) | (lengths < 1))[:1].tolist():
        raise ValueError(f"run {i + 1} is '{starts[i]} {lengths[i]}', expected a start and a length of 1 or more")
    ends = starts + lengths
    for i in np.flatnonzero(ends > size + 1)[:1].tolist():
        raise ValueError(
            f"run {i + 1} is '{starts[i]} {lengths[i]}' and ends behind pixel {size}, the last of {height} × {width}"
        )
    for i in np.flatnonzero(starts[1:] < ends[:-1])[:1].tolist():
        raise ValueError(
            f"run {i + 2} starts at {starts[i + 1]}, expected behind run {i + 1}, which ends at {ends[i] - 1}: runs are "
            f"in ascending order and do not overlap"
        )
    return starts - 1, ends - 1


def decode(text: str, height: int, width: int) -> np.ndarray:
    """bool (height, width): the pixels that ``text`` names; a ValueError says in half a sentence why it cannot be."""
    starts, ends = ends_of_runs(text, height, width)
    return covered(starts, ends, height * width).reshape(width, height).T


def covered(starts: np.ndarray, ends: np.ndarray, size: int) -> np.ndarray:
    """bool (size,): what lies in the runs."""
    steps = np.zeros(size + 1, np.int8)
    steps[starts] += 1
    steps[ends] -= 1  # where runs touch, what one ends another begins
    return np.add.accumulate(steps[:size], dtype=np.int8).astype(np.bool_)


def first(where: np.ndarray) -> tuple[int, int]:
    """Row and column of the first True, row by row."""
    y, x = divmod(int(where.argmax()), where.shape[1])
    return y, x


def pixel(where: np.ndarray) -> str:
    """The first True as runs count pixels, and its row and column."""
    y, x = first(where)
    return f"pixel {1 + x * where.shape[0] + y} (row {y}, column {x})"
