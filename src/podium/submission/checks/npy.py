"""The check of format npy: labels or probabilities of all images as one array of numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from podium.config import Competition
from podium.config_submission_formats import Npy
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.submission.checks.array_stream import BadArray, blocks, read_head
from podium.submission.checks.array_values import Values
from podium.submission.checks.report import Report, short


def check_npy(
    path: Path,
    competition: Competition,
    ids: np.ndarray,
    shapes: np.ndarray,
    meant: Ragged | None = None,
    own: bool = True,
) -> Report:
    """Read an npy submission from disk and hold it against the test set, some images at a time.

    Checked are the head (no Python objects, C order, type, shape), the values (indices of classes, 0 and 1, finite
    numbers, or probabilities from 0 to 1 that sum to 1 over the classes), the end of the file, and, where ``meant`` is
    given (see ``npy.check`` of the writers, joined by id), every value, as the file's type has it.

    ids: the test set's, in order. shapes: (N, 3), the C, H, W of its images, of masks all of one size.
    own: the file was made here, so that the type must be exactly that, and predicting the unscored class and a sum that is
    not 1 are errors; in a file from elsewhere these are warnings, and a sum may be further off.
    A file that cannot be read at all, and test images of several sizes, are a UserError.
    """
    settings = competition.submission
    if not isinstance(settings, Npy):
        raise ValueError(f"{competition.name}: its submission is not an npy")
    values = Values(competition, settings, ids, meant, own)
    expected = one_array(competition, shapes, values, "use submission.format: npz with key: '{id}'")
    try:
        with path.open("rb", buffering=1 << 20) as file:
            head = read_head(file)
            values.check_head(head, expected)
            at = 0
            for block in blocks(file, head):
                values.take(block, at, lambda image, index: in_array(ids, image, index))
                at += len(block)
    except BadArray as error:
        values.findings.head.append(f"the file {error}")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); name an existing npy file") from error
    return values.close().report(values.images, values.counts)


def one_array(competition: Competition, shapes: np.ndarray, values: Values, way_out: str) -> tuple[int, ...]:
    """The shape of one array of all images; masks of several sizes are a UserError."""
    if not len(shapes):
        raise ValueError("a submission has at least one image")
    sizes = {(height, width) for _, height, width in shapes.tolist()}
    if values.masks and len(sizes) > 1:
        raise UserError(f"{competition.name}: one array needs test images of one size, these have several; {way_out}")
    return (len(shapes), *values.shape(*min(sizes)))


def in_array(ids: np.ndarray, image: int, index: tuple[int, ...]) -> str:
    """The beginning of a sentence about a value."""
    return f"index {[image, *index]} (id {short(str(ids[image]))})"
