"""Labels images with a blend of trained nets. Needs numpy and onnxruntime, and the files beside this one.

settings.json says which nets there are, how each looks at an image, and how their answers become one label.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent
VIEWS = {
    "identity": (False, 0),
    "rot90": (False, 1),
    "rot180": (False, 2),
    "rot270": (False, 3),
    "hflip": (True, 0),
    "transpose": (True, 1),
    "vflip": (True, 2),
    "antitranspose": (True, 3),
}
"""How an image is turned: mirrored left to right first, then by so many quarter turns counter-clockwise."""


class Model:
    """The blend. After ``Model()``, ``predict`` takes any number of images; memory does not grow with it."""

    def __init__(self) -> None:
        self.settings = json.loads((HERE / "settings.json").read_text(encoding="utf-8"))
        self.batch = self.settings["batch"]
        self.geometric = self.settings["mean"] == "geometric"
        factors = self.settings["factors"]
        self.factors = None if factors is None else np.array(factors, np.float32)
        self.members = [Member(member) for member in self.settings["models"]]

    def predict(self, X: Any) -> np.ndarray:
        """int64 labels (n,) of images X (n, height, width, channels), any number type, values on the scale of the files.

        The most probable class; of equal ones the first. Images of another size are a ValueError.
        """
        images = self._images(X)
        labels = np.empty(len(images), np.int64)
        for start in range(0, len(images), self.batch):
            scores = self._scores(images[start : start + self.batch])
            labels[start : start + self.batch] = self._weighed(scores).argmax(1)
        return labels

    def probabilities(self, X: Any) -> np.ndarray:
        """float32 (n, classes): the blend's probabilities, before what the decoding does to them."""
        images = self._images(X)
        found = np.empty((len(images), len(self.settings["classes"])), np.float32)
        for start in range(0, len(images), self.batch):
            scores = self._scores(images[start : start + self.batch])
            if self.geometric:
                scores = np.exp(scores)
                scores = scores / scores.sum(1, keepdims=True)
            found[start : start + self.batch] = scores
        return found

    def _images(self, X: Any) -> np.ndarray:
        """X as an array, after a look at its shape and type."""
        images = np.asarray(X)
        shape = tuple(self.settings["image"]["shape"])
        if images.shape == (0,):  # an empty list
            return np.empty((0, *shape), np.uint8)
        if shape[-1] == 1 and images.ndim == 3:  # grey images may come without channels
            images = images[..., None]
        if images.shape[1:] != shape or images.ndim != 4:
            raise ValueError(f"X has the shape {images.shape}, expected (n, {', '.join(map(str, shape))})")
        if images.dtype.kind not in "buif":
            raise ValueError(f"X holds values of type {images.dtype}, expected integers or floats")
        return images

    def _scores(self, images: np.ndarray) -> np.ndarray:
        """float32 (b, classes) of images (b, height, width, channels): the weighted mean, or its logarithm where geometric."""
        x = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
        x = x * np.float32(1 / self.settings["image"]["scale"])
        total = np.zeros((len(images), len(self.settings["classes"])), np.float32)
        for member in self.members:
            found = member.probabilities(x)
            if self.geometric:
                found = np.log(np.maximum(found, np.float32(self.settings["floor"])))
            total += found * np.float32(member.weight)
        return total

    def _weighed(self, scores: np.ndarray) -> np.ndarray:
        """The scores with the decoding's factors of the classes in them."""
        if self.factors is None:
            return scores
        return scores + np.log(self.factors) if self.geometric else scores * self.factors


class Member:
    """One model of the blend: the nets of its folds, which are averaged, and the views under which each sees an image."""

    def __init__(self, settings: Any) -> None:
        self.weight, self.views = settings["weight"], settings["views"]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        self.nets = [
            onnxruntime.InferenceSession(str(HERE / name), options, providers=["CPUExecutionProvider"])
            for name in settings["nets"]
        ]

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """float32 (b, classes): the mean over nets and views of images x (b, channels, height, width) in about 0..1."""
        total = np.float32(0)
        for view in self.views:
            seen = turned(x, view)
            for net in self.nets:
                total = total + net.run(None, {"images": seen})[0]
        return np.asarray(total / np.float32(len(self.views) * len(self.nets)))


def turned(x: np.ndarray, view: str) -> np.ndarray:
    """Images (b, channels, height, width) as a view shows them."""
    mirrored, quarters = VIEWS[view]
    x = x[..., ::-1] if mirrored else x
    return np.ascontiguousarray(np.rot90(x, quarters, (2, 3)))
