"""What the writers share: a text as a csv field, names after a template, archives, bytes that end on the disk."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, cast

import numpy as np

from podium.data.ragged import Ragged
from podium.errors import UserError

PLACEHOLDER = re.compile(r"\{(id|class)\}")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time that every entry bears, the first that a zip can hold: equal labels make equal bytes."""
READABLE = 0o100644 << 16
"""A plain file that all may read, where archives keep it."""
UNIX = 3
CSV_ENTRY = "submission.csv"
"""What a csv is called inside a zip archive: always the same, since the file's own name depends on its bytes."""
LEVEL = 6
"""How hard gzip tries: what zlib does by itself, and a zip's entries too; its own 9 takes much longer and gains little."""


def check_labels(labels: Ragged, dtype: type[np.generic], values: int | None = None) -> None:
    """Raise where labels are not ``dtype`` with one channel, or hold a number that is not below ``values``.

    That there are none is a UserError, all else a ValueError: nothing a user does leads there.
    """
    if labels.values.dtype != dtype:
        raise ValueError(f"labels are {labels.values.dtype}, expected {np.dtype(dtype)}")
    if not len(labels):
        raise UserError("there are no labels to write: the test set is empty; check the competition's data.test")
    if (labels.shapes[:, 0] != 1).any():
        raise ValueError(f"labels have {labels.shapes[:, 0].max()} channels, expected 1")
    if values is not None and labels.values.max() >= values:
        raise ValueError(f"labels hold {labels.values.max()}, expected 0 to {values - 1}")


def check_probabilities(probabilities: Ragged, channels: int) -> None:
    """Raise where there are none, a UserError, or where they are not float32 of so many channels, a ValueError."""
    if probabilities.values.dtype != np.float32:
        raise ValueError(f"probabilities are {probabilities.values.dtype}, expected float32")
    if not len(probabilities):
        raise UserError("there is nothing to write: the test set is empty; check the competition's data.test")
    if (probabilities.shapes[:, 0] != channels).any():
        raise ValueError(f"probabilities have {probabilities.shapes[:, 0].tolist()[0]} channels, expected {channels}")


def refuse(name: str, value: float) -> UserError:
    """What is to be raised for a prediction that is no number."""
    return UserError(
        f"id '{name}': its prediction is {value}, which no submission may hold; look into the models that made it"
    )


def decimal(value: np.float32) -> str:
    """The shortest decimal that reads back as the same float32, also by way of a double; of finite numbers."""
    text = str(value)
    # 9 digits keep so far from the middle between two float32 that rounding twice cannot cross it
    return text if np.float32(float(text)) == value else f"{value:.9g}"


def field(text: str) -> str:
    """``text`` as a csv field, quoted only where it must be."""
    if any(mark in text for mark in "\n\r\0"):
        raise UserError(
            f"id {text!r} holds a line break or a null character, which no csv carries safely; rename that image"
        )
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow([text, ""])  # a second field, since a lone empty one would be quoted
    return buffer.getvalue()[:-1]


def named(template: str, name: str, class_name: str = "") -> str:
    """``template`` with an image's id and a class's name in their places, whatever marks these hold themselves."""
    texts = {"id": name, "class": class_name}
    return PLACEHOLDER.sub(lambda found: texts[found[1]], template)


def entry_name(template: str, name: str, key: str) -> str:
    """The name of an image's entry in an archive; it must mean the same file wherever that is unpacked.

    key: the setting that holds the template. An id that leads elsewhere is a UserError.
    """
    text = named(template, name)
    odd = "\\" in text or text.startswith("/") or not text.isprintable() or ".." in PurePosixPath(text).parts
    if odd or str(PurePosixPath(text)) != text:
        raise UserError(f"id {name!r}: {text!r} is no safe name in an archive; rename that image or correct {key}")
    return text


def zip_entry(name: str, method: int) -> zipfile.ZipInfo:
    """The head of an archive's entry, which says nothing of when and where it was made."""
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.create_system, entry.external_attr, entry.compress_type = UNIX, READABLE, method
    return entry


@contextmanager
def flushed(path: Path) -> Iterator[BinaryIO]:
    """A new file at exactly ``path``, on the disk when the block ends well."""
    with path.open("wb", buffering=1 << 20) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def csv_file(path: Path, compress: Literal["gzip", "zip"] | None) -> Iterator[BinaryIO]:
    """What takes a csv's bytes and puts them at exactly ``path``, compressed as they come where that is asked for."""
    with flushed(path) as file:
        if compress is None:
            yield file
        elif compress == "gzip":
            with gzip.GzipFile("", "wb", LEVEL, file, mtime=0) as gzipped, _buffered(gzipped) as buffer:
                yield buffer
        else:
            entry = zip_entry(CSV_ENTRY, zipfile.ZIP_DEFLATED)
            # the size is known only at the end and may be beyond what a plain head can say
            with (
                zipfile.ZipFile(file, "w") as archive,
                archive.open(entry, "w", force_zip64=True) as zipped,
                _buffered(zipped) as buffer,
            ):
                yield buffer


def _buffered(file: object) -> BinaryIO:
    """A compressor called by the megabyte and not by the line."""
    return cast(BinaryIO, io.BufferedWriter(cast(io.RawIOBase, file), 1 << 20))


def write_lines(path: Path, lines: Iterable[str], compress: Literal["gzip", "zip"] | None) -> None:
    """Write ``lines``, each with an LF, to exactly ``path`` as they come, and flush them to the disk."""
    with csv_file(path, compress) as file:
        for line in lines:
            file.write(line.encode())
            file.write(b"\n")
