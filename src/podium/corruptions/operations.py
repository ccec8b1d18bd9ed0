"""What is done to an image, by albumentations' functions with parameters that the strength fixes.

Images here are float32 (H, W, C) in 0..1, of any number of channels but for colour. What chance decides (the pattern of the
noise, a direction, a place) comes from the generator that is handed in, and from nowhere else. Importing this module
imports torch, since albumentations does.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the internet for a newer version

import albumentations.augmentations.blur.functional as blur
import albumentations.augmentations.dropout.functional as dropout
import albumentations.augmentations.geometric.functional as geometric
import albumentations.augmentations.pixel.functional as pixel
import cv2
import numpy as np

from podium.data.chunk import NO_LABEL

Change = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
Warp = Callable[[np.ndarray, int, int, int], np.ndarray]
"""Moves the pixels of an array: given it, OpenCV's interpolation and border mode, and the border's value."""
Plan = Callable[[int, int, float, np.random.Generator], Warp]
"""Height, width and amount → how pixels move, the same for an image and for its mask."""


def _side(image: np.ndarray) -> int:
    return min(image.shape[:2])


def _either(amount: float, inverse: float, rng: np.random.Generator) -> float:
    return amount if rng.random() < 0.5 else inverse


def _each_channel(change: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    """For functions that know grey and colour images only."""
    if image.shape[2] in (1, 3):
        return change(image)
    return np.dstack([change(np.ascontiguousarray(image[..., [c]])) for c in range(image.shape[2])])


# ---------------------------------------------------------------- noise


def gaussian_noise(image: np.ndarray, std: float, rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(std)
    return pixel.add_noise(image, noise)


def shot_noise(image: np.ndarray, per_photon: float, rng: np.random.Generator) -> np.ndarray:
    return pixel.shot_noise(image, per_photon, rng)


def speckle_noise(image: np.ndarray, std: float, rng: np.random.Generator) -> np.ndarray:
    gain = 1 + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(std)
    return pixel.multiply_by_array(image, gain)


def salt_and_pepper(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    drawn = rng.random(image.shape[:2])
    return pixel.apply_salt_and_pepper(image, drawn < share / 2, (drawn >= share / 2) & (drawn < share))


# ---------------------------------------------------------------- blur


def gaussian_blur(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    sigma = 0.3 + share * _side(image)  # albumentations' kernel has a single tap up to 0.28
    return pixel.separable_convolve(image, blur.create_gaussian_kernel_1d(sigma).astype(np.float32))


def motion_blur(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    size = 2 * max(1, round(0.6 + share * _side(image))) + 1
    kernel = blur.create_motion_kernel(size, rng.uniform(0, 180), 0.0, False, None)  # drawn from only where shifted
    return pixel.convolve(image, kernel / kernel.sum())


def defocus(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    # a disc's radius is a whole number; the softness of its rim stands for what lies between two
    rest, radius = math.modf(1 + share * _side(image))
    return blur.defocus(image, int(radius), 0.2 + 0.8 * rest)


# ---------------------------------------------------------------- colour (three channels)


def hue_shift(image: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    return pixel.adjust_hue_torchvision(image, _either(degrees, -degrees, rng) / 360)


def saturation_shift(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    return pixel.adjust_saturation_torchvision(image, _either(1 - amount, 1 + 2 * amount, rng))


def colour_cast(image: np.ndarray, gain: float, rng: np.random.Generator) -> np.ndarray:
    gains = rng.permutation(np.array([1 + gain, 1, 1 / (1 + gain)], np.float32))
    return pixel.multiply(image, gains, inplace=False)


def colour_temperature(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    # about daylight's 6,600 kelvin; albumentations' table ends at 3,000 and 15,000
    return pixel.planckian_jitter(
        image, round(_either(6600 / (1 + amount), 6600 * (1 + 1.27 * amount), rng)), "blackbody"
    )


# ---------------------------------------------------------------- light


def exposure(image: np.ndarray, stops: float, rng: np.random.Generator) -> np.ndarray:
    return pixel.adjust_brightness_torchvision(image, 2 ** _either(stops, -stops, rng))


def low_contrast(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    return _each_channel(lambda some: pixel.adjust_contrast_torchvision(some, factor), image)


def gamma_shift(image: np.ndarray, exponent: float, rng: np.random.Generator) -> np.ndarray:
    return pixel.gamma_transform(image, _either(exponent, 1 / exponent, rng))


def uneven_light(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    angle = 45 * int(rng.integers(8))  # for any other albumentations' gradient leaves 0..1
    return pixel.apply_linear_illumination(image, amount, angle)


def cloud_shadow(image: np.ndarray, depth: float, rng: np.random.Generator) -> np.ndarray:
    return pixel.apply_plasma_shadow(image, depth, _plasma(image, rng))


def _plasma(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Clouds of value 0..1, (H, W)."""
    return pixel.generate_plasma_pattern(image.shape[:2], 0.5, rng)


# ---------------------------------------------------------------- things in the way


