"""A generated stand-in for the Mars file: grey 64 x 128 rover pictures of four textures, masks, planted outliers.

Fractal noise (white noise shaped to 1/f^b in the frequency domain) gives the textures, the regions and the light.
Quantities are in grey values 0 to 255 and pixels; class shares follow the real file roughly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from podium.data.sample_paint import noise

HEIGHT, WIDTH = 64, 128
UNLABELLED, SOIL, BEDROCK, SAND, ROCK = range(5)
TERRAINS = (SOIL, BEDROCK, SAND)
TERRAIN_SHARES = (0.42, 0.53, 0.05)
ROCK_RATE = 0.08
"""Share of the pictures that hold a big rock."""


@dataclass(frozen=True)
class Scene:
    """A picture and its mask, both uint8 (H, W)."""

    image: np.ndarray
    mask: np.ndarray


def mars(seed: int, rows: int, outliers: int, test_rows: int) -> dict[str, np.ndarray]:
    """training_set float64 (rows, 2, 64, 128), image and mask; test_set uint8 (test_rows, 64, 128).

    Among the rows are ``outliers`` pictures with one identical mask, and a few exact copies of other rows.
    """
    train_seed, test_seed, place_seed = np.random.SeedSequence(seed).spawn(3)
    place = np.random.Generator(np.random.PCG64(place_seed))
    scenes = _scenes(train_seed, rows)
    test = _scenes(test_seed, test_rows)

    order = place.permutation(rows)
    planted, rest = order[:outliers], order[outliers:]
    mask = visitor_mask()
    for row in planted:
        scenes[row] = Scene(_visitor(scenes[row].image, place), mask)
    copies = max(1, len(rest) // 60) if len(rest) > 1 else 0
    for copy, original in zip(rest[:copies], rest[copies : 2 * copies], strict=True):
        scenes[copy] = scenes[original]

    training_set = np.stack([np.stack([scene.image, scene.mask]) for scene in scenes]).astype(np.float64)
    return {"training_set": training_set, "test_set": np.stack([scene.image for scene in test])}


def _scenes(seed: np.random.SeedSequence, count: int) -> list[Scene]:
    """Scenes, each from a seed of its own; a fixed share of them holds a rock."""
    own = seed.spawn(count + 1)
    with_rock = np.random.Generator(np.random.PCG64(own[count])).permutation(count)[: max(1, round(ROCK_RATE * count))]
    rocky = set(with_rock.tolist())
    return [_scene(np.random.Generator(np.random.PCG64(own[i])), i in rocky) for i in range(count)]


def _scene(rng: np.random.Generator, rocky: bool) -> Scene:
    classes = rng.choice(TERRAINS, size=rng.choice([1, 2, 3], p=[0.4, 0.42, 0.18]), replace=False, p=TERRAIN_SHARES)
    regions = _regions(rng, classes)
    painters = {SOIL: _soil, BEDROCK: _bedrock, SAND: _sand}
    relief = np.zeros((HEIGHT, WIDTH))
    for terrain in classes:
        relief = np.where(regions == terrain, painters[int(terrain)](rng), relief)

    labels = np.where(_edges(regions), UNLABELLED, regions)
    if rocky:
        relief, labels = _put_rock(rng, relief, labels)
    if len(classes) == 1 and not rocky and rng.random() < 0.5:
        labels = np.full_like(labels, classes[0])  # a whole tile of one terrain: many share this very mask
        labels[0], labels[-1], labels[:, 0], labels[:, -1] = (UNLABELLED,) * 4
    else:
        labels = _leave_unlabelled(rng, labels)

    mean = np.clip(rng.normal(61, 18), 22, 120)
    contrast = mean / 60 * rng.uniform(0.8, 1.4)
    light = 1 + 0.10 * _noise(rng, 3.0) + rng.uniform(-0.25, 0.25) * np.linspace(-0.5, 0.5, HEIGHT)[:, None]
    image = (mean + contrast * relief) * light + rng.normal(0, 1.2, (HEIGHT, WIDTH))
    return Scene(_grey(image), labels.astype(np.uint8))


def _noise(rng: np.random.Generator, power: float, stretch: float = 1.0, lowest: float = 0.0) -> np.ndarray:
    return noise((HEIGHT, WIDTH), rng, power, stretch, lowest)


def _regions(rng: np.random.Generator, classes: np.ndarray) -> np.ndarray:
    """Class per pixel: the highest of one smooth field per class, each tilted and lifted at random."""
    y, x = np.linspace(-1, 1, HEIGHT)[:, None], np.linspace(-1, 1, WIDTH)[None, :]
    fields = [
        _noise(rng, 2.2, 0.7) + rng.normal(0, 0.9) * y + rng.normal(0, 0.6) * x + rng.normal(0, 0.35) for _ in classes
    ]
    return classes[np.argmax(fields, axis=0)]


def _soil(rng: np.random.Generator) -> np.ndarray:
    """Fine, smooth ground with a few small pebbles, lit from above."""
    ground = 3.0 * _noise(rng, 0.5) + 3.0 * _noise(rng, 1.5)
    pebbles = np.clip(_noise(rng, 1.2, 1.0, 0.06) - rng.uniform(1.6, 2.6), 0, 1)
    shadows = np.roll(pebbles, 1, axis=0)
    return ground + 32 * pebbles - 44 * shadows


def _bedrock(rng: np.random.Generator) -> np.ndarray:
    """Plates of different grey between dark cracks, flatter than wide."""
    stretch = rng.uniform(0.4, 0.9)
    coarse, fine = _noise(rng, 2.6, stretch, 0.025), _noise(rng, 2.6, stretch, 0.06)
    cracks = np.exp(-((coarse / 0.13) ** 2)) + 0.6 * np.exp(-((fine / 0.16) ** 2))  # where smooth noise crosses zero
    plates = np.round(1.3 * _noise(rng, 2.4, stretch, 0.015) + 0.5 * fine)
    lit = plates - np.roll(plates, 1, axis=0)
    return 5 * plates + 9 * lit - rng.uniform(14, 26) * cracks + 2.5 * _noise(rng, 0.8) + 5


def _sand(rng: np.random.Generator) -> np.ndarray:
    """Ripples that run across the picture, bent and of varying height."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    angle, length = rng.normal(np.pi / 2, 0.4), rng.uniform(4.5, 8.0)
    phase = 2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / length + 1.6 * _noise(rng, 2.2, 0.6)
    height = np.clip(1 + 0.5 * _noise(rng, 2.0), 0.2, 2)
    return 5.5 * height * (np.sin(phase) + 0.35 * np.sin(2 * phase + 0.8)) + 1.5 * _noise(rng, 0.8) - 4


