"""Networks by name, and the wrapper that makes any of them take any image size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from podium.config import CLASSIFIERS, OWN_NETS, NetSettings
from podium.errors import UserError, did_you_mean
from podium.nets.few_positions import use_products


class Model(nn.Module):
    """A network with the normalisation it was trained with, for images of any size.

    net: takes (N, channels, H, W) with H and W multiples of ``stride``, gives logits (N, outputs, H, W).
    mean, std: per channel, of images scaled to 0..1; kept in the weights file, since they are part of the model.
    (N, channels, H, W) float in 0..1 → logits (N, outputs, H, W): padded by reflection to the net's stride, and cut back.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, net: nn.Module, stride: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        self.stride = stride
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        below, right = -height % self.stride, -width % self.stride
        x = ((x - self.mean) / self.std).contiguous(memory_format=self.layout)
        if below or right:
            mode = "reflect" if below < height and right < width else "replicate"
            x = nn.functional.pad(x, (0, right, 0, below), mode=mode)
        return self.net(x)[..., :height, :width]


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
) -> Model:
    """The network that ``settings`` name, for images of ``channels`` channels and ``outputs`` classes.

    task: what it must give, masks or labels; a net of the other kind is a UserError.
    """
    labels = settings.name in CLASSIFIERS
    if labels != (task == "classification"):
        kind = "labels" if labels else "masks"
        raise UserError(
            f"net.name: '{settings.name}' predicts {kind}, the competition's task is {task}; choose another net"
        )
    if labels:
        net = _classifier(settings, channels, outputs)
        # our own blocks halve by two ways that must agree on odd sizes; timm's nets take any size
        stride = 2 ** (len(settings.widths) - 1) if settings.widths else 1
    elif settings.name in OWN_NETS:
        from podium.nets.residual_unet import ResidualUNet

        assert settings.widths is not None
        net = ResidualUNet(channels, outputs, settings.widths, settings.dropout or 0.0)
        stride = 2 ** (len(settings.widths) - 1)
    else:
        net, stride = _from_smp(settings, channels, outputs)
    return Model(net, stride, mean or [0.0] * channels, std or [1.0] * channels)


def _classifier(settings: NetSettings, channels: int, outputs: int) -> nn.Module:
    from podium.nets.classifier import Classifier, SmallCNN

    if settings.name == "small_cnn":
        assert settings.widths is not None
        return Classifier(SmallCNN(channels, outputs, settings.widths, settings.dropout or 0.0))
    import timm

    name = settings.encoder or ""
    if name not in timm.list_models():
        near = did_you_mean(name, timm.list_models()).split("? allowed")[0]
        guess = f"{near}? " if near.startswith("did you mean") else ""
        raise UserError(f"net.encoder: timm has no '{name}'; {guess}see timm.list_models()")
    try:
        return Classifier(
            timm.create_model(name, pretrained=settings.pretrained, in_chans=channels, num_classes=outputs)
        )
    except Exception as error:
        if not settings.pretrained:
            raise
        raise _no_weights(name, error) from error


def _no_weights(name: str, error: Exception) -> UserError:
    return UserError(
        f"net.pretrained: the weights of '{name}' could not be loaded ({type(error).__name__}); set "
        "net.pretrained=false, or run once where the hub can be reached and bring the cache folder ($HF_HOME)"
    )


def try_out(model: Model, settings: NetSettings, channels: int, height: int, width: int) -> None:
    """Predict one empty image; a net that cannot take images of this size is a UserError, before anything is trained."""
    like = next(model.parameters())
    mode = model.training
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, channels, height, width, device=like.device))
    except (AssertionError, RuntimeError, ValueError) as error:
        what = f"'{settings.name}'" + (f" on encoder '{settings.encoder}'" if settings.encoder else "")
        said = " ".join(str(error).split())
        raise UserError(
            f"net: {what} cannot take images of {height}×{width} ({said}); choose another net or encoder"
        ) from error
    finally:
        model.train(mode)


def _from_smp(settings: NetSettings, channels: int, outputs: int) -> tuple[nn.Module, int]:
    import segmentation_models_pytorch as smp
    import timm

    base = smp.base.SegmentationModel
    architectures = {
        name.lower(): item for name, item in vars(smp).items() if isinstance(item, type) and issubclass(item, base)
    }
    allowed = [*(name for name in OWN_NETS if name not in CLASSIFIERS), *architectures]
    if settings.name not in architectures:
        raise UserError(f"net.name: there is no net '{settings.name}'; {did_you_mean(settings.name, allowed)}")
    encoder = settings.encoder or ""
    native = smp.encoders.encoders
    name = encoder if encoder in native or encoder.startswith("tu-") else f"tu-{encoder}"
    if name.startswith("tu-") and name[3:] not in timm.list_models(pretrained=False):
        near = did_you_mean(encoder, [*native, *timm.list_models()]).split("? allowed")[0]
        guess = f"{near}? " if near.startswith("did you mean") else ""
        raise UserError(f"net.encoder: neither smp nor timm has '{encoder}'; {guess}see timm.list_models()")
    weights = (True if name.startswith("tu-") else "imagenet") if settings.pretrained else None
    try:
        net = architectures[settings.name](
            encoder_name=name, encoder_weights=weights, in_channels=channels, classes=outputs
        )
    except (ValueError, KeyError, NotImplementedError, RuntimeError, TypeError) as error:
        raise UserError(
            f"net: '{settings.name}' cannot be built on encoder '{encoder}' ({error}); choose another encoder"
        ) from error
    except Exception as error:
        if not settings.pretrained:
            raise
        raise _no_weights(encoder, error) from error
    return net, math.lcm(32, int(getattr(net.encoder, "output_stride", 32)))