def occlusion(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    count = int(rng.integers(1, 4))
    holes = []
    for _ in range(count):
        stretch = math.exp(rng.uniform(-0.5, 0.5))
        tall = max(1, min(height, round(height * math.sqrt(share / count) * stretch)))
        wide = max(1, min(width, round(width * math.sqrt(share / count) / stretch)))
        top, left = int(rng.random() * (height - tall + 1)), int(rng.random() * (width - wide + 1))
        holes.append((left, top, left + wide, top + tall))
    return dropout.cutout(image, np.array(holes), "random_uniform", rng)


def bands(image: np.ndarray, count: float, rng: np.random.Generator) -> np.ndarray:
    """Bands across the whole image, one in each of ``count`` equal pieces of it, each of one shade."""
    height, width = image.shape[:2]
    level = rng.random() < 0.5
    length = height if level else width
    thick = max(1, round(0.04 * _side(image)))
    holes = []
    for place in rng.random(int(count)) + np.arange(int(count)):
        start = min(int(place * length / count), max(0, length - thick))
        holes.append((0, start, width, start + thick) if level else (start, 0, start + thick, height))
    return dropout.cutout(image, np.array(holes), "random_uniform", rng)


def fog(image: np.ndarray, depth: float, rng: np.random.Generator) -> np.ndarray:
    return pixel.apply_plasma_brightness_contrast(image, depth, -depth, _plasma(image, rng))


def streaks(image: np.ndarray, per_column: float, rng: np.random.Generator) -> np.ndarray:
    """albumentations' rain, as light streaks on a dark image and dark ones, such as scratches, on a light one."""
    height, width = image.shape[:2]
    side = _side(image)
    count, length = max(1, round(per_column * width)), max(2, round(0.2 * side))
    slant = int(rng.integers(-length // 2, length // 2 + 1))
    starts = rng.integers((0, -length // 2), (width, height), (count, 2))
    options = (slant, length, max(1, side // 96), (200, 200, 200), 3, 1.0, starts)
    if image.mean() > 0.5:
        return 1 - _each_channel(lambda some: pixel.add_rain(some, *options), 1 - image)
    return _each_channel(lambda some: pixel.add_rain(some, *options), image)


# ---------------------------------------------------------------- compression


def jpeg(image: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    return pixel.image_compression(image, int(quality), ".jpg")


def pixelation(image: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    # exact, since OpenCV's plain nearest neighbour shifts the image by up to half a large pixel
    options = (max(scale, 1 / _side(image)), cv2.INTER_AREA, cv2.INTER_NEAREST_EXACT)
    return _each_channel(lambda some: pixel.downscale(some, *options), image)


# ---------------------------------------------------------------- geometry


def _affine(height: int, width: int, rotate: float, shear: tuple[float, float], scale: float) -> Warp:
    both = {"x": scale, "y": scale}
    slants = {"x": shear[0], "y": shear[1]}
    middle = geometric.center((height, width))
    matrix = geometric.create_affine_transformation_matrix({"x": 0, "y": 0}, slants, both, rotate, middle)

    def warp(array: np.ndarray, interpolation: int, border: int, fill: int) -> np.ndarray:
        return geometric.warp_affine(array, matrix, interpolation, fill, border, (height, width))

    return warp


def rotation(height: int, width: int, degrees: float, rng: np.random.Generator) -> Warp:
    return _affine(height, width, _either(degrees, -degrees, rng), (0, 0), 1)


def shear(height: int, width: int, degrees: float, rng: np.random.Generator) -> Warp:
    slant = _either(degrees, -degrees, rng)
    return _affine(height, width, 0, (slant, 0) if rng.random() < 0.5 else (0, slant), 1)


def zoom(height: int, width: int, factor: float, rng: np.random.Generator) -> Warp:
    return _affine(height, width, 0, (0, 0), _either(factor, 1 / factor, rng))


def perspective(height: int, width: int, share: float, rng: np.random.Generator) -> Warp:
    size = np.array([width, height], np.float32)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    moved = corners + share * rng.uniform(0.5, 1, (4, 2)) * rng.choice((-1, 1), (4, 2))
    matrix = cv2.getPerspectiveTransform(corners * size, (moved * size).astype(np.float32))

    def warp(array: np.ndarray, interpolation: int, border: int, fill: int) -> np.ndarray:
        return geometric.perspective(array, matrix, width, height, fill, border, False, interpolation)

    return warp


def elastic(height: int, width: int, share: float, rng: np.random.Generator) -> Warp:
    side = min(height, width)
    smooth = max(1.0, 0.06 * side)
    fields = geometric.generate_displacement_fields((height, width), 1.0, smooth, False, (0, 0), rng, "gaussian")
    dx, dy = fields
    # how far blurred noise reaches depends on size and smoothness; what is fixed here is how far pixels move
    far = share * side / max(1e-6, math.sqrt(float((dx**2 + dy**2).mean())))
    y, x = np.mgrid[:height, :width].astype(np.float32)

    def warp(array: np.ndarray, interpolation: int, border: int, fill: int) -> np.ndarray:
        return geometric.remap(array, x + far * dx, y + far * dy, interpolation, border, fill)

    return warp


def move_image(warp: Warp, image: np.ndarray) -> np.ndarray:
    """float32 (H, W, C); what comes in from outside is the image's reflection."""
    return warp(image, cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101, 0)


def move_mask(warp: Warp, mask: np.ndarray) -> np.ndarray:
    """uint8 (H, W), each pixel the nearest one's label; what comes in from outside has none."""
    return warp(mask, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT, NO_LABEL)


_CHANGES: tuple[Change, ...] = (
    *(gaussian_noise, shot_noise, speckle_noise, salt_and_pepper),
    *(gaussian_blur, motion_blur, defocus),
    *(hue_shift, saturation_shift, colour_cast, colour_temperature),
    *(exposure, low_contrast, gamma_shift, uneven_light, cloud_shadow),
    *(occlusion, bands, fog, streaks, jpeg, pixelation),
)
_PLANS: tuple[Plan, ...] = (rotation, shear, zoom, perspective, elastic)


def _by_name(functions: tuple[Any, ...]) -> dict[str, Any]:
    return {function.__name__: function for function in functions}


CHANGES: dict[str, Change] = _by_name(_CHANGES)
PLANS: dict[str, Plan] = _by_name(_PLANS)
