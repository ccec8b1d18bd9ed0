"""Batched augmentation on the device, after either source: one set of random parameters per sample."""

from podium.augment.batch import augment, draw
from podium.augment.draws import Draws

__all__ = ["Draws", "augment", "draw"]
