"""What the checks of formats npy and npz share: shapes, types and values of labels and probabilities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from podium.config import Competition
from podium.config_submission_formats import Npy, Npz
from podium.data.ragged import Ragged
from podium.submission.checks.array_stream import BadArray, Head
from podium.submission.checks.probabilities import judge_sums, tolerance
from podium.submission.checks.report import Findings, Tally, judge_differing, judge_meant, judge_unscored, short

Place = Callable[[int, tuple[int, ...]], str]
"""How a value is called: of the position of its image in the test set, and of its index within the image."""


class Values:
    """What is known of the values of the images read so far."""

    def __init__(
        self, competition: Competition, settings: Npy | Npz, ids: np.ndarray, meant: Ragged | None, own: bool
    ) -> None:
        self.competition, self.settings, self.ids, self.meant, self.own = competition, settings, ids, meant, own
        self.findings = Findings()
        self.masks, self.several = competition.task == "segmentation", competition.task == "multilabel"
        self.numbers = competition.task == "regression" and not competition.classes
        self.likely = settings.of == "probabilities"
        self.dtype = np.dtype(settings.stored(self.numbers))
        self.counts = np.zeros(len(competition.classes), np.int64)
        self.images = 0
        self.forbidden, self.differing = Tally(holder="image"), Tally("value", "image")
        self.sums = Tally("pixel" if self.masks else None, "image")
        self.first: np.ndarray | None = None
        self.same = True  # whether all images say what the first one does

    def shape(self, height: int, width: int) -> tuple[int, ...]:
        """Of an image of that size."""
        classes = len(self.competition.classes)
        if self.masks:
            return (classes, height, width) if self.likely else (height, width)
        return (classes,) if self.likely or self.several else ()

    def check_head(self, head: Head, expected: tuple[int, ...]) -> None:
        """Raise a BadArray where an array has another shape, or values of another type.

        Of another size of the type it may be in a file from elsewhere, where the configuration says nothing of it.
        """
        fits = head.dtype.kind in ("f" if self.likely or self.numbers else "iu")
        if not fits or (head.dtype != self.dtype and (self.own or self.settings.dtype is not None)):
            raise BadArray(f"has values of type {head.dtype.str}, expected {self.dtype} ({self.dtype.str})")
        if head.shape != expected:
            axes = "C, H, W" if self.likely and self.masks else "H, W" if self.masks else "C"
            if len(expected) != axes.count(",") + 1:
                axes = f"N, {axes}" if len(expected) > 1 else "N"
            why = ""
            if self.masks and head.shape == (*expected[:-2], expected[-1], expected[-2]):
                why = ": height and width are exchanged"
            elif self.masks and self.likely and head.shape == (*expected[:-3], *expected[-2:], expected[-3]):
                why = ": the classes stand last"
            raise BadArray(f"has the shape {head.shape}, expected {expected} ({axes}){why}")
        if head.dtype != self.dtype and not any("values of type" in text for text in self.findings.warnings):
            self.findings.warnings.append(f"values of type {head.dtype.str}, podium writes {self.dtype.str}")

    def take(self, block: np.ndarray, first: int, place: Place) -> None:
        """Take in images (n, ...), the first of which is number ``first`` of the test set."""
        self.images += len(block)
        if self.likely:
            with np.errstate(invalid="ignore"):
                wrong = ~((block >= 0) & (block <= 1))
        elif self.numbers:
            wrong = ~np.isfinite(block)
        else:
            wrong = (block < 0) | (block >= (2 if self.several else len(self.competition.classes)))
        bad = wrong.reshape(len(block), -1).any(1)
        for at in np.flatnonzero(bad).tolist():
            where = _first(wrong[at])
            others = int(np.count_nonzero(wrong[at])) - 1
            more = f", and {others} more such value{'s' if others > 1 else ''} of this image" if others else ""
            said = f"{place(first + at, where)} holds {block[at][where]}, expected {self._expected()}{more}"
            self.findings.error(said)
        for at in np.flatnonzero(~bad).tolist():
            self._image(block[at], first + at, place)

    def _image(self, image: np.ndarray, at: int, place: Place) -> None:
        """Count the classes of an image whose values can be, and compare it with what was meant."""
        if not self.masks:
            self.first = image if self.first is None else self.first
            self.same = self.same and bool((image == self.first).all())
        classes = len(self.counts)
        if self.several:
            self.counts += image > 0.5
        elif not self.numbers:
            labels = image.argmax(0) if self.likely else image
            self.counts += np.bincount(labels.reshape(-1).astype(np.int64), minlength=classes)
            unscored = self.competition.unscored_index
            if unscored is not None and (where := labels == unscored).any():
                self.forbidden.add(place(at, _first(where)), int(np.count_nonzero(where)))
        if self.likely and not self.several:
            sums = image.sum(0, dtype=np.float64)
            off = np.abs(sums - 1) > tolerance(self.own, image.dtype)
            if off.any():
                where = _first(off)
                self.sums.add(f"{place(at, where)} sums over the classes to {sums[where]:.6g}", int(off.sum()))
        self._compare(image, at, place)

    def _expected(self) -> str:
        if self.likely:
            return "a probability from 0 to 1"
        return "a number" if self.numbers else f"0 to {1 if self.several else len(self.counts) - 1}"

    def _compare(self, image: np.ndarray, at: int, place: Place) -> None:
        name = str(self.ids[at])
        if self.meant is None or name not in self.meant.index:
            return
        meant = self.meant[self.meant.index[name]]
        if not self.likely:
            meant = meant[0]
        elif self.several:
            meant = meant[1]
        if not self.masks:
            meant = meant.reshape(-1) if image.shape else meant.reshape(-1)[0]
        if meant.shape != image.shape:
            self.findings.error(f"id {short(name)}: shape {image.shape}, meant was {meant.shape}")
            return
        wanted = meant.astype(image.dtype)
        differs = np.asarray(image != wanted)
        if differs.any():
            where = _first(differs)
            said = f"{place(at, where)} is {image[where]}, meant was {wanted[where]}"
            self.differing.add(said, int(np.count_nonzero(differs)))

    def close(self) -> Findings:
        """Note what concerns all images."""
        findings = self.findings
        if self.forbidden:
            judge_unscored(findings, self.competition, self.forbidden, self.own)
        judge_sums(findings, self.sums, self.own)
        judge_differing(findings, self.differing)
        judge_meant(findings, self.ids, self.meant)
        predicted = np.flatnonzero(self.counts)
        if self.masks and len(predicted) == 1:
            findings.warnings.append(f"every pixel is predicted '{self.competition.classes[predicted[0]]}'")
        if not self.masks and self.same and self.images > 1 and self.first is not None:
            findings.warnings.append("every image has the same prediction")
        return findings


def _first(where: np.ndarray) -> tuple[int, ...]:
    """Index of the first True."""
    return tuple(int(i) for i in np.unravel_index(int(where.argmax()), where.shape))
