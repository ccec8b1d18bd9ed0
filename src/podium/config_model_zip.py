"""Settings of a submission that is code: what the grader is given and runs itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from podium.config_base import PositiveInt
from podium.config_submission_formats import SubmissionFormat


class ModelZip(SubmissionFormat):
    """A zip with ``model.py`` and the nets of the blend, which labels images where only numpy and onnxruntime are.

    batch: images that go through a net at once at the grader's; what memory is needed depends on it and not on the number
    of images.
    """

    format: Literal["model_zip"]
    batch: Annotated[PositiveInt, Field(le=4096)] = 32

    def misfit(self, task: str) -> str | None:
        """Why such a file cannot be made for a task, as a sentence; None where it can."""
        if task == "classification":
            return None
        other = "wide_csv, rle_csv or png_zip" if task == "segmentation" else "label_csv"
        return (
            f"submission.format: model_zip answers with one class per image; with task: {task} use {other}, or leave "
            f"submission out"
        )
