"""Between pixel values of any dtype and the numbers that are calculated with."""

from __future__ import annotations

import numpy as np


def full_range(image: np.ndarray) -> float:
    """The largest value of the image's dtype: 255, 65535, or 1 for floats."""
    return float(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else 1.0


def like(values: np.ndarray, image: np.ndarray) -> np.ndarray:
    """``values`` in the dtype of ``image``: rounded and clipped where it holds whole numbers."""
    if image.dtype.kind == "u":
        values = np.clip(np.rint(values), 0, np.iinfo(image.dtype).max)
    return values.astype(image.dtype)
