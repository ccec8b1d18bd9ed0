"""The nets of a model_zip as ONNX, and what podium itself answers on the images that the file is tried on.

Imports torch; called in a process of its own.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from podium.cores import cores
from podium.data.ragged import Ragged
from podium.decode import mean, weighed
from podium.errors import UserError
from podium.inference.predict import batch_size, load, predict_batch, read_net
from podium.scoring import labels_of
from podium.submission.model_zip.content import Content, Member
from podium.training.machine import Machine

if TYPE_CHECKING:
    import onnx

OPSET = 18
"""Of the operators; onnxruntime 1.18 and newer read what is written."""
TRACED = 2
"""Images that a net is traced with; how many it takes stays open."""
REFERENCE = "reference.npz"
Say = Any


class Probabilities(nn.Module):
    """A trained net up to its classes' probabilities: (N, C, H, W) float in 0..1 → float32 (N, classes)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images).softmax(1, dtype=torch.float32).flatten(1)


def make(content: Content, images: Path, folder: Path, say: Say) -> None:
    """Write every net of ``content`` to ``folder``, and what podium makes of some images to ``reference.npz`` there.

    images: .npy (n, height, width, C) in the dtype of the training images. For the reference see ``refer``. A net that
    cannot be written as ONNX is a UserError.
    """
    torch.set_num_threads(cores())
    count = sum(len(member.nets) for member in content.members)
    say(f"model_zip: writing {count} net{'s' * (count > 1)} as ONNX and trying out what comes of it")
    for member in content.members:
        export(member, content, folder)
    found = refer(content, np.load(images, allow_pickle=False).transpose(0, 3, 1, 2))
    np.savez(folder / REFERENCE, **found)  # type: ignore[arg-type]  # numpy's stubs take the names for its own options


def export(member: Member, content: Content, folder: Path) -> None:
    """Write a model's nets. They differ in their weights only: the first is traced, the others' are put in its place."""
    import onnx

    traced: onnx.ModelProto | None = None
    for net in member.nets:
        state = {f"net.{name}": value.numpy() for name, value in load_file(net.weights).items()}
        try:
            if traced is None or not _put(state, traced):
                traced = _trace(member, net.weights, content)
            onnx.checker.check_model(traced, full_check=True)
            (folder / net.file).write_bytes(traced.SerializeToString())
        except (MemoryError, OSError):
            raise
        except Exception as error:  # torch's exporter raises everything there is
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(
                f"{member.name}: its net cannot be written as ONNX ({said}); leave it out with --models, or choose another "
                f"net"
            ) from error


def refer(content: Content, images: np.ndarray) -> dict[str, np.ndarray]:
    """What podium's own prediction, blend and decoding make of images (n, C, H, W), in fp32.

    probabilities: float32 (n, classes), the blend's. labels: (n,). decided: float32 (n, classes), the shares by which the
    label was decided, the decoding's factors in them.
    """
    competition, decision = content.competition, content.decision
    machine = Machine("cpu", "", cores(), "fp32")
    ids = [str(i) for i in range(len(images))]
    volumes = [Ragged.stack(_predicted(member, content, images, machine), ids) for member in content.members]
    probabilities = mean(volumes, decision.weights, None, decision.mean).stacked
    # weighed as arithmetic means are: in shares of one the two ways differ in nothing
    decided = weighed(probabilities.copy(), None, "arithmetic", decision.steps)
    labels = labels_of(volumes, decision, competition)
    return {
        "probabilities": probabilities[:, :, 0, 0],
        "labels": labels.stacked[:, 0, 0, 0],
        "decided": (decided / decided.sum(1, keepdims=True))[:, :, 0, 0],
    }


def _predicted(member: Member, content: Content, images: np.ndarray, machine: Machine) -> np.ndarray:
    """float32 (n, classes, 1, 1): a model's mean over its nets and views."""
    channels, height, width = content.shape
    views, competition = member.recipe.predict.views, content.competition
    models = [load(member.recipe, competition, channels, net.weights, machine, (height, width)) for net in member.nets]
    step = batch_size(views, machine, height * width)
    pieces = [
        predict_batch(models, torch.from_numpy(images[i : i + step]), views, machine, content.scale)
        for i in range(0, len(images), step)
    ]
    return torch.cat(pieces).numpy()


def _trace(member: Member, weights: Path, content: Content) -> onnx.ModelProto:
    """The net as ONNX, its weights under the names that they have in the file; torch makes no use of their values."""
    channels, height, width = content.shape
    net = read_net(member.recipe, content.competition, channels, weights, (height, width))
    example = torch.zeros(TRACED, channels, height, width)
    with _quiet():
        program = torch.onnx.export(
            Probabilities(net).eval(),
            (example,),
            None,
            dynamo=True,
            optimize=False,  # onnxruntime does that when it loads a net; here it would mix weights with one another
            verbose=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
        )
    assert program is not None
    return program.model_proto  # type: ignore[no-any-return]


def _put(state: dict[str, np.ndarray], net: onnx.ModelProto) -> bool:
    """Put other weights into a net in place; False, and nothing done, where it does not have each of them by its name."""
    from onnx import numpy_helper

    there = {tensor.name: tensor for tensor in net.graph.initializer}
    needed = {name: value for name, value in state.items() if not name.endswith(".num_batches_tracked")}
    if any(name not in there or tuple(there[name].dims) != value.shape for name, value in needed.items()):
        return False
    for name, value in needed.items():
        there[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter has to say of itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
