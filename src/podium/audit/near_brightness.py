"""Brightness and contrast by which one picture becomes another, clipped as pixels are."""

from __future__ import annotations

import numpy as np

from podium.audit.near_pictures import luma


def unexplained(first: np.ndarray, second: np.ndarray, rounds: int = 4, tile: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Slope (n,), and the rest of ``second`` after the best clip(slope × first + offset), (n, C, h, w).

    One slope and offset serve all channels. They are fitted to brightness in tiles, since what compression takes
    from fine detail would otherwise pass for a loss of contrast. Pixels at the ends of the range may have been clipped:
    the fit is made with them, then repeatedly without those that it expects there, and the best one is kept.
    """
    low, high = second.min(axis=(1, 2, 3), keepdims=True), second.max(axis=(1, 2, 3), keepdims=True)
    at_low, at_high = second <= low + 1, second >= high - 1
    centre = first.mean(axis=(1, 2, 3))
    x, y = (luma(pixels) - centre[:, None, None] for pixels in (first, second))
    whole = np.einsum("nhw,nhw->n", x, x)
    weight = np.ones_like(x)
    least = np.full(len(x), np.inf)
    slope, left = np.zeros(len(x), np.float32), np.empty_like(second)
    for step in range(rounds):
        steepness, offset = _line(x, y, weight, tile)
        fitted = steepness[:, None, None, None] * first + (offset + centre - steepness * centre)[:, None, None, None]
        rest = second - np.clip(fitted, low, high)
        energy = np.einsum("nchw,nchw->n", rest, rest)
        better = energy < least
        least[better], slope[better], left[better] = energy[better], steepness[better], rest[better]
        if step + 1 < rounds:
            clipped = (at_high & (fitted > high - 2)) | (at_low & (fitted < low + 2))
            weight = (~clipped.any(axis=1)).astype(np.float32)
            weight[np.einsum("nhw,nhw,nhw->n", weight, x, x) < 0.02 * whole] = 1
    return slope, left


def _line(x: np.ndarray, y: np.ndarray, weight: np.ndarray, tile: int) -> tuple[np.ndarray, np.ndarray]:
    """Slope and offset, (n,) each, of y over x, (n, h, w), by least squares over the means of tiles."""
    share = np.maximum(tiles(weight, tile), 1e-6)
    near, far = tiles(weight * x, tile) / share, tiles(weight * y, tile) / share
    share /= share.sum(axis=(1, 2), keepdims=True)
    mean_near, mean_far = (share * near).sum(axis=(1, 2)), (share * far).sum(axis=(1, 2))
    share *= near - mean_near[:, None, None]
    slope = (share * far).sum(axis=(1, 2)) / np.maximum((share * near).sum(axis=(1, 2)), 1e-3)
    return slope, mean_far - slope * mean_near


def tiles(values: np.ndarray, size: int = 4) -> np.ndarray:
    """Means (..., i, j) over tiles of ``size`` × ``size`` pixels of (..., h, w); what is left at the end belongs to none."""
    height, width = values.shape[-2:]
    tall, wide = max(1, height // size), max(1, width // size)
    high, broad = height // tall, width // wide
    # Sums of strided views are many times faster than a mean over two short axes.
    rows = _add([values[..., step : tall * high : high, :] for step in range(high)])
    return _add([rows[..., step : wide * broad : broad] for step in range(broad)]) / (high * broad)


def _add(parts: list[np.ndarray]) -> np.ndarray:
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total