def _put_rock(rng: np.random.Generator, relief: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One rough bright block with a lit and a dark side, and its unlabelled shadow."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    high = float(np.clip(rng.lognormal(np.log(10), 0.45), 4, 24))
    wide = high * rng.uniform(1.1, 1.9)
    dy, dx = (y - rng.uniform(10, HEIGHT - 6)) / high, (x - rng.uniform(8, WIDTH - 8)) / wide
    outline = 1 + 0.16 * _noise(rng, 2.0)
    side = rng.choice([-1.0, 1.0])
    rock = np.hypot(dy, dx) < outline
    shadow = (np.hypot(dy - 0.35, dx + 0.55 * side) < outline) & ~rock
    facets = np.round(1.5 * _noise(rng, 1.8)) / 1.5
    surface = 24 + 20 * (side * dx - dy) + 9 * facets + 5 * _noise(rng, 0.8)
    relief = np.where(shadow, relief * 0.4 - 30, np.where(rock, surface, relief))
    labels = np.where(shadow | _edges(rock.astype(int)), UNLABELLED, np.where(rock, ROCK, labels))
    return relief, labels


def _edges(regions: np.ndarray) -> np.ndarray:
    """Whether a pixel lies within one pixel of another region; the picture's own border does not count."""
    edge = np.zeros(regions.shape, bool)
    for axis in (0, 1):
        change = np.diff(regions, axis=axis) != 0
        for side in ((0, 1), (1, 0)):  # the pixel before the change and the one after it
            edge |= np.pad(change, [side if a == axis else (0, 0) for a in (0, 1)])
    return edge


def _leave_unlabelled(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Take the labels from the frame, sometimes from a far strip at the top, and from a smooth patch."""
    labels = labels.copy()
    top, bottom, left, right = rng.integers(0, 4, size=4)
    if rng.random() < 0.2:
        top = rng.integers(6, 22)
    labels[:top], labels[HEIGHT - bottom :], labels[:, :left], labels[:, WIDTH - right :] = (UNLABELLED,) * 4
    patch = _noise(rng, 2.4)
    labels[patch > np.quantile(patch, 1 - rng.uniform(0, 0.2))] = UNLABELLED
    return labels


def visitor_mask() -> np.ndarray:
    """The one mask of all outliers, uint8 (H, W): a disc of rock with two windows of bedrock over a strip of soil."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    mask = np.where(np.hypot(y - 34, x - 64) < 24, ROCK, UNLABELLED)
    mask[(np.hypot((y - 32) / 1.4, x - 55) < 6) | (np.hypot((y - 32) / 1.4, x - 73) < 6)] = BEDROCK
    mask[HEIGHT - 4 :] = SOIL
    return mask.astype(np.uint8)


def _visitor(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A saucer of rings with a chequered dome somewhere over the picture: nothing that terrain could be."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    size, cy, cx = rng.uniform(9, 20), rng.uniform(20, 48), rng.uniform(24, 104)
    distance = np.hypot((y - cy) * 1.8, x - cx) / size
    rings = np.where((distance * 5).astype(int) % 2 == 0, 225, 35)
    dome = np.hypot(y - cy + size * 0.5, x - cx) < size * 0.45
    image = np.where(distance < 1, rings, image)
    return _grey(np.where(dome, np.where((y // 3 + x // 3) % 2 == 0, 250, 90), image))


def _grey(image: np.ndarray) -> np.ndarray:
    """Whole grey values: what is left of rounding errors between machines disappears here."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
