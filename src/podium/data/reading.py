"""A competition's data from its own files: the reader of its format, its identity, its decoded copy, its preprocessing."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from itertools import repeat
from pathlib import Path
from types import ModuleType

from podium import preprocess
from podium.config import Competition
from podium.config_preprocess import image_steps
from podium.cores import cores
from podium.data.cache import UINT8, Recipe, cached
from podium.data.chunk import PIXELS, Bad, Chunk, Reading, lines
from podium.data.part import Dataset, Part
from podium.data.ragged import Ragged, RaggedWriter
from podium.errors import UserError
from podium.store import canonical, read_json, sha256_of, write_json

READERS = {"npz": "podium.data.npz", "folder": "podium.data.folder", "table": "podium.data.table"}
"""The module of each format; it has ``files``, ``read_train`` and ``read_test``."""
VERSION = 2
"""Raised by hand when the same files would be read differently; part of ``source_id``."""
HASH_BYTES = 256 << 20
"""Files up to this size in all are hashed at every start; larger ones again only when a size or a time has changed."""
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Opened:
    """The data as the files hold them, and as they are trained on; the same where there is no preprocessing."""

    source: Dataset
    dataset: Dataset


def open_dataset(
    competition: Competition,
    folder: Path,
    cache: Path,
    say: Say = lambda text: print(text, file=sys.stderr),
    skip_bad: bool = False,
) -> Opened:
    """Read the competition's data from ``folder`` through decoded, memory-mapped copies in ``cache``/<data_id>.

    A copy that is missing is made, one that is damaged is made anew and ``say`` told so. skip_bad: leave out rows that
    cannot be used; which ones, the dataset's ``skipped`` tells, at every later start too. Without, the first of them
    is a UserError, and so is a bad test row in any case.
    """
    reader: ModuleType = import_module(READERS[competition.data.format])
    identity = source_id(competition, folder, skip_bad, cache)
    bad = Bad(skip_bad)
    context = Reading(
        folder,
        competition.classes,
        competition.task,
        competition.first_id,
        bad,
        lines("decoding:", say),
    )
    groups = competition.data.groups
    joined: Callable[[list[str]], list[str]] | None = None
    if groups is not None and groups.file is not None:
        from podium.data.groups import read_groups

        joined = partial(read_groups, groups, folder)
    every = replace(context, bad=Bad(may_skip=False))
    test = None if competition.data.test is None else lambda: reader.read_test(competition.data, every)
    recipe = Recipe(
        PIXELS[competition.data.dtype],
        lambda: reader.read_train(competition.data, context),
        test,
        bad,
        joined,
        targets=context.target_dtype,
    )
    source = cached(cache, identity, recipe, say)
    _check(source, folder / competition.data.expects)
    return Opened(source, _preprocessed(competition, source, cache, say))


def read_test(competition: Competition, folder: Path, path: Path, say: Say = lambda text: None) -> Part:
    """The test images alone, whichever ``folder`` holds, after the competition's preprocessing.

    They are decoded to ``path`` (.npy, with its index) and memory-mapped. What cannot be used is a UserError.
    """
    reader: ModuleType = import_module(READERS[competition.data.format])
    steps = image_steps(competition.preprocess)
    bad, progress = Bad(may_skip=False), lines("decoding:", say)
    context = Reading(folder, competition.classes, competition.task, competition.first_id, bad, progress)
    writer = RaggedWriter(path, PIXELS[competition.data.dtype])
    ids: list[str] = []
    with ThreadPoolExecutor(cores()) as pool:
        for chunk in reader.read_test(competition.data, context):
            images = pool.map(preprocess.apply, repeat(steps), chunk.images) if steps else chunk.images
            writer.append(list(images))
            ids += chunk.ids
    writer.close(ids)
    part = Part("test", Ragged.open(path), None, "")
    if not len(part):
        raise UserError(f"{folder}: no usable test images; correct the competition's data section")
    return part


def source_id(competition: Competition, folder: Path, skip_bad: bool, cache: Path) -> str:
    """16 hexadecimal digits that stand for the files' content and for how they are read.

    Where the files lie does not matter, nor does what is done with the data afterwards.
    """
    reader = import_module(READERS[competition.data.format])
    paths: list[Path] = reader.files(competition.data, folder)
    if competition.data.groups is not None and competition.data.groups.file is not None:
        paths.append(folder / competition.data.groups.file)
    how = {
        "reader": VERSION,
        "data": competition.data.reading,
        "task": competition.task,
        "classes": list(competition.classes),
        "first_id": competition.first_id,
        "skip_bad": skip_bad,
    }
    digest = hashlib.sha256(canonical(how).encode())
    digest.update(_content(paths, folder, cache).encode())
    return digest.hexdigest()[:16]


def _content(paths: list[Path], folder: Path, cache: Path) -> str:
    """A hash of what is in the files, with their paths where they are many."""
    try:
        facts = [
            [path.relative_to(folder).as_posix(), (stat := path.stat()).st_size, stat.st_mtime_ns] for path in paths
        ]
        if any(path.is_dir() for path in paths):
            odd = next(path for path in paths if path.is_dir())
            raise UserError(f"{odd}: is a folder where a file is expected; move it away")
        seen = cache / "content.json"
        quick = hashlib.sha256(canonical(facts).encode()).hexdigest()
        large = sum(path.stat().st_size for path in paths) > HASH_BYTES
        known = (read_json(seen) or {}) if large else {}
        if quick in known:
            return str(known[quick])
        if len(paths) == 1:
            content = sha256_of(paths[0])
        else:
            with ThreadPoolExecutor(cores()) as pool:
                sums = list(pool.map(sha256_of, paths))
            named = [[name, digest] for (name, _, _), digest in zip(facts, sums, strict=True)]
            content = hashlib.sha256(canonical(named).encode()).hexdigest()
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; put it there or name its folder with --data") from None
    except OSError as error:
        said = error.strerror or error
        raise UserError(f"{error.filename}: cannot be read ({said}); change its permissions") from None
    if large:
        write_json(seen, {quick: content})
    return content


def _check(dataset: Dataset, where: Path) -> None:
    """What holds for every format: there are rows, and test images have the channels of training images."""
    for part in dataset.parts:
        if not len(part):
            raise UserError(f"{where}: no usable {part.name} images; correct the competition's data section")
    channels = {part.name: set(part.images.shapes[:, 0].tolist()) for part in dataset.parts}
    if len(set().union(*channels.values())) > 1:
        both = " and ".join(f"{sorted(found)} in {name}" for name, found in channels.items())
        raise UserError(f"{where}: images have different numbers of channels, {both}; save them alike")


def _preprocessed(competition: Competition, source: Dataset, cache: Path, say: Say) -> Dataset:
    """The dataset after the competition's steps, from a copy of its own; the source itself where there are none."""
    steps = image_steps(competition.preprocess)
    preprocess.check(steps, competition.task, source.train.channels)
    if not steps:
        return source
    how = {"steps": [step.model_dump(mode="json") for step in steps], "version": preprocess.PREPROCESS_VERSION}
    identity = hashlib.sha256(canonical([source.source_id, how]).encode()).hexdigest()[:16]
    progress = lines("preprocessing:", say)

    def chunks(part: Part) -> Iterator[Chunk]:
        block = 64 * cores()
        with ThreadPoolExecutor(cores()) as pool:
            for start in range(0, len(part), block):
                rows = range(start, min(start + block, len(part)))
                images = list(pool.map(preprocess.apply, repeat(steps), (part.images[row] for row in rows)))
                targets = [part.targets[row] for row in rows] if part.targets is not None else None
                groups = part.groups[start : start + block].tolist() if part.groups is not None else None
                yield Chunk(part.images.ids[start : start + block].tolist(), images, targets, groups)
                progress(rows.stop, len(part))

    bad = Bad(skipped=list(source.skipped))
    test = source.test
    recipe = Recipe(
        source.train.images.values.dtype,
        lambda: chunks(source.train),
        None if test is None else lambda: chunks(test),
        bad,
        source_id=source.source_id,
        targets=source.train.targets.values.dtype if source.train.targets is not None else UINT8,
    )
    return cached(cache, identity, recipe, say)
