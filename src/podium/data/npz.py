"""Competition files in npz format: read piece by piece with checks."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.lib import format as npy

from podium.config_data import NpzArray, NpzData, NpzRole
from podium.data.chunk import NO_LABEL, PIXELS, Chunk, Chunks, Reading
from podium.errors import UserError, did_you_mean

CHUNK_BYTES = 2 << 20
"""Rows are decoded and checked in pieces of this size: they stay in the processor's cache and out of memory."""

CHANNELS = (1, 3, 4)
LARGEST = 1e15
"""Of float images; squares of more leave float32, and what is so large mostly stands for missing data."""
TOPS = {"uint8": 255, "uint16": 65535}
Part = Literal["train", "test"]


def files(data: NpzData, folder: Path) -> list[Path]:
    """The files that reading depends on."""
    return [folder / data.file]


def read_train(data: NpzData, reading: Reading) -> Chunks:
    """Images with their masks or labels; ids are row numbers.

    The file may hold any integer or floating dtype; every value must fit ``data.dtype``, every target be a class.
    Whatever does not fit is a UserError, or a bad row, with file, key and index.
    """
    yield from _read(data, data.train, "train", 0, reading)


def read_test(data: NpzData, reading: Reading) -> Chunks:
    """Images; ids count from ``reading.first_id``."""
    assert data.test is not None
    yield from _read(data, data.test, "test", reading.first_id, reading)


def _read(data: NpzData, role: NpzRole, part: Part, first_id: int, reading: Reading) -> Chunks:
    path = reading.folder / data.file
    with _reading(path), zipfile.ZipFile(path) as archive:
        image = role.array("image")
        assert image is not None
        images = _Images.find(archive, path, part, image, data)
        target = role.array("target") if part == "train" else None
        targets = _Targets.find(archive, path, target, reading) if target is not None else None
        count = images.array.shape[0]
        if targets is not None:
            targets.fits(images)
        row_bytes = images.array.row_bytes + (targets.array.row_bytes if targets else 0)
        step = max(1, CHUNK_BYTES // max(1, row_bytes))
        same = targets is not None and targets.array.key == images.array.key
        other = targets.array.rows(step) if targets is not None and not same else None
        for start, rows in images.array.rows(step):
            ids = np.arange(start, start + len(rows)) + first_id
            picked, wrong = images.take(rows, start, data.dtype)
            labels: np.ndarray | None = None
            if targets is not None:
                labels, wrong_labels = targets.take(rows if other is None else next(other)[1], start)
                wrong = wrong_labels | wrong  # one sentence a row is enough: the image's
            for row in sorted(wrong):
                reading.bad(wrong[row])
            if wrong:
                kept = [row for row in range(len(rows)) if row not in wrong]
                ids, picked = ids[kept], picked[kept]
                labels = labels[kept] if labels is not None else None
            yield Chunk(ids.astype(np.str_).tolist(), picked, labels)
            reading.progress(start + len(rows), count)
        if other is not None:
            next(other, None)  # the end must be met for the checksum to be compared


# ---------------------------------------------------------------- arrays in the file


@dataclass(frozen=True)
class _Array:
    """One array of the archive, its header read and checked, its values not yet."""

    archive: zipfile.ZipFile
    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool

    @property
    def where(self) -> str:
        return f"{self.path}: key '{self.key}'"

    @classmethod
    def find(cls, archive: zipfile.ZipFile, path: Path, key: str | None) -> _Array:
        assert key is not None
        names = archive.namelist()
        if f"{key}.npy" not in names:
            keys = [name.removesuffix(".npy") for name in names if name.endswith(".npy")]
            raise UserError(
                f"{path}: key '{key}' is missing; correct data.train.key or data.test.key of the competition; "
                f"{did_you_mean(key, keys)}"
            )
        with archive.open(f"{key}.npy") as member:
            shape, fortran, dtype = _header(member)
            start = member.tell()
        array = cls(archive, path, key, tuple(shape), dtype, fortran)
        if len(shape) == 0 or math.prod(shape) == 0:
            raise UserError(f"{array.where}: has shape {tuple(shape)}, it holds no values; fetch the file again")
        if dtype.kind not in "buif":
            held = "pickled objects, which are never loaded" if dtype.hasobject else f"values of dtype {dtype}"
            raise UserError(f"{array.where}: holds {held}; save it as one array of integers or floats")
        if archive.getinfo(f"{key}.npy").file_size - start != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"key '{key}' is shorter or longer than its header says")
        return array

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def rows(self, step: int) -> Iterator[tuple[int, np.ndarray]]:
        """``step`` rows of axis 0 at a time, with the number of the first; at the end checked by CRC."""
        row_values = math.prod(self.shape[1:])
        with self.archive.open(f"{self.key}.npy") as member:
            _header(member)
            if self.fortran:  # its rows are not contiguous: there is no way around the whole of it
                whole = np.frombuffer(member.read(), self.dtype).reshape(self.shape[::-1]).T
            for start in range(0, self.shape[0], step):
                count = min(step, self.shape[0] - start)
                if self.fortran:
                    yield start, whole[start : start + count]
                else:
                    values = member.read(count * row_values * self.dtype.itemsize)
                    yield start, np.frombuffer(values, self.dtype).reshape(count, *self.shape[1:])
            member.read(1)  # the end must have been met for the checksum to be compared


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(member)
    if version == (1, 0):
        return npy.read_array_header_1_0(member)
    if version == (2, 0):
        return npy.read_array_header_2_0(member)
    raise ValueError(f"npy format {version[0]}.{version[1]} is unknown")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what a missing, damaged or foreign file raises into one sentence."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; put it there or name its folder with --data") from None
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); change its permissions") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder where an npz file is expected; move it away") from None
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError) as error:
        # RuntimeError: an encrypted archive, or (NotImplementedError) a foreign compression
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: is damaged, cut short or not an npz file ({said}); fetch it again") from error


