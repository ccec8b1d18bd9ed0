"""The backbone of a net and its stages, for learning rates that fall towards the image and for freezing."""

from __future__ import annotations

from torch import nn

from podium.nets import Model
from podium.nets.classifier import Classifier, Scaled


def backbone(model: Model) -> nn.Module | None:
    """The part of a net that pre-trained weights are for: smp's encoder, timm's whole model; None in our own nets."""
    net = model.net
    if isinstance(net, Classifier):
        inner = net.net.net if isinstance(net.net, Scaled) else net.net
        return inner if hasattr(inner, "get_classifier") else None
    encoder = getattr(net, "encoder", None)
    return encoder if isinstance(encoder, nn.Module) and hasattr(encoder, "out_channels") else None


def depths(model: Model) -> dict[str, int]:
    """For every parameter of the backbone, by its name in ``model``, how many stages lie after it; the last has 1.

    A stage is a child of the backbone that has blocks of its own, or one entry of a list of such; what comes before the
    first (the stem) is one stage too, what comes after the last belongs to it. A classifier's head is no stage.
    """
    trunk = backbone(model)
    if trunk is None:
        return {}
    prefix = next(name for name, module in model.named_modules() if module is trunk)
    head = trunk.get_classifier() if isinstance(model.net, Classifier) else None  # type: ignore[operator]  # encoders may have lost theirs
    of_head = {id(parameter) for parameter in head.parameters()} if isinstance(head, nn.Module) else set()
    stage: dict[str, int] = {}
    number, seen = 0, False
    for name, module in _parts(trunk):
        deep = any(True for _ in module.children())
        if deep and (seen or stage):
            number += 1
        seen = seen or deep
        for inner, parameter in module.named_parameters():
            if id(parameter) not in of_head:
                stage[f"{prefix}.{name}.{inner}" if name else f"{prefix}.{inner}"] = number
    for name, parameter in trunk.named_parameters(recurse=False):  # position embeddings and the like
        if id(parameter) not in of_head:
            stage[f"{prefix}.{name}"] = 0
    last = max(stage.values(), default=0)
    return {name: last - number + 1 for name, number in stage.items()}


def _parts(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Children in order, lists of blocks and lone wrappers taken apart."""
    children = list(module.named_children())
    parts: list[tuple[str, nn.Module]] = []
    for name, child in children:
        inner = list(child.children())
        numbered = isinstance(child, nn.Sequential | nn.ModuleList) and any(list(one.children()) for one in inner)
        lone = len(children) == 1 and inner
        if lone or (numbered and _is_list_of_stages(name)):
            parts += _parts(child, f"{prefix}{name}.")
        else:
            parts.append((f"{prefix}{name}", child))
    return parts


def _is_list_of_stages(name: str) -> bool:
    return name in ("stages", "blocks", "layers", "features")
