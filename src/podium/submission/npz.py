"""Submission format npz: labels or probabilities as named arrays of numpy, all in one or one per image."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from podium.config import Competition
from podium.config_submission_formats import Npz
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.submission import npy
from podium.submission.writing import entry_name, flushed, zip_entry


def write(path: Path, given: Ragged, competition: Competition) -> None:
    """Write labels or probabilities to exactly ``path``, and flush them to the disk.

    given: see ``npy.check``. One array ``key`` of all images, which are of one size, or one per image where ``key`` has
    ``{id}`` in it; then the ids, where they have a key. Values go into the archive as they are turned into the file's
    type, and equal labels give equal bytes.

    Sizes that differ without ``{id}``, an id that cannot be an array's name and a prediction that is no number are a
    UserError; OSError is left to the caller, who knows the place.
    """
    settings = competition.submission
    if not isinstance(settings, Npz):
        raise ValueError(f"{competition.name}: its submission is not an npz")
    npy.check(given, competition, settings)
    if not settings.per_image:
        npy.uniform(given, "one array needs images of one size", "set submission.key: '{id}' for an array of each")
    with flushed(path) as file, zipfile.ZipFile(file, "w") as archive:
        if settings.per_image:
            _write_each(archive, given, competition, settings)
        else:
            with _entry(archive, settings.key, settings) as entry:
                npy.write_all(entry, given, competition, settings)
        if settings.ids_key is not None:
            with _entry(archive, settings.ids_key, settings) as entry:
                _write_ids(entry, given.ids)


def _write_each(archive: zipfile.ZipFile, given: Ragged, competition: Competition, settings: Npz) -> None:
    dtype = npy.dtype_of(competition, settings)
    for name, image in zip(given.ids.tolist(), given, strict=True):
        key = entry_name(settings.key, name, "submission.key")
        if key.endswith(".npy") or key == settings.ids_key:
            raise UserError(
                f"id '{name}': an array called '{key}' could be taken for another; rename that image or correct "
                f"submission.key"
            )
        values = npy.said(image[None], competition, settings)
        npy.finite(values, np.array([name]))
        with _entry(archive, key, settings) as entry:
            npy.write_header(entry, values.shape[1:], dtype)
            entry.write(np.ascontiguousarray(values[0], dtype).data)


def _write_ids(file: BinaryIO, ids: np.ndarray) -> None:
    # no image's id ends with a null character, which an array of texts would lose: Ragged's are such an array too
    texts = np.ascontiguousarray(ids, np.dtype(f"<U{max(1, ids.dtype.itemsize // 4)}"))
    npy.write_header(file, texts.shape, texts.dtype)
    file.write(texts.tobytes())


@contextmanager
def _entry(archive: zipfile.ZipFile, key: str, settings: Npz) -> Iterator[BinaryIO]:
    """What takes the bytes of an array."""
    method = zipfile.ZIP_DEFLATED if settings.compress else zipfile.ZIP_STORED
    # as numpy does it: an array may be larger than a plain head can say
    with archive.open(zip_entry(f"{key}.npy", method), "w", force_zip64=True) as entry:
        yield cast(BinaryIO, entry)