# ---------------------------------------------------------------- from arrays to images and targets


@dataclass(frozen=True)
class _Images:
    """An array of images and how they lie in it.

    way: ``index`` or ``slice`` along axis 1, or the whole array as ``grey`` (N, H, W), ``first`` (N, C, H, W) or
    ``last`` (N, H, W, C).
    """

    array: _Array
    given: NpzArray
    way: Literal["index", "slice", "grey", "first", "last"]
    size: tuple[int, int]

    @classmethod
    def find(cls, archive: zipfile.ZipFile, path: Path, part: Part, given: NpzArray, data: NpzData) -> _Images:
        array = _Array.find(archive, path, given.key)
        shape = array.shape
        way: Literal["index", "slice", "grey", "first", "last"]
        if given.index is not None or given.slice is not None:
            way = "index" if given.index is not None else "slice"
            _check_stacked(array, given, "image")
        elif len(shape) == 3:
            way = "grey"
        else:
            way = "last" if _channels_last(array, data.shape, part) else "first"
        size = shape[1:3] if way in ("grey", "last") else shape[2:4]
        if data.shape is not None and size != tuple(data.shape):
            raise UserError(
                f"{array.where}: images are {_size(size)} (shape {shape}) where the competition's data.shape asks "
                f"for {_size(data.shape)}; take the right file or correct data.shape"
            )
        return cls(array, given, way, (size[0], size[1]))

    def take(self, rows: np.ndarray, first: int, dtype: str) -> tuple[np.ndarray, dict[int, str]]:
        """Images (n, C, H, W) of ``rows`` and, for each row that does not fit, what is wrong with it."""
        if self.way == "grey":
            rows = rows[:, None]
        elif self.way == "last":
            rows = rows.transpose(0, 3, 1, 2)
        elif self.way != "first":
            rows = _stacked(rows, self.given)
        with np.errstate(invalid="ignore", over="ignore"):  # the comparison afterwards finds what does not fit
            cast = rows.astype(PIXELS[dtype])
        if dtype == "float32":
            bad = ~(np.abs(cast) <= LARGEST)
        elif rows.dtype == cast.dtype or np.array_equal(rows, cast):  # settles range, fractions and NaN in one pass
            return cast, {}
        else:
            bad = rows != cast
        return cast, _sentences(bad, lambda at: self._complaint(rows, at, first, dtype))

    def _complaint(self, rows: np.ndarray, at: tuple[int, ...], first: int, dtype: str) -> str:
        value = rows[at]
        said = f"{_pixel(self.array, first, at, 'image')}: value {_text(value)}"
        if not np.isfinite(value):
            return f"{said} is not a number; repair or remove the row"
        if dtype == "float32":
            return f"{said} is too large to compute with; scale the images, or replace what stands for no data"
        top = TOPS[dtype]
        others = "uint16 or float32" if dtype == "uint8" else "float32"
        if value < 0 or value > top:
            return f"{said} lies outside 0 to {top}; scale the images to 0 to {top}, or set data.dtype: {others}"
        finite = rows[np.isfinite(rows)]
        if finite.min() >= 0 and finite.max() <= 1:
            return (
                f"{said}: the images seem to be scaled to 0 to 1; multiply them by {top} and round, or set "
                "data.dtype: float32"
            )
        return f"{said} is not a whole number; round the images, or set data.dtype: float32"


