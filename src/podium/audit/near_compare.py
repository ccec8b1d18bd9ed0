"""Whether one picture is a copy of another: what is left of their difference when all that copying does is taken out.

Two pictures, the second turned to match, are laid over each other at the shift where they correlate best; a brightness
and contrast that fit, clipped as pixels are, are taken out; the rest is transformed (DCT) and measured against the
rounding steps of a JPEG of quality 50 (the luminance table of ITU-T T.81, annex K), frequency by frequency. A copy

- leaves no more than such a recompression leaves, though two digits may correlate at 0.99 and still leave more;
- shares far more than chance would, though two dark and empty pictures leave little of anything.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cache

import numpy as np

from podium.audit.near_brightness import tiles, unexplained
from podium.audit.near_pictures import TURNS, Pictures, luma
from podium.audit.near_shift import best_shift, margin
from podium.cores import cores

RESIDUAL = 1.5
"""Mean square of what is left, in units of JPEG's rounding error. Quality 50 leaves up to 1.2 on digits and 0.5 on
photographs; among 60,000 different digits eight pairs leave less than this, and about a hundred less than 2.5."""
COARSE = 30.0
"""The same of the low frequencies alone, wherever they are cut off above their first octave, so that smooth pictures
must agree too. Quality 50 leaves up to 22 on digits, 10 on photographs; different smooth pictures leave hundreds."""
CORRELATION = 0.55
"""Mean correlation over rings of frequencies, each with the weight of what JPEG keeps of it. Copies of quality 50 reach
0.74 on dark rover pictures and 0.92 on others; different pictures that leave little of anything stay below 0.5."""
EVIDENCE = 60.0
"""Natural logarithm of how much likelier a copy is than another picture of the same spectrum. 2e12 comparisons (5e9
pairs, eight orientations, dozens of shifts) take 28 to make up for."""
SPOT = 8.0
"""Grey values by which the brightness of an area of 8 × 8 pixels may differ, so that a thing that only one picture has
parts the two, however alike the rest is. JPEG of quality 50 reaches 5."""
COLOUR = 6.0
"""Grey values by which colours of such areas may differ on the whole; JPEG of quality 50 reaches 2.6."""
_SLOPES = (0.5, 2.0)  # contrast of a copy, in that of the original
_ASPECT = 1.03  # ratio of height to width may differ by so much where sizes differ
_WORTH = 0.5  # plain correlation at the best shift below which the rest is not looked at
_ROUGH = 8.0  # grey values by which tiles may differ in the mean square, and areas by three times as many; copies
# whose colours are clipped reach 5 and 14
_FLOOR = 0.05  # share of JPEG's error below which nothing counts as evidence
_BLOCK = 1 << 20  # pixels compared at once per thread
_STEPS = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)


@dataclass(frozen=True, eq=False)
class Likeness:
    """How alike the pictures of each pair are, float32 (P,): see the constants of this module.

    Pairs that cannot be copies (other shapes, no common ground) have an infinite residual and 0 elsewhere.
    """

    residual: np.ndarray
    coarse: np.ndarray
    correlation: np.ndarray
    evidence: np.ndarray
    spot: np.ndarray
    colour: np.ndarray

    @classmethod
    def none(cls, count: int) -> Likeness:
        """Of pairs that cannot be copies."""
        out = cls(*(np.zeros(count, np.float32) for _ in fields(cls)))
        out.residual[:] = np.inf
        return out

    def put(self, places: np.ndarray, other: Likeness, which: np.ndarray | slice = slice(None)) -> None:
        """Overwrite the pairs at ``places`` with ``which`` of another."""
        for field in fields(self):
            getattr(self, field.name)[places] = getattr(other, field.name)[which]

    def copies(self, slack: float = 1.0) -> np.ndarray:
        """bool (P,): pairs that are copies, or, with a slack of 2, may be copies of one third picture."""
        return (
            (self.residual <= RESIDUAL * slack)
            & (self.coarse <= COARSE * slack)
            & (self.correlation >= CORRELATION / np.sqrt(slack))
            & (self.evidence >= EVIDENCE / slack)
            & (self.spot <= SPOT * slack)
            & (self.colour <= COLOUR * slack)
        )


def compare(
    pictures: Pictures,
    first: np.ndarray,
    second: np.ndarray,
    orientation: np.ndarray,
    reach: int = 1,
    progress: Callable[[float], None] | None = None,
) -> Likeness:
    """Compare pictures in pairs of rows, (P,) each, the second turned by ``orientation`` (P,).

    reach: 2 where both may be shifted copies of a third, and so lie twice as far apart. progress: called with the share
    that is done.
    """
    out = Likeness.none(len(first))
    shapes: dict[tuple[int, int, int], list[int]] = {}
    for pair, (a, b, turned) in enumerate(zip(first.tolist(), second.tolist(), orientation.tolist(), strict=True)):
        shape = _common_shape(pictures, a, b, turned)
        if shape is not None:
            shapes.setdefault(shape, []).append(pair)
    blocks = []
    for (channels, height, width), pairs in shapes.items():
        step = max(1, _BLOCK // (channels * height * width))
        blocks += [((height, width), np.array(pairs[i : i + step])) for i in range(0, len(pairs), step)]

    def work(block: tuple[tuple[int, int], np.ndarray]) -> None:
        size, pairs = block
        out.put(pairs, _compare_block(pictures, first[pairs], second[pairs], orientation[pairs], size, reach))

    with ThreadPoolExecutor(cores()) as pool:
        for done, _ in enumerate(pool.map(work, blocks), 1):
            if progress:
                progress(done / len(blocks))
    return out


def _common_shape(pictures: Pictures, first: int, second: int, orientation: int) -> tuple[int, int, int] | None:
    """Channels and size in which two pictures are compared; None where they differ in shape."""
    channels, others = len(pictures.raw(first)), len(pictures.raw(second))
    height, width = pictures.size(first)
    high, wide = pictures.size(second)
    if TURNS[orientation][0]:
        high, wide = wide, high
    if max(height * wide, width * high) > _ASPECT * min(height * wide, width * high):
        return None
    return channels if channels == others else 1, min(height, high), min(width, wide)


def _compare_block(
    pictures: Pictures,
    first: np.ndarray,
    second: np.ndarray,
    orientation: np.ndarray,
    size: tuple[int, int],
    reach: int,
) -> Likeness:
    """Compare pairs of one common size."""
    out = Likeness.none(len(first))
    worth, ours, theirs = _lay_over(pictures, first, second, orientation, size, reach)
    if len(worth) == 0:
        return out
    rough = _roughly(ours, theirs, reach)
    worth, ours, theirs = worth[rough], ours[rough], theirs[rough]
    if len(worth) == 0:
        return out
    found = _differ(ours, theirs)
    # Clipping can only be taken out from the side that was not clipped, so a pair that fails is tried the other way.
    failed = np.flatnonzero(~found.copies())
    if len(failed):
        back = _differ(theirs[failed], ours[failed])
        better = back.copies() | (back.residual < found.residual[failed])
        found.put(failed[better], back, better)
    out.put(worth, found)
    return out


def _lay_over(
    pictures: Pictures,
    first: np.ndarray,
    second: np.ndarray,
    orientation: np.ndarray,
    size: tuple[int, int],
    reach: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs that correlate at all, and the part (C, h, w) that both pictures of each have in common."""
    ours = _stack([pictures.read(row, size) for row in first.tolist()])
    pairs = list(zip(second.tolist(), orientation.tolist(), strict=True))
    theirs = _stack([pictures.read(row, size, turned) for row, turned in pairs])
    if ours.shape[1] != theirs.shape[1]:
        ours, theirs = luma(ours)[:, None], luma(theirs)[:, None]
    down, right, plain = best_shift(luma(ours), luma(theirs), reach)
    worth = np.flatnonzero(plain >= _WORTH)
    for i in worth.tolist():
        # A picture that was averaged down moved by parts of a pixel: it is moved back before it is averaged.
        row, turned = pairs[i]
        stored = pictures.raw(row).shape[1:][:: -1 if TURNS[turned][0] else 1]
        scale = (stored[0] / size[0], stored[1] / size[1])
        offset = (round(down[i] * scale[0]), round(right[i] * scale[1]))
        if max(scale) > 1 and offset != (0, 0):
            moved = pictures.read(row, size, turned, offset)
            theirs[i] = moved if len(moved) == theirs.shape[1] else luma(moved)[None]
            down[i] = right[i] = 0
    tall, wide = margin(size[0], reach), margin(size[1], reach)
    height, width = size[0] - 2 * tall, size[1] - 2 * wide
    common = np.empty((len(worth), ours.shape[1], height, width), np.float32)
    for place, i in enumerate(worth.tolist()):
        top, left = round(down[i]) + tall, round(right[i]) + wide
        common[place] = theirs[i, :, top : top + height, left : left + width]
    return worth, ours[worth, :, tall : tall + height, wide : wide + width], common


