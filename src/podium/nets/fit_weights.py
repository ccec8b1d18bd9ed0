"""Weights that were saved by one program, loaded into a net that another one built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

PREFIXES = (
    "",
    "module.",
    "net.",
    "net.net.",
    "model.",
    "encoder.",
    "encoder.model.",
    "net.encoder.",
    "net.encoder.model.",
)
"""What stands before a backbone's names in files that hold more than the backbone."""
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Fitted:
    """What did not fit as it was: see ``pretrained.Start``."""

    adapted: tuple[str, ...]
    left_out: tuple[str, ...]
    fresh: tuple[str, ...]


@dataclass(frozen=True)
class _Match:
    """Which tensor of a file is which of a part of the net.

    inside: what stands before the part's names in the net, prefix: in the file. pairs: the part's name → the file's.
    missing: what the file lacks of the part. head: the part's tensors that belong to the classes.
    """

    part: nn.Module
    inside: str
    prefix: str
    pairs: Mapping[str, str]
    missing: tuple[str, ...]
    head: frozenset[str]


def fit(net: nn.Module, given: Mapping[str, torch.Tensor], encoder: str = "") -> Fitted:
    """Load ``given`` into ``net`` where it holds all of it, else into its backbone; in place.

    Everything must be there and have its shape, but for the first convolution, whose input channels are adapted, and the
    head, which is left as it is where the file's does not fit. A tensor that is neither of the net nor of a
    part that this net leaves out is refused: the file is of another net. ``encoder``: its name, to ask timm what else
    the whole model has. What does not fit is a ValueError.
    """
    parts = _parts(net)
    heads = _heads(net)
    found = [_match(part, inside, given, prefix, heads) for inside, part in parts for prefix in PREFIXES]
    best = min(found, key=lambda match: len(match.missing) / max(1, len(match.pairs) + len(match.missing)))
    if best.missing:
        count = len(best.missing) + len(best.pairs)
        raise ValueError(f"it lacks {len(best.missing)} of {count} tensors, the first is '{best.missing[0]}'")
    used = set(best.pairs.values())
    left_out = [name for name in given if name not in used]
    foreign = [name for name in left_out if _is_of(best, name)]
    whole = _whole(encoder) if foreign else set()
    for name in foreign:
        if _plain(name.removeprefix(best.prefix)) not in whole:
            raise ValueError(f"it holds '{name}', which that net does not have")
    return _load(best, given, left_out)


def adapt_channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """A first convolution's weights (out, c, h, w) for another number of input channels, as timm does it.

    One channel gets the sum of all; several get them in turn, scaled so that the answer to equal channels stays.
    """
    have = weight.shape[1]
    if channels == have:
        return weight
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return weight.repeat(1, -(-channels // have), 1, 1)[:, :channels] * (have / channels)


def _parts(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """The net, its encoder where it has one, and what these merely wrap, with their names in the net."""
    parts = [("", net)]
    encoder = getattr(net, "encoder", None)
    if isinstance(encoder, nn.Module):
        parts.append(("encoder.", encoder))
    inside, part = parts[-1]
    while len(children := list(part.named_children())) == 1:
        inside, part = f"{inside}{children[0][0]}.", children[0][1]
        parts.append((inside, part))
    return parts


def _heads(net: nn.Module) -> set[str]:
    """Names of the tensors that belong to the classes."""
    roots = ["segmentation_head", "classification_head"]
    classifier: Callable[[], object] | None = getattr(net, "get_classifier", None)
    if classifier is not None:
        last = classifier()
        lasts = [module for module in (last if isinstance(last, tuple) else (last,)) if isinstance(module, nn.Module)]
        roots += [name for name, module in net.named_modules() if any(module is one for one in lasts)]
    return {name for name in net.state_dict() if name.startswith(tuple(f"{root}." for root in roots))}


def _plain(name: str) -> str:
    """timm's nets that give features join the names of nested modules with underscores."""
    return name.replace(".", "_")


def _match(part: nn.Module, inside: str, given: Mapping[str, torch.Tensor], prefix: str, heads: set[str]) -> _Match:
    there = {_plain(name.removeprefix(prefix)): name for name in given if name.startswith(prefix)}
    names = list(part.state_dict())
    pairs = {name: there[_plain(name)] for name in names if _plain(name) in there}
    head = frozenset(name for name in names if inside + name in heads)
    missing = [name for name in names if name not in pairs and name not in head and not name.endswith(COUNTER)]
    return _Match(part, inside, prefix, pairs, tuple(missing), head)


def _is_of(match: _Match, name: str) -> bool:
    """Whether a tensor of the file that has no counterpart lies within what the part has: a block too many, say."""
    if not name.startswith(match.prefix):
        return False
    own = name.removeprefix(match.prefix)
    if own in dict(match.part.named_buffers()):  # of those that are computed and not saved
        return False
    root = own.split(".")[0]
    return any(_plain(known).startswith(f"{_plain(root)}_") for known in match.part.state_dict())


def _whole(encoder: str) -> set[str]:
    """Plain names of all tensors of a model of timm; an encoder may end before the model does."""
    import timm

    name = encoder.removeprefix("tu-")
    if name not in timm.list_models():
        return set()
    with torch.device("meta"):
        return {_plain(name) for name in timm.create_model(name).state_dict()}


def _load(match: _Match, given: Mapping[str, torch.Tensor], left_out: list[str]) -> Fitted:
    first = next((name for name, module in match.part.named_modules() if isinstance(module, nn.Conv2d)), None)
    adapted, unfit, values = [], [], {}
    own = match.part.state_dict()
    for name, theirs in match.pairs.items():
        value, wanted = given[theirs], own[name].shape
        if name == f"{first}.weight" and value.ndim == 4 and value.shape[1] != wanted[1]:
            value = adapt_channels(value, wanted[1])
            adapted.append(match.inside + name)
        if value.shape != wanted:
            if name not in match.head:
                raise ValueError(f"'{theirs}' is {_by(given[theirs].shape)} in it and {_by(wanted)} in the net")
            unfit.append(theirs)
            continue
        values[name] = value
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)
    counters = {name for name in own if name.endswith(COUNTER)}
    fresh = [match.inside + name for name in own if name not in values and name not in counters]
    return Fitted(tuple(adapted), tuple(left_out + unfit), tuple(fresh))


def _by(shape: torch.Size) -> str:
    return "×".join(map(str, shape)) or "a number"
