"""Features: a few hundred numbers per image (thumbnail, colour, contrast, gradients), and their principal components."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from podium.data.ragged import Ragged

BATCH_BYTES = 16 << 20  # of float32 grey pixels at once; larger ones leave the processor's cache anyway
SAMPLE = 20_000  # rows that principal components are computed on
_FOLDS = 5
_ANGLES = 8
_QUANTILES = np.linspace(0, 1, 9)


def batches(images: Ragged, bytes_at_once: int = BATCH_BYTES) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every image once, as (rows, stack): int64 (n,) and (n, C, H, W), images of one size together.

    Images of one size are views into ``images``, no copies. Rows ascend within a size; sizes come by first occurrence.
    """
    if len(images) == 0:
        return
    rows = np.arange(len(images))
    if images.uniform:
        for part in _cut(rows, images.shapes[0], bytes_at_once):
            yield part, images.stacked[part[0] : part[-1] + 1]
        return
    shapes, first, member = np.unique(images.shapes, axis=0, return_index=True, return_inverse=True)
    for number in np.argsort(first).tolist():
        for part in _cut(rows[member.reshape(-1) == number], shapes[number], bytes_at_once):
            yield part, np.stack([images[row] for row in part.tolist()])


def _cut(rows: np.ndarray, shape: np.ndarray, bytes_at_once: int) -> Iterator[np.ndarray]:
    step = max(1, bytes_at_once // (4 * max(1, int(shape.prod()))))
    return (rows[start : start + step] for start in range(0, len(rows), step))


def features(images: Ragged, size: int = 32) -> np.ndarray:
    """Describe every image, float32 (N, D), comparable between the parts of one competition.

    Images are averaged over areas to ``size`` × ``size``. The features are a grey thumbnail of half that size; for
    each of several channels its difference from grey on a quarter of it; nine quantiles of grey; the mean gradient in
    eight directions in the four quarters of the image; and how much contrast and sharpness the averaging took away.
    Nothing is taken from the other images: all features are in the units of the pixels, and fixed weights keep a
    block of many from drowning one of few. Where images differ in channels, only grey counts. Values that are not
    finite count as 0.
    """
    if size < 8 or size % 4:
        raise ValueError(f"size is {size}, it must be a multiple of 4 and at least 8")
    same = len(images) > 0 and bool((images.shapes[:, 0] == images.shapes[0, 0]).all())
    channels = int(images.shapes[0, 0]) if same else 1
    described = [(rows, _describe(stack, size, channels)) for rows, stack in batches(images)]
    out = np.zeros((len(images), described[0][1].shape[1] if described else 0), np.float32)
    for rows, block in described:
        out[rows] = block
    return out


def _describe(stack: np.ndarray, size: int, channels: int) -> np.ndarray:
    """(n, C, H, W) → float32 (n, D)."""
    n = len(stack)
    pixels = stack.astype(np.float32)
    if stack.dtype.kind == "f":
        np.nan_to_num(pixels, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    grey = pixels.mean(axis=1)
    small = average(grey, size, size)
    thumbnail = small.reshape(n, size // 2, 2, size // 2, 2).mean(axis=(2, 4))
    colour = average(pixels - grey[:, None], size // 4, size // 4) if channels > 1 else np.zeros((n, 0))
    quantiles = np.quantile(small.reshape(n, -1), _QUANTILES, axis=1, method="nearest").T
    lost = grey.reshape(n, -1).std(axis=1) - small.reshape(n, -1).std(axis=1)
    steps = np.concatenate([np.abs(np.diff(grey, axis=axis)).reshape(n, -1) for axis in (1, 2)], axis=1)
    sharp = steps.mean(axis=1) if steps.shape[1] else np.zeros(n)
    blocks = (
        (thumbnail, 1.0),
        (colour, 1.0),
        (quantiles, 0.5),
        (_gradients(small), 8.0),
        (np.stack([lost, sharp], 1), 2.0),
    )
    weighted = [part.reshape(n, -1) * (weight / max(1, part[0].size) ** 0.5) for part, weight in blocks]
    return np.concatenate(weighted, axis=1, dtype=np.float32)


def _gradients(grey: np.ndarray) -> np.ndarray:
    """Mean gradient by direction (sign left aside) in the four quarters: (n, S, S) → (n, 4 · 8)."""
    n, size, _ = grey.shape
    down, right = np.gradient(grey, axis=(1, 2))
    length = np.hypot(down, right)
    angle = np.floor(np.mod(np.arctan2(down, right), np.pi) * (_ANGLES / np.pi)).astype(np.int64) % _ANGLES
    half = np.arange(size) * 2 // size
    cell = (half[:, None] * 2 + half[None]) * _ANGLES + angle + np.arange(n)[:, None, None] * (4 * _ANGLES)
    sums = np.bincount(cell.reshape(-1), weights=length.reshape(-1), minlength=n * 4 * _ANGLES)
    return sums.reshape(n, 4 * _ANGLES) * (4 / size**2)


def average(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Mean over the area of every cell of a coarser grid: (..., H, W) → (..., height, width); smaller images repeat."""
    down, across = _weights(images.shape[-2], height), _weights(images.shape[-1], width)
    return down @ (images @ across.T)


def _weights(length: int, cells: int) -> np.ndarray:
    """float32 (cells, length): how much of each pixel lies in each cell, rows sum to 1."""
    edges = np.arange(cells + 1) * (length / cells)
    pixel = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return (np.clip(overlap, 0, None) * (cells / length)).astype(np.float32)


def principal(table: np.ndarray, components: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of ``features`` and what they leave unexplained.

    table: float (N, D). Returns float32 ``principal_scores`` (N, K) and float64 residuals (N,): the 4-norm of a row's
    unexplained part, so that a small odd object counts for more than a slight difference everywhere. A row is
    explained by components found without it (5 folds, drawn by ``seed``), as a lone odd image bends a component
    towards itself and would then be explained best of all. The components are found on at most 20,000 rows.
    """
    table = np.ascontiguousarray(table, np.float32)
    fold = np.random.default_rng(seed).permutation(len(table)) % _FOLDS
    residual = np.zeros(len(table))
    for number in range(_FOLDS):
        inside, outside = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        pca = _fit(table, outside, components, seed)
        for start in range(0, len(inside) if pca else 0, SAMPLE):
            rows = inside[start : start + SAMPLE]
            rest = table[rows] - pca.inverse_transform(pca.transform(table[rows]))
            residual[rows] = np.square(np.square(rest, dtype=np.float64)).sum(axis=1) ** 0.25
    return principal_scores(table, components, seed), residual


def principal_scores(table: np.ndarray, components: int = 64, seed: int = 0) -> np.ndarray:
    """Rows (N, D) on at most ``components`` principal components, float32 (N, K); one column of 0 where all are equal."""
    table = np.ascontiguousarray(table, np.float32)
    pca = _fit(table, np.arange(len(table)), components, seed)
    if pca is None:
        return np.zeros((len(table), 1), np.float32)
    parts = [pca.transform(table[start : start + SAMPLE]) for start in range(0, len(table), SAMPLE)]
    return np.concatenate(parts, dtype=np.float32)


def _fit(table: np.ndarray, rows: np.ndarray, components: int, seed: int) -> Any:
    """sklearn's PCA by the randomised solver (Halko et al. 2011) on at most 20,000 of ``rows``; None for too few."""
    from sklearn.decomposition import PCA

    chosen = rows if len(rows) <= SAMPLE else np.sort(np.random.default_rng(seed).permutation(rows)[:SAMPLE])
    known = table[chosen]
    # few rows must not be explained wholly, or none would be odd
    count = min(components, table.shape[1], max(1, len(known) // 4), len(known) - 1)
    if count < 1 or (known == known[0]).all():
        return None
    return PCA(count, svd_solver="randomized", random_state=seed).fit(known)
