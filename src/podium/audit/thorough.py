"""The slow half of the search for odd images: an autoencoder's error, and the odd parts looked for everywhere else.

A small convolutional autoencoder learns what most images look like; what it draws badly is odd, and where it draws
badly says which part. That part, and every picture that occurs repeatedly, is then looked for in all other images.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
import torch
from torch import nn

from podium.audit.features import average, batches
from podium.audit.outliers import standardise
from podium.cores import cores
from podium.data.ragged import Ragged
from podium.randomness import stream

SIZE = 32  # pixels per side that the autoencoder sees
STEPS, BATCH, WIDTH, CODE = 400, 64, 8, 16  # more of any of these found no more of the planted images
SIDE = 96  # pixels of the longer side at which templates are looked for
SCALES = tuple(2 ** (step / 2) for step in range(-3, 4))  # of a template, 0.35 to 2.8
LEAST, APART = 0.6, 5.0  # a match correlates at least so much, and so many robust deviations more than the median image
FLAT = 4.0  # of 255; a window of less deviation is noise, which correlates with anything
TEMPLATES, CANDIDATES = 8, 32  # odd parts that become templates, out of how many of the oddest images
_SMALLEST = 6  # pixels of a template's side; smaller ones are found everywhere
Box = tuple[int, int, int, int]  # top, left, bottom, right in pixels, the last two excluded


@dataclass(frozen=True)
class Odd:
    """An image that the autoencoder draws badly: how far out its error lies, in robust deviations, and where it is."""

    id: str
    score: float
    box: Box


@dataclass(frozen=True)
class Template:
    """Content that was looked for: the image, its part, why it, and in how many other images no template fits better."""

    id: str
    box: Box
    reason: str
    found: int


@dataclass(frozen=True)
class Match:
    """An image that holds a template's content: the id of the template's image, the correlation there, and the place."""

    id: str
    template: str
    score: float
    box: Box


@dataclass(frozen=True, eq=False)
class Thorough:
    """Odd images, the oddest first; the templates that were found; the matches, best first, one per image.

    scores: float64 (N,), the autoencoder's error of all images in their order, in robust deviations.
    """

    odd: tuple[Odd, ...]
    templates: tuple[Template, ...]
    matches: tuple[Match, ...]
    scores: np.ndarray


def thorough(images: Ragged, copies: Sequence[Sequence[str]] = (), seed: int = 0, listed: int = 100) -> Thorough:
    """Rank images by an autoencoder's error and look for odd and repeated content in all of them.

    images: (C, H, W) of any dtype and size. copies: ids of equal images, as ``describe`` gives them; each picture
    counts once, and those that occur three times or more become templates as a whole. These are lists for people to
    look at; nothing should be dropped by them alone.
    """
    if not len(images):
        return Thorough((), (), (), np.zeros(0))
    groups = [[images.index[name] for name in group] for group in copies]
    copies_of = {group[0]: group for group in groups}
    again = {row for group in groups for row in group[1:]}
    kept = np.array([row for row in range(len(images)) if row not in again], np.int64)
    errors = reconstruction_errors(images, kept, seed)
    odd_parts = np.square(errors, dtype=np.float64).mean(axis=(1, 2)) ** 0.25  # a small odd part counts for more
    scores = np.zeros(len(images))
    scores[kept] = standardise(odd_parts[kept])
    for group in groups:
        scores[group] = scores[group[0]]
    order = sorted(kept.tolist(), key=lambda row: (-odd_parts[row], str(images.ids[row])))
    boxes = {row: _box(errors[row], images.shapes[row]) for row in order[: max(listed, CANDIDATES)]}
    odd = tuple(Odd(str(images.ids[row]), float(scores[row]), boxes[row]) for row in order[:listed])

    search = _Search(images)
    for group in islice(sorted(groups, key=lambda rows: (-len(rows), rows)), TEMPLATES):
        if len(group) > 2:
            _, height, width = images.shapes[group[0]].tolist()
            search.add(group, (0, 0, height, width), f"occurs {len(group)} times")
    whole = len(search.templates)
    for row in order[:CANDIDATES]:
        # What an earlier template found would only be looked for twice.
        if len(search.templates) - whole < TEMPLATES and row not in search.best:
            search.add(copies_of.get(row, [row]), boxes[row], "odd part")
    return Thorough(odd, *search.result(), scores)


# ---------------------------------------------------------------- the autoencoder


def reconstruction_errors(images: Ragged, rows: np.ndarray, seed: int = 0) -> np.ndarray:
    """Train the autoencoder on ``rows`` and return its squared error on every image, float32 (N, 32, 32).

    Images are averaged over areas to 32 × 32 and standardised per channel; the error is the mean over the channels.
    Where they differ in channels, only grey counts. 400 steps of 64 images, whatever their number.
    """
    small = _small(images)
    centre = small[rows].mean(axis=(0, 2, 3), keepdims=True)
    small = (small - centre) / np.maximum(small[rows].std(axis=(0, 2, 3), keepdims=True), 1e-6)
    generator = torch.Generator().manual_seed(stream("autoencoder", seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream("autoencoder weights", seed))
        net = _net(small.shape[1])
    optimizer = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=STEPS)
    known = torch.from_numpy(rows)
    pixels = torch.from_numpy(small)
    for _ in range(STEPS):
        batch = pixels[known[torch.randint(len(known), (BATCH,), generator=generator)]]
        loss = (net(batch) - batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return torch.cat([(net(batch) - batch).square().mean(dim=1) for batch in pixels.split(512)]).numpy()


def _net(channels: int) -> nn.Module:
    """Three halvings, a code of 16 numbers, three doublings."""
    cells, wide = (SIZE // 8) ** 2, 4 * WIDTH
    return nn.Sequential(
        *(nn.Conv2d(channels, WIDTH, 3, 2, 1), nn.ReLU()),
        *(nn.Conv2d(WIDTH, 2 * WIDTH, 3, 2, 1), nn.ReLU()),
        *(nn.Conv2d(2 * WIDTH, wide, 3, 2, 1), nn.ReLU(), nn.Flatten()),
        nn.Linear(wide * cells, CODE),
        *(nn.Linear(CODE, wide * cells), nn.ReLU(), nn.Unflatten(1, (wide, SIZE // 8, SIZE // 8))),
        *(nn.Upsample(scale_factor=2), nn.Conv2d(wide, 2 * WIDTH, 3, 1, 1), nn.ReLU()),
        *(nn.Upsample(scale_factor=2), nn.Conv2d(2 * WIDTH, WIDTH, 3, 1, 1), nn.ReLU()),
        *(nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, channels, 3, 1, 1)),
    )


def _small(images: Ragged) -> np.ndarray:
    """All images averaged over areas, float32 (N, C, 32, 32)."""
    same = bool((images.shapes[:, 0] == images.shapes[0, 0]).all())
    out = np.zeros((len(images), int(images.shapes[0, 0]) if same else 1, SIZE, SIZE), np.float32)
    for rows, stack in batches(images):
        pixels = np.nan_to_num(stack.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        out[rows] = average(pixels if same else pixels.mean(axis=1, keepdims=True), SIZE, SIZE)
    return out


def _box(error: np.ndarray, shape: np.ndarray) -> Box:
    """Where the error concentrates, in the image's own pixels: what hangs together around its peak, a third as high."""
    smooth = cv2.GaussianBlur(error, (0, 0), 1.0)
    peak = np.unravel_index(int(smooth.argmax()), smooth.shape)
    _, parts = cv2.connectedComponents((smooth >= 0.3 * smooth.max()).astype(np.uint8), connectivity=4)
    down, across = np.nonzero(parts == parts[peak])
    height, width = int(shape[1]), int(shape[2])
    top, bottom = int(down.min()) * height // SIZE, -(-(int(down.max()) + 1) * height // SIZE)
    left, right = int(across.min()) * width // SIZE, -(-(int(across.max()) + 1) * width // SIZE)
    return top, left, bottom, right


