"""One image and its target, corrupted. Importing this imports torch; see ``operations``."""

from __future__ import annotations

import numpy as np

from podium.config_validation import COLOUR
from podium.corruptions.amounts import AMOUNTS
from podium.corruptions.operations import CHANGES, PLANS, move_image, move_mask
from podium.errors import did_you_mean
from podium.preprocess.values import full_range, like


def corrupt(
    image: np.ndarray, target: np.ndarray, kind: str, strength: int, generator: np.random.Generator, masks: bool
) -> tuple[np.ndarray, np.ndarray]:
    """New (C, H, W) image of the same dtype and size after ``kind`` at ``strength`` 1 to 5, and its target.

    image: uint8, uint16, or float32, which is taken to lie in 0..1, or where it leaves that in its own range. target: with
    ``masks`` uint8 (1, H, W), moved where the image is and 255 where pixels come in from outside; what hides pixels leaves
    their labels. Without, whatever it is, it comes back as it is. The result is a function of the arguments and the
    generator's state alone. A kind that there is not, or one of colour for other than three channels, is a ValueError.
    """
    if kind not in AMOUNTS:
        raise ValueError(f"there is no corruption '{kind}'; {did_you_mean(kind, AMOUNTS)}")
    if kind in COLOUR and len(image) != 3:
        raise ValueError(f"{kind} needs images of 3 channels, this one has {len(image)}")
    if not 1 <= strength <= 5:
        raise ValueError(f"strength {strength} is not one of 1 to 5")
    if masks and target.shape[1:] != image.shape[1:]:
        raise ValueError(f"a mask {target.shape} does not fit its image {image.shape}")
    amount = AMOUNTS[kind][strength - 1]
    low, high = _range(image)
    values = (np.ascontiguousarray(image.transpose(1, 2, 0)).astype(np.float32) - low) / np.float32(high - low)
    if kind in PLANS:
        warp = PLANS[kind](image.shape[1], image.shape[2], amount, generator)
        values = move_image(warp, values)
        if masks:
            target = move_mask(warp, np.ascontiguousarray(target[0]))[None]
    else:
        values = CHANGES[kind](values, amount, generator)
    values = np.clip(values, 0, 1).transpose(2, 0, 1) * np.float32(high - low) + low
    return np.ascontiguousarray(like(values, image)), target


def _range(image: np.ndarray) -> tuple[np.float32, np.float32]:
    """What black and white are."""
    if image.dtype.kind == "u":
        return np.float32(0), np.float32(full_range(image))
    return np.float32(min(0.0, float(image.min()))), np.float32(max(1.0, float(image.max())))
