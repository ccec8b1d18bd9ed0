"""The steps of a decoding that can be chosen: factors of the classes, and what is done to the shapes in a mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

import cv2
import numpy as np

Name = Literal["points", "bias", "threshold", "fill_holes", "closing", "opening", "min_area", "largest"]
NAMES: tuple[Name, ...] = get_args(Name)
"""In the order in which they are done."""
SHAPES: tuple[Name, ...] = ("fill_holes", "closing", "opening", "min_area", "largest")
"""Steps that change the shapes of one class."""
_NONE = np.zeros(0, np.int64)
_NOWHERE = np.zeros((0, 1), bool)


@dataclass(frozen=True)
class Step:
    """One step. of: index of the class that it is about, None for all.

    - ``points``: of questions and grades, see ``decode.finish``.
    - ``bias``: logarithms of a factor per class, by which probabilities are multiplied before the largest one is taken.
    - ``threshold``: of two classes, the share of the second above which it is taken, instead of one half.
    - ``fill_holes``: what the class encloses becomes the class, up to an area in pixels, 0 for any; a hole that touches the
      image's edge is none.
    - ``closing``, ``opening``: with a disc of so many pixels' radius.
    - ``min_area``: connected areas of fewer pixels (eight neighbours) are given up.
    - ``largest``: all connected areas but the largest are given up.

    Pixels that are given up become the next most probable class.
    """

    name: Name
    of: int | None = None
    value: tuple[float, ...] = ()

    def to_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """For decode.json: with the class by name."""
        named = {} if self.of is None else {"class": classes[self.of]}
        return {"step": self.name, **named, "value": list(self.value)}

    @classmethod
    def from_json(cls, raw: dict[str, Any], classes: Sequence[str]) -> Step:
        """The inverse of ``to_json``; further keys are left alone."""
        of = classes.index(raw["class"]) if "class" in raw else None
        return cls(raw["step"], of, tuple(raw["value"]))


def factors(steps: Sequence[Step], classes: int) -> np.ndarray | None:
    """Factor of each class's probability, float32 (C,); None where no step has any."""
    total: np.ndarray | None = None
    for step in steps:
        if step.name == "bias":
            found = np.exp(np.asarray(step.value, np.float64))
        elif step.name == "threshold":
            found = np.ones(classes)
            assert step.of is not None
            found[step.of] = (1 - step.value[0]) / step.value[0]
        else:
            continue
        total = found if total is None else total * found
    return None if total is None else total.astype(np.float32)


def reshaped(labels: np.ndarray, scores: np.ndarray, steps: Sequence[Step]) -> np.ndarray:
    """``labels`` (B, H, W) after the steps that change shapes; scores (B, C, H, W) tell what is next most probable.

    What is given is not changed.
    """
    todo = [step for step in steps if step.name in SHAPES]
    if not todo:
        return labels
    labels = labels.astype(np.uint8)
    for label, score in zip(labels, scores, strict=True):
        for step in todo:
            _reshape(label, score, step)
    return labels


def _reshape(label: np.ndarray, score: np.ndarray, step: Step) -> None:
    """One step on one image, in place."""
    ((at, told),) = changes(label, score, [step])
    label.reshape(-1)[at] = told


def changes(
    label: np.ndarray, score: np.ndarray, steps: Sequence[Step]
) -> Iterator[tuple[np.ndarray, np.ndarray | int]]:
    """What each of ``steps``, the same one with different values, would do to one image: flat indices, and their new labels.

    label: uint8 (H, W), contiguous. score: (C, H, W). What several values need is calculated once, and of the image only the
    part that holds the class is looked at.
    """
    name, of = steps[0].name, steps[0].of
    assert of is not None
    values = [step.value[0] for step in steps]
    mask = np.asarray(label == of, np.uint8)
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        yield from [(_NONE, _NONE)] * len(steps)
        return
    # what surrounds the class eats into it, what lies beyond the image's edge does not
    room = int(max(values)) if name == "opening" else 0
    up, low = max(0, top - room), max(0, left - room)
    mask = np.ascontiguousarray(mask[up : top + height + room, low : left + width + room])
    flat = score.reshape(len(score), -1)
    for found in _changed(mask, name, values):
        rows, columns = np.divmod(np.flatnonzero(found), found.shape[1])
        at = (rows + up) * label.shape[1] + columns + low
        if name in ("fill_holes", "closing"):
            yield at, of
            continue
        others = flat[:, at]
        others[of] = -np.inf
        yield at, others.argmax(0)


def _changed(mask: np.ndarray, name: Name, values: Sequence[float]) -> Iterator[np.ndarray]:
    """Pixels (bool) that a step with each of ``values`` adds to a mask or takes from it."""
    match name:
        case "fill_holes":
            yield from _holes(mask, values)
        case "closing":
            yield from (_closed(mask, radius) > mask for radius in values)
        case "opening":
            yield from (cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(radius)) < mask for radius in values)
        case _:
            yield from _islands(mask, name, values)


def _holes(mask: np.ndarray, most: Sequence[float]) -> Iterator[np.ndarray]:
    """Pixels (bool) of holes of at most so many pixels, 0 for any. mask: no larger than what it holds, so that what touches
    its edge is open to what surrounds it."""
    _, areas, boxes, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4, ltype=cv2.CV_32S)
    left, top, width, height, area = boxes.T
    inside = (left > 0) & (top > 0) & (left + width < mask.shape[1]) & (top + height < mask.shape[0])
    inside[0] = False  # label 0 is the mask itself
    for limit in most:
        yield _of_areas(areas, inside & (area <= limit) if limit else inside)


def _closed(mask: np.ndarray, radius: float) -> np.ndarray:
    edge = int(radius)
    # with room around it, or what lies within the radius of the image's edge would grow out to it
    padded = cv2.copyMakeBorder(mask, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, _disc(radius))
    return np.asarray(closed[edge:-edge, edge:-edge])


@cache
def _disc(radius: float) -> np.ndarray:
    reach = np.arange(-int(radius), int(radius) + 1)
    return np.asarray(reach[:, None] ** 2 + reach**2 <= radius**2 + 0.5, np.uint8)


def _islands(mask: np.ndarray, name: Name, values: Sequence[float]) -> Iterator[np.ndarray]:
    """Pixels (bool) of connected areas that are given up: of fewer than so many pixels, or all but the largest."""
    count, areas, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
    area = boxes[:, cv2.CC_STAT_AREA]
    for least in values:
        small = area < least if name == "min_area" else np.arange(count) != 1 + int(area[1:].argmax())
        small[0] = False  # what surrounds them
        yield _of_areas(areas, small)


def _of_areas(areas: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Pixels (bool) of ``chosen`` ones, bool (count,), of numbered areas (H, W)."""
    return np.take(chosen, areas) if chosen.any() else _NOWHERE
