"""Out of memory: how it is told from other errors, and how what is unused is given back before the next attempt."""

from __future__ import annotations

import gc

import torch

# as the allocators of CPUs (Linux; Windows), CUDA, cuBLAS and cuDNN say it where torch has no class for it
_SAID = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory, of the device or of the host, did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAID)


def free(device: torch.device) -> None:
    """Give back what nobody uses. To be called outside the ``except`` clause: a traceback keeps its frames' tensors."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
