"""Settings of a recipe's augmentation: lists of named operations, done in the order written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from podium.config_base import PositiveInt, Settings, Share
from podium.errors import did_you_mean

Chance = Annotated[float, Field(gt=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Degrees = Annotated[float, Field(ge=-180, le=180)]
Slant = Annotated[float, Field(ge=-40, le=40)]
Part = Annotated[float, Field(ge=-1, le=1)]
Zoom = Annotated[float, Field(ge=0.05, le=20)]
Exponent = Annotated[float, Field(ge=0.05, le=20)]
Sigma = Annotated[float, Field(ge=0, le=10)]


class Operation(Settings):
    """One operation. p: share of the samples it is done to; each range [low, high] is drawn from evenly, per sample."""

    neutral: ClassVar[Mapping[str, float]] = {}
    """Its ranges, with the amount that changes nothing."""
    p: Chance = 0.5

    @model_validator(mode="after")
    def _ranges(self) -> Operation:
        for key in self.neutral:
            low, high = getattr(self, key)
            if low > high:
                raise ValueError(f"{key}: [{low:g}, {high:g}] runs downwards; write it as [{high:g}, {low:g}]")
        if self.neutral and all(getattr(self, key) == (amount, amount) for key, amount in self.neutral.items()):
            raise ValueError(
                f"{next(iter(self.neutral))}: changes nothing in this range; widen it or remove the operation"
            )
        return self


class FlipH(Operation):
    """Mirror left and right."""

    name: Literal["flip_h"] = "flip_h"


class FlipV(Operation):
    """Mirror top and bottom."""

    name: Literal["flip_v"] = "flip_v"


class Turn90(Operation):
    """One, two or three quarter turns, each as likely; with p 0.75 all four positions are.

    stretch: images that are not square are allowed, and stretched back to their shape when they lie on their side.
    """

    name: Literal["turn90"] = "turn90"
    p: Chance = 0.75
    stretch: bool = False


class Affine(Operation):
    """Shear, scale, rotate and shift about the image's centre.

    rotate: degrees, counter-clockwise. scale: factor, above 1 magnifies. shift: share of width and of height, drawn apart;
    to the right and down. shear: degrees, along x and along y, drawn apart.
    fill: what comes in from outside. ``reflect``: the mirrored image with its mirrored labels; ``mean`` (of the image, per
    channel) and ``zero``: pixels without a label.
    """

    neutral: ClassVar[Mapping[str, float]] = {"rotate": 0.0, "scale": 1.0, "shift": 0.0, "shear": 0.0}
    name: Literal["affine"] = "affine"
    rotate: tuple[Degrees, Degrees] = (-15.0, 15.0)
    scale: tuple[Zoom, Zoom] = (0.9, 1.1)
    shift: tuple[Part, Part] = (-0.1, 0.1)
    shear: tuple[Slant, Slant] = (0.0, 0.0)
    fill: Literal["reflect", "mean", "zero"] = "reflect"


class Brightness(Operation):
    """Add ``shift``."""

    neutral: ClassVar[Mapping[str, float]] = {"shift": 0.0}
    name: Literal["brightness"] = "brightness"
    shift: tuple[Part, Part] = (-0.1, 0.1)


class Contrast(Operation):
    """Stretch by ``factor`` about the image's own mean, all channels together."""

    neutral: ClassVar[Mapping[str, float]] = {"factor": 1.0}
    name: Literal["contrast"] = "contrast"
    factor: tuple[NotNegative, NotNegative] = (0.9, 1.1)


class Gamma(Operation):
    """Raise to the power ``exponent``; what lies below 0 as its mirror image."""

    neutral: ClassVar[Mapping[str, float]] = {"exponent": 1.0}
    name: Literal["gamma"] = "gamma"
    exponent: tuple[Exponent, Exponent] = (0.8, 1.25)


