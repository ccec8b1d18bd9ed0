"""From a mask of classes to numbered objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from podium.config_objects import Objects
from podium.data.chunk import NO_LABEL

FOREGROUND = "foreground"
"""What objects are called when all classes but the background count as one."""

DIP = 1.1
"""Between two centres the distance to the outside must fall by this many pixels: one missing pixel lets it fall by 1."""

_NOTHING, _UNKNOWN = -1, -2  # among kinds: background, and pixels that have no label
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
_SQUARE = np.ones((3, 3), bool)


@dataclass(frozen=True, eq=False)
class Found:
    """The objects of one image.

    numbers: int32 (H, W), 0 for no object, else 1..n in the order of their first pixels, row by row.
    kinds: int64 (n,), of each object the position of its name in ``kind_names``.
    """

    numbers: np.ndarray
    kinds: np.ndarray

    def __len__(self) -> int:
        return len(self.kinds)


def kind_names(settings: Objects, classes: Sequence[str], unscored: int | None) -> tuple[str, ...]:
    """What the objects are called: every class but the background in their order, or ``foreground`` alone."""
    if settings.of == "foreground":
        return (FOREGROUND,)
    background = background_of(unscored)
    return tuple(name for index, name in enumerate(classes) if index != background)


def background_of(unscored: int | None) -> int:
    """Index of the class without objects: the unscored one, or without one the first."""
    return 0 if unscored is None else unscored


def find(labels: np.ndarray, settings: Objects, classes: Sequence[str], unscored: int | None) -> Found:
    """Number the objects of a mask.

    labels: uint8 (H, W), class indices, or 255 where there is no label: such pixels belong to no object, and what
    borders on them is no hole. classes: names in the order of their indices. unscored: index of the class that is not scored, or None.
    In this order: holes are filled, connected pixels of one kind become an object, objects that get narrow in between
    are split (``watershed``), small ones are left out. Other values are a ValueError.
    """
    from skimage.measure import label

    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise ValueError(f"labels are {labels.dtype} {labels.shape}, expected uint8 (H, W)")
    if not labels.size:
        return Found(np.zeros(labels.shape, np.int32), np.zeros(0, np.int64))
    kinds = _kinds(labels, settings, len(classes), background_of(unscored))
    if settings.fill_holes:
        kinds = _filled(kinds, settings.connectivity)
    pieces = label(
        np.maximum(kinds, _NOTHING) - _NOTHING, background=0, connectivity=1 if settings.connectivity == 4 else 2
    )
    if settings.distance is not None:
        pieces = _split(pieces, settings.distance, _CROSS if settings.connectivity == 4 else _SQUARE)
    return _numbered(pieces, kinds, max(1, settings.min_area))


def _kinds(labels: np.ndarray, settings: Objects, classes: int, background: int) -> np.ndarray:
    """The kind of each pixel: its position among ``kind_names``, or -1 for the background, -2 without a label."""
    table = np.full(256, _UNKNOWN - 1, np.int16)
    table[NO_LABEL] = _UNKNOWN
    table[:classes] = 0 if settings.of == "foreground" else np.arange(classes) - (np.arange(classes) > background)
    table[background] = _NOTHING
    kinds = table[labels]
    if kinds.min() < _UNKNOWN:
        raise ValueError(f"labels hold values that are neither a class (0..{classes - 1}) nor {NO_LABEL}")
    return kinds


def _filled(kinds: np.ndarray, connectivity: int) -> np.ndarray:
    """``kinds`` with the background changed that one kind alone encloses; beyond the picture's edge nothing is known.

    Where a corner joins two pixels of an object it must part those of the background, and the other way round.
    """
    from scipy import ndimage

    structure = _CROSS if connectivity == 8 else _SQUARE
    space, count = ndimage.label(kinds == _NOTHING, structure)
    unknown = max(0, int(kinds.max())) + 1
    beside = np.zeros((count + 1, unknown + 1), bool)
    for here, there in _neighbours(structure):
        fence = (kinds[here] == _NOTHING) & (kinds[there] != _NOTHING)
        owner = kinds[there][fence]
        beside[space[here][fence], np.where(owner == _UNKNOWN, unknown, owner)] = True
    hole = (beside.sum(axis=1) == 1) & ~beside[:, unknown]
    for edge in (space[0], space[-1], space[:, 0], space[:, -1]):
        hole[edge] = False
    return np.where(hole[space], beside.argmax(axis=1)[space], kinds)


def _neighbours(structure: np.ndarray) -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """For each direction of a 3×3 structure, where pixels are and where their neighbours are."""
    cut = {-1: slice(None, -1), 0: slice(None), 1: slice(1, None)}
    steps = [(int(y) - 1, int(x) - 1) for y, x in np.argwhere(structure) if (y, x) != (1, 1)]
    return [((cut[-y], cut[-x]), (cut[y], cut[x])) for y, x in steps]


def _split(pieces: np.ndarray, distance: int, structure: np.ndarray) -> np.ndarray:
    """``pieces`` with each one cut between its centres; numbers need not be consecutive."""
    from scipy import ndimage

    out = pieces.copy()
    last = int(pieces.max())
    for number, (rows, columns) in enumerate(ndimage.find_objects(pieces), 1):
        if np.hypot(rows.stop - rows.start - 1, columns.stop - columns.start - 1) < distance:
            continue  # no room for two centres
        # With a border of what is outside, but none at the picture's edge: it cuts an object off and does not end it.
        window = (slice(max(0, rows.start - 1), rows.stop + 1), slice(max(0, columns.start - 1), columns.stop + 1))
        mask = pieces[window] == number
        parts = _parts(mask, distance, structure)
        if parts is not None:
            out[window][mask] = parts[mask] + last
            last += int(parts.max())
    return out


def _parts(mask: np.ndarray, distance: int, structure: np.ndarray) -> np.ndarray | None:
    """The parts 1..n of one connected object, bool (H, W); None where it has one centre.

    A centre is a top of the distance to the outside from which every way to another leads down by ``DIP`` or more (an
    h-maximum: Soille 2003, Morphological Image Analysis, chapter 6; a ridge is one top). Of tops whose middles are
    nearer to each other than ``distance`` the higher stays. Centres grow downhill until they meet (watershed, Beucher 1979).
    """
    from scipy import ndimage
    from skimage.morphology import local_maxima, reconstruction
    from skimage.segmentation import watershed

    if mask.all():
        return None
    depth = ndimage.distance_transform_edt(mask)
    # not by skimage's h_maxima, which takes two tops of the very same height for two however shallow the dip
    tops, count = ndimage.label(local_maxima(reconstruction(depth - DIP, depth)), _SQUARE)
    if count < 2:
        return None
    every = np.arange(1, count + 1)
    heights = ndimage.maximum(depth, tops, every)
    centres = np.array(ndimage.center_of_mass(tops > 0, tops, every))
    kept: list[int] = []
    for top in np.argsort(-heights, kind="stable"):
        if all(np.hypot(*(centres[top] - centres[other])) >= distance for other in kept):
            kept.append(int(top))
    if len(kept) < 2:
        return None
    markers = np.zeros(count + 1, np.int32)
    markers[every[kept]] = np.arange(1, len(kept) + 1)
    return np.asarray(watershed(-depth, markers[tops], connectivity=structure, mask=mask))


def _numbered(pieces: np.ndarray, kinds: np.ndarray, min_area: int) -> Found:
    """Pieces of at least ``min_area`` pixels, numbered by their first pixels."""
    values, first, inverse, areas = np.unique(pieces, return_index=True, return_inverse=True, return_counts=True)
    kept = np.flatnonzero((values > 0) & (areas >= min_area))
    kept = kept[np.argsort(first[kept])]
    new = np.zeros(len(values), np.int32)
    new[kept] = np.arange(1, len(kept) + 1)
    return Found(new[inverse].reshape(pieces.shape), kinds.reshape(-1)[first[kept]].astype(np.int64))
