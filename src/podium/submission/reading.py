"""What a submission says, as labels or probabilities by id: for files that passed their check, of any origin."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

from podium.config import Competition
from podium.config_submission_formats import CsvFormat, LabelCsv, Npy, Npz, PngZip, ProbabilityCsv, RleCsv, WideCsv
from podium.data.ragged import Ragged
from podium.data.rle import decode
from podium.errors import UserError

Rows = Mapping[str, np.ndarray]


def read(path: Path, competition: Competition, ids: np.ndarray, shapes: np.ndarray) -> Ragged:
    """The predictions in a file that is in order, in the order of ``ids``.

    Labels are uint8 (1, H, W), answers (1, K, 1), numbers float32 (1, 1, 1); probabilities float32 (C, H, W), of questions
    (2, K, 1). shapes: (N, 3), the C, H, W of the images. An id without a row is a UserError.
    """
    settings = competition.submission
    assert settings is not None
    try:
        if isinstance(settings, CsvFormat):
            found = _csv(path, competition, settings, ids, shapes)
        elif isinstance(settings, PngZip):
            found = _pictures(path, competition, settings, ids)
        elif isinstance(settings, Npy | Npz):
            found = _arrays(path, competition, settings, ids)
        else:
            raise ValueError(f"{competition.name}: its submissions hold no predictions")
    except (OSError, KeyError, IndexError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read as {settings.format} ({error}); podium check says more") from error
    items = [found[name] for name in ids.tolist()]
    sizes = np.array([item.shape for item in items], np.int64)
    return Ragged(np.concatenate([item.reshape(-1) for item in items]), sizes, ids)


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """A csv file as text, unpacked where it is compressed."""
    csv.field_size_limit(1 << 30)  # a mask in runs may be long
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if start.startswith(b"\x1f\x8b"):
            with gzip.open(file, "rt", encoding="utf-8-sig", errors="replace", newline="") as text:
                yield text
        elif start.startswith(b"PK"):
            with zipfile.ZipFile(file) as archive, archive.open(archive.namelist()[0]) as entry:
                yield io.TextIOWrapper(entry, encoding="utf-8-sig", errors="replace", newline="")
        else:
            yield io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")


def _csv(path: Path, competition: Competition, settings: CsvFormat, ids: np.ndarray, shapes: np.ndarray) -> Rows:
    with opened(path) as text:
        rows = csv.reader(text)
        header = next(rows, [])
        place = {name: at for at, name in reversed(list(enumerate(header)))}
        if isinstance(settings, RleCsv):
            return _runs(rows, place, competition, settings, ids, shapes)
        if isinstance(settings, WideCsv):
            height, width = shapes[0, 1:].tolist()
            first, last = place["0"], place[str(height * width - 1)] + 1
            told = {row[place[settings.id]]: np.array(row[first:last], np.uint8) for row in rows if row}
            return _wanted({name: values.reshape(1, height, width) for name, values in told.items()}, ids, path)
        if isinstance(settings, ProbabilityCsv):
            take = _probabilities(place, competition, settings)
        else:
            assert isinstance(settings, LabelCsv)
            take = _labels(place, competition, settings)
        return _wanted({row[place[settings.id]]: take(row) for row in rows if row}, ids, path)


def _labels(
    place: Mapping[str, int], competition: Competition, settings: LabelCsv
) -> Callable[[list[str]], np.ndarray]:
    classes = competition.classes
    number = {name if settings.names else str(i): i for i, name in enumerate(classes)}
    if competition.task == "multilabel" and settings.style != "joined":
        columns = [place[name] for name in classes]
        return lambda row: np.array([row[at] == "1" for at in columns], np.uint8).reshape(1, -1, 1)
    at = place[settings.label_column]
    if competition.task == "multilabel":

        def joined(row: list[str]) -> np.ndarray:
            values = np.zeros((1, len(classes), 1), np.uint8)
            values[0, [number[word] for word in row[at].split()]] = 1
            return values

        return joined
    if competition.task == "regression" and not classes:
        return lambda row: np.array(float(row[at]), np.float32).reshape(1, 1, 1)
    return lambda row: np.array(number[row[at]], np.uint8).reshape(1, 1, 1)


def _probabilities(
    place: Mapping[str, int], competition: Competition, settings: ProbabilityCsv
) -> Callable[[list[str]], np.ndarray]:
    columns = {
        competition.classes.index(name): place[column] for name, column in settings.wanted(competition.classes).items()
    }
    count, several = len(competition.classes), competition.task == "multilabel"

    def take(row: list[str]) -> np.ndarray:
        values = np.zeros(count, np.float32)
        values[list(columns)] = [float(row[at]) for at in columns.values()]
        if several:
            return np.stack([1 - values, values])[..., None]
        if len(columns) < count:  # of two classes one is left out
            values[[k for k in range(count) if k not in columns]] = 1 - values.sum()
        return values.reshape(-1, 1, 1)

    return take


def _runs(
    rows: Iterator[list[str]],
    place: Mapping[str, int],
    competition: Competition,
    settings: RleCsv,
    ids: np.ndarray,
    shapes: np.ndarray,
) -> Rows:
    """Masks of runs; what no row covers is the background, the unscored class or else the first one."""
    classes = competition.classes
    wanted = settings.wanted(classes, competition.unscored)
    background = competition.unscored_index or 0
    if classes[background] in wanted:
        background = next(k for k in range(len(classes)) if classes[k] not in wanted)
    several = "{class}" in settings.template
    of_row = {}
    for name in ids.tolist():
        for each in wanted:
            told = settings.template.replace("{class}", each) if several else settings.template
            of_row[told.replace("{id}", name)] = name, classes.index(each)
    size = {name: tuple(shape[1:]) for name, shape in zip(ids.tolist(), shapes.tolist(), strict=True)}
    masks = {name: np.full((1, *size[name]), background, np.uint8) for name in ids.tolist()}
    for row in rows:
        if row and row[place[settings.id]] in of_row:
            name, index = of_row[row[place[settings.id]]]
            masks[name][0][decode(row[place[settings.rle]], *size[name])] = index
    return masks


def _pictures(path: Path, competition: Competition, settings: PngZip, ids: np.ndarray) -> Rows:
    from PIL import Image

    greys = settings.greys(competition.classes, competition.unscored)
    index = np.zeros(256, np.uint8)
    for k in reversed(range(len(greys))):  # of classes that share a grey the first
        index[greys[k]] = k
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name in ids.tolist():
            with archive.open(settings.name.replace("{id}", name)) as entry, Image.open(entry) as picture:
                found[name] = index[np.asarray(picture)][None]
    return found


def _arrays(path: Path, competition: Competition, settings: Npy | Npz, ids: np.ndarray) -> Rows:
    names = ids.tolist()
    if isinstance(settings, Npy):
        arrays = list(np.load(path, allow_pickle=False))
    else:
        with np.load(path, allow_pickle=False) as held:
            keys = [settings.key.replace("{id}", name) for name in names]
            arrays = [held[key] for key in keys] if settings.per_image else list(held[settings.key])
    if len(arrays) != len(names):
        raise ValueError(f"{len(arrays)} images, expected {len(names)}")
    numbers = competition.task == "regression" and not competition.classes
    if settings.of == "labels":
        dtype = np.float32 if numbers else np.uint8
        of_masks = competition.masks
        return {
            name: array.astype(dtype).reshape((1, *array.shape) if of_masks else (1, -1, 1))
            for name, array in zip(names, arrays, strict=True)
        }
    found = {}
    for name, array in zip(names, arrays, strict=True):
        values = array.astype(np.float32)
        if competition.task == "multilabel":
            values = np.stack([1 - values, values])[..., None]
        found[name] = values if values.ndim == 3 else values.reshape(-1, 1, 1)
    return found


def _wanted(found: Rows, ids: np.ndarray, path: Path) -> Rows:
    missing = [name for name in ids.tolist() if name not in found]
    if missing:
        raise UserError(
            f"{path}: has no row of id '{missing[0]}' and {len(missing) - 1} others; name a file with all ids"
        )
    return found
