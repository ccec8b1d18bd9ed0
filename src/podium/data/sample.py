"""Built-in samples: files in a competition's exact format, generated, for trying everything without its data."""

from __future__ import annotations

import os
import secrets
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from podium.data.sample_mars import mars
from podium.errors import UserError, did_you_mean

VERSION = 1
"""Raised by hand when a generator writes something else for the same seed."""

Generator = Callable[[int, int, int, int], dict[str, np.ndarray]]

GENERATORS: dict[str, Generator] = {"mars": mars}
"""(seed, rows, outliers, test rows) → the arrays of the file by key, per competition."""

MARK = b"podium sample"


def has_sample(competition_name: str) -> bool:
    """Whether there is a generator for this competition."""
    return competition_name in GENERATORS


def write_sample(
    competition_name: str, path: Path, seed: int = 0, rows: int = 240, outliers: int = 10, test_rows: int = 96
) -> None:
    """Write ``rows`` training rows, ``outliers`` of them planted, and ``test_rows`` test images to ``path``.

    The same seed gives the same arrays. The file says in its zip comment that it is a sample, so that it is known
    as one wherever it is copied. It is written beside and renamed. No generator for the competition: UserError.
    """
    if competition_name not in GENERATORS:
        raise UserError(
            f"{competition_name}: there is no built-in sample; name the folder of the competition's data with --data "
            f"({did_you_mean(competition_name, GENERATORS)})"
        )
    if not 0 <= outliers < rows or test_rows < 1:
        raise UserError(f"a sample of {rows} rows with {outliers} outliers and {test_rows} test rows cannot be made")
    arrays = GENERATORS[competition_name](seed, rows, outliers, test_rows)
    beside = path.with_name(f".{path.stem}-{os.getpid()}-{secrets.token_hex(4)}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            np.savez_compressed(beside, allow_pickle=False, **arrays)
            with zipfile.ZipFile(beside, "a") as archive:
                archive.comment = _mark(seed)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); make room or use --data") from error


def is_sample(path: Path) -> bool:
    """Whether ``path`` is a file that ``write_sample`` wrote, of any version."""
    return _comment(path).startswith(MARK)


def sample_of_this_version(path: Path) -> bool:
    """Whether ``path`` is the default sample as this version writes it."""
    return _comment(path) == _mark(0)


def _mark(seed: int) -> bytes:
    return MARK + f" version {VERSION} seed {seed}".encode()


def _comment(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.comment
    except (OSError, zipfile.BadZipFile):
        return b""
