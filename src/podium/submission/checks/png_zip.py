"""The check of format png_zip: an archive with one grey 8-bit PNG per image; nothing of it is unpacked to the disk."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from podium.config import Competition
from podium.config_submission_formats import PngZip
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.submission.checks.archives import BROKEN, said, why_unreadable
from podium.submission.checks.report import (
    Findings,
    Ids,
    Report,
    Tally,
    judge_differing,
    judge_meant,
    judge_unscored,
    short,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY = 0
KINDS = {0: "grey", 2: "colour", 3: "palette", 4: "grey with transparency", 6: "colour with transparency"}
BESIDE = 1 << 16
"""Bytes that a PNG may have beside its pixels: heads of pieces, texts."""
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""Of an interlaced PNG: first row, first column, and steps between rows and between columns of each pass."""


def check_png_zip(
    path: Path,
    competition: Competition,
    ids: np.ndarray,
    shapes: np.ndarray,
    meant: Ragged | None = None,
    own: bool = True,
) -> Report:
    """Read a png_zip submission from disk and hold it against the test set, entry by entry.

    Checked are the archive, the entries' names (missing, unknown, twice, and in a file made here out of order), that
    every entry is a whole PNG, grey with 8 bits, of its image's size, that every pixel has the grey value of a class,
    and, where ``meant`` is given (uint8, (1, H, W) per id, joined by id), every pixel. One entry is read at a time, and
    no more of it than a picture of that size can have; its size is known before it is decoded.

    ids: the test set's, in order. shapes: (N, 3), the C, H, W of its images.
    own: the file was made here, so that predicting the unscored class is an error; in a file from elsewhere that is a
    warning that names its cost, and any order is as good as another.
    A file that cannot be read at all is a UserError.
    """
    if len(shapes) != len(ids):
        raise ValueError("every id has a shape")
    check = _Check(competition, ids, shapes, meant, own)
    try:
        with path.open("rb") as file:
            check.read(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); name an existing zip file") from error
    return check.result()


class _BadEntry(ValueError):
    """Why an entry cannot be used, as the end of a sentence."""


class _Check:
    """What is known after the entries read so far."""

    def __init__(
        self, competition: Competition, ids: np.ndarray, shapes: np.ndarray, meant: Ragged | None, own: bool
    ) -> None:
        settings = competition.submission
        if not isinstance(settings, PngZip):
            raise ValueError(f"{competition.name}: its submission is not a png_zip")
        self.competition, self.ids, self.shapes, self.meant, self.own = competition, ids, shapes, meant, own
        before, after = settings.name.split("{id}")
        names = [before + name + after for name in ids.tolist()]
        self.findings = Findings()
        self.entries = Ids(names, self.findings, "pictures", ordered=own)
        self.folders = {name[: i + 1] for name in names for i, mark in enumerate(name) if mark == "/"}
        self.greys = np.array(settings.greys(competition.classes, competition.unscored), np.uint8)
        self.class_of = np.full(256, -1, np.int16)
        for index in reversed(range(len(self.greys))):
            self.class_of[self.greys[index]] = index
        values = sorted(set(self.greys.tolist()))
        self.allowed = ", ".join(f"{value} ({competition.classes[self.class_of[value]]})" for value in values)
        self.files = 0
        self.counts = np.zeros(len(competition.classes), np.int64)
        self.forbidden = Tally(holder="picture")
        self.differing = Tally(holder="picture")
        self.opened = False

    def read(self, file: BinaryIO) -> None:
        """Take in the archive."""
        try:
            archive = zipfile.ZipFile(file)
        except (*BROKEN, OSError) as error:  # also OSError: damage sends the reader to places before the beginning
            why = said(error)
            self.findings.head.append(f"the file is no zip archive, or is cut off ({why}), expected one of pictures")
            return
        self.opened = True
        for info in archive.infolist():
            if info.is_dir() and info.filename in self.folders:
                continue
            self.files += 1
            subject, place = f"entry {short(info.filename)}", f"there, as number {self.files}"
            if not self.entries.take(subject, info.filename, place):
                continue
            image = self.entries.position[info.filename]
            height, width = self.shapes[image, 1:].tolist()
            try:
                grey = _grey(_content(archive, info, height, width), height, width)
            except _BadEntry as error:
                self.findings.error(f"{subject} {error}")
            else:
                self._pixels(subject, image, grey)

    def _pixels(self, subject: str, image: int, grey: np.ndarray) -> None:
        """Count the classes of a picture (H, W) and compare it with what was meant."""
        found = self.class_of[grey]
        wrong = found < 0
        if wrong.any():
            y, x = _first(wrong)
            others = int(np.count_nonzero(wrong)) - 1
            more = f", and {others} more such pixels in this picture" if others else ""
            self.findings.error(f"{subject}, pixel ({y}, {x}) holds {grey[y, x]}, expected one of {self.allowed}{more}")
            return
        self.counts += np.bincount(found.reshape(-1), minlength=len(self.counts))
        unscored = self.competition.unscored_index
        if unscored is not None and np.count_nonzero(self.greys == self.greys[unscored]) == 1:
            where = found == unscored
            if where.any():
                self.forbidden.add(f"{subject}, pixel {_first(where)}", int(np.count_nonzero(where)))
        name = str(self.ids[image])
        if self.meant is not None and name in self.meant.index:
            self._compare(subject, grey, self.meant[self.meant.index[name]][0])

    def _compare(self, subject: str, grey: np.ndarray, labels: np.ndarray) -> None:
        if labels.shape != grey.shape:
            sizes = f"{grey.shape[0]} × {grey.shape[1]} pixels, meant were {labels.shape[0]} × {labels.shape[1]}"
            self.findings.error(f"{subject}: {sizes}")
            return
        known = labels < len(self.greys)
        meant = np.where(known, self.greys[np.where(known, labels, 0)], np.int16(-1))
        differs = grey != meant
        if differs.any():
            y, x = _first(differs)
            wanted = meant[y, x] if known[y, x] else f"label {labels[y, x]}"
            said = f"{subject}, pixel ({y}, {x}) is {grey[y, x]}, meant was {wanted}"
            self.differing.add(said, int(np.count_nonzero(differs)))

    def result(self) -> Report:
        """The verdict after the last entry."""
        findings = self.findings
        if not self.opened:
            return findings.report(0, self.counts)
        self.entries.close()
        if self.files != len(self.ids):
            findings.whole.append(f"{self.files} files in the archive, expected {len(self.ids)}")
        if self.forbidden:
            judge_unscored(findings, self.competition, self.forbidden, self.own)
        judge_differing(findings, self.differing)
        judge_meant(findings, self.ids, self.meant)
        predicted = np.flatnonzero(self.counts)
        if len(predicted) == 1:
            index = int(predicted[0])
            grey = f"{self.greys[index]} ({self.competition.classes[index]})"
            findings.warnings.append(f"every pixel has the value {grey}")
        return findings.report(self.files, self.counts)


