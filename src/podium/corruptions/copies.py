"""All corrupted copies of a part: made once, beside the decoded data, and memory-mapped from there."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from podium.config_preprocess import ImageStep
from podium.config_validation import KINDS, Corruptions
from podium.cores import cores
from podium.corruptions.draw import chosen, draw
from podium.data.cache import READ_BACK_BYTES, Recipe, cached, open_cached
from podium.data.chunk import Bad, Chunk, Progress, lines
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.preprocess import PREPROCESS_VERSION
from podium.randomness import stream
from podium.store import canonical, verify, write_atomically

VERSION = 1
"""Raised by hand when the same settings would give other copies; part of their ``data_id``."""
TABLE = "corruptions.csv"
COLUMNS = ["id", "image", "copy", "kind", "strength"]
BLOCK_BYTES = 64 << 20
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Corrupted:
    """The corrupted copies of a part.

    part: named ``corrupted``, ids ``<id>~<copy>`` counted from 1, the copies of an image together and images in their order;
    targets and groups are their images'. base_row: int64 (M,), of which row of the part each is a copy. kinds: unicode (M,).
    strengths: int64 (M,).
    """

    part: Part
    base_row: np.ndarray
    kinds: np.ndarray
    strengths: np.ndarray


@dataclass(frozen=True, eq=False)
class Order:
    """What is to be made of the training part of ``cache``/``source``; small, and can be sent to another process.

    rows: int64, those that may be copied (that are in a fold). steps: preprocessing, done after the corruption as it would
    be to an image that comes corrupted; the part is then the data before it.
    """

    cache: Path
    source: str
    settings: Corruptions
    masks: bool
    rows: np.ndarray
    steps: tuple[ImageStep, ...]

    def data_id(self, part: Part) -> str:
        """16 hexadecimal digits: a hash of the data, of the rows and of all that is done to them."""
        settings = self.settings.model_dump(mode="json")
        settings["kinds"] = sorted(self.settings.fitting(part.channels))
        settings["strengths"] = sorted(self.settings.strengths)
        how = {
            "version": VERSION,
            "settings": settings,
            "masks": self.masks,
            "rows": hashlib.sha256(self.rows.astype("<i8").tobytes()).hexdigest(),
            "preprocess": PREPROCESS_VERSION if self.steps else None,
            "steps": [step.model_dump(mode="json") for step in self.steps],
        }
        return hashlib.sha256(canonical(["corrupted", self.source, how]).encode()).hexdigest()[:16]


def open_or_make(
    cache: Path,
    part: Part,
    settings: Corruptions,
    masks: bool,
    say: Say,
    rows: np.ndarray | None = None,
    steps: Sequence[ImageStep] = (),
) -> Corrupted:
    """The corrupted copies of ``part``, from ``cache``/<their data_id>; made there where they are missing or damaged.

    part: the training part of ``cache``/<its data_id>, before ``steps`` of preprocessing; they are done to the copies after
    the corruption. masks: whether targets are (1, H, W) and move with the image. rows: those that may be copied, all where
    not given; ``at_most`` is of them.

    They are made in a process of its own, since that imports torch, and appear whole or not at all. Kinds that the images do
    not allow and ids that are taken are a UserError.
    """
    problem = settings.misfit(part.channels)
    if problem is not None:
        raise UserError(problem)
    rows = np.arange(len(part)) if rows is None else np.asarray(rows, np.int64)
    order = Order(cache, part.data_id, settings, masks, rows, tuple(steps))
    _check_ids(part, settings)
    data_id = order.data_id(part)
    if not _whole(cache, data_id):
        from podium.corruptions.apart import make_apart

        make_apart(order, say)
    return open_corrupted(cache, data_id, part)


def open_corrupted(cache: Path, data_id: str, part: Part) -> Corrupted:
    """What ``open_or_make`` made of ``part``, for a worker that is told only the ``data_id``; sizes are checked, checksums not."""
    made = open_cached(cache, data_id).train
    assert made.targets is not None
    table = cache / data_id / TABLE
    names, images, kinds, strengths = _read_table(table)
    if not np.array_equal(names, made.images.ids) or not set(images.tolist()) <= part.images.index.keys():
        raise UserError(
            f"{table}: does not belong to the images beside it; delete its folder and run the command again"
        )
    base = np.array([part.images.index[name] for name in images.tolist()], np.int64)
    return Corrupted(Part("corrupted", made.images, made.targets, data_id, made.groups), base, kinds, strengths)


def make(order: Order, say: Say) -> None:
    """Make the copies, in this process, which then imports torch; what is there and whole stays as it is."""
    part = open_cached(order.cache, order.source).train
    assert part.targets is not None
    data_id = order.data_id(part)
    rows = order.rows[chosen(part.images.ids[order.rows], order.settings)]
    kinds, strengths = draw(part.images.ids[rows], order.settings.fitting(part.channels), order.settings)
    recipe = Recipe(
        part.images.values.dtype,
        lambda: _chunks(part, order, rows, kinds, strengths, lines("corrupting: copies of", say)),
        None,
        Bad(),
        source_id=order.source,
        targets=part.targets.values.dtype,
    )
    cached(order.cache, data_id, recipe, say)
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(COLUMNS)
    for name, its_kinds, its_strengths in zip(part.images.ids[rows].tolist(), kinds, strengths, strict=True):
        for copy, (kind, strength) in enumerate(zip(its_kinds, its_strengths, strict=True), start=1):
            table.writerow([_name(name, copy), name, copy, kind, strength])
    write_atomically(order.cache / data_id / TABLE, written.getvalue())


def _chunks(
    part: Part, order: Order, rows: np.ndarray, kinds: np.ndarray, strengths: np.ndarray, progress: Progress
) -> Iterator[Chunk]:
    import cv2

    from podium import preprocess
    from podium.corruptions.corrupt import corrupt

    assert part.targets is not None
    targets, seed = part.targets, order.settings.seed

    def copies(place: int) -> list[tuple[np.ndarray, np.ndarray]]:
        row = int(rows[place])
        name, made = str(part.images.ids[row]), []
        for copy, (kind, strength) in enumerate(zip(kinds[place].tolist(), strengths[place].tolist(), strict=True), 1):
            rng = np.random.default_rng(stream("corrupt", seed, name, copy))
            image, target = corrupt(part.images[row], targets[row], kind, strength, rng, order.masks)
            made.append((preprocess.apply(order.steps, image) if order.steps else image, target))
        return made

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # images are done side by side instead
    with ThreadPoolExecutor(cores()) as pool, ExitStack() as after:
        after.callback(cv2.setNumThreads, threads)
        for block in _blocks(part.images, rows, kinds.shape[1]):
            made = [one for each in pool.map(copies, block) for one in each]
            base = np.repeat(rows[block.start : block.stop], kinds.shape[1])
            names = part.images.ids[base].tolist()
            yield Chunk(
                [_name(name, 1 + i % kinds.shape[1]) for i, name in enumerate(names)],
                [image for image, _ in made],
                [target for _, target in made],
                None if part.groups is None else part.groups[base].tolist(),
            )
            progress(block.stop, len(rows))


def _blocks(images: Ragged, rows: np.ndarray, copies: int) -> Iterator[range]:
    """Places in ``rows``, so many at a time that their copies take about ``BLOCK_BYTES``."""
    sizes = images.shapes[rows].prod(axis=1) * images.values.itemsize * copies
    blocks = np.cumsum(sizes) // BLOCK_BYTES
    starts = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(rows)]
    return (range(start, stop) for start, stop in pairwise(starts) if stop > start)


def _name(image: str, copy: int) -> str:
    return f"{image}~{copy}"


def _check_ids(part: Part, settings: Corruptions) -> None:
    ids = part.images.index
    for name in ids:
        image, tilde, copy = name.rpartition("~")
        if tilde and image in ids and copy in {str(number) for number in range(1, settings.copies + 1)}:
            raise UserError(
                f"image '{name}': a corrupted copy of image '{image}' would be called so too; rename the image"
            )


def _whole(cache: Path, data_id: str) -> bool:
    folder = cache / data_id
    try:
        made = open_cached(cache, data_id).train
        if made.images.values.nbytes <= READ_BACK_BYTES:
            verify(folder)
    except UserError:
        return False
    return (folder / TABLE).is_file()


def _read_table(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """ids, images, kinds and strengths of the copies, as ``make`` wrote them."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
        if header != COLUMNS:
            raise ValueError(f"its columns are {', '.join(header)}")
        names, images, _, kinds, strengths = (np.array(column, np.str_) for column in zip(*lines, strict=True))
        numbers = strengths.astype(np.int64)
        if not set(kinds.tolist()) <= set(KINDS) or not ((numbers >= 1) & (numbers <= 5)).all():
            raise ValueError("it names a kind or a strength that there is not")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read back ({error}); delete its folder and run the command again") from None
    return names, images, kinds, numbers
