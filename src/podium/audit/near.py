"""Near duplicates: pictures that are copies of one another, recompressed, brightened, shifted, flipped or turned.

Copies that agree byte for byte are found by hashing. Of the different pictures, descriptors propose pairs
(``descriptor``, ``forest``), a comparison pixel by pixel decides (``near_compare``), and what is linked becomes a group
where its members resemble one another (``near_groups``). The order of the rows decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from podium.audit import descriptor, near_groups
from podium.audit.forest import near_pairs
from podium.audit.near_compare import Likeness, compare
from podium.audit.near_pictures import INVERSE, ORIENTATIONS, Pictures
from podium.cores import cores
from podium.data.ragged import Ragged

NEIGHBOURS = 8
"""Pictures that each is proposed to be a copy of, at most."""
BOUND = 20.0
"""Distance of descriptors up to which a pair is proposed; copies that were shifted lie up to 17 apart."""
ALIKE = 0.7
"""Correlation of two pictures faded and blurred, below which they are not compared; copies stay above 0.9."""
_ROUNDS = 3  # of joining groups of one picture
_CLOSE = 0.02  # by which the second best orientation may be less alike and still be tried
_LEARNT = 1500  # pictures from which the descriptors are learnt
_SCANNED = 256  # pictures read at once
_MEASURED = 20_000  # pairs whose orientation is found at once


@dataclass(frozen=True)
class Pair:
    """Two rows that hold nearly the same picture.

    correlation: of the two laid over each other, all frequencies that matter with the same weight. orientation: how the
    second must be turned to match the first, one of ``near_pictures.ORIENTATIONS``.
    """

    first: int
    second: int
    correlation: float
    orientation: str


@dataclass(frozen=True, eq=False)
class Near:
    """Near duplicates among the rows.

    groups: int64 (N,); rows of one number belong together, numbers count by first occurrence, and a row alone has one
    of its own. pairs: different pictures within a group that are copies of each other, best correlation first; where a
    picture occurs several times byte for byte, its first row stands for all.
    """

    groups: np.ndarray
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class _Link:
    """Two pictures that are copies: how the second is turned, and as in ``Likeness``."""

    orientation: int
    correlation: float
    residual: float


@dataclass(frozen=True, eq=False)
class _Scan:
    """Different pictures, ordered by their hashes so that the order of the rows cannot matter.

    rows: int64 (n,), first row of each. member: int64 (N,), which of them every row holds. spectra: complex64 (n, F),
    and projection, which makes descriptors of them.
    """

    pictures: Pictures
    rows: np.ndarray
    member: np.ndarray
    spectra: np.ndarray
    projection: descriptor.Projection


def near_duplicates(images: Ragged, progress: Callable[[float], None] | None = None) -> Near:
    """Find rows that hold the same picture or nearly the same.

    images: (C, H, W) each, of any sizes; uint8, or another type whose common range of values counts as black to white.
    They are read row by row and may be memory-mapped. progress: called with the share that is done, 0 to 1.
    """
    if len(images) == 0:
        return Near(np.zeros(0, np.int64), ())
    whole = _Progress(progress)
    scan = _scan((images,), whole.part(0, 0.4))
    links = _links(scan, np.arange(len(scan.rows)), None, whole.part(0.4, 0.9))
    settled = _settle(scan, links)
    for _ in range(_ROUNDS):
        # Where one picture has more copies than a picture has neighbours, its copies may make several groups.
        spokesmen = _spokesmen(settled, links)
        more = {
            pair: link for pair, link in _links(scan, spokesmen, None, _Progress(None)).items() if pair not in links
        }
        if not more:
            break
        links |= more
        settled = _settle(scan, links)
    pairs = [_pair(scan, pair, link) for pair, link in links.items() if settled[pair[0]] == settled[pair[1]]]
    _, first, inverse = np.unique(settled[scan.member], return_index=True, return_inverse=True)
    groups = np.argsort(np.argsort(first))[inverse]
    whole(1)
    return Near(groups.astype(np.int64), _sorted(pairs))


def across(train: Ragged, test: Ragged, progress: Callable[[float], None] | None = None) -> tuple[Pair, ...]:
    """Test pictures that also occur in the training part, exactly or nearly: first the training row, second the test row.

    A test row is paired with the first training row of each different picture that it is a copy of; where it occurs
    byte for byte, with that one only. Best correlation first.
    """
    if len(train) == 0 or len(test) == 0:
        return ()
    whole = _Progress(progress)
    scan = _scan((train, test), whole.part(0, 0.4))
    in_train = np.zeros(len(scan.rows), bool)
    in_train[scan.member[: len(train)]] = True
    holders: dict[int, list[int]] = {}
    for row, member in enumerate(scan.member[len(train) :].tolist()):
        holders.setdefault(member, []).append(row)
    pairs = [
        Pair(int(scan.rows[member]), row, 1.0, ORIENTATIONS[0])
        for member, rows in holders.items()
        if in_train[member]
        for row in rows
    ]
    for members, link in _links(scan, np.arange(len(scan.rows)), in_train, whole.part(0.4, 1)).items():
        pair = _pair(scan, members, link)
        only_in_test = members[1] if in_train[members[0]] else members[0]
        pairs += [Pair(pair.first, row, pair.correlation, pair.orientation) for row in holders[only_in_test]]
    return _sorted(pairs)


def _scan(parts: Sequence[Ragged], progress: _Progress) -> _Scan:
    """Hash every image and take the low frequencies of each different one."""
    pictures = Pictures.of(parts)
    total = len(pictures)
    needs_scale = any(part.values.dtype != np.uint8 for part in parts)
    blocks = [range(start, min(start + _SCANNED, total)) for start in range(0, total, _SCANNED)]

    def work(rows: range) -> tuple[list[bytes], np.ndarray, np.ndarray, np.ndarray]:
        spreads = np.array([pictures.spread(row) for row in rows]) if needs_scale else np.zeros((len(rows), 2))
        small = np.stack([descriptor.small(pictures.grey(row)) for row in rows])
        return [pictures.digest(row) for row in rows], spreads, *descriptor.spectra_of(small)

    found = []
    with ThreadPoolExecutor(cores()) as pool:
        for block in pool.map(work, blocks):
            found.append(block)
            progress(len(found) / len(blocks))
    digests = np.array([np.frombuffer(digest, "V32")[0] for block in found for digest in block[0]])
    _, rows, member = np.unique(digests, return_index=True, return_inverse=True)
    spreads, spectra, contrast = (np.concatenate([block[i] for block in found])[rows] for i in (1, 2, 3))
    pictures = pictures.scaled(spreads)
    scale = np.float32(255 / pictures.span)
    spectra = descriptor.normalised(spectra * scale, contrast * scale)
    spectra = np.nan_to_num(spectra, nan=0, posinf=0, neginf=0)
    projection = descriptor.learn([pictures.grey(row) for row in rows[:_LEARNT].tolist()])
    return _Scan(pictures, rows, member.reshape(-1), spectra, projection)


def _links(
    scan: _Scan, among: np.ndarray, side: np.ndarray | None, progress: _Progress
) -> dict[tuple[int, int], _Link]:
    """Copies among different pictures, ``among`` their numbers, by pairs of numbers, lower first.

    side: bool (n,) of all pictures; where given, only pairs of different sides are sought.
    """
    if len(among) < 2:
        return {}
    points = scan.projection(scan.spectra[among])
    pairs = among[near_pairs(points, NEIGHBOURS, BOUND, None if side is None else side[among])]
    first, second = pairs.T
    progress(0.2)
    good, orientation, likeness = _decide(scan, first, second, 1, progress.part(0.2, 1))
    found = (column[good].tolist() for column in (first, second, orientation, likeness.correlation, likeness.residual))
    return {(a, b): _Link(turned, near, left) for a, b, turned, near, left in zip(*found, strict=True)}


def _decide(
    scan: _Scan, first: np.ndarray, second: np.ndarray, reach: int, progress: _Progress
) -> tuple[np.ndarray, np.ndarray, Likeness]:
    """Which pairs are copies, bool (P,), how the second is turned, int64 (P,), and all measures.

    The two most promising orientations are tried. reach: 2 where it is enough that both may be copies of a third.
    """
    count = len(first)
    good, out = np.zeros(count, bool), Likeness.none(count)
    ways, alike = np.zeros((count, 2), np.int64), np.zeros((count, 2), np.float32)
    for start in range(0, count, _MEASURED):
        part = slice(start, start + _MEASURED)
        likeness = descriptor.alike(scan.spectra[first[part]], scan.spectra[second[part]])
        ways[part] = np.argsort(-likeness, axis=1, kind="stable")[:, :2]
        alike[part] = np.take_along_axis(likeness, ways[part], axis=1)
    orientation = ways[:, 0].copy()
    worth = (alike[:, 0] >= ALIKE, alike[:, 1] >= np.maximum(ALIKE, alike[:, 0] - _CLOSE))
    for choice, tell in enumerate((progress.part(0, 0.9), progress.part(0.9, 1))):
        todo = np.flatnonzero(worth[choice] & ~good)
        turned = ways[todo, choice]
        found = compare(scan.pictures, scan.rows[first[todo]], scan.rows[second[todo]], turned, reach, tell)
        copies = found.copies(reach)
        kept = todo[copies]
        good[kept], orientation[kept] = True, turned[copies]
        out.put(kept, found, copies)
    return good, orientation, out


def _settle(scan: _Scan, links: dict[tuple[int, int], _Link]) -> np.ndarray:
    """int64 (n,): group of each different picture."""

    def check(pairs: list[tuple[int, int]]) -> dict[tuple[int, int], float]:
        first, second = np.array(pairs, np.int64).reshape(-1, 2).T
        good, _, likeness = _decide(scan, first, second, 2, _Progress(None))
        return {pair: float(left) for pair, left, kin in zip(pairs, likeness.residual, good, strict=True) if kin}

    return near_groups.settle(len(scan.rows), {pair: link.residual for pair, link in links.items()}, check)


def _spokesmen(settled: np.ndarray, links: dict[tuple[int, int], _Link]) -> np.ndarray:
    """int64 (groups,), ascending: of every group of several pictures the one with most links within it."""
    inside = np.array([pair for pair in links if settled[pair[0]] == settled[pair[1]]], np.int64).reshape(-1)
    degree = np.bincount(inside, minlength=len(settled))
    order = np.lexsort((np.arange(len(settled)), -degree, settled))
    order = order[degree[order] > 0]
    return np.sort(order[np.unique(settled[order], return_index=True)[1]])


def _pair(scan: _Scan, members: tuple[int, int], link: _Link) -> Pair:
    """A link as rows, the lower first."""
    a, b = (int(scan.rows[member]) for member in members)
    correlation = min(1.0, link.correlation)
    if a < b:
        return Pair(a, b, correlation, ORIENTATIONS[link.orientation])
    return Pair(b, a, correlation, ORIENTATIONS[INVERSE[link.orientation]])


def _sorted(pairs: list[Pair]) -> tuple[Pair, ...]:
    return tuple(sorted(pairs, key=lambda pair: (-pair.correlation, pair.first, pair.second)))


class _Progress:
    """Tells a listener which share of the whole is done, from ``start`` to ``stop``."""

    def __init__(self, listener: Callable[[float], None] | None, start: float = 0.0, stop: float = 1.0) -> None:
        self._listener, self._start, self._stop = listener, start, stop

    def __call__(self, share: float) -> None:
        if self._listener:
            self._listener(self._start + share * (self._stop - self._start))

    def part(self, start: float, stop: float) -> _Progress:
        """For a step that takes the whole from ``start`` to ``stop``."""
        return _Progress(self, start, stop)
