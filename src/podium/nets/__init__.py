"""Networks by name, and the wrapper that makes any of them take any image size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from podium.config_net import CLASSIFIERS, OWN_NETS, NetSettings
from podium.errors import UserError
from podium.nets import own
from podium.nets.classifier import Classifier, Scaled
from podium.nets.few_positions import use_products
from podium.nets.pretrained import Start


class Model(nn.Module):
    """A network with the normalisation it was trained with, for images of any size.

    net: takes (N, channels, H, W) with H and W multiples of ``stride``, gives logits (N, outputs, H, W).
    mean, std: per channel, of images scaled to 0..1; kept in the weights file, since they are part of the model.
    (N, channels, H, W) float in 0..1 → logits (N, outputs, H, W): padded by reflection to the net's stride, and cut back.
    A net with deep supervision gives a list in training, of which the one at index k has 1 / 2**k of the size, rounded up.
    start: what its weights began with.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, net: nn.Module, stride: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        self.stride = stride
        self.start = Start()
        self.layout = torch.contiguous_format
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def place(self, device: torch.device) -> Model:
        """Move to a device, in the memory layout and with the convolutions that are fastest there and safe."""
        self.layout = torch.channels_last
        if device.type == "cpu":
            use_products(self)
        if device.type == "cpu" and any(_corrupts_memory(module) for module in self.modules()):
            self.layout = torch.contiguous_format
        self.to(device)
        return self.to(memory_format=self.layout)  # type: ignore[call-overload,no-any-return]  # torch's stubs lack it

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        height, width = x.shape[-2:]
        below, right = -height % self.stride, -width % self.stride
        x = ((x - self.mean) / self.std).contiguous(memory_format=self.layout)
        if below or right:
            mode = "reflect" if below < height and right < width else "replicate"
            x = nn.functional.pad(x, (0, right, 0, below), mode=mode)
        out = self.net(x)
        if isinstance(self.net, Classifier):
            return out
        if isinstance(out, torch.Tensor):
            return out[..., :height, :width]
        return [level[..., : -(-height // 2**k), : -(-width // 2**k)] for k, level in enumerate(out)]


def _corrupts_memory(module: nn.Module) -> bool:
    """oneDNN's backward pass of channels-last 1×1 convolutions with a stride and under 16 input channels (torch 2.12.1)."""
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.in_channels < 16
    )


def build(
    settings: NetSettings,
    task: str,
    channels: int,
    outputs: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: tuple[int, int] | None = None,
    unit: tuple[float, float] = (0.0, 1.0),
) -> Model:
    """The network that ``settings`` name, for images of ``channels`` channels and ``outputs`` classes, questions or numbers.

    task: what it must give, masks or something about the whole image; a net of the other kind is a UserError. Of
    ``multilabel`` logits are (N, 2, outputs, 1), no and yes to each question. size: height and width of the images,
    for nets of timm that are made for one size; the same where its weights are loaded as where it was trained. unit: mean
    and standard deviation of what ``regression`` learns.
    """
    labels = settings.name in CLASSIFIERS
    if labels == (task == "segmentation"):
        kind = "labels" if labels else "masks"
        raise UserError(
            f"net.name: '{settings.name}' predicts {kind}, the competition's task is {task}; choose another net"
        )
    if settings.name in OWN_NETS:
        net, stride = own.build(settings, channels, outputs)
        start = Start()
    else:
        from podium.nets import library

        make = library.timm_model if labels else library.smp_model
        net, stride, start = make(settings, channels, outputs, size)
    if labels:
        net = Classifier(Scaled(net, *unit) if task == "regression" else net, questions=task == "multilabel")
    model = Model(net, stride, mean or [0.0] * channels, std or [1.0] * channels)
    model.start = start
    return model


def try_out(model: Model, settings: NetSettings, channels: int, height: int, width: int) -> None:
    """Predict and train on an empty image; a net that cannot take this size is a UserError, before anything is trained.

    Nothing of the model changes. Of a list of outputs, as deep supervision gives in training, each has half the size of
    the one before it, rounded up.
    """
    like = next(model.parameters())
    mode = model.training
    labels = isinstance(model.net, Classifier)
    try:
        with torch.inference_mode():
            for training, count in ((False, 1), (True, 2)):  # batch norm learns nothing from one value
                given = torch.zeros(count, channels, height, width, device=like.device)
                kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
                with torch.random.fork_rng([like.device] if like.device.type == "cuda" else []):
                    out = torch.func.functional_call(model.train(training), kept, (given,))
                levels = out if isinstance(out, list) else [out]
                for k, level in enumerate(levels):
                    wanted = (-(-height // 2**k), -(-width // 2**k))
                    if not labels and level.shape[-2:] != wanted:
                        raise ValueError(f"it gives {level.shape[-2]}×{level.shape[-1]}, not {wanted[0]}×{wanted[1]}")
    except (AssertionError, RuntimeError, ValueError) as error:
        what = f"'{settings.name}'" + (f" on encoder '{settings.encoder}'" if settings.encoder else "")
        said = " ".join(str(error).split())
        raise UserError(
            f"net: {what} cannot take images of {height}×{width} ({said}); choose another net or encoder"
        ) from error
    finally:
        model.train(mode)
