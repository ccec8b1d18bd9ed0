"""What is left of out-of-fold probabilities once everything that no weights can change has been counted.

A pixel's label is the class whose weighted mean is largest. Where one class is at least as probable as another in every model it
stays so under all weights, and the other can never win: most pixels have one class left and are counted once and for all,
of the rest most have two. What remains is kept as float16 and evaluated for many weight vectors at a time.

The labels are those of ``decode.finish``, bit for bit. Sums of rounded products rise where their parts rise, so that a class that
is beaten in every model is beaten by the sums too; matrix products, which round otherwise, decide only where the
difference is beyond what rounding can do, and the rest is added up as ``finish`` does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise, product

import numpy as np
from threadpoolctl import threadpool_limits

from podium import side_by_side
from podium.combine import FLOOR, LOGARITHMS, Mean, block_of, take
from podium.cores import cores
from podium.data.chunk import NO_LABEL
from podium.data.ragged import Ragged

PIXELS = 1 << 12
"""Pixels evaluated at once."""
VECTORS = 64
"""Weight vectors evaluated at once: with PIXELS a megabyte of sums, which stays in a core's cache."""
MANY = 1 << 16
"""So many pixels of two classes are sorted by truth and pair, so that wins need only be counted; of fewer the parts would be
small, and cost more than they save."""
MOST_CLASSES = 64
"""With more, sets of classes have no room in an integer."""
_Kept = tuple[int, int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Open pixels of a block: how many classes, the fold's place, bits, classes, truth and image, as in ``Open``."""
_FLOOR_BITS = np.float16(FLOOR).view(np.uint16)
_ONE_BITS = np.float16(1).view(np.uint16)


class NotCompact(ValueError):
    """These predictions cannot be kept compactly; they must be evaluated as they are."""


@dataclass(frozen=True, eq=False)
class Open:
    """Pixels that K classes may still win, K one number.

    bits: uint16 (M, K, n), the probabilities' float16. classes: uint8 (K, n), ascending. truth: uint8 (n,). fold: int64
    (n,), which of the folds, ascending. image: int32 (n,), within its fold. parts: the first pixel of every part and the end
    of the last one: of all there are, or where it is ``alike`` of those of one fold, truth and pair of classes.
    """

    bits: np.ndarray
    classes: np.ndarray
    truth: np.ndarray
    fold: np.ndarray
    image: np.ndarray
    parts: np.ndarray
    alike: bool

    @property
    def size(self) -> int:
        """How many pixels."""
        return len(self.truth)


@dataclass(frozen=True, eq=False)
class _Piece:
    """Some of them, start to stop: their bits, and the numbers that are averaged, float32 (M, K, n)."""

    every: Open
    start: int
    stop: int
    bits: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Compact:
    """Confusion matrices of blends, of each fold. ``build`` makes it.

    counted: fold → int64 (n, C, C), [truth, predicted], per image the pixels whose label no weights can change.
    """

    mean: Mean
    models: int
    classes: int
    counted: Mapping[int, np.ndarray]
    undecided: tuple[Open, ...]
    pixels: int

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds that are there."""
        return tuple(self.counted)

    @property
    def share(self) -> float:
        """Share of the labelled pixels that had to be kept."""
        return sum(each.size for each in self.undecided) / max(1, self.pixels)

    @cached_property
    def _settled(self) -> np.ndarray:
        """(F, C, C): the sum of ``counted`` of every fold."""
        return np.stack([matrices.sum(0) for matrices in self.counted.values()])

    def sums(self, weights: np.ndarray) -> np.ndarray:
        """Confusion matrices of the folds, int64 (B, F, C, C), for ``weights`` (B, M), each 0 or more and summing to 1."""
        vectors = np.asarray(weights, np.float32)
        total = np.repeat(self._settled[None], len(vectors), axis=0)
        # every core takes some of the pixels
        pieces = [
            (every, start, min(start + PIXELS, int(stop)))
            for every in self.undecided
            for start_of, stop in pairwise(every.parts)
            for start in range(int(start_of), int(stop), PIXELS)
        ]
        hands = min(cores(), len(pieces) // 8)
        if hands < 2:
            return total + self._some(pieces, vectors)
        with threadpool_limits(1), ThreadPoolExecutor(hands) as pool:
            for found in pool.map(self._some, [pieces[i::hands] for i in range(hands)], [vectors] * hands):
                total += found
        return total

    def stats(self, weights: np.ndarray, fold: int) -> np.ndarray:
        """Confusion matrices of a fold's images, int64 (n, C, C), for one weight vector (M,)."""
        matrices = self.counted[fold].copy()
        vector = np.asarray(weights, np.float32)
        size = self.classes**2
        place = self.folds.index(fold)
        for every in self.undecided:
            here = slice(*np.searchsorted(every.fold, (place, place + 1)).tolist())
            told = every.classes[self._exact(every.bits[:, :, here], vector), np.arange(here.start, here.stop)]
            at = every.image[here].astype(np.int64) * size + every.truth[here].astype(np.int64) * self.classes
            matrices += np.bincount(at + told, minlength=matrices.size).reshape(matrices.shape)
        return matrices

    def _some(self, pieces: Sequence[tuple[Open, int, int]], vectors: np.ndarray) -> np.ndarray:
        """What ``pieces`` of undecided pixels add to the sums, int64 (B, F, C, C)."""
        total = np.zeros((len(vectors), len(self.counted), self.classes, self.classes), np.int64)
        for every, start, stop in pieces:
            bits = every.bits[:, :, start:stop]
            piece = _Piece(every, start, stop, bits, self._values(bits))
            for first in range(0, len(vectors), VECTORS):
                some = vectors[first : first + VECTORS]
                into = total[first : first + VECTORS]
                if every.alike:
                    self._two(piece, some, into[:, every.fold[start]])
                else:
                    self._several(piece, some, into)
        return total

    def _two(self, piece: _Piece, vectors: np.ndarray, into: np.ndarray) -> None:
        """Count the pixels of one truth and pair of classes into (B, C, C)."""
        every, start, values = piece.every, piece.start, piece.values
        low, high = every.classes[:, start]
        truth, slack = every.truth[start], self._slack
        ahead = vectors @ (values[:, 1] - values[:, 0])  # of the higher class, which loses ties
        sure, near = ahead > slack, ahead >= -slack
        wins = _count(sure)
        if (unsure := _count(near) - wins).any():
            for row in np.flatnonzero(unsure):
                at = np.flatnonzero(near[row] & ~sure[row])
                wins[row] += int(self._exact(piece.bits[:, :, at], vectors[row]).sum())
        into[:, truth, high] += wins
        into[:, truth, low] += piece.stop - start - wins

    def _several(self, piece: _Piece, vectors: np.ndarray, into: np.ndarray) -> None:
        """Count pixels of any fold, truth and classes into (B, F, C, C)."""
        every, here, values = piece.every, slice(piece.start, piece.stop), piece.values
        top = vectors @ values[:, 0]
        second = np.full_like(top, -np.inf)
        best = np.zeros(top.shape, np.uint8)
        for k in range(1, values.shape[1]):
            other = vectors @ values[:, k]
            best[other > top] = k
            np.maximum(second, np.minimum(top, other), out=second)
            np.maximum(top, other, out=top)
        rows, at = np.nonzero(top - second <= self._slack)
        for row in set(rows.tolist()):
            these = at[rows == row]
            best[row, these] = self._exact(piece.bits[:, :, these], vectors[row])
        told = np.take_along_axis(every.classes[:, here], best, axis=0)
        fold_and_truth = every.fold[here] * self.classes + every.truth[here]
        where = fold_and_truth * self.classes + told
        where += (np.arange(len(vectors)) * into[0].size)[:, None]
        into += np.bincount(where.reshape(-1), minlength=into.size).reshape(into.shape)

    def _exact(self, bits: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """Which of the K classes wins, (n,), added up in the order and precision of ``decode.finish``."""
        values = self._values(bits)
        total = values[0] * vector[0]
        for value, weight in zip(values[1:], vector[1:], strict=True):
            total = total + value * weight
        return np.asarray(total.argmax(0))

    def _values(self, bits: np.ndarray) -> np.ndarray:
        """float32: what is averaged."""
        if self.mean == "geometric":
            return np.asarray(LOGARITHMS[bits])
        return np.ascontiguousarray(bits).view(np.float16).astype(np.float32)

    @property
    def _slack(self) -> float:
        """Differences beyond this are not rounding's: M + 3 roundings of sums no larger than ``largest``, twice, and a reserve."""
        largest = 1.0 if self.mean == "arithmetic" else -float(np.log(FLOOR))
        return 4 * (self.models + 3) * 2.0**-24 * largest


def build(
    volumes: Mapping[int, Sequence[Ragged]],
    targets: Ragged,
    classes: int,
    unscored: int | None,
    mean: Mean = "arithmetic",
) -> Compact:
    """Count what no weights can change, and keep the rest.

    volumes: fold → the models' probabilities (C, H, W) per id, float16, of the same ids and sizes. targets: uint8 (1, H, W)
    per id, class indices, 255 for no label. Memory grows with the pixels in dispute, not with the images.
    Probabilities that are not float16 in 0..1, or of an unscored class, are ``NotCompact``.
    """
    first = next(iter(volumes.values()))
    allowed = np.array([k for k in range(classes) if k != unscored])
    if len(allowed) > MOST_CLASSES or any(v.values.dtype != np.float16 for every in volumes.values() for v in every):
        raise NotCompact("only float16 probabilities of up to 64 classes are kept compactly")
    counted: dict[int, np.ndarray] = {}
    kept: list[_Kept] = []
    pixels = 0
    for place, (fold, models) in enumerate(volumes.items()):
        matrices = np.zeros((len(models[0]), classes, classes), np.int64)
        blocks = _blocks(models, targets, allowed, mean)
        for size, start, settled, rest in side_by_side.each(partial(_settle, allowed, classes, place), blocks):
            pixels += size
            matrices[start : start + len(settled)] += settled
            kept += rest
        counted[fold] = matrices
    return Compact(mean, len(first), classes, counted, tuple(_sorted(kept)), pixels)


def _settle(
    allowed: np.ndarray, classes: int, place: int, block: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[int, int, np.ndarray, list[_Kept]]:
    """Of a block of images: how many pixels, the first image, matrices of what is settled, and what is not."""
    image, truth, bits = block
    if not len(truth):
        return 0, 0, np.zeros((0, classes, classes), np.int64), []
    start, size = int(image[0]), len(truth)
    matrices = np.zeros((int(image[-1]) + 1 - start, classes, classes), np.int64)
    winner, agreed = _agreed(bits)
    matrices += _tally(matrices, image[agreed] - start, truth[agreed], allowed[winner[agreed]])
    rest = np.flatnonzero(~agreed)
    bits, image, truth = bits[:, :, rest], image[rest], truth[rest]
    left = ~_beaten(bits)  # (K, n)
    number = left.sum(0)
    single = number == 1
    matrices += _tally(matrices, image[single] - start, truth[single], allowed[left[:, single].argmax(0)])
    kept = []
    for k in np.unique(number[~single]).tolist():
        these = np.flatnonzero(number == k)
        which = np.nonzero(left[:, these].T)[1].reshape(-1, k).T
        picked = np.take_along_axis(bits[:, :, these], which[None], axis=1)
        kept.append((k, place, picked, allowed[which].astype(np.uint8), truth[these], image[these]))
    return size, start, matrices, kept


def _blocks(
    models: Sequence[Ragged], targets: Ragged, allowed: np.ndarray, mean: Mean
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Labelled pixels of some images at a time: image (n,) within the fold, truth (n,), bits uint16 (M, K, n)."""
    first = models[0]
    step = block_of(first)
    for start in range(0, len(first), step):
        ids = first.ids[start : start + step]
        truth = take(targets, ids)[:, 0]
        labelled = np.flatnonzero(truth.reshape(-1) != NO_LABEL)
        size = truth[0].size
        image = (start + labelled // size).astype(np.int32)
        bits = np.empty((len(models), len(allowed), len(labelled)), np.uint16)
        for m, volume in enumerate(models):
            block = np.ascontiguousarray(take(volume, ids)).view(np.uint16)
            _check(block, allowed)
            for k, of in enumerate(allowed.tolist()):
                bits[m, k] = block[:, of].reshape(-1)[labelled]
        if mean == "geometric":  # what lies below the floor is equal
            np.maximum(bits, _FLOOR_BITS, out=bits)
        yield image, truth.reshape(-1)[labelled], bits


def _check(block: np.ndarray, allowed: np.ndarray) -> None:
    """Bits of numbers from 0 up order as the numbers do; all others are refused."""
    if block.size and block.max() > _ONE_BITS:
        raise NotCompact("probabilities are not all within 0..1")
    if len(allowed) < block.shape[1]:
        others = np.setdiff1d(np.arange(block.shape[1]), allowed)
        if block[:, others].any():
            raise NotCompact("a class that is not scored has a probability")


def _agreed(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first model's most probable class, (n,), and where all models have the same; bits (M, K, n)."""
    winners = []
    for model in bits:
        top, best = model[0].copy(), np.zeros(model.shape[1], np.uint8)
        for k in range(1, len(model)):
            best[model[k] > top] = k
            np.maximum(top, model[k], out=top)
        winners.append(best)
    same = np.ones(bits.shape[2], bool)
    for other in winners[1:]:
        same &= other == winners[0]
    return winners[0], same


def _beaten(bits: np.ndarray) -> np.ndarray:
    """Classes that another one beats in every model, bool (K, n): a lower one by at least as much, a higher one by more,
    since of equal sums the lower class wins."""
    beaten = np.zeros(bits.shape[1:], bool)
    for a, b in product(range(bits.shape[1]), repeat=2):
        if a != b:
            wins = bits[:, b] >= bits[:, a] if b < a else bits[:, b] > bits[:, a]
            beaten[a] |= wins.all(0)
    return beaten


def _tally(like: np.ndarray, image: np.ndarray, truth: np.ndarray, told: np.ndarray) -> np.ndarray:
    """Confusion matrices of pixels, shaped ``like`` (n, C, C)."""
    classes = like.shape[1]
    at = (image.astype(np.int64) * classes + truth) * classes + told
    return np.bincount(at, minlength=like.size).reshape(like.shape)


def _sorted(kept: Sequence[_Kept]) -> Iterator[Open]:
    """The pieces of each number of classes as one, its parts beside each other."""
    for k in sorted({piece[0] for piece in kept}):
        pieces = [piece for piece in kept if piece[0] == k]
        fold = np.concatenate([np.full(len(piece[4]), piece[1], np.int64) for piece in pieces])
        classes = np.concatenate([piece[3] for piece in pieces], axis=1)
        truth = np.concatenate([piece[4] for piece in pieces])
        image = np.concatenate([piece[5] for piece in pieces])
        part, alike = fold, k == 2 and len(fold) >= MANY
        if alike:
            part = ((part * 256 + truth) * 256 + classes[0]) * 256 + classes[1]
        order = np.argsort(part, kind="stable")
        starts = np.flatnonzero(np.diff(part[order], prepend=-1)) if alike else np.zeros(1, np.int64)
        bits = np.empty((*pieces[0][2].shape[:2], len(order)), np.uint16)
        for m, c in product(range(bits.shape[0]), range(bits.shape[1])):  # one row at a time: no second copy of all
            bits[m, c] = np.concatenate([piece[2][m, c] for piece in pieces])[order]
        yield Open(
            bits,
            np.ascontiguousarray(classes[:, order]),
            truth[order],
            fold[order],
            image[order],
            np.append(starts, len(order)),
            alike,
        )


def _count(flags: np.ndarray) -> np.ndarray:
    """How many of each row (B, n) are true."""
    if flags.shape[1] < 256:
        return np.asarray(flags.sum(1, dtype=np.int64))
    return np.array([np.count_nonzero(row) for row in flags], np.int64)  # ten times as fast as a sum along the axis
