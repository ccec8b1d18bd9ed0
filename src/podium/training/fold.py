"""train_fold: the one function that trains, called by the command line, the tests and every worker."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from podium import nets
from podium.config import Competition, Recipe, check_rules
from podium.data.fit import Fit
from podium.data.part import Part
from podium.errors import UserError
from podium.folds import Folds
from podium.inference.predict import batch_size, predict_batch
from podium.jobs import WEIGHTS
from podium.losses import class_weights, cross_entropy
from podium.randomness import stream
from podium.store import Folder, read_json, write_atomically, write_json
from podium.training.checkpoint import Checkpoints
from podium.training.choose import make_source
from podium.training.machine import Machine
from podium.training.optim import Average, optimiser, rate
from podium.training.source import Source

PROBE_SECONDS = 1.0
Emit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Length:
    """How long a training is: fixed at its start, kept in state.json, so that a resumed one repeats the same steps."""

    steps: int
    steps_per_epoch: int
    train_rate: float | None = None
    predict_rate: float | None = None

    @property
    def epochs(self) -> int:
        """Epochs begun, the last one perhaps cut short."""
        return -(-self.steps // self.steps_per_epoch)


@dataclass(frozen=True)
class FoldResult:
    """What a finished training says about itself; rates in images per second, measured by the probe or the training."""

    steps: int
    epochs: float
    images: int
    loss: float
    seconds: float
    rate: float


class Trainer:
    """A model in training: weights, optimiser and average, and the one step that moves them."""

    def __init__(
        self, competition: Competition, recipe: Recipe, source: Source, machine: Machine, steps: int, seed: int
    ) -> None:
        device = machine.torch_device
        torch.manual_seed(seed)
        self.recipe, self.machine, self.steps = recipe, machine, steps
        model = nets.build(
            recipe.net, competition.task, source.shape[0], len(competition.scored), source.mean, source.std
        )
        self.model = model.place(device).train()
        nets.try_out(self.model, recipe.net, *source.shape)
        self.weights = class_weights(source.counts, recipe.loss).to(device)
        self.optimiser = optimiser(self.model, recipe.train, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=machine.precision == "fp16")
        self.average = Average(self.model, recipe.train.ema, steps)
        self.parameters = list(self.model.parameters())

    def step(self, batch: Any, step: int) -> torch.Tensor:
        """One optimiser step; returns the loss, still on the device."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate(step, self.steps, self.recipe.train)
        with self.machine.autocast():
            logits = self.model(batch.images)
        loss = cross_entropy(logits, batch.targets, self.weights)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.train.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.average.update(step)
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        for name, value in self.average.state.items():
            value.copy_(state["average"][name])


def train_fold(
    competition: Competition,
    recipe: Recipe,
    fold: int,
    seed: int,
    part: Part,
    fit: Fit,
    folds: Folds,
    folder: Folder,
    machine: Machine,
    seconds: float | None = None,
    test_images: int = 0,
    emit: Emit = lambda event: None,
) -> FoldResult:
    """Train one recipe on the rows outside ``fold`` and leave its weights, history and state in ``folder``.

    seconds: time for everything this fold costs, its predictions included; the number of steps follows from a short
    probe. None: the recipe's epochs count. fit: how images come to the net's size. test_images: how many this fold's
    net will predict afterwards, beside its own fold.
    A folder with a checkpoint is continued; a finished one returns at once.
    """
    done = folder.done
    if done is not None:
        return FoldResult(**done["result"])
    check_rules(competition, recipe)
    torch.set_num_threads(machine.threads)
    rows, validation = folds.rows(fold)
    images = {"oof": fit.count(part, validation), "test": test_images}
    source = make_source(part, rows, fit, competition, recipe, machine)
    length = _length(competition, recipe, source, machine, folder, seconds, sum(images.values()))
    trainer = Trainer(competition, recipe, source, machine, length.steps, stream("weights", seed, fold))

    checkpoints = Checkpoints(folder.file("last.pt"))
    history: list[dict[str, float]] = []
    saved = checkpoints.read()
    if saved is not None:
        trainer.restore(saved["trainer"])
        history = saved["history"]
        emit({"event": "resumed", "epoch": len(history)})
    for epoch in range(len(history), length.epochs):
        history.append(_epoch(trainer, source, length, epoch, seed, fold))
        if not np.isfinite(history[-1]["loss"]):
            raise UserError(
                f"{folder.path}: the loss became {history[-1]['loss']} in epoch {epoch + 1}; set a lower train.lr"
            )
        left = (length.steps - history[-1]["step"]) * history[-1]["seconds"] / history[-1]["steps"]
        emit({"event": "epoch", "epoch": epoch + 1, "epochs": length.epochs, "loss": history[-1]["loss"], "left": left})
        if epoch + 1 < length.epochs and checkpoints.due():
            checkpoints.write({"trainer": trainer.state(), "history": history})

    loss = history[-1]["loss"]
    write_atomically(folder.file(WEIGHTS), save({k: v.contiguous().cpu() for k, v in trainer.average.state.items()}))
    write_atomically(folder.file("history.csv"), _table(history))
    spent = sum(row["seconds"] for row in history)
    trained = length.steps * source.batch
    result = FoldResult(length.steps, length.steps / length.steps_per_epoch, trained, loss, spent, trained / spent)
    prediction = {kind: count / length.predict_rate for kind, count in images.items()} if length.predict_rate else {}
    folder.finish((WEIGHTS, "history.csv"), result=asdict(result), prediction=prediction, machine=machine.describe())
    checkpoints.path.unlink(missing_ok=True)
    return result


