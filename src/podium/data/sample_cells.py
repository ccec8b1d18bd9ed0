"""Cells as two of the samples have them: nuclei of one or several lobes, and the red cells that lie around."""

from __future__ import annotations

import numpy as np

from podium.data.sample_paint import blob, cover, ellipse, paint


def nucleus(
    shape: tuple[int, int], rng: np.random.Generator, y: float, x: float, radius: float, lobes: int, spread: float
) -> np.ndarray:
    """An outline of the area of about a disc of ``radius``: one body, or ``lobes`` on an arc that nearly touch.

    spread: distance of the lobes from the centre, in their radii.
    """
    if lobes == 1:
        return blob(shape, rng, y, x, radius, 0.05, rng.uniform(1.0, 1.15), rng.uniform(0, np.pi))
    one = radius / np.sqrt(lobes) * 1.08
    start, step = rng.uniform(0, 2 * np.pi), (2 * np.pi / lobes if lobes < 4 else 1.35) * rng.uniform(0.85, 1.05)
    outline = np.full(shape, -np.inf)
    for number in range(lobes):
        angle = start + number * step
        far = one * spread * rng.uniform(0.95, 1.1)
        lobe = blob(
            shape, rng, y + far * np.sin(angle), x + far * np.cos(angle), one * rng.uniform(0.9, 1.1), 0.07,
            rng.uniform(1.0, 1.35), angle + np.pi / 2,
        )  # fmt: skip
        outline = np.maximum(outline, lobe)
    return outline


def horseshoe(
    shape: tuple[int, int], rng: np.random.Generator, y: float, x: float, radius: float, wide: float, gap: float
) -> np.ndarray:
    """A bent band with round ends, of half width ``wide`` along a circle of ``radius``, open over ``gap`` radians."""
    down, across = np.ogrid[0 : shape[0], 0 : shape[1]]
    towards, end = rng.uniform(0, 2 * np.pi), np.pi - gap / 2
    angle = np.angle(np.exp(1j * (np.arctan2(down - y, across - x) - towards)))
    nearest = np.clip(angle, -end, end) + towards  # on the band's middle line
    far = np.hypot(down - y - radius * np.sin(nearest), across - x - radius * np.cos(nearest))
    return wide * (1 + 0.12 * np.cos(3 * angle + rng.uniform(0, 6))) - far


def red_cells(
    picture: np.ndarray,
    rng: np.random.Generator,
    count: int,
    radius: tuple[float, float],
    keep_off: tuple[float, float, float],
    colour: tuple[float, float, float],
    strength: tuple[float, float],
) -> None:
    """Paint ``count`` discs with a paler middle around a place that stays free of them.

    keep_off: y, x and radius of that place; the nearest cells touch its rim. strength: how opaque the rim and the middle
    are.
    """
    shape = picture.shape[0], picture.shape[1]
    y0, x0, free = keep_off
    for _ in range(count):
        size = rng.uniform(*radius)
        angle, far = rng.uniform(0, 2 * np.pi), free + size * rng.uniform(0.7, 2.6)
        place = y0 + far * np.sin(angle), x0 + far * np.cos(angle)
        longer, turned = rng.uniform(1.0, 1.25), rng.uniform(0, np.pi)
        body = cover(ellipse(shape, *place, size, longer, turned), 1.5)
        middle = cover(ellipse(shape, *place, size * rng.uniform(0.3, 0.6), longer, turned), size * 0.5)
        paint(picture, body * (strength[0] + (strength[1] - strength[0]) * middle), colour)
