"""Settings of training images that are made of several: copy-paste, CutMix and MixUp, as a recipe's ``mix`` lists them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from podium.config_base import PositiveInt, Settings, Share
from podium.errors import did_you_mean

Area = Annotated[float, Field(gt=0, le=1)]
Chance = Annotated[float, Field(gt=0, le=1)]


class CopyPaste(Settings):
    """Connected areas of the rarest class are cut out of the fold's training images and pasted into others.

    Ghiasi et al. 2021, arXiv:2012.07177. For masks only; done before all augmentation but ``augment.per_image``.
    p: share of the images that get any. count: an image that does gets 1 to ``count``, each as likely. most: areas that
    are kept to choose from. edge: pixels around an area over which it fades into the other image; 0 for a hard seam.
    flip_h, flip_v: how often an area is mirrored before it is pasted.
    """

    name: Literal["copy_paste"] = "copy_paste"
    of: Literal["rarest"] = "rarest"
    p: Chance = 0.3
    count: Annotated[PositiveInt, Field(le=20)] = 1
    most: Annotated[PositiveInt, Field(le=4096)] = 256
    edge: Annotated[float, Field(ge=0, le=32)] = 1.0
    flip_h: Share = 0.5
    flip_v: Share = 0.0


class CutMix(Settings):
    """A box of an image is replaced by that of another (Yun et al. 2019, arXiv:1905.04899), after all augmentation.

    Of masks the box takes its labels along; a label becomes two, weighed by area.
    of: where the box comes from: ``any``, another image of the batch; ``rarest``, a training image that holds the rarest
    class, and of masks the box then lies around a pixel of that class. p: share of the images that get a box.
    area: range of the box's share of the image, drawn evenly; it has the image's proportions and lies wholly within.
    """

    name: Literal["cutmix"] = "cutmix"
    of: Literal["any", "rarest"] = "any"
    p: Chance = 0.3
    area: tuple[Area, Area] = (0.05, 0.5)

    @field_validator("area")
    @classmethod
    def _in_order(cls, area: tuple[float, float]) -> tuple[float, float]:
        if area[0] > area[1]:
            raise ValueError(f"{list(area)}: is from large to small; write the smaller share first")
        return area


class MixUp(Settings):
    """An image and its labels become a weighted mean of two (Zhang et al. 2018, arXiv:1710.09412), after all augmentation.

    p: share of the images that are mixed with another of their batch. alpha: the other's share is drawn from
    Beta(alpha, alpha): small for nearly one or the other, 1 for any share alike.
    """

    name: Literal["mixup"] = "mixup"
    p: Chance = 0.3
    alpha: Annotated[float, Field(gt=0, le=10)] = 0.2


Mix = Annotated[CopyPaste | CutMix | MixUp, Field(discriminator="name")]
NAMES = ("copy_paste", "cutmix", "mixup")


def _written_out(mixes: Any) -> Any:
    """Bare names as mappings, lists as tuples (strict validation takes no list after this)."""
    return tuple(_mix(mix) for mix in mixes) if isinstance(mixes, list | tuple) else mixes


def _mix(mix: Any) -> Any:
    if isinstance(mix, dict) and "name" not in mix:
        raise ValueError(
            f"name: one of them has none; write it as in {{name: mixup, p: 0.2}}; {did_you_mean('', NAMES)}"
        )
    if isinstance(mix, dict):
        return {key: tuple(value) if isinstance(value, list) else value for key, value in mix.items()}
    return {"name": mix} if isinstance(mix, str) else mix


def _fit_together(mixes: tuple[Mix, ...]) -> tuple[Mix, ...]:
    kinds = [(mix.name, getattr(mix, "of", None)) for mix in mixes]
    for name, of in kinds:
        if kinds.count((name, of)) > 1:
            raise ValueError(
                f"{name}: is named {kinds.count((name, of))} times{f' of {of}' if of else ''}; name it once"
            )
    shares = [mix.p for mix in mixes if not isinstance(mix, CopyPaste)]
    if sum(shares) > 1 + 1e-9:
        raise ValueError(
            f"p: an image is mixed in one way at most, and those of cutmix and mixup add up to {sum(shares):g}; lower "
            "them to 1 together"
        )
    return mixes


Mixes = Annotated[tuple[Mix, ...], BeforeValidator(_written_out), AfterValidator(_fit_together)]
"""By name, or with options as in ``{name: cutmix, of: rarest, p: 0.2}``; their order says nothing."""


def misfit(mixes: Mixes, task: str) -> str | None:
    """Why these cannot be done to the images of ``task``, as a sentence; None where they can."""
    if task != "segmentation" and any(mix.name == "copy_paste" for mix in mixes):
        return "mix: 'copy_paste' cuts areas out of masks and labels have none; use any of cutmix, mixup"
    return None
