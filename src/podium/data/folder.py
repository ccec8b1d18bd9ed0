"""Pictures in folders: found by templates, paired with masks by id or sorted into class folders, decoded in parallel.

A template is matched folder by folder: ``{id}``, ``{class}`` and ``*`` stand for text within one name, never across a
``/``. Where a name can be read in several ways, known classes come first and the id is as long as possible. Hidden
files, also macOS's ``._`` ones, are not there.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np

from podium.config_data import PLACEHOLDER, FolderData, TableData, fixed_part
from podium.cores import cores
from podium.data import picture
from podium.data.chunk import Chunk, Reading
from podium.data.picture import BadPicture
from podium.errors import UserError, did_you_mean

CHUNK_ROWS, CHUNK_BYTES = 64, 64 << 20
"""A chunk is handed over when it has so many images, or images of so many bytes."""
COLOURS = {1: "grey", 3: "colour"}  # by channels
Outcome = tuple[np.ndarray, np.ndarray | None] | BadPicture


@dataclass(frozen=True)
class Row:
    """An image to be decoded. target: makes its target, given the image's height and width; None for test rows."""

    id: str
    image: Path
    target: Callable[[tuple[int, int]], np.ndarray] | None = None


def read_train(data: FolderData, reading: Reading) -> Iterator[Chunk]:
    """The training rows in natural order of their ids (1, 2, 10), a few dozen at a time.

    Ids are what ``{id}`` stands for, or ``class/id`` of class folders. Targets are masks (1, H, W) of each image's size,
    or labels (1, 1, 1), uint8 class indices. Told to ``reading.bad``: an image without mask, a mask without image, two
    files of one id, a folder that is no class, and all that ``decoded`` finds in a picture. No file at all for a
    template, or no row that is good, is a UserError.
    """
    rows = _labelled(data, reading) if data.train.target is None else _paired(data, data.train.target, reading)
    yield from decoded("data.train.image", rows, data, reading)


def read_test(data: FolderData, reading: Reading) -> Iterator[Chunk]:
    """The test rows, as ``read_train`` but without targets."""
    if data.test is None:
        raise ValueError("the competition has no test images")
    found = _unique(_required("data.test.image", data.test.image, reading), reading)
    rows = [Row(name, item.path) for name, item in found.items()]
    yield from decoded("data.test.image", rows, data, reading)


def files(data: FolderData, folder: Path) -> list[Path]:
    """Every file that reading depends on, images and masks of both parts, sorted; for a hash of the content."""
    roles = [data.train.image, data.train.target, data.test.image if data.test else None]
    found = {item.path for template in roles if template for item in match(folder, template)}
    return sorted((path for path in found if path.is_file()), key=lambda path: path.as_posix())


# ---------------------------------------------------------------- which files there are


@dataclass(frozen=True, slots=True)
class Match:
    """A file that a template matches, and what its placeholders stand for."""

    path: Path
    id: str = ""
    label: str = ""


def match(folder: Path, template: str, classes: Sequence[str] = ()) -> list[Match]:
    """The files below ``folder`` that ``template`` matches, in natural order of label and id, then of path."""
    level = [Match(folder)]
    parts = PurePosixPath(template).parts
    for depth, part in enumerate(parts):
        level = list(_below(level, part, classes, last=depth == len(parts) - 1))
    return sorted(level, key=lambda item: (natural(item.label), natural(item.id), str(item.path)))


def natural(text: str) -> tuple[tuple[str | int, ...], str]:
    """Key that sorts numbers within texts by value; of equal values (1, 01) by text."""
    pieces = re.split("([0-9]+)", text)
    return tuple(int(piece) if i % 2 else piece for i, piece in enumerate(pieces)), text


