"""The check of format rle_csv with a row per object."""

from __future__ import annotations

import numpy as np

from podium.config import Competition
from podium.config_submission_formats import RleCsv
from podium.data.ragged import Ragged
from podium.submission.checks.csv_file import CsvFile, longest_of, place
from podium.submission.checks.report import Report, Tally, judge_differing, judge_meant, short
from podium.submission.checks.runs import covered, ends_of_runs

SQUARE = np.ones((3, 3), np.bool_)
"""Which pixels are neighbours of the one in the middle."""


class ObjectsCheck:
    """What is known after the rows read so far.

    Rows of one image (and class) stand together; no pixel is in two of them; an image without objects has one row with an
    empty mask, or with ``empty: skip`` none. Where labels were meant, every row is one of their connected pieces; without,
    whether an object is connected is its maker's affair. A pixel in objects of two classes is an error in a file made here
    and a warning in one from elsewhere.

    Masks lie on their side here, (W, H), as the runs go.
    """

    def __init__(
        self, competition: Competition, ids: np.ndarray, shapes: np.ndarray, meant: Ragged | None, own: bool
    ) -> None:
        settings = competition.submission
        if not isinstance(settings, RleCsv):
            raise ValueError(f"{competition.name}: its submission is not an rle_csv")
        self.competition, self.ids, self.meant, self.own = competition, ids, meant, own
        self.sizes: list[tuple[int, int]] = [(height, width) for _, height, width in shapes.tolist()]
        self.wanted = settings.wanted(competition.classes, competition.unscored)
        self.skip = settings.empty == "skip"
        before, after = settings.template.split("{id}")
        self.names = names = [
            before.replace("{class}", class_name) + name + after.replace("{class}", class_name)
            for name in ids.tolist()
            for class_name in self.wanted
        ]
        pixels = [height * width for height, width in self.sizes]
        most, digits = max(pixels, default=0), len(str(max(pixels, default=0))) + 1
        longest = 1024 + longest_of(names) + (most + 2) * digits
        # as if every pixel were an object of its own
        room = len(names) * longest + sum(pixels) * len(self.wanted) * (longest_of(names) + 2 * digits + 4)
        self.file = CsvFile(settings, [settings.id, settings.rle], names, longest, own, room)
        self.areas = np.zeros(len(self.wanted), np.int64)
        self.objects = 0
        self.differing, self.shared = Tally(), Tally()
        self._at = (
            -1
        )  # of the name of the latest rows; each one's number on its pixels, objects and empty masks among them
        self._numbers = np.zeros((0, 0), np.int32)
        self._pieces = self._empty = 0
        self._good = True
        self._of_image = (-1, np.zeros((0, 0), np.bool_))  # the image of these rows, and what other classes cover there

    def row(self, number: int, line: bytes) -> None:
        """Take in one row."""
        fields = self.file.fields(number, line)
        if fields is None or not self.file.take(number, fields[0]):
            return
        name, text = fields
        at = self.file.ids.position[name]
        if at != self._at:
            self._leave()
            self._enter(at)
        height, width = self.sizes[at // len(self.wanted)]
        try:
            starts, ends = ends_of_runs(text, height, width)
        except ValueError as error:
            self._complain(f"{place(number, name)}, column '{self.file.columns[1]}' {error}")
            return
        self._empty += not len(starts)
        if not len(starts) and self.skip:
            self._complain(
                f"{place(number, name)}, column '{self.file.columns[1]}' is empty, expected no row of an image without "
                f"objects"
            )
        elif self._empty and self._empty + self._pieces + len(starts[:1]) > 1:
            self._complain(f"{place(number, name)}: an empty mask stands beside other rows of its image")
        elif len(starts):
            self._object(number, name, starts, ends, height)

    def _object(self, number: int, name: str, starts: np.ndarray, ends: np.ndarray, height: int) -> None:
        """Take in one object, of whose image only the columns are looked at that it lies in."""
        first, last = int(starts[0]) // height, -(-int(ends[-1]) // height)
        mask = covered(starts - first * height, ends - first * height, (last - first) * height).reshape(-1, height)
        around = self._numbers[first:last]
        if (twice := (around > 0) & mask).any():
            self._complain(f"{place(number, name)}, {_pixel(twice, first)} is in an earlier row of its image too")
        if (twice := self._of_image[1][first:last] & mask).any():
            self.shared.add(f"{place(number, name)}, {_pixel(twice, first)}", int(np.count_nonzero(twice)))
        self._pieces += 1
        around[mask] = self._pieces

    def _complain(self, text: str) -> None:
        self.file.findings.error(text)
        self._good = False

    def _enter(self, at: int) -> None:
        """Begin with the rows of another name."""
        image = at // len(self.wanted)
        height, width = self.sizes[image]
        if image != self._of_image[0]:
            self._of_image = image, np.zeros((width, height), np.bool_)
        self._at, self._pieces, self._empty, self._good = at, 0, 0, True
        self._numbers = np.zeros((width, height), np.int32)

    def _leave(self) -> None:
        """Note what the latest rows, which share a name, make together."""
        if self._at < 0:
            return
        np.logical_or(self._of_image[1], self._numbers, out=self._of_image[1])
        self.areas[self._at % len(self.wanted)] += np.count_nonzero(self._numbers)
        self.objects += self._pieces
        if self._good:
            self._compare(self._at, self._numbers, self._pieces)

    def _compare(self, at: int, numbers: np.ndarray, pieces: int) -> None:
        """Hold a class of an image, numbers (W, H) from 1 of its rows, against what was meant."""
        from scipy import ndimage

        image, class_at = divmod(at, len(self.wanted))
        key = str(self.ids[image])
        if self.meant is None or key not in self.meant.index:
            return
        name = short(self.names[at])
        meant = (self.meant[self.meant.index[key]][0] == self.competition.classes.index(self.wanted[class_at])).T
        if meant.shape != numbers.shape:
            sizes = f"{numbers.shape[1]} × {numbers.shape[0]} pixels, meant were {meant.shape[1]} × {meant.shape[0]}"
            self.file.findings.error(f"id {name}: {sizes}")
        elif (differs := (numbers > 0) != meant).any():
            x, y = np.argwhere(differs)[0]
            said = "is in an object and was not meant to be" if numbers[x, y] else "is in no object and was meant to be"
            self.differing.add(f"id {name}, {_pixel(differs)} {said}", int(np.count_nonzero(differs)))
        else:
            found, objects = ndimage.label(meant, SQUARE)
            pairs = np.unique(found[meant].astype(np.int64) * (pieces + 1) + numbers[meant])
            # every row lies in one piece, and no piece is in two rows
            if not len(pairs) == objects == pieces:
                self.file.findings.error(
                    f"id {name}: {pieces} rows with objects, which are not the {objects} connected pieces that were meant"
                )

    def result(self) -> Report:
        """The verdict after the last line."""
        findings, classes = self.file.findings, self.competition.classes
        counts = np.zeros(len(classes), np.int64)
        if not self.file.opened:
            return self.file.report(counts)
        self._leave()
        self.file.close(all_needed=not self.skip)
        if self.skip:
            for at, name in enumerate(self.names):
                if not self.file.ids.met(name):
                    height, width = self.sizes[at // len(self.wanted)]
                    self._compare(at, np.zeros((width, height), np.int32), 0)
        if self.shared:
            where = findings.whole if self.own else findings.warnings
            where.append(f"{self.shared}: in objects of two classes, expected one class per pixel")
        judge_differing(findings, self.differing)
        judge_meant(findings, self.ids, self.meant)
        if not self.objects:
            findings.warnings.append("there is no object in any image")
        for name, area in zip(self.wanted, self.areas.tolist(), strict=True):
            counts[classes.index(name)] = area
        unscored = self.competition.unscored
        background = 0 if unscored is None else classes.index(unscored)
        if classes[background] not in self.wanted:
            pixels = sum(height * width for height, width in self.sizes)
            counts[background] = max(0, pixels - int(self.areas.sum()))
        return self.file.report(counts)


def _pixel(where: np.ndarray, first: int = 0) -> str:
    """The first True of (W, H) as runs count pixels, and its row and column; first: the column of the picture it begins at."""
    x, y = divmod(int(where.argmax()), where.shape[1])
    return f"pixel {1 + (first + x) * where.shape[1] + y} (row {y}, column {first + x})"
