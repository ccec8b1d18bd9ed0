"""Quality of each image: too dark, too bright, blurred, or without information; judged against the data set AND absolutely.

Either test alone is wrong: an honest data set of dark pictures would be flagged whole by a fixed limit, and in a very
even one a harmless picture lies many deviations out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from podium.audit.features import batches
from podium.data.ragged import Ragged

APART = 3.5  # robust standard deviations from the median, as for outliers
DARK = 0.12  # of the full range: even the brightest pixels (99th percentile) lie below
BRIGHT = 0.8  # even the darkest pixels (5th percentile) lie above
BLURRED = 0.15  # variance of the Laplacian over the variance of grey; white noise has 20
POOR = 2.0  # bits of grey values, of 8; flat pictures have 0
FLAT = 2 / 255  # standard deviation of grey
_LEVELS = 256
_STEP = 1 / (_LEVELS - 1)
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True, eq=False)
class Quality:
    """Values of every image, float64 (N,) in the order of the images, and ids per fault, the worst first.

    Grey is between 0 and 1: of 255 for uint8, of the part's greatest value for other types. luminance: mean grey.
    contrast: its standard deviation. highlights: its 99th percentile. shadows: its 5th percentile. sharpness:
    variance of the Laplacian over the variance of grey, 0 for a flat image. entropy: of the grey values in 256
    levels, in bits.
    """

    luminance: np.ndarray
    contrast: np.ndarray
    highlights: np.ndarray
    shadows: np.ndarray
    sharpness: np.ndarray
    entropy: np.ndarray
    dark: tuple[str, ...]
    bright: tuple[str, ...]
    blurred: tuple[str, ...]
    low_information: tuple[str, ...]


def quality(images: Ragged) -> Quality:
    """Measure images (C, H, W) of any dtype and size and list those that stand out and are poor by themselves too.

    An image of too little information is listed as such only: whether a flat picture is blurred has no answer.
    """
    count = len(images)
    values = np.zeros((6, count))
    least, greatest = _range(images)
    for rows, stack in batches(images):
        grey = _grey(stack, least, greatest)
        values[:, rows] = _measure(grey)
    luminance, contrast, highlights, shadows, sharpness, entropy = values

    # Light multiplies: a stop darker is the same step in a dark data set and in a bright one, hence the logarithms.
    poor = (entropy < POOR) & _apart(entropy, 0.25)
    poor |= (contrast < FLAT) & _apart(np.log(contrast + _STEP), 0.1)
    dark = (highlights < DARK) & _apart(np.log(highlights + _STEP), 0.1)
    bright = (shadows > BRIGHT) & _apart(np.log(1 - shadows + _STEP), 0.1)
    telling = ~poor & (sharpness > 0)
    blurred = np.zeros(count, bool)
    blurred[telling] = (sharpness[telling] < BLURRED) & _apart(np.log(sharpness[telling]), 0.1)

    def worst(chosen: np.ndarray, key: Callable[[int], float]) -> tuple[str, ...]:
        rows = sorted(np.flatnonzero(chosen).tolist(), key=lambda row: (key(row), str(images.ids[row])))
        return tuple(images.ids[rows].tolist()) if rows else ()

    return Quality(
        luminance,
        contrast,
        highlights,
        shadows,
        sharpness,
        entropy,
        worst(dark, lambda row: highlights[row]),
        worst(bright, lambda row: -shadows[row]),
        worst(blurred, lambda row: sharpness[row]),
        worst(poor, lambda row: entropy[row]),
    )


def _apart(values: np.ndarray, floor: float) -> np.ndarray:
    """Whether values lie more than 3.5 robust deviations, of at least ``floor`` each, below the median."""
    if not len(values):
        return np.zeros(0, bool)
    below = np.median(values) - values
    return below > APART * max(floor, 1.4826 * float(np.median(np.abs(below))))


def _range(images: Ragged) -> tuple[float, float]:
    """What counts as black and white: fixed for uint8, from the finite values otherwise (12 bits are stored in 16)."""
    if images.values.dtype == np.uint8:
        return 0.0, 255.0
    least, greatest = 0.0, 0.0
    for _, stack in batches(images):
        finite = stack[np.isfinite(stack)]
        if len(finite):
            least, greatest = min(least, float(finite.min())), max(greatest, float(finite.max()))
    return (least, greatest) if greatest > least else (0.0, 1.0)


def _grey(stack: np.ndarray, least: float, greatest: float) -> np.ndarray:
    """(n, C, H, W) → float32 (n, H, W) between 0 and 255; not finite values are black."""
    pixels = stack.astype(np.float32)
    grey = np.tensordot(pixels, _LUMINANCE, axes=([1], [0])) if pixels.shape[1] == 3 else pixels.mean(axis=1)
    if stack.dtype != np.uint8:
        grey = np.nan_to_num((grey - least) * ((_LEVELS - 1) / (greatest - least)), nan=0.0, posinf=0.0, neginf=0.0)
    return grey


def _measure(grey: np.ndarray) -> np.ndarray:
    """(n, H, W) between 0 and 255 → (6, n): the values of ``Quality`` in their order."""
    n = len(grey)
    levels = np.clip(np.rint(grey), 0, _LEVELS - 1).astype(np.int64).reshape(n, -1)
    cells = levels + np.arange(n)[:, None] * _LEVELS
    shares = np.bincount(cells.reshape(-1), minlength=n * _LEVELS).reshape(n, _LEVELS) / levels.shape[1]
    below = np.cumsum(shares, axis=1)
    scale = np.arange(_LEVELS) * _STEP
    highlights, shadows = ((below < share - 1e-9).sum(axis=1) * _STEP for share in (0.99, 0.05))
    entropy = -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(axis=1)
    variance = grey.reshape(n, -1).var(axis=1, dtype=np.float64)
    edges = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    laplacian = 4 * grey - edges[:, :-2, 1:-1] - edges[:, 2:, 1:-1] - edges[:, 1:-1, :-2] - edges[:, 1:-1, 2:]
    rough = laplacian.reshape(n, -1).var(axis=1, dtype=np.float64)
    sharpness = np.where(variance > 1e-3, rough / np.maximum(variance, 1e-3), 0)
    return np.stack([shares @ scale, variance**0.5 * _STEP, highlights, shadows, sharpness, entropy])
