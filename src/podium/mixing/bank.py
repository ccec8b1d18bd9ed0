"""What is pasted and mixed in from outside a batch: a few pieces and areas of the rarest class, kept on the device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

LIMIT = 64 << 20
"""Bytes that a bank may take; it keeps fewer then."""
KEPT = 256
"""Whole pieces that are kept at most."""
Read = Callable[[int], tuple[np.ndarray, np.ndarray]]
"""A training piece by its number: image (C, H, W) as stored, and target uint8 (H, W), or (1, 1) for a label."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """Whole training pieces that hold a class: images (N, C, H, W) as stored; targets uint8 (N, H, W), or (N, 1, 1)."""

    images: torch.Tensor
    targets: torch.Tensor


@dataclass(frozen=True, eq=False)
class Areas:
    """Connected areas of a class, each in the upper left corner of a canvas that the largest one fills.

    images: (N, C, h, w) as stored. alpha: uint8 (N, h, w), how much of it is seen: 255 on the area itself and only there.
    sizes: int64 (N, 2) on the CPU, each area's height and width without the margin. margin: pixels around every area.
    label: its class.
    """

    images: torch.Tensor
    alpha: torch.Tensor
    sizes: np.ndarray
    margin: int
    label: int


def evenly(sizes: np.ndarray, most: int) -> np.ndarray:
    """Numbers of at most ``most`` of the items, ascending: at even distances in the order of their sizes.

    Of n items, that order's places (i + 1/2) n / most, rounded down; equal ones stand as they came.
    """
    order = np.argsort(sizes, kind="stable")
    if len(order) > most:
        order = order[((2 * np.arange(most) + 1) * len(order)) // (2 * most)]
    return np.sort(order)


def pieces(read: Read, held: np.ndarray, device: torch.device, limit: int = LIMIT) -> Pieces | None:
    """Some of the pieces that hold a class, by how much of it they hold; None where none does.

    held: its pixels (or labels) in each training piece, (N,).
    """
    numbers = np.flatnonzero(held)
    if not len(numbers):
        return None
    image, target = read(int(numbers[0]))
    chosen = numbers[evenly(held[numbers], _room(KEPT, image.nbytes + target.nbytes, limit))]
    images = np.empty((len(chosen), *image.shape), image.dtype)
    targets = np.empty((len(chosen), *target.shape), target.dtype)
    for place, number in enumerate(chosen.tolist()):
        images[place], targets[place] = read(number)
    return Pieces(torch.from_numpy(images).to(device), torch.from_numpy(targets).to(device))


def areas(
    read: Read, held: np.ndarray, label: int, most: int, edge: float, device: torch.device, limit: int = LIMIT
) -> Areas | None:
    """Some of the areas of class ``label``, by their size; None where there is none. held: as of ``pieces``.

    Pixels that touch, corners included, are one area. It is looked for in as many pieces as areas are kept, which bounds
    time and memory however many pieces there are. Around an area alpha falls as 1 - d / (edge + 1), d the distance to
    it; what lies beyond its own image is that image's last row or column.
    """
    numbers = np.flatnonzero(held)
    numbers = numbers[evenly(held[numbers], most)].tolist()
    if not numbers:
        return None
    found = np.concatenate([_found(number, read(number)[1] == label) for number in numbers])
    margin = math.ceil(edge)
    height, width = (int(found[:, axis].max()) + 2 * margin for axis in (4, 5))
    image, _ = read(numbers[0])
    each = height * width * (len(image) * image.itemsize + 1)
    found = found[evenly(found[:, 6], _room(most, each, limit))]
    height, width = (int(found[:, axis].max()) + 2 * margin for axis in (4, 5))
    images = np.zeros((len(found), len(image), height, width), image.dtype)
    alpha = np.zeros((len(found), height, width), np.uint8)
    read_last = -1
    for place, (number, component, top, left, rows, columns, _) in enumerate(found.tolist()):
        if number != read_last:
            image, target = read(number)
            image = np.pad(image, ((0, 0), (margin, margin), (margin, margin)), mode="edge")
            _, components, _ = _connected(target == label)
            read_last = number
        rows, columns = rows + 2 * margin, columns + 2 * margin
        images[place, :, :rows, :columns] = image[:, top : top + rows, left : left + columns]
        own = np.pad(components == component, margin)[top : top + rows, left : left + columns]
        alpha[place, :rows, :columns] = _fading(own, edge)
    return Areas(torch.from_numpy(images).to(device), torch.from_numpy(alpha).to(device), found[:, 4:6], margin, label)


def _room(most: int, each: int, limit: int) -> int:
    return min(most, max(1, limit // each))


def _connected(inside: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """The number of components, the outside included; who is where, (H, W); and (left, top, width, height, pixels) of each."""
    import cv2

    count, components, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=8)
    return count, components, stats


def _found(number: int, inside: np.ndarray) -> np.ndarray:
    """A row per component: piece, component, top, left, height, width, pixels."""
    count, _, stats = _connected(inside)
    columns = [np.full(count, number), np.arange(count), *(stats[:, k] for k in (1, 0, 3, 2, 4))]
    return np.stack(columns, axis=1)[1:].astype(np.int64)


def _fading(inside: np.ndarray, edge: float) -> np.ndarray:
    """uint8, 255 inside and less around it, down to 0 at a distance of ``edge`` + 1."""
    import cv2

    distance = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.clip(np.rint(255 * (1 - distance / (edge + 1))), 0, 255).astype(np.uint8)
