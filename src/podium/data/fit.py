"""Images of any size through a net of one size, and predictions back to each image's own: resize, pad or tiles."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from podium.config_data import FitSettings
from podium.cores import cores
from podium.data.chunk import NO_LABEL
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.errors import UserError

OVERLAP = 0.25
"""Share that neighbouring tiles have in common where ``fit.overlap`` does not say."""
LOWEST = 1e-3
"""What a tile's window falls to at its edge: more than nothing, since at an image's border no other tile covers it."""


@dataclass(frozen=True)
class Fit:
    """A working size (height, width) and how images come to it; ``same`` where all have it already."""

    size: tuple[int, int]
    how: Literal["same", "resize", "pad", "tiles"]
    overlap: float = OVERLAP

    def images(self, part: Part, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pieces (M, C, h, w) of the rows' images, one after the other, and how many each row has, (n,)."""
        if self.how == "same":
            return np.ascontiguousarray(part.images.stacked[rows]), np.ones(len(rows), np.int64)
        pieces = self._all(part.images, rows, False)
        none = np.empty((0, part.channels, *self.size), part.images.values.dtype)
        return np.concatenate([none, *pieces]), np.array([len(piece) for piece in pieces], np.int64)

    def piece(self, part: Part, row: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        """One piece of one row: image (C, h, w) and target (h, w), or as it is what is no mask."""
        assert part.targets is not None
        name = str(part.images.ids[row])
        target = part.targets[row]
        image = self._pieces(part.images[row], False, name)[number]
        return image, self._pieces(target, True, name)[number, 0] if part.masks else target[0]

    def count(self, part: Part, rows: np.ndarray) -> int:
        """How many pieces the rows' images become."""
        if self.how != "tiles":
            return len(rows)
        return sum(len(self._places(height, width)) for height, width in part.images.shapes[rows, 1:].tolist())

    def targets(self, part: Part, rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Targets of the same pieces: uint8 masks (M, h, w), 255 where a piece reaches beyond its image; or (M, K, 1) of the
        whole image, in the dtype that they have."""
        assert part.targets is not None
        if not part.masks:
            return np.repeat(part.targets.stacked[rows, 0], counts, axis=0)
        if self.how == "same":
            return np.ascontiguousarray(part.targets.stacked[rows, 0])
        pieces = self._all(part.targets, rows, True)
        return np.concatenate([np.empty((0, *self.size), np.uint8), *(piece[:, 0] for piece in pieces)])

    def unfit(self, pieces: np.ndarray, height: int, width: int) -> np.ndarray:
        """Predictions of one image's pieces, float32 (k, C, h, w) → (C, height, width); of what is no mask, (k, C, K, 1) →
        (C, K, 1), the mean."""
        if pieces.shape[2:] != self.size:
            return np.asarray(pieces.mean(0))
        if self.how == "same" or (self.how == "resize" and (height, width) == self.size):
            return pieces[0]
        if self.how == "resize":
            return _resize(pieces[0], (height, width))
        frame = tuple(max(own, net) for own, net in zip((height, width), self.size, strict=True))
        top, left = ((outer - inner) // 2 for outer, inner in zip(frame, (height, width), strict=True))
        total = np.zeros((pieces.shape[1], *frame), np.float32)
        weight = np.zeros(frame, np.float32)
        window = _window(self.size) if len(pieces) > 1 else np.ones(self.size, np.float32)
        for (y, x), piece in zip(self._places(height, width), pieces, strict=True):
            inside = np.s_[y : y + self.size[0], x : x + self.size[1]]
            total[:, inside[0], inside[1]] += piece * window
            weight[inside] += window
        return (total / weight)[:, top : top + height, left : left + width]

    def _all(self, items: Ragged, rows: np.ndarray, target: bool) -> list[np.ndarray]:
        with ThreadPoolExecutor(cores()) as pool:
            return list(pool.map(lambda row: self._pieces(items[int(row)], target, str(items.ids[row])), rows))

    def _pieces(self, item: np.ndarray, target: bool, name: str) -> np.ndarray:
        """(C, H, W) → (k, C, h, w)."""
        height, width = item.shape[1:]
        if self.how == "same":
            return item[None]
        if self.how == "resize":
            return _resize(item, self.size, nearest=target)[None]
        if self.how == "pad" and (height > self.size[0] or width > self.size[1]):
            raise UserError(
                f"id '{name}': is {height} x {width}, larger than data.fit.size {self.size[0]} x {self.size[1]}; set a "
                "larger size, or fit.how: tiles or resize"
            )
        around = [(0, 0)] + [
            ((rest := max(0, net - own)) // 2, rest - rest // 2)
            for own, net in zip((height, width), self.size, strict=True)
        ]
        filled = {"constant_values": NO_LABEL} if target else {"mode": "symmetric"}
        framed = np.pad(item, around, **filled)
        places = self._places(height, width)
        return np.stack([framed[:, y : y + self.size[0], x : x + self.size[1]] for y, x in places])

    def _places(self, height: int, width: int) -> list[tuple[int, int]]:
        """Upper left corners of the pieces in the image, padded to at least the working size; as even as may be."""
        starts = []
        for own, net in zip((height, width), self.size, strict=True):
            room = max(0, own - net)
            steps = -(-room // max(1, int(net * (1 - self.overlap)))) if self.how == "tiles" else 0
            starts.append([round(room * i / steps) for i in range(steps + 1)] if steps else [0])
        return [(y, x) for y in starts[0] for x in starts[1]]


def plan_fit(parts: Sequence[Part], settings: FitSettings | None) -> Fit:
    """How the images of all ``parts`` come to one size; images of several sizes without settings are a UserError."""
    sizes = {tuple(size) for part in parts for size in np.unique(part.images.shapes[:, 1:], axis=0).tolist()}
    if settings is None:
        if len(sizes) > 1:
            some = ", ".join(f"{height} x {width}" for height, width in sorted(sizes)[:3])
            raise UserError(
                f"data.fit: images have {len(sizes)} sizes ({some}, ...), a net needs one; add for example "
                "fit: {size: [128, 128], how: resize} to the competition's data"
            )
        ((height, width),) = sizes
        return Fit((height, width), "same")
    if settings.how == "pad":
        for part in parts:
            too_large = np.flatnonzero((part.images.shapes[:, 1:] > settings.size).any(axis=1))
            if len(too_large):
                _, height, width = part.images.shapes[too_large[0]].tolist()
                raise UserError(
                    f"data.fit: {part.name} image '{part.images.ids[too_large[0]]}' is {height} x {width}, larger than "
                    f"size {settings.size[0]} x {settings.size[1]}, and so are {len(too_large) - 1} more; set a larger "
                    "size, or how: tiles or resize"
                )
    if sizes == {settings.size}:
        return Fit(settings.size, "same")
    return Fit(settings.size, settings.how, OVERLAP if settings.overlap is None else settings.overlap)


def _resize(item: np.ndarray, size: tuple[int, int], nearest: bool = False) -> np.ndarray:
    """(C, H, W) → (C, *size): areas averaged where it shrinks, linear where it grows; class indices by the nearest."""
    import cv2

    height, width = size
    if nearest:
        ways = [((width, height), cv2.INTER_NEAREST_EXACT)]
    else:  # first the sides that shrink, then those that grow: OpenCV averages only where both shrink
        small = min(width, item.shape[2]), min(height, item.shape[1])
        ways = [(small, cv2.INTER_AREA), ((width, height), cv2.INTER_LINEAR)]
    channels = []
    for channel in item:
        channel = np.ascontiguousarray(channel)
        for to, way in ways:
            if to != channel.shape[::-1]:
                channel = cv2.resize(channel, to, interpolation=way)
        channels.append(channel)
    return np.stack(channels)


@lru_cache(maxsize=4)
def _window(size: tuple[int, int]) -> np.ndarray:
    """A smooth hill (h, w), highest in the middle, so that seams between tiles cannot be seen."""
    down, across = (np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in size)
    return np.maximum(np.outer(down, across), LOWEST).astype(np.float32)
