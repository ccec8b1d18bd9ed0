"""Mean and standard deviation per channel, gathered piece by piece."""

from __future__ import annotations

import numpy as np


class Moments:
    """Of whole numbers exactly, from histograms; of floats joined as Chan, Golub and LeVeque (1983) do."""

    def __init__(self, channels: int) -> None:
        self._counts: np.ndarray | None = None
        self._n = 0
        self._mean, self._squares = np.zeros(channels), np.zeros(channels)

    def add(self, images: np.ndarray) -> None:
        """Take in images (N, C, H, W) of uint8, uint16 or float32."""
        channels = [images[:, channel].reshape(-1) for channel in range(images.shape[1])]
        if images.dtype.kind == "u":
            top = int(np.iinfo(images.dtype).max) + 1
            found = np.stack([np.bincount(values, minlength=top) for values in channels])
            self._counts = found if self._counts is None else self._counts + found
            return
        more = len(channels[0])
        mean = np.array([values.mean(dtype=np.float64) for values in channels])
        squares = np.array(
            [((values - m) ** 2).sum(dtype=np.float64) for values, m in zip(channels, mean, strict=True)]
        )
        step, total = mean - self._mean, self._n + more
        self._squares += squares + step**2 * self._n * more / total
        self._mean += step * more / total
        self._n = total

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (of the whole, not of a sample), float64 (C,) each."""
        if self._counts is None:
            return self._mean, np.sqrt(self._squares / max(1, self._n))
        values = np.arange(self._counts.shape[1])
        mean = np.array([np.average(values, weights=counts) for counts in self._counts])
        variance = [np.average((values - m) ** 2, weights=counts) for counts, m in zip(self._counts, mean, strict=True)]
        return mean, np.sqrt(np.array(variance))
