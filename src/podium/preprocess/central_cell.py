"""The object in the middle of a picture: found by its colour and isolated from what surrounds it."""

from __future__ import annotations

import cv2
import numpy as np

from podium.config_preprocess import CentralCell
from podium.preprocess.values import like

FEATHER = 0.03
MARGIN = 0.1

RING = 0.05
"""Width of the border that the background's colour is read from, as a share of the shorter side."""

SMOOTHING = 0.01
"""Blur before thresholds are set, as a share of the longer side; 1 pixel at least."""

CENTRE = 0.25
"""An object further from the middle than this share of the longer side is not the central one."""

HOLE = 0.02
"""Holes up to this share of the picture belong to the object (vacuoles, pale nuclei); a ring of neighbours leaves larger ones."""

CONTRAST = 0.02
"""The most different pixel must be this share of the range of values away from the background, or there is no object."""

NOISE = 3.0
"""Nor is there one where the object's threshold is not this many times the noise of neighbouring pixels."""

EDGE = 0.5
"""Nor where it covers more than this share of the picture's edge: that is a background wrongly estimated."""

_PAIRS = np.triu_indices(255, 1)[0] + 1, np.triu_indices(255, 1)[1] + 1
"""All pairs 1 ≤ first < second ≤ 255 of bins at which the second and the third class begin."""


def isolate(image: np.ndarray, settings: CentralCell) -> np.ndarray:
    """Fade everything but the central object to the background's colour, or crop to the object.

    image: (C, H, W), uint8, uint16 or float32. ``soft`` leaves the object's pixels as they are; outside, the weight of
    the picture falls linearly to 0 over the feather. ``crop`` cuts to the object's box plus the margin, widened to the
    picture's own proportions, so that a later resize does not stretch some objects more than others.
    The picture is returned as it is where no object is found (see ``central_object``).
    """
    found = central_object(image, settings.min_area, settings.neck)
    if found is None:
        return image
    if settings.mode == "crop":
        top, bottom, left, right = box(found, MARGIN if settings.margin is None else settings.margin)
        return image[:, top:bottom, left:right].copy()
    reach = (FEATHER if settings.feather is None else settings.feather) * max(found.shape)
    away = _distance_to(found)
    weight = np.clip(1 - away / reach, 0, 1) if reach > 0 else found.astype(np.float64)
    colour = background_colour(_smooth(image)).reshape(-1, 1, 1)
    return like(colour + (image - colour) * weight, image)


def central_object(image: np.ndarray, min_area: float, neck: float) -> np.ndarray | None:
    """bool (H, W): the pixels of the object in the middle of ``image`` (C, H, W); None where nothing is convincing.

    Pixels are judged by how far their colour is from the background's. Otsu's method for three classes gives two
    thresholds: what lies above the upper one (a nucleus, say) and nearest to the middle is the core. Around it the
    object reaches as far as pixels above the lower one do (its cytoplasm), but not across bridges thinner than
    ``neck`` times its own thickness, behind which a touching neighbour begins. The core itself is never cut, since the
    lobes of a nucleus hang together by threads. Small holes are filled. Where the class in between is nothing but the
    blur of the core's rim, the object ends half-way between background and core.
    """
    smooth = _smooth(image)
    distance = colour_distance(smooth, background_colour(smooth))
    peak = float(distance.max())
    if peak <= CONTRAST * _span(image):
        return None
    low, high = two_thresholds(distance / peak)
    if high * peak <= NOISE * _noise(image):
        return None
    core = _nearest_to_centre(distance > high * peak, min_area)
    if core is None:
        return None
    if not _has_body((distance > low * peak) & (distance <= high * peak), _sigma(image)):
        low = float(np.median(distance[core])) / peak / 2
    found = _without_neighbours(_fill_holes((distance > low * peak) | core), core, neck)
    edge = np.concatenate([found[0], found[-1], found[1:-1, 0], found[1:-1, -1]])
    return None if edge.mean() > EDGE else found


def background_colour(smooth: np.ndarray) -> np.ndarray:
    """float64 (C,): the commonest colour along the border of a picture (C, H, W) that has been smoothed.

    Commonest by grey value, then the median of those pixels: neighbours that reach into the border vary more than the
    background does, so that it wins even where it is the smaller part.
    """
    ring = np.ones(smooth.shape[1:], bool)
    width = max(1, round(RING * min(ring.shape)))
    ring[width:-width, width:-width] = False
    pixels = smooth[:, ring]
    grey = pixels.mean(axis=0)
    low, high = float(grey.min()), float(grey.max())
    if high > low:
        bins = np.minimum(((grey - low) * (64 / (high - low))).astype(np.int64), 63)
        commonest = np.convolve(np.bincount(bins, minlength=64), [1, 2, 1], "same").argmax()
        pixels = pixels[:, abs(bins - commonest) <= 1]
    return np.median(pixels, axis=1)


def colour_distance(smooth: np.ndarray, background: np.ndarray) -> np.ndarray:
    """float64 (H, W): how far each pixel of (C, H, W) is from the background (C,); what differs in colour counts twice.

    The square of the distance is the mean square difference of the channels plus the variance of the differences,
    which is 0 where all channels differ by the same and a pixel is merely darker or lighter.
    """
    apart = smooth - background.reshape(-1, 1, 1)
    return np.sqrt((apart**2).mean(axis=0) + apart.var(axis=0))


