"""A competition of three classes for tests that make their own images."""

from __future__ import annotations

from typing import Any

from podium.config import Competition


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