def probe(competition: Competition, recipe: Recipe, source: Source, machine: Machine) -> tuple[float, float]:
    """Images per second trained and predicted (each with all its views), from a few steps of a model that is thrown away."""
    trainer = Trainer(competition, recipe, source, machine, 100, 0)
    batches = list(zip(range(8), source.epoch(0, 0, 0, recipe.augment), strict=False))

    def train() -> None:
        for step, batch in batches:
            trainer.step(batch, step)

    views = recipe.predict.views
    images = source.sample(batch_size(views, machine))
    train()  # the first steps also choose and compile kernels
    train_rate = len(batches) * source.batch * _per_second(train, machine)
    trainer.model.eval()
    predict_batch([trainer.model], images, views, machine, source.scale)
    predict_rate = len(images) * _per_second(
        lambda: predict_batch([trainer.model], images, views, machine, source.scale), machine
    )
    return train_rate, predict_rate


def _per_second(work: Callable[[], Any], machine: Machine) -> float:
    """How often ``work`` runs in a second, from as many runs as fit into a second or so, at least one."""
    start, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - start < PROBE_SECONDS:
        work()
        count += 1
        if machine.torch_device.type == "cuda":
            torch.cuda.synchronize(machine.torch_device)
    return count / (time.perf_counter() - start)


def _length(
    competition: Competition,
    recipe: Recipe,
    source: Source,
    machine: Machine,
    folder: Folder,
    seconds: float | None,
    to_predict: int,
) -> Length:
    known = read_json(folder.file("state.json"))
    if known is not None:
        return Length(**known["length"])
    if seconds is None:
        length = Length(recipe.train.epochs * source.steps, source.steps)
    else:
        start = time.perf_counter()
        train_rate, predict_rate = probe(competition, recipe, source, machine)
        left = seconds - (time.perf_counter() - start) - to_predict / predict_rate
        length = Length(max(1, int(left * train_rate / source.batch)), source.steps, train_rate, predict_rate)
    write_json(folder.file("state.json"), {"length": asdict(length), "seconds": seconds, "machine": machine.describe()})
    return length


def _epoch(trainer: Trainer, source: Source, length: Length, epoch: int, seed: int, fold: int) -> dict[str, float]:
    """Train one epoch; losses stay on the device until its end."""
    start = time.perf_counter()
    first = epoch * length.steps_per_epoch
    losses = []
    for step, batch in enumerate(source.epoch(seed, fold, epoch, trainer.recipe.augment), start=first):
        if step == length.steps:
            break
        losses.append(trainer.step(batch, step))
    loss = float(torch.stack(losses).mean())
    seconds = time.perf_counter() - start
    last = first + len(losses)
    return {"epoch": epoch + 1, "step": last, "steps": len(losses), "loss": loss, "seconds": seconds}


def _table(history: list[dict[str, float]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
