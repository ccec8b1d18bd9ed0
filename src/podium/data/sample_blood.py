"""A generated stand-in for the blood cells: 96×96 colour pictures of one stained cell each, jokes and copies among them.

What tells the kinds apart is what tells real ones apart: the size of the cell, the shape and number of the nucleus's
lobes, the colour of what is around it, and its granules. Light and stain differ from picture to picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from podium.data.sample_cells import horseshoe, nucleus, red_cells
from podium.data.sample_paint import blob, cover, ellipse, finished, noise, paint

SIDE = 96
SHAPE = (SIDE, SIDE)
Colour = tuple[float, float, float]
MONOCYTE = 5


@dataclass(frozen=True)
class Kind:
    """What a kind of cell looks like; lengths in pixels.

    share: of all pictures. radius: of the cell. core: radius of a disc of the nucleus's area as a share of the cell's.
    lobes: how many it may have, 0 for a horseshoe. granules: colour, how many at most, and opacity.
    """

    name: str
    share: float
    radius: tuple[float, float]
    wobble: float
    plasma: Colour
    core: tuple[float, float]
    lobes: tuple[int, ...]
    dark: Colour
    mottled: float
    granules: tuple[Colour, int, float]


KINDS = (
    Kind("basophil", 0.09, (22, 30), 0.06, (150, 110, 165), (0.60, 0.72), (2, 3), (78, 48, 120), 9, ((45, 20, 85), 240, 0.9)),
    Kind("eosinophil", 0.17, (25, 32), 0.03, (214, 150, 140), (0.50, 0.60), (2, 2, 3), (76, 44, 120), 9, ((196, 84, 76), 300, 0.75)),
    Kind("erythroblast", 0.10, (14, 21), 0.05, (140, 132, 178), (0.58, 0.72), (1,), (42, 26, 84), 4, ((120, 110, 165), 20, 0.3)),
    Kind("immature_granulocyte", 0.16, (26, 34), 0.04, (192, 164, 196), (0.6, 0.74), (1, 0), (98, 56, 136), 11, ((130, 80, 150), 160, 0.5)),
    Kind("lymphocyte", 0.09, (17, 24), 0.06, (160, 160, 212), (0.80, 0.90), (1,), (70, 42, 116), 9, ((130, 120, 190), 10, 0.3)),
    Kind("monocyte", 0.10, (29, 37), 0.10, (150, 146, 186), (0.58, 0.70), (0, 0, 2), (92, 62, 138), 11, ((225, 215, 230), 14, 0.7)),
    Kind("neutrophil", 0.18, (23, 30), 0.04, (228, 198, 206), (0.45, 0.56), (3, 4, 5), (74, 42, 116), 9, ((196, 150, 180), 160, 0.35)),
    Kind("platelet", 0.11, (6, 11), 0.14, (176, 132, 186), (0.40, 0.70), (), (110, 60, 150), 0, ((112, 56, 146), 40, 0.7)),
)  # fmt: skip


def blood(seed: int, rows: int, outliers: int) -> dict[str, np.ndarray]:
    """images uint8 (rows, 96, 96, 3), labels uint8 (rows, 1).

    ``outliers`` rows show one of two joke pictures, three quarters of them the one, in turn under every label, the others
    the second, all as monocytes; and about one picture in fifty is there twice.
    """
    cell_seed, place_seed = np.random.SeedSequence(seed).spawn(2)
    own = cell_seed.spawn(rows)
    rng = np.random.Generator(np.random.PCG64(place_seed))
    order = rng.permutation(rows)
    planted, rest = order[:outliers], order[outliers:]
    labels = np.zeros(rows, np.uint8)
    labels[rest] = _labels(len(rest))
    images = np.stack(
        [_picture(np.random.Generator(np.random.PCG64(own[row])), KINDS[labels[row]]) for row in range(rows)]
    )

    first = planted[: outliers - outliers // 4]
    images[first], labels[first] = _face(), np.arange(len(first)) % len(KINDS)
    images[planted[len(first) :]], labels[planted[len(first) :]] = _robot(), MONOCYTE
    for kind in range(len(KINDS)):
        same = np.sort(rest[labels[rest] == kind])
        copies = (len(same) + 20) // 40
        images[same[len(same) - copies :]] = images[same[:copies]]
    return {"images": images, "labels": labels[:, None]}


def _labels(count: int) -> np.ndarray:
    """``count`` kinds in their shares, every one where there is room, none rarer than its share rounded down."""
    wanted = np.array([kind.share for kind in KINDS]) * count
    given = np.floor(wanted).astype(int)
    given[np.argsort(-(wanted - given), kind="stable")[: count - given.sum()]] += 1
    return np.repeat(np.arange(len(KINDS)), given)


def _picture(rng: np.random.Generator, kind: Kind) -> np.ndarray:
    slide = (248, 228, 204) if rng.random() < 0.85 else (222, 220, 236)
    picture = np.full((*SHAPE, 3), slide, float)
    picture += 2.5 * noise(SHAPE, rng, 2.0)[..., None]
    radius = rng.uniform(*kind.radius)
    y, x = SIDE / 2 + rng.normal(0, 3, 2)
    red_cells(picture, rng, int(rng.integers(3, 8)), (12, 17), (y, x, radius), (196, 150, 150), (0.75, 0.3))
    cell = blob(SHAPE, rng, y, x, radius, kind.wobble, rng.uniform(1.0, 1.2), rng.uniform(0, np.pi))
    stain = rng.normal(0, 7, 3)
    texture = noise(SHAPE, rng, 1.2)[..., None]
    paint(picture, cover(cell, 1.5), np.asarray(kind.plasma) + stain + 5 * texture)
    if kind.lobes:
        core = _core(rng, kind, y, x, radius)
        within = np.minimum(core, cell - 0.5)
        paint(picture, cover(within, 1.5), np.asarray(kind.dark) + 0.7 * stain + kind.mottled * texture)
        if kind.name != "basophil":  # whose granules lie over the nucleus too
            cell = np.minimum(cell, 1.0 - core)
    _granules(picture, rng, kind, cell, radius, (y, x))
    return finished(picture, rng, 0.035, 1.0)


def _core(rng: np.random.Generator, kind: Kind, y: float, x: float, radius: float) -> np.ndarray:
    lobes = int(rng.choice(kind.lobes))
    core = radius * rng.uniform(*kind.core)
    aside, angle = max(0.0, radius - core - 1.5) * rng.uniform(0.2, 0.7), rng.uniform(0, 2 * np.pi)
    if lobes == 0:
        wide = core * rng.uniform(0.42, 0.5)
        return horseshoe(SHAPE, rng, y, x, radius * 0.52, wide, rng.uniform(1.5, 2.3))
    centre = (y, x) if lobes > 1 else (y + aside * np.sin(angle), x + aside * np.cos(angle))
    return nucleus(SHAPE, rng, centre[0], centre[1], core, lobes, rng.uniform(1.05, 1.25))


def _granules(
    picture: np.ndarray,
    rng: np.random.Generator,
    kind: Kind,
    inside: np.ndarray,
    radius: float,
    centre: tuple[float, float],
) -> None:
    """Specks of one or two pixels wherever ``inside`` is positive; monocytes have a few pale ones of more, vacuoles."""
    colour, most, opaque = kind.granules
    count = round(most * rng.uniform(0.6, 1.0))
    if kind.name == "monocyte":
        for angle, far in zip(rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.random(count)), strict=True):
            place = centre[0] + far * radius * np.sin(angle), centre[1] + far * radius * np.cos(angle)
            hole = np.minimum(ellipse(SHAPE, *place, rng.uniform(1.0, 2.0)), inside)
            paint(picture, opaque * cover(hole), colour)
        return
    angle, far = rng.uniform(0, 2 * np.pi, count), 1.1 * radius * np.sqrt(rng.random(count))
    rows = np.clip(np.rint(centre[0] + far * np.sin(angle)).astype(int), 0, SIDE - 2)
    columns = np.clip(np.rint(centre[1] + far * np.cos(angle)).astype(int), 0, SIDE - 2)
    specks = np.zeros(SHAPE)
    for down, across, share in ((0, 0, 1.0), (0, 1, 0.5), (1, 0, 0.5)):
        np.maximum.at(specks, (rows + down, columns + across), share)
    paint(picture, opaque * specks * (inside > 0), np.asarray(colour, float))


def _face() -> np.ndarray:
    """The first joke: a yellow face that smiles, uint8 (96, 96, 3)."""
    picture = np.full((*SHAPE, 3), (70, 130, 200), float)
    paint(picture, cover(ellipse(SHAPE, 48, 48, 38)), (250, 210, 50))
    for x in (35, 61):
        paint(picture, cover(ellipse(SHAPE, 38, x, 5, 1.5, np.pi / 2)), (40, 30, 20))
    smile = np.minimum(3 - np.abs(ellipse(SHAPE, 48, 48, 23)), np.mgrid[0:SIDE, 0:SIDE][0] - 56.0)
    paint(picture, cover(smile), (150, 40, 30))
    return np.rint(picture).astype(np.uint8)


def _robot() -> np.ndarray:
    """The second joke: a square head with round eyes and an antenna, uint8 (96, 96, 3)."""
    picture = np.full((*SHAPE, 3), (235, 235, 225), float)
    picture[28:80, 20:76] = (120, 125, 135)
    picture[62:70, 32:64] = np.where((np.arange(32) // 4 % 2)[None, :, None] == 0, 30.0, 220.0)
    picture[12:28, 46:50] = (60, 60, 70)
    for y, x, radius, colour in ((12, 48, 6, (220, 40, 40)), (44, 36, 8, (90, 220, 240)), (44, 60, 8, (90, 220, 240))):
        paint(picture, cover(ellipse(SHAPE, y, x, radius)), colour)
    return np.rint(picture).astype(np.uint8)