class Noise(Operation):
    """Add Gaussian noise of standard deviation ``std``, every channel and pixel for itself."""

    neutral: ClassVar[Mapping[str, float]] = {"std": 0.0}
    name: Literal["noise"] = "noise"
    std: tuple[NotNegative, NotNegative] = (0.0, 0.02)


class Blur(Operation):
    """Gaussian blur of ``sigma`` pixels."""

    neutral: ClassVar[Mapping[str, float]] = {"sigma": 0.0}
    name: Literal["blur"] = "blur"
    sigma: tuple[Sigma, Sigma] = (0.0, 1.5)


class Colour(Operation):
    """Change colours; for images of three channels, red, green and blue.

    hue: degrees around the colour circle. saturation: factor, 0 is grey. gain: factor of each channel, drawn apart.
    """

    neutral: ClassVar[Mapping[str, float]] = {"hue": 0.0, "saturation": 1.0, "gain": 1.0}
    name: Literal["colour"] = "colour"
    hue: tuple[Degrees, Degrees] = (-10.0, 10.0)
    saturation: tuple[NotNegative, NotNegative] = (0.8, 1.2)
    gain: tuple[NotNegative, NotNegative] = (0.95, 1.05)


class Cutout(Operation):
    """Hide ``count`` rectangles (DeVries & Taylor 2017), each wholly within the image.

    size: share of the height and of the width, drawn apart. fill: ``mean`` of the image, per channel, or ``zero``.
    labels: of what is hidden; ``keep`` asks the net to guess, ``drop`` makes them pixels without a label.
    """

    neutral: ClassVar[Mapping[str, float]] = {"size": 0.0}
    name: Literal["cutout"] = "cutout"
    size: tuple[Share, Share] = (0.1, 0.3)
    count: Annotated[PositiveInt, Field(le=100)] = 1
    fill: Literal["mean", "zero"] = "mean"
    labels: Literal["keep", "drop"] = "keep"


Geometric = FlipH | FlipV | Turn90 | Affine
"""Operations that move pixels; those that stand together are done as one."""
Single = Geometric | Brightness | Contrast | Gamma | Noise | Blur | Colour | Cutout
NAMES = (
    *("flip_h", "flip_v", "turn90", "affine", "brightness", "contrast", "gamma", "noise", "blur", "colour", "cutout"),
    "random",
)


def _written_out(operations: Any, **options: Any) -> Any:
    """Bare names as mappings, lists as tuples (strict validation takes no list after this)."""
    if not isinstance(operations, list | tuple):
        return operations
    return tuple(_operation(operation, options) for operation in operations)


def _operation(operation: Any, options: dict[str, Any]) -> Any:
    if isinstance(operation, dict) and "name" not in operation:
        raise ValueError(
            "name: an operation has none; write it as in {name: contrast, factor: [0.9, 1.1]}; "
            + did_you_mean("", NAMES)
        )
    if isinstance(operation, str):
        operation = {"name": operation}
    if not isinstance(operation, dict):
        return operation
    return options | {key: tuple(value) if isinstance(value, list) else value for key, value in operation.items()}


def _drawn_from(operations: Any) -> Any:
    return _written_out(operations, p=1.0)


