"""The check of format rle_csv: one row per image, or per image and class, an id and a mask as runs of pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from podium.config import Competition
from podium.config_submission_formats import RleCsv
from podium.data.ragged import Ragged
from podium.submission.checks.csv_file import CsvFile, longest_of, place
from podium.submission.checks.report import (
    Report,
    Tally,
    judge_differing,
    judge_meant,
    judge_unscored,
    short,
)
from podium.submission.checks.rle_objects import ObjectsCheck
from podium.submission.checks.runs import decode, first, pixel


def check_rle_csv(
    path: Path,
    competition: Competition,
    ids: np.ndarray,
    shapes: np.ndarray,
    meant: Ragged | None = None,
    own: bool = True,
) -> Report:
    """Read an rle_csv submission from disk and hold it against the test set, line by line.

    Checked are the header, the ids (missing, unknown, twice, out of order), the number of columns of each row, that
    runs are pairs of whole numbers, in ascending order, apart, at least one pixel long and inside their image, that no
    pixel is in the masks of two classes, the end of the file, and, where ``meant`` is given (uint8, (1, H, W) per id,
    joined by id), every pixel; with ``per: object`` what ``ObjectsCheck`` says.

    ids: the test set's, in order. shapes: (N, 3), the C, H, W of its images.
    own: the file was made here, so that a missing last line break, a pixel of two classes, or with ``per: class`` one
    of none where the rest is the unscored class, are errors; in a file from elsewhere they are warnings.
    A file that cannot be read at all is a UserError.
    """
    if len(shapes) != len(ids):
        raise ValueError("every id has a shape")
    settings = competition.submission
    objects = isinstance(settings, RleCsv) and settings.per == "object"
    check = (ObjectsCheck if objects else _Check)(competition, ids, shapes, meant, own)
    check.file.read(path, check.row)
    return check.result()


class _Check:
    """What is known after the rows read so far."""

    def __init__(
        self, competition: Competition, ids: np.ndarray, shapes: np.ndarray, meant: Ragged | None, own: bool
    ) -> None:
        settings = competition.submission
        if not isinstance(settings, RleCsv):
            raise ValueError(f"{competition.name}: its submission is not an rle_csv")
        self.competition, self.ids, self.meant, self.own = competition, ids, meant, own
        self.sizes: list[tuple[int, int]] = [(height, width) for _, height, width in shapes.tolist()]
        self.wanted = settings.wanted(competition.classes, competition.unscored)
        self.per_class = settings.per == "class"
        before, after = settings.template.split("{id}")
        names = [
            before.replace("{class}", class_name) + name + after.replace("{class}", class_name)
            for name in ids.tolist()
            for class_name in self.wanted
        ]
        most = max((height * width for height, width in self.sizes), default=0)
        longest = 1024 + longest_of(names) + (most + 2) * (len(str(most)) + 1)  # as if every pixel were a number
        self.file = CsvFile(settings, [settings.id, settings.rle], names, longest, own)
        self.areas = np.zeros(len(self.wanted), np.int64)
        self.pixels = 0  # of the rows that could be read
        self.differing = Tally()
        self.shared, self.uncovered = Tally(), Tally(holder="image")
        self._image = -1  # the image of the latest rows, what its masks cover, and how many they are
        self._covered = np.zeros(0, np.bool_)
        self._masks = 0

    def row(self, number: int, line: bytes) -> None:
        """Take in one row."""
        fields = self.file.fields(number, line)
        if fields is None or not self.file.take(number, fields[0]):
            return
        name, text = fields
        image, at = divmod(self.file.ids.position[name], len(self.wanted))
        height, width = self.sizes[image]
        try:
            mask = decode(text, height, width)
        except ValueError as error:
            self.file.findings.error(f"{place(number, name)}, column '{self.file.columns[1]}' {error}")
            return
        self.areas[at] += np.count_nonzero(mask)
        self.pixels += mask.size
        self._join(number, name, image, mask)
        self._compare(number, name, image, at, mask)

    def _join(self, number: int, name: str, image: int, mask: np.ndarray) -> None:
        """Hold a mask against the others of its image, which stand beside it."""
        if image != self._image:
            self._leave()
            self._image, self._covered, self._masks = image, np.zeros_like(mask), 0
        twice = self._covered & mask
        if twice.any():
            self.shared.add(f"{place(number, name)}, {pixel(twice)}", int(np.count_nonzero(twice)))
        self._covered |= mask
        self._masks += 1

    def _leave(self) -> None:
        """Note what the masks of the latest image leave, where all of them were read."""
        if self._masks == len(self.wanted) and not self._covered.all():
            left = ~self._covered
            self.uncovered.add(f"id {short(str(self.ids[self._image]))}, {pixel(left)}", int(np.count_nonzero(left)))

    def _compare(self, number: int, name: str, image: int, at: int, mask: np.ndarray) -> None:
        key = str(self.ids[image])
        if self.meant is None or key not in self.meant.index:
            return
        meant = self.meant[self.meant.index[key]][0] == self.competition.classes.index(self.wanted[at])
        if meant.shape != mask.shape:
            sizes = f"{mask.shape[0]} × {mask.shape[1]} pixels, meant were {meant.shape[0]} × {meant.shape[1]}"
            self.file.findings.error(f"{place(number, name)}: {sizes}")
        elif (differs := mask != meant).any():
            y, x = first(differs)
            said = "is in the mask and was not meant to be" if mask[y, x] else "is not in the mask and was meant to be"
            self.differing.add(f"{place(number, name)}, {pixel(differs)} {said}", int(np.count_nonzero(differs)))

    def result(self) -> Report:
        """The verdict after the last line."""
        findings, classes = self.file.findings, self.competition.classes
        counts = np.zeros(len(classes), np.int64)
        if not self.file.opened:
            return self.file.report(counts)
        self.file.close()
        self._leave()
        if self.shared:
            where = findings.whole if self.own else findings.warnings
            where.append(f"{self.shared}: in the masks of two classes, expected one class per pixel")
        if self.per_class and self.competition.unscored is not None and self.uncovered:
            judge_unscored(findings, self.competition, f"{self.uncovered} in no mask", self.own)
        judge_differing(findings, self.differing)
        judge_meant(findings, self.ids, self.meant)
        pixels = self.pixels // len(self.wanted)  # every class of an image is a row of the same pixels
        for name, area in zip(self.wanted, self.areas.tolist(), strict=True):
            of = f" of '{name}'" if self.per_class else ""
            if self.pixels and not area:
                findings.warnings.append(f"every mask{of} is empty")
            elif self.pixels and area * len(self.wanted) == self.pixels:
                findings.warnings.append(f"every mask{of} covers its whole image")
            counts[classes.index(name)] = area
        unscored = self.competition.unscored
        background = 0 if unscored is None else classes.index(unscored)
        if classes[background] not in self.wanted:
            counts[background] = max(0, pixels - int(self.areas.sum()))
        return self.file.report(counts)
