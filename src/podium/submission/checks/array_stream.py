"""An array in numpy's own format, read as it comes: what its head says, then its values, and never an object."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

MAGIC = b"\x93NUMPY"
LONGEST = 10_000
"""Bytes that a head may have: numpy's own limit for heads that it reads without being told to trust them."""
PIECE = 1 << 20
"""Bytes of values that are read at a time; an image that has more is read as a whole."""


class BadArray(ValueError):
    """Why an array cannot be used, as the end of a sentence."""


@dataclass(frozen=True)
class Head:
    """What stands before the values."""

    shape: tuple[int, ...]
    dtype: np.dtype


def read_head(stream: IO[bytes]) -> Head:
    """The head of an array in C order, which leaves the stream at its values; all else is a BadArray."""
    start = stream.read(8)
    if len(start) < 8 or not start.startswith(MAGIC):
        raise BadArray(f"is no array of numpy, it begins with {start[:8]!r}")
    if start[6] not in (1, 2, 3):
        raise BadArray(f"is an array of numpy's format {start[6]}.{start[7]}, expected 1.0")
    size = int.from_bytes(stream.read(2 if start[6] == 1 else 4), "little")
    text = stream.read(size) if size <= LONGEST else b""
    if size > LONGEST or len(text) != size:
        raise BadArray("has a head that is cut off or too long")
    try:
        head = ast.literal_eval(text.decode("utf-8" if start[6] == 3 else "latin1").strip())
        descr, fortran, shape = head["descr"], head["fortran_order"], head["shape"]
        dtype = np.dtype(descr) if isinstance(descr, str) else None
    except Exception:  # whatever a foreign text makes the parser raise
        raise BadArray("has a head that cannot be read") from None
    sizes = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
    if dtype is None or not isinstance(fortran, bool) or not sizes:
        raise BadArray("is no plain array of one type of values")
    if dtype.hasobject:
        raise BadArray("holds Python objects (a pickle), which are never read; save numbers")
    if fortran and len(shape) > 1:
        raise BadArray("is in Fortran order (column by column), expected C order; save np.ascontiguousarray of it")
    return Head(shape, dtype)


def blocks(stream: IO[bytes], head: Head) -> Iterator[np.ndarray]:
    """The values in pieces (n, ...) along the first axis; of a single value one of (1,). More or fewer are a BadArray."""
    shape = head.shape or (1,)
    row = math.prod(shape[1:]) * head.dtype.itemsize
    step = max(1, PIECE // max(1, row))
    for first in range(0, shape[0], step):
        rows = min(step, shape[0] - first)
        content = stream.read(rows * row)
        if len(content) != rows * row:
            missing = (shape[0] - first) * row - len(content)
            raise BadArray(f"is cut off: {missing} bytes of its values are missing")
        yield np.frombuffer(content, head.dtype).reshape(rows, *shape[1:])
    if stream.read(1):
        raise BadArray("has bytes behind its values")
