"""A competition of three classes for tests that make their own images."""

from __future__ import annotations

from typing import Any

import pytest

from podium.config import Competition
from podium.metrics import Score


def competition(task: str = "segmentation", **changes: Any) -> Competition:
    """Three classes; of masks the first is not scored."""
    masks = task == "segmentation"
    raw = {
        "name": "ten",
        "task": task,
        "data": {"format": "npz", "file": "ten.npz", "train": {"key": "train", "image": 0, "target": 1}},
        "classes": ["nothing", "dust", "rock"],
        "unscored": "nothing" if masks else None,
        "metric": {"name": "mean_iou" if masks else "accuracy"},
        "models": ["small"],
    }
    return Competition.model_validate(raw | changes)


def named(classes: int) -> tuple[str, ...]:
    """Names for classes that need none: "0", "1", ..."""
    return tuple(map(str, range(classes)))


def check(score: Score, value: float, *parts: float | None) -> None:
    """A score is this value with these parts, but for rounding."""
    assert score.value == pytest.approx(value)
    assert [part is None for part in score.parts] == [part is None for part in parts]
    assert [part for part in score.parts if part is not None] == pytest.approx([x for x in parts if x is not None])
