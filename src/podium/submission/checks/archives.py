"""What the checks of archives share: how damage shows and is worded, a csv inside a gzip file or a zip."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, Literal, cast

from podium.submission.checks.report import short

MAGICS = {b"PK\x03\x04": "zip", b"\x1f\x8b": "gzip"}
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error, OverflowError)
"""What ``zipfile`` raises on damaged archives; NotImplementedError is a RuntimeError."""


class BadArchive(ValueError):
    """Why an archive cannot be used, as a sentence."""


def said(error: Exception) -> str:
    """An exception in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def why_unreadable(info: zipfile.ZipInfo) -> str | None:
    """Why an entry is not even opened, as the end of a sentence; None where it is."""
    if info.flag_bits & 1:
        return "is encrypted, expected a plain one"
    if info.compress_type not in METHODS:
        return f"is packed by method {info.compress_type}, expected stored or deflated"
    return None


class Unpacked:
    """The text of an archive, line by line; damage is a BadArchive wherever it is met."""

    def __init__(self, stream: IO[bytes], kind: str) -> None:
        self._file, self._kind = io.BufferedReader(cast(io.RawIOBase, stream), 1 << 20), kind

    def readline(self, size: int) -> bytes:
        """The next line, or its next ``size`` bytes."""
        try:
            return self._file.readline(size)
        except (*BROKEN, gzip.BadGzipFile) as error:
            raise BadArchive(f"the {self._kind} archive is damaged or cut off ({said(error)})") from None


@contextmanager
def csv_inside(file: BinaryIO, compress: Literal["gzip", "zip"] | None) -> Iterator[BinaryIO | Unpacked]:
    """The csv that a file holds, packed as ``compress`` says, read as it comes; what is packed otherwise is a BadArchive."""
    start = file.read(4)
    file.seek(0)
    found = next((kind for magic, kind in MAGICS.items() if start.startswith(magic)), None)
    if found != compress:
        inside = "the csv inside it" if compress is None else f"the csv in a {compress} archive"
        raise BadArchive(f"the file is {f'a {found} archive' if found else 'no archive'}, expected {inside}")
    if compress is None:
        yield file
    elif compress == "gzip":
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield Unpacked(cast(IO[bytes], unpacked), compress)
    else:
        try:
            archive = zipfile.ZipFile(file)
            entry = archive.open(_only(archive))
        except BadArchive:
            raise
        except (*BROKEN, OSError) as error:  # also OSError: damage sends the reader to places before the beginning
            raise BadArchive(f"the zip archive is damaged or cut off ({said(error)})") from None
        with archive, entry:
            yield Unpacked(entry, compress)


def _only(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The one file in an archive."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) != 1:
        raise BadArchive(f"the zip archive holds {len(infos)} files, expected one csv")
    why = why_unreadable(infos[0])
    if why is not None:
        raise BadArchive(f"entry {short(infos[0].filename)} {why}")
    return infos[0]
