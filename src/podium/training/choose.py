"""Which source serves a training: what has room is kept on the device, the rest is streamed."""

from __future__ import annotations

import numpy as np
import torch

from podium.config import Competition, Recipe
from podium.cores import cores, free_memory
from podium.data.fit import Fit
from podium.data.part import Part
from podium.errors import UserError
from podium.training.machine import Machine
from podium.training.source import Resident, Source

SHARE = 0.4
"""Of the device's free memory that training images may take; the rest is for nets, activations and other workers."""


def make_source(
    part: Part, rows: np.ndarray, fit: Fit, competition: Competition, recipe: Recipe, machine: Machine
) -> Source:
    """The source of a fold's training rows: resident where it fits and nothing is done image by image.

    ``machine.source`` may ask for one of them; ``resident`` with ``augment.per_image`` is a UserError.
    """
    device, settings = machine.torch_device, recipe.augment
    train = recipe.train
    rates = train.rarest_rate, train.rarest_rate_end
    arguments = (part, rows, fit, competition, rates[0], train.batch, device, rates[1], recipe.mix)
    if machine.source == "resident" and settings.per_image:
        raise UserError(
            f"--source resident: recipe '{recipe.name}' has augment.per_image, which is done while images are read; use "
            "--source auto"
        )
    itemsize = part.images.values.itemsize
    needed = fit.count(part, rows) * int(np.prod(fit.size)) * (part.channels * itemsize + 1)
    fits = machine.source == "resident" or needed <= SHARE * free_memory_of(device)
    if machine.source != "streamed" and not settings.per_image and fits:
        return Resident(*arguments)
    from podium.training.streamed import Streamed

    # a GPU is fed by all cores but one; beside a CPU's own training one process keeps ahead
    readers = max(1, min(8, cores() - 1)) if device.type == "cuda" else 1
    return Streamed(*arguments, settings=settings, readers=readers)


def free_memory_of(device: torch.device) -> int:
    """Bytes that are free on a device."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else free_memory()
