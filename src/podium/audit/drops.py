"""Training rows that beyond doubt do not belong: jokes, copies, and masks pasted under many pictures."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from podium.data.chunk import NO_LABEL
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.errors import UserError, did_you_mean

REPEATED = 5
"""A picture with this many identical copies is nobody's measurement; fewer can be one that was handed in twice."""


@dataclass(frozen=True)
class Drops:
    """reasons: id → why it is left out, in the order of the rows. conflicts: ids of equal pictures with different masks,
    which stay, since which of two drawings is right only a person can tell."""

    reasons: dict[str, str]
    conflicts: tuple[tuple[str, ...], ...]


def find_drops(part: Part, classes: int, unscored: int | None) -> Drops:
    """What is left out with ``data.drop: auto``.

    - A mask with two or more scored classes that several different pictures share cannot have been drawn for them: all
      of these rows. Masks of a single class (a tile of one terrain) are shared by honest pictures too.
    - A picture that occurs ``REPEATED`` times or more: all copies. Blank pictures are no jokes, they are copies.
    - Equal pictures with equal targets: all but the first.
    - Equal pictures with different labels: all. With different masks they stay and are ``conflicts``.
    """
    if part.targets is None:
        raise ValueError(f"{part.name}: has no targets to search")
    targets = part.targets
    pictures, drawn = same(part.images), same(targets)
    labels = not part.masks
    reasons: dict[int, str] = {}
    conflicts = []
    if not labels:
        for rows in _together(drawn):
            different = len(set(pictures[rows].tolist()))
            if different > 1 and _scored_classes(targets[rows[0]], classes, unscored) > 1:
                reasons |= dict.fromkeys(rows, f"mask shared by {different} different pictures")
    for rows in _together(pictures):
        given = drawn[rows].tolist()
        first = {target: rows[given.index(target)] for target in given}  # the first row of each target
        if len(rows) >= REPEATED and not _blank(part.images[rows[0]]):
            found = dict.fromkeys(rows, f"picture occurs {len(rows)} times")
        elif labels and len(first) > 1:
            found = dict.fromkeys(rows, f"{len(rows)} equal pictures with {len(first)} different labels")
        else:
            copies = [(row, first[target]) for row, target in zip(rows, given, strict=True) if row != first[target]]
            found = {row: f"copy of {part.images.ids[original]}" for row, original in copies}
        reasons = found | reasons
        drawings = [row for row in first.values() if row not in reasons]
        if len(drawings) > 1:
            conflicts.append(tuple(str(part.images.ids[row]) for row in drawings))
    return Drops({str(part.images.ids[row]): reasons[row] for row in sorted(reasons)}, tuple(conflicts))


def in_short(reason: str) -> str:
    """A reason without the one id that it may name, so that equal ones can be counted."""
    return "copy of another image" if reason.startswith("copy of ") else reason


def read_drops(path: Path, ids: np.ndarray) -> dict[str, str]:
    """The rows that a csv names: its column ``id`` and, where it has one, ``reason``; ids of other data are an error."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data.drop: {path} cannot be read ({error}); name a csv with a column id") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if "id" not in (reader.fieldnames or []):
        raise UserError(f"{path}: has no column 'id'; {did_you_mean('id', reader.fieldnames or [])}")
    known = set(ids.tolist())
    reasons = {}
    for row in reader:
        if row["id"] not in known:
            raise UserError(
                f"{path}: line {reader.line_num}: id '{row['id']}' is not in the data; correct or remove it"
            )
        reasons[row["id"]] = row.get("reason") or f"named in {path.name}"
    return reasons


def same(items: Ragged) -> np.ndarray:
    """int64 (N,): items that are equal byte for byte have one number, counted by first occurrence."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(_digest(item), len(numbers)) for item in items], np.int64)


def _blank(image: np.ndarray) -> bool:
    """Whether every channel is of one value."""
    return bool((image == image[:, :1, :1]).all())


def _together(numbers: np.ndarray) -> list[list[int]]:
    """Rows with the same number, where there are several."""
    rows: dict[int, list[int]] = defaultdict(list)
    for row, number in enumerate(numbers.tolist()):
        rows[number].append(row)
    return [group for group in rows.values() if len(group) > 1]


def _scored_classes(mask: np.ndarray, count: int, unscored: int | None) -> int:
    found: Sequence[int] = np.unique(mask).tolist()
    return sum(value < count for value in set(found) - {NO_LABEL, unscored})


def _digest(array: np.ndarray) -> bytes:
    """Hash of an array's shape and bytes."""
    digest = hashlib.sha256(repr(array.shape).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
