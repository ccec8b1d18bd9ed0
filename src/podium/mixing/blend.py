"""CutMix and MixUp: which samples are mixed with what, and the boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from podium.augment.draws import Chosen
from podium.config_mix import CutMix, MixUp
from podium.mixing.paste import chosen


def draw_blends(
    settings: Sequence[CutMix | MixUp],
    kept: int,
    n: int,
    batch: int,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> list[Chosen]:
    """Which samples of an epoch of ``n`` are mixed in which way, at most one each, and with what.

    kept: pieces of the rarest class to choose from; where there are none, nothing is done ``of: rarest``. Values:
    partner, a kept piece or another place of the batch; share of the partner, float32; of CutMix also the height and
    width of its box, its top and left, how far below and right of its corner the pixel lies that it is laid around, and
    a number to choose that pixel by.
    """
    chance = rng.random(n)
    drawn, reached = [], 0.0
    for mix in settings:
        at = np.flatnonzero((chance >= reached) & (chance < reached + mix.p))
        reached += mix.p
        if not (kept if takes_kept(mix) else batch > 1):
            at = at[:0]
        many = len(at)
        another = (at + rng.integers(1, max(2, batch), many)) % batch
        values = {"partner": rng.integers(0, max(1, kept), many) if takes_kept(mix) else another}
        if isinstance(mix, MixUp):
            share = rng.beta(mix.alpha, mix.alpha, many)
        else:
            side = np.sqrt(rng.uniform(*mix.area, many))
            height, width = (np.clip(np.rint(side * length), 1, length).astype(np.int64) for length in size)
            share = height * width / (size[0] * size[1])
            values |= {
                "height": height,
                "width": width,
                "top": rng.integers(0, size[0] - height + 1),
                "left": rng.integers(0, size[1] - width + 1),
                "below": rng.integers(0, height),
                "right": rng.integers(0, width),
                "pixel": rng.integers(0, 1 << 31, many),
            }
        drawn.append(chosen(at, values | {"share": share.astype(np.float32)}))
    return drawn


def takes_kept(mix: CutMix | MixUp) -> bool:
    """Whether its partners are kept pieces rather than samples of the batch."""
    return isinstance(mix, CutMix) and mix.of == "rarest"


def box(drawn: Chosen, height: int, width: int) -> torch.Tensor:
    """The boxes that were drawn, bool (n, height, width)."""
    return _box(drawn, drawn.values["top"], drawn.values["left"], height, width)


def box_around(drawn: Chosen, targets: torch.Tensor, label: int) -> torch.Tensor:
    """Boxes of the sizes that were drawn, each around a random pixel of class ``label`` of its own targets (n, H, W).

    The pixel lies anywhere in its box, which is moved to lie within the image; empty where the class is not there.
    bool (n, H, W).
    """
    value, (height, width) = drawn.values, targets.shape[1:]
    seen = (targets == label).flatten(1).cumsum(1, dtype=torch.int32)
    count = seen[:, -1]
    rank = (value["pixel"] % count.clamp(min=1)).int()
    # the first pixel by which more than ``rank`` of the class have been seen; no number leaves the device for it
    pixel = torch.searchsorted(seen, rank[:, None], right=True)[:, 0]
    top = torch.minimum((pixel // width - value["below"]).clamp(min=0), height - value["height"])
    left = torch.minimum((pixel % width - value["right"]).clamp(min=0), width - value["width"])
    return _box(drawn, top, left, height, width) & (count > 0)[:, None, None]


def _box(drawn: Chosen, top: torch.Tensor, left: torch.Tensor, height: int, width: int) -> torch.Tensor:
    y, x = (torch.arange(length, device=top.device) for length in (height, width))
    bottom, right = top + drawn.values["height"], left + drawn.values["width"]
    down = (y >= top[:, None]) & (y < bottom[:, None])
    across = (x >= left[:, None]) & (x < right[:, None])
    return down[:, :, None] & across[:, None, :]
