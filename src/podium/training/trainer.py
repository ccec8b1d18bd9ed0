"""A model in training: the one step that moves its weights, in as many pieces as memory asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from podium import nets
from podium.config import Competition, Recipe
from podium.errors import UserError
from podium.losses import class_weights, cross_entropy, label_weight
from podium.training.compiled import compiled
from podium.training.machine import Machine
from podium.training.memory import free, out_of_memory
from podium.training.optim import Average, clip, optimiser, rate
from podium.training.source import Batch, Source

Note = Callable[[str], None]


class Trainer:
    """Weights, optimiser and average of a net in training.

    micro: images that go through the net at once, all of a batch unless memory runs out; the gradients of the pieces are
    added up, so that a step stays a step of the whole batch. Only batch norm sees the pieces one by one. note: told what
    the user should know.
    """

    def __init__(
        self,
        competition: Competition,
        recipe: Recipe,
        source: Source,
        machine: Machine,
        steps: int,
        seed: int,
        note: Note = lambda text: None,
    ) -> None:
        device = machine.torch_device
        torch.manual_seed(seed)
        self.recipe, self.machine, self.steps, self.note = recipe, machine, steps, note
        model = nets.build(
            recipe.net, competition.task, source.shape[0], len(competition.scored), source.mean, source.std
        )
        self.model = model.place(device).train()
        nets.try_out(self.model, recipe.net, *source.shape)
        self.forward = compiled(self.model, machine, note)
        self.weights = class_weights(source.counts, recipe.loss).to(device)
        self.optimiser = optimiser(self.model, recipe.train, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=machine.precision == "fp16")
        self.average = Average(self.model, recipe.train.ema, steps)
        self.parameters = list(self.model.parameters())
        self.micro = min(source.batch, machine.micro_batch or source.batch)

    def step(self, batch: Batch, step: int) -> torch.Tensor:
        """One optimiser step; returns the loss, still on the device."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate(step, self.steps, self.recipe.train)
        loss = self._gradients(batch)
        while loss is None:
            self._halve()
            loss = self._gradients(batch)
        self.scaler.unscale_(self.optimiser)
        clip(self.parameters, self.recipe.train.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.average.update(step)
        return loss

    def _gradients(self, batch: Batch) -> torch.Tensor | None:
        """The batch's loss, with its gradients in the parameters; None where memory ran out."""
        self.optimiser.zero_grad(set_to_none=True)
        pieces = -(-len(batch.images) // self.micro)
        total = label_weight(batch.targets, self.weights)
        losses = []
        try:
            # even pieces: a last one of a single image would be poor statistics for batch norm
            for images, targets in zip(
                batch.images.tensor_split(pieces), batch.targets.tensor_split(pieces), strict=True
            ):
                with self.machine.autocast():
                    logits = self.forward(images)
                loss = cross_entropy(logits, targets, self.weights, total)
                self.scaler.scale(loss).backward()
                losses.append(loss.detach())
        except Exception as error:
            if not out_of_memory(error):
                raise
            return None  # not here: until the exception is gone it holds the memory
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _halve(self) -> None:
        if self.micro == 1:
            raise UserError(
                f"recipe '{self.recipe.name}': one image at a time is too much for the memory of {self.machine.name}; use "
                "a smaller net, a smaller data.fit.size or another --device"
            )
        before, self.micro = self.micro, -(-self.micro // 2)
        self.optimiser.zero_grad(set_to_none=True)
        free(self.machine.torch_device)
        self.note(
            f"memory ran out with {before} images at once: {self.micro} go through the net at a time, and gradients add up "
            f"to the batch of {self.recipe.train.batch}"
        )

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "micro": self.micro,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.micro = state["micro"]
        for name, value in self.average.state.items():
            value.copy_(state["average"][name])
