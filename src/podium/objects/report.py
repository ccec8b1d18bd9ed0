"""Everything about the objects of a part: tables and pictures in one folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from podium.config_objects import Objects
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.objects import table
from podium.objects.find import Found, find, kind_names
from podium.objects.measure import measure
from podium.objects.overlay import file_name, overlay
from podium.store import Folder, Key, read_json, sha256_of, write_atomically, write_json

VERSION = 1  # raised by hand whenever the same settings give other files
OBJECTS, COUNTS, OVERLAYS, RECORD = "objects.csv", "counts.csv", "overlays", "objects.json"


@dataclass(frozen=True)
class ObjectsReport:
    """What ``write_report`` found and wrote.

    folder: where the files lie. objects, images: how many of both. kinds: what the objects are called. per_kind: how
    many of each. empty: images without any object. overlays: pictures drawn. reused: whether all was there already.
    """

    folder: Path
    objects: int
    images: int
    kinds: tuple[str, ...]
    per_kind: tuple[int, ...]
    empty: int
    overlays: int
    reused: bool = False


def write_report(
    folder: Path,
    part: Part,
    labels: Ragged,
    settings: Objects,
    classes: Sequence[str],
    unscored: int | None,
    overlays: int | None = None,
) -> ObjectsReport:
    """Find the objects in ``labels`` and write tables and pictures of them into ``folder``.

    part: the images, joined by id. labels: uint8 (1, H, W) per id, of the images' sizes. classes: names in the order of
    their indices. unscored: index of the class that is not scored, or None. overlays: how many pictures are drawn, of
    the first images; None for all.

    - ``objects.csv``: a row per object, see ``measure.Measures``. ``counts.csv``: image, objects, and a column per
      class where there are several; images in the order of ``labels``.
    - ``overlays/<id>.png``: the outlines, with odd characters of an id written as %XX.
    - ``objects.json``: what these were made of, with checksums, so that the same command again leaves them as they are.

    Only files that an earlier call wrote are replaced or (overlays that are no longer asked for) removed. Others in
    the way, and images that do not fit their labels, are a UserError before anything is written.
    """
    _check(part, labels)
    kinds = kind_names(settings, classes, unscored)
    drawn = labels.ids[: len(labels) if overlays is None else overlays].tolist()
    made_of = _key(part, labels, settings, classes, unscored, drawn)
    place = Folder(folder, made_of)
    with place.lock():
        before = read_json(place.file(RECORD))
        if before is None:
            _refuse_foreign(folder)
        elif before["key"] == made_of.hash and _intact(folder, before["files"]):
            return _report(folder, before["report"], reused=True)
        names = [f"{OVERLAYS}/{file_name(name)}" for name in drawn]
        old = {name for name in before["files"] if _ours(name)} if before else set()
        # Written first: whatever a kill leaves behind is known to be ours.
        planned = dict.fromkeys(sorted(old | {OBJECTS, COUNTS, *names}))
        write_json(place.file(RECORD), {"key": None, "files": planned})
        report = _write(folder, part, labels, settings, classes, unscored, dict(zip(drawn, names, strict=True)))
        for stale in old - {OBJECTS, COUNTS, *names}:
            place.file(stale).unlink(missing_ok=True)
        for left_over in place.file(OVERLAYS).glob(".*.tmp*"):  # of a write that a kill interrupted
            left_over.unlink(missing_ok=True)
        sums = {name: sha256_of(place.file(name)) for name in (OBJECTS, COUNTS, *names)}
        kept = {key: value for key, value in asdict(report).items() if key not in ("folder", "reused")}
        write_json(place.file(RECORD), {"key": made_of.hash, "kinds": kinds, "report": kept, "files": sums})
        return report


def _write(
    folder: Path,
    part: Part,
    labels: Ragged,
    settings: Objects,
    classes: Sequence[str],
    unscored: int | None,
    drawn: dict[str, str],
) -> ObjectsReport:
    """Image by image, so that neither memory nor a kill cares how many there are."""
    kinds = kind_names(settings, classes, unscored)
    counts = np.zeros((len(labels), len(kinds)), np.int64)

    def objects(path: Path) -> None:
        with _text(path) as file:
            file.write(table.header())
            for row, name in enumerate(labels.ids.tolist()):
                image, found = part.images[part.images.index[name]], find(labels[row][0], settings, classes, unscored)
                file.writelines(map(table.object_line, measure(name, image, part.scale, found, kinds)))
                counts[row] = np.bincount(found.kinds, minlength=len(kinds))
                if name in drawn:
                    _draw(folder / drawn[name], image, found)

    def per_image(path: Path) -> None:
        with _text(path) as file:
            file.write(table.counts_header(kinds))
            for name, row in zip(labels.ids.tolist(), counts.tolist(), strict=True):
                file.write(table.counts_line(name, row))

    write_atomically(folder / OBJECTS, objects)
    write_atomically(folder / COUNTS, per_image)
    per_kind = tuple(counts.sum(axis=0).tolist())
    empty = int((counts.sum(axis=1) == 0).sum())
    return ObjectsReport(folder, sum(per_kind), len(labels), kinds, per_kind, empty, len(drawn))


def _draw(path: Path, image: np.ndarray, found: Found) -> None:
    write_atomically(path, overlay(image, found), sync=False)


def _text(path: Path) -> TextIO:
    return path.open("w", encoding="utf-8", newline="")


def _check(part: Part, labels: Ragged) -> None:
    """Every mask has its image, of one size with it."""
    if labels.values.dtype != np.uint8 or (labels.shapes[:, 0] != 1).any():
        raise ValueError(f"labels are {labels.values.dtype} {labels.shapes[:1].tolist()}, expected uint8 (1, H, W)")
    for row, name in enumerate(labels.ids.tolist()):
        if name not in part.images.index:
            raise UserError(f"id '{name}': has a mask but no image in the {part.name} part; predict again")
        size, mask = part.images.shapes[part.images.index[name], 1:].tolist(), labels.shapes[row, 1:].tolist()
        if size != mask:
            raise UserError(
                f"id '{name}': its mask has {mask[0]} × {mask[1]} pixels (height × width), its image "
                f"{size[0]} × {size[1]}; predict again"
            )


def _key(
    part: Part,
    labels: Ragged,
    settings: Objects,
    classes: Sequence[str],
    unscored: int | None,
    drawn: list[str],
) -> Key:
    """What the files are made of, the masks themselves included."""
    masks = hashlib.sha256(np.ascontiguousarray(labels.values).data)
    masks.update(np.ascontiguousarray(labels.shapes, np.int64).data)
    masks.update("\0".join(labels.ids.tolist()).encode())
    said: dict[str, Any] = {"objects": settings.model_dump(mode="json"), "classes": list(classes), "unscored": unscored}
    return Key("objects", VERSION, said | {"part": part.name, "drawn": drawn}, (part.data_id, masks.hexdigest()))


def _refuse_foreign(folder: Path) -> None:
    for name in (OBJECTS, COUNTS, OVERLAYS):
        if (folder / name).exists():
            raise UserError(
                f"{folder / name}: is there already and was not written by this command; move it away or choose "
                "another place"
            )


def _ours(name: str) -> bool:
    return name in (OBJECTS, COUNTS) or Path(name).parent == Path(OVERLAYS)


def _intact(folder: Path, sums: dict[str, str]) -> bool:
    return all((folder / name).is_file() and sha256_of(folder / name) == wanted for name, wanted in sums.items())


def _report(folder: Path, kept: dict[str, Any], reused: bool) -> ObjectsReport:
    kept = {key: tuple(value) if isinstance(value, list) else value for key, value in kept.items()}
    return ObjectsReport(folder, **kept, reused=reused)