# ---------------------------------------------------------------- from an entry to pixels


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, height: int, width: int) -> bytes:
    """An entry's bytes, no more of them than a grey PNG of that size can have, and one."""
    why = why_unreadable(info)
    if why is not None:
        raise _BadEntry(why)
    try:
        with archive.open(info) as entry:
            return entry.read(_limit(height, width) + 1)
    except (*BROKEN, OSError) as error:
        raise _BadEntry(f"cannot be read ({said(error)}), expected a whole PNG") from None


def _grey(content: bytes, height: int, width: int) -> np.ndarray:
    """uint8 (H, W): the picture that a PNG's bytes hold."""
    from PIL import Image

    if not content.startswith(SIGNATURE):
        raise _BadEntry(f"is no PNG, it begins with {content[:8]!r}")
    pieces = _pieces(content)
    kind, head = next(pieces, (b"", b""))
    if kind != b"IHDR" or len(head) != 13:
        raise _BadEntry("is no PNG: it does not begin with its size")
    wide, high, depth, colour, packing, filters, interlaced = struct.unpack(">IIBBBBB", head)
    if (depth, colour) != (8, GREY):
        raise _BadEntry(f"is a {KINDS.get(colour, 'strange')} picture with {depth} bits, expected grey with 8 bits")
    if (high, wide) != (height, width):
        raise _BadEntry(f"is a picture of {high} × {wide}, expected {height} × {width} as its image (height × width)")
    if len(content) > _limit(height, width):
        raise _BadEntry(f"has more than the {_limit(height, width)} bytes that a grey PNG of its size can have")
    if packing or filters or interlaced > 1:
        raise _BadEntry("is packed as no PNG that is known")
    rest = list(pieces)
    if not rest or rest[-1][0] != b"IEND":
        raise _BadEntry("is a PNG that is cut off, its end is missing")
    # Pillow fills up rows that are missing and does not mind too many
    _check_rows(b"".join(body for kind, body in rest if kind == b"IDAT"), _rows(height, width, bool(interlaced)))
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
            grey = np.asarray(picture)
    except Exception as error:  # Pillow's decoders raise everything there is on damaged files
        raise _BadEntry(f"is a damaged PNG ({said(error)})") from None
    if grey.shape != (height, width) or grey.dtype != np.uint8:
        raise _BadEntry(f"is decoded to {grey.dtype} {grey.shape}, expected uint8 {(height, width)}")
    return grey


def _pieces(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and bytes of the pieces that a PNG is made of, checksums compared."""
    at = len(SIGNATURE)
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        body = content[at + 4 : at + 8 + length]
        sum_ = content[at + 8 + length : at + 12 + length]
        if len(body) != 4 + length or len(sum_) != 4:
            raise _BadEntry("is a PNG that is cut off")
        if zlib.crc32(body) != int.from_bytes(sum_, "big"):
            raise _BadEntry(f"is a damaged PNG: the checksum of its piece {short(body[:4].decode('latin1'))} is wrong")
        yield body[:4], body[4:]
        at += 12 + length


def _check_rows(packed: bytes, size: int) -> None:
    """Raise unless ``packed`` holds ``size`` bytes of rows; one more than that is all that is ever unpacked."""
    unpacker = zlib.decompressobj()
    try:
        rows = unpacker.decompress(packed, size + 1)
    except zlib.error as error:
        raise _BadEntry(f"is a damaged PNG ({said(error)})") from None
    if len(rows) != size or not unpacker.eof:
        many = "more" if len(rows) > size else "less"
        raise _BadEntry(f"is a damaged PNG: its rows have {many} than {size} bytes, or are cut off")


def _rows(height: int, width: int, interlaced: bool) -> int:
    """Bytes of a grey picture's rows, each with its filter's number before it."""
    if not interlaced:
        return height * (width + 1)
    sizes = [(len(range(y, height, down)), len(range(x, width, right))) for y, x, down, right in PASSES]
    return sum(high * (wide + 1) for high, wide in sizes if wide)


def _limit(height: int, width: int) -> int:
    """Bytes that a grey PNG can have, however badly it is compressed."""
    return BESIDE + 2 * height * (width + 1)


def _first(where: np.ndarray) -> tuple[int, int]:
    """Row and column of the first True, row by row."""
    y, x = divmod(int(where.argmax()), where.shape[1])
    return y, x
