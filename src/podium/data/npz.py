"""Competition files in npz format: read with checks, cast to uint8, identified by their content."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from podium.config import Competition
from podium.data.cache import cached
from podium.data.part import Dataset, Part
from podium.data.ragged import Ragged
from podium.errors import UserError, did_you_mean

READER_VERSION = 1
"""Raised by hand when the same file would be read differently; part of ``data_id``."""

CHUNK_BYTES = 2 << 20
"""Rows are decoded and checked in pieces of this size: they stay in the processor's cache and out of memory."""

CHANNELS = (1, 3, 4)


def read(competition: Competition, folder: Path) -> Dataset:
    """Read the competition's npz from ``folder``.

    Train and test may have any integer or floating dtype; every value must be a whole number within range.
    Images become uint8 (N, C, H, W), masks uint8 (N, 1, H, W). Train ids are row numbers as text, test ids
    the submission's first id plus the position. Whatever does not fit is a UserError with file, key and index.
    """
    path = folder / competition.data.file
    identity = data_id(competition, folder)
    with _reading(path), zipfile.ZipFile(path) as archive:
        images, targets = _read_train(_Array.find(archive, path, competition.data.train.key), competition)
        test = _read_test(_Array.find(archive, path, competition.data.test.key), competition)
    if images.shape[1:] != test.shape[1:]:
        raise UserError(
            f"{path}: images of key '{competition.data.train.key}' are {_size(images.shape)} and of key "
            f"'{competition.data.test.key}' {_size(test.shape)} (C, H, W); both must be the same, resize one of them"
        )
    ids = np.arange(len(images)).astype(np.str_)
    test_ids = (np.arange(len(test)) + competition.submission.first_id).astype(np.str_)
    return Dataset(
        train=Part("train", Ragged.stack(images, ids), Ragged.stack(targets, ids), identity),
        test=Part("test", Ragged.stack(test, test_ids), None, identity),
    )


