"""What several test files share: one thread, and a tiny competition with everything that training needs."""

from __future__ import annotations

import os

# before torch or numpy is imported: results are compared to the bit, and the machine is shared
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from podium.config import Competition, Recipe
from podium.data.part import Dataset, Part
from podium.data.ragged import Ragged
from podium.folds import Folds

if TYPE_CHECKING:
    from podium.training.machine import Machine

SIZE = (16, 32)
DATA_ID = "0123456789abcdef"


@dataclass(frozen=True, eq=False)
class Tiny:
    """24 training images (row 5 dropped), 7 test images, three folds, a net of 3,000 parameters, one thread in fp32."""

    competition: Competition
    recipe: Recipe
    dataset: Dataset
    folds: Folds
    machine: Machine

    def changed(self, **sections: dict[str, object]) -> Recipe:
        """The recipe with other values, as in ``changed(train={"epochs": 2})``."""
        raw = self.recipe.model_dump(mode="json")
        return Recipe.model_validate(raw | {name: raw[name] | values for name, values in sections.items()})


def _scenes(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of 8×8 pixels of one class each, and images in which a class has its own grey."""
    rows, columns = SIZE[0] // 8, SIZE[1] // 8
    blocks = rng.choice(5, (n, rows, columns), p=[0.2, 0.3, 0.25, 0.2, 0.05])
    masks = blocks.repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)[:, None]
    images = (masks * 45 + rng.integers(10, 40, masks.shape)).astype(np.uint8)
    return images, masks


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    from podium.training.machine import Machine

    rng = np.random.default_rng(7)
    images, masks = _scenes(rng, 24)
    tests, _ = _scenes(rng, 7)
    ids = np.array([str(i) for i in range(24)])
    fold = np.arange(24) % 3
    fold[5] = -1
    reasons = np.where(fold < 0, "outlier", "")
    competition = Competition.model_validate(
        {
            "name": "tiny",
            "task": "segmentation",
            "data": {
                "format": "npz",
                "file": "tiny.npz",
                "train": {"key": "train", "image": 0, "target": 1},
                "test": {"key": "test"},
            },
            "classes": ["background", "soil", "bedrock", "sand", "big_rock"],
            "unscored": "background",
            "metric": {"name": "mean_iou"},
            "rules": {"pretrained": "forbidden"},
            "folds": {"count": 3},
            "submission": {"format": "wide_csv"},
            "models": ["small"],
        }
    )
    recipe = Recipe.model_validate(
        {
            "name": "small",
            "net": {"name": "residual_unet", "widths": [4, 8], "dropout": 0.1},
            "augment": {
                "batch": [
                    "flip_h",
                    "flip_v",
                    {"name": "contrast", "p": 1.0, "factor": [0.8, 1.2]},
                    {"name": "brightness", "p": 1.0},
                    {"name": "noise", "p": 1.0, "std": [0.0, 0.02]},
                ]
            },
            "train": {"epochs": 4, "batch": 4, "lr": 5e-3, "rarest_rate": 2, "ema": 0.3},
            "predict": {"views": ["identity", "hflip"]},
        }
    )
    train = Part("train", Ragged.stack(images, ids), Ragged.stack(masks, ids), DATA_ID)
    test = Part("test", Ragged.stack(tests, [f"t{i}" for i in range(7)]), None, DATA_ID)
    folds = Folds(ids, np.arange(24), np.full(24, ""), fold, reasons, DATA_ID, 3)
    return Tiny(competition, recipe, Dataset(train, test, DATA_ID), folds, Machine("cpu", "a test", 1, "fp32"))
