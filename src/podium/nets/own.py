"""Our own nets by name; ``config_net.OWN_NETS`` has their options."""

from __future__ import annotations

from typing import Any

from torch import nn

from podium.config_net import OWN_NETS, NetSettings
from podium.nets import unets
from podium.nets.classifier import SmallCNN
from podium.nets.cnn5 import CNN5
from podium.nets.residual_unet import ResidualUNet


def build(settings: NetSettings, channels: int, outputs: int) -> tuple[nn.Module, int]:
    """The net, and of what height and width must be multiples."""
    options: dict[str, Any] = {key: getattr(settings, key) for key in OWN_NETS[settings.name]}
    if settings.name == "residual_unet":
        unet = ResidualUNet(channels, outputs, **options)
        return unet, unet.stride
    if settings.name == "small_cnn":
        # its blocks halve by two ways that must agree on odd sizes
        return SmallCNN(channels, outputs, **options), options["stem"] * 2 ** (len(options["widths"]) - 1)
    if settings.name == "cnn5":
        return CNN5(channels, outputs, **options), 1
    net = getattr(unets, settings.name)(channels, outputs, **options)
    return net, net.stride
