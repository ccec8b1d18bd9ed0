"""Which packages a kernel needs, with exact pins, and which of them Kaggle's image most likely lacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from packaging.utils import canonicalize_name

DIRECT = frozenset(
    {
        "packaging",
        "pillow",
        "pydantic",
        "pyyaml",
        "safetensors",
        "scikit-image",
        "segmentation-models-pytorch",
        "threadpoolctl",
        "timm",
        "ttach",
    }
)
"""What podium itself imports to predict. What these need in turn differs from image to image, and is there where they are."""
IMAGE_LACKS = frozenset({"segmentation-models-pytorch", "ttach"})
"""Of all that predicting may import, what Kaggle's image is not known to have. It changes; the script says what else it lacks."""


def needs(loaded: Mapping[str, str]) -> list[str]:
    """``name==version`` of what podium imported itself; torch, numpy, scipy and OpenCV are every such image's own."""
    named = {canonicalize_name(name): version for name, version in loaded.items()}
    return [f"{name}=={version.partition('+')[0]}" for name, version in sorted(named.items()) if name in DIRECT]


def wheels(needed: list[str]) -> list[str]:
    """Those that Kaggle's image lacks."""
    return [line for line in needed if line.partition("==")[0] in IMAGE_LACKS]


def download(dataset: Path) -> str:
    """The command that puts the wheels of wheels.txt into the data set, on a machine with internet."""
    return f"python -m pip download --no-deps --only-binary=:all: -r {dataset}/wheels.txt -d {dataset}"
