"""Random parameters: which samples are changed, and by what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass(frozen=True)
class Chosen:
    """The samples that something is done to, and its amounts, one row for each of them.

    Their numbers are known beside the device too (``at``, int64 (m,), rising; ``rows`` are the same there), so that only
    they are computed and nobody waits for the device to say which.
    """

    at: np.ndarray
    rows: torch.Tensor
    values: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def where(cls, wanted: torch.Tensor, values: Mapping[str, torch.Tensor] | None = None) -> Chosen:
        """Those of n samples for which ``wanted``, bool (n,), is true; of ``values``, (n, ...) each, their rows."""
        rows = wanted.nonzero()[:, 0]
        return cls(rows.numpy(), rows, {name: value[rows] for name, value in (values or {}).items()})

    def __len__(self) -> int:
        return len(self.at)

    def between(self, start: int, stop: int) -> Chosen:
        """Those among the samples ``start`` to ``stop``, counted from there."""
        low, high = (int(place) for place in np.searchsorted(self.at, (start, stop)))
        values = {name: value[low:high] for name, value in self.values.items()}
        return Chosen(self.at[low:high] - start, self.rows[low:high] - start, values)

    def to(self, device: torch.device) -> Chosen:
        """The same on another device."""
        return Chosen(self.at, self.rows.to(device), {name: value.to(device) for name, value in self.values.items()})

    def change(self, x: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """``x`` (B, ...) with the chosen samples as ``function`` makes them, of the same shape and type."""
        if not len(self):
            return x
        if len(self) == len(x):
            return function(x)
        made = function(x.index_select(0, self.rows))
        if x.device.type != "cpu":
            return x.index_copy(0, self.rows, made)
        samples = list(x.unbind(0))  # index_copy goes element by element here
        for row, sample in zip(self.at.tolist(), made.unbind(0), strict=True):
            samples[row] = sample
        return torch.stack(samples)


@dataclass(frozen=True)
class Draws:
    """The random parameters of ``n`` samples, for each step of the settings they were drawn for.

    A step of geometry has four groups of samples (``geometry.drawn``), any other one. Drawn on the CPU, so that every device
    gets the same.
    """

    n: int
    steps: tuple[tuple[Chosen, ...], ...]

    def __getitem__(self, rows: slice) -> Draws:
        """Those of consecutive samples."""
        start, stop, stride = rows.indices(self.n)
        if stride != 1:
            raise ValueError(f"a slice of every {stride}th sample; draws are taken of consecutive samples")
        stop = max(start, stop)
        return Draws(stop - start, tuple(tuple(one.between(start, stop) for one in step) for step in self.steps))

    def to(self, device: torch.device) -> Draws:
        """The same parameters on another device."""
        return Draws(self.n, tuple(tuple(one.to(device) for one in step) for step in self.steps))