def _below(above: Iterable[Match], part: str, classes: Sequence[str], last: bool) -> Iterator[Match]:
    """What ``part`` of a template matches in the folders ``above``: files where it is the last, else folders."""
    if not PLACEHOLDER.search(part) and "*" not in part:
        for item in above:
            if _fits(path := item.path / part, last):
                yield Match(path, item.id, item.label)
        return
    pattern = _pattern(part, classes)
    for item in above:
        try:
            with os.scandir(item.path) as entries:
                for entry in entries:
                    fit = pattern.fullmatch(entry.name)
                    if fit and not entry.name.startswith(".") and _fits(entry, last):
                        held = fit.groupdict()
                        path = item.path / entry.name
                        yield Match(path, held.get("id") or item.id, held.get("class") or item.label)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(f"{item.path}: cannot be listed ({error.strerror}); change its permissions") from None


def _fits(entry: Path | os.DirEntry[str], last: bool) -> bool:
    """A link that leads nowhere counts as a file: it is a picture that cannot be read, rather than none."""
    if not last:
        return entry.is_dir()
    return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry))


def _pattern(part: str, classes: Sequence[str]) -> re.Pattern[str]:
    known = "|".join(re.escape(name) for name in sorted(classes, key=len, reverse=True))
    meaning = {"{id}": "(?P<id>.+)", "{class}": f"(?P<class>{known or '(?!)'}|.+?)", "*": ".*?"}
    pieces = re.split(r"(\{id\}|\{class\}|\*)", part)
    return re.compile("".join(meaning.get(piece) or re.escape(piece) for piece in pieces), re.DOTALL)


def _required(key: str, template: str, reading: Reading) -> list[Match]:
    """As ``match``; nothing at all is a UserError that names three files that are there."""
    found = match(reading.folder, template, reading.classes)
    if found:
        return found
    near = reading.folder / fixed_part(template)
    while near != reading.folder and not near.is_dir():
        near = near.parent
    there = list(islice(_walk(near), 3)) or list(islice(_walk(reading.folder), 3))
    said = ", ".join(os.path.relpath(path, reading.folder) for path in there)
    raise UserError(
        f"{reading.folder}: no file matches {key} '{template}', {f'there are {said}' if there else 'it holds no files'}; "
        f"correct the template or take the right folder"
    )


def _walk(folder: Path) -> Iterator[str]:
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(top, name) for name in sorted(names) if not name.startswith("."))


# ---------------------------------------------------------------- which rows they make


def _labelled(data: FolderData, reading: Reading) -> list[Row]:
    """Rows of class folders; a folder that is no class is bad as a whole."""
    template = data.train.image
    good: list[Match] = []
    strange: dict[str, list[Match]] = {}
    for item in _required("data.train.image", template, reading):
        if item.label in reading.classes:
            good.append(item)
        else:
            strange.setdefault(item.label, []).append(item)
    parts = PurePosixPath(template).parts
    above = len(parts) - 2 - next(depth for depth, part in enumerate(parts) if "{class}" in part)
    for label, items in strange.items():
        where = items[0].path.parents[above] if above >= 0 else items[0].path
        reading.bad(
            f"{where}: '{label}' ({len(items)} images) is not a class, rename it or correct 'classes'; "
            f"{did_you_mean(label, reading.classes)}"
        )
    indices = {name: index for index, name in enumerate(reading.classes)}
    found = _unique(good, reading)
    return [Row(name, item.path, partial(_label, indices[item.label])) for name, item in found.items()]


def _paired(data: FolderData, template: str, reading: Reading) -> list[Row]:
    """Rows of images with masks; one without the other is bad."""
    lookup = picture.value_lookup(data.values, reading.classes)
    images = _unique(_required("data.train.image", data.train.image, reading), reading)
    masks = _unique(_required("data.train.target", template, reading), reading)
    for name, item in images.items():
        if name not in masks:
            wanted = reading.folder / template.replace("{id}", name)
            reading.bad(f"{item.path}: has no mask, there is no {wanted}; add the mask or remove the image")
    for name, item in masks.items():
        if name not in images:
            wanted = reading.folder / data.train.image.replace("{id}", name)
            reading.bad(f"{item.path}: is a mask without image, there is no {wanted}; add the image or remove the mask")
    return [
        Row(name, item.path, partial(_mask, masks[name].path, item.path, lookup))
        for name, item in images.items()
        if name in masks
    ]


