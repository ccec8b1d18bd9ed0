"""Uneven light: what varies slowly over a picture is taken out of it."""

from __future__ import annotations

import cv2
import numpy as np

from podium.config_preprocess import Illumination
from podium.errors import UserError
from podium.preprocess.values import like

WORKING_SIGMA = 8
"""Blurs wider than twice this many pixels are made on a picture that is shrunk first: a smooth background needs no pixels."""

DARKEST = 0.02
"""The background is taken to be at least this share of the channel's mean, or black regions would be amplified to noise."""


def correct_illumination(image: np.ndarray, settings: Illumination) -> np.ndarray:
    """Divide each channel by its smooth background (or subtract that) and give it back its mean.

    image: (C, H, W), uint8, uint16 or float32; the result has the same shape and dtype. The mean is kept before values
    are rounded and clipped to the dtype's range. Division needs values of 0 and more (UserError otherwise).
    """
    if settings.mode == "divide" and image.min() < 0:
        raise UserError(
            "preprocess.illumination: pictures hold values below 0, which cannot be divided by a background; "
            "set mode: subtract"
        )
    sigma = settings.sigma * max(image.shape[1:])
    return np.stack([_correct(channel, sigma, settings.mode) for channel in image])


def background(channel: np.ndarray, sigma: float) -> np.ndarray:
    """float32 (H, W): the Gaussian blur of one channel, ``sigma`` in pixels, the picture mirrored at its border."""
    height, width = channel.shape
    factor = max(1, int(sigma // WORKING_SIGMA))
    small: np.ndarray = channel.astype(np.float32)
    if factor > 1:
        size = -(-width // factor), -(-height // factor)
        small = cv2.resize(small, size, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(
        small,
        (0, 0),
        sigmaX=sigma * small.shape[1] / width,
        sigmaY=sigma * small.shape[0] / height,
        borderType=cv2.BORDER_REFLECT,
    )
    return cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR) if factor > 1 else blurred


def _correct(channel: np.ndarray, sigma: float, mode: str) -> np.ndarray:
    smooth = background(channel, sigma).astype(np.float64)
    if mode == "subtract":
        return like(channel - smooth + smooth.mean(), channel)
    mean = float(channel.mean(dtype=np.float64))
    if mean == 0:
        return channel
    even = channel / np.maximum(smooth, DARKEST * mean)
    return like(even * (mean / even.mean()), channel)
