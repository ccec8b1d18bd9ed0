"""Nearest neighbours in time that grows nearly linearly: trees of random cuts, whose leaves are searched whole.

Points that lie far nearer to each other than to the rest are seldom parted by a cut at the median of a random direction
(random projection trees, Dasgupta and Freund 2008), and hardly ever in all trees.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

LEAF = 128
TREES = 10
_PADDING = -1


def near_pairs(
    points: np.ndarray, count: int, bound: float, side: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Pairs of rows that may be copies, int64 (P, 2), the lower row first, ascending and without repetition.

    points: float32 (N, D). Each row is paired with up to ``count`` nearest others that the trees find within ``bound``;
    up to LEAF rows the search is exhaustive. side: bool (N,); where given, only rows of different sides are paired.
    """
    found = [_nearest_in_leaves(points, leaves, count, bound, side) for leaves in _trees(points, seed)]
    if not found:
        return np.zeros((0, 2), np.int64)
    row, other, distance = (np.concatenate(columns) for columns in zip(*found, strict=True))
    order = np.lexsort((other, row))
    row, other, distance = row[order], other[order], distance[order]
    new = np.ones(len(row), bool)
    new[1:] = (row[1:] != row[:-1]) | (other[1:] != other[:-1])
    row, other, distance = row[new], other[new], distance[new]
    order = np.lexsort((other, distance, row))
    row, other = row[order], other[order]
    first = np.searchsorted(row, row, side="left")
    kept = np.arange(len(row)) - first < count
    pairs = np.sort(np.stack([row[kept], other[kept]], axis=1), axis=1)
    return np.unique(pairs, axis=0)


def _trees(points: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Leaves of one tree after the other, int64 (leaves, size), filled up with -1."""
    total, dimensions = points.shape
    if total < 2:
        return
    levels = max(0, int(np.ceil(np.log2(total / LEAF))))
    size = -(-total // 2**levels) * 2**levels
    rng = np.random.Generator(np.random.PCG64(seed))
    for _ in range(TREES if levels else 1):
        leaves = np.full((1, size), _PADDING)
        leaves[0, :total] = np.arange(total)
        for _ in range(levels):
            direction = np.asarray(rng.standard_normal(dimensions), np.float32)
            # The padding lies at infinity, so it gathers in the last leaves and all others are full.
            places = np.append(points @ direction, np.float32(np.inf))[leaves]
            half = leaves.shape[1] // 2
            cut = np.argpartition(places, half - 1, axis=1)
            leaves = np.take_along_axis(leaves, cut, axis=1).reshape(-1, half)
        yield leaves


def _nearest_in_leaves(
    points: np.ndarray, leaves: np.ndarray, count: int, bound: float, side: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, other rows and squared distances of each row's ``count`` nearest within its leaf and ``bound``."""
    rows, others, distances = [], [], []
    step = max(1, (1 << 22) // leaves.shape[1] ** 2)
    count = min(count, leaves.shape[1] - 1)
    for start in range(0, len(leaves), step):
        block = np.sort(leaves[start : start + step], axis=1)
        there = points[block]
        norm = np.einsum("lmd,lmd->lm", there, there)
        square = norm[:, :, None] + norm[:, None, :] - 2 * (there @ there.swapaxes(1, 2))
        empty = block == _PADDING
        square[np.broadcast_to(empty[:, None, :], square.shape)] = np.inf
        middle = np.arange(block.shape[1])
        square[:, middle, middle] = np.inf
        if side is not None:
            square[side[block][:, :, None] == side[block][:, None, :]] = np.inf
        near = np.argpartition(square, count - 1, axis=2)[:, :, :count]
        distance = np.take_along_axis(square, near, axis=2)
        other = np.take_along_axis(np.broadcast_to(block[:, None, :], square.shape), near, axis=2)
        kept = (distance <= bound * bound) & ~empty[:, :, None]
        rows.append(np.broadcast_to(block[:, :, None], kept.shape)[kept])
        others.append(other[kept])
        distances.append(distance[kept])
    return np.concatenate(rows), np.concatenate(others), np.concatenate(distances)
