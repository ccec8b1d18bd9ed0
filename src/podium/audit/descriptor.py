"""Descriptors: low frequencies of a picture, and a few numbers that flips, turns and small changes hardly alter.

A picture is averaged to 32 × 32, faded out towards its borders and transformed. The magnitudes of its low frequencies
do not change under shifts; sums and absolute differences of the four magnitudes that flips and turns exchange do not
change under those. Which combinations of them tell pictures apart is learnt from the data: copies of some pictures are
planted (shifted, recompressed, brightened), and the combinations kept are those that vary most between pictures for
what they vary between a picture and its copy (linear discriminant analysis; Fisher 1936).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from podium.audit.near_pictures import TURNS, resize

SIDE = 32
RADIUS = 7  # cycles per picture
KEPT = 24  # numbers per picture
FAINT = 2.0  # grey values of contrast below which a picture counts as blank, softly
SHIFTS = 4  # pixels of the small picture by which two may be apart
_SHRINK = 0.02  # of the mean variance, added to every direction's so that none seems free of change


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear map in whose values a picture and its copy are about one apart in each direction."""

    mean: np.ndarray
    matrix: np.ndarray

    def __call__(self, spectra: np.ndarray) -> np.ndarray:
        """float32 (N, KEPT) of spectra (N, F)."""
        return ((invariants(spectra) - self.mean) @ self.matrix).astype(np.float32)


@cache
def frequencies() -> np.ndarray:
    """int64 (F, 2): vertical and horizontal frequency; of two opposite ones the first, the other being conjugate."""
    axis = range(-RADIUS, RADIUS + 1)
    return np.array([(u, v) for u in axis for v in axis if (u, v) > (0, 0) and u * u + v * v <= RADIUS * RADIUS])


@cache
def _places() -> dict[tuple[int, int], int]:
    """Place of each frequency among all of them followed by their opposites."""
    both = np.concatenate([frequencies(), -frequencies()]).tolist()
    return {(u, v): place for place, (u, v) in enumerate(both)}


@cache
def turned() -> np.ndarray:
    """int64 (8, F): where a turned picture's frequencies lie among the original's [spectrum, conjugate spectrum]."""
    rows = []
    for swap, down, right in TURNS:
        signed = [(-u if down else u, -v if right else v) for u, v in frequencies().tolist()]
        rows.append([_places()[(v, u) if swap else (u, v)] for u, v in signed])
    return np.array(rows)


@cache
def _waves() -> tuple[np.ndarray, np.ndarray]:
    """complex64 (2 RADIUS + 1, SIDE), and the window (SIDE,); positions count from the middle, so that turns keep it."""
    position = np.arange(SIDE) - (SIDE - 1) / 2
    waves = np.exp(-2j * np.pi * np.arange(-RADIUS, RADIUS + 1)[:, None] * position / SIDE)
    return waves.astype(np.complex64), np.cos(np.pi * position / SIDE).astype(np.float32)


def small(grey: np.ndarray) -> np.ndarray:
    """float32 (SIDE, SIDE) of a grey picture of any size and shape."""
    return resize(grey, (SIDE, SIDE))


