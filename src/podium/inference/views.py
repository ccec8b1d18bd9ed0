"""Views: the orientations under which an image is predicted, and how the answers are turned back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
import ttach

View = tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]

POSITIONS = ("identity", "rot90", "rot180", "rot270", "hflip", "transpose", "vflip", "antitranspose")


@lru_cache
def views(names: tuple[str, ...]) -> list[View]:
    """For each name the pair (turn an image (B, C, H, W), turn its prediction back), from ttach's transforms."""
    # A flip, or none, and a number of quarter turns: all positions of a square. Quarter turns are counter-clockwise.
    positions = list(ttach.Compose([ttach.HorizontalFlip(), ttach.Rotate90([0, 90, 180, 270])]))
    by_name = dict(zip(POSITIONS, positions, strict=True))
    return [(by_name[name].augment_image, by_name[name].deaugment_mask) for name in names]


def turn(images: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
    """All views of a batch in one batch: (B, C, H, W) → (V * B, C, H, W)."""
    return torch.cat([there(images) for there, _ in views(tuple(names))])


def turn_back(predictions: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
    """The mean over views of what was predicted on ``turn``'s batch: (V * B, C, H, W) → (B, C, H, W)."""
    turned = zip(views(tuple(names)), predictions.chunk(len(names)), strict=True)
    (_, back), piece = next(turned)
    total = back(piece) / len(names)  # a tensor of its own: what is added below must not reach ``predictions``
    for (_, back), piece in turned:
        total.add_(back(piece), alpha=1 / len(names))
    return total