def two_thresholds(values: np.ndarray) -> tuple[float, float]:
    """Otsu's thresholds between three classes of ``values`` in 0..1 (Otsu 1979), to 1/256."""
    bins = np.minimum((values * 256).astype(np.int64), 255)
    counts = np.bincount(bins.ravel(), minlength=256).astype(np.float64)
    n = np.concatenate([[0], np.cumsum(counts)])
    total = np.concatenate([[0], np.cumsum(counts * np.arange(256))])
    first, second = _PAIRS
    between = _squares(n[first], total[first])
    between += _squares(n[second] - n[first], total[second] - total[first])
    between += _squares(n[256] - n[second], total[256] - total[second])
    best = between == between.max()  # more than one pair where bins are empty: the middle of the gap
    return float(first[best].mean()) / 256, float(second[best].mean()) / 256


def box(found: np.ndarray, margin: float) -> tuple[int, int, int, int]:
    """top, bottom, left, right (ends exclusive) around True pixels, with a margin and the proportions of the picture."""
    height, width = found.shape
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    tall, wide = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    extra = 2 * round(margin * max(tall, wide))
    share = min(1.0, max((tall + extra) / height, (wide + extra) / width))
    top, bottom = _around(int(rows[0]), int(tall), round(share * height), height)
    left, right = _around(int(columns[0]), int(wide), round(share * width), width)
    return top, bottom, left, right


def _around(start: int, length: int, wanted: int, limit: int) -> tuple[int, int]:
    begin = min(max(0, start - (wanted - length) // 2), limit - wanted)
    return begin, begin + wanted


def _squares(n: np.ndarray, total: np.ndarray) -> np.ndarray:
    return total**2 / np.maximum(n, 1)


def _span(image: np.ndarray) -> float:
    return float(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else float(abs(image).max())


def _sigma(image: np.ndarray) -> float:
    return max(1.0, SMOOTHING * max(image.shape[1:]))


def _smooth(image: np.ndarray) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(channel.astype(np.float64), (0, 0), _sigma(image)) for channel in image])


def _noise(image: np.ndarray) -> float:
    """What is left of the pixels' noise after smoothing, from the median difference of neighbours."""
    if image.shape[2] < 2:
        return 0.0
    steps = np.abs(np.diff(image.astype(np.float64), axis=2))
    single = np.sqrt(np.mean([np.median(channel) ** 2 for channel in steps])) * 1.4826 / np.sqrt(2)
    return float(single / (2 * np.sqrt(np.pi) * _sigma(image)))


def _has_body(mask: np.ndarray, sigma: float) -> bool:
    """Whether some part of ``mask`` is thicker than the rim that a blur by ``sigma`` pixels makes."""
    return bool((_distance_to(~mask) > 2 * sigma).any())


def _nearest_to_centre(above: np.ndarray, min_area: float) -> np.ndarray | None:
    """The connected part that holds the middle or comes nearest to it, small parts and far ones left out."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(above.astype(np.uint8), connectivity=4)
    height, width = above.shape
    rows, columns = np.mgrid[:height, :width]
    away = np.hypot(rows - (height - 1) / 2, columns - (width - 1) / 2)
    nearest = np.full(count, np.inf)
    np.minimum.at(nearest, labels.astype(np.int64).ravel(), away.ravel())
    nearest[0] = np.inf
    nearest[statistics[:, cv2.CC_STAT_AREA] < min_area * above.size] = np.inf
    best = int(nearest.argmin())
    return labels == best if nearest[best] <= CENTRE * max(above.shape) else None


def _fill_holes(mask: np.ndarray) -> np.ndarray:
    """``mask`` with small gaps closed that touch no edge of the picture."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    left, top = statistics[:, cv2.CC_STAT_LEFT], statistics[:, cv2.CC_STAT_TOP]
    right, bottom = left + statistics[:, cv2.CC_STAT_WIDTH], top + statistics[:, cv2.CC_STAT_HEIGHT]
    inner = (left > 0) & (top > 0) & (right < mask.shape[1]) & (bottom < mask.shape[0])
    hole = inner & (statistics[:, cv2.CC_STAT_AREA] <= HOLE * mask.size)
    return mask | hole[labels]


def _without_neighbours(mask: np.ndarray, core: np.ndarray, neck: float) -> np.ndarray:
    """The part of ``mask`` around ``core``, cut where it is thinner than ``neck`` times its thickness at the core.

    An opening with a disc, written with distances: shrink by that much, keep what the core holds on to, grow back.
    """
    if mask.all():
        return mask
    # the picture's edge cuts an object off, it does not end it: only pixels that are not in the mask make it thin
    thickness = _distance_to(~mask)
    cut = neck * float(thickness[core].max())
    _, labels = cv2.connectedComponents((thickness > cut).astype(np.uint8), connectivity=4)
    held = np.isin(labels, np.setdiff1d(labels[core], [0]))
    # half a pixel more, since distances are measured from centre to centre
    return _fill_holes((mask & (_distance_to(held) <= cut + 0.5)) | core) if neck else held


def _distance_to(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest True one, in pixels; 0 on them."""
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float64)
