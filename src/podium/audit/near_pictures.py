"""Pictures for comparison: any images on one scale of grey values, not too large, and turned the eight ways."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from podium.data.ragged import Ragged

LIMIT = 160
"""Longest side in pixels that is compared; larger pictures are averaged down to it."""
ORIENTATIONS = ("as is", "flip h", "flip v", "rot180", "transpose", "rot90", "rot270", "anti-transpose")
"""Ways to turn a picture: flip h exchanges left and right, rot90 is anticlockwise as in ``np.rot90``."""
TURNS = (
    (False, False, False),
    (False, False, True),
    (False, True, False),
    (False, True, True),
    (True, False, False),
    (True, True, False),
    (True, False, True),
    (True, True, True),
)
"""The same as (exchange the axes, then reverse the rows, then reverse the columns)."""
INVERSE = (0, 1, 2, 3, 4, 6, 5, 7)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_PROBED = 2048  # pixels of a picture that its range of values is taken from


def turn(image: np.ndarray, orientation: int) -> np.ndarray:
    """A view of ``image`` (..., H, W) turned; exchanged axes exchange the two sizes."""
    swap, down, right = TURNS[orientation]
    turned = image.swapaxes(-1, -2) if swap else image
    return turned[..., :: -1 if down else 1, :: -1 if right else 1]


def luma(pixels: np.ndarray) -> np.ndarray:
    """Grey, float32 (..., H, W), of (..., C, H, W): the brightness of RGB, else the channels' mean."""
    if pixels.shape[-3] == 1:
        return pixels[..., 0, :, :]
    if pixels.shape[-3] == 3:
        *lead, channels, height, width = pixels.shape
        return np.asarray(_LUMA @ pixels.reshape(*lead, channels, height * width)).reshape(*lead, height, width)
    return pixels.mean(axis=-3)


def resize(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A float32 (H, W) plane in another size: averaged where it shrinks, else interpolated."""
    import cv2

    if plane.shape == shape:
        return plane
    shrinks = plane.shape[0] >= shape[0] and plane.shape[1] >= shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(plane), (shape[1], shape[0]), interpolation=method))


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images of several parts with rows counted through, read on demand.

    Pixels come as float32 in grey values of 8 bits: uint8 as they are, other types with ``low`` at 0 and ``low`` plus
    ``span`` at 255. Values that are not finite count as ``low``.
    """

    parts: tuple[Ragged, ...]
    starts: np.ndarray
    low: float = 0.0
    span: float = 255.0

    @classmethod
    def of(cls, parts: Sequence[Ragged]) -> Pictures:
        """Join parts; nothing is read."""
        return cls(tuple(parts), np.cumsum([0, *(len(part) for part in parts)]))

    def __len__(self) -> int:
        return int(self.starts[-1])

    def raw(self, row: int) -> np.ndarray:
        """The image as it is stored, (C, H, W)."""
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[part][row - int(self.starts[part])]

    def digest(self, row: int) -> bytes:
        """Hash of a picture's shape and values; the same number stored as another type counts as the same."""
        image = self.raw(row)
        kind = np.result_type(*(part.values.dtype for part in self.parts))
        digest = hashlib.sha256(repr(image.shape).encode())
        digest.update(np.ascontiguousarray(image, kind).data)
        return digest.digest()

    def spread(self, row: int) -> tuple[float, float]:
        """Low and high values of an image, its faintest and brightest hundredth left out."""
        values = self.raw(row).reshape(-1)
        values = values[:: max(1, len(values) // _PROBED)].astype(np.float64)
        values = values[np.isfinite(values)]
        if len(values) == 0:
            return 0.0, 0.0
        low, high = np.quantile(values, [0.01, 0.99])
        return float(low), float(high)

    def scaled(self, spreads: np.ndarray) -> Pictures:
        """With the scale that suits ``spreads`` (N, 2); a few pictures out of the common range do not set it."""
        if len(spreads) == 0 or all(part.values.dtype == np.uint8 for part in self.parts):
            return self
        low, high = np.quantile(spreads[:, 0], 0.01), np.quantile(spreads[:, 1], 0.99)
        return Pictures(self.parts, self.starts, float(low), float(high - low) or 1.0)

    def size(self, row: int) -> tuple[int, int]:
        """Height and width in which a picture is compared."""
        _, height, width = self.raw(row).shape
        factor = min(1.0, LIMIT / max(height, width, 1))
        return max(1, round(height * factor)), max(1, round(width * factor))

    def read(
        self, row: int, size: tuple[int, int] | None = None, orientation: int = 0, offset: tuple[int, int] = (0, 0)
    ) -> np.ndarray:
        """Pixels, float32 (C, h, w): turned, then moved up and left by ``offset`` stored pixels, then brought to a size.

        Without a size it is the one in which the picture is compared as it is stored. What moves in is the border.
        """
        image = self.raw(row)
        if size is None:
            size = self.size(row)
        pixels = turn(image, orientation).astype(np.float32)
        if image.dtype.kind == "f":
            np.nan_to_num(pixels, copy=False, nan=self.low, posinf=self.low, neginf=self.low)
        if (self.low, self.span) != (0.0, 255.0):
            pixels = (pixels - np.float32(self.low)) * np.float32(255 / self.span)
        for axis, distance in zip((1, 2), offset, strict=True):
            if distance:
                places = np.arange(pixels.shape[axis]) + distance
                pixels = pixels.take(np.clip(places, 0, pixels.shape[axis] - 1), axis=axis)
        return pixels if pixels.shape[1:] == size else np.stack([resize(plane, size) for plane in pixels])

    def grey(self, row: int) -> np.ndarray:
        """Brightness, float32 (h, w), in the size in which the picture is compared."""
        return luma(self.read(row))
