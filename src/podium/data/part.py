"""Part: named rows of a competition (train, test, later corrupted copies and pseudo-labelled rows)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from podium.data.ragged import Ragged

SCALE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""What a pixel is divided by on its way to a net."""


@dataclass(frozen=True, eq=False)
class Part:
    """Images with, for training, their targets.

    images: uint8, uint16 or float32, (C, H, W) per id.
    targets: uint8 class indices, (1, H, W) masks or (1, 1, 1) labels per id, 255 where there is no label; (1, K, 1) of 0
    and 1 where K questions are asked; float32 (1, 1, 1) of numbers. None for a test part. data_id: hash of
    the files and of all that was done to them; part of every result's identity.
    groups: unicode (N,), which rows belong together by the competition's own account; None where it does not say.
    """

    name: str
    images: Ragged
    targets: Ragged | None
    data_id: str
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.targets is not None and (self.targets.ids != self.images.ids).any():
            raise ValueError(f"{self.name}: images and targets have different ids")
        if self.groups is not None and len(self.groups) != len(self.images):
            raise ValueError(f"{self.name}: {len(self.groups)} groups for {len(self.images)} images")

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def masks(self) -> bool:
        """Whether its targets are as large as its images: masks, which move with them."""
        return self.targets is not None and bool((self.targets.shapes[:, 1:] == self.images.shapes[:, 1:]).all())

    @property
    def channels(self) -> int:
        """Channels of its images."""
        return int(self.images.shapes[0, 0])

    @property
    def scale(self) -> float:
        """What its pixels are divided by to lie in about 0..1."""
        return SCALE[self.images.values.dtype.name]


@dataclass(frozen=True, eq=False)
class Dataset:
    """What a competition gives: a training part and, where there is one, a test part, read from one place.

    source_id: hash of the files and of how they were read, before any preprocessing; the fold file is made for it.
    skipped: what was left out as unreadable, a sentence each.
    """

    train: Part
    test: Part | None
    source_id: str
    skipped: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its parts, the training part first."""
        return (self.train,) if self.test is None else (self.train, self.test)

    @property
    def data_id(self) -> str:
        """Hash of the files, of how they were read and of the preprocessing."""
        return self.train.data_id
