"""A generated stand-in for the gland pictures: 128×128 pieces of stained tissue, several of one patient.

A gland is a pale opening, around it the cells that line it, and their dark nuclei in a row along its edge; all of it is
gland in the mask. Between glands lie fibres and scattered nuclei. Pictures of one patient share their staining, how
large and how irregular the glands are, and how dense the tissue is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from podium.data.sample_paint import blob, cover, ellipse, finished, noise, paint

SIDE = 128
SHAPE = (SIDE, SIDE)
GLAND = 255
PER_PATIENT = 4


@dataclass(frozen=True, eq=False)
class Patient:
    """What pictures of one patient have in common; colours float (3,), lengths in pixels."""

    stroma: np.ndarray
    nuclei: np.ndarray
    lining: np.ndarray
    opening: np.ndarray
    radius: float
    crowded: float
    malignant: bool


def warwick(seed: int, rows: int, test_rows: int) -> dict[str, np.ndarray | str]:
    """Train/image_01.png, Train/label_01.png, ..., Test/image_01.png, ..., and patients.csv of the training images.

    Pictures are uint8 (128, 128, 3), labels uint8 (128, 128) of 0 and 255. There is a patient for about four training
    images, some with more; test images are of other patients.
    """
    people_seed, train_seed, test_seed = np.random.SeedSequence(seed).spawn(3)
    rng = np.random.Generator(np.random.PCG64(people_seed))
    train = [_patient(rng) for _ in range(-(-rows // PER_PATIENT))]
    others = [_patient(rng) for _ in range(-(-test_rows // PER_PATIENT))]
    every = np.arange(rows) % len(train)  # nobody is left out, and the last third is of whoever comes
    late = rows - rows // 3
    every[late:] = rng.integers(0, len(train), rows - late)
    shown = rng.permutation(every)

    files: dict[str, np.ndarray | str] = {}
    lines = ["image,patient,malignant"]
    for row, own in enumerate(train_seed.spawn(rows)):
        name, patient = f"{row + 1:02}", train[shown[row]]
        image, mask = _scene(np.random.Generator(np.random.PCG64(own)), patient)
        files |= {f"Train/image_{name}.png": image, f"Train/label_{name}.png": mask}
        lines.append(f"image_{name}.png,{shown[row] + 1},{int(patient.malignant)}")
    for row, own in enumerate(test_seed.spawn(test_rows)):
        patient = others[row % len(others)]
        files[f"Test/image_{row + 1:02}.png"] = _scene(np.random.Generator(np.random.PCG64(own)), patient)[0]
    return files | {"patients.csv": "\n".join(lines) + "\n"}


def _patient(rng: np.random.Generator) -> Patient:
    faded, bluish = rng.uniform(0, 0.35), rng.normal(0, 12)
    shift = np.array([-bluish, 0.0, bluish])

    def stained(colour: tuple[float, float, float]) -> np.ndarray:
        return np.array(colour) * (1 - faded) + 245 * faded + shift

    return Patient(
        stroma=stained((216, 120, 178)),
        nuclei=stained((92, 40, 128)),
        lining=stained((182, 98, 172)),
        opening=stained((240, 218, 236)),
        radius=rng.uniform(13, 24),
        crowded=rng.uniform(0.5, 1.0),
        malignant=bool(rng.random() < 0.5),
    )


def _scene(rng: np.random.Generator, patient: Patient) -> tuple[np.ndarray, np.ndarray]:
    picture = np.zeros((*SHAPE, 3)) + patient.stroma
    stretch = rng.uniform(0.35, 2.5)  # fibres run down or across
    picture += (11 * noise(SHAPE, rng, 1.1, stretch) + 6 * noise(SHAPE, rng, 2.0))[..., None] * (1.0, 1.2, 0.8)
    _scattered(picture, rng, round(150 * patient.crowded), patient)
    mask = np.zeros(SHAPE, np.uint8)
    textures = noise(SHAPE, rng, 0.8), noise(SHAPE, rng, 0.6)
    placed: list[tuple[float, float, float]] = []
    for _ in range(60):
        radius = patient.radius * rng.uniform(0.75, 1.3)
        y, x = rng.uniform(-0.3 * radius, SIDE + 0.3 * radius, 2)
        if all(np.hypot(y - a, x - b) > 1.25 * (radius + other) for a, b, other in placed):
            placed.append((y, x, radius))
            _gland(picture, mask, rng, patient, (y, x), radius, *textures)
        if len(placed) >= 2 + 6 * patient.crowded:
            break
    return finished(picture, rng, 0.03, 3.0), mask


def _gland(
    picture: np.ndarray,
    mask: np.ndarray,
    rng: np.random.Generator,
    patient: Patient,
    centre: tuple[float, float],
    radius: float,
    texture: np.ndarray,
    crowd: np.ndarray,
) -> None:
    """Paint a gland and draw it into the mask. texture: of its cells; crowd: how dense its nuclei stand; noise (H, W)."""
    wobble, longer = (0.11, rng.uniform(1.0, 1.6)) if patient.malignant else (0.03, rng.uniform(1.0, 1.3))
    turned = rng.uniform(0, np.pi)
    outline = blob(SHAPE, rng, *centre, radius, wobble, longer, turned)
    paint(picture, cover(outline, 1.5), patient.lining + 9 * texture[..., None])
    inner = outline - radius * rng.uniform(0.5, 0.65)
    paint(picture, cover(inner, 2.5), patient.opening + 5 * texture[..., None])
    row = cover(np.minimum(outline - 0.3, 4.2 - outline), 1.2)  # the nuclei stand along the edge, close together
    paint(picture, row * np.clip(0.75 + 0.3 * crowd, 0.35, 1), patient.nuclei)
    mask[outline > 0] = GLAND


def _scattered(picture: np.ndarray, rng: np.random.Generator, count: int, patient: Patient) -> None:
    """Small dark nuclei between the glands, each painted in a window of its own."""
    reach = 4
    for y, x in rng.uniform(reach, SIDE - reach - 1, (count, 2)):
        top, left = int(y) - reach, int(x) - reach
        window = picture[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
        shape = window.shape[0], window.shape[1]
        speck = ellipse(shape, y - top, x - left, rng.uniform(1.1, 2.0), rng.uniform(1.0, 2.2), rng.uniform(0, np.pi))
        paint(window, 0.8 * cover(speck, 1.2), patient.nuclei)
