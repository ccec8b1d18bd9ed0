"""How many images go through the nets at once: as many as was planned, or as memory turns out to hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from podium.errors import UserError
from podium.training.machine import Machine
from podium.training.memory import free, out_of_memory


class AtOnce:
    """Predicts images (M, C, h, w) ``size`` at a time, and says so once where that must become fewer.

    predict: called with some of the images and whether their views must go one after the other; gives their answers.
    Out of memory halves ``size`` and goes on with the same images. Where one image is too many, its views go one after the
    other; where that is too much as well, it is a UserError.
    """

    def __init__(
        self,
        predict: Callable[[torch.Tensor, bool], torch.Tensor],
        size: int,
        views: int,
        machine: Machine,
        note: Callable[[str], None],
    ) -> None:
        self.predict, self.size, self.machine, self.note = predict, size, machine, note
        self.apart = views == 1
        self._said = False

    def __call__(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """The answers, one piece after the other."""
        first = 0
        while first < len(images):
            some = images[first : first + self.size]
            answers = self._try(some)
            if answers is None:
                self._less(some)
                continue
            first += len(some)
            yield answers

    def _try(self, images: torch.Tensor) -> torch.Tensor | None:
        """None where memory did not suffice; by then nothing holds what was tried."""
        count = len(images)
        if self.machine.compile == "on" and count < self.size:  # a compiled net is compiled anew for every other size
            images = images[torch.arange(self.size).clamp(max=count - 1)]
        try:
            return self.predict(images, self.apart)[:count]
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        return None

    def _less(self, images: torch.Tensor) -> None:
        count, (height, width) = len(images), images.shape[2:]
        if count > 1:
            self.size = count // 2
            way = f"{self.size} go through the net at once" if self.size > 1 else "one goes through the net at a time"
        elif not self.apart:
            self.apart = True
            way = "its views go one after the other"
        else:
            raise UserError(
                f"prediction: one image of {height} x {width} under one view is too much for the memory of "
                f"{self.machine.name}; end what else uses that memory, set a smaller data.fit.size or a smaller net"
                + ("" if self.machine.torch_device.type == "cpu" else ", or take --device cpu")
            )
        if not self._said:
            what = f"{count} images" if count > 1 else "one image with all its views"
            self.note(f"memory ran out while predicting {what} at once: {way} from here on, or fewer if need be")
        self._said = True
        free(self.machine.torch_device)
