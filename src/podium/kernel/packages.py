"""Which packages a kernel needs, with exact pins, and which of them Kaggle's image lacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from packaging.utils import canonicalize_name

IMAGE_LACKS = frozenset({"segmentation-models-pytorch", "ttach"})
"""Of all that predicting may import, what Kaggle's image does not have: by its Dockerfile and kaggle_requirements.txt."""
FOUNDATIONS = frozenset({"torch", "torchvision", "numpy", "scipy", "pandas"})
"""What is never installed beside an image's own."""
OPENCV = frozenset({"opencv-python", "opencv-python-headless", "opencv-contrib-python"})
"""Each holds the same module; images differ in which they have."""


def needs(loaded: Mapping[str, str]) -> list[str]:
    """``name==version`` of the packages that were imported, but for those that every image for torch has in some form."""
    left_out = FOUNDATIONS | OPENCV | {"podium-cv", "pip", "setuptools"}
    named = {canonicalize_name(name): version for name, version in loaded.items()}
    return [f"{name}=={version.partition('+')[0]}" for name, version in sorted(named.items()) if name not in left_out]


def wheels(needed: list[str]) -> list[str]:
    """Those that Kaggle's image lacks."""
    return [line for line in needed if line.partition("==")[0] in IMAGE_LACKS]


def download(dataset: Path) -> str:
    """The command that puts the wheels of wheels.txt into the data set, on a machine with internet."""
    return f"python -m pip download --no-deps --only-binary=:all: -r {dataset}/wheels.txt -d {dataset}"
