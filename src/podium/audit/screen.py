"""What the folds need to know of the data: which rows are left out, and which belong together."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from podium.audit.drops import find_drops
from podium.audit.near import near_duplicates
from podium.config import Competition
from podium.data.part import Part
from podium.store import Key, read_json, sha256_of, write_atomically, write_json

VERSION = 1
"""Raised by hand when the same data would be screened differently."""


@dataclass(frozen=True)
class Link:
    """Two nearly equal pictures: their ids, how alike they are (normalised correlation), how the second is turned."""

    first: str
    second: str
    correlation: float
    orientation: str


@dataclass(frozen=True, eq=False)
class Screening:
    """reasons: id → why it is left out. groups: int64 (N,), rows of one number are copies or near copies of each other.
    links: the near copies, nearest first. conflicts: ids of equal pictures with different masks."""

    reasons: dict[str, str]
    groups: np.ndarray
    links: tuple[Link, ...]
    conflicts: tuple[tuple[str, ...], ...]


def screen(part: Part, competition: Competition, folder: Path) -> Screening:
    """Search the training part, or read back what was found before in ``folder``.

    Leaves there drop.csv (id, reason), groups.csv (id, group) of all rows that are not alone, and screening.json.
    """
    key = screen_key(part, competition)
    record = read_json(folder / "screening.json")
    if record and record["key"] == key.hash and not _changed(folder, record["files"]):
        links = tuple(Link(**link) for link in record["links"])
        groups = np.array(record["groups"], np.int64)
        return Screening(record["reasons"], groups, links, tuple(map(tuple, record["conflicts"])))
    drops = find_drops(part, len(competition.classes), competition.unscored_index)
    near = near_duplicates(part.images)
    ids = part.images.ids
    links = tuple(
        Link(str(ids[pair.first]), str(ids[pair.second]), round(float(pair.correlation), 4), pair.orientation)
        for pair in near.pairs
    )
    found = Screening(drops.reasons, near.groups, links, drops.conflicts)
    write_table(folder / "drop.csv", ["id", "reason"], list(drops.reasons.items()))
    _, inverse, counts = np.unique(near.groups, return_inverse=True, return_counts=True)
    together = np.flatnonzero(counts[inverse] > 1)
    together = together[np.argsort(near.groups[together], kind="stable")]
    rows = list(zip(ids[together].tolist(), near.groups[together].tolist(), strict=True))
    write_table(folder / "groups.csv", ["id", "group"], rows)
    files = {name: sha256_of(folder / name) for name in ("drop.csv", "groups.csv")}
    content = asdict(found) | {"groups": near.groups.tolist()}
    write_json(folder / "screening.json", {"key": key.hash, "files": files} | content)
    return found


def screen_key(part: Part, competition: Competition) -> Key:
    """Identity of a screening."""
    settings = {"classes": list(competition.classes), "unscored": competition.unscored}
    return Key("screening", VERSION, settings, (part.data_id,))


def join(groups: list[np.ndarray]) -> np.ndarray:
    """int64 (N,): rows are together where any of ``groups`` (N,) puts them together, directly or by way of others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(groups[0])
    edges = []
    for numbers in groups:
        _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
        edges.append(first[inverse])
    rows = np.tile(np.arange(count), len(edges))
    graph = coo_array((np.ones(len(rows)), (rows, np.concatenate(edges))), (count, count))
    joined: np.ndarray = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(joined, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))  # numbered by first occurrence
    return np.asarray(order[inverse], np.int64)


def write_table(path: Path, header: list[str], rows: Sequence[tuple[object, ...]]) -> None:
    """Write a small csv atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def _changed(folder: Path, files: dict[str, str]) -> bool:
    return any(not (folder / name).is_file() or sha256_of(folder / name) != digest for name, digest in files.items())
