"""Work done on all cores with memory for a few pieces of it at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

from podium.cores import cores

A = TypeVar("A")
B = TypeVar("B")
AHEAD = 2
"""Pieces for each core that are there at once."""


def each(work: Callable[[A], B], pieces: Iterable[A]) -> Iterator[B]:
    """``work`` of every piece, in their order, by a thread for each core; of one core, or one piece, by this one.

    Unlike ``Executor.map`` it takes pieces from a generator only as they are needed.
    """
    rest = iter(pieces)
    first = list(islice(rest, 2))
    if len(first) < 2 or cores() < 2:
        yield from map(work, chain(first, rest))
        return
    with ThreadPoolExecutor(cores()) as pool:
        waiting: deque[Future[B]] = deque()
        for piece in chain(first, rest):
            waiting.append(pool.submit(work, piece))
            if len(waiting) >= AHEAD * cores():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
