"""Prediction: probabilities for images, averaged over views and nets, written as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from podium import nets
from podium.config import Competition, Recipe
from podium.data.fit import Fit
from podium.data.part import Part
from podium.inference.at_once import AtOnce
from podium.inference.stream import Arriving, ahead, behind, from_host, to_host
from podium.inference.views import turn, turn_back
from podium.inference.volume import Volume
from podium.training.compiled import Forward, compiled
from podium.training.machine import Machine

PIXELS = {"cpu": 2**17, "cuda": 2**23}
"""Pixels of all images and views that go through a net at once: what stays in a processor's cache, and what fills a GPU."""
USUAL = 64 * 128
"""Pixels of an image where nothing is known of it."""


def load(
    recipe: Recipe,
    competition: Competition,
    channels: int,
    weights: Path,
    machine: Machine,
    size: tuple[int, int] | None = None,
) -> nets.Model:
    """A trained net, ready to predict. size: height and width of the images that it was trained on."""
    return read_net(recipe, competition, channels, weights, size).place(machine.torch_device).eval()


def read_net(
    recipe: Recipe, competition: Competition, channels: int, weights: Path, size: tuple[int, int] | None = None
) -> nets.Model:
    """A trained net as its file holds it, made for no machine yet; see ``load``."""
    settings = recipe.net.model_copy(update={"pretrained": "never"})  # its weights come from the file
    model = nets.build(settings, competition.task, channels, competition.outputs, size=size)
    model.load_state_dict(load_file(weights))
    return model


