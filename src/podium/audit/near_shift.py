"""By how many pixels one picture is shifted against another."""

from __future__ import annotations

import numpy as np


def margin(length: int, reach: int) -> int:
    """Pixels by which a copy may be shifted, which is also what is left out of the comparison at each border."""
    return reach * min(max(3, round(0.04 * length)), length // 8)


def best_shift(first: np.ndarray, second: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far down and right of the first the second lies, float64 (n,), and their correlation there.

    first, second: (n, h, w). The inner part of the first is correlated with every part of that size of the second,
    exactly, with no regard to what lies outside (normalised cross-correlation; Lewis 1995). Parts of a pixel come from
    a parabola through the peak.
    """
    from scipy.fft import irfft2, next_fast_len, rfft2

    count, height, width = first.shape
    tall, wide = margin(height, reach), margin(width, reach)
    inner = first[:, tall : height - tall, wide : width - wide]
    inner = inner - inner.mean(axis=(1, 2), keepdims=True)
    second = second - second.mean(axis=(1, 2), keepdims=True)
    size = (next_fast_len(height, True), next_fast_len(width, True))
    product = irfft2(rfft2(inner, size).conj() * rfft2(second, size), size)[:, : 2 * tall + 1, : 2 * wide + 1]
    area = inner[0].size
    spread = _box_sums(second * second, inner.shape[1:]) - _box_sums(second, inner.shape[1:]) ** 2 / area
    energy = np.einsum("nhw,nhw->n", inner, inner)
    faint = 1e-4 * area
    scale = np.sqrt(np.maximum(spread, faint) * np.maximum(energy, faint)[:, None, None])
    score = product / scale
    best = score.reshape(count, -1).argmax(axis=1)
    rows, columns = np.divmod(best, 2 * wide + 1)
    every = np.arange(count)
    return (
        rows - tall + _vertex(score[every, :, columns], rows),
        columns - wide + _vertex(score[every, rows, :], columns),
        score[every, rows, columns],
    )


def _box_sums(values: np.ndarray, box: tuple[int, ...]) -> np.ndarray:
    """Sums over every box inside (n, h, w) values, float64; from one box to the next only its ends change."""
    for axis, length in ((1, box[0]), (2, box[1])):
        start, end = np.split(values, [length], axis=axis)
        leaving = start.take(np.arange(end.shape[axis]), axis=axis)
        first = start.sum(axis=axis, keepdims=True, dtype=np.float64)
        values = np.concatenate([first, end.astype(np.float64) - leaving], axis=axis).cumsum(axis=axis)
    return values


def _vertex(line: np.ndarray, peak: np.ndarray) -> np.ndarray:
    """Distance from each line's peak, (n,) within (n, m), to the vertex of the parabola through it; 0 at the ends."""
    if line.shape[1] < 3:
        return np.zeros(len(line))
    middle = np.clip(peak, 1, line.shape[1] - 2)
    low, top, high = (line[np.arange(len(line)), middle + step].astype(np.float64) for step in (-1, 0, 1))
    bend = low - 2 * top + high
    vertex = np.divide(low - high, 2 * bend, out=np.zeros(len(line)), where=bend < -1e-9)
    return np.where(peak == middle, np.clip(vertex, -0.49, 0.49), 0.0)
