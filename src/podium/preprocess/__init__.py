"""Steps that change pictures before anything else sees them, as a competition's YAML names and orders them.

Every step is a pure function of one picture and of its settings: nothing is learnt from other pictures, so training,
validation and test pictures are treated alike and no fold can leak into another. (Stain normalisation goes to a fixed
reference for that reason.) The one step that does learn, ``standardise``, is not done here: the net's wrapper takes
its numbers from the training rows of the fold.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from podium.config_preprocess import CentralCell, Clahe, Illumination, ImageStep, StainMacenko, Step, image_steps
from podium.errors import UserError

PREPROCESS_VERSION = 1
"""Raised by hand when the same steps would give other pictures; belongs into the identity of what is made of them."""


def apply(steps: Iterable[Step], image: np.ndarray, target: np.ndarray | None = None) -> np.ndarray:
    """``image`` after all steps in order, ``standardise`` left out; a new array of the same dtype.

    image: (C, H, W), uint8, uint16 or finite float32; it is not changed. The result has the same size, unless
    ``central_cell`` crops it. target: what belongs to the picture, (1, H, W) for a mask; no step changes it, and
    where it is a mask, cropping is refused (ValueError; ``check`` says so to users beforehand).
    """
    if image.ndim != 3 or image.dtype not in (np.uint8, np.uint16, np.float32) or image.size == 0:
        raise ValueError(f"expected (C, H, W) in uint8, uint16 or float32, found {image.shape} in {image.dtype}")
    masked = target is not None and target.size > 1
    image = np.array(image, order="C")
    for step in image_steps(steps):
        if masked and isinstance(step, CentralCell) and step.mode == "crop":
            raise ValueError("central_cell: cropping would move the picture under its mask")
        image = _apply_one(step, image)
    return np.ascontiguousarray(image)


def check(steps: Iterable[Step], task: str, channels: int) -> None:
    """Refuse steps that the competition's task or the number of channels of its pictures do not allow (UserError)."""
    for step in image_steps(steps):
        if isinstance(step, StainMacenko) and channels != 3:
            raise UserError(
                f"preprocess.stain_macenko: needs pictures in red, green and blue, these have {channels} "
                f"channel{'s' * (channels > 1)}; remove the step"
            )
        if isinstance(step, CentralCell) and step.mode == "crop" and task == "segmentation":
            raise UserError(
                f"preprocess.central_cell.mode: 'crop' would move pictures under their masks, and the task is {task}; "
                "set mode: soft"
            )


def _apply_one(step: ImageStep, image: np.ndarray) -> np.ndarray:
    # OpenCV takes its time to load, and most runs preprocess nothing
    if isinstance(step, Illumination):
        from podium.preprocess.illumination import correct_illumination

        return correct_illumination(image, step)
    if isinstance(step, Clahe):
        from podium.preprocess.clahe import equalise

        return equalise(image, step)
    if isinstance(step, StainMacenko):
        from podium.preprocess.stain import normalise_stains

        return normalise_stains(image, step)
    from podium.preprocess.central_cell import isolate

    return isolate(image, step)
