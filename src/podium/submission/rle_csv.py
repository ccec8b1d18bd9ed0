"""Submission format rle_csv: one row per image, per image and class or per object, an id and a mask as runs of pixels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from podium.config import Competition
from podium.config_submission_formats import RleCsv
from podium.data.ragged import Ragged
from podium.data.rle import encode, encode_each
from podium.submission.writing import check_labels, field, named, write_lines


def write(path: Path, labels: Ragged, competition: Competition) -> None:
    """Write ``labels``, uint8 (1, H, W) per id in each image's own size, to exactly ``path``, and flush it to the disk.

    A header, then the rows of each image in the order of ``labels``; with ``per: class`` one for each class that is not
    the background, in the order of the classes, also where it has no pixel; with ``per: object`` one for each connected
    piece (8 neighbours) of these classes, in the order of their first pixels. Runs are the fewest, in ascending order,
    pixels counted from 1 down the columns; an empty mask is an empty field. Lines end with LF. Memory does not grow
    with the number of images.

    An id that holds a line break is a UserError; OSError is left to the caller, who knows the place. That no two rows
    are called the same is left to the check.
    """
    settings = competition.submission
    if not isinstance(settings, RleCsv):
        raise ValueError(f"{competition.name}: its submission is not an rle_csv")
    check_labels(labels, np.uint8, len(competition.classes))
    write_lines(path, _lines(labels, competition, settings), settings.compress)


def _lines(labels: Ragged, competition: Competition, settings: RleCsv) -> Iterator[str]:
    yield f"{field(settings.id)},{field(settings.rle)}"
    wanted = settings.wanted(competition.classes, competition.unscored)
    indices = [competition.classes.index(name) for name in wanted]
    for name, mask in zip(labels.ids.tolist(), labels, strict=True):
        for index, class_name in zip(indices, wanted, strict=True):
            start = field(named(settings.template, name, class_name))
            for runs in _masks(mask[0] == index, settings):
                yield f"{start},{runs}"


def _masks(mask: np.ndarray, settings: RleCsv) -> list[str]:
    """The runs of each row that a class of an image has."""
    if settings.per != "object":
        return [encode(mask)]
    from skimage.measure import label

    # objects are numbered line by line: by columns, as the runs go, where the mask lies on its side
    found = encode_each(label(mask.T, connectivity=2).T)
    return found or ([] if settings.empty == "skip" else [""])