@dataclass(frozen=True)
class _Targets:
    """An array of masks (whole or stacked along axis 1), of labels, of answers (N, K) or of numbers."""

    array: _Array
    given: NpzArray
    reading: Reading

    @property
    def masks(self) -> bool:
        return self.reading.masks

    @property
    def questions(self) -> bool:
        return self.reading.task == "multilabel"

    @classmethod
    def find(cls, archive: zipfile.ZipFile, path: Path, given: NpzArray, reading: Reading) -> _Targets:
        array = _Array.find(archive, path, given.key)
        if given.slice is not None:
            raise UserError(f"{array.where}: data.train.target: is one array of class indices; name an index, no slice")
        if given.index is not None:
            _check_stacked(array, given, "target")
        return cls(array, given, reading)

    def fits(self, images: _Images) -> None:
        """Raise unless there is one target per image, of its size."""
        array, shape = self.array, self.array.shape
        if shape[0] != images.array.shape[0]:
            raise UserError(
                f"{array.where}: holds {shape[0]} rows, key '{images.array.key}' {images.array.shape[0]}; every image "
                "needs its target, correct the file"
            )
        inner = shape[2:] if self.given.index is not None else tuple(n for n in shape[1:] if n > 1)
        wanted = len(self.reading.classes) if self.questions else 1
        if not self.masks and math.prod(inner) != wanted:
            what = "one class index" if wanted == 1 else f"{wanted} answers, 0 or 1,"
            raise UserError(
                f"{array.where}: has shape {shape} where {what} per image is expected; correct "
                "data.train.target, or set task: segmentation"
            )
        if self.masks and inner != images.size:
            raise UserError(
                f"{array.where}: has shape {shape} where masks of {_size(images.size)} are expected, class indices "
                "as one grey picture per image; save them so, or set task: classification"
            )
        if array.key == images.array.key and self.given.index is not None:
            top = images.given.index if images.given.index is not None else (images.given.slice or (0, 0))[1] - 1
            if shape[1] > max(self.given.index, top) + 1:
                raise UserError(
                    f"{array.where}: holds {shape[1]} arrays along axis 1 where image {top} and target "
                    f"{self.given.index} are expected; masks are one array of class indices, save them without "
                    "further channels"
                )

    def take(self, rows: np.ndarray, first: int) -> tuple[np.ndarray, dict[int, str]]:
        """Targets (n, 1, H, W) or (n, 1, K, 1), and, for each row that does not fit, what is wrong with it."""
        if self.given.index is not None:
            rows = rows[:, self.given.index]
        inner = [n for n in rows.shape[1:] if n > 1]
        inner = inner if self.masks else [*inner, 1]
        rows = rows.reshape(len(rows), 1, *(inner if len(inner) > 1 else (1, 1)))
        with np.errstate(invalid="ignore", over="ignore"):
            cast = rows.astype(self.reading.target_dtype)
        if cast.dtype == np.float32:
            return cast, _sentences(~np.isfinite(cast), lambda at: self._no_number(rows[at], first + at[0]))
        known = 2 if self.questions else len(self.reading.classes)
        if cast.max(initial=0) < known and (rows.dtype == cast.dtype or np.array_equal(rows, cast)):
            return cast, {}
        bad = (rows != cast) | (cast >= known)
        if self.masks or self.questions:
            bad &= rows != NO_LABEL
        return cast, _sentences(bad, lambda at: self._complaint(rows[at], at, first))

    def _complaint(self, value: np.generic, at: tuple[int, ...], first: int) -> str:
        where = _pixel(self.array, first, at, "mask") if self.masks else f"{self.array.where}, row {first + at[0]}"
        if self.questions:
            name = self.reading.classes[at[2]]
            return (
                f"{where}, question '{name}': value {_text(value)}; answers are 0, 1 or {NO_LABEL} for none, correct it"
            )
        beside = f" and {NO_LABEL} for no label" if self.masks else ""
        classes = self.reading.classes
        return (
            f"{where}: value {_text(value)} is not a class, allowed are 0 to {len(classes) - 1} "
            f"({', '.join(classes)}){beside}; correct it or the competition's 'classes'"
        )

    def _no_number(self, value: np.generic, row: int) -> str:
        return f"{self.array.where}, row {row}: {_text(value)} is no number; correct it or remove the row"


