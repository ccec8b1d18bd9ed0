"""The training loop as benchmarks run it: podium's own machine, sources and step, and a clock that waits for the device."""

from __future__ import annotations

import time

import numpy as np
import torch

from podium.config import Competition, Recipe
from podium.data.fit import Fit
from podium.data.part import Part
from podium.training.machine import Machine, detect
from podium.training.source import Resident, Source
from podium.training.streamed import Streamed
from podium.training.trainer import Trainer

MANY_STEPS = 10**6
"""Length of the schedule: longer than anything measured, so that the rate never falls to nothing."""


def machine_here() -> Machine:
    """This machine with all its cores; torch is told how many threads that is."""
    machine = detect()
    torch.set_num_threads(machine.threads)
    return machine


def make_source(
    part: Part, images: int, fit: Fit, competition: Competition, recipe: Recipe, machine: Machine, readers: int | None
) -> Source:
    """A source of exactly ``images`` images, rows repeated where there are fewer, so that an epoch is as long as asked for.

    readers: None for the resident source, else the reading processes of the streamed one.
    """
    rows = np.resize(np.arange(len(part)), images)
    arguments = (part, rows, fit, competition, 1, recipe.train.batch, machine.torch_device, None, recipe.mix)
    if readers is None:
        return Resident(*arguments)
    return Streamed(*arguments, settings=recipe.augment, readers=readers)


def make_trainer(competition: Competition, recipe: Recipe, source: Source, machine: Machine) -> Trainer:
    """A net in training; what it has to say is printed."""
    return Trainer(competition, recipe, source, machine, MANY_STEPS, 0, lambda text: print(f"note: {text}"))


def epoch_seconds(trainer: Trainer, source: Source, recipe: Recipe, number: int) -> float:
    """Seconds of one whole epoch: data, augmentation, steps, and the losses fetched at its end."""
    wait(source.device)
    start = time.perf_counter()
    losses = [trainer.step(batch, step) for step, batch in enumerate(source.epoch(0, 0, number, recipe.augment))]
    float(torch.stack(losses).mean())
    wait(source.device)
    return time.perf_counter() - start


def data_seconds(source: Source, recipe: Recipe, number: int) -> float:
    """Seconds of one epoch without a net: batches are made and left alone."""
    wait(source.device)
    start = time.perf_counter()
    for _ in source.epoch(0, 0, number, recipe.augment):
        pass
    wait(source.device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