def batch_size(views: Sequence[str], machine: Machine, pixels: int = USUAL) -> int:
    """Images of so many pixels to predict at once."""
    return max(1, PIXELS[machine.torch_device.type] // (pixels * len(views)))


@torch.inference_mode()
def predict_batch(
    models: Sequence[Forward],
    images: torch.Tensor,
    views: Sequence[str],
    machine: Machine,
    scale: float = 255.0,
    numbers: bool = False,
) -> torch.Tensor:
    """Mean probabilities over nets and views: images (B, C, H, W) → float32 (B, scored classes, H, W), or (B, ..., K, 1).

    numbers: the nets answer with numbers, whose mean it is.
    """
    x = turn(images.to(torch.float32, copy=True).mul_(1 / scale), views)
    total = None
    for model in models:
        with machine.autocast():
            logits = model(x)
        probabilities = logits.float() if numbers else logits.softmax(1, dtype=torch.float32)
        # summed as they were turned, so that turning back is done once for all nets
        total = probabilities if total is None else total.add_(probabilities)
    assert total is not None
    # what is said of a whole image has no sides that a turn would swap
    back = views if total.shape[2:] == x.shape[2:] else ["identity"] * len(views)
    return turn_back(total, back).div_(len(models))


def predict_to(
    path: Path,
    models: Sequence[Forward],
    competition: Competition,
    part: Part,
    rows: np.ndarray,
    fit: Fit,
    views: Sequence[str],
    machine: Machine,
    emit: Callable[[dict[str, Any]], None] = lambda event: None,
) -> None:
    """Predict ``rows`` of a part and write probabilities, float16 (C, H, W) per id, to ``path`` (.npy, with its index).

    Each image's are of its own size, whatever size the net works on (``fit``); of labels they are (C, 1, 1), of K questions
    (2, K, 1), no and yes; numbers are float32 (1, 1, 1). All classes
    of the competition have a channel; an unscored one is zero, since no net predicts it.
    The next images are read and the last answers written while the nets work; memory does not grow with the number of
    rows. Where it does not suffice, fewer go through a net at once. ``emit`` is called by the calling thread only.
    A killed prediction goes on from its last flush; the same models and rows must be given.
    """
    shapes = part.images.shapes[rows].copy()
    shapes[:, 0] = competition.answers
    if not competition.masks:
        shapes[:, 1:] = competition.column
    dtype = np.dtype(np.float32 if competition.numbers else np.float16)
    device, as_they_are = machine.torch_device, fit.how == "same"
    learnt = torch.tensor(competition.learnt, device=device)

    def note(text: str) -> None:
        emit({"event": "note", "text": text})

    forwards = [compiled(model, machine, note) for model in models]

    @torch.inference_mode()
    def predict(images: torch.Tensor, apart: bool) -> torch.Tensor:
        images = images.to(device, non_blocking=True)
        how = _view_by_view if apart else predict_batch
        answers = how(forwards, images, views, machine, part.scale, competition.numbers)
        return to_host(_all_channels(answers, learnt, competition) if as_they_are else answers)

    def read(span: slice) -> tuple[slice, torch.Tensor, np.ndarray]:
        pieces, counts = fit.images(part, rows[span])
        return span, from_host(pieces, device), counts

    def write(done: tuple[slice, Arriving, np.ndarray]) -> None:
        span, arriving, counts = done
        answers = arriving.arrays()
        if as_they_are:
            for some in answers:
                volume.append(some, len(some))
        else:
            pieces = np.split(np.concatenate(answers), counts.cumsum()[:-1])
            with ahead(own_size, enumerate(pieces, span.start), machine.threads) as items:
                for item in items:
                    volume.append(item, 1)
        volume.flush_if_due()

    def own_size(row: tuple[int, np.ndarray]) -> np.ndarray:
        i, pieces = row
        height, width = part.images.shapes[rows[i], 1:].tolist()
        item = np.zeros(tuple(shapes[i]), dtype)
        item[list(competition.learnt)] = fit.unfit(pieces, height, width)
        return item

    size = min(batch_size(views, machine, fit.size[0] * fit.size[1]), max(1, fit.count(part, rows)))
    at_once = AtOnce(predict, size, len(views), machine, note)
    with closing(Volume(path, shapes, part.images.ids[rows], dtype)) as volume:
        start = said = volume.rows
        began = time.monotonic()
        with ahead(read, _spans(fit, part, rows, start, size)) as given, behind(write) as put:
            for span, images, counts in given:
                put((span, Arriving(list(at_once(images)), device), counts))
                if volume.flushed > said:
                    said = volume.flushed
                    left = (time.monotonic() - began) / (said - start) * (len(rows) - said)
                    emit({"event": "predict", "rows": said, "of": len(rows), "left": left})
        volume.finish()


def _view_by_view(
    models: Sequence[Forward],
    images: torch.Tensor,
    views: Sequence[str],
    machine: Machine,
    scale: float,
    numbers: bool = False,
) -> torch.Tensor:
    """As ``predict_batch``, with one view of the images in memory at a time."""
    total = predict_batch(models, images, views[:1], machine, scale, numbers)
    for view in views[1:]:
        total += predict_batch(models, images, [view], machine, scale, numbers)
    return total / len(views)


def _spans(fit: Fit, part: Part, rows: np.ndarray, start: int, size: int) -> Iterator[slice]:
    """Rows to read at once, from ``start`` on: as many as make about ``size`` pieces, at least one.

    From any end of a span the rest is cut as it would have been anyway, so that a continued prediction computes the
    same batches.
    """
    while start < len(rows):
        stop, count = start, 0
        while stop < len(rows) and count < size:
            count += fit.count(part, rows[stop : stop + 1])
            stop += 1
        yield slice(start, stop)
        start = stop


def _all_channels(answers: torch.Tensor, learnt: torch.Tensor, competition: Competition) -> torch.Tensor:
    """float32 (B, what a net fills, H, W) → float16 (B, C, H, W), zero where a class is not scored; numbers as they are."""
    if competition.numbers:
        return answers
    shape = (len(answers), competition.answers, *answers.shape[2:])
    whole = torch.zeros(shape, dtype=torch.float16, device=answers.device)
    return whole.index_copy_(1, learnt, answers.half())
