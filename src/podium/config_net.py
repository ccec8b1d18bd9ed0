"""Settings of a recipe's network, and what identifies it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from podium.config_base import Count, PositiveInt, Settings
from podium.errors import UserError, did_you_mean
from podium.store import sha256_of

WIDTHS = (16, 32, 64, 128)
_UNET = {"widths": WIDTHS, "dropout": 0.05, "deep": 0}
OWN_NETS: Mapping[str, Mapping[str, Any]] = {
    "residual_unet": {"widths": WIDTHS, "dropout": 0.0},
    "plain_unet": _UNET,
    "attention_unet": _UNET | {"deep": 2},
    "gated_unet": _UNET | {"deep": 2},
    "transformer_unet": _UNET | {"depth": 4, "heads": 4},
    "small_object_unet": _UNET | {"widths": (24, 48), "dilations": (1, 2, 4, 8)},
    "small_cnn": {"widths": WIDTHS, "dropout": 0.0, "stem": 1},
    "cnn5": {"widths": (32, 32, 64, 64, 128), "dropout": 0.25, "hidden": 128},
}
"""Our own nets with the options that each has, and what these are where a recipe does not say."""
_TIMM: Mapping[str, Any] = {"encoder": None, "pretrained": "never", "checksum": None}
CLASSIFIERS = ("small_cnn", "cnn5", "timm")
"""Nets that predict labels; all others predict masks."""
PRETRAINED = ("never", "if_available", "required")
FILES = (".safetensors", ".pth", ".pt", ".bin")
"""Endings of files of weights."""


class NetSettings(Settings):
    """The network: one of ours, any timm model, or any architecture of segmentation_models_pytorch with any timm encoder.

    name: for masks one of our U-Nets, or an smp architecture in lower case (``unet``, ``fpn``, ``segformer``, ...); for
    labels ``small_cnn``, ``cnn5`` or ``timm``. Each takes the options that it has, and no others (``OWN_NETS``):
    widths: channels per level from full resolution down. dropout: of ours, and of timm's heads. deep: how many of the
    decoder's levels below full resolution answer too in training, weighed by ``loss.deep``. depth, heads: of transformer
    blocks. dilations: of the blocks at the last level. hidden: width of the first dense layer. stem: by how much the first
    convolution lowers the resolution, 1, 2 or 4.
    encoder: of smp's architectures, and which model of timm.
    pretrained: ``never``; ``if_available``: the hub's weights, from scratch where they cannot be had; ``required``; or a
    file of weights, whose path counts from the project's folder. checksum: SHA-256 of that file; found by itself, and
    compared where it is given.
    """

    name: str
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=7)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    deep: Count | None = None
    depth: PositiveInt | None = None
    heads: PositiveInt | None = None
    dilations: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | None = None
    hidden: PositiveInt | None = None
    stem: Literal[1, 2, 4] | None = None
    encoder: str | None = None
    pretrained: str = "never"
    checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None

    @field_validator("pretrained", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value).lower() if isinstance(value, bool) else value  # _word says what is wrong with it

    @model_validator(mode="after")
    def _options_fit(self) -> NetSettings:
        given = self.deep
        for key, value in OWN_NETS.get(self.name, {}).items():
            if getattr(self, key) is None:  # not before validation, which in strict mode would then refuse lists
                object.__setattr__(self, key, value)
        if given is None and self.deep and self.widths:
            object.__setattr__(self, "deep", max(0, min(self.deep, len(self.widths) - 2)))
        options = self.options
        for key in NetSettings.model_fields:
            if key != "name" and key not in options and getattr(self, key) not in (None, "never"):
                raise ValueError(f"{key}: does nothing for a net '{self.name}'; remove it")
        if "encoder" in options and self.encoder is None:
            raise ValueError(f"encoder: missing; a net '{self.name}' needs it")
        self._word()
        if self.checksum is not None and self.file is None:
            raise ValueError("checksum: is of a file that pretrained names; remove it")
        if self.name in OWN_NETS:
            self._shape_fits()
        return self

    def _word(self) -> None:
        word = self.pretrained
        if word in PRETRAINED or word.endswith(FILES):
            return
        if word in ("true", "false"):
            now = "never" if word == "false" else "required, or if_available"
            raise ValueError(f"pretrained: {word} is now called {now}; write that, or the path of a file of weights")
        raise ValueError(
            f"pretrained: '{word}' is no file of weights ({', '.join(FILES)}) and no word that is known; "
            f"{did_you_mean(word, PRETRAINED)}"
        )

    def _shape_fits(self) -> None:
        widths = self.widths or ()
        if self.name == "cnn5" and len(widths) != 5:
            raise ValueError(f"widths: cnn5 has five convolutions, found {len(widths)} widths")
        if self.name == "small_object_unet" and len(widths) > 3:
            raise ValueError(
                f"widths: small_object_unet halves the resolution twice at most, found {len(widths)} widths"
            )
        if self.deep and self.deep > len(widths) - 2:
            raise ValueError(
                f"deep: {len(widths)} widths leave the decoder {len(widths) - 2} levels below full resolution, "
                f"found {self.deep}"
            )
        if self.heads and (widths[-1] % 4 or widths[-1] % self.heads):
            raise ValueError(
                f"widths: the last one must be a multiple of 4 and of heads ({self.heads}), found {widths[-1]}"
            )

    @property
    def options(self) -> frozenset[str]:
        """The keys that this net has."""
        if self.name in OWN_NETS:
            return frozenset(OWN_NETS[self.name])
        return frozenset(_TIMM) | ({"dropout"} if self.name == "timm" else set())

    @property
    def outputs(self) -> int:
        """How many answers the net gives in training."""
        return 1 + (self.deep or 0)

    @property
    def file(self) -> Path | None:
        """The file of weights that it begins with."""
        return None if self.pretrained in PRETRAINED else Path(self.pretrained)

    def identity(self) -> dict[str, Any]:
        """What results depend on: of a file of weights its content, not where it lies."""
        given = self.model_dump(mode="json", exclude_none=True)
        if self.file is not None:
            if self.checksum is None:
                raise ValueError(f"{self.file}: its checksum is not known; call with_checksum first")
            given["pretrained"] = f"sha256:{given.pop('checksum')}"
        return given


def with_checksum(net: NetSettings, root: Path) -> NetSettings:
    """The same with the path of its file of weights made absolute (from ``root``) and the file's checksum.

    A file that is not there, or not what a given checksum says, is a UserError; with a checksum the file may be missing
    until a training needs it.
    """
    if net.file is None:
        return net
    path = (root / net.file).resolve()
    if path.is_file():
        found = sha256_of(path)
        if net.checksum not in (None, found):
            raise UserError(f"{path}: has the checksum {found}, net.checksum says {net.checksum}; correct one of them")
        return net.model_copy(update={"pretrained": str(path), "checksum": found})
    if net.checksum is None:
        raise UserError(
            f"net.pretrained: there is no file {path}; correct its path, or write one of {', '.join(PRETRAINED)}"
        )
    return net.model_copy(update={"pretrained": str(path)})
