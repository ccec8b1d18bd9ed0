"""What a part consists of: sizes, values, class shares, masks of one class or none, exact duplicates."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from podium.audit.features import batches
from podium.data.chunk import NO_LABEL
from podium.data.ragged import Ragged


@dataclass(frozen=True)
class Size:
    """How many images have one height and width."""

    height: int
    width: int
    images: int


@dataclass(frozen=True)
class Channel:
    """The values of one channel over all images that have it.

    lowest, highest: the share of values equal to the least and to the greatest one; a high share means saturation
    (or a uniform background). not_finite: how many values are NaN or infinite; nothing else counts them.
    """

    minimum: float
    maximum: float
    mean: float
    deviation: float
    lowest: float
    highest: float
    not_finite: int


@dataclass(frozen=True)
class ClassShare:
    """One class: its pixels (of labels: images), their share of all labelled ones, and the images it occurs in."""

    name: str
    pixels: int
    share: float
    images: int


@dataclass(frozen=True)
class SharedMasks:
    """Masks that several images have, byte for byte: how many different ones, in how many images, and the most frequent."""

    masks: int
    images: int
    biggest: tuple[str, ...]


@dataclass(frozen=True)
class Targets:
    """What the targets hold.

    kind: ``masks``, or ``labels`` where every target is a single number. classes: in their order. ignored: the share
    of pixels (or labels) without a label, 255. all_ignored: ids without any label. The rest concerns masks only.
    empty: ids of masks of nothing but the background, which is the unscored class, or class 0 where all are scored.
    single_class: ids of the masks in which exactly one scored class occurs, the empty ones not among them.
    shared_simple, shared_rich: masks that several images share, with at most one scored class and with more.
    """

    kind: str
    classes: tuple[ClassShare, ...]
    ignored: float
    all_ignored: tuple[str, ...]
    empty: tuple[str, ...]
    single_class: tuple[str, ...]
    shared_simple: SharedMasks
    shared_rich: SharedMasks


@dataclass(frozen=True)
class Description:
    """A part in figures. duplicates: ids of images that are equal byte for byte, a tuple per picture, in their order."""

    count: int
    sizes: tuple[Size, ...]
    channels: tuple[Channel, ...]
    dtype: str
    duplicates: tuple[tuple[str, ...], ...]
    targets: Targets | None


def describe(images: Ragged, targets: Ragged | None, classes: Sequence[str], unscored: int | None) -> Description:
    """Describe images (C, H, W) of any dtype and their targets, each read once.

    targets: uint8 class indices, masks of the images' sizes or (1, K, 1) of the whole image, 255 for no label; None for a
    test part.
    unscored: index of the class that is not scored. A value that is no class is a ValueError.
    """
    if targets is not None and (len(targets) != len(images) or (targets.ids != images.ids).any()):
        raise ValueError("images and targets have different ids")
    sizes = Counter((int(h), int(w)) for _, h, w in images.shapes.tolist())
    by_count = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    digests: list[bytes] = [b""] * len(images)
    channels: list[_Values] = []
    for rows, stack in batches(images):
        channels += [_Values() for _ in range(stack.shape[1] - len(channels))]
        for number in range(stack.shape[1]):
            channels[number].add(stack[:, number])
        for row, image in zip(rows.tolist(), stack, strict=True):
            digests[row] = _digest(image)
    return Description(
        len(images),
        tuple(Size(height, width, count) for (height, width), count in by_count),
        tuple(values.result() for values in channels),
        str(images.values.dtype),
        tuple(tuple(images.ids[rows].tolist()) for rows in _equal(digests)),
        None if targets is None else _targets(targets, classes, unscored),
    )


def _targets(targets: Ragged, classes: Sequence[str], unscored: int | None) -> Targets:
    ids = targets.ids
    counts, digests = np.zeros((len(targets), NO_LABEL + 1), np.int64), [b""] * len(targets)
    for rows, stack in batches(targets):
        flat = stack.reshape(len(stack), -1)
        cells = flat + np.arange(len(flat), dtype=np.int64)[:, None] * (NO_LABEL + 1)
        counts[rows] = np.bincount(cells.reshape(-1), minlength=len(flat) * (NO_LABEL + 1)).reshape(len(flat), -1)
        for row, mask in zip(rows.tolist(), stack, strict=True):
            digests[row] = _digest(mask)
    wrong = np.argwhere(counts[:, len(classes) : NO_LABEL])
    if len(wrong):
        row, value = wrong[0].tolist()
        raise ValueError(f"target of id '{ids[row]}' holds the value {value + len(classes)}, which is no class")
    pixels, labelled = counts[:, : len(classes)].sum(axis=0), counts[:, : len(classes)].sum(axis=1)
    present = counts[:, : len(classes)] > 0
    shares = tuple(
        ClassShare(name, int(pixels[c]), int(pixels[c]) / max(1, int(pixels.sum())), int(present[:, c].sum()))
        for c, name in enumerate(classes)
    )
    ignored = int(counts[:, NO_LABEL].sum()) / max(1, int(counts.sum()))
    all_ignored = labelled == 0
    if (targets.shapes[:, 2] == 1).all():  # a column of answers at most
        nothing = SharedMasks(0, 0, ())
        return Targets("labels", shares, ignored, _named(ids, all_ignored), (), (), nothing, nothing)

    background = 0 if unscored is None else unscored
    empty = (labelled > 0) & (counts[:, background] == labelled)
    scored = present[:, [c for c in range(len(classes)) if c != unscored]].sum(axis=1)
    shared = _equal(digests)
    return Targets(
        "masks",
        shares,
        ignored,
        _named(ids, all_ignored),
        _named(ids, empty),
        _named(ids, (scored == 1) & ~empty),
        _shared(ids, [rows for rows in shared if scored[rows[0]] <= 1]),
        _shared(ids, [rows for rows in shared if scored[rows[0]] > 1]),
    )


def _shared(ids: np.ndarray, groups: list[list[int]]) -> SharedMasks:
    biggest = max(groups, key=len, default=[])  # the first of equals
    return SharedMasks(len(groups), sum(len(rows) for rows in groups), tuple(ids[biggest].tolist()) if biggest else ())


def _named(ids: np.ndarray, chosen: np.ndarray) -> tuple[str, ...]:
    return tuple(ids[chosen].tolist())


def _equal(digests: Iterable[bytes]) -> list[list[int]]:
    """Rows of equal digests, where there are several; in the order of their first rows."""
    rows: dict[bytes, list[int]] = {}
    for row, digest in enumerate(digests):
        rows.setdefault(digest, []).append(row)
    return [found for found in rows.values() if len(found) > 1]


def _digest(array: np.ndarray) -> bytes:
    """Hash of an array's shape and bytes."""
    digest = hashlib.sha256(repr(array.shape).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


class _Values:
    """Statistics of one channel, gathered chunk by chunk: exact counts for integers; else float64, joined as Chan et al. 1983."""

    def __init__(self) -> None:
        self.counts: np.ndarray | None = None
        self.count, self.not_finite = 0, 0
        self.mean, self.squares = 0.0, 0.0  # squares: sum of squared deviations from the mean
        self.least, self.greatest = np.inf, -np.inf
        self.at_least, self.at_greatest = 0, 0

    def add(self, values: np.ndarray) -> None:
        """Take in an array of any shape."""
        if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
            top = 1 << (8 * values.dtype.itemsize)
            found = np.bincount(values.reshape(-1), minlength=top)
            self.counts = found if self.counts is None else self.counts + found
            return
        flat = values.reshape(-1).astype(np.float64)
        finite = flat[np.isfinite(flat)]
        self.not_finite += len(flat) - len(finite)
        if not len(finite):
            return
        mean, before = float(finite.mean()), self.count
        self.count += len(finite)
        step = mean - self.mean
        self.squares += float(np.square(finite - mean).sum()) + step**2 * before * len(finite) / self.count
        self.mean += step * len(finite) / self.count
        least, greatest = float(finite.min()), float(finite.max())
        if least <= self.least:
            self.at_least = int((finite == least).sum()) + (self.at_least if least == self.least else 0)
            self.least = least
        if greatest >= self.greatest:
            self.at_greatest = int((finite == greatest).sum()) + (self.at_greatest if greatest == self.greatest else 0)
            self.greatest = greatest

    def result(self) -> Channel:
        """The statistics; all 0 where there is no finite value."""
        if self.counts is not None and self.counts.any():
            seen = np.flatnonzero(self.counts)
            found = [int(n) for n in self.counts[seen]]
            count = sum(found)
            total = sum(int(v) * n for v, n in zip(seen, found, strict=True))
            squares = sum(int(v) ** 2 * n for v, n in zip(seen, found, strict=True))
            variance = (squares * count - total**2) / count**2
            ends = found[0] / count, found[-1] / count
            return Channel(float(seen[0]), float(seen[-1]), total / count, variance**0.5, *ends, 0)
        if not self.count:
            return Channel(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, self.not_finite)
        deviation = (self.squares / self.count) ** 0.5
        ends = self.at_least / self.count, self.at_greatest / self.count
        return Channel(self.least, self.greatest, self.mean, deviation, *ends, self.not_finite)
