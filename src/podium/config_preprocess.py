"""Preprocessing as a competition's YAML names it: ordered steps, the same for training and test pictures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from podium.config_base import PositiveInt, Settings, Share
from podium.errors import did_you_mean

Positive = Annotated[float, Field(gt=0)]
StainVector = tuple[Share, Share, Share]


class Standardise(Settings):
    """Normalise by mean and standard deviation per channel, of the training part of the fold at hand and nothing else.

    It comes last and changes no stored picture: what wraps the net learns the numbers from the fold's training rows
    and keeps them with the weights. As a step it can be seen, and left out.
    """

    name: Literal["standardise"] = "standardise"


class Illumination(Settings):
    """Even out uneven light: divide each channel by its own smooth background, or subtract it.

    sigma: standard deviation of the Gaussian that makes the background, as a share of the picture's longer side; what
    is to be kept must be smaller. mode: ``divide`` for light that varies (shading, vignetting), ``subtract`` for a
    veil that adds to the picture.
    """

    name: Literal["illumination"] = "illumination"
    sigma: Annotated[float, Field(gt=0, le=1)] = 0.15
    mode: Literal["divide", "subtract"] = "divide"


class Clahe(Settings):
    """Contrast-limited adaptive histogram equalisation; of colour pictures the lightness.

    clip: how steep the mapping of grey values may become, as a multiple of no change; larger gives more contrast and
    more noise. tiles: pieces along each side that have a histogram each; fewer where they would be smaller than 16
    pixels, since the limit works by whole counts.
    """

    name: Literal["clahe"] = "clahe"
    clip: Annotated[float, Field(gt=0, le=256)] = 2.0
    tiles: Annotated[PositiveInt, Field(le=64)] = 8


class StainMacenko(Settings):
    """Give stained tissue the colours of a fixed reference, after Macenko et al. 2009.

    white: what a pixel without tissue measures, as a share of the full range. beta: optical density (natural
    logarithm) that a pixel needs in every channel to count as tissue. alpha: percentile of the angles at which the
    two stains are read. min_tissue: pictures with a smaller share of tissue stay as they are. stains: the reference's
    colours, optical density in red, green and blue, of haematoxylin and of eosin. maxima: their 99th percentiles of
    concentration in the reference. The defaults are the reference that most implementations of the method share.
    """

    name: Literal["stain_macenko"] = "stain_macenko"
    white: Annotated[float, Field(gt=0, le=1)] = 240 / 255
    beta: Positive = 0.15
    alpha: Annotated[float, Field(ge=0, lt=50)] = 1.0
    min_tissue: Share = 0.01
    stains: tuple[StainVector, StainVector] = ((0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581))
    maxima: tuple[Positive, Positive] = (1.9705, 1.0308)

    @model_validator(mode="after")
    def _check(self) -> StainMacenko:
        (a, b, c), (d, e, f) = self.stains
        across = (b * f - c * e) ** 2 + (c * d - a * f) ** 2 + (a * e - b * d) ** 2
        if across <= 1e-4 * (a * a + b * b + c * c) * (d * d + e * e + f * f):
            raise ValueError("stains: the two colours are the same but for their strength; give two that differ")
        return self


class CentralCell(Settings):
    """Isolate the object in the middle, such as the cell that a picture of a smear was cut out for.

    mode: ``soft`` fades everything else to the colour of the background, ``crop`` cuts the picture to the object's
    box (for classification). min_area: smaller objects are passed over, as a share of the picture. neck: neighbours
    that touch are cut off where the bridge is thinner than this share of the object's thickness; 0 cuts nothing.
    feather: how far the fading reaches out, as a share of the picture's longer side (soft, 0.03). margin: what the
    box is widened by on each side, as a share of its longer side (crop, 0.1).
    """

    name: Literal["central_cell"] = "central_cell"
    mode: Literal["soft", "crop"] = "soft"
    min_area: Share = 0.005
    neck: Annotated[float, Field(ge=0, lt=1)] = 0.5
    feather: Share | None = None
    margin: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _check(self) -> CentralCell:
        for option, mode in (("feather", "soft"), ("margin", "crop")):
            if getattr(self, option) is not None and self.mode != mode:
                raise ValueError(f"{option}: does nothing with mode: {self.mode}; remove it or set mode: {mode}")
        return self


ImageStep = Illumination | Clahe | StainMacenko | CentralCell
Step = Annotated[Standardise | ImageStep, Field(discriminator="name")]
_STEPS: dict[str, type[Settings]] = {
    "standardise": Standardise,
    "illumination": Illumination,
    "clahe": Clahe,
    "stain_macenko": StainMacenko,
    "central_cell": CentralCell,
}


def _written_out(steps: Any) -> Any:
    """Bare names as mappings, lists as tuples (strict validation takes no list after this); unknown words are refused."""
    if not isinstance(steps, list | tuple):
        return steps
    return tuple(_step(step) for step in steps)


def _step(step: Any) -> Any:
    step = {"name": step} if isinstance(step, str) else step
    if not isinstance(step, dict):
        return step
    name = step.get("name")
    if not isinstance(name, str):
        raise ValueError(f"name: a step has none; write it as in {{name: clahe}}; {did_you_mean('', _STEPS)}")
    if name not in _STEPS:
        raise ValueError(f"{name}: is no step; {did_you_mean(name, _STEPS)}")
    allowed = _STEPS[name].model_fields
    for option in step:
        if option not in allowed:
            raise ValueError(
                f"{name}.{option}: unknown option; {did_you_mean(option, [a for a in allowed if a != 'name'])}"
            )
    return {option: _frozen(value) for option, value in step.items()}


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _ordered(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    names = [step.name for step in steps]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name}: is named {names.count(name)} times; name every step once")
    if "standardise" in names[:-1]:
        raise ValueError(
            "standardise: stands before another step; put it last, its statistics are of what the net sees"
        )
    return steps


Steps = Annotated[tuple[Step, ...], BeforeValidator(_written_out), AfterValidator(_ordered)]
"""The value of a competition's ``preprocess`` key: steps in the order in which they are done, each at most once."""


def image_steps(steps: Iterable[Step]) -> tuple[ImageStep, ...]:
    """The steps that change pictures: all but ``standardise``, in order."""
    return tuple(step for step in steps if not isinstance(step, Standardise))
