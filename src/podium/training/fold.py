"""train_fold: the one function that trains, called by the command line, the tests and every worker."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from podium.config import Competition, Recipe, check_rules
from podium.data.fit import Fit
from podium.data.part import Part
from podium.errors import UserError
from podium.folds import Folds
from podium.jobs import weights_file
from podium.randomness import stream
from podium.store import Folder, read_json, write_atomically, write_json
from podium.training.checkpoint import Checkpoints
from podium.training.choose import make_source
from podium.training.inner import Inner, set_aside
from podium.training.machine import Machine
from podium.training.optim import epochs_since_best
from podium.training.probe import probe
from podium.training.source import Source
from podium.training.trainer import Trainer

NORM_BATCHES = 20
"""Batches over which batch norm is measured for averaged weights."""
Emit = Callable[[dict[str, Any]], None]
Watch = Callable[[int, Trainer], None]
"""Told of every epoch that has ended, counted from 1, and of the net as it is then."""


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

    def progress(self, epoch: int) -> float:
        """How much of the training lies behind an epoch: 0 for the first, 1 for the last."""
        return min(1.0, epoch / max(1, self.epochs - 1))


@dataclass(frozen=True)
class FoldResult:
    """What a finished training says about itself; rates in images per second, measured by the probe or the training."""

    steps: int
    epochs: float
    images: int
    loss: float
    seconds: float
    rate: float


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
    corrupted_images: int = 0,
    watch: Watch | None = None,
) -> FoldResult:
    """Train one recipe on the rows outside ``fold`` and leave its weights, history and state in ``folder``.

    seconds: time for everything this fold costs, its predictions included; the number of steps follows from a short
    probe. None: the recipe's epochs count. fit: how images come to the net's size. test_images,
    corrupted_images: how many this fold's net will predict afterwards, beside its own fold.
    watch: called after each epoch and before its checkpoint; what it raises ends the training there, unfinished.
    A folder with a checkpoint is continued; a finished one returns at once.
    """
    done = folder.done
    if done is not None:
        return FoldResult(**done["result"])
    check_rules(competition, recipe)
    torch.set_num_threads(machine.threads)
    rows, validation = folds.rows(fold)
    inner, to_score = None, 0
    if recipe.train.needs_inner:
        rows, aside = set_aside(folds, rows, recipe.train.inner, stream("inner", seed, fold))
        inner = Inner(competition, part, aside, fit, recipe.predict.views, machine)
        to_score = fit.count(part, aside)
    images = {"oof": fit.count(part, validation), "robust": corrupted_images, "test": test_images}
    source = make_source(part, rows, fit, competition, recipe, machine)
    length = _length(competition, recipe, source, machine, folder, seconds, sum(images.values()), to_score)
    checkpoints = Checkpoints(folder.file("last.pt"))
    saved = checkpoints.read()
    trainer = Trainer(
        competition,
        recipe if saved is None else _without_start(recipe),
        source,
        machine,
        length.steps,
        stream("weights", seed, fold),
        lambda text: emit({"event": "note", "text": text}),
    )
    begun = asdict(trainer.model.start)
    history: list[dict[str, float]] = []
    best: dict[str, torch.Tensor] | None = None
    if saved is None and (said := trainer.model.start.sentence()):
        emit({"event": "note", "text": said})
    if saved is not None:
        trainer.restore(saved["trainer"])
        history, best, begun = saved["history"], saved["best"], saved["net"]
        trainer.scores = [row["score"] for row in history if "score" in row]
        emit({"event": "resumed", "epoch": len(history)})
    for epoch in range(len(history), length.epochs):
        if _ended(trainer):
            break
        history.append(_epoch(trainer, source, length, epoch, seed, fold))
        if not np.isfinite(history[-1]["loss"]):
            raise UserError(
                f"{folder.path}: the loss became {history[-1]['loss']} in epoch {epoch + 1}; set a lower train.lr"
            )
        if inner is not None:
            best = _score(trainer, inner, history, best)
        left = (length.steps - history[-1]["step"]) * history[-1]["seconds"] / history[-1]["steps"]
        emit({"event": "epoch", "epoch": epoch + 1, "epochs": length.epochs, "loss": history[-1]["loss"], "left": left})
        if watch is not None:
            watch(epoch + 1, trainer)
        if epoch + 1 < length.epochs and checkpoints.due():
            checkpoints.write({"trainer": trainer.state(), "history": history, "best": best, "net": begun})

    after = islice(source.epoch(seed, fold, length.epochs, recipe.augment, 1.0), NORM_BATCHES)
    trainer.refresh_norms(after)
    kept = {"last": trainer.model.state_dict()}
    if recipe.train.ema:
        kept["ema"] = trainer.average.state
    if best is not None:
        kept["best"] = best
    for name, values in kept.items():
        write_atomically(folder.file(weights_file(name)), save({k: v.contiguous().cpu() for k, v in values.items()}))
    write_atomically(folder.file("history.csv"), _table(history))
    spent = sum(row["seconds"] for row in history)
    loss, steps = history[-1]["loss"], int(history[-1]["step"])
    trained = steps * source.batch
    result = FoldResult(steps, steps / length.steps_per_epoch, trained, loss, spent, trained / spent)
    prediction = {kind: count / length.predict_rate for kind, count in images.items()} if length.predict_rate else {}
    used = replace(machine, micro_batch=trainer.micro if trainer.micro < source.batch else None)
    folder.finish(
        (*map(weights_file, kept), "history.csv"),
        result=asdict(result),
        net=begun,
        parameters=sum(parameter.numel() for parameter in trainer.model.parameters()),
        prediction=prediction,
        machine=used.describe(),
    )
    checkpoints.path.unlink(missing_ok=True)
    return result


def _without_start(recipe: Recipe) -> Recipe:
    """A continued training has its weights in the checkpoint: neither a hub nor a file is needed again."""
    return recipe.model_copy(update={"net": recipe.net.model_copy(update={"pretrained": "never"})})


def _length(
    competition: Competition,
    recipe: Recipe,
    source: Source,
    machine: Machine,
    folder: Folder,
    seconds: float | None,
    to_predict: int,
    to_score: int,
) -> Length:
    """The length that was fixed before, or as long as the recipe or the seconds say.

    to_predict: images once all is trained. to_score: images of the inner split, after every epoch.
    """
    known = read_json(folder.file("state.json"))
    if known is not None:
        return Length(**known["length"])
    if seconds is None:
        length = Length(recipe.train.epochs * source.steps, source.steps)
    else:
        start = time.perf_counter()
        train_rate, predict_rate = probe(competition, recipe, source, machine)
        norms = NORM_BATCHES * source.batch / len(recipe.predict.views) if recipe.train.ema else 0.0
        left = seconds - (time.perf_counter() - start) - (to_predict + norms) / predict_rate
        step = source.batch / train_rate + to_score / source.steps / predict_rate
        length = Length(max(1, int(left / step)), source.steps, train_rate, predict_rate)
    write_json(folder.file("state.json"), {"length": asdict(length), "seconds": seconds, "machine": machine.describe()})
    return length


def _ended(trainer: Trainer) -> bool:
    patience = trainer.recipe.train.early_stopping
    return patience is not None and epochs_since_best(trainer.scores) >= patience


def _score(
    trainer: Trainer, inner: Inner, history: list[dict[str, float]], best: dict[str, torch.Tensor] | None
) -> dict[str, torch.Tensor] | None:
    """Score the epoch that has ended, into its row; returns the weights of the best one so far."""
    start = time.perf_counter()
    weights = trainer.average.state if trainer.recipe.train.ema else trainer.model.state_dict()
    score = inner.score(trainer.model, weights)
    trainer.scores.append(score)
    history[-1] |= {"score": score, "scoring": time.perf_counter() - start}
    if epochs_since_best(trainer.scores) == 0:
        return {name: value.detach().clone() for name, value in weights.items()}
    return best


def _epoch(trainer: Trainer, source: Source, length: Length, epoch: int, seed: int, fold: int) -> dict[str, float]:
    """Train one epoch; losses stay on the device until its end."""
    trainer.begin(epoch)
    start = time.perf_counter()
    first = epoch * length.steps_per_epoch
    losses = []
    batches = source.epoch(seed, fold, epoch, trainer.recipe.augment, length.progress(epoch))
    for step, batch in enumerate(batches, start=first):
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
