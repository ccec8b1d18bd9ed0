"""A model in training: the one step that moves its weights, in as many pieces as memory asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from podium import losses, nets
from podium.config import Competition, Recipe
from podium.errors import UserError
from podium.training.compiled import compiled
from podium.training.machine import Machine
from podium.training.memory import free, out_of_memory
from podium.training.optim import Average, clip, optimiser, rate
from podium.training.source import Batch, Source
from podium.training.stages import backbone, depths

Note = Callable[[str], None]


class Trainer:
    """Weights, optimiser and average of a net in training.

    micro: images that go through the net at once, all of a batch unless memory runs out; the gradients of the pieces are
    added up, so that a step stays a step of the whole batch. Only batch norm sees the pieces one by one. scores: on the
    inner split, of the epochs so far. note: told what the user should know.
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
        channels, height, width = source.shape
        scale, size = (source.mean, source.std), (height, width)
        model = nets.build(recipe.net, competition.task, channels, competition.outputs, *scale, size, source.unit)
        self.model = model.place(device).train()
        nets.try_out(self.model, recipe.net, *source.shape)
        self.forward = compiled(self.model, machine, note)
        self.loss = losses.build(
            recipe.loss, source.counts, competition.task, device, recipe.net.outputs, source.unit[1]
        )
        self.optimiser = optimiser(self.model, recipe.train, device, depths(self.model))
        self.trunk = backbone(self.model) if recipe.train.freeze_epochs else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=machine.precision == "fp16")
        self.average = Average(self.model, recipe.train.ema, steps)
        self.parameters = list(self.model.parameters())
        pieces = -(-source.batch // recipe.train.accumulate)
        self.micro = min(pieces, machine.micro_batch or pieces)
        self.per_epoch = source.steps
        self.scores: list[float] = []

    def begin(self, epoch: int) -> None:
        """Freeze or free the backbone, its batch norm included."""
        if self.trunk is not None:
            free = epoch >= self.recipe.train.freeze_epochs
            self.trunk.requires_grad_(free).train(free)

    def step(self, batch: Batch, step: int) -> torch.Tensor:
        """One optimiser step; returns the loss, still on the device."""
        lr = rate(step, self.steps, self.per_epoch, self.recipe.train, self.scores)
        for group in self.optimiser.param_groups:
            group["lr"] = lr * group["scale"]
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
        labels = (batch.targets, batch.other, batch.share)
        total = self.loss.total(*labels)
        found = []
        try:
            # even pieces: a last one of a single image would be poor statistics for batch norm
            split = [[None] * pieces if x is None else x.tensor_split(pieces) for x in (batch.images, *labels)]
            for images, targets, other, share in zip(*split, strict=True):
                with self.machine.autocast():
                    outputs = self.forward(images)
                loss = self.loss(outputs, targets, other, share, total, len(images) / len(batch.images))
                self.scaler.scale(loss).backward()
                found.append(loss.detach())
        except Exception as error:
            if not out_of_memory(error):
                raise
            return None  # not here: until the exception is gone it holds the memory
        return found[0] if len(found) == 1 else torch.stack(found).sum()

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

    @torch.no_grad()
    def refresh_norms(self, batches: Iterable[Batch]) -> None:
        """Measure batch norm's statistics anew for the averaged weights, over some batches (Izmailov et al. 2018,
        arXiv:1803.05407); their own average lags behind and belongs to weights that never were."""
        norms = [m for m in self.model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
        norms = [norm for norm in norms if norm.track_running_stats]
        if not norms or not self.recipe.train.ema:
            return
        own = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        momenta, training = [norm.momentum for norm in norms], self.model.training
        self.model.load_state_dict(self.average.state)
        self.model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches
            norm.train()
        for batch in batches:
            for images in batch.images.split(self.micro):
                with self.machine.autocast():
                    self.model(images)
        for name, value in self.model.state_dict().items():
            self.average.state[name].copy_(value)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        self.model.load_state_dict(own)
        self.model.train(training)

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
