"""Prediction: probabilities for images, averaged over views and nets, written as they come."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from podium import nets
from podium.config import Competition, Recipe
from podium.data.fit import Fit
from podium.data.part import Part
from podium.data.ragged import save_index
from podium.inference.views import turn, turn_back
from podium.store import write_json
from podium.training.machine import Machine

# images and views that go through a net at once: what stays in a processor's cache, and what fills a GPU
AT_ONCE = {"cpu": 32, "cuda": 1024}
FLUSH_SECONDS = 15.0


def load(recipe: Recipe, competition: Competition, channels: int, weights: Path, machine: Machine) -> nets.Model:
    """A trained net, ready to predict."""
    settings = recipe.net.model_copy(update={"pretrained": False})  # its weights come from the file
    model = nets.build(settings, competition.task, channels, len(competition.scored))
    model.load_state_dict(load_file(weights))
    return model.place(machine.torch_device).eval()


def batch_size(views: Sequence[str], machine: Machine) -> int:
    """Images to predict at once."""
    return max(1, AT_ONCE[machine.torch_device.type] // len(views))


@torch.inference_mode()
def predict_batch(
    models: Sequence[nets.Model], images: torch.Tensor, views: Sequence[str], machine: Machine, scale: float = 255.0
) -> torch.Tensor:
    """Mean probabilities over nets and views: images (B, C, H, W) → float32 (B, scored classes, H, W), or (B, ..., 1, 1)."""
    x = turn(images.to(torch.float32, copy=True).mul_(1 / scale), views)
    total = None
    for model in models:
        with machine.autocast():
            logits = model(x)
        probabilities = turn_back(logits.float().softmax(1), views)
        total = probabilities if total is None else total + probabilities
    assert total is not None
    return total / len(models)


def predict_to(
    path: Path,
    models: Sequence[nets.Model],
    competition: Competition,
    part: Part,
    rows: np.ndarray,
    fit: Fit,
    views: Sequence[str],
    machine: Machine,
    emit: Callable[[dict[str, Any]], None] = lambda event: None,
) -> None:
    """Predict ``rows`` of a part and write probabilities, float16 (C, H, W) per id, to ``path`` (.npy, with its index).

    Each image's are of its own size, whatever size the net works on (``fit``); of labels they are (C, 1, 1). All classes
    of the competition have a channel; an unscored one is zero, since no net predicts it. Memory does not grow
    with the number of rows. A killed prediction goes on from its last flush; the same models and rows must be given.
    """
    shapes = part.images.shapes[rows].copy()
    shapes[:, 0] = len(competition.classes)
    if competition.task == "classification":
        shapes[:, 1:] = 1
    ends = shapes.prod(axis=1).cumsum()
    total = int(ends[-1]) if len(rows) else 0
    partial, progress = path.with_suffix(".partial.npy"), path.with_suffix(".partial.json")
    start = _resume(partial, progress, (total,))
    if not start:  # or what an earlier attempt said would later be believed of this one
        progress.unlink(missing_ok=True)
    mode = "r+" if start else "w+"
    volume = np.lib.format.open_memmap(partial, mode, np.float16, (total,))
    scored = list(competition.scored)
    began = flushed = time.monotonic()
    size = batch_size(views, machine)
    for at in range(start, len(rows), size):
        picked = rows[at : at + size]
        pieces, counts = fit.images(part, picked)
        answers = np.concatenate(
            [
                predict_batch(models, torch.from_numpy(some).to(machine.torch_device), views, machine, part.scale).cpu()
                for some in np.split(pieces, range(size, len(pieces), size))
            ]
        )
        first = 0
        for i, count in enumerate(counts.tolist(), start=at):
            height, width = part.images.shapes[rows[i], 1:].tolist()
            room = volume[ends[i] - shapes[i].prod() : ends[i]].reshape(tuple(shapes[i]))
            room[scored] = fit.unfit(answers[first : first + count], height, width)
            first += count
        now, reached = time.monotonic(), at + len(picked)
        if now - flushed > FLUSH_SECONDS and reached < len(rows):
            volume.flush()
            write_json(progress, {"rows": reached}, sync=False)
            left = (now - began) / (reached - start) * (len(rows) - reached)
            emit({"event": "predict", "rows": reached, "of": len(rows), "left": left})
            flushed = now
    volume.flush()
    del volume
    save_index(path, shapes, part.images.ids[rows])
    progress.unlink(missing_ok=True)
    os.replace(partial, path)


def _resume(partial: Path, progress: Path, shape: tuple[int, ...]) -> int:
    """Rows that a killed prediction had already flushed."""
    try:
        rows = int(json.loads(progress.read_text())["rows"])
        fits = np.load(partial, mmap_mode="r", allow_pickle=False).shape == shape
    except (OSError, ValueError, KeyError, EOFError):
        return 0
    return rows if fits else 0
