"""A recipe tried out in a process of its own, on orders from the planner (``engines.measure``)."""

from __future__ import annotations

import resource
from dataclasses import replace
from typing import Any

import torch

from podium.config import Competition, Recipe
from podium.cores import total_memory
from podium.data.fit import plan_fit
from podium.jobs import Site, open_site
from podium.training.choose import make_source
from podium.training.machine import detect
from podium.training.probe import BATCHES, Probe


class Trial:
    """The recipe's nets, each in a way of its own; the methods are the orders, and give plain values."""

    def __init__(self, competition: dict[str, Any], recipe: dict[str, Any], site: dict[str, Any], fold: int) -> None:
        self.competition, self.recipe = Competition.model_validate(competition), Recipe.model_validate(recipe)
        given = Site(**site)
        self.machine = detect(given.device, given.precision, given.threads, given.source)
        torch.set_num_threads(self.machine.threads)
        dataset, folds = open_site(given)
        rows, _ = folds.rows(fold)
        fit = plan_fit(dataset.parts, self.competition.data.fit)
        some = rows[: BATCHES * self.recipe.train.batch]
        self.source = make_source(dataset.train, some, fit, self.competition, self.recipe, self.machine)
        self.probes: dict[str, Probe] = {}

    def facts(self) -> dict[str, Any]:
        """What the machine is, and what of its memory has been taken so far."""
        device = self.machine.torch_device
        if device.type == "cuda":
            context = 600_000_000  # what CUDA itself takes for a process
            taken = torch.cuda.max_memory_reserved(device) + context
            capacity = torch.cuda.mem_get_info(device)[1]
        else:
            taken, capacity = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, total_memory()
        return {
            "device": device.type,
            "precision": self.machine.precision,
            "threads": self.machine.threads,
            "memory": taken,
            "capacity": capacity,
        }

    def prepare(
        self, name: str, precision: str, compile: str = "off", micro_batch: int | None = None
    ) -> dict[str, Any]:
        """Build a net and take its first steps; later orders call it ``name``."""
        machine = replace(self.machine, precision=precision, compile=compile, micro_batch=micro_batch)
        torch.set_num_threads(machine.threads)
        self.probes[name] = probe = Probe(self.competition, self.recipe, self.source, machine)
        micro = probe.micro if probe.micro < self.source.batch else None
        return {"warm_up": probe.warm_up, "micro_batch": micro}

    def train(self, name: str, seconds: float, threads: int) -> float:
        """Images trained per second."""
        torch.set_num_threads(threads)
        return self.probes[name].train(seconds)

    def predict(self, name: str, seconds: float) -> dict[str, float]:
        """Images predicted per second, and the seconds that it took to get there."""
        torch.set_num_threads(self.machine.threads)
        rate, warm_up = self.probes[name].predict(seconds)
        return {"rate": rate, "warm_up": warm_up}

    def forget(self, name: str) -> None:
        """Drop a net."""
        del self.probes[name]
