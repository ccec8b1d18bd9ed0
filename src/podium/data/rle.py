"""Kaggle's run-length masks: ``start length start length ...``, counted from 1, down the columns, left to right."""

from __future__ import annotations

import re

import numpy as np

WHOLE = re.compile(r"[+-]?[0-9]{1,18}")  # what always fits into 64 bits


def encode(mask: np.ndarray) -> str:
    """The runs of True in a bool (H, W) mask as text, the fewest and in ascending order; "" for an empty mask."""
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"a mask is bool (H, W), not {mask.dtype} {mask.shape}")
    # With a False on both sides every run has a beginning and an end, and the edges alternate between the two.
    flat = np.zeros(mask.size + 2, np.bool_)
    flat[1:-1] = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    starts, ends = edges[::2], edges[1::2]
    return " ".join(map(str, np.column_stack([starts + 1, ends - starts]).ravel().tolist()))


def encode_each(numbers: np.ndarray) -> list[str]:
    """What ``encode`` makes of ``numbers == k`` for each k from 1 to the largest, all found in one pass.

    numbers: (H, W) whole numbers, 0 for no object; of a k that does not occur the text is empty.
    """
    if numbers.ndim != 2:
        raise ValueError(f"numbers are {numbers.shape}, expected (H, W)")
    flat = np.zeros(numbers.size + 2, np.int64)
    flat[1:-1] = numbers.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1])  # from edge to edge stands one number, behind the last one a zero
    owners = flat[1:][edges]
    lengths = np.diff(edges, append=len(flat) - 1)
    kept = np.flatnonzero(owners)
    kept = kept[np.argsort(owners[kept], kind="stable")]
    ends = np.searchsorted(owners[kept], np.arange(1, int(flat.max()) + 1), side="right")
    pairs = np.column_stack([edges[kept] + 1, lengths[kept]])
    return [" ".join(map(str, some.ravel().tolist())) for some in np.split(pairs, ends[:-1])] if len(ends) else []


def decode(text: str, height: int, width: int) -> np.ndarray:
    """The bool (height, width) mask that ``text`` describes; the inverse of ``encode``.

    Runs may touch, as some writers cut long runs. Raises ValueError with half a sentence, to which the caller adds
    the file and the row, where the numbers are odd in count or not whole numbers, and where a run starts before 1,
    is shorter than 1, ends outside the picture, or does not lie behind the one before it.
    """
    numbers = _numbers(text)
    if len(numbers) % 2:
        raise ValueError(f"has {len(numbers)} numbers, runs come in pairs of start and length")
    size = height * width
    starts, lengths = numbers[::2], numbers[1::2]
    if (run := _first(starts < 1)) is not None:
        raise ValueError(f"run {run + 1} starts at {starts[run]}, pixels are counted from 1")
    if (run := _first(lengths < 1)) is not None:
        raise ValueError(f"run {run + 1} has length {lengths[run]}, the shortest is 1")
    # Compared by subtraction, since start + length may not fit into 64 bits.
    if (run := _first(lengths > size - starts + 1)) is not None:
        raise ValueError(
            f"run {run + 1} (start {starts[run]}, length {lengths[run]}) ends behind the last of the "
            f"{height} × {width} = {size} pixels"
        )
    ends = starts + lengths - 1
    if (run := _first(starts[1:] <= ends[:-1])) is not None:
        raise ValueError(
            f"run {run + 2} starts at {starts[run + 1]}, not behind the run before it, which ends at {ends[run]}"
        )
    borders = np.concatenate([[0], np.column_stack([starts - 1, ends]).ravel(), [size]])
    inside = np.arange(len(borders) - 1) % 2 == 1
    return np.ascontiguousarray(np.repeat(inside, np.diff(borders)).reshape(width, height).T)


def _numbers(text: str) -> np.ndarray:
    """int64 (n,): the numbers in ``text``."""
    words = text.split()
    plain = text.isascii() and "_" not in text  # Python would read 1_000 and the digits of other scripts as numbers
    try:
        if plain or all(map(WHOLE.fullmatch, words)):
            return np.array(words, np.int64)
    except (ValueError, OverflowError):
        pass
    wrong = next(word for word in words if not WHOLE.fullmatch(word))
    raise ValueError(f"holds '{wrong[:40]}', which is not the number of a pixel")


def _first(wrong: np.ndarray) -> int | None:
    """Position of the first True, None where there is none."""
    return int(wrong.argmax()) if wrong.any() else None
