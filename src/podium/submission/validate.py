"""The independent check of a submission: what lies on the disk, byte by byte, against what the competition asks for.

Nothing here, nor in ``checks``, is shared with the writers: a mistake in one cannot hide in the other.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from podium.config import Competition
from podium.config_submission_formats import CsvFormat, RleCsv, SubmissionFormat
from podium.data.ragged import Ragged
from podium.submission.checks.label_csv import check_label_csv
from podium.submission.checks.model_zip import check_model_zip
from podium.submission.checks.npy import check_npy
from podium.submission.checks.npz import check_npz
from podium.submission.checks.png_zip import check_png_zip
from podium.submission.checks.probability_csv import check_probability_csv
from podium.submission.checks.report import Report
from podium.submission.checks.rle_csv import check_rle_csv
from podium.submission.checks.sample import find_sample, hold_against_sample
from podium.submission.checks.wide_csv import check_wide_csv

__all__ = ["CHECKS", "Check", "Report", "check_file", "with_sample"]


class Check(Protocol):
    """A format's check.

    ids, shapes: the test images', in order, shapes (N, 3). meant: the labels or probabilities that the file should hold, joined by id.
    own: the file was made here, and must be exactly as podium makes it.
    """

    def __call__(
        self,
        path: Path,
        competition: Competition,
        ids: np.ndarray,
        shapes: np.ndarray,
        meant: Ragged | None = None,
        own: bool = True,
    ) -> Report: ...


CHECKS: dict[str, Check] = {
    "wide_csv": check_wide_csv,
    "label_csv": check_label_csv,
    "probability_csv": check_probability_csv,
    "rle_csv": check_rle_csv,
    "png_zip": check_png_zip,
    "npy": check_npy,
    "npz": check_npz,
    "model_zip": check_model_zip,
}
"""The check of each submission format."""


def check_file(path: Path, competition: Competition, test_ids: np.ndarray, test_shapes: np.ndarray) -> Report:
    """Check a submission that may come from anywhere; test_shapes: (N, 3), the C, H, W of the test images.

    A file that cannot be read at all is a UserError.
    """
    if competition.submission is None:
        raise ValueError(f"{competition.name}: has no submission format")
    return CHECKS[competition.submission.format](path, competition, test_ids, test_shapes, own=False)


def with_sample(report: Report, path: Path, settings: SubmissionFormat, folder: Path | None) -> Report:
    """A report with what differs from the ``sample_submission`` in the data's folder, where there is one, and a size over the
    limit."""
    errors, warnings = list(report.errors), list(report.warnings)
    if settings.size_limit is not None and path.stat().st_size > settings.size_limit * 1e6:
        size = path.stat().st_size / 1e6
        errors.append(f"the file has {size:.1f} MB, allowed are {settings.size_limit:g} MB (submission.size_limit)")
    sample = find_sample(folder, settings.sample) if folder is not None and isinstance(settings, CsvFormat) else None
    if sample is not None and sample.resolve() != path.resolve():
        # how many objects there are only the predictions know
        rows = not (isinstance(settings, RleCsv) and settings.per == "object")
        wrong, odd = hold_against_sample(path, sample, rows)
        # what the format's own check has said already is not said twice
        errors += [] if report.errors else wrong
        warnings += odd
    return replace(report, errors=tuple(errors), warnings=tuple(warnings))
