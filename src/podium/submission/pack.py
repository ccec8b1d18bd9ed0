"""Packing: predictions become a file in submissions/ only after it was read back and found to be what was meant."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np

from podium.config import Competition
from podium.config_submission import AnySubmission
from podium.config_submission_formats import CsvFormat
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.store import sha256_of
from podium.submission import label_csv, ledger, npy, npz, png_zip, probability_csv, rle_csv, wide_csv
from podium.submission.validate import CHECKS, Report, with_sample

Writer = Callable[[Path, Ragged, Competition], None]
WRITERS: dict[str, Writer] = {
    "wide_csv": wide_csv.write,
    "label_csv": label_csv.write,
    "probability_csv": probability_csv.write,
    "rle_csv": rle_csv.write,
    "png_zip": png_zip.write,
    "npy": npy.write,
    "npz": npz.write,
}
"""The writer of each submission format."""
ENDINGS = {
    "wide_csv": ".csv",
    "label_csv": ".csv",
    "probability_csv": ".csv",
    "rle_csv": ".csv",
    "png_zip": ".zip",
    "npy": ".npy",
    "npz": ".npz",
}
"""What each format's files are called after their name. What is no file of predictions is packed elsewhere: ``model_zip``."""
COMPRESSED = {"gzip": ".csv.gz", "zip": ".zip"}
"""What compressed csv files are called after their name."""
LEDGER = "ledger.csv"


@dataclass(frozen=True)
class Packed:
    """A submission that passed its check: where it lies, its SHA-256 in hexadecimal, what the check saw."""

    path: Path
    sha256: str
    report: Report


def pack(
    folder: Path,
    competition: Competition,
    name: str,
    labels: Ragged,
    expected_ids: np.ndarray,
    expected_shapes: np.ndarray,
    *,
    about: ledger.About = ledger.NOTHING,
    data_folder: Path | None = None,
    write: Writer | None = None,
    time: datetime | None = None,
) -> Packed:
    """Write ``labels`` to ``folder``/<name>-<UTC time>-<hash> and the format's ending, read it back, compare, note it in the ledger.

    name: what the results live under, ``mars`` or ``mars-sample``. labels: per id uint8 (1, H, W), or float32 of numbers;
    where the format ``needs`` probabilities these, float32 (C, H, W).
    expected_ids, expected_shapes: the test images' ids in their order and (N, 3), their C, H, W.
    about: for the ledger. data_folder: where a ``sample_submission`` may lie, which the file
    is held against too. write, time: the format's writer and the present where not
    given.

    Nothing that exists is overwritten. A file that fails its check is kept with ``.rejected`` behind its name and a
    UserError names its first error. A place that cannot be written to is a UserError too, and then nothing is left
    behind.
    """
    settings = competition.submission
    if settings is None:
        raise ValueError(f"{competition.name}: has no submission format")
    written, check = write or WRITERS[settings.format], CHECKS[settings.format]
    return place_checked(
        folder,
        name,
        ending_of(settings),
        lambda path: written(path, labels, competition),
        lambda path: with_sample(
            check(path, competition, expected_ids, expected_shapes, meant=labels), path, settings, data_folder
        ),
        lambda: about,
        time,
    )


def place_checked(
    folder: Path,
    name: str,
    ending: str,
    write: Callable[[Path], None],
    check: Callable[[Path], Report],
    about: Callable[[], ledger.About],
    time: datetime | None = None,
) -> Packed:
    """Let a file be written, read it back, and only then give it its name and its row in the ledger; see ``pack``.

    write, check: are given the file's path. about: for the ledger, asked for when the check is done.
    """
    time = time or datetime.now(UTC)
    book = folder / LEDGER
    ledger.read(book)  # a ledger that cannot be used is found before anything is written
    part = folder / f".{name}-{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(part)
        report = check(part)
        digest = sha256_of(part)
        stem = f"{name}-{time.astimezone(UTC):%Y%m%d-%H%M%S}-{digest[:8]}"
        path = _place(part, folder, stem, ending if report.ok else f"{ending}.rejected")
    except OSError as error:
        raise UserError(
            f"{folder}: the submission cannot be written ({error.strerror or error}); free space, mend the folder's "
            f"permissions or choose another place"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    if not report.ok:
        more = f" (and {len(report.errors) - 1} more errors)" if len(report.errors) > 1 else ""
        raise UserError(
            f"{path}: refused when read back: {report.errors[0]}{more}; nothing was packed, look into that file"
        )
    ledger.append(book, ledger.event("packed", path.name, digest, name, about()))
    return Packed(path, digest, report)


def ending_of(settings: AnySubmission) -> str:
    """What a file of these settings is called after its name."""
    compressed = isinstance(settings, CsvFormat) and settings.compress
    return COMPRESSED[compressed] if compressed else ENDINGS[settings.format]


def _place(part: Path, folder: Path, stem: str, ending: str) -> Path:
    """Give ``part`` its name, with a suffix where that is taken, and flush the folder."""
    for path in _names(folder, stem, ending):
        try:
            _rename_to_free(part, path)
        except FileExistsError:
            continue
        _sync(folder)
        return path
    raise AssertionError("names do not end")


def _names(folder: Path, stem: str, ending: str) -> Iterator[Path]:
    yield folder / f"{stem}{ending}"
    yield from (folder / f"{stem}-{number}{ending}" for number in count(2))


def _rename_to_free(part: Path, path: Path) -> None:
    """Rename without ever replacing: a hard link refuses a name that is taken, as rename does not."""
    try:
        os.link(part, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        path.open("xb").close()  # a file system without hard links: take the name first, then rename over our own file
        os.replace(part, path)
    else:
        part.unlink()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
