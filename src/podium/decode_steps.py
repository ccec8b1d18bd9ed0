"""The steps of a decoding that can be chosen: factors of the classes, and what is done to the shapes in a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np

Name = Literal["points", "bias", "threshold", "fill_holes", "closing", "opening", "min_area", "largest"]
NAMES: tuple[Name, ...] = get_args(Name)
"""In the order in which they are done."""
SHAPES: tuple[Name, ...] = ("fill_holes", "closing", "opening", "min_area", "largest")
"""Steps that change the shapes of one class."""


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
    assert step.of is not None
    mask = (label == step.of).astype(np.uint8)
    if not mask.any():
        return
    if step.name in ("fill_holes", "closing"):
        gained = _holes(mask, step.value[0]) if step.name == "fill_holes" else _closed(mask, step.value[0]) > mask
        label[gained] = step.of
        return
    lost = _lost(mask, step)
    if lost.any():
        others = score[:, lost].copy()
        others[step.of] = -np.inf
        label[lost] = others.argmax(0)


def _holes(mask: np.ndarray, most: float) -> np.ndarray:
    """Pixels (bool) of holes of at most so many pixels, 0 for any."""
    count, areas, boxes, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4, ltype=cv2.CV_32S)
    left, top, width, height, area = boxes.T
    inside = (left > 0) & (top > 0) & (left + width < mask.shape[1]) & (top + height < mask.shape[0])
    inside[0] = False  # label 0 is the mask itself
    if most:
        inside &= area <= most
    return np.asarray(inside[areas]) if count > 1 else np.zeros(mask.shape, bool)


def _closed(mask: np.ndarray, radius: float) -> np.ndarray:
    edge = int(radius)
    # with room around it, or what lies within the radius of the image's edge would grow out to it
    padded = cv2.copyMakeBorder(mask, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, _disc(radius))
    return np.asarray(closed[edge:-edge, edge:-edge])


def _disc(radius: float) -> np.ndarray:
    reach = np.arange(-int(radius), int(radius) + 1)
    return np.asarray(reach[:, None] ** 2 + reach**2 <= radius**2 + 0.5, np.uint8)


def _lost(mask: np.ndarray, step: Step) -> np.ndarray:
    """Pixels (bool) of the mask that a step gives up."""
    if step.name == "opening":
        return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(step.value[0])) < mask)
    count, areas, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
    area = boxes[:, cv2.CC_STAT_AREA]
    small = np.zeros(count, bool)
    if step.name == "min_area":
        small[1:] = area[1:] < step.value[0]
    elif count > 2:
        small[1:] = True
        small[1 + int(area[1:].argmax())] = False
    return np.asarray(small[areas])
