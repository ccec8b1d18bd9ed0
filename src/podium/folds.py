"""Folds: the only truth on which rows are used, which belong together, and in which fold each lies.

The split is the same on every machine: order and ties come from SHA-256 of the seed and the ids, and all that decides
is integer arithmetic. It does not depend on the order of the rows either.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from podium.config import FoldSettings
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.store import canonical

ALGORITHM = 2  # raised by hand when the same settings would give another split
DROPPED = -1
_PARTS = 1_000_000  # amounts are compared as integers: parts per million of the whole
_BINS = 32  # at most so many bins of the rarest class's amount
_CANDIDATES = 256  # groups of one stratum that are tried for swaps


@dataclass(frozen=True, eq=False)
class Folds:
    """The rows of a training part and the fold of each.

    ids: (N,) unicode. groups: (N,) int, rows of one group are never apart. strata: (N,) unicode, for people to read.
    fold: (N,) or (N, repeats) int, -1 for a dropped row, whose reason is in reasons: (N,) unicode. count: folds of one
    repeat. Everywhere else folds are counted through: fold k of repeat r has number r * count + k.
    data_id: hash of the data it was made for, empty where a hand-made file does not say. settings: likewise None.
    """

    ids: np.ndarray
    groups: np.ndarray
    strata: np.ndarray
    fold: np.ndarray
    reasons: np.ndarray
    data_id: str
    count: int
    settings: FoldSettings | None = None

    @cached_property
    def folds_id(self) -> str:
        """16 hexadecimal digits that identify who is where: a hash of ids, groups and folds, ordered by id."""
        order = np.argsort(self.ids)
        columns = [self.ids[order].tolist(), self.groups[order].tolist(), self.fold[order].tolist()]
        return hashlib.sha256(canonical(columns).encode()).hexdigest()[:16]

    @cached_property
    def table(self) -> np.ndarray:
        """int (N, repeats): the fold of each row in each repeat, 0 to count - 1, -1 for a dropped row."""
        return self.fold.reshape(len(self.ids), -1)

    @property
    def repeats(self) -> int:
        """How many times the rows are split."""
        return self.table.shape[1]

    @property
    def total(self) -> int:
        """Folds of all repeats together."""
        return self.count * self.repeats

    @cached_property
    def kept(self) -> np.ndarray:
        """bool (N,): the rows that are used."""
        return self.table[:, 0] >= 0

    @cached_property
    def index(self) -> dict[str, int]:
        """Row of each id."""
        return {name: i for i, name in enumerate(self.ids.tolist())}

    def rows(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows to train on and rows to validate on, ascending; dropped rows are in neither."""
        if not 0 <= fold < self.total:
            raise ValueError(f"there is no fold {fold}, folds are 0..{self.total - 1}")
        inside = self.table[:, fold // self.count] == fold % self.count
        return np.flatnonzero(self.kept & ~inside), np.flatnonzero(inside)

    def of_copies(self, ids: np.ndarray, rows: np.ndarray) -> Folds:
        """The same folds for copies of some rows: ids (M,) unicode, and of which row each is a copy, int (M,)."""
        there = np.zeros(len(rows), np.str_)
        return replace(
            self, ids=ids, groups=self.groups[rows], strata=self.strata[rows], fold=self.fold[rows], reasons=there
        )

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class FoldRow:
    """One fold in figures; per class its share of the fold's labelled pixels and the number of images it occurs in."""

    fold: int
    images: int
    groups: int
    shares: tuple[float, ...]
    counts: tuple[int, ...]


def make(
    ids: np.ndarray,
    targets: Ragged,
    groups: np.ndarray,
    dropped: Mapping[str, str],
    classes: Sequence[str],
    unscored: int | None,
    settings: FoldSettings,
    data_id: str,
    strata: str = "class_presence",
) -> Folds:
    """Split rows into ``settings.count`` folds that resemble each other, ``settings.repeats`` times.

    ids: (N,). targets: class indices by id, 255 for no label. groups: int (N,), kept together. dropped: id → reason.
    unscored: index of the class that makes no stratum. strata:

    - ``class_presence``, ``class``: which scored classes occur. Images with the rarest scored class (by pixels) are
      also binned by its amount, a multiple of ``count`` per bin and bin 1 the most, and every bin is dealt out evenly.
      Swaps within bins and strata then even out the amount of each class.
    - ``foreground``: the share of pixels that are not background (``unscored``, else the first class), binned likewise.
    - ``none``: only the order of the hashes counts.

    Fewer groups than folds are a UserError.
    """
    ids, groups = np.asarray(ids, np.str_), np.asarray(groups, np.int64)
    pixels = class_pixels(targets, ids, len(classes))
    if strata == "foreground":
        background = unscored or 0
        whole = np.maximum(pixels.sum(axis=1), 1)
        beyond = (pixels.sum(axis=1) - pixels[:, background]) * _PARTS // whole  # shares: images may differ in size
        pixels = np.stack([_PARTS - beyond, beyond], axis=1)
        classes, unscored = ("background", "foreground"), 0
    scored = [c for c in range(len(classes)) if c != unscored]
    kept = np.array([name not in dropped for name in ids.tolist()], bool)
    numbers, member = np.unique(groups[kept], return_inverse=True)
    if len(numbers) < settings.count:
        way_out = (
            f"set folds.count={len(numbers)} or less" if len(numbers) > 1 else "at least 2 different images are needed"
        )
        left_out = f" ({len(dropped)} of {len(ids)} images are dropped, see the audit)" if dropped else ""
        raise UserError(
            f"folds.count: {len(numbers)} groups of images cannot fill {settings.count} folds{left_out}; {way_out}"
        )

    def total(values: np.ndarray) -> np.ndarray:
        """Sum over the rows of each group: (N, ...) → (groups, ...)."""
        out = np.zeros((len(numbers), *values.shape[1:]), np.int64)
        np.add.at(out, member, values[kept])
        return out

    sizes, amounts, images = total(np.ones(len(ids), np.int64)), total(pixels[:, scored]), total(pixels[:, scored] > 0)
    names: dict[int, str] = {}
    for group, name in zip(member.tolist(), ids[kept].tolist(), strict=True):
        names[group] = min(name, names.get(group, name))
    members = _Members(sizes, amounts, images, [names[group] for group in range(len(numbers))])
    titles = [classes[c] for c in scored]
    fold = np.full((len(ids), settings.repeats), DROPPED, np.int64)
    texts = [""] * len(ids)
    if strata != "none":
        texts = ["+".join(classes[c] for c in scored if row[c]) or "none" for row in pixels > 0]
    for repeat in range(settings.repeats):
        # the first repeat's order is that of a split without repeats
        order = [_hash(settings.seed, f"{repeat}:{name}" if repeat else name) for name in members.names]
        place, group_strata = _split(members, titles, order, settings.count, strata)
        fold[kept, repeat] = place[member]
        if repeat == 0:
            for row, group in zip(np.flatnonzero(kept).tolist(), member.tolist(), strict=True):
                texts[row] = group_strata[group]
    reasons = np.array([dropped.get(name, "") for name in ids.tolist()], np.str_)
    table = fold if settings.repeats > 1 else fold[:, 0]
    return Folds(ids, groups, np.array(texts, np.str_), table, reasons, data_id, settings.count, settings)


def class_pixels(targets: Ragged, ids: Sequence[str] | np.ndarray, classes: int) -> np.ndarray:
    """Pixels of each class per image, int64 (N, classes), in the order of ``ids``; 255 (no label) is not counted."""
    out = np.zeros((len(ids), classes), np.int64)
    for row, name in enumerate(np.asarray(ids).tolist()):
        counts = np.bincount(targets[targets.index[name]].reshape(-1), minlength=classes)
        if counts[classes:255].any():
            raise ValueError(f"target of id '{name}' holds values that are no class")
        out[row] = counts[:classes]
    return out


def table(folds: Folds, targets: Ragged, classes: Sequence[str]) -> list[FoldRow]:
    """Each fold in figures, to print; classes in their order, the unscored one included."""
    pixels = class_pixels(targets, folds.ids, len(classes))
    out = []
    for fold in range(folds.total):
        inside = np.isin(np.arange(len(folds)), folds.rows(fold)[1])
        amounts = pixels[inside].sum(axis=0)
        shares = tuple((amounts / max(1, int(amounts.sum()))).tolist())
        counts = tuple((pixels[inside] > 0).sum(axis=0).tolist())
        out.append(FoldRow(fold, int(inside.sum()), len(np.unique(folds.groups[inside])), shares, counts))
    return out


# ---------------------------------------------------------------- who goes where


@dataclass(frozen=True, eq=False)
class _Members:
    """Per group: how many rows (G,), how much of each scored class (G, C), in how many rows (G, C), and its name."""

    sizes: np.ndarray
    amounts: np.ndarray
    images: np.ndarray
    names: list[str]


def _split(
    members: _Members, titles: Sequence[str], order: list[int], count: int, strata: str
) -> tuple[np.ndarray, list[str]]:
    """Fold and stratum of each group; ``titles`` are the scored classes' names."""
    sizes, amounts, images = members.sizes, members.amounts, members.images
    if strata == "none":
        cells = [0] * len(sizes)
        return _deal(cells, sizes, np.zeros_like(images), order, count), [""] * len(sizes)
    bins = _bins(amounts, sizes, order, count)
    presence = ["+".join(title for title, n in zip(titles, row, strict=True) if n) or "none" for row in images]
    texts = [text + (f":{b}" if b else "") for text, b in zip(presence, bins, strict=True)]
    # The bins of the rarest class come first, largest amounts leading, then the other strata, the rarest leading.
    sums: Counter[str] = Counter()
    for text, size, b in zip(texts, sizes.tolist(), bins, strict=True):
        sums[text] += 0 if b else size
    rank = {text: i for i, text in enumerate(sorted(sums, key=lambda text: (sums[text], text)))}
    cells = [b - _BINS - 1 if b else rank[text] for text, b in zip(texts, bins, strict=True)]
    place = _deal(cells, sizes, images, order, count)
    features = np.concatenate([_parts(sizes[:, None]), _parts(amounts), _parts(images)], axis=1)
    _swap(place, cells, features, order, count)
    return place, texts


def _hash(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big")


def _parts(values: np.ndarray) -> np.ndarray:
    """(G, C) amounts as parts per million of each column's sum, integers."""
    return np.asarray(values * _PARTS // np.maximum(values.sum(axis=0), 1))


def _bins(amounts: np.ndarray, sizes: np.ndarray, order: list[int], count: int) -> list[int]:
    """Bin of each group by its amount of the rarest class: 1.. from the largest down, 0 for none or all being equal."""
    bins = [0] * len(amounts)
    whole = amounts.sum(axis=0).tolist()
    present = [c for c, n in enumerate(whole) if n > 0]
    if not present:
        return bins
    rarest = min(present, key=lambda c: (whole[c], c))
    amount = amounts[:, rarest].tolist()
    holders = sorted((g for g in range(len(amount)) if amount[g]), key=lambda g: (-amount[g], order[g]))
    if len({amount[g] // size for g, size in enumerate(sizes.tolist()) if amount[g]}) < 2:
        return bins
    deals = -(-len(holders) // count)
    width = count * -(-deals // _BINS)
    for position, group in enumerate(holders):
        bins[group] = 1 + position // width
    return bins


def _deal(cells: list[int], sizes: np.ndarray, images: np.ndarray, order: list[int], count: int) -> np.ndarray:
    """Fold of each group: cell after cell, large groups first, to the fold with the fewest images of the cell.

    Ties go to the fold that has the smallest share of the images with the same classes, then to the one with the fewest
    images, then by hash. An empty fold wins every tie, so with enough groups none stays empty.
    """
    place = np.zeros(len(cells), np.int64)
    in_cell: defaultdict[tuple[int, int], int] = defaultdict(int)
    loads = [0] * count
    whole = images.sum(axis=0).tolist()
    having = [[0] * len(whole) for _ in range(count)]
    size, present = sizes.tolist(), [[(c, n) for c, n in enumerate(row) if n] for row in images.tolist()]
    for group in sorted(range(len(cells)), key=lambda g: (cells[g], -size[g], order[g])):

        def need(fold: int, group: int = group) -> tuple[int, int, int, int]:
            share = sum(having[fold][c] * _PARTS // whole[c] for c, _ in present[group])
            return in_cell[cells[group], fold], share, loads[fold], (fold + order[group]) % count

        fold = min(range(count), key=need)
        place[group] = fold
        in_cell[cells[group], fold] += size[group]
        loads[fold] += size[group]
        for c, n in present[group]:
            having[fold][c] += n
    return place


def _swap(place: np.ndarray, cells: list[int], features: np.ndarray, order: list[int], count: int) -> None:
    """Exchange groups of one cell between folds, in place, until the folds' sums of ``features`` (G, F) agree.

    Each step takes a cell's best exchange. The sum of squares over folds and features falls, in integers, so it ends.
    """
    loads = np.zeros((count, features.shape[1]), np.int64)
    np.add.at(loads, place, features)
    by_cell: defaultdict[int, list[int]] = defaultdict(list)
    for group in sorted(range(len(cells)), key=lambda g: (cells[g], order[g])):
        by_cell[cells[group]].append(group)
    prepared = []
    for groups in by_cell.values():
        chosen = np.array(groups[:_CANDIDATES])
        amount = features[chosen]
        square = amount @ amount.T
        square = np.diagonal(square)[:, None] + np.diagonal(square)[None] - 2 * square
        prepared.append((chosen, amount, square))
    for _ in range(8):
        changed = False
        for chosen, amount, square in prepared:
            for _ in range(3 * count):
                # i from fold a to b and j back, with d = i - j: the sum of squares changes by 2 (d·d - d·(a - b)).
                at = place[chosen]
                cross = (amount @ loads.T)[:, at]
                own = np.diagonal(cross)
                change = square - (own[:, None] - cross - cross.T + own[None])
                best = int(np.argmin(change))
                i, j = divmod(best, len(chosen))
                if change[i, j] >= 0:
                    break
                d = amount[i] - amount[j]
                loads[at[i]] -= d
                loads[at[j]] += d
                place[chosen[i]], place[chosen[j]] = at[j], at[i]
                changed = True
        if not changed:
            return
