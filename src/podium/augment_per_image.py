"""Transforms of albumentations, by name, done to one image at a time while it is read."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from podium.config import PerImageSettings
from podium.errors import UserError, did_you_mean
from podium.losses import NO_LABEL


class PerImage:
    """A row of albumentations' transforms; what it does is a function of the image and a seed.

    Where a transform moves an image, pixels that come in from outside carry no label.
    """

    def __init__(self, settings: Sequence[PerImageSettings]) -> None:
        """A transform that albumentations does not have, or an option that it does not take, is a UserError."""
        import albumentations

        transforms = []
        for item in settings:
            made = getattr(albumentations, item.name, None)
            if not isinstance(made, type) or not issubclass(made, albumentations.BasicTransform):
                names = [
                    name
                    for name, value in vars(albumentations).items()
                    if isinstance(value, type) and issubclass(value, albumentations.BasicTransform)
                ]
                near = did_you_mean(item.name, names).split("? allowed")[0]
                guess = f"{near}? " if near.startswith("did you mean") else ""
                raise UserError(
                    f"augment.per_image: albumentations has no '{item.name}'; {guess}see its list of transforms"
                )
            transforms.append(_build(made, item))
        self.compose = albumentations.Compose(transforms)

    def __call__(self, image: np.ndarray, target: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(C, H, W) and uint8 (H, W), or (1, 1) for a label, → the same shapes and types."""
        self.compose.set_random_seed(seed % (1 << 32))
        given: dict[str, Any] = {"image": np.ascontiguousarray(image.transpose(1, 2, 0))}
        if target.size > 1:
            given["mask"] = np.ascontiguousarray(target)
        out = self.compose(**given)
        changed = out["image"] if out["image"].ndim == 3 else out["image"][..., None]
        if changed.shape != given["image"].shape or changed.dtype != image.dtype:
            raise UserError(
                f"augment.per_image: images become {changed.shape[:2]} {changed.dtype} from {image.shape[1:]} {image.dtype}; "
                "name transforms that leave size and type as they are"
            )
        return changed.transpose(2, 0, 1), out.get("mask", target)


def _build(made: Any, item: PerImageSettings) -> Any:
    options = dict(item.model_extra or {}) | {"p": item.p}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # how albumentations says that it does not know an option
        try:
            transform = made(**options)
            if hasattr(transform, "fill_mask") and "fill_mask" not in options:
                transform = made(**options, fill_mask=NO_LABEL)
        except (TypeError, ValueError, UserWarning) as error:
            said = " ".join(str(error).split())[:300]
            raise UserError(f"augment.per_image: {item.name}: {said}; correct its options") from None
    return transform
