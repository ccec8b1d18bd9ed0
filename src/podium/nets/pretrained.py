"""Where a net's weights begin: drawn at random, taken from a hub, or read from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from podium.config_net import NetSettings
from podium.errors import UserError
from podium.nets.fit_weights import fit
from podium.store import sha256_of

HUB_SECONDS = 10.0
"""How long the hub has to answer at all. Its own client tries each file six times before it looks into its cache."""


@dataclass(frozen=True)
class Start:
    """What a net began with; recorded with every training.

    pretrained: as asked for, a file by its checksum. used: ``scratch``, ``hub`` or ``file``. weights: the hub's name of the
    weights, or the file's. why: the reason why a net that might have had weights began from scratch. adapted: tensors
    whose input channels were added up or repeated. left_out: tensors of the file that the net has no use for. fresh: of
    the net, drawn at random since the file has none that fit.
    """

    pretrained: str = "never"
    used: str = "scratch"
    weights: str = ""
    why: str = ""
    adapted: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()

    def sentence(self) -> str:
        """What the user should know of it; empty where it went as asked for."""
        if self.why:
            return f"the net begins from scratch: {self.why}"
        odd = [
            f"{what} {_some(names)}"
            for what, names in (
                ("channels were adapted in", self.adapted),
                ("drawn at random, since the file has none that fit, are", self.fresh),
                ("the net has no use for the file's", self.left_out),
            )
            if names
        ]
        return f"weights of {self.weights}: " + "; ".join(odd) if odd else ""


def _some(names: tuple[str, ...], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def begin(make: Callable[[bool], nn.Module], settings: NetSettings, hub_name: str) -> tuple[nn.Module, Start]:
    """Make a net and give it the weights that ``settings`` ask for.

    make: builds the net, told whether with the hub's weights. A net that begins from scratch since the hub could not be
    reached has the very weights that it would have had with ``never``. Weights that were required and cannot be had, or
    a file that does not fit, are a UserError.
    """
    if settings.file is not None:
        net = make(False)
        return net, _from_file(net, settings.file, settings)
    if settings.pretrained == "never":
        return make(False), Start()
    random = torch.get_rng_state()
    try:
        with _no_waiting():
            return make(True), Start(settings.pretrained, "hub", hub_name)
    except Exception as error:
        torch.set_rng_state(random)
        net = make(False)  # what cannot be built at all says so here
        said = " ".join(str(error).split())[:200]
        if settings.pretrained == "required":
            raise UserError(
                f"net.pretrained: the weights of '{settings.encoder}' could not be loaded ({type(error).__name__}: {said}); run "
                "once where the hub can be reached, or bring the cache folder of a machine that has them ($HF_HOME), or "
                "give a file: net.pretrained=path/to/weights.safetensors"
            ) from error
        return net, Start(
            settings.pretrained,
            why=f"the weights of '{settings.encoder}' could not be loaded ({type(error).__name__}: {said})",
        )


@contextmanager
def _no_waiting() -> Iterator[None]:
    """Let the hub's client look into its cache at once where the hub does not answer."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or _hub_answers(constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


def _hub_answers(address: str) -> bool:
    from huggingface_hub.utils import get_session

    try:
        get_session().head(address, timeout=HUB_SECONDS)  # whatever it answers
    except Exception:
        return False
    return True


def _from_file(net: nn.Module, path: Path, settings: NetSettings) -> Start:
    if not path.is_file():
        raise UserError(f"net.pretrained: there is no file {path}; bring it, or correct its path")
    checksum = sha256_of(path)
    if settings.checksum not in (None, checksum):
        raise UserError(f"{path}: was changed since the run was planned; run the command again")
    what = f"'{settings.name}' on '{settings.encoder}'" if settings.name != "timm" else f"timm's '{settings.encoder}'"
    try:
        fitted = fit(net, read(path), settings.encoder or "")
    except ValueError as error:
        raise UserError(
            f"net.pretrained: {path} does not fit {what}: {error}; give a file of weights of that net"
        ) from error
    return Start(f"sha256:{checksum}", "file", path.name, "", fitted.adapted, fitted.left_out, fitted.fresh)


def read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file by name, on the CPU; no code in it is run. A file that holds none is a UserError."""
    from safetensors.torch import load_file

    try:
        held = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: cannot be read as weights ({said}); save the net's state dict as safetensors"
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):  # as trainings wrap it
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    found = {str(k): v for k, v in held.items() if isinstance(v, torch.Tensor)} if isinstance(held, Mapping) else {}
    if not found:
        raise UserError(f"{path}: holds no weights by name; save the net's state dict as safetensors")
    return found
