"""Part: named rows of a competition (train, test, later corrupted copies and pseudo-labelled rows)."""

from __future__ import annotations

from dataclasses import dataclass

from podium.data.ragged import Ragged


@dataclass(frozen=True, eq=False)
class Part:
    """Images with, for training, their targets.

    images: uint8, (C, H, W) per id.
    targets: uint8 class indices, (1, H, W) per id, 255 where there is no label; None for a test part.
    data_id: hash of the files and of how they were read; part of every result's identity.
    """

    name: str
    images: Ragged
    targets: Ragged | None
    data_id: str

    def __post_init__(self) -> None:
        if self.targets is not None and (self.targets.ids != self.images.ids).any():
            raise ValueError(f"{self.name}: images and targets have different ids")

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Dataset:
    """What a competition gives: a training part and a test part, read from one place."""

    train: Part
    test: Part

    @property
    def data_id(self) -> str:
        """Hash of the files and of how they were read."""
        return self.train.data_id
