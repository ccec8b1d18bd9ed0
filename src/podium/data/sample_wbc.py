"""A generated stand-in for the white blood cells: colour pictures of differing sizes, masks of nucleus and cytoplasm."""

from __future__ import annotations

import numpy as np

from podium.data.sample_cells import horseshoe, nucleus, red_cells
from podium.data.sample_paint import blob, cover, finished, noise, paint

CYTOPLASM, NUCLEUS = 128, 255
SIDES = range(88, 125, 4)


def wbc(seed: int, rows: int, test_rows: int) -> dict[str, np.ndarray]:
    """train/images, train/masks and test/images, with ids 001, 002, ... through both parts.

    Pictures are uint8 (H, W, 3), masks uint8 (H, W) of 0, 128 (cytoplasm) and 255 (nucleus).
    """
    files: dict[str, np.ndarray] = {}
    for row, own in enumerate(np.random.SeedSequence(seed).spawn(rows + test_rows)):
        image, mask = _scene(np.random.Generator(np.random.PCG64(own)))
        name = f"{row + 1:03}.png"
        if row < rows:
            files[f"train/images/{name}"] = image
            files[f"train/masks/{name}"] = mask
        else:
            files[f"test/images/{name}"] = image
    return files


def _scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    shape = int(rng.choice(SIDES)), int(rng.choice(SIDES))
    picture = np.full((*shape, 3), (246, 238, 160), float)
    picture += 4 * noise(shape, rng, 2.0)[..., None]
    mask = np.zeros(shape, np.uint8)
    radius = min(shape) * rng.uniform(0.24, 0.4)
    y, x = shape[0] / 2 + rng.normal(0, 3), shape[1] / 2 + rng.normal(0, 3)
    red_cells(picture, rng, int(rng.integers(3, 9)), (9, 15), (y, x, radius), (222, 200, 120), (0.8, 0.15))
    stain = rng.normal(0, 8, 3)
    if rng.random() < 0.25:  # a second cell that touches the first and reaches out of the picture
        angle, other = rng.uniform(0, 2 * np.pi), radius * rng.uniform(0.7, 1.0)
        far = radius + other * rng.uniform(0.9, 1.1)
        _cell(rng, picture, mask, y + far * np.sin(angle), x + far * np.cos(angle), other, stain)
    _cell(rng, picture, mask, y, x, radius, stain)
    return finished(picture, rng, 0.05, 1.5), mask


def _cell(
    rng: np.random.Generator,
    picture: np.ndarray,
    mask: np.ndarray,
    y: float,
    x: float,
    radius: float,
    stain: np.ndarray,
) -> None:
    """Paint a white cell and draw its mask; what lies below it is covered."""
    shape = mask.shape[0], mask.shape[1]
    body = blob(shape, rng, y, x, radius, 0.04, rng.uniform(1.0, 1.2), rng.uniform(0, np.pi))
    lobes = int(rng.choice([0, 1, 1, 2, 3, 4]))
    if lobes == 0:
        core = horseshoe(shape, rng, y, x, radius * 0.5, radius * rng.uniform(0.24, 0.3), rng.uniform(1.5, 2.4))
    else:
        core = nucleus(shape, rng, y, x, radius * rng.uniform(0.5, 0.8 if lobes == 1 else 0.6), lobes, 1.15)
    core = np.minimum(core, body - 1.5)
    texture = noise(shape, rng, 1.0)[..., None]
    paint(picture, cover(body, 1.5), np.array((196, 168, 134)) + stain + 7 * texture)
    paint(picture, cover(core, 1.5), np.array((84, 30, 72)) + 0.5 * stain + 9 * texture)
    mask[body > 0] = CYTOPLASM
    mask[core > 0] = NUCLEUS
