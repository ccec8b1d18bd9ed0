"""Reading ahead and writing behind: two threads, so that nets wait neither for the images before them nor for the disk.

Beside them the copies to a GPU and back, for which nobody waits before the bytes are needed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch

WAITING = 2
"""Items that wait on either side of the nets: enough to even out, few enough to hold in memory."""
Key = TypeVar("Key")
Item = TypeVar("Item")


@contextmanager
def ahead(read: Callable[[Key], Item], keys: Iterable[Key], threads: int = 1) -> Iterator[Iterator[Item]]:
    """What ``read`` gives for the keys, in their order, read by other threads up to ``WAITING`` items ahead of each.

    An error of ``read`` is raised as it is, where its item would have come.
    """
    pool = ThreadPoolExecutor(threads, "read")

    def items() -> Iterator[Item]:
        waiting: deque[Future[Item]] = deque()
        for key in keys:
            waiting.append(pool.submit(read, key))
            if len(waiting) > WAITING * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield items()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def behind(write: Callable[[Item], None]) -> Iterator[Callable[[Item], None]]:
    """A function that leaves an item to another thread, which calls ``write`` with one after the other, in order.

    Where ``WAITING`` items wait already, it waits too. An error of ``write`` is raised as it is, by the next call or at the
    end, and nothing is written after it. All is written when the block ends; where it ends by an error, what waits is lost.
    """
    pool = ThreadPoolExecutor(1, "write")
    waiting: deque[Future[None]] = deque()
    failed = False

    def work(item: Item) -> None:
        nonlocal failed
        if failed:  # its error is on the way to the caller
            return
        try:
            write(item)
        except BaseException:
            failed = True
            raise

    def put(item: Item) -> None:
        while waiting and (len(waiting) > WAITING or waiting[0].done()):
            waiting.popleft().result()
        waiting.append(pool.submit(work, item))

    try:
        yield put
        while waiting:
            waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def from_host(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """The array as a tensor, for a GPU in pinned memory, from which it is copied while the caller goes on."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor
    with torch.cuda.device(device):  # a thread begins on the first GPU, and pinning there would take its memory
        return tensor.pin_memory()


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in pinned memory which may be read once the device has come so far (``Arriving``); on a CPU the tensor itself."""
    if tensor.device.type != "cuda":
        return tensor
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return copy.copy_(tensor, non_blocking=True)


class Arriving:
    """Tensors from ``to_host`` that may still be on their way; the one place where a batch is waited for."""

    def __init__(self, tensors: list[torch.Tensor], device: torch.device) -> None:
        self._tensors, self._event = tensors, None
        if device.type == "cuda":
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(device))

    def arrays(self) -> list[np.ndarray]:
        """The tensors as arrays, once they are there."""
        if self._event is not None:
            self._event.synchronize()
        return [tensor.numpy() for tensor in self._tensors]