# ---------------------------------------------------------------- templates


class _Search:
    """All images in grey at a reduced scale, and the best match in each so far."""

    def __init__(self, images: Ragged) -> None:
        self.images = images
        self.factors = np.minimum(1.0, SIDE / images.shapes[:, 1:].max(axis=1))
        with ThreadPoolExecutor(cores()) as pool:
            self.pictures = list(pool.map(self._reduce, range(len(images))))
        self.templates: list[tuple[int, Box, str]] = []
        self.best: dict[int, tuple[float, int, Box]] = {}  # by row: score, number of the template, place

    def add(self, rows: list[int], box: Box, reason: str) -> None:
        """Look for a part of the first of ``rows`` (copies of one picture) in all other images."""
        top, left, bottom, right = (round(edge * self.factors[rows[0]]) for edge in box)
        patch = self.pictures[rows[0]][top:bottom, left:right]
        if min(patch.shape) < _SMALLEST or patch.std() < FLAT:
            return
        number = len(self.templates)
        self.templates.append((rows[0], box, reason))
        patches = [_resize(patch, scale) for scale in SCALES]
        patches = [scaled for scaled in patches if min(scaled.shape) >= _SMALLEST]
        others = [row for row in range(len(self.pictures)) if row not in set(rows)]
        with ThreadPoolExecutor(cores()) as pool:
            found = list(pool.map(lambda row: _best(self.pictures[row], patches), others))
        scores = np.array([score for score, _ in found])
        if not len(scores):
            return
        spread = 1.4826 * float(np.median(np.abs(scores - np.median(scores))))
        limit = max(LEAST, float(np.median(scores)) + APART * spread)
        for row, (score, place) in zip(others, found, strict=True):
            if score >= limit and score > self.best.get(row, (0.0,))[0]:
                self.best[row] = score, number, self._own(row, place)

    def result(self) -> tuple[tuple[Template, ...], tuple[Match, ...]]:
        """Templates that were found, in their order, and the matches, best first."""
        name = self.images.ids.tolist()
        found = [sum(number == best[1] for best in self.best.values()) for number in range(len(self.templates))]
        templates = tuple(
            Template(name[row], box, reason, count)
            for (row, box, reason), count in zip(self.templates, found, strict=True)
            if count
        )
        matches = [
            Match(name[row], name[self.templates[n][0]], score, box) for row, (score, n, box) in self.best.items()
        ]
        return templates, tuple(sorted(matches, key=lambda match: (-match.score, match.id)))

    def _reduce(self, row: int) -> np.ndarray:
        """One image as uint8 (h, w), stretched to the full range: correlation does not care, rounding does."""
        grey = np.nan_to_num(self.images[row].mean(axis=0, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        if self.factors[row] < 1:
            grey = _resize(grey, float(self.factors[row]))
        least, greatest = float(grey.min()), float(grey.max())
        return np.rint((grey - least) * (255 / max(greatest - least, 1e-12))).astype(np.uint8)

    def _own(self, row: int, place: Box) -> Box:
        """A place in the reduced picture in the image's own pixels."""
        top, left, bottom, right = (round(edge / self.factors[row]) for edge in place)
        return top, left, min(bottom, int(self.images.shapes[row, 1])), min(right, int(self.images.shapes[row, 2]))


def _resize(picture: np.ndarray, scale: float) -> np.ndarray:
    height, width = (max(1, round(length * scale)) for length in picture.shape)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _best(picture: np.ndarray, patches: list[np.ndarray]) -> tuple[float, Box]:
    """The highest normalised correlation of any of the patches anywhere in the picture, and where; 0 for none."""
    best, place = 0.0, (0, 0, 0, 0)
    for patch in patches:
        height, width = patch.shape
        if height > picture.shape[0] or width > picture.shape[1]:
            continue
        scores = cv2.matchTemplate(picture, patch, cv2.TM_CCOEFF_NORMED)
        _, score, _, (left, top) = cv2.minMaxLoc(scores)
        while score > best and picture[top : top + height, left : left + width].std() < FLAT:
            scores[top, left] = -1
            _, score, _, (left, top) = cv2.minMaxLoc(scores)
        if score > best:
            best, place = float(score), (top, left, top + height, left + width)
    return best, place
