"""timm's models and smp's architectures by name, for any number of channels and, where they allow it, any size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from podium.config_net import CLASSIFIERS, OWN_NETS, NetSettings
from podium.errors import UserError, did_you_mean
from podium.nets.pretrained import Start, begin

Made = tuple[nn.Module, int, Start]
Size = tuple[int, int]


def timm_model(settings: NetSettings, channels: int, outputs: int, size: Size | None) -> Made:
    """The classification model ``settings.encoder`` of timm, its stride, and what its weights began with."""
    import timm

    name = settings.encoder or ""
    if name not in timm.list_models():
        near = did_you_mean(name, timm.list_models()).split("? allowed")[0]
        guess = f"{near}? " if near.startswith("did you mean") else ""
        raise UserError(f"net.encoder: timm has no '{name}'; {guess}see timm.list_models()")
    drop = {"drop_rate": settings.dropout} if settings.dropout is not None else {}

    def make(pretrained: bool, **how: Any) -> nn.Module:
        net: nn.Module = timm.create_model(
            name, pretrained=pretrained, in_chans=channels, num_classes=outputs, **drop, **how
        )
        return net

    how, stride = _for_size(make, channels, size, () if size is None else (_patch(make), 32))
    net, start = begin(lambda pretrained: make(pretrained, **how), settings, _hub_name(name))
    return net, stride, start


def smp_model(settings: NetSettings, channels: int, outputs: int, size: Size | None) -> Made:
    """The architecture ``settings.name`` of smp on ``settings.encoder``, its stride, and what its weights began with."""
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
    of_timm = name.startswith("tu-")
    if of_timm and name[3:] not in timm.list_models(pretrained=False):
        near = did_you_mean(encoder, [*native, *timm.list_models()]).split("? allowed")[0]
        guess = f"{near}? " if near.startswith("did you mean") else ""
        raise UserError(f"net.encoder: neither smp nor timm has '{encoder}'; {guess}see timm.list_models()")

    def make(pretrained: bool, **how: Any) -> nn.Module:
        weights = (True if of_timm else "imagenet") if pretrained else None
        try:
            net: nn.Module = architectures[settings.name](
                encoder_name=name, encoder_weights=weights, in_channels=channels, classes=outputs, **how
            )
        except (ValueError, KeyError, NotImplementedError, RuntimeError, TypeError) as error:
            if pretrained:  # it may be the weights
                raise
            raise UserError(
                f"net: '{settings.name}' cannot be built on encoder '{encoder}' ({error}); choose another encoder"
            ) from error
        return net

    how = _for_size(make, channels, size, (32,))[0] if of_timm else {}
    hub = _hub_name(name[3:]) if of_timm else str(native[name]["pretrained_settings"]["imagenet"]["repo_id"])
    net, start = begin(lambda pretrained: make(pretrained, **how), settings, hub)
    return net, math.lcm(32, int(getattr(net.encoder, "output_stride", 32))), start


def _hub_name(name: str) -> str:
    import timm

    config = timm.get_pretrained_cfg(name)
    return str((config and (config.hf_hub_id or config.url)) or name)


def _for_size(
    make: Callable[..., nn.Module], channels: int, size: Size | None, strides: tuple[int, ...]
) -> tuple[dict[str, Any], int]:
    """With which options, and padded to which stride, a model of timm takes images of ``size``.

    Most take any size. Vision transformers and their kin are made for one: they may be told to enlarge their code of the
    positions as needed, or of which size to be. Each way is tried without memory or time; where none does, or no size is
    given, the model is left as it is, and ``try_out`` says what is wrong.
    """
    if size is None:
        return {}, 1
    for ask in ("", "dynamic_img_size", "img_size"):
        for stride in strides:
            padded = tuple(side + -side % stride for side in size)
            how: dict[str, Any] = {ask: padded if ask == "img_size" else True} if ask else {}
            if _takes(make, how, channels, padded):
                return how, stride
    return {}, strides[0]


def _takes(make: Callable[..., nn.Module], how: dict[str, Any], channels: int, size: tuple[int, ...]) -> bool:
    try:
        with torch.random.fork_rng([]), torch.device("meta"), torch.inference_mode():
            make(False, **how).eval()(torch.zeros(1, channels, *size))
    except Exception:
        return False
    return True


def _patch(make: Callable[..., nn.Module]) -> int:
    """Pixels from one patch of a transformer to the next, 1 where it has none: what is left over would not be looked at."""
    with torch.random.fork_rng([]), torch.device("meta"):
        embed = getattr(make(False), "patch_embed", None)
    size = getattr(getattr(embed, "proj", None), "stride", getattr(embed, "patch_size", 1))
    return int(max(size)) if isinstance(size, tuple | list) else int(size)
