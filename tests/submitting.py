"""What the tests of submission formats share: competitions of every task, labels of any size, packing and checking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from podium.config import Competition
from podium.config_submission import AnySubmission, misfit
from podium.data.ragged import Ragged
from podium.submission.pack import Packed, pack
from podium.submission.validate import CHECKS, Report

BASE = Competition.model_validate(
    {
        "name": "made_up",
        "task": "segmentation",
        "data": {"format": "npz", "file": "-", "train": {"key": "-", "target": 1}, "test": {"key": "-"}},
        "classes": ["background", "cell"],
        "metric": {"name": "mean_iou"},
        "models": ["none"],
    }
)
FORMATS: TypeAdapter[AnySubmission] = TypeAdapter(AnySubmission)


def competition(
    task: str, classes: Sequence[str], submission: Mapping[str, object], unscored: str | None = None
) -> Competition:
    """A competition of which only what a submission depends on is of interest."""
    settings = FORMATS.validate_python(dict(submission))
    assert misfit(settings, task, classes, unscored, task == "regression" and bool(classes)) is None
    changes = {"task": task, "classes": tuple(classes), "unscored": unscored, "submission": settings}
    return BASE.model_copy(update=changes)


def ragged(items: Mapping[str, np.ndarray]) -> Ragged:
    """(H, W) arrays of any sizes by id, as (1, H, W)."""
    arrays = list(items.values())
    shapes = np.array([(1, *array.shape) for array in arrays], np.int64)
    return Ragged(np.concatenate([array.reshape(-1) for array in arrays]), shapes, np.array(list(items), np.str_))


def one_each(values: Sequence[float], dtype: type[np.generic] = np.uint8, first: int = 0) -> Ragged:
    """One value per image, (1, 1, 1)."""
    names = [str(first + i) for i in range(len(values))]
    return Ragged.stack(np.array(values, dtype).reshape(-1, 1, 1, 1), names)


def checked(
    path: Path, content: bytes, given: Competition, labels: Ragged, own: bool = True, meant: bool = True
) -> Report:
    """The report on ``content`` as a file for the images of ``labels``, which are what was meant."""
    path.write_bytes(content)
    assert given.submission is not None
    check = CHECKS[given.submission.format]
    return check(path, given, labels.ids, labels.shapes, labels if meant else None, own)


def packed(folder: Path, given: Competition, labels: Ragged) -> Packed:
    """Labels packed for exactly their own images."""
    return pack(folder, given, given.name, labels, labels.ids, labels.shapes)
