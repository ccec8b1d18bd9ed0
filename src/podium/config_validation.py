"""Settings of what models are judged on: besides the images as they are, corrupted copies of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import Field, field_validator, model_validator

from podium.config_augment import AugmentSettings, PerImageSettings, steps
from podium.config_base import Count, PositiveInt, Settings

# fmt: off
Kind = Literal[
    "gaussian_noise", "shot_noise", "speckle_noise", "salt_and_pepper",
    "gaussian_blur", "motion_blur", "defocus",
    "hue_shift", "saturation_shift", "colour_cast", "colour_temperature",
    "exposure", "low_contrast", "gamma_shift", "uneven_light", "cloud_shadow",
    "occlusion", "bands", "fog", "streaks",
    "rotation", "shear", "zoom", "perspective", "elastic",
    "jpeg", "pixelation",
]
# fmt: on
"""What may be done to a copy: noise, blur, colour, light, things in the way, geometry, compression."""
KINDS: tuple[str, ...] = get_args(Kind)
COLOUR = frozenset({"hue_shift", "saturation_shift", "colour_cast", "colour_temperature"})
"""Kinds that need red, green and blue."""
GEOMETRY = frozenset({"rotation", "shear", "zoom", "perspective", "elastic"})
"""Kinds that move pixels, and masks along with them."""
Strength = Annotated[int, Field(ge=1, le=5)]

RELATIVES: dict[str, tuple[str, ...]] = {
    "gaussian_noise": ("noise", "GaussNoise", "AdditiveNoise", "ISONoise"),
    "shot_noise": ("ShotNoise",),
    "speckle_noise": ("MultiplicativeNoise",),
    "salt_and_pepper": ("SaltAndPepper", "PixelDropout"),
    "gaussian_blur": ("blur", "GaussianBlur", "Blur", "AdvancedBlur", "MedianBlur"),
    "motion_blur": ("MotionBlur",),
    "defocus": ("Defocus",),
    "hue_shift": ("colour", "HueSaturationValue", "ColorJitter"),
    "saturation_shift": ("colour", "HueSaturationValue", "ColorJitter", "ToGray"),
    "colour_cast": ("colour", "RGBShift", "FancyPCA"),
    "colour_temperature": ("colour", "PlanckianJitter"),
    "exposure": ("brightness", "RandomBrightnessContrast", "ColorJitter"),
    "low_contrast": ("contrast", "RandomBrightnessContrast", "ColorJitter"),
    "gamma_shift": ("gamma", "RandomGamma"),
    "uneven_light": ("Illumination",),
    "cloud_shadow": ("PlasmaShadow", "RandomShadow"),
    "occlusion": ("cutout", "CoarseDropout", "Erasing", "ConstrainedCoarseDropout"),
    "bands": ("XYMasking", "GridDropout", "TimeMasking", "FrequencyMasking"),
    "fog": ("RandomFog", "PlasmaBrightnessContrast"),
    "streaks": ("RandomRain", "Spatter"),
    "rotation": ("affine", "Affine", "Rotate", "SafeRotate", "ShiftScaleRotate"),
    "shear": ("affine", "Affine"),
    "zoom": ("affine", "Affine", "ShiftScaleRotate", "RandomResizedCrop"),
    "perspective": ("Perspective",),
    "elastic": ("ElasticTransform", "GridDistortion", "OpticalDistortion", "ThinPlateSpline", "PiecewiseAffine"),
    "jpeg": ("ImageCompression",),
    "pixelation": ("Downscale",),
}
"""Of each kind the training operations that teach something like it: of ``augment.batch``, and albumentations' own."""

Item = TypeVar("Item")


def _each_once(values: tuple[Item, ...], what: str) -> tuple[Item, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value}: is named {values.count(value)} times; name every {what} once")
    return values


class Corruptions(Settings):
    """Copies of the training images, each corrupted in one way, for the nets that did not train on them to predict.

    kinds: what is done, all that the images' channels allow where none are named. copies: how many of each image; each is
    of another kind, as far as there are kinds. strengths: 1 (just visible) to 5 (hard for people too); one is drawn for
    each copy. seed: other copies, and so another score. at_most: images that are copied, drawn by ``seed``; all where left
    out. The copies take part in predicting and not in training.
    """

    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] | None = None
    copies: Annotated[PositiveInt, Field(le=100)] = 2
    strengths: Annotated[tuple[Strength, ...], Field(min_length=1)] = (1, 3, 5)
    seed: Count = 0
    at_most: PositiveInt | None = None

    @field_validator("kinds")
    @classmethod
    def _kinds(cls, kinds: tuple[Kind, ...] | None) -> tuple[Kind, ...] | None:
        return None if kinds is None else _each_once(kinds, "kind")

    @field_validator("strengths")
    @classmethod
    def _strengths(cls, strengths: tuple[int, ...]) -> tuple[int, ...]:
        return _each_once(strengths, "strength")

    def misfit(self, channels: int) -> str | None:
        """Why this cannot be done to images of so many channels, as a sentence; None where it can."""
        for kind in self.kinds or ():
            if kind in COLOUR and channels != 3:
                return (
                    f"validation.corruptions.kinds: {kind} needs images of 3 channels, these have {channels}; remove it, or "
                    "leave kinds out for all that fit"
                )
        return None

    def fitting(self, channels: int) -> tuple[str, ...]:
        """``kinds``, or all that images of so many channels allow. One that does not fit is a ValueError, ``misfit`` says why."""
        problem = self.misfit(channels)
        if problem is not None:
            raise ValueError(problem)
        return self.kinds or tuple(kind for kind in KINDS if channels == 3 or kind not in COLOUR)


class Validation(Settings):
    """What models are judged on. corruptions: corrupted copies besides the images as they are; none where left out.

    choose_by: the score by which models, weights and all that follows are chosen.
    """

    corruptions: Corruptions | None = None
    choose_by: Literal["clean", "corrupted"] = "clean"

    @model_validator(mode="after")
    def _has_what_it_chooses_by(self) -> Validation:
        if self.choose_by == "corrupted" and self.corruptions is None:
            raise ValueError(
                "choose_by: 'corrupted' needs validation.corruptions; write corruptions: {} for the defaults"
            )
        return self


def unseen(kinds: Iterable[str], augment: AugmentSettings) -> tuple[str, ...]:
    """Those of ``kinds`` that no operation of a recipe's augmentation resembles (``RELATIVES``), in their order.

    A model that does well only on the others has learnt its own augmentation by heart.
    """
    trained = {item.name for step in steps(augment.batch) for item in step} | set(_names(augment.per_image))
    return tuple(kind for kind in kinds if not trained & set(RELATIVES[kind]))


def _names(listed: Iterable[Any]) -> Iterator[str]:
    """Names of albumentations' transforms, those within blocks such as OneOf too."""
    for item in listed:
        raw = item.model_dump() if isinstance(item, PerImageSettings) else item
        if isinstance(raw, dict):
            yield str(raw.get("name"))
            inner = raw.get("transforms")
            yield from _names(inner if isinstance(inner, list | tuple) else ())
