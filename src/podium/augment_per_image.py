"""Transforms of albumentations, by name, done to one image at a time while it is read."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from podium.config_augment import PerImageSettings
from podium.data.chunk import NO_LABEL
from podium.errors import UserError, did_you_mean

BLOCKS = ("OneOf", "SomeOf", "RandomOrder", "Sequential")
"""Of albumentations' compositions those that take a list of transforms and nothing that YAML cannot say."""
ADVICE = ".*(special case|specialized version|alias for|very slow)"
"""What it says of a transform for which it has another; that one does what it should all the same."""
TRIES = 8
"""Pictures on which a transform is tried."""


class PerImage:
    """A row of albumentations' transforms; what it does is a function of the image and a seed.

    Where a transform moves an image, pixels that come in from outside carry no label; one that hides parts of it leaves
    their labels unless its own ``fill_mask`` says otherwise.
    """

    def __init__(self, settings: Sequence[PerImageSettings]) -> None:
        """A transform that albumentations does not have, or an option that it does not take, is a UserError."""
        import albumentations

        self.compose = albumentations.Compose([_build(item) for item in settings])

    def __call__(self, image: np.ndarray, target: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(C, H, W) and a mask uint8 (H, W), or what is no mask, (K, 1), → the same shapes and types."""
        self.compose.set_random_seed(seed % (1 << 32))
        given: dict[str, Any] = {"image": np.ascontiguousarray(image.transpose(1, 2, 0))}
        if target.shape == image.shape[1:]:
            given["mask"] = np.ascontiguousarray(target)
        out = self.compose(**given)
        changed = out["image"] if out["image"].ndim == 3 else out["image"][..., None]
        if changed.shape != given["image"].shape or changed.dtype != image.dtype:
            raise UserError(
                f"augment.per_image: images become {changed.shape[:2]} {changed.dtype} from {image.shape[1:]} {image.dtype}; "
                "name transforms that leave size and type as they are"
            )
        return changed.transpose(2, 0, 1), out.get("mask", target)


def check_per_image(settings: Sequence[PerImageSettings], shape: Sequence[int], dtype: Any, masks: bool) -> None:
    """Try every transform on pictures of noise of ``shape`` (C, H, W), so that one that cannot be done to such images is a
    UserError now and not in the middle of a training."""
    rng = np.random.default_rng(0)
    kind = np.dtype(dtype)
    noise = rng.random(tuple(shape)) if kind.kind == "f" else rng.integers(0, np.iinfo(kind).max, tuple(shape))
    target = np.zeros(tuple(shape[1:]) if masks else (1, 1), np.uint8)
    for item in settings:
        change = PerImage([item.model_copy(update={"p": 1.0})])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "error", UserWarning
                )  # how albumentations says that it does nothing to such images
                for seed in range(TRIES):
                    change(noise.astype(kind), target, seed)
        except UserError as error:
            raise UserError(str(error).replace("per_image:", f"per_image: {item.name}:", 1)) from None
        except Exception as error:  # whatever it is, this transform raised it for such images
            raise UserError(
                f"augment.per_image: {item.name} cannot be done to images of shape {tuple(shape)} and type {kind}: "
                f"{_said(error)}; remove it or correct its options"
            ) from None


def _build(item: PerImageSettings) -> Any:
    import albumentations

    options = dict(item.model_extra or {}) | {"p": item.p}
    if item.name in BLOCKS:
        made = getattr(albumentations, item.name)
        options["transforms"] = [_build(inner) for inner in _inner(item)]
    else:
        known = {
            name: value
            for name, value in vars(albumentations).items()
            if isinstance(value, type)
            and issubclass(value, albumentations.BasicTransform)
            and value.__module__ != albumentations.BasicTransform.__module__  # the bases of all others
        }
        if item.name not in known:
            near = did_you_mean(item.name, [*known, *BLOCKS]).split("allowed")[0]
            raise UserError(f"augment.per_image: albumentations has no '{item.name}'; {near}see its list of transforms")
        made = known[item.name]
    if options.get("mask_interpolation", 0) != 0:
        raise UserError(
            f"augment.per_image: {item.name}: mask_interpolation {options['mask_interpolation']} would make new classes of "
            "the numbers of two; remove it"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # how albumentations says that it does not know an option
        warnings.filterwarnings("ignore", ADVICE)
        try:
            transform = made(**options)
            # 0 would be a class; None leaves the labels as they are
            if getattr(transform, "fill_mask", None) is not None and "fill_mask" not in options:
                transform = made(**options, fill_mask=NO_LABEL)
        except (TypeError, ValueError, UserWarning) as error:
            raise UserError(f"augment.per_image: {item.name}: {_said(error)}; correct its options") from None
    return transform


def _inner(item: PerImageSettings) -> list[PerImageSettings]:
    listed = (item.model_extra or {}).get("transforms")
    try:
        found = [PerImageSettings.model_validate(inner) for inner in listed or ()]
    except (TypeError, ValidationError):
        found = []
    if not found:
        raise UserError(
            f"augment.per_image: {item.name}: it needs transforms, each with a name; write them as in "
            "transforms: [{name: RandomGamma}, {name: CLAHE}]"
        )
    return found


def _said(error: Exception) -> str:
    """What an error says, in one line; of pydantic's report the first problem."""
    text = " ".join(str(error).split())
    return re.sub(r"^\d+ validation errors? for \w+ (.*?) \[type=.*", r"\1", text)[:300]
