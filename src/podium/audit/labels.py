"""Probable label errors, ranked from out-of-fold predictions.

After confident learning (Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels",
JAIR 2021, arXiv:1911.00068). A class's threshold is the mean probability that the examples labelled with it get for
it. A label is a probable error when another class reaches that class's threshold and is more probable than the given
one, so that a class which the model is always sure of takes more to be suggested than one it never is.

The predictions must be out-of-fold: a model has learnt the errors it was trained on. Even so, errors made the same
way throughout (every border drawn too wide, a class mistaken for another everywhere) are learnt from the other folds
and not seen here. And this ranks, it does not prove: hard examples which are labelled correctly are among the rows.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np

from podium.data.chunk import NO_LABEL
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.store import write_atomically

FILE = "labels.csv"
_NOBODY = 255  # no class is suggested
_CORE = np.ones((3, 3), np.uint8)  # a region in which this fits nowhere is a contour drawn a pixel or two aside


@dataclass(frozen=True)
class Suspect:
    """An image for which the model prefers another class.

    confidence, suggested_confidence: the probabilities of the given and of the suggested class. score: the largest
    other probability less that of the given class, above 0 and up to 1: the paper's normalised margin turned round.
    probable: whether the suggested class reaches its threshold; the others are merely doubtful.
    """

    id: str
    given: str
    suggested: str
    confidence: float
    suggested_confidence: float
    score: float
    probable: bool


@dataclass(frozen=True)
class Pair:
    """How many images labelled ``given`` are estimated to be ``suggested``."""

    given: str
    suggested: str
    count: float


@dataclass(frozen=True)
class ImageLabels:
    """suspects: highest score first. pairs: most frequent first, off the diagonal. judged: images with a label."""

    suspects: tuple[Suspect, ...]
    pairs: tuple[Pair, ...]
    thresholds: dict[str, float]
    judged: int


@dataclass(frozen=True)
class Region:
    """Connected pixels for which the model confidently says one other class.

    given: the label of most of them. area: pixels. margin: mean of the suggested class's probability less the
    label's, 0 to 1. score: area × margin. Rows y0 to y1 and columns x0 to x1, the ends excluded.
    """

    id: str
    given: str
    suggested: str
    area: int
    margin: float
    score: float
    y0: int
    x0: int
    y1: int
    x1: int


@dataclass(frozen=True)
class Disputed:
    """An image with such regions: how many, and which share of its labelled pixels lies in them."""

    id: str
    regions: int
    labelled: int
    area: int
    share: float


@dataclass(frozen=True)
class RegionLabels:
    """regions: highest score first. images: largest share first. judged: labelled pixels of all images."""

    regions: tuple[Region, ...]
    images: tuple[Disputed, ...]
    thresholds: dict[str, float]
    judged: int


def rank_images(
    targets: Ragged, probabilities: Ragged | Sequence[Ragged], classes: Sequence[str], unscored: int | None
) -> ImageLabels:
    """Rank the labels of a classification.

    targets: uint8 class indices (1, 1, 1) per id, 255 where there is none. probabilities: float (C, 1, 1) per id, one
    volume or one per fold, joined by id; targets without a prediction are not judged, nor are those labelled with the
    ``unscored`` class, which is never suggested either. The pairs' counts are the paper's calibrated confident joint
    (its equations 1 and 2). A prediction without a target, or of another size, is a UserError.
    """
    if (targets.shapes != 1).any():
        raise ValueError("these are masks, not labels of whole images")
    judged = [row for row in _joined(targets, probabilities, classes, unscored) if row.labelled.any()]
    names = np.array([row.id for row in judged], np.str_)
    given = np.array([row.target[0] for row in judged], np.int64)
    found = np.array([row.scored[:, 0] for row in judged], np.float32).reshape(len(judged), len(classes)).T
    own = _own(found, given)
    sums = [math.fsum(own[given == c].tolist()) for c in range(len(classes))]
    thresholds = _thresholds(sums, np.bincount(given, minlength=len(classes)))
    confident = _suggest(found, own, thresholds)
    # the next best, whether or not it reaches its threshold; never a class that nobody was labelled with
    others = np.where(np.isfinite(thresholds)[:, None], found, np.float32(-1))
    others[given, np.arange(len(given))] = -1
    score = others.max(0, initial=-1) - own
    suggested = np.where(confident == _NOBODY, others.argmax(0) if len(given) else 0, confident)
    suspects = [
        Suspect(
            id=str(names[i]),
            given=classes[given[i]],
            suggested=classes[suggested[i]],
            confidence=float(own[i]),
            suggested_confidence=float(found[suggested[i], i]),
            score=float(score[i]),
            probable=bool(confident[i] != _NOBODY),
        )
        for i in np.flatnonzero(score > 0).tolist()
    ]
    return ImageLabels(
        tuple(sorted(suspects, key=lambda row: (-row.score, row.id))),
        _pairs(found, given, own, thresholds, classes),
        _named(thresholds, classes),
        len(judged),
    )


def rank_regions(
    targets: Ragged, probabilities: Ragged | Sequence[Ragged], classes: Sequence[str], unscored: int | None
) -> RegionLabels:
    """Rank the regions and the images of a segmentation.

    targets: uint8 class indices (1, H, W) per id, 255 where there is no label. probabilities: float (C, H, W) per id;
    what ``rank_images`` says of them holds for the pixels here. Images are read twice, one at a time, so that memory
    does not grow with their number. Annotators' contours wobble: where a region is nowhere three pixels thick, in the
    image, it is left out, and so are its pixels in the image's share.
    """
    own_sums: list[np.ndarray] = []
    counts = np.zeros(len(classes), np.int64)
    for row in _joined(targets, probabilities, classes, unscored):
        labels = row.target[row.labelled]
        own = _own(row.scored, row.target)[row.labelled]
        own_sums.append(np.bincount(labels, own, len(classes)))
        counts += np.bincount(labels, minlength=len(classes))
    # fsum: the thresholds do not depend on the order of the images
    sums = [math.fsum(column) for column in zip(*(sums.tolist() for sums in own_sums), strict=True)]
    thresholds = _thresholds(sums or [0.0] * len(classes), counts)
    regions: list[Region] = []
    images: list[Disputed] = []
    for row in _joined(targets, probabilities, classes, unscored):
        own_regions = _regions(row, thresholds, classes)
        if own_regions:
            labelled, area = int(row.labelled.sum()), sum(region.area for region in own_regions)
            images.append(Disputed(row.id, len(own_regions), labelled, area, area / labelled))
            regions += own_regions
    regions.sort(key=lambda region: (-region.score, region.id, region.y0, region.x0, region.suggested))
    images.sort(key=lambda image: (-image.share, image.id))
    return RegionLabels(tuple(regions), tuple(images), _named(thresholds, classes), int(counts.sum()))


def write(folder: Path, found: ImageLabels | RegionLabels) -> Path:
    """Write labels.csv, one row per probable error, best first, atomically; returns its path.

    The columns are the fields of ``Suspect`` (without ``probable``, which all of them are) or of ``Region``.
    """
    rows: Sequence[Suspect] | Sequence[Region]
    rows = [row for row in found.suspects if row.probable] if isinstance(found, ImageLabels) else found.regions
    kind = Suspect if isinstance(found, ImageLabels) else Region
    columns = [field.name for field in fields(kind) if field.name != "probable"]
    text = io.StringIO()
    # names are quoted and numbers are not: an id of digits keeps its zeros wherever that is understood
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = [getattr(row, column) for column in columns]
        writer.writerow([round(value, 6) if isinstance(value, float) else value for value in values])
    write_atomically(folder / FILE, text.getvalue())
    return folder / FILE


@dataclass(frozen=True, eq=False)
class _Row:
    """One image, its n pixels in a row: scored, float32 (C, n), probabilities, 0 for the unscored class; target, int64
    (n,), of use where labelled, bool (n,), is true."""

    id: str
    shape: tuple[int, int]
    scored: np.ndarray
    target: np.ndarray
    labelled: np.ndarray


def _joined(
    targets: Ragged, probabilities: Ragged | Sequence[Ragged], classes: Sequence[str], unscored: int | None
) -> Iterator[_Row]:
    """Every predicted image with its labels, in the order of the targets."""
    volumes = [probabilities] if isinstance(probabilities, Ragged) else probabilities
    places: dict[str, tuple[Ragged, int]] = {}
    for volume in volumes:
        for row, name in enumerate(volume.ids.tolist()):
            if name in places or name not in targets.index:
                what = "predicted twice" if name in places else "predicted, but has no label"
                raise UserError(
                    f"id '{name}': is {what}; these predictions belong to other data or folds, make them anew"
                )
            places[name] = volume, row
    for name, at in targets.index.items():
        if name not in places:
            continue
        volume, row = places[name]
        target = targets[at].reshape(-1)
        asked = (len(classes), *targets[at].shape[1:])
        if volume[row].shape != asked:
            raise UserError(
                f"id '{name}': is predicted as {volume[row].shape} (C, H, W), its label asks for {asked}; "
                "these predictions belong to other data, make them anew"
            )
        predicted = volume[row].reshape(len(classes), -1).astype(np.float32)
        if not np.isfinite(predicted).all():
            raise UserError(f"id '{name}': holds predictions that are no numbers; train the model again")
        labelled = target != NO_LABEL
        if (target[labelled] >= len(classes)).any():
            raise ValueError(f"id '{name}': label {target[labelled].max()} is no class, there are {len(classes)}")
        if unscored is not None:
            labelled &= target != unscored
            if predicted[unscored].any():  # as for decoding
                predicted[unscored] = 0
                predicted /= np.maximum(predicted.sum(0), np.float32(1e-12))
        yield _Row(name, asked[1:], predicted, np.where(labelled, target, 0).astype(np.int64), labelled)


def _own(found: np.ndarray, given: np.ndarray) -> np.ndarray:
    """float32 (n,): the probability of the given class, from (C, n) and (n,)."""
    own: np.ndarray = np.take_along_axis(found, given[None], 0)[0]
    return own


def _thresholds(sums: Sequence[float], counts: np.ndarray) -> np.ndarray:
    """float32 (C,): mean self-confidence; infinite for a class that nobody was labelled with, so it is never suggested.

    float32, as the probabilities are: where all examples have one confidence, it equals their mean and reaches it.
    """
    means = [total / count if count else math.inf for total, count in zip(sums, counts.tolist(), strict=True)]
    return np.array(means, np.float32)


def _suggest(found: np.ndarray, own: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """uint8 (n,): the most probable of the classes that reach their threshold and exceed the given one, or 255."""
    better = (found >= thresholds[:, None]) & (found > own)
    suggested = np.full(len(own), _NOBODY, np.uint8)
    some = np.flatnonzero(better.any(0))  # few, and the rest is slow
    suggested[some] = np.where(better[:, some], found[:, some], np.float32(-1)).argmax(0)
    return suggested


def _pairs(
    found: np.ndarray, given: np.ndarray, own: np.ndarray, thresholds: np.ndarray, classes: Sequence[str]
) -> tuple[Pair, ...]:
    """The calibrated confident joint off its diagonal: the confident counts of each row scaled to the class's size.

    Unlike a suspect's, a confident class need not exceed the given one, which may miss its own threshold.
    """
    reached = np.where(found >= thresholds[:, None], found, np.float32(-1))
    best = reached.max(0, initial=-1)
    likely = reached.argmax(0)
    likely = np.where((own >= thresholds[given]) & (own >= best), given, likely)  # a tie goes to the given class
    size = len(classes)
    cells = (given * size + likely)[best >= 0]
    joint = np.bincount(cells, minlength=size * size).reshape(size, size).astype(np.float64)
    # no row of a class that occurs is empty: its most confident example reaches the mean
    joint *= (np.bincount(given, minlength=size) / np.maximum(joint.sum(1), 1))[:, None]
    off = [(i, j) for i in range(size) for j in range(size) if i != j and joint[i, j] > 0]
    off.sort(key=lambda cell: (-joint[cell], cell))
    return tuple(Pair(classes[i], classes[j], float(joint[i, j])) for i, j in off)


def _named(thresholds: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    pairs = zip(classes, thresholds.tolist(), strict=True)
    return {name: threshold for name, threshold in pairs if math.isfinite(threshold)}


def _regions(row: _Row, thresholds: np.ndarray, classes: Sequence[str]) -> list[Region]:
    """The regions of one image that are at least three pixels thick somewhere."""
    own = _own(row.scored, row.target)
    suggested = np.where(row.labelled, _suggest(row.scored, own, thresholds), _NOBODY)
    regions = []
    for c in sorted(set(suggested.tolist()) - {_NOBODY}):
        mask = (suggested == c).astype(np.uint8).reshape(row.shape)
        core = cv2.erode(mask, _CORE, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        if not core.any():
            continue
        # joined by their sides only: contours, which step along diagonals, should not hang on to a region
        _, numbers, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        ahead = (row.scored[c] - own).reshape(row.shape)
        target = row.target.reshape(row.shape)
        for number in np.unique(numbers[core > 0]).tolist():
            x, y, width, height, area = boxes[number].tolist()
            crop = np.s_[y : y + height, x : x + width]
            inside = numbers[crop] == number
            given = int(np.bincount(target[crop][inside]).argmax())
            margin = float(ahead[crop][inside].mean(dtype=np.float64))
            regions.append(
                Region(row.id, classes[given], classes[c], area, margin, area * margin, y, x, y + height, x + width)
            )
    return regions