class Random(Settings):
    """``count`` different operations for each sample, any as likely as another, as in RandAugment (Cubuk et al. 2019).

    They are done in the order of ``of``, not in that of the draw, so that geometry stays one step.
    of: what is drawn from, with ranges at full strength. strength: how far every range reaches, from the amount that changes
    nothing (0) to what is written (1). p: share of the samples that are changed at all.
    """

    name: Literal["random"] = "random"
    p: Chance = 1.0
    count: PositiveInt = 2
    strength: Chance = 1.0
    of: Annotated[
        tuple[Annotated[Single, Field(discriminator="name")], ...],
        Field(min_length=2),
        BeforeValidator(_drawn_from),
    ]

    @field_validator("of")
    @classmethod
    def _chance(cls, of: tuple[Single, ...]) -> tuple[Single, ...]:
        for place, item in enumerate(of):
            if item.p != 1:
                raise ValueError(f"{place}.p: how often {item.name} is done follows from count; remove p")
        return of

    @model_validator(mode="after")
    def _draws(self) -> Random:
        if self.count >= len(self.of):
            raise ValueError(
                f"count: {self.count} of {len(self.of)} operations leaves nothing to draw; name more operations in 'of' or "
                "lower it"
            )
        if self.strength != 1 and not any(item.neutral for item in self.of):
            raise ValueError("strength: none of these operations has a range; remove it")
        return self

    @property
    def operations(self) -> tuple[Single, ...]:
        """``of`` with the ranges that ``strength`` leaves."""
        return tuple(_weakened(item, self.strength) for item in self.of)


Named = TypeVar("Named", bound=Operation)


def _weakened(item: Named, strength: float) -> Named:
    ranges = {
        key: tuple(amount + strength * (end - amount) for end in getattr(item, key))
        for key, amount in item.neutral.items()
    }
    return item.model_copy(update=ranges)


class PerImageSettings(Settings):
    """A transform of albumentations: its name, how often it is done, and whatever options it takes itself.

    OneOf, SomeOf, RandomOrder and Sequential take ``transforms``, a list of the same kind.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    name: str
    p: Share = 0.5


class AugmentSettings(Settings):
    """What is done to training images and their masks; amounts are for images scaled to 0..1, and values are not clipped.

    batch: on the device, by name, or with options as in ``{name: contrast, p: 1, factor: [0.9, 1.1]}``; every sample has
    parameters of its own. per_image: transforms of albumentations, done before all others while an image is read; training
    data are then streamed.
    """

    batch: Annotated[
        tuple[Annotated[Single | Random, Field(discriminator="name")], ...], BeforeValidator(_written_out)
    ] = (FlipH(),)
    per_image: tuple[PerImageSettings, ...] = ()

    @field_validator("batch")
    @classmethod
    def _one_fill(cls, batch: tuple[Single | Random, ...]) -> tuple[Single | Random, ...]:
        for step in steps(batch):
            if len({item.fill for item in step if isinstance(item, Affine)}) > 1:
                raise ValueError("affine.fill: those that stand together are one step; give them the same fill")
        return batch

    def misfit(self, shape: tuple[int, ...] | None = None, task: str | None = None) -> str | None:
        """Why ``batch`` cannot be done to images of ``shape`` (C, H, W) or for ``task``, as a sentence; None where it can."""
        for item in (item for step in steps(self.batch) for item in step):
            if isinstance(item, Cutout) and item.labels == "drop" and task not in (None, "segmentation"):
                return "augment.batch: cutout's 'labels: drop' is for masks, a label has no pixels; remove it"
            if shape is None:
                continue
            channels, height, width = shape
            if isinstance(item, Colour) and channels != 3:
                return (
                    f"augment.batch: colour needs images of 3 channels, these have {channels}; remove it, or use contrast and "
                    "brightness"
                )
            if isinstance(item, Turn90) and height != width and not item.stretch:
                return (
                    f"augment.batch: turn90 would make {width}x{height} pixels of {height}x{width}; write flip_h and flip_v for "
                    "half turns, or {name: turn90, stretch: true} to stretch them back"
                )
        return None


def steps(batch: Iterable[Single | Random]) -> tuple[tuple[Single, ...], ...]:
    """The operations that are done at once: geometry that stands together, and everything else by itself.

    ``random`` is written out: each of its operations is a part of the list.
    """
    flat = [item for named in batch for item in (named.operations if isinstance(named, Random) else (named,))]
    found: list[tuple[Single, ...]] = []
    for together, items in groupby(flat, lambda item: isinstance(item, Geometric)):
        stretch = tuple(items)
        found += [stretch] if together else [(item,) for item in stretch]
    return tuple(found)
