"""Making corrupted copies in a process of its own, so that the one that asks for them need not import torch."""

from __future__ import annotations

from functools import partial

from podium.corruptions.copies import Order, Say, make
from podium.engines.apart import work_apart


def make_apart(order: Order, say: Say) -> None:
    """``make`` in a spawned process, which hands on what there is to say, and the sentence of a UserError."""
    work_apart(partial(make, order), say, "corrupted copies")
