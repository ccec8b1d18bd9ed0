"""How fast a recipe trains and predicts in this process, from a few steps of a model that is thrown away."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch

from podium.config import Competition, Recipe
from podium.inference.predict import batch_size, predict_batch
from podium.training.compiled import compiled
from podium.training.machine import Machine
from podium.training.source import Resident, Source
from podium.training.trainer import Trainer

SECONDS = 1.0
"""How long a rate is measured, at least."""
BATCHES = 8


class Probe:
    """A recipe ready to be measured: its net is built and its first steps, which choose and compile kernels, are done.

    Of a resident source what making a batch costs is measured too; reading processes work while the net does.
    warm_up: seconds that the first steps took. micro: images that go through the net at once, fewer than a batch where memory ran out.
    """

    def __init__(self, competition: Competition, recipe: Recipe, source: Source, machine: Machine) -> None:
        self.recipe, self.source, self.machine = recipe, source, machine
        self._trainer = Trainer(competition, recipe, source, machine, 100, 0)
        batches = enumerate(islice(source.epoch(0, 0, 0, recipe.augment), BATCHES))
        self._batches = list(islice(batches, 2))
        self._wait()
        start = time.perf_counter()
        self._batches += batches
        self._wait()
        timed = isinstance(source, Resident) and len(self._batches) > 2
        self._data = (time.perf_counter() - start) / (len(self._batches) - 2) if timed else 0.0
        start = time.perf_counter()
        for step, batch in self._batches[:2]:
            self._trainer.step(batch, step)
        self._wait()
        self.warm_up = time.perf_counter() - start

    @property
    def micro(self) -> int:
        """Images that went through the net at once."""
        return self._trainer.micro

    def train(self, seconds: float | None = None) -> float:
        """Images trained per second, over at least ``seconds`` (``SECONDS``) and two steps."""
        seconds = SECONDS if seconds is None else seconds
        self._trainer.model.train()
        # a GPU is given many steps before anybody waits for it, as in a training
        at_once = len(self._batches) if self.machine.torch_device.type == "cuda" else 1
        start, steps = time.perf_counter(), 0
        while steps < 2 or time.perf_counter() - start < seconds:
            for _ in range(at_once):
                step, batch = self._batches[steps % len(self._batches)]
                self._trainer.step(batch, step)
                steps += 1
            self._wait()
        return self.source.batch / ((time.perf_counter() - start) / steps + self._data)

    def predict(self, seconds: float | None = None) -> tuple[float, float]:
        """Images predicted per second, each with all its views, and the seconds that the first batch took."""
        views, model = self.recipe.predict.views, self._trainer.model.eval()
        _, height, width = self.source.shape
        images = self.source.sample(batch_size(views, self.machine, height * width))
        forward = compiled(model, self.machine, lambda text: None)

        def once() -> None:
            predict_batch([forward], images, views, self.machine, self.source.scale)
            self._wait()

        start = time.perf_counter()
        once()
        warm_up = time.perf_counter() - start
        return len(images) * _per_second(once, SECONDS if seconds is None else seconds), warm_up

    def _wait(self) -> None:
        if self.machine.torch_device.type == "cuda":
            torch.cuda.synchronize(self.machine.torch_device)


def probe(competition: Competition, recipe: Recipe, source: Source, machine: Machine) -> tuple[float, float]:
    """Images per second trained and predicted (each with all its views)."""
    measured = Probe(competition, recipe, source, machine)
    return measured.train(), measured.predict()[0]


def _per_second(work: Callable[[], Any], seconds: float) -> float:
    """How often ``work`` runs in a second, from as many runs as fit into ``seconds``, at least one."""
    start, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - start < seconds:
        work()
        count += 1
    return count / (time.perf_counter() - start)
