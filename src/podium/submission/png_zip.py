"""Submission format png_zip: an archive with one grey picture per image."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from podium.config import Competition
from podium.config_submission_formats import PngZip
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.submission.writing import check_labels, entry_name, flushed, zip_entry


def write(path: Path, labels: Ragged, competition: Competition) -> None:
    """Write ``labels``, uint8 (1, H, W) per id in each image's own size, to exactly ``path``, and flush it to the disk.

    One 8-bit grey PNG per image, in the order of ``labels``, whose pixels are the grey values of its classes. The
    pictures are stored as they are, being compressed already, and one after the other: what is held of those that
    are done is their place in the archive's index. Equal labels give equal bytes.

    An id that cannot be an entry's name is a UserError; OSError is left to the caller, who knows the place.
    """
    import cv2

    settings = competition.submission
    if not isinstance(settings, PngZip):
        raise ValueError(f"{competition.name}: its submission is not a png_zip")
    check_labels(labels, np.uint8, len(competition.classes))
    greys = np.array(settings.greys(competition.classes, competition.unscored), np.uint8)
    with flushed(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, mask in zip(labels.ids.tolist(), labels, strict=True):
            done, content = cv2.imencode(".png", greys[mask[0]])
            if not done:
                raise UserError(f"id '{name}': a picture of {mask.shape[1]} × {mask.shape[2]} cannot be a PNG")
            entry = zip_entry(entry_name(settings.name, name, "submission.name"), zipfile.ZIP_STORED)
            archive.writestr(entry, content.tobytes())
