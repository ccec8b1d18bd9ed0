"""torch.compile around a net, which must never be the reason that a training fails."""

from __future__ import annotations

from collections.abc import Callable

import torch

from podium.training.machine import Machine
from podium.training.memory import out_of_memory

Forward = Callable[[torch.Tensor], torch.Tensor]


def compiled(model: Forward, machine: Machine, note: Callable[[str], None]) -> Forward:
    """What to call instead of ``model``: the same answers, compiled where ``machine.compile`` is ``on``.

    On CUDA with graphs ("reduce-overhead"), since small batches spend their time in launching kernels. A net that cannot be
    compiled runs as it is, and ``note`` is told so once.
    """
    return _Compiled(model, machine.torch_device.type, note) if machine.compile == "on" else model


class _Compiled:
    def __init__(self, model: Forward, device: str, note: Callable[[str], None]) -> None:
        self.model, self.note, self.graphs = model, note, device == "cuda"
        self.run: Forward | None = None
        try:
            # dynamic=False: batches have one size, and code for one size is the fastest
            self.run = torch.compile(model, dynamic=False, mode="reduce-overhead" if self.graphs else "default")
        except Exception as error:
            self._give_up(error)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        if self.run is not None:
            try:
                if self.graphs:
                    torch.compiler.cudagraph_mark_step_begin()
                return self.run(images)
            except Exception as error:
                if out_of_memory(error):
                    raise
                self._give_up(error)
        return self.model(images)  # type: ignore[no-any-return]

    def _give_up(self, error: Exception) -> None:
        self.run = None
        said = " ".join(str(error).split())[:200]
        self.note(f"the net could not be compiled ({type(error).__name__}: {said}); it runs as it is")