def spectra_of(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low frequencies, complex64 (n, F), and contrast, float32 (n,), of small grey pictures (n, SIDE, SIDE)."""
    waves, fade = _waves()
    window = np.outer(fade, fade)
    mean = np.tensordot(pictures, window, 2) / window.sum()
    faded = (pictures - mean[:, None, None]) * window
    contrast = np.sqrt(np.mean(faded * faded, axis=(1, 2)))
    every = waves @ faded.astype(np.complex64) @ waves.T / SIDE
    u, v = (frequencies() + RADIUS).T
    return every[:, u, v], contrast


def normalised(spectra: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Spectra (n, F) for contrast 1; contrast is in grey values."""
    return spectra / (contrast + np.float32(FAINT))[:, None]


def invariants(spectra: np.ndarray) -> np.ndarray:
    """float32 (n, K): magnitudes combined such that the eight flips and turns do not change them."""
    size = np.abs(spectra)
    size = np.concatenate([size, size], axis=1)
    out = []
    for u in range(RADIUS + 1):
        for v in range(u + 1):
            if not 0 < u * u + v * v <= RADIUS * RADIUS:
                continue
            a, b, c, d = (size[:, _places()[place]] for place in ((u, v), (u, -v), (v, u), (v, -u)))
            if v == 0:
                out += [(a + c) / 2, np.abs(a - c) / 2]
            elif u == v:
                out += [(a + b) / 2, np.abs(a - b) / 2]
            else:
                out += [(a + b + c + d) / 4]
                out += [np.abs(a + b - c - d) / 4, np.abs(a - b + c - d) / 4, np.abs(a - b - c + d) / 4]
    return np.stack(out, axis=1)


def learn(greys: list[np.ndarray]) -> Projection:
    """The projection for pictures such as ``greys``, float32 (h, w) each in grey values of 8 bits."""
    from scipy.linalg import eigh

    plain = _invariants_of(greys)
    kinds = (_moved, _recompressed, _brightened)
    within = np.zeros((plain.shape[1], plain.shape[1]))
    for change in kinds:
        moved = _invariants_of([change(grey, number) for number, grey in enumerate(greys)]) - plain
        within += moved.T @ moved / (len(kinds) * len(greys))
    # Few copies leave directions in which by chance nothing changed, so the fewer they are the less they are trusted.
    shrink = _SHRINK + len(within) / (len(kinds) * len(greys))
    within += (shrink * np.trace(within) / len(within) + 1e-6) * np.eye(len(within))
    mean = plain.mean(axis=0)
    between = (plain - mean).T @ (plain - mean) / len(plain)
    count = len(within)
    _, directions = eigh(between, within, subset_by_index=[count - KEPT, count - 1])
    return Projection(mean, directions)


def alike(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How well the second of each pair matches the first when it is turned in each of the eight ways, float32 (n, 8).

    first, second: complex64 (n, F). The highest correlation, over small shifts, of the pictures faded and blurred.
    """
    both = np.concatenate([second, second.conj()], axis=1)
    waves = _shift_waves()
    out = np.empty((len(first), len(turned())), np.float32)
    for number, places in enumerate(turned()):
        product = first.conj() * both[:, places]
        out[:, number] = (np.concatenate([product.real, product.imag], axis=1) @ waves).max(axis=1)
    energy = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return out / np.maximum(energy, np.float32(1e-12))[:, None]


@cache
def _shift_waves() -> np.ndarray:
    """float32 (2 F, shifts): real part of the inverse transform at every small shift."""
    axis = range(-SHIFTS, SHIFTS + 1)
    moves = np.array([(down, right) for down in axis for right in axis])
    angle = 2 * np.pi * frequencies() @ moves.T / SIDE
    return np.concatenate([np.cos(angle), -np.sin(angle)]).astype(np.float32)


def _invariants_of(greys: list[np.ndarray]) -> np.ndarray:
    spectra, contrast = spectra_of(np.stack([small(grey) for grey in greys]))
    return invariants(normalised(spectra, contrast)).astype(np.float64)


def _moved(grey: np.ndarray, number: int) -> np.ndarray:
    """Shifted by two pixels (less where it is tiny) in one of six directions, the border repeated."""
    down, right = ((2, 2), (-2, 2), (2, -2), (-2, -2), (0, 2), (2, 0))[number % 6]
    height, width = grey.shape
    rows = np.clip(np.arange(height) - min(down, height // 8), 0, height - 1)
    columns = np.clip(np.arange(width) - min(right, width // 8), 0, width - 1)
    return grey[np.ix_(rows, columns)]


def _recompressed(grey: np.ndarray, number: int) -> np.ndarray:
    import cv2

    eight = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    _, coded = cv2.imencode(".jpg", eight, [cv2.IMWRITE_JPEG_QUALITY, 50])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), np.float32)


def _brightened(grey: np.ndarray, number: int) -> np.ndarray:
    """With a tenth more contrast, and white or both white and black clipped."""
    return np.clip(grey * np.float32(1.1) - (0, 12)[number % 2], 0, 255)