def data_id(competition: Competition, folder: Path) -> str:
    """16 hex digits that stand for the file's bytes and for how they are read.

    Where the file lies and what it is called do not matter, nor does ``drop``: no row is left out in reading.
    """
    path = folder / competition.data.file
    how = {
        "reader": READER_VERSION,
        "data": competition.data.model_dump(mode="json", exclude={"drop", "file"}),
        "classes": list(competition.classes),
        "first_id": competition.submission.first_id,
    }
    with _reading(path), path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(json.dumps(how, sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()[:16]


def open_dataset(
    competition: Competition,
    folder: Path,
    cache: Path,
    notify: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> Dataset:
    """As ``read``, through a decoded, memory-mapped copy in ``cache``/<data_id>.

    A copy that is missing is made, one that is damaged is made anew and ``notify`` told so.
    """
    return cached(cache, data_id(competition, folder), lambda: read(competition, folder), notify)


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
    def find(cls, archive: zipfile.ZipFile, path: Path, key: str) -> _Array:
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
        if dtype.kind not in "buif":
            held = "pickled objects, which are never loaded" if dtype.hasobject else f"values of dtype {dtype}"
            raise UserError(f"{array.where}: holds {held}; save it as one array of integers or floats")
        if archive.getinfo(f"{key}.npy").file_size - start != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"key '{key}' is shorter or longer than its header says")
        return array

    def rows(self) -> Iterator[tuple[int, np.ndarray]]:
        """Pieces of the array along axis 0, each with the number of its first row; at the end checked by CRC."""
        row_values = math.prod(self.shape[1:])
        step = max(1, CHUNK_BYTES // max(1, row_values * self.dtype.itemsize))
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


# ---------------------------------------------------------------- from arrays to uint8 images and masks


def _read_train(array: _Array, competition: Competition) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images and masks, both (N, 1, H, W), from an array stacked along axis 1."""
    role = competition.data.train
    if role.image is None or role.target is None:
        raise UserError(f"{array.where}: data.train needs 'image' and 'target', their indices along axis 1; add them")
    _check_stacked(array, {"image": role.image, "target": role.target}, competition)
    last = max(role.image, role.target)
    if array.shape[1] > last + 1:
        raise UserError(
            f"{array.where}: holds {array.shape[1]} arrays along axis 1 where image {role.image} and target "
            f"{role.target} are expected; masks are one array of class indices, save them without further channels"
        )
    size = array.shape[0], 1, *array.shape[2:]
    images, targets = np.empty(size, np.uint8), np.empty(size, np.uint8)
    for start, rows in array.rows():
        stop = start + len(rows)
        images[start:stop] = _image_values(rows[:, role.image, None], array, start)
        targets[start:stop] = _mask_values(rows[:, role.target, None], array, start, competition.classes)
    return images, targets


def _read_test(array: _Array, competition: Competition) -> np.ndarray:
    """uint8 images (N, C, H, W)."""
    index = competition.data.test.image
    shape = array.shape
    last = False
    if index is not None:
        _check_stacked(array, {"image": index}, competition)
        size = 1, *shape[2:]
    elif len(shape) == 3:
        size = 1, *shape[1:]
    else:
        last = _channels_last(array, competition)
        size = (shape[3], *shape[1:3]) if last else shape[1:]
    _check_size(array, size[1:], competition)
    images = np.empty((shape[0], *size), np.uint8)
    for start, rows in array.rows():
        if index is not None:
            rows = rows[:, index, None]
        elif rows.ndim == 3:
            rows = rows[:, None]
        elif last:
            rows = rows.transpose(0, 3, 1, 2)
        images[start : start + len(rows)] = _image_values(rows, array, start)
    return images


def _channels_last(array: _Array, competition: Competition) -> bool:
    """Whether images lie as (N, H, W, C) rather than (N, C, H, W); where both could be, data.shape decides."""
    shape = array.shape
    ways = [(False, shape[1], shape[2:]), (True, shape[3], shape[1:3])] if len(shape) == 4 else []
    fitting = [(last, size) for last, channels, size in ways if channels in CHANNELS]
    if not fitting:
        raise UserError(
            f"{array.where}: has shape {shape} where images (N, H, W), (N, H, W, C) or (N, C, H, W) with "
            f"1, 3 or 4 channels are expected; save them so, or name their index along axis 1 as data.test.image"
        )
    return next((last for last, size in fitting if size == competition.data.shape), fitting[0][0])


def _check_stacked(array: _Array, wanted: dict[str, int], competition: Competition) -> None:
    if len(array.shape) != 4:
        raise UserError(
            f"{array.where}: has shape {array.shape} where (N, K, H, W) is expected, with "
            f"{' and '.join(f'{what} {index}' for what, index in wanted.items())} along axis 1; "
            f"save images and masks as grey pictures of H x W, without further channels"
        )
    _check_size(array, array.shape[2:], competition)
    for what, index in wanted.items():
        if index >= array.shape[1]:
            raise UserError(
                f"{array.where}: {what} index {index} is out of range, axis 1 holds {array.shape[1]} "
                f"(shape {array.shape}); correct the competition's data section"
            )


def _check_size(array: _Array, size: tuple[int, ...], competition: Competition) -> None:
    wanted = competition.data.shape
    if wanted is not None and size != tuple(wanted):
        raise UserError(
            f"{array.where}: images are {_size(size)} (shape {array.shape}) where the competition's data.shape asks "
            f"for {_size(wanted)}; take the right file or correct data.shape"
        )
    if math.prod(array.shape) == 0:
        raise UserError(f"{array.where}: holds no values (shape {array.shape}); fetch the file again")


def _image_values(rows: np.ndarray, array: _Array, first: int) -> np.ndarray:
    """``rows`` (n, C, H, W) as uint8; a value that is no whole number of 0..255 is a UserError."""
    cast = _cast(rows)
    wrong = _first_wrong(rows, cast, 255)
    if wrong is None:
        return cast
    value = rows[wrong]
    said = f"{_pixel(array, first, wrong, 'image')}: value {_text(value)}"
    if not np.isfinite(value):
        raise UserError(f"{said} is not a number; repair or remove the row")
    if value < 0 or value > 255:
        raise UserError(f"{said} lies outside 0 to 255; scale the images to 0 to 255")
    finite = rows[np.isfinite(rows)]
    if finite.min() >= 0 and finite.max() <= 1:
        raise UserError(f"{said}: the images seem to be scaled to 0 to 1; multiply them by 255 and round")
    raise UserError(f"{said} is not a whole number; round the images to whole numbers from 0 to 255")


def _mask_values(rows: np.ndarray, array: _Array, first: int, classes: tuple[str, ...]) -> np.ndarray:
    """``rows`` (n, 1, H, W) as uint8; a value that is no class index is a UserError."""
    cast = _cast(rows)
    wrong = _first_wrong(rows, cast, len(classes) - 1)
    if wrong is None:
        return cast
    raise UserError(
        f"{_pixel(array, first, wrong, 'mask')}: value {_text(rows[wrong])} is not a class, allowed are 0 to "
        f"{len(classes) - 1} ({', '.join(classes)}); correct the masks or the competition's 'classes'"
    )


def _cast(rows: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # NaN and infinity are found by the comparison afterwards
        return rows.astype(np.uint8, copy=False)


def _first_wrong(rows: np.ndarray, cast: np.ndarray, top: int) -> tuple[int, ...] | None:
    """Index of the first value that the cast changed or that exceeds ``top``; None where all are right.

    Equality after the cast settles range, fractions and NaN in one pass, whatever the dtype.
    """
    same = rows.dtype in (np.uint8, np.bool_) or np.array_equal(rows, cast)
    if same and (top == 255 or cast.max() <= top):
        return None
    return tuple(np.argwhere((rows != cast) | (cast > top))[0].tolist())


def _pixel(array: _Array, first: int, index: tuple[int, ...], what: str) -> str:
    row, channel, y, x = index
    colour = f", channel {channel}" if channel else ""
    return f"{array.where}, row {first + row}, {what}{colour}, pixel ({y}, {x})"


def _text(value: np.generic) -> str:
    return f"{value.item():.6g}" if value.dtype.kind == "f" else str(value.item())


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape[-3:])
