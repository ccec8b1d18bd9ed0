"""The streamed source: images are read, cut to size and changed one by one in reading processes, a few batches ahead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from podium.augment_per_image import PerImage
from podium.config_augment import AugmentSettings
from podium.training.source import Source

AHEAD = 4
"""Batches that each reading process may be ahead."""
Wanted = tuple[int, int]


class Streamed(Source):
    """Reads what an epoch draws from the memory-mapped data, in ``readers`` processes (0: in this one).

    Memory does not grow with the number of images. settings: of them ``per_image`` is done here, before the batch exists.
    """

    def __init__(self, *arguments: Any, settings: AugmentSettings, readers: int = 0, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._sampler = _Sampler()
        self._loader: DataLoader[tuple[torch.Tensor, torch.Tensor]] = DataLoader(
            _Pieces(self, settings),
            batch_sampler=self._sampler,
            num_workers=readers,
            pin_memory=self.device.type == "cuda",
            prefetch_factor=AHEAD if readers else None,
            persistent_workers=readers > 0,
        )

    def sample(self, count: int) -> torch.Tensor:
        images, _, _ = self.read(self.rows[:count])
        return torch.from_numpy(images[:count]).to(self.device)

    def _take(self, first: int, images: np.ndarray, targets: np.ndarray) -> None:
        """Nothing is kept."""

    def _batches(self, order: torch.Tensor, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        # the seed of an image depends on its place in the epoch, so that one drawn twice is not changed alike
        wanted = [(piece, (seed + place) % (1 << 63)) for place, piece in enumerate(order.tolist())]
        self._sampler.batches = [wanted[at : at + self.batch] for at in range(0, len(wanted), self.batch)]
        for images, targets in self._loader:
            yield images.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)


class _Sampler(Sampler[list[Wanted]]):
    """The batches of the epoch at hand; the loader asks anew at each epoch's start."""

    def __init__(self) -> None:
        self.batches: list[list[Wanted]] = []

    def __iter__(self) -> Iterator[list[Wanted]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Pieces(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Piece by number, and the seed of what is done to it."""

    def __init__(self, source: Source, settings: AugmentSettings) -> None:
        self.read = source.reader
        self.change = PerImage(settings.per_image) if settings.per_image else None

    def __getitem__(self, wanted: Wanted) -> tuple[torch.Tensor, torch.Tensor]:
        piece, seed = wanted
        image, target = self.read(piece)
        if self.change is not None:
            image, target = self.change(image, target, seed)
        # copies: what is mapped cannot be written to, of which torch warns in every reading process
        return torch.from_numpy(np.array(image, order="C")), torch.from_numpy(np.array(target, order="C"))
