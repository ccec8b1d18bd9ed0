"""The check of format npz: labels or probabilities as named arrays of numpy; nothing of it is unpacked to the disk."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from podium.config import Competition
from podium.config_submission_formats import Npz
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.submission.checks.archives import BROKEN, said, why_unreadable
from podium.submission.checks.array_stream import BadArray, blocks, read_head
from podium.submission.checks.array_values import Values
from podium.submission.checks.npy import in_array, one_array
from podium.submission.checks.report import Ids, Report, short

LONGER = 1024
"""Characters by which a text among the ids may be longer than the longest that is expected."""


def check_npz(
    path: Path,
    competition: Competition,
    ids: np.ndarray,
    shapes: np.ndarray,
    meant: Ragged | None = None,
    own: bool = True,
) -> Report:
    """Read an npz submission from disk and hold it against the test set, array by array.

    Checked are the archive, the arrays' names (missing, unknown, twice), each array as ``check_npy`` does it, and the ids
    where they have an array: texts, in the test set's order.

    ids: the test set's, in order. shapes: (N, 3), the C, H, W of its images; of one size where masks are one array.
    own: the file was made here; in a file from elsewhere further arrays are a warning, ids may be numbers, and any order of
    the arrays is as good as another.
    A file that cannot be read at all, and test images of several sizes for one array, are a UserError.
    """
    settings = competition.submission
    if not isinstance(settings, Npz):
        raise ValueError(f"{competition.name}: its submission is not an npz")
    if len(shapes) != len(ids):
        raise ValueError("every id has a shape")
    check = _Check(competition, settings, ids, shapes, meant, own)
    try:
        with path.open("rb") as file:
            check.read(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); name an existing npz file") from error
    return check.result()


class _Check:
    """What is known after the arrays read so far."""

    def __init__(
        self,
        competition: Competition,
        settings: Npz,
        ids: np.ndarray,
        shapes: np.ndarray,
        meant: Ragged | None,
        own: bool,
    ) -> None:
        self.ids, self.shapes, self.own = ids, shapes, own
        self.per_image = settings.per_image
        self.values = Values(competition, settings, ids, meant, own)
        self.whole: tuple[int, ...] = ()  # shape of the one array
        if self.per_image:
            before, after = settings.key.split("{id}")
            names = [f"{before}{name}{after}.npy" for name in ids.tolist()]
        else:
            self.whole = one_array(competition, shapes, self.values, "set submission.key: '{id}' for an array of each")
            names = [f"{settings.key}.npy"]
        self.arrays = len(names)
        self.ids_entry = None if settings.ids_key is None else f"{settings.ids_key}.npy"
        if self.ids_entry is not None:
            names.append(self.ids_entry)
        self.entries = Ids(names, self.values.findings, "arrays", ordered=own)
        self.opened = False

    def read(self, file: BinaryIO) -> None:
        """Take in the archive."""
        findings = self.values.findings
        try:
            archive = zipfile.ZipFile(file)
        except (*BROKEN, OSError) as error:  # also OSError: damage sends the reader to places before the beginning
            findings.head.append(f"the file is no zip archive, or is cut off ({said(error)}), expected an npz")
            return
        self.opened = True
        for info in archive.infolist():
            subject = f"entry {short(info.filename)}"
            if info.filename not in self.entries.position:
                first = short(next(iter(self.entries.position)))
                text = f"{subject} is no array that is expected; the first of those is {first}"
                findings.error(text) if self.own else findings.warnings.append(text)
            elif self.entries.take(subject, info.filename, "there"):
                self._entry(archive, info, subject)

    def _entry(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, subject: str) -> None:
        """Take in an array that is expected."""
        try:
            if (why := why_unreadable(info)) is not None:
                raise BadArray(why)
            with archive.open(info) as entry:
                if info.filename == self.ids_entry:
                    self._ids(entry, subject)
                elif self.per_image:
                    self._image(entry, self.entries.position[info.filename])
                else:
                    self._whole(entry)
        except BadArray as error:
            self.values.findings.error(f"{subject} {error}")
        except (*BROKEN, OSError) as error:
            self.values.findings.error(f"{subject} cannot be read ({said(error)}), expected a whole array")

    def _whole(self, entry: IO[bytes]) -> None:
        head = read_head(entry)
        self.values.check_head(head, self.whole)
        at = 0
        for block in blocks(entry, head):
            self.values.take(block, at, lambda image, index: in_array(self.ids, image, index))
            at += len(block)

    def _image(self, entry: IO[bytes], image: int) -> None:
        head = read_head(entry)
        expected = self.values.shape(*self.shapes[image, 1:].tolist())
        self.values.check_head(head, expected)
        # by pieces of rows a label could be counted, but an image is what is compared and complained of
        rows = list(blocks(entry, head))
        whole = np.concatenate(rows).reshape(1, *expected)
        name = short(str(self.ids[image]))
        self.values.take(
            whole, image, lambda _, index: f"array of id {name}{f', index {list(index)}' if index else ''}"
        )

    def _ids(self, entry: IO[bytes], subject: str) -> None:
        head = read_head(entry)
        kinds = "U" if self.own else "USiu"
        longest = max(len(name) for name in self.ids.tolist())
        if head.dtype.kind not in kinds or head.dtype.itemsize > 4 * (longest + LONGER):
            raise BadArray(f"has values of type {head.dtype.str}, expected texts as <U{max(1, longest)}")
        if head.shape != (len(self.ids),):
            raise BadArray(f"has the shape {head.shape}, expected {(len(self.ids),)} (N)")
        at = 0
        for block in blocks(entry, head):
            texts = [name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in block.tolist()]
            for found, wanted in zip(texts, self.ids[at : at + len(block)].tolist(), strict=True):
                if found != wanted:
                    self.values.findings.error(f"{subject}, index [{at}] is {short(found)}, expected {short(wanted)}")
                    return
                at += 1

    def result(self) -> Report:
        """The verdict after the last array."""
        if not self.opened:
            return self.values.findings.report(0, self.values.counts)
        self.entries.close()
        findings = self.values.close()
        return findings.report(self.values.images, self.values.counts)