def _stacked(rows: np.ndarray, given: NpzArray) -> np.ndarray:
    """(n, K, H, W) → the (n, C, H, W) that an index or a slice of axis 1 means."""
    if given.index is not None:
        return rows[:, given.index, None]
    assert given.slice is not None
    return rows[:, given.slice[0] : given.slice[1]]


def _channels_last(array: _Array, wanted: tuple[int, int] | None, part: Part) -> bool:
    """Whether images lie as (N, H, W, C) rather than (N, C, H, W); where both could be, data.shape decides."""
    shape = array.shape
    ways = [(False, shape[1], shape[2:]), (True, shape[3], shape[1:3])] if len(shape) == 4 else []
    fitting = [(last, size) for last, channels, size in ways if channels in CHANNELS]
    if not fitting:
        raise UserError(
            f"{array.where}: has shape {shape} where images (N, H, W), (N, H, W, C) or (N, C, H, W) with "
            f"1, 3 or 4 channels are expected; save them so, or name their index or slice along axis 1 as "
            f"data.{part}.image"
        )
    return next((last for last, size in fitting if size == wanted), fitting[0][0])


def _check_stacked(array: _Array, given: NpzArray, what: str) -> None:
    if len(array.shape) != 4:
        raise UserError(
            f"{array.where}: has shape {array.shape} where (N, K, H, W) is expected, with the {what} along axis 1; "
            f"save images and masks as grey pictures of H x W, without further channels"
        )
    last = given.index if given.index is not None else (given.slice or (0, 0))[1] - 1
    if last >= array.shape[1]:
        raise UserError(
            f"{array.where}: {what} index {last} is out of range, axis 1 holds {array.shape[1]} "
            f"(shape {array.shape}); correct the competition's data section"
        )


def _sentences(bad: np.ndarray, say: Callable[[tuple[int, ...]], str]) -> dict[int, str]:
    """For each row of ``bad`` (n, C, H, W) that is true somewhere, what ``say`` makes of its first such place."""
    found: dict[int, str] = {}
    for row in np.flatnonzero(bad.reshape(len(bad), -1).any(1)).tolist():
        found[row] = say((row, *np.argwhere(bad[row])[0].tolist()))
    return found


def _pixel(array: _Array, first: int, index: tuple[int, ...], what: str) -> str:
    row, channel, y, x = index
    colour = f", channel {channel}" if channel else ""
    return f"{array.where}, row {first + row}, {what}{colour}, pixel ({y}, {x})"


def _text(value: np.generic) -> str:
    return f"{value.item():.6g}" if value.dtype.kind == "f" else str(value.item())


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape[-3:])