def _unique(found: Iterable[Match], reading: Reading) -> dict[str, Match]:
    """By id, ``class/id`` where there are classes; a second file of one id is bad."""
    unique: dict[str, Match] = {}
    for item in found:
        name = f"{item.label}/{item.id}" if item.label else item.id
        first = unique.setdefault(name, item)
        if first is not item:
            reading.bad(f"{item.path}: has the same id '{name}' as {first.path}; remove one or narrow the template")
    return unique


def _label(index: int, size: tuple[int, int]) -> np.ndarray:
    return np.full((1, 1, 1), index, np.uint8)


def _mask(path: Path, image: Path, lookup: picture.Lookup, size: tuple[int, int]) -> np.ndarray:
    found = picture.mask(path, lookup)
    if found.shape[1:] != size:
        raise BadPicture(
            f"{path}: the mask is {_size(found.shape[1:])} and its image {image} {_size(size)} (H x W); "
            f"both must have one size, take the right file"
        )
    return found


# ---------------------------------------------------------------- from rows to chunks


def decoded(key: str, rows: Sequence[Row], data: FolderData | TableData, reading: Reading) -> Iterator[Chunk]:
    """Decode ``rows`` in parallel and hand them over in order; memory does not grow with their number.

    Told to ``reading.bad``: a picture that ``picture.decode`` or the row's target refuses, one of another size than
    ``data.shape``, and, with ``colour: keep``, one with other channels than the first good row's. No good row at all is
    a UserError with ``key``, the setting by which the rows were found.
    """
    first: tuple[Path, int] | None = None
    held: list[tuple[str, np.ndarray, np.ndarray | None]] = []
    good = size = 0
    for done, (row, outcome) in enumerate(_in_order(partial(_load, data), rows), 1):
        if isinstance(outcome, BadPicture):
            reading.bad(str(outcome))
        else:
            image, target = outcome
            first = first or (row.image, len(image))
            if len(image) != first[1]:
                reading.bad(
                    f"{row.image}: is {COLOURS[len(image)]} where the first image, {first[0]}, is {COLOURS[first[1]]}; "
                    f"set data.colour to grey or rgb"
                )
            else:
                held.append((row.id, image, target))
                size += image.nbytes
        if len(held) == CHUNK_ROWS or size >= CHUNK_BYTES or done == len(rows):
            reading.progress(done, len(rows))
            if held:
                good += len(held)
                yield _chunk(held)
                held, size = [], 0
    if not good:
        why = reading.bad.skipped[-1] if reading.bad.skipped else "there are none"
        raise UserError(f"{reading.folder}: no image of {key} can be used, the last because {why}")


def _load(data: FolderData | TableData, row: Row) -> Outcome:
    try:
        image = picture.decode(row.image, data.colour, data.dtype)
        height, width = image.shape[1:]
        if data.shape is not None and (height, width) != tuple(data.shape):
            raise BadPicture(
                f"{row.image}: is {_size((height, width))} where data.shape asks for {_size(data.shape)} (H x W); "
                f"resize it or correct data.shape"
            )
        return image, row.target((height, width)) if row.target else None
    except BadPicture as error:
        return error


def _in_order(load: Callable[[Row], Outcome], rows: Iterable[Row]) -> Iterator[tuple[Row, Outcome]]:
    """Each row with what became of it, a few rows ahead of the one that is asked for."""
    workers = 2 * cores()  # while some wait for the disk, others decode; Pillow lets go of Python's lock for that
    waiting: deque[tuple[Row, Future[Outcome]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for row in rows:
            waiting.append((row, pool.submit(load, row)))
            if len(waiting) > 2 * workers:
                yield waiting[0][0], waiting.popleft()[1].result()
        while waiting:
            yield waiting[0][0], waiting.popleft()[1].result()
    finally:
        pool.shutdown(cancel_futures=True)


def _chunk(held: Sequence[tuple[str, np.ndarray, np.ndarray | None]]) -> Chunk:
    ids, images, targets = zip(*held, strict=True)
    return Chunk(ids, images, None if targets[0] is None else targets)


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
