"""The fold file: the only truth on which rows are used, which belong together, and in which fold each lies.

The split is the same on every machine: order and ties come from SHA-256 of the seed and the ids, and all that decides
is integer arithmetic. It does not depend on the order of the rows either.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from podium.config import FoldSettings
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.store import Key, canonical, write_atomically

ALGORITHM = 1  # raised by hand when the same settings would give another split
COLUMNS = ("id", "group", "stratum", "fold", "reason")
DROPPED = -1
_NEEDED = ("id", "group", "fold")
_PARTS = 1_000_000  # amounts are compared as integers: parts per million of the whole
_BINS = 32  # at most so many bins of the rarest class's amount
_CANDIDATES = 256  # groups of one stratum that are tried for swaps


@dataclass(frozen=True, eq=False)
class Folds:
    """The rows of a training part and the fold of each.

    ids: (N,) unicode. groups: (N,) int, rows of one group are never apart. strata: (N,) unicode, for people to read.
    fold: (N,) int, -1 for a dropped row, whose reason is in reasons: (N,) unicode.
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
    def kept(self) -> np.ndarray:
        """bool (N,): the rows that are used."""
        return self.fold >= 0

    @cached_property
    def index(self) -> dict[str, int]:
        """Row of each id."""
        return {name: i for i, name in enumerate(self.ids.tolist())}

    def rows(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows to train on and rows to validate on, ascending; dropped rows are in neither."""
        if not 0 <= fold < self.count:
            raise ValueError(f"there is no fold {fold}, folds are 0..{self.count - 1}")
        inside = self.fold == fold
        return np.flatnonzero(self.kept & ~inside), np.flatnonzero(inside)

    def of(self, ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """Fold of each id, int64 (n,), -1 where it was dropped; KeyError for an unknown id."""
        return self.fold[[self.index[str(name)] for name in ids]]

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
) -> Folds:
    """Split rows into ``settings.count`` folds that resemble each other.

    ids: (N,). targets: class indices by id, 255 for no label. groups: int (N,), kept together. dropped: id → reason.
    unscored: index of the class that makes no stratum. A stratum is which scored classes occur; images with the rarest
    scored class (by pixels) are also binned by its amount, a multiple of ``count`` per bin and bin 1 the most, and
    every bin is dealt out evenly. Swaps within bins and strata then even out the amount of each class. With
    ``strata: none`` only the order of the hashes counts. Fewer groups than folds are a UserError.
    """
    ids, groups = np.asarray(ids, np.str_), np.asarray(groups, np.int64)
    pixels = class_pixels(targets, ids, len(classes))
    scored = [c for c in range(len(classes)) if c != unscored]
    kept = np.array([name not in dropped for name in ids.tolist()], bool)
    numbers, member = np.unique(groups[kept], return_inverse=True)
    if len(numbers) < settings.count:
        way_out = (
            f"set folds.count={len(numbers)} or less" if len(numbers) > 1 else "at least 2 different images are needed"
        )
        raise UserError(f"folds.count: {len(numbers)} groups of images cannot fill {settings.count} folds; {way_out}")

    def total(values: np.ndarray) -> np.ndarray:
        """Sum over the rows of each group: (N, ...) → (groups, ...)."""
        out = np.zeros((len(numbers), *values.shape[1:]), np.int64)
        np.add.at(out, member, values[kept])
        return out

    sizes, amounts, images = total(np.ones(len(ids), np.int64)), total(pixels[:, scored]), total(pixels[:, scored] > 0)
    names: dict[int, str] = {}
    for group, name in zip(member.tolist(), ids[kept].tolist(), strict=True):
        names[group] = min(name, names.get(group, name))
    order = [_hash(settings.seed, names[group]) for group in range(len(numbers))]

    presence = ["+".join(classes[c] for c in scored if row[c]) or "none" for row in pixels > 0]
    if settings.strata == "none":
        strata, group_strata, cells = [""] * len(ids), [""] * len(numbers), [0] * len(numbers)
        images = np.zeros_like(images)
    else:
        bins = _bins(amounts, sizes, order, settings.count)
        group_strata = [
            ("+".join(classes[c] for c, n in zip(scored, row, strict=True) if n) or "none") + (f":{b}" if b else "")
            for row, b in zip(images, bins, strict=True)
        ]
        # The bins of the rarest class come first, largest amounts leading, then the other strata, the rarest leading.
        sums: Counter[str] = Counter()
        for text, size, b in zip(group_strata, sizes.tolist(), bins, strict=True):
            sums[text] += 0 if b else size
        rank = {text: i for i, text in enumerate(sorted(sums, key=lambda text: (sums[text], text)))}
        cells = [b - _BINS - 1 if b else rank[text] for text, b in zip(group_strata, bins, strict=True)]
        strata = presence
    place = _deal(cells, sizes, images, order, settings.count)
    if settings.strata != "none":
        features = np.concatenate([_parts(sizes[:, None]), _parts(amounts), _parts(images)], axis=1)
        _swap(place, cells, features, order, settings.count)

    fold = np.full(len(ids), DROPPED, np.int64)
    fold[kept] = place[member]
    for row, group in zip(np.flatnonzero(kept).tolist(), member.tolist(), strict=True):
        strata[row] = group_strata[group]
    reasons = np.array([dropped.get(name, "") for name in ids.tolist()], np.str_)
    return Folds(ids, groups, np.array(strata, np.str_), fold, reasons, data_id, settings.count, settings)


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
    for fold in range(folds.count):
        inside = folds.fold == fold
        amounts = pixels[inside].sum(axis=0)
        shares = tuple((amounts / max(1, int(amounts.sum()))).tolist())
        counts = tuple((pixels[inside] > 0).sum(axis=0).tolist())
        out.append(FoldRow(fold, int(inside.sum()), len(np.unique(folds.groups[inside])), shares, counts))
    return out


# ---------------------------------------------------------------- who goes where


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


# ---------------------------------------------------------------- the file


def file_name(name: str, data_id: str, settings: FoldSettings) -> str:
    """``<name>-<hash8>.csv``; other data, settings or another version of the algorithm have another file."""
    return f"{name}-{Key('folds', ALGORITHM, settings.model_dump(), (data_id,)).short}.csv"


def save(folds: Folds, path: Path) -> None:
    """Write the fold file atomically; one that is there and says something else is a UserError and stays."""
    head = {"data_id": folds.data_id, "count": str(folds.count)} if folds.data_id else {"count": str(folds.count)}
    if folds.settings is not None:
        head |= {key: str(value) for key, value in folds.settings.model_dump().items()} | {"algorithm": str(ALGORITHM)}
    lines = ["# podium folds: who is trained on and who is validated on; -1 is dropped"]
    lines += [f"# {key}: {value}" for key, value in head.items()] + [",".join(COLUMNS)]
    columns = (folds.ids, folds.groups, folds.strata, folds.fold, folds.reasons)
    for row in zip(*(column.tolist() for column in columns), strict=True):
        lines.append(",".join(_field(str(value)) for value in row))
    content = ("\n".join(lines) + "\n").encode()
    if path.exists():
        if path.is_file() and path.read_bytes() == content:
            return
        raise UserError(f"{path}: exists with another content and is not overwritten; move it away or delete it")
    write_atomically(path, content)


def load(path: Path, ids: Sequence[str] | np.ndarray, data_id: str) -> Folds:
    """Read a fold file, ``save``'s or a hand-made one (columns id, group, fold; no head needed), and check it.

    ids: the data's, every one must be there once; the rows come back in their order. data_id: compared with the
    recorded one. Whatever does not hold is a UserError.
    """
    head, lines = _read(path)
    known = {name: i for i, name in enumerate(np.asarray(ids, np.str_).tolist())}
    mend = "delete the file or run `podium fold` to make it anew"
    if head.get("data_id", data_id) != data_id:
        raise UserError(f"{path}: was made for other data (data_id {head['data_id']}, here {data_id}); {mend}")
    found: dict[str, tuple[int, int, str, str]] = {}
    for number, line in lines:
        name = line["id"]
        if name in found:
            raise UserError(f"{path}: line {number}: id '{name}' is there twice; remove one of the lines")
        if name not in known:
            raise UserError(f"{path}: line {number}: id '{name}' is not in the data; {mend}")
        group, fold = (_integer(path, number, key, line[key]) for key in ("group", "fold"))
        if fold < DROPPED:
            raise UserError(f"{path}: line {number}: fold {fold} is not allowed; folds count from 0, -1 means dropped")
        found[name] = group, fold, line.get("stratum", ""), line.get("reason", "")
    missing = [name for name in known if name not in found]
    if missing:
        raise UserError(f"{path}: {len(missing)} of {len(known)} ids are missing, the first is '{missing[0]}'; {mend}")

    rows = [found[name] for name in known]
    groups, fold_of = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    sides: dict[int, int] = {}
    for group, fold in zip(groups.tolist(), fold_of.tolist(), strict=True):
        if fold >= 0 and sides.setdefault(group, fold) != fold:
            raise UserError(f"{path}: group {group} lies in folds {sides[group]} and {fold}; give its rows one fold")
    highest = int(fold_of.max(initial=-1))
    count = _integer(path, 0, "count", head["count"]) if "count" in head else highest + 1
    if highest >= count:
        raise UserError(f"{path}: fold {highest} is not allowed, its head says count: {count}; correct one of them")
    if count < 2:
        raise UserError(f"{path}: holds {max(count, 0)} folds, at least 2 are needed; {mend}")
    empty = sorted(set(range(count)) - set(fold_of.tolist())) if count <= len(rows) else [highest + 1]
    if empty:
        raise UserError(
            f"{path}: no row is in fold {empty[0]}, but folds 0..{count - 1} need rows; correct it or {mend}"
        )
    strata, reasons = (np.array([row[i] for row in rows], np.str_) for i in (2, 3))
    names = np.array(list(known), np.str_)
    return Folds(names, groups, strata, fold_of, reasons, head.get("data_id", ""), count, _settings(path, head))


def _field(text: str) -> str:
    """A CSV field; csv.writer leaves a lone carriage return unquoted, which csv.reader takes for the line's end."""
    return '"' + text.replace('"', '""') + '"' if any(char in text for char in ',"\r\n') else text


def _read(path: Path) -> tuple[dict[str, str], list[tuple[int, dict[str, str]]]]:
    """The head's ``# key: value`` lines and, with their line numbers, the rows as mappings."""
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such fold file; run `podium fold`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}); delete it and run `podium fold`") from None
    head: dict[str, str] = {}
    lines = list(io.StringIO(content, newline=""))
    skipped = 0
    while skipped < len(lines) and lines[skipped].startswith("#"):
        key, colon, value = lines[skipped][1:].partition(":")
        if colon:
            head[key.strip()] = value.strip()
        skipped += 1
    out: list[tuple[int, dict[str, str]]] = []
    reader = csv.reader(lines[skipped:], strict=True)
    try:
        header = next(reader, [])
        absent = [key for key in _NEEDED if key not in header]
        unknown = [key for key in header if key not in COLUMNS]
        if absent or unknown or len(set(header)) != len(header):
            found = ",".join(header) or "nothing"
            wanted = ",".join(COLUMNS)
            raise UserError(
                f"{path}: line {skipped + 1}: expected the columns {wanted}, found {found}; correct the line"
            )
        for fields in reader:
            if not fields:
                continue
            number = skipped + reader.line_num
            if len(fields) != len(header):
                raise UserError(
                    f"{path}: line {number}: {len(fields)} fields, expected {len(header)}; correct the line"
                )
            out.append((number, dict(zip(header, fields, strict=True))))
    except csv.Error as error:
        number = skipped + reader.line_num
        raise UserError(f"{path}: line {number}: not valid CSV ({error}); correct the line") from None
    return head, out


def _integer(path: Path, line: int, key: str, text: str) -> int:
    try:
        value = int(text)
        if abs(value) < 1 << 62:
            return value
    except ValueError:
        pass
    where = f"line {line}" if line else "head"
    raise UserError(f"{path}: {where}: {key} '{text}' is not a whole number; correct it") from None


def _settings(path: Path, head: dict[str, str]) -> FoldSettings | None:
    """The settings that the head records, None where it does not name all of them."""
    if not all(key in head for key in FoldSettings.model_fields):
        return None
    try:
        return FoldSettings.model_validate({key: head[key] for key in FoldSettings.model_fields})
    except ValidationError as error:
        key = error.errors()[0]["loc"][0]
        raise UserError(f"{path}: head: {key} '{head[str(key)]}' is not allowed; correct or remove the line") from None
