"""Brushes of the generated samples: noise with a spectrum, outlines with a soft edge, colours over colours.

A picture is float (H, W, 3) in grey values 0 to 255 until ``finished``. An outline is a field (H, W) of about the distance
in pixels to its edge, positive inside: ``> 0`` is its mask, ``cover`` its soft version, the larger of two their union.
"""

from __future__ import annotations

import numpy as np


def noise(
    shape: tuple[int, int], rng: np.random.Generator, power: float, stretch: float = 1.0, lowest: float = 0.0
) -> np.ndarray:
    """Noise (H, W) with amplitudes falling as 1/f^power, mean 0, deviation 1.

    stretch: how much wider than high its blobs are. lowest: cycles per pixel below which nothing is left.
    """
    white = np.fft.rfft2(rng.standard_normal(shape))
    down, across = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    frequency = np.hypot(down, across * stretch)
    frequency[0, 0] = 1.0
    shaped = white * frequency**-power * (frequency >= lowest)
    shaped[0, 0] = 0
    field = np.fft.irfft2(shaped, s=shape)
    return field / field.std()


def ellipse(
    shape: tuple[int, int], y: float, x: float, radius: float, longer: float = 1.0, turned: float = 0.0
) -> np.ndarray:
    """An ellipse of the area of a disc of ``radius``, ``longer`` as long as wide, its length turned from the x axis."""
    down, across = np.ogrid[0 : shape[0], 0 : shape[1]]
    along = ((across - x) * np.cos(turned) + (down - y) * np.sin(turned)) / np.sqrt(longer)
    beside = ((down - y) * np.cos(turned) - (across - x) * np.sin(turned)) * np.sqrt(longer)
    return radius - np.hypot(along, beside)


def blob(
    shape: tuple[int, int],
    rng: np.random.Generator,
    y: float,
    x: float,
    radius: float,
    wobble: float = 0.05,
    longer: float = 1.0,
    turned: float = 0.0,
) -> np.ndarray:
    """An ellipse whose radius goes in and out by about ``wobble`` of itself along its edge."""
    down, across = np.mgrid[0 : shape[0], 0 : shape[1]]
    angle = np.arctan2(down - y, across - x)
    waves = sum(rng.normal(0, wobble / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4, 5))
    return ellipse(shape, y, x, radius, longer, turned) + radius * waves


def cover(outline: np.ndarray, blur: float = 1.0) -> np.ndarray:
    """0 outside to 1 inside, over ``blur`` pixels at the edge."""
    return np.clip(outline / blur + 0.5, 0, 1)


def paint(picture: np.ndarray, share: np.ndarray, colour: np.ndarray | tuple[float, float, float]) -> None:
    """Lay a colour, (3,) or (H, W, 3), over the picture, as opaque as ``share`` (H, W) in 0 to 1 says."""
    picture += share[..., None] * (np.asarray(colour, float) - picture)


def finished(picture: np.ndarray, rng: np.random.Generator, tint: float, grain: float) -> np.ndarray:
    """uint8 (H, W, 3): the picture under another light, and with the grain of a camera.

    tint: deviation of each channel's factor. grain: deviation, in grey values, the same in all channels. Whole grey
    values: what is left of rounding errors between machines disappears here.
    """
    light = 1 + rng.normal(0, tint) + rng.normal(0, tint / 2, 3)
    grains = rng.normal(0, grain, picture.shape[:2])[..., None]
    return np.clip(np.rint(picture * light + grains), 0, 255).astype(np.uint8)
