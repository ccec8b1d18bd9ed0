"""Contrast-limited adaptive histogram equalisation (Zuiderveld, Graphics Gems IV, 1994)."""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np

from podium.config_preprocess import Clahe
from podium.preprocess.values import full_range, like

LEAST_TILE = 16
"""Pixels along a tile's side. Below 16 × 16 a histogram of 256 bins holds less than one count per bin, and the limit,
which OpenCV rounds to whole counts, would be the same whatever ``clip`` says."""

BINS = 256

RGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""sRGB with its white point D65."""


def equalise(image: np.ndarray, settings: Clahe) -> np.ndarray:
    """Equalise the contrast of ``image`` (C, H, W), uint8, uint16 or float32, to the same shape and dtype.

    Three channels are taken as sRGB: CIE L* is equalised, a* and b* are kept as they are, and what leaves the range
    is clipped. Any other number of channels is equalised one by one.

    8 bits go through OpenCV and spread over 0..255. uint16 and float32 have histograms of 256 bins too, but between the
    picture's least and greatest value, within which they stay, and values between bins are mapped in between.
    OpenCV's own 16-bit variant is not used: with its 65,536 bins ``clip`` has no effect on tiles of less than 65,536
    pixels.
    """
    if image.shape[0] == 3:
        return _equalise_colours(image, settings)
    if image.dtype == np.uint8:
        return np.stack([_equalise_bytes(channel, settings) for channel in image])
    return np.stack([like(equalise_fine(channel, settings), image) for channel in image])


def equalise_fine(channel: np.ndarray, settings: Clahe) -> np.ndarray:
    """float64 (H, W): one channel of any real values equalised between its least and greatest value, without steps."""
    low, high = float(channel.min()), float(channel.max())
    if low == high:
        return channel.astype(np.float64)
    values = (channel.astype(np.float64) - low) * ((BINS - 1) / (high - low))
    across, down = _tiles(channel, settings)
    height, width = channel.shape
    tall, wide = -(-height // down), -(-width // across)
    padded = np.pad(values, ((0, tall * down - height), (0, wide * across - width)), mode="symmetric")
    tiles = np.rint(padded).astype(np.int64).reshape(down, tall, across, wide).transpose(0, 2, 1, 3)
    counts = np.stack([np.bincount(tile.ravel(), minlength=BINS) for row in tiles for tile in row]).astype(np.float64)
    limit = settings.clip * tall * wide / BINS
    excess = np.maximum(counts - limit, 0).sum(axis=1, keepdims=True)
    curves = np.cumsum(np.minimum(counts, limit) + excess / BINS, axis=1) * ((BINS - 1) / (tall * wide))
    rows = (np.arange(height).reshape(-1, 1) + 0.5) / tall - 0.5
    columns = (np.arange(width) + 0.5) / wide - 0.5
    mapped = _interpolate(curves.reshape(down, across, BINS), rows, columns, values)
    return low + mapped * ((high - low) / (BINS - 1))


def _interpolate(table: np.ndarray, *positions: np.ndarray) -> np.ndarray:
    """``table`` read between its cells, linearly along each axis; outside, as at the nearest cell."""
    result = np.zeros(())
    for corner in product((0, 1), repeat=table.ndim):
        weight, index = np.ones(()), []
        for position, step, length in zip(positions, corner, table.shape, strict=True):
            below = np.floor(position)
            weight = weight * (position - below if step else 1 - (position - below))
            index.append(np.clip(below.astype(np.int64) + step, 0, length - 1))
        result = result + weight * table[tuple(index)]
    return result


def _equalise_bytes(channel: np.ndarray, settings: Clahe) -> np.ndarray:
    return cv2.createCLAHE(clipLimit=settings.clip, tileGridSize=_tiles(channel, settings)).apply(channel)


def _tiles(channel: np.ndarray, settings: Clahe) -> tuple[int, int]:
    """How many tiles there are across and down."""
    height, width = channel.shape
    return (
        max(1, min(settings.tiles, width // LEAST_TILE)),
        max(1, min(settings.tiles, height // LEAST_TILE)),
    )


def _equalise_colours(image: np.ndarray, settings: Clahe) -> np.ndarray:
    """L* equalised, a* and b* kept, in float64: 8-bit Lab would move saturated colours by up to 19 of 255 levels."""
    low, high = 0.0, full_range(image)
    if image.dtype.kind == "f":
        low, high = min(low, float(image.min())), max(high, float(image.max()))
    coded = (image.astype(np.float64) - low) / (high - low)
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    white = RGB_TO_XYZ.sum(axis=1).reshape(3, 1, 1)
    x, y, z = _cube_root(np.einsum("ij,jhw->ihw", RGB_TO_XYZ, linear) / white)
    lightness = 116 * y - 16
    if image.dtype == np.uint8:
        bytes_ = np.clip(np.rint(lightness * 2.55), 0, 255).astype(np.uint8)
        change = (_equalise_bytes(bytes_, settings).astype(np.float64) - bytes_) / 2.55
    else:
        change = equalise_fine(lightness, settings) - lightness
    # a* and b* are differences of the three roots, so that adding the same to each keeps both
    xyz = _cube(np.stack([x, y, z]) + change / 116) * white
    linear = np.clip(np.einsum("ij,jhw->ihw", np.linalg.inv(RGB_TO_XYZ), xyz), 0, 1)
    coded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return like(coded * (high - low) + low, image)


def _cube_root(t: np.ndarray) -> np.ndarray:
    """CIE's cube root, with its straight line near 0."""
    return np.where(t > (6 / 29) ** 3, np.cbrt(np.maximum(t, 0)), t / (3 * (6 / 29) ** 2) + 4 / 29)


def _cube(t: np.ndarray) -> np.ndarray:
    return np.where(t > 6 / 29, t**3, (t - 4 / 29) * (3 * (6 / 29) ** 2))