def _roughly(first: np.ndarray, second: np.ndarray, reach: int) -> np.ndarray:
    """bool (n,): pairs that agree in brightness within wide limits when seen from afar, which is quickly told."""
    near, far = (tiles(luma(pixels))[:, None] for pixels in (first, second))
    agree = np.zeros(len(first), bool)
    for one, other in ((near, far), (far, near)):
        left = unexplained(one, other, tile=1)[1]
        spots = np.abs(_neighbours(left[:, 0])).max(axis=(1, 2))
        agree |= (np.mean(left * left, axis=(1, 2, 3)) <= (_ROUGH * reach) ** 2) & (spots <= 3 * _ROUGH * reach)
    return agree


def _stack(pixels: list[np.ndarray]) -> np.ndarray:
    """One array; where pictures differ in their channels, only brightness is left."""
    if len({len(picture) for picture in pixels}) > 1:
        pixels = [luma(picture)[None] for picture in pixels]
    return np.stack(pixels)


def _differ(first: np.ndarray, second: np.ndarray) -> Likeness:
    """Measure what is left of the second (n, C, h, w) when what the first explains is taken out."""
    from scipy.fft import dctn

    count, channels, height, width = first.shape
    slope, left = unexplained(first, second)
    # In the grey values of the picture with more contrast, lest a faint one count as near to everything.
    left /= np.clip(slope, *_SLOPES).clip(max=1)[:, None, None, None]
    grey = luma(left)
    steps = tolerance(height, width)
    ours, theirs, rest = (dctn(plane, axes=(1, 2), norm="ortho") / steps for plane in (luma(first), luma(second), grey))
    ours[:, 0, 0] = theirs[:, 0, 0] = 0
    residual = np.einsum("nhw,nhw->n", rest, rest) / (height * width)
    residual[(slope < _SLOPES[0]) | (slope > _SLOPES[1])] = np.inf
    member = rings(height, width)
    size = np.bincount(member)

    def per_ring(values: np.ndarray) -> np.ndarray:
        order = np.argsort(member, kind="stable")
        starts = np.concatenate([[0], np.cumsum(size)[:-1]])
        return np.add.reduceat(values.reshape(count, -1)[:, order], starts, axis=1, dtype=np.float64) / size

    own, other, cross = per_ring(ours * ours), per_ring(theirs * theirs), per_ring(ours * theirs)
    left_over = per_ring(rest * rest)
    below = np.cumsum(left_over * size, axis=1) / np.cumsum(size)
    coarse = below[:, min(2, len(size) - 1) :].max(axis=1)
    evidence = (size / 2 * np.log((own + other + _FLOOR) / (left_over + _FLOOR))).sum(axis=1)
    weight = size * (own / (own + 1)) * (other / (other + 1))
    alike = cross / np.sqrt(np.maximum(own * other, 1e-12))
    correlation = (weight * alike).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-12)
    areas = _areas(left)
    brightness = luma(areas)
    spot = np.abs(brightness).max(axis=(1, 2))
    colour = np.sqrt(np.mean((areas - brightness[:, None]) ** 2, axis=(1, 2, 3))) if channels > 1 else np.zeros(count)
    measures = (residual, coarse, correlation, evidence, spot, colour)
    return Likeness(*(np.asarray(values, np.float32) for values in measures))


def _areas(values: np.ndarray) -> np.ndarray:
    """Means (..., i, j) over areas of 8 × 8 pixels that overlap by half, of (..., h, w); smaller where h or w are."""
    return _neighbours(tiles(values))


def _neighbours(means: np.ndarray) -> np.ndarray:
    """Means over every two rows and two columns that are neighbours."""
    if means.shape[-2] > 1:
        means = (means[..., 1:, :] + means[..., :-1, :]) / 2
    return (means[..., 1:] + means[..., :-1]) / 2 if means.shape[-1] > 1 else means


@cache
def tolerance(height: int, width: int) -> np.ndarray:
    """float32 (h, w): standard deviation of JPEG's rounding at quality 50 in each coefficient of a DCT of that size.

    The table of 8 × 8 is made symmetrical, since pictures may be turned, and interpolated between its frequencies.
    """
    steps = (_STEPS + _STEPS.T) / 2
    grid = np.arange(8)
    rows, columns = (np.minimum(8 * np.arange(length) / length, 7) for length in (height, width))
    wide = np.stack([np.interp(columns, grid, line) for line in steps])
    whole = np.stack([np.interp(rows, grid, line) for line in wide.T], axis=1)
    return np.asarray(whole / np.sqrt(12), np.float32)


@cache
def rings(height: int, width: int) -> np.ndarray:
    """int64 (h × w,): ring of frequencies that each coefficient of a DCT belongs to, two to the octave, none empty."""
    cycles = np.hypot(np.arange(height)[:, None] / height, np.arange(width) / width) * np.sqrt(height * width)
    octave = np.floor(2 * np.log2(np.maximum(cycles, 1))).astype(np.int64)
    return np.unique(octave.reshape(-1), return_inverse=True)[1].reshape(-1)
